//! Where recovery begins to read the last segment.

use super::super::checkpoint::CheckpointError;
use super::super::error::LogError;
use super::super::header_page::SegmentId;
use super::super::recovery_point::{self, RecoveryPoint};
use super::super::replay::SegmentFile;
use super::super::roll::remove_if_there;
use super::Opening;
use crate::env::DirEntry;

impl Opening<'_> {
    /// The saved point of the last segment, if there is one. What lies before it was durable, so
    /// that a file which ends before it has lost something.
    pub(super) async fn point(
        &mut self,
        listed: &[DirEntry],
        (segment, id): &(SegmentFile, SegmentId),
    ) -> Result<Option<RecoveryPoint>, LogError> {
        if self.options.clean.is_some() || !is_there(listed) {
            return Ok(None);
        }
        let disk = &*self.env.disk;
        let point = match RecoveryPoint::load(disk, self.dir, id).await {
            Ok(point) => point,
            Err(CheckpointError::Damaged { path, reason }) => {
                tracing::trace!(target: "klamm::probe", name = "recovery-point-damaged");
                remove_if_there(disk, &path).await?;
                let path = path.display();
                self.report.rebuilt.push(format!("{path}: {reason}"));
                None
            }
            Err(error) => return Err(error.into()),
        };
        let Some(point) = point else {
            tracing::trace!(target: "klamm::probe", name = "recovery-point-of-another-segment");
            return Ok(None);
        };
        let at = point.at;
        if at.position > segment.file_bytes {
            let found = format!("the end of the file, at byte {}", segment.file_bytes);
            let expected = format!(
                "batches up to byte {}, which a sync had covered",
                at.position
            );
            return Err(segment.corrupt(segment.file_bytes, found, &expected));
        }
        tracing::trace!(target: "klamm::probe", name = "recovery-point-used");
        self.report.began_at = Some(at.offset);
        Ok(Some(point))
    }
}

pub(super) fn is_there(listed: &[DirEntry]) -> bool {
    let mut names = listed.iter().map(|entry| &entry.name);
    names.any(|name| name == recovery_point::FILE_NAME)
}
