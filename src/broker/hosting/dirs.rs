//! The directories of partitions: found at the start, set aside, and removed.

use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt as _};

use crate::broker::Broker;
use crate::broker::log_dir::LogDir;
use crate::env::Env;
use crate::types::TopicId;

/// Suffix of a partition's directory that is being removed.
const DELETED_SUFFIX: &str = "-delete";

/// Directories that are renamed, or removed, at once.
const REMOVING_MAX: usize = 16;

/// Suffix of a directory whose topic is not of this cluster.
const STRAY_SUFFIX: &str = "-stray";

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

/// Suffix of a log that was damaged and is copied anew from the partition's leader.
const DAMAGED_SUFFIX: &str = "-damaged";

/// Frees the name of a damaged log that is to be copied anew, and keeps what is in it. Durable when
/// it returns.
pub(super) async fn set_damaged_aside(broker: &Broker, path: &Path) -> std::io::Result<()> {
    let random: [u8; 4] = broker.random_bytes();
    let suffix = format!(".{:08x}{DAMAGED_SUFFIX}", u32::from_be_bytes(random));
    let aside = suffixed(path, &suffix);
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
    let random: [u8; 4] = broker.random_bytes();
    let aside = suffixed(
        path,
        &format!(".{:08x}{STRAY_SUFFIX}", u32::from_be_bytes(random)),
    );
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

/// Removes the directories of partitions of the topic `id` in the data directory `dir`. Their new
/// names are durable before any file goes: a power loss must not bring back a part of a log under
/// the name of a partition.
pub(super) async fn remove_logs(
    env: &Env,
    dir: &Path,
    doomed: &[&Path],
    id: TopicId,
) -> std::io::Result<()> {
    if doomed.is_empty() {
        return Ok(());
    }
    let mut renamed = Vec::new();
    let mut failed = None;
    let mut renaming = Vec::with_capacity(doomed.len());
    for path in doomed {
        renaming.push(renamed_to_go(env, path, id));
    }
    let mut renaming = stream::iter(renaming).buffer_unordered(REMOVING_MAX);
    while let Some(outcome) = renaming.next().await {
        match outcome {
            Ok(gone) => renamed.push(gone),
            Err(error) => failed = Some(error),
        }
    }
    env.disk.sync_dir(dir).await?;
    remove_all(env, &renamed).await?;
    failed.map_or(Ok(()), Err)
}

/// The new name of a directory that is to be removed, which it then has.
async fn renamed_to_go(env: &Env, path: &Path, id: TopicId) -> std::io::Result<PathBuf> {
    let gone = suffixed(path, &format!(".{id}{DELETED_SUFFIX}"));
    env.disk.rename(path, &gone).await?;
    Ok(gone)
}

/// Removes directories with what is in them, several at a time; tries all of them.
async fn remove_all(env: &Env, dirs: &[PathBuf]) -> std::io::Result<()> {
    let mut removing = Vec::with_capacity(dirs.len());
    for dir in dirs {
        removing.push(env.disk.remove_dir(dir));
    }
    let mut removing = stream::iter(removing).buffer_unordered(REMOVING_MAX);
    let mut failed = None;
    while let Some(outcome) = removing.next().await {
        failed = outcome.err().or(failed);
    }
    failed.map_or(Ok(()), Err)
}

/// The partitions' directories in a data directory, by name. What a deletion left is removed.
pub(super) async fn existing(env: &Env, dir: &LogDir) -> std::io::Result<Vec<(String, PathBuf)>> {
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
        remove_all(env, &doomed).await?;
    }
    Ok(found)
}
