//! The metadata directory of a node: what is in it, and how files get there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::RaftOpenError;
use super::snapshot::SNAPSHOT;
use crate::env::{Disk, File, OpenMode};
use crate::types::Offset;

pub(super) const LOG: &str = "raft";
/// Ending of a file that is still being made.
pub(super) const UNFINISHED: &str = "new";
/// Ending of the log of a node that is a cluster by itself.
const ALONE: &str = "records";

pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> RaftOpenError {
    let path = path.to_owned();
    move |error| RaftOpenError::Io { path, error }
}

pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> RaftOpenError {
    RaftOpenError::Damaged {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

pub(super) fn log_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.{LOG}"))
}

/// What is in a metadata directory.
#[derive(Default)]
pub(super) struct Files {
    /// Numbers, in order.
    pub logs: Vec<u64>,
    /// Ends, in order.
    pub snapshots: Vec<Offset>,
    /// Names of those that a crash left before they were whole.
    unfinished: Vec<String>,
    /// Of a file that belongs to another kind of quorum.
    alone: Option<String>,
}

impl Files {
    pub async fn list(disk: &dyn Disk, directory: &Path) -> Result<Self, RaftOpenError> {
        let mut files = Self::default();
        let entries = match disk.list(directory).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries.map_err(failed(directory))?,
        };
        for entry in entries {
            match entry.name.rsplit_once('.') {
                Some((stem, LOG)) => files.logs.extend(stem.parse::<u64>().ok()),
                Some((stem, SNAPSHOT)) => {
                    files.snapshots.extend(stem.parse().ok().map(Offset));
                }
                Some((_, UNFINISHED)) => files.unfinished.push(entry.name),
                Some((_, ALONE)) => files.alone = Some(entry.name),
                _ => {}
            }
        }
        files.logs.sort_unstable();
        files.snapshots.sort_unstable();
        match &files.alone {
            Some(name) => Err(damaged(
                &directory.join(name),
                "it is the metadata of a node that was a cluster by itself, which cannot join \
                 another one",
            )),
            None => Ok(files),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.logs.is_empty() && self.snapshots.is_empty()
    }

    /// Removes all but the newest log and snapshot. A crash leaves some for later.
    pub async fn remove_old(self, disk: &dyn Disk, directory: &Path) -> Result<(), RaftOpenError> {
        let newest_log = self.logs.last().copied();
        let newest_snapshot = self.snapshots.last().copied();
        let logs = self
            .logs
            .iter()
            .filter(|number| Some(**number) != newest_log);
        let mut names: Vec<String> = logs.map(|number| format!("{number:020}.{LOG}")).collect();
        let snapshots = self.snapshots.iter();
        let snapshots = snapshots.filter(|end| Some(**end) != newest_snapshot);
        names.extend(snapshots.map(|end| format!("{:020}.{SNAPSHOT}", end.0)));
        for name in names.iter().chain(&self.unfinished) {
            let path = directory.join(name);
            disk.remove(&path).await.map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// Refuses to begin with nothing beside partitions: their metadata must have been here.
pub(super) async fn refuse_partitions(
    disk: &dyn Disk,
    directory: &Path,
) -> Result<(), RaftOpenError> {
    let Some(beside) = directory.parent() else {
        return Ok(());
    };
    let entries = match disk.list(beside).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed(beside))?,
    };
    let own = directory
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let is_partition = |name: &str| {
        let index = name.rsplit_once('-').map(|(_, index)| index);
        Some(name) != own.as_deref() && index.is_some_and(|index| index.parse::<u32>().is_ok())
    };
    match entries
        .iter()
        .find(|entry| entry.is_dir && is_partition(&entry.name))
    {
        Some(partition) => Err(damaged(
            directory,
            format!(
                "it is missing or empty, but there is the partition {}",
                partition.name
            ),
        )),
        None => Ok(()),
    }
}

pub(super) async fn read_whole(file: &dyn File) -> io::Result<Bytes> {
    let length = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
    file.read_at(0, length).await
}

/// Makes a file that exists only with its whole content: under another name first.
pub(super) async fn make(
    disk: &dyn Disk,
    directory: &Path,
    path: &Path,
    content: Bytes,
) -> Result<Arc<dyn File>, RaftOpenError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{UNFINISHED}"));
    let unfinished = PathBuf::from(unfinished);
    let file = disk.open(&unfinished, OpenMode::Create).await;
    let file = file.map_err(failed(&unfinished))?;
    file.truncate(0).await.map_err(failed(&unfinished))?;
    let written = file.write_at(0, vec![content]).await;
    written.map_err(failed(&unfinished))?;
    let is_snapshot = path.extension().is_some_and(|end| end == SNAPSHOT);
    if !(is_snapshot && crate::mutant!("snapshot-not-synced")) {
        file.sync().await.map_err(failed(&unfinished))?;
    }
    disk.rename(&unfinished, path).await.map_err(failed(path))?;
    disk.sync_dir(directory).await.map_err(failed(directory))?;
    Ok(file)
}
