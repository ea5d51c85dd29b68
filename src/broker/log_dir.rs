//! The data directories: taken for this process alone, checked for whose they are, made when new.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::config::{
    BrokerConfig, DirEntryKind, DirState, LogDirError, Membership, MetaProperties, check_log_dir,
};
use crate::env::{Env, LockGuard, OpenMode};
use crate::types::{BrokerId, Uuid};

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

impl LogDir {
    /// Says durably how far the node is on its way into its cluster.
    pub async fn set_membership(
        &mut self,
        env: &Env,
        membership: Membership,
    ) -> Result<(), OpenError> {
        let meta = MetaProperties {
            membership,
            ..self.meta.clone()
        };
        write_meta(env, &self.path, &meta)
            .await
            .map_err(|source| failed(&self.path, source))?;
        self.meta = meta;
        Ok(())
    }
}

/// The data directories, taken for this process; new ones are not anybody's yet.
pub struct TakenDirs {
    node_id: BrokerId,
    dirs: Vec<TakenDir>,
    /// Of those that exist, or from the settings.
    pub cluster_id: Option<Uuid>,
    /// For a cluster that is being made.
    pub new_cluster_id: Uuid,
}

struct TakenDir {
    path: PathBuf,
    lock: Box<dyn LockGuard>,
    directory_id: Uuid,
    known: Option<MetaProperties>,
}

impl TakenDirs {
    /// The first directory, which holds the metadata.
    #[must_use]
    pub fn first(&self) -> (&Path, Uuid) {
        (&self.dirs[0].path, self.dirs[0].directory_id)
    }

    /// What the first directory says of it; `None`: it is new.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        let known = self.dirs[0].known.as_ref()?;
        Some(known.membership)
    }

    /// Refuses with a text that names the first directory.
    #[must_use]
    pub fn refused(&self, reason: LogDirError) -> OpenError {
        OpenError::Refused {
            path: self.dirs[0].path.clone(),
            reason,
        }
    }

    /// Makes all of them this cluster's, durably.
    pub async fn settle(
        self,
        env: &Env,
        cluster_id: Uuid,
        membership: Membership,
    ) -> Result<Vec<LogDir>, OpenError> {
        let mut dirs = Vec::with_capacity(self.dirs.len());
        for taken in self.dirs {
            let path = taken.path;
            let meta = match taken.known {
                Some(meta) => meta,
                None => {
                    let meta = MetaProperties {
                        cluster_id,
                        node_id: self.node_id,
                        directory_id: taken.directory_id,
                        membership,
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
                _lock: taken.lock,
            });
        }
        Ok(dirs)
    }
}

/// Takes all data directories, in the order of the settings. Those that exist must be of one
/// cluster, that of the settings if they say one.
pub async fn take_all(env: &Env, config: &BrokerConfig) -> Result<TakenDirs, OpenError> {
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
    let new_cluster_id = Uuid::from_random(rng.bytes());
    let expected = config.cluster_id.or(existing);
    let is_alone = config.quorum.is_alone();
    let mut dirs = Vec::with_capacity(found.len());
    for (path, lock, state) in found {
        let known = match state {
            DirState::Ours(meta) => {
                check(&meta, expected, config.node_id, is_alone).map_err(|reason| {
                    OpenError::Refused {
                        path: path.clone(),
                        reason,
                    }
                })?;
                Some(meta)
            }
            DirState::Empty => None,
        };
        let directory_id = match &known {
            Some(meta) => meta.directory_id,
            None => Uuid::from_random(rng.bytes()),
        };
        dirs.push(TakenDir {
            path,
            lock,
            directory_id,
            known,
        });
    }
    Ok(TakenDirs {
        node_id: config.node_id,
        dirs,
        cluster_id: expected,
        new_cluster_id,
    })
}

fn check(
    meta: &MetaProperties,
    expected: Option<Uuid>,
    node: BrokerId,
    is_alone: bool,
) -> Result<(), LogDirError> {
    meta.validate(expected, node)?;
    match (meta.membership, is_alone) {
        (Membership::Alone, false) => Err(LogDirError::OfSingleNode),
        (Membership::Joining | Membership::Joined, true) => Err(LogDirError::OfCluster),
        _ => Ok(()),
    }
}

/// Whether there is anything in the directory `name` of `dir`.
pub async fn holds(env: &Env, dir: &Path, name: &str) -> Result<bool, OpenError> {
    let entries = env
        .disk
        .list(dir)
        .await
        .map_err(|source| failed(dir, source))?;
    if !entries
        .iter()
        .any(|entry| entry.name == name && entry.is_dir)
    {
        return Ok(false);
    }
    let inside = dir.join(name);
    let entries = env.disk.list(&inside).await;
    Ok(!entries
        .map_err(|source| failed(&inside, source))?
        .is_empty())
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
