//! Where a log begins, once it no longer begins with its first segment.
//!
//! Written before any record below it is removed or hidden, so that a log never starts further
//! back than a client was told.

use std::path::Path;

use bytes::{Buf, Bytes};

use super::checkpoint::{self, CheckpointError};
use crate::env::Disk;
use crate::types::Offset;

const FILE_NAME: &str = "log-start-offset";

pub(super) async fn save(
    disk: &dyn Disk,
    dir: &Path,
    start: Offset,
) -> Result<(), CheckpointError> {
    let body = Bytes::copy_from_slice(&start.0.to_be_bytes());
    checkpoint::write(disk, dir, FILE_NAME, body).await
}

/// `None`: the log begins with its first segment.
pub(super) async fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Offset>, CheckpointError> {
    let Some(mut body) = checkpoint::read(disk, dir, FILE_NAME).await? else {
        return Ok(None);
    };
    if body.len() != 8 {
        let reason = format!("{} bytes where an offset takes 8", body.len());
        return Err(CheckpointError::damaged(dir, FILE_NAME, reason));
    }
    Ok(Some(Offset(body.get_i64())))
}
