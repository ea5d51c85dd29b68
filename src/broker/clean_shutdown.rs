//! The marker of an orderly stop: it says how each log ended, so that the next start need not look
//! through them. It is removed, durably, before anything is written again.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::log_dir::LogDir;
use crate::env::Env;
use crate::log::CleanEnd;
use crate::log::checkpoint::{self, CheckpointError, Place};
use crate::types::{Offset, Uuid};

const NAME: &str = ".klamm_cleanshutdown";

/// Fixed bytes of an entry: partition, end offset, file bytes; before them the directory's name.
const NUMBERS_BYTES: usize = 16;

/// How each log of a data directory ended, by the name of the log's own directory.
pub type Ends = BTreeMap<String, CleanEnd>;

/// What the marker in `dir` says, if there is one of this very directory. The marker is gone when
/// this returns. One that cannot be read is taken for none: the logs are looked through.
pub async fn take(env: &Env, dir: &LogDir) -> Result<Option<Ends>, CheckpointError> {
    let ends = match checkpoint::read_in(&*env.disk, Place::Name, &dir.path, NAME).await {
        Ok(None) => return Ok(None),
        Ok(Some(body)) => decode(dir.meta.directory_id, body),
        Err(CheckpointError::Damaged { path, reason }) => {
            tracing::warn!(path = %path.display(), %reason, "the marker is ignored");
            None
        }
        Err(error) => return Err(error),
    };
    if crate::mutant!("clean-marker-kept") {
        return Ok(ends);
    }
    let path = dir.path.join(NAME);
    let io = |source| CheckpointError::Io {
        path: path.clone(),
        source,
    };
    env.disk.remove(&path).await.map_err(io)?;
    env.disk.sync_dir(&dir.path).await.map_err(io)?;
    Ok(ends)
}

/// Leaves the marker. To be called once every log is closed, and only if each was closed well.
pub async fn leave(env: &Env, dir: &LogDir, ends: &Ends) -> Result<(), CheckpointError> {
    checkpoint::write_in(
        &*env.disk,
        Place::Name,
        &dir.path,
        NAME,
        encode(dir.meta.directory_id, ends),
    )
    .await
}

fn encode(directory_id: Uuid, ends: &Ends) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(&directory_id.0);
    for (name, end) in ends {
        let length = u16::try_from(name.len()).expect("directory names are short");
        body.put_u16(length);
        body.put_slice(name.as_bytes());
        body.put_i64(end.log_end_offset.0);
        body.put_u64(end.file_bytes);
    }
    body.freeze()
}

fn decode(directory_id: Uuid, mut body: Bytes) -> Option<Ends> {
    if body.len() < 16 || body.split_to(16)[..] != directory_id.0 {
        return None;
    }
    let mut ends = Ends::new();
    while body.len() >= 2 {
        let length = usize::from(body.get_u16());
        if body.len() < length + NUMBERS_BYTES {
            return None;
        }
        let name = String::from_utf8(body.split_to(length).to_vec()).ok()?;
        let log_end_offset = Offset(body.get_i64());
        let file_bytes = body.get_u64();
        ends.insert(
            name,
            CleanEnd {
                log_end_offset,
                file_bytes,
            },
        );
    }
    body.is_empty().then_some(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_believed_only_in_its_own_directory() {
        let end = CleanEnd {
            log_end_offset: Offset(7),
            file_bytes: 4096,
        };
        let ends = Ends::from([("orders-0".to_owned(), end), ("orders-1".to_owned(), end)]);
        let (own, other) = (Uuid([1; 16]), Uuid([2; 16]));
        let body = encode(own, &ends);
        assert_eq!(decode(own, body.clone()), Some(ends));
        assert_eq!(decode(other, body.clone()), None);
        assert_eq!(decode(own, body.slice(..body.len() - 1)), None);
    }
}
