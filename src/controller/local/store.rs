//! The metadata log on disk: opening, appending, snapshots.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::format::{self, Found, PAGE_BYTES, Slot};
use crate::controller::image::ClusterImage;
use crate::controller::quorum::Committed;
use crate::controller::record::MetadataRecord;
use crate::env::{BoxFuture, Disk, File, OpenMode};
use crate::types::Offset;
use crate::wire::EncodeError;

const DIRECTORY: &str = "__cluster_metadata-0";
const RECORDS: &str = "records";
const SNAPSHOT: &str = "snapshot";
/// Ending of the log of a node of a quorum of several.
const RAFT: &str = "raft";
/// Ending of a file that is still being made.
const UNFINISHED: &str = ".new";

/// Why the metadata of a node cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LocalQuorumError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "the cluster's metadata is damaged: {path}: {reason}. Restore the directory \
         {DIRECTORY} from a backup; starting without it would lose every topic"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "{found} holds partitions or metadata but the cluster's metadata is missing at {path}. Restore that \
         directory from a backup, or put the right directory first in log.dirs"
    )]
    Missing { path: PathBuf, found: PathBuf },
    #[error("metadata has no binary form: {0}")]
    Encode(#[from] EncodeError),
}

/// The metadata log's files; appends go to the newest.
pub(super) struct MetadataStore {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    file: Arc<dyn File>,
    position: u64,
    slot: Slot,
    end: Offset,
    bytes_since_snapshot: u64,
}

