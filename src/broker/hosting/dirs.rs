//! The directories of partitions: found at the start, set aside, and removed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use super::Hosting;
use super::removing::Removing;
use crate::broker::Broker;
use crate::broker::log_dir::LogDir;
use crate::broker::partitions::Hosted;
use crate::env::Env;

/// Suffix of a partition's directory that is being removed.
const DELETED_SUFFIX: &str = "-delete";

/// Directories that are renamed at once.
const RENAMING_MAX: usize = 16;

/// Suffix of a directory whose topic is not of this cluster.
const STRAY_SUFFIX: &str = "-stray";

/// Suffix of a log that was damaged and is copied anew from the partition's leader.
const DAMAGED_SUFFIX: &str = "-damaged";

/// Most bytes of a name in a directory, of the file systems there are.
const NAME_MAX: usize = 255;

/// A name for the directory of a partition that nothing else has, whatever became of others of that
/// partition. A topic's name may be so long that its end has to give way.
fn renamed(broker: &Broker, path: &Path, suffix: &str) -> PathBuf {
    let random: [u8; 4] = broker.random_bytes();
    let ending = format!(".{:08x}{suffix}", u32::from_be_bytes(random));
    let name = path.file_name().map(|name| name.to_string_lossy());
    let name = name.unwrap_or_default();
    let kept = name.floor_char_boundary(NAME_MAX - ending.len());
    let mut renamed = OsString::from(&name[..kept]);
    renamed.push(ending);
    path.with_file_name(renamed)
}

/// Frees the name of a damaged log that is to be copied anew, and keeps what is in it. Durable when
/// it returns.
pub(super) async fn set_damaged_aside(broker: &Broker, path: &Path) -> std::io::Result<()> {
    let aside = renamed(broker, path, DAMAGED_SUFFIX);
    broker.env.disk.rename(path, &aside).await?;
    if let Some(parent) = path.parent() {
        broker.env.disk.sync_dir(parent).await?;
    }
    tracing::trace!(target: "klamm::probe", name = "damaged-log-set-aside");
    tracing::warn!(
        from = %path.display(),
        to = %aside.display(),
        "a damaged log was set aside and is copied anew: remove it when it is not missed"
    );
    Ok(())
}

/// Frees the name of a directory that belongs to no topic, and keeps what is in it.
pub(super) async fn set_aside(broker: &Broker, path: &Path) {
    let aside = renamed(broker, path, STRAY_SUFFIX);
    match broker.env.disk.rename(path, &aside).await {
        Ok(()) => {
            tracing::trace!(target: "klamm::probe", name = "stray-log-set-aside");
            tracing::warn!(
                from = %path.display(),
                to = %aside.display(),
                "a log that belongs to no topic was set aside: remove it when it is not missed"
            );
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(
            dir = %path.display(),
            %error,
            "a log that belongs to no topic could not be set aside"
        ),
    }
}

/// Lets go of directories of partitions in the data directory `dir`. When it returns they have
/// other names, durably; what is in them is removed afterwards, also by a later start. No file may
/// go before: a power loss must not bring back a part of a log under the name of a partition.
pub(super) async fn remove_logs(
    broker: &Broker,
    removing: &Arc<Removing>,
    dir: &Path,
    doomed: &[&Path],
) -> std::io::Result<()> {
    if doomed.is_empty() {
        return Ok(());
    }
    let env = &broker.env;
    let mut renaming = Vec::with_capacity(doomed.len());
    for path in doomed {
        let gone = renamed(broker, path, DELETED_SUFFIX);
        renaming.push(async move { env.disk.rename(path, &gone).await.map(|()| gone) });
    }
    let (mut gone, mut failed) = (Vec::new(), None);
    let mut renaming = stream::iter(renaming).buffer_unordered(RENAMING_MAX);
    while let Some(outcome) = renaming.next().await {
        match outcome {
            Ok(path) => gone.push(path),
            Err(error) => failed = Some(error),
        }
    }
    env.disk.sync_dir(dir).await?;
    removing.begin(env, gone);
    failed.map_or(Ok(()), Err)
}

impl Hosting {
    pub(super) async fn set_aside_partition(&self, topic: &str, partition: i32) {
        for dir in &self.broker.log_dirs {
            set_aside(&self.broker, &dir.path.join(format!("{topic}-{partition}"))).await;
        }
    }

    /// Removes the directories of closed partitions of a topic.
    pub(super) async fn remove_dirs<'a>(
        &self,
        name: &str,
        partitions: impl Iterator<Item = &'a Hosted> + Clone,
    ) {
        for dir in &self.broker.log_dirs {
            let here = partitions.clone();
            let doomed = here.filter(|hosted| hosted.dir.parent() == Some(&dir.path));
            let doomed: Vec<&Path> = doomed.map(|hosted| hosted.dir.as_path()).collect();
            let removed = remove_logs(&self.broker, &self.removing, &dir.path, &doomed).await;
            if let Err(error) = removed {
                // The next start removes what has its new name.
                let dir = dir.path.display();
                tracing::error!(%dir, topic = name, %error, "logs not removed");
            }
        }
    }
}

/// The partitions' directories in a data directory, by name. What a deletion left is removed, soon.
pub(super) async fn existing(
    env: &Env,
    removing: &Arc<Removing>,
    dir: &LogDir,
) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut doomed = Vec::new();
    for entry in env.disk.list(&dir.path).await? {
        let path = dir.path.join(&entry.name);
        if !entry.is_dir || entry.name.starts_with("__cluster_metadata") {
            continue;
        }
        if entry.name.ends_with(DELETED_SUFFIX) {
            tracing::trace!(target: "klamm::probe", name = "unfinished-deletion-finished");
            doomed.push(path);
        } else if entry
            .name
            .rsplit_once('-')
            .is_some_and(|(_, n)| n.parse::<i32>().is_ok())
        {
            found.push((entry.name, path));
        }
    }
    if !doomed.is_empty() {
        // A process that was killed may have left the new names unsynced.
        env.disk.sync_dir(&dir.path).await?;
        removing.begin(env, doomed);
    }
    Ok(found)
}
