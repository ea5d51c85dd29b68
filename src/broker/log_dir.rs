//! The data directories: taken for this process alone, checked for whose they are, made when new.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::config::{
    BrokerConfig, DirEntryKind, DirState, LogDirError, MetaProperties, check_log_dir,
};
use crate::env::{Env, LockGuard, OpenMode};
use crate::types::Uuid;

const META: &str = "meta.properties";
const META_NEW: &str = "meta.properties.new";
const LOCK: &str = ".lock";

/// Most bytes of a `meta.properties` that are looked at.
const META_BYTES_MAX: usize = 64 << 10;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "log.dirs: {0} is in use by another broker: stop that one, or give this one a directory \
         of its own"
    )]
    InUse(PathBuf),
    #[error("log.dirs: {path}: {reason}")]
    Refused { path: PathBuf, reason: LogDirError },
    #[error(
        "log.dirs: {path}: {source}: check that the directory can be made, read and written by \
         the user that runs klamm"
    )]
    Io { path: PathBuf, source: io::Error },
}

/// A data directory of this broker.
pub struct LogDir {
    pub path: PathBuf,
    pub meta: MetaProperties,
    _lock: Box<dyn LockGuard>,
}

/// Takes all data directories, in the order of the settings. New ones join the cluster of those
/// that exist, or of `config.cluster_id`, or of a new cluster.
pub async fn open_all(env: &Env, config: &BrokerConfig) -> Result<Vec<LogDir>, OpenError> {
    let mut found = Vec::with_capacity(config.log_dirs.len());
    for path in &config.log_dirs {
        let lock = take(env, path).await?;
        let state = look(env, path).await?;
        found.push((path.clone(), lock, state));
    }
    let mut rng = env.entropy.stream("data-directories");
    let existing = found.iter().find_map(|(_, _, state)| match state {
        DirState::Ours(meta) => Some(meta.cluster_id),
        DirState::Empty => None,
    });
    let cluster_id = existing
        .or(config.cluster_id)
        .unwrap_or_else(|| Uuid::from_random(rng.bytes()));
    let expected = config.cluster_id.unwrap_or(cluster_id);
    let mut dirs = Vec::with_capacity(found.len());
    for (path, lock, state) in found {
        let meta = match state {
            DirState::Ours(meta) => {
                meta.validate(Some(expected), config.node_id)
                    .map_err(|reason| OpenError::Refused {
                        path: path.clone(),
                        reason,
                    })?;
                meta
            }
            DirState::Empty => {
                let directory_id = Uuid::from_random(rng.bytes());
                let meta = MetaProperties {
                    cluster_id,
                    node_id: config.node_id,
                    directory_id,
                };
                write_meta(env, &path, &meta)
                    .await
                    .map_err(|source| failed(&path, source))?;
                meta
            }
        };
        dirs.push(LogDir {
            path,
            meta,
            _lock: lock,
        });
    }
    Ok(dirs)
}

fn failed(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

async fn take(env: &Env, path: &Path) -> Result<Box<dyn LockGuard>, OpenError> {
    env.disk
        .create_dir(path)
        .await
        .map_err(|source| failed(path, source))?;
    match env.disk.lock(&path.join(LOCK)).await {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::InUse(path.to_owned()))
        }
        Err(error) => Err(failed(path, error)),
    }
}

async fn look(env: &Env, path: &Path) -> Result<DirState, OpenError> {
    let entries = env
        .disk
        .list(path)
        .await
        .map_err(|source| failed(path, source))?;
    let meta = if entries.iter().any(|entry| entry.name == META) {
        let text = read(env, &path.join(META))
            .await
            .map_err(|source| failed(path, source))?;
        Some(text)
    } else {
        None
    };
    let kinds: Vec<DirEntryKind<'_>> = entries
        .iter()
        .map(|entry| DirEntryKind {
            name: &entry.name,
            is_dir: entry.is_dir,
        })
        .collect();
    check_log_dir(&kinds, meta.as_deref()).map_err(|reason| OpenError::Refused {
        path: path.to_owned(),
        reason,
    })
}

async fn read(env: &Env, path: &Path) -> io::Result<String> {
    let file = env.disk.open(path, OpenMode::Read).await?;
    let bytes = file.read_at(0, META_BYTES_MAX).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn write_meta(env: &Env, dir: &Path, meta: &MetaProperties) -> io::Result<()> {
    let fresh = dir.join(META_NEW);
    let file = env.disk.open(&fresh, OpenMode::Create).await?;
    file.truncate(0).await?;
    file.write_at(0, vec![Bytes::from(meta.to_string())])
        .await?;
    file.sync().await?;
    env.disk.rename(&fresh, &dir.join(META)).await?;
    env.disk.sync_dir(dir).await?;
    sync_above(env, dir).await
}

/// Makes the directory itself durable, with those above it that may be as new: a data directory
/// that goes with the power takes all that was acknowledged with it.
async fn sync_above(env: &Env, dir: &Path) -> io::Result<()> {
    for above in dir.ancestors().skip(1) {
        let above = match above.as_os_str().is_empty() {
            true => Path::new("."),
            false => above,
        };
        env.disk.sync_dir(above).await?;
    }
    Ok(())
}
