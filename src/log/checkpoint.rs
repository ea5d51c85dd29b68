//! Small files that are replaced whole.
//!
//! A checkpoint is written beside its place, made durable, and renamed over what was there. So a
//! reader finds the old content or the new, never a mixture and never a half, whatever moment the
//! process or the power ends; and once [`write`] has returned, it finds the new. Content carries
//! its length and a CRC-32C, so that a file damaged later is named as damaged and not believed; the
//! CRC also covers where the file belongs, so that a write that went astray does not pass either.
//!
//! On disk: 8 bytes of magic, length of the body (u32), CRC-32C (u32), the body; numbers are
//! big-endian. The CRC is that of the body and then of the [`Place`].

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::env::{Disk, OpenMode};

/// What a file being written is called until it takes its place: its name and this.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

const MAGIC: &[u8; 8] = b"klammcp2";
const HEAD_BYTES: usize = 16;

/// Most bytes a checkpoint's body may hold.
pub const BODY_MAX: usize = 1 << 30;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// The file exists but is not what was written. Whoever can rebuild its content may remove it.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{} would take {bytes} bytes; at most {BODY_MAX} are allowed", path.display())]
    TooLarge { path: PathBuf, bytes: usize },
}

impl CheckpointError {
    /// For content that passed the CRC yet cannot be understood.
    #[must_use]
    pub fn damaged(dir: &Path, name: &str, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: dir.join(name),
            reason: reason.into(),
        }
    }
}

/// Which part of its path a checkpoint is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Its own name and that of its directory: what belongs to one partition.
    Directory,
    /// Its own name: in a directory that an operator may rename.
    Name,
}

impl Place {
    fn crc(self, body: &[u8], path: &Path) -> u32 {
        let name = |path: Option<&Path>| {
            let name = path.and_then(Path::file_name).unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let place = match self {
            Self::Directory => format!("{}/{}", name(path.parent()), name(Some(path))),
            Self::Name => name(Some(path)),
        };
        crc32c::crc32c_append(crc32c::crc32c(body), place.as_bytes())
    }
}

/// Replaces the checkpoint `name` in the partition's directory `dir` by `body`. Durable when it
/// returns without error; on error the old content or the new is there, whole.
pub async fn write(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    body: Bytes,
) -> Result<(), CheckpointError> {
    write_in(disk, Place::Directory, dir, name, body).await
}

/// As [`write`], bound to `place`.
pub async fn write_in(
    disk: &dyn Disk,
    place: Place,
    dir: &Path,
    name: &str,
    body: Bytes,
) -> Result<(), CheckpointError> {
    let path = dir.join(name);
    let length = match u32::try_from(body.len()) {
        Ok(length) if body.len() <= BODY_MAX => length,
        _ => {
            let bytes = body.len();
            return Err(CheckpointError::TooLarge { path, bytes });
        }
    };
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    head.put_slice(MAGIC);
    head.put_u32(length);
    head.put_u32(place.crc(&body, &path));
    replace(disk, dir, name, vec![head.freeze(), body])
        .await
        .map_err(|source| CheckpointError::Io { path, source })
}

async fn replace(disk: &dyn Disk, dir: &Path, name: &str, slices: Vec<Bytes>) -> io::Result<()> {
    let temporary = dir.join(format!("{name}{TEMPORARY_SUFFIX}"));
    let file = disk.open(&temporary, OpenMode::Create).await?;
    // An earlier attempt may have left a longer file.
    file.truncate(0).await?;
    file.write_at(0, slices).await?;
    if !crate::mutant!("checkpoint-not-synced") {
        file.sync().await?;
    }
    disk.rename(&temporary, &dir.join(name)).await?;
    disk.sync_dir(dir).await
}

/// The body of the checkpoint `name` in the partition's directory `dir`; `None` when there is none.
pub async fn read(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
) -> Result<Option<Bytes>, CheckpointError> {
    read_in(disk, Place::Directory, dir, name).await
}

/// As [`read`], bound to `place`.
pub async fn read_in(
    disk: &dyn Disk,
    place: Place,
    dir: &Path,
    name: &str,
) -> Result<Option<Bytes>, CheckpointError> {
    let path = dir.join(name);
    let bytes = match read_whole(disk, &path).await {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CheckpointError::Io { path, source }),
    };
    match body_of(bytes, place, &path) {
        Ok(body) => Ok(Some(body)),
        Err(reason) => Err(CheckpointError::Damaged { path, reason }),
    }
}

async fn read_whole(disk: &dyn Disk, path: &Path) -> io::Result<Bytes> {
    let file = disk.open(path, OpenMode::Read).await?;
    // One byte more than the largest shows that a file is too long without reading all of it.
    let most = (HEAD_BYTES + BODY_MAX + 1) as u64;
    let length = usize::try_from(file.len().await?.min(most)).unwrap_or(0);
    file.read_at(0, length).await
}

fn body_of(mut bytes: Bytes, place: Place, path: &Path) -> Result<Bytes, String> {
    if bytes.len() < HEAD_BYTES {
        let have = bytes.len();
        return Err(format!(
            "{have} bytes, where the head alone takes {HEAD_BYTES}"
        ));
    }
    if bytes[..MAGIC.len()] != MAGIC[..] {
        return Err("it does not begin as a checkpoint does".to_owned());
    }
    bytes.advance(MAGIC.len());
    let length = bytes.get_u32();
    let stored = bytes.get_u32();
    if usize::try_from(length).ok() != Some(bytes.len()) {
        let have = bytes.len();
        return Err(format!("it says {length} bytes of content and has {have}"));
    }
    let computed = place.crc(&bytes, path);
    if computed != stored {
        return Err(format!(
            "CRC-32C is {computed:08x}, the file says {stored:08x}"
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