/// What is in a directory of the metadata log, each by first offset.
#[derive(Default)]
struct Files {
    records: Vec<Offset>,
    snapshots: Vec<Offset>,
    /// Names of those that a crash left before they were whole.
    unfinished: Vec<String>,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> LocalQuorumError {
    let path = path.to_owned();
    move |error| LocalQuorumError::Io { path, error }
}

fn damaged(path: &Path, reason: impl Into<String>) -> LocalQuorumError {
    LocalQuorumError::Damaged {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

fn name(offset: Offset, ending: &str) -> String {
    format!("{:020}.{ending}", offset.0)
}

impl MetadataStore {
    pub async fn open(
        disk: Arc<dyn Disk>,
        log_dirs: &[PathBuf],
    ) -> Result<(Self, Recovered), LocalQuorumError> {
        let first = log_dirs.first().map_or(Path::new("."), PathBuf::as_path);
        let directory = first.join(DIRECTORY);
        let files = Files::list(&*disk, &directory).await?;
        if files.records.is_empty() && files.snapshots.is_empty() {
            refuse_partitions(&*disk, log_dirs, &directory).await?;
            disk.create_dir(&directory)
                .await
                .map_err(failed(&directory))?;
            disk.sync_dir(first).await.map_err(failed(first))?;
            let file = make(&*disk, &directory, Offset::ZERO, RECORDS, Vec::new()).await?;
            let store = Self {
                disk,
                directory,
                file,
                position: PAGE_BYTES as u64,
                slot: Slot::default(),
                end: Offset::ZERO,
                bytes_since_snapshot: 0,
            };
            return Ok((store, Recovered::new()));
        }
        Self::recover(disk, directory, files).await
    }

    async fn recover(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        files: Files,
    ) -> Result<(Self, Recovered), LocalQuorumError> {
        let mut recovered = Recovered::new();
        let mut end = Offset::ZERO;
        if let Some(newest) = files.snapshots.last() {
            let path = directory.join(name(*newest, SNAPSHOT));
            let records = read_snapshot(&*disk, &path, *newest).await?;
            end = *newest;
            tracing::trace!(target: "klamm::probe", name = "metadata-snapshot-loaded");
            recovered.push_back(Committed::Snapshot { end, records });
        }
        let begin = end;
        let chain: Vec<Offset> = files
            .records
            .iter()
            .copied()
            .filter(|first| *first >= begin)
            .collect();
        let mut open = None;
        let mut bytes = 0;
        for (index, first) in chain.iter().enumerate() {
            let path = directory.join(name(*first, RECORDS));
            if *first != end {
                return Err(damaged(
                    &path,
                    format!("records from {end} to {first} are missing"),
                ));
            }
            let is_last = index + 1 == chain.len();
            let mut read = RecordsFile::read(&*disk, &path, *first, is_last).await?;
            end = read.end;
            bytes += read.position - PAGE_BYTES as u64;
            recovered.extend(std::mem::take(&mut read.batches));
            open = Some((*first, read));
        }
        let (first, read) = open
            .ok_or_else(|| damaged(&directory.join(name(begin, RECORDS)), "the file is missing"))?;
        let (file, position, slot) = read.proven(&*disk, &directory, first).await?;
        let mut store = Self {
            disk,
            directory,
            file,
            position,
            slot,
            end,
            bytes_since_snapshot: bytes,
        };
        // What was recovered counts as durable from here on; make that true before it is used.
        store.file.sync().await.map_err(failed(&store.directory))?;
        store.synced();
        store.remove_before(begin).await?;
        Ok((store, recovered))
    }

    /// The offset after the last record.
    pub fn end(&self) -> Offset {
        self.end
    }

    pub fn bytes_since_snapshot(&self) -> u64 {
        self.bytes_since_snapshot
    }

    /// Submits a batch. It is durable when the future succeeds; the offset is its end. Call
    /// [`MetadataStore::synced`] then, before the next batch; after a failure, never append again.
    pub fn append(
        &mut self,
        records: &[MetadataRecord],
    ) -> Result<(BoxFuture<'static, io::Result<()>>, Offset), LocalQuorumError> {
        let batch = format::encode_batch(self.end, records)?;
        let length = batch.len() as u64;
        let written = self.file.write_at(self.position, vec![batch]);
        let synced = match crate::mutant!("metadata-not-synced") {
            true => Box::pin(std::future::ready(Ok(()))),
            false => self.file.sync(),
        };
        self.position += length;
        self.bytes_since_snapshot += length;
        self.end = self
            .end
            .plus(i64::try_from(records.len()).unwrap_or(i64::MAX));
        let durable = async move {
            written.await?;
            synced.await
        };
        Ok((Box::pin(durable), self.end))
    }

    /// Takes back the batches from `end` on, which began at `position`: they were refused for lack
    /// of space. When the future succeeds it is as if they had never been appended.
    pub fn cut_back(&mut self, position: u64, end: Offset) -> BoxFuture<'static, io::Result<()>> {
        self.position = position;
        self.end = end;
        let cut = self.file.truncate(position);
        let synced = self.file.sync();
        Box::pin(async move {
            cut.await?;
            synced.await
        })
    }

    /// Where the next batch goes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Notes that everything appended is durable. The note itself becomes so with the next batch.
    pub fn synced(&mut self) {
        self.slot = Slot {
            turn: self.slot.turn + 1,
            position: self.position,
        };
        let (at, bytes) = self.slot.encode();
        // Not awaited: a call happens, in order with the next write; its failure would be that
        // write's sync's as well.
        drop(self.file.write_at(at, vec![bytes]));
    }

    /// Keeps `image`, which must be that of everything appended, and drops what it replaces.
    pub async fn snapshot(&mut self, image: &ClusterImage) -> Result<(), LocalQuorumError> {
        let end = image.end();
        let (disk, directory) = (self.disk.clone(), self.directory.clone());
        let batch = format::encode_batch(end, &image.to_records())?;
        // The next records file is there before the snapshot that leads to it.
        let file = make(&*disk, &directory, end, RECORDS, Vec::new()).await?;
        self.file = file;
        self.position = PAGE_BYTES as u64;
        self.slot = Slot::default();
        make(&*disk, &directory, end, SNAPSHOT, vec![batch]).await?;
        tracing::trace!(target: "klamm::probe", name = "metadata-snapshot-written");
        self.bytes_since_snapshot = 0;
        self.remove_before(end).await
    }

    /// Removes the files that a snapshot at `begin` replaces, and those that were never finished. A
    /// crash leaves some for later.
    async fn remove_before(&self, begin: Offset) -> Result<(), LocalQuorumError> {
        let files = Files::list(&*self.disk, &self.directory).await?;
        let records = files.records.iter().map(|first| (first, RECORDS));
        let snapshots = files.snapshots.iter().map(|end| (end, SNAPSHOT));
        for (offset, ending) in records
            .chain(snapshots)
            .filter(|(offset, _)| **offset < begin)
        {
            let path = self.directory.join(name(*offset, ending));
            self.disk.remove(&path).await.map_err(failed(&path))?;
        }
        for name in &files.unfinished {
            let path = self.directory.join(name);
            self.disk.remove(&path).await.map_err(failed(&path))?;
        }
        Ok(())
    }
}

/// What earlier runs left, in order.
pub(super) type Recovered = VecDeque<Committed>;

/// A records file as it was found.
struct RecordsFile {
    file: Arc<dyn File>,
    batches: Vec<Committed>,
    /// Its batches as they are in the file.
    content: Bytes,
    position: u64,
    slot: Slot,
    end: Offset,
}

impl RecordsFile {
    async fn read(
        disk: &dyn Disk,
        path: &Path,
        first: Offset,
        is_last: bool,
    ) -> Result<Self, LocalQuorumError> {
        let file = disk
            .open(path, OpenMode::Existing)
            .await
            .map_err(failed(path))?;
        let bytes = read_whole(&*file).await.map_err(failed(path))?;
        let slot = format::decode_page(&bytes, first).map_err(|reason| damaged(path, reason))?;
        let (mut position, mut end, mut batches) = (PAGE_BYTES, first, Vec::new());
        loop {
            match format::find_batch(&bytes, position, end) {
                Found::Batch { body, next } => {
                    let records =
                        format::decode_body(body).map_err(|reason| damaged(path, reason))?;
                    end = end.plus(i64::try_from(records.len()).unwrap_or(i64::MAX));
                    batches.push(Committed::Batch { end, records });
                    position = next;
                }
                Found::End if (position as u64) < slot.position => {
                    return Err(damaged(
                        path,
                        format!("it ends at byte {position}, too early"),
                    ));
                }
                Found::End => break,
                Found::Damage(reason) if (position as u64) < slot.position || !is_last => {
                    return Err(damaged(path, format!("at byte {position} {reason}")));
                }
                Found::Damage(reason) => {
                    let cut = bytes.len() - position;
                    tracing::trace!(target: "klamm::probe", name = "metadata-tail-cut");
                    tracing::warn!(
                        ?path,
                        position,
                        cut,
                        reason,
                        "an unfinished write is cut off"
                    );
                    break;
                }
            }
        }
        Ok(Self {
            file,
            batches,
            content: bytes.slice(PAGE_BYTES..position),
            position: position as u64,
            slot,
            end,
        })
    }

    /// The file to append to, where, and its newest slot.
    ///
    /// What lies beyond the slot may be in the cache alone: if a sync of it failed in the process
    /// before, the kernel takes its pages for written, and no later sync proves anything. Nor may
    /// it be written once more in place, since it may be durable and answered, and a power loss in
    /// the midst would spoil it. So the file is made anew beside the old one, and replaces it.
    async fn proven(
        self,
        disk: &dyn Disk,
        directory: &Path,
        first: Offset,
    ) -> Result<(Arc<dyn File>, u64, Slot), LocalQuorumError> {
        let length = self.file.len().await;
        let length = length.map_err(failed(&directory.join(name(first, RECORDS))))?;
        let proven = self.slot.position.max(PAGE_BYTES as u64);
        if length == proven && self.position == proven {
            return Ok((self.file, self.position, self.slot));
        }
        tracing::trace!(target: "klamm::probe", name = "metadata-tail-made-anew");
        let file = make(disk, directory, first, RECORDS, vec![self.content]).await?;
        Ok((file, self.position, Slot::default()))
    }
}

async fn read_whole(file: &dyn File) -> io::Result<Bytes> {
    let length = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
    file.read_at(0, length).await
}

async fn read_snapshot(
    disk: &dyn Disk,
    path: &Path,
    end: Offset,
) -> Result<Vec<MetadataRecord>, LocalQuorumError> {
    let file = disk
        .open(path, OpenMode::Read)
        .await
        .map_err(failed(path))?;
    let bytes = read_whole(&*file).await.map_err(failed(path))?;
    format::decode_page(&bytes, end).map_err(|reason| damaged(path, reason))?;
    match format::find_batch(&bytes, PAGE_BYTES, end) {
        Found::Batch { body, next } if next == bytes.len() => {
            format::decode_body(body).map_err(|reason| damaged(path, reason))
        }
        Found::Batch { .. } => Err(damaged(path, "bytes are left after its end")),
        Found::End => Err(damaged(path, "it is empty")),
        Found::Damage(reason) => Err(damaged(path, reason)),
    }
}

/// Makes a file that exists only with its whole content: under another name first.
async fn make(
    disk: &dyn Disk,
    directory: &Path,
    offset: Offset,
    ending: &str,
    content: Vec<Bytes>,
) -> Result<Arc<dyn File>, LocalQuorumError> {
    let path = directory.join(name(offset, ending));
    let unfinished = directory.join(name(offset, ending) + UNFINISHED);
    let mut slices = vec![format::encode_page(offset)];
    slices.extend(content);
    let file = disk
        .open(&unfinished, OpenMode::Create)
        .await
        .map_err(failed(&unfinished))?;
    file.truncate(0).await.map_err(failed(&unfinished))?;
    file.write_at(0, slices)
        .await
        .map_err(failed(&unfinished))?;
    file.sync().await.map_err(failed(&unfinished))?;
    disk.rename(&unfinished, &path)
        .await
        .map_err(failed(&path))?;
    disk.sync_dir(directory).await.map_err(failed(directory))?;
    Ok(file)
}

impl Files {
    async fn list(disk: &dyn Disk, directory: &Path) -> Result<Self, LocalQuorumError> {
        let mut files = Self::default();
        let entries = match disk.list(directory).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            entries => entries.map_err(failed(directory))?,
        };
        for entry in entries {
            let offset = |stem: &str| stem.parse().ok().map(Offset);
            match entry.name.rsplit_once('.') {
                Some((stem, RECORDS)) => files.records.extend(offset(stem)),
                Some((stem, SNAPSHOT)) => files.snapshots.extend(offset(stem)),
                Some((_, RAFT)) => {
                    return Err(damaged(
                        &directory.join(entry.name),
                        "it is that of a node of a quorum of several, whose settings are missing",
                    ));
                }
                _ if entry.name.ends_with(UNFINISHED) => files.unfinished.push(entry.name),
                _ => {}
            }
        }
        files.records.sort_unstable();
        files.snapshots.sort_unstable();
        Ok(files)
    }
}

/// Refuses to begin a new metadata log beside partitions of an old one.
async fn refuse_partitions(
    disk: &dyn Disk,
    log_dirs: &[PathBuf],
    missing: &Path,
) -> Result<(), LocalQuorumError> {
    for directory in log_dirs {
        let entries = match disk.list(directory).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed(directory))?,
        };
        // Beginning here may have left the directory of the metadata, but nothing in it.
        let is_first = missing.parent() == Some(directory);
        let is_partition = |name: &str| {
            let index = name.rsplit_once('-').map(|(_, index)| index);
            let is_own = is_first && name == DIRECTORY;
            !is_own && index.is_some_and(|index| index.parse::<u32>().is_ok())
        };
        if entries
            .iter()
            .any(|entry| entry.is_dir && is_partition(&entry.name))
        {
            return Err(LocalQuorumError::Missing {
                path: missing.to_owned(),
                found: directory.clone(),
            });
        }
    }
    Ok(())
}
