//! Finding what a node remembers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::RaftOpenError;
use super::directory::{Files, damaged, failed, log_path, read_whole, refuse_partitions};
use super::kept::Kept;
use super::log_file::{self, Found, Owner, PAGE_BYTES};
use super::snapshot::{KeptSnapshot, SnapshotFiles};
use super::writer::Writer;
use crate::env::{Env, OpenMode};

/// What was found in a metadata directory.
pub(super) struct Opened {
    pub kept: Kept,
    pub snapshot: Option<KeptSnapshot>,
    pub writer: Writer,
}

/// Opens a metadata directory, or begins one where there is none.
pub(super) async fn open(
    env: &Arc<Env>,
    directory: &Path,
    owner: Owner,
) -> Result<Opened, RaftOpenError> {
    let disk = &*env.disk;
    let files = Files::list(disk, directory).await?;
    let Some(number) = files.logs.last().copied() else {
        if !files.is_empty() {
            return Err(damaged(
                directory,
                "a snapshot is there, but the log is missing",
            ));
        }
        return begin(env, directory, owner).await;
    };
    let snapshot = match files.snapshots.last() {
        Some(newest) => {
            let snapshots = SnapshotFiles {
                disk: env.disk.clone(),
                directory: directory.to_owned(),
            };
            match snapshots.read(*newest).await {
                Err(_) if crate::mutant!("damaged-snapshot-is-none") => None,
                read => Some(read?),
            }
        }
        None => None,
    };
    let path = log_path(directory, number);
    let file = disk.open(&path, OpenMode::Existing).await;
    let file = file.map_err(failed(&path))?;
    let bytes = read_whole(&*file).await.map_err(failed(&path))?;
    let slot = log_file::decode_page(&bytes, number, owner);
    let slot = slot.map_err(|reason| damaged(&path, reason))?;
    let (mut kept, end) = replay(&bytes, &path, number, slot.position)?;
    kept.committed = slot.committed;
    kept.committed = kept.committed_here();
    check_snapshot(&kept, snapshot.as_ref(), directory)?;
    let writer = match bytes.len() as u64 == slot.position && end as u64 == slot.position {
        true => Writer::resume(
            env,
            directory.to_owned(),
            owner,
            number,
            file,
            (slot, &kept),
        ),
        false => {
            // What lies beyond the slot may be in the cache alone: if a sync of it failed in the
            // process before, the kernel takes its pages for written, and no later sync proves
            // anything. Nor may it be written once more in place, since it may be durable and
            // answered, and a power loss in the midst would spoil it.
            tracing::trace!(target: "klamm::probe", name = "raft-tail-made-anew");
            let directory: PathBuf = directory.to_owned();
            Writer::make(env, directory, owner, number + 1, &kept).await?
        }
    };
    let files = Files::list(disk, directory).await?;
    files.remove_old(disk, directory).await?;
    Ok(Opened {
        kept,
        snapshot,
        writer,
    })
}

async fn begin(env: &Arc<Env>, directory: &Path, owner: Owner) -> Result<Opened, RaftOpenError> {
    let disk = &*env.disk;
    refuse_partitions(disk, directory).await?;
    disk.create_dir(directory)
        .await
        .map_err(failed(directory))?;
    if let Some(beside) = directory.parent() {
        disk.sync_dir(beside).await.map_err(failed(beside))?;
    }
    let kept = Kept::default();
    let writer = Writer::make(env, directory.to_owned(), owner, 1, &kept).await?;
    Ok(Opened {
        kept,
        snapshot: None,
        writer,
    })
}

/// What a log file says, and where that ends. Damage is only let pass at or after `proven`.
fn replay(
    file: &Bytes,
    path: &Path,
    number: u64,
    proven: u64,
) -> Result<(Kept, usize), RaftOpenError> {
    let (mut kept, mut position) = (Kept::default(), PAGE_BYTES);
    loop {
        match log_file::find_frame(file, number, position) {
            Found::Frame { body, next } => {
                let replayed = log_file::replay(&mut kept, body);
                replayed.map_err(|reason| damaged(path, format!("at byte {position} {reason}")))?;
                position = next;
            }
            Found::End if (position as u64) < proven => {
                return Err(damaged(
                    path,
                    format!("it ends at byte {position}, too early"),
                ));
            }
            Found::End => return Ok((kept, position)),
            Found::Damage(reason) if (position as u64) < proven => {
                return Err(damaged(path, format!("at byte {position} {reason}")));
            }
            Found::Damage(reason) => {
                let cut = file.len() - position;
                tracing::trace!(target: "klamm::probe", name = "raft-tail-cut");
                tracing::warn!(
                    ?path,
                    position,
                    cut,
                    reason,
                    "an unfinished write is cut off"
                );
                return Ok((kept, position));
            }
        }
    }
}

/// What was purged from the log must be in the snapshot.
fn check_snapshot(
    kept: &Kept,
    snapshot: Option<&KeptSnapshot>,
    directory: &Path,
) -> Result<(), RaftOpenError> {
    let last = snapshot.and_then(|snapshot| snapshot.meta.last_log_id);
    match kept.purged {
        Some(purged) if last < Some(purged) && !crate::mutant!("damaged-snapshot-is-none") => {
            Err(damaged(
                directory,
                format!(
                    "the snapshot of what precedes offset {} is missing",
                    purged.index + 1
                ),
            ))
        }
        _ => Ok(()),
    }
}
