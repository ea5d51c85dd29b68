//! Writing a part of a segment anew, with the same bytes, without putting them at risk.
//!
//! After an unclean end, what lies between the newest durable slot and the log's end may be on the
//! disk, and acknowledged; or a sync of it failed, and it is only in the cache of a kernel that
//! takes it for written. A page written anew is synced anew, so it is written again either way.
//! But power may go while it is, and leave neither the old bytes nor the new in the sectors under
//! way: what was safe would be gone, and look like a torn end. So the bytes are made durable in a
//! checkpoint beside the log first, and whoever opens the log next puts them back before anything
//! else is looked at.
//!
//! **Invariant**: while bytes of a segment are overwritten, a durable checkpoint holds them; and it
//! is durably gone before anything else is written to the log, so it never brings back what was
//! replaced since.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::checkpoint::{self, CheckpointError};
use super::error::LogError;
use super::files;
use super::roll::remove_if_there;
use crate::env::{Disk, File, OpenMode};
use crate::types::Offset;

const FILE_NAME: &str = "tail-rewrite";

/// Bytes rewritten at once: each piece costs four syncs, and lies in memory.
const PIECE_BYTES: u64 = 4 << 20;

/// Writes the bytes `[from, to)` of the segment at `base_offset` in `dir` once more. Durable when
/// it returns; whatever happens before, they are there when [`finish`] was called.
pub(super) async fn rewrite_safely(
    disk: &dyn Disk,
    dir: &Path,
    (base_offset, file): (Offset, &dyn File),
    (mut from, to): (u64, u64),
) -> Result<(), LogError> {
    if from >= to {
        return Ok(());
    }
    let path = files::path(dir, base_offset, files::LOG);
    while from < to {
        let bytes = piece(file, from, to).await.map_err(LogError::io(&path))?;
        let read = bytes.len() as u64;
        let mut body = BytesMut::with_capacity(16 + bytes.len());
        body.put_i64(base_offset.0);
        body.put_u64(from);
        body.put_slice(&bytes);
        if !crate::mutant!("tail-rewritten-bare") {
            checkpoint::write(disk, dir, FILE_NAME, body.freeze()).await?;
        }
        let written = write(file, from, bytes).await;
        written.map_err(LogError::io(&path))?;
        from += read;
    }
    forget(disk, dir).await
}

/// Puts back what a rewrite that was cut short may have spoiled; whether there was one. To be
/// called before a log is looked at.
pub(super) async fn finish(disk: &dyn Disk, dir: &Path) -> Result<bool, LogError> {
    let Some(mut body) = checkpoint::read(disk, dir, FILE_NAME).await? else {
        return Ok(false);
    };
    if body.len() < 16 {
        let reason = format!("{} bytes where a place alone takes 16", body.len());
        return Err(CheckpointError::damaged(dir, FILE_NAME, reason).into());
    }
    tracing::trace!(target: "klamm::probe", name = "tail-rewrite-finished-at-start");
    let base_offset = Offset(body.get_i64());
    let from = body.get_u64();
    let path = files::path(dir, base_offset, files::LOG);
    let restored = async {
        let file = disk.open(&path, OpenMode::Existing).await?;
        write(&*file, from, body).await
    };
    restored.await.map_err(LogError::io(&path))?;
    forget(disk, dir).await?;
    Ok(true)
}

/// Writes `[from, to)` once more with the same bytes, which nobody was promised. After a failed
/// sync the kernel may hold pages that it believes are on disk and are not; a page written anew is
/// synced anew. A sync is still to follow.
pub(super) async fn rewrite(file: &dyn File, mut from: u64, to: u64) -> std::io::Result<()> {
    while from < to {
        let bytes = piece(file, from, to).await?;
        let read = bytes.len() as u64;
        file.write_at(from, vec![bytes]).await?;
        from += read;
    }
    Ok(())
}

async fn piece(file: &dyn File, from: u64, to: u64) -> std::io::Result<Bytes> {
    let len = (to - from).min(PIECE_BYTES);
    let len = usize::try_from(len).map_err(std::io::Error::other)?;
    let bytes = file.read_at(from, len).await?;
    if bytes.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

async fn write(file: &dyn File, at: u64, bytes: Bytes) -> std::io::Result<()> {
    file.write_at(at, vec![bytes]).await?;
    file.sync().await
}

async fn forget(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    remove_if_there(disk, &dir.join(FILE_NAME)).await?;
    disk.sync_dir(dir).await.map_err(LogError::io(dir))
}
