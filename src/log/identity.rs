//! Whose log a directory holds.
//!
//! `partition.metadata` names the topic's id, in Kafka's text. It is the last file made when a log
//! is created: a directory without it never held an acknowledged record.

use std::path::Path;

use bytes::Bytes;

use super::error::LogError;
use super::files;
use super::header_page::{HEADER_PAGE_BYTES, SegmentId, decode_page};
use super::recovery::read_page;
use crate::env::{Disk, OpenMode};
use crate::types::{Offset, TopicId, TopicPartition};

pub(super) const FILE_NAME: &str = "partition.metadata";

/// Far more than the file ever takes.
const FILE_MAX: usize = 4096;

/// The partition that a log belongs to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogIdentity {
    pub topic_id: TopicId,
    pub topic_partition: TopicPartition,
}

impl LogIdentity {
    fn text(&self) -> String {
        format!("version: 0\ntopic_id: {}\n", self.topic_id)
    }

    /// Writes the file, durable with its name.
    pub(super) async fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
        let path = dir.join(FILE_NAME);
        let write = async {
            let file = disk.open(&path, OpenMode::Create).await?;
            file.truncate(0).await?;
            file.write_at(0, vec![Bytes::from(self.text())]).await?;
            file.sync().await?;
            disk.sync_dir(dir).await
        };
        write.await.map_err(LogError::io(&path))
    }

    /// Makes the file that is there durable with its name: a process killed while it made the log
    /// may have left either in the cache alone.
    pub(super) async fn confirm(&self, disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
        let path = dir.join(FILE_NAME);
        let confirm = async {
            let file = disk.open(&path, OpenMode::Existing).await?;
            file.sync().await?;
            disk.sync_dir(dir).await
        };
        confirm.await.map_err(LogError::io(&path))
    }

    /// Refuses a directory that holds another topic's log. `false`: there is no (whole) identity.
    pub(super) async fn check(&self, disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
        let path = dir.join(FILE_NAME);
        let file = match disk.open(&path, OpenMode::Read).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(LogError::io(&path)(error)),
        };
        let bytes = file.read_at(0, FILE_MAX).await;
        let bytes = bytes.map_err(LogError::io(&path))?;
        if bytes == self.text().as_bytes() {
            return Ok(true);
        }
        match stored_id(&bytes) {
            Some(found) => Err(LogError::AnotherTopic {
                path,
                found,
                expected: self.topic_id,
            }),
            // A file cut short or of zeros is what a power loss leaves of one being written.
            None if bytes.len() < self.text().len() || bytes.iter().all(|byte| *byte == 0) => {
                Ok(false)
            }
            None => Err(LogError::Foreign {
                path,
                reason: "it is not the identity of a partition".to_owned(),
            }),
        }
    }

    /// Whether `dir` holds what was written to this very log, whatever its `partition.metadata`
    /// says or does not say: a segment, by its own header, that holds records or begins above 0.
    pub async fn left_records_in(&self, disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
        for entry in disk.list(dir).await.map_err(LogError::io(dir))? {
            let Some(base_offset) = files::base_offset_in(&entry.name, files::LOG) else {
                continue;
            };
            if entry.len <= HEADER_PAGE_BYTES && base_offset == Offset::ZERO {
                continue;
            }
            let path = dir.join(&entry.name);
            let read = async {
                let file = disk.open(&path, OpenMode::Read).await?;
                read_page(&*file).await
            };
            let page = read.await.map_err(LogError::io(&path))?;
            if let Ok((id, _)) = decode_page(&page)
                && SegmentId::new(self, base_offset, id.generation) == id
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn stored_id(bytes: &[u8]) -> Option<TopicId> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    if lines.next()?.trim() != "version: 0" {
        return None;
    }
    lines.next()?.strip_prefix("topic_id:")?.trim().parse().ok()
}
