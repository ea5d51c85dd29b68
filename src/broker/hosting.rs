//! Carries changes of the metadata into the partitions hosted here: logs are made, opened,
//! configured and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use super::clean_shutdown::Ends;
use super::group_log::GroupLog;
use super::hosted_register::{Entry, HostedRegister};
use super::log_dir::LogDir;
use super::partitions::Hosted;
use super::{Broker, topics};
use crate::config::TopicConfig;
use crate::controller::{
    ClusterImage, ConfigResource, ImageDelta, PartitionState, ResourceType, TopicDelta, TopicImage,
};
use crate::env::Env;
use crate::log::{CleanEnd, Log, LogError, LogIdentity, OpenOptions};
use crate::types::{BrokerId, TopicId, TopicPartition};

/// Logs that are opened at once.
const OPENING_MAX: usize = 16;

/// Suffix of a partition's directory that is being removed.
const DELETED_SUFFIX: &str = "-delete";

/// Suffix of a directory whose topic is not of this cluster.
const STRAY_SUFFIX: &str = "-stray";

/// What the owner of the hosted partitions keeps between changes.
pub struct Hosting {
    broker: Arc<Broker>,
    register: HostedRegister,
    /// Directories of partitions that were found at the start and not opened yet.
    found: BTreeMap<String, PathBuf>,
    /// How logs ended, from the clean-shutdown markers.
    ends: Ends,
}

/// A partition to host.
struct Wanted {
    topic_partition: TopicPartition,
    topic_id: TopicId,
    state: Arc<PartitionState>,
    config: Arc<TopicConfig>,
}

impl Hosting {
    pub async fn new(
        broker: Arc<Broker>,
        image: &ClusterImage,
        ends: Ends,
    ) -> std::io::Result<Self> {
        let env = &broker.env;
        let mut found = BTreeMap::new();
        for dir in &broker.log_dirs {
            for (name, path) in existing(env, dir).await? {
                found.insert(name, path);
            }
        }
        let known = hosted_entries(image, broker.config.node_id);
        let any_log = !found.is_empty();
        let register = HostedRegister::open(env, &broker.log_dirs[0].path, &known, any_log).await?;
        Ok(Self {
            broker,
            register,
            found,
            ends,
        })
    }

    /// Hosts everything the image gives to this broker. Called once, before any change.
    pub async fn host_all(&mut self, image: &ClusterImage) {
        for topic in image.topics() {
            let all: BTreeSet<i32> = (0..).take(topic.partitions.len()).collect();
            self.host(image, topic, &all).await;
        }
        for path in std::mem::take(&mut self.found).into_values() {
            set_aside(&self.broker, &path).await;
        }
    }

    /// Carries out one change.
    pub async fn apply(&mut self, image: &ClusterImage, delta: &ImageDelta) {
        for (id, change) in &delta.topics {
            match change {
                TopicDelta::Deleted { name, .. } => self.remove(name, *id).await,
                TopicDelta::Created => {
                    if let Some(topic) = image.topic_by_id(*id).cloned() {
                        let all = (0..).take(topic.partitions.len()).collect();
                        self.host(image, &topic, &all).await;
                    }
                }
                TopicDelta::Changed(changes) => {
                    if let Some(topic) = image.topic_by_id(*id).cloned() {
                        self.host(image, &topic, &changes.created).await;
                    }
                }
            }
        }
        let everywhere = |resource: &ConfigResource| resource.resource_type == ResourceType::Broker;
        if delta.configs.iter().any(everywhere) {
            for topic in image.topics() {
                self.configure(image, &topic.name).await;
            }
            return;
        }
        for resource in &delta.configs {
            if resource.resource_type == ResourceType::Topic {
                self.configure(image, &resource.name).await;
            }
        }
    }

    async fn host(&mut self, image: &ClusterImage, topic: &TopicImage, partitions: &BTreeSet<i32>) {
        if partitions.is_empty() {
            return;
        }
        let config = Arc::new(self.topic_config(image, &topic.name));
        let mine = self.broker.config.node_id;
        let wanted: Vec<Wanted> = partitions
            .iter()
            .filter_map(|partition| {
                let state = topic.partition(*partition)?.clone();
                state.replicas.contains(&mine).then(|| Wanted {
                    topic_partition: TopicPartition::new(topic.name.clone(), *partition),
                    topic_id: topic.id,
                    state,
                    config: config.clone(),
                })
            })
            .collect();
        let mut opened = Vec::new();
        let mut offline = BTreeSet::new();
        let plans: Vec<_> = wanted.into_iter().map(|wanted| self.plan(wanted)).collect();
        let mut opening = stream::iter(plans)
            .map(|plan| open(self.broker.clone(), plan))
            .buffer_unordered(OPENING_MAX);
        while let Some((partition, result)) = opening.next().await {
            match result {
                Ok(hosted) => opened.push(hosted),
                Err(error) => {
                    let topic = &topic.name;
                    tracing::trace!(target: "klamm::probe", name = "partition-offline");
                    tracing::error!(%topic, partition, %error, "the partition stays offline");
                    offline.insert(partition);
                }
            }
        }
        drop(opening);
        self.publish(topic, config, opened, &offline).await;
    }

    async fn publish(
        &mut self,
        topic: &TopicImage,
        config: Arc<TopicConfig>,
        opened: Vec<Hosted>,
        offline: &BTreeSet<i32>,
    ) {
        let entries = opened
            .iter()
            .map(|hosted| (topic.id, hosted.topic_partition.partition))
            .collect();
        if let Err(error) = self.register.enter(&entries).await {
            // The logs exist; should they be lost before the next start, that would go unnoticed.
            tracing::error!(%error, "hosted partitions could not be registered");
        }
        let is_offsets = topic.name.as_ref() == crate::group::TOPIC;
        let groups = if is_offsets {
            opened.clone()
        } else {
            Vec::new()
        };
        self.broker
            .partitions
            .publish(&topic.name, topic.id, config, opened, offline);
        if is_offsets {
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            self.broker.groups.set_partitions(count);
        }
        for hosted in groups {
            let shard = self.broker.partitions.shards()[hosted.shard].clone();
            let (partition, epoch) = (hosted.topic_partition.partition, hosted.view.leader_epoch());
            let log = Arc::new(GroupLog::new(hosted, shard));
            self.broker.groups.load(partition, epoch, log).await;
        }
    }

    fn plan(&mut self, wanted: Wanted) -> Plan {
        let name = wanted.topic_partition.to_string();
        let entry = (wanted.topic_id, wanted.topic_partition.partition);
        let found = self.found.remove(&name);
        let registered = self.register.contains(entry);
        let (dir, exists) = match found {
            Some(dir) => (dir, true),
            None => (self.roomiest().join(&name), false),
        };
        Plan {
            wanted,
            dir,
            exists,
            registered,
            clean: self.ends.remove(&name),
        }
    }

    /// The data directory with the fewest partitions.
    fn roomiest(&self) -> PathBuf {
        let table = self.broker.partitions.table();
        let load = |dir: &LogDir| {
            let topics = table.topics();
            let partitions = topics.iter().flat_map(|topic| topic.partitions.values());
            partitions
                .filter(|hosted| hosted.dir.starts_with(&dir.path))
                .count()
        };
        let dirs = &self.broker.log_dirs;
        match dirs.as_slice() {
            [only] => only.path.clone(),
            several => several
                .iter()
                .min_by_key(|dir| load(dir))
                .map_or_else(PathBuf::new, |dir| dir.path.clone()),
        }
    }

    fn topic_config(&self, image: &ClusterImage, name: &str) -> TopicConfig {
        let config = &self.broker.config;
        let defaults = image.broker_defaults(config.defaults(), config.node_id);
        TopicConfig::resolve(&defaults, &image.topic_overrides(name)).unwrap_or_else(|error| {
            // The controller accepts no such setting; one from elsewhere must not stop the log.
            tracing::error!(topic = %name, %error, "the topic's settings are ignored");
            TopicConfig::resolve(&defaults, &BTreeMap::new())
                .expect("a topic without settings of its own is always valid")
        })
    }

    async fn configure(&self, image: &ClusterImage, name: &str) {
        let config = Arc::new(self.topic_config(image, name));
        let log_config = topics::log_config(&self.broker.config, &config);
        let durability = topics::durability(&config);
        self.broker
            .partitions
            .configure(name, config, &log_config, durability)
            .await;
    }

    async fn remove(&self, name: &str, id: TopicId) {
        let table = self.broker.partitions.table();
        if table.topic(name).is_none_or(|topic| topic.id != id) {
            return;
        }
        let Some(topic) = self.broker.partitions.remove(name).await else {
            return;
        };
        if name == crate::group::TOPIC {
            for hosted in topic.partitions.values() {
                let partition = hosted.topic_partition.partition;
                self.broker
                    .groups
                    .unload(partition, hosted.view.leader_epoch())
                    .await;
            }
        }
        for dir in &self.broker.log_dirs {
            let hosted = topic.partitions.values();
            let doomed = hosted.filter(|hosted| hosted.dir.parent() == Some(&dir.path));
            let doomed: Vec<&Path> = doomed.map(|hosted| hosted.dir.as_path()).collect();
            if let Err(error) = remove_logs(&self.broker.env, &dir.path, &doomed, id).await {
                // The next start removes what has its new name.
                let dir = dir.path.display();
                tracing::error!(%dir, topic = name, %error, "logs not removed");
            }
        }
        // What could not be opened may be damaged, or another topic's: it is kept, out of the way.
        for partition in &topic.offline {
            for dir in &self.broker.log_dirs {
                set_aside(&self.broker, &dir.path.join(format!("{name}-{partition}"))).await;
            }
        }
        let names = vec![crate::wire::Str::from(name)];
        if let Err(code) = self.broker.groups.topics_deleted(names).await {
            tracing::warn!(topic = %name, %code, "offsets committed for it may be left");
        }
    }
}

/// The partitions that the metadata gives to this broker.
fn hosted_entries(image: &ClusterImage, mine: BrokerId) -> BTreeSet<Entry> {
    let mut entries = BTreeSet::new();
    for topic in image.topics() {
        for (partition, state) in (0..).zip(&topic.partitions) {
            if state.replicas.contains(&mine) {
                entries.insert((topic.id, partition));
            }
        }
    }
    entries
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

/// How one partition is to be opened.
struct Plan {
    wanted: Wanted,
    dir: PathBuf,
    exists: bool,
    /// Whether a log of this very partition was here, and clients were told so.
    registered: bool,
    clean: Option<CleanEnd>,
}

/// Why a partition cannot be hosted.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error(
        "its log was here and is gone from {}: restore the directory, or delete the topic", .0.display()
    )]
    Lost(PathBuf),
    #[error("{0}")]
    Log(#[from] LogError),
    #[error("the broker is shutting down")]
    Stopping,
}

async fn open(broker: Arc<Broker>, plan: Plan) -> (i32, Result<Hosted, HostError>) {
    (
        plan.wanted.topic_partition.partition,
        try_open(&broker, plan).await,
    )
}

async fn try_open(broker: &Arc<Broker>, plan: Plan) -> Result<Hosted, HostError> {
    let Plan {
        wanted,
        dir,
        exists,
        registered,
        clean,
    } = plan;
    if registered && !exists {
        return Err(HostError::Lost(dir));
    }
    let topic_partition = wanted.topic_partition;
    let options = OpenOptions {
        identity: LogIdentity {
            topic_id: wanted.topic_id,
            topic_partition: topic_partition.clone(),
        },
        config: topics::log_config(&broker.config, &wanted.config),
        clean,
        tail_cache: broker.tail_cache.clone(),
    };
    let log = match exists {
        true => reopen(broker, &dir, options, registered).await?,
        false => Log::create(&broker.env, &dir, options).await?,
    };
    let durability = topics::durability(&wanted.config);
    let epoch = wanted.state.leader_epoch;
    let hosted = broker
        .partitions
        .host(topic_partition, dir, log, epoch, durability)
        .await;
    hosted.ok_or(HostError::Stopping)
}

/// Opens a log that was found. One of another topic is that of an earlier topic of this name, which
/// was deleted when the broker ended, and one of none was being made; unless a log of this very
/// topic was there before: then it is damaged, and never put aside for an empty log.
async fn reopen(
    broker: &Broker,
    dir: &Path,
    options: OpenOptions,
    registered: bool,
) -> Result<Log, LogError> {
    let partition = options.identity.topic_partition.clone();
    match Log::open(&broker.env, dir, options.clone()).await {
        Ok((log, recovery)) => {
            if let Some(cut) = &recovery.cut {
                tracing::warn!(%partition, ?cut, "an unsynced tail was cut off");
            }
            Ok(log)
        }
        Err(LogError::AnotherTopic { .. } | LogError::Foreign { .. }) if !registered => {
            set_aside(broker, dir).await;
            Log::create(&broker.env, dir, options).await
        }
        Err(error) => Err(error),
    }
}

/// Frees the name of a directory that belongs to no topic, and keeps what is in it.
async fn set_aside(broker: &Broker, path: &Path) {
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

/// Removes the directories of a deleted topic's partitions in the data directory `dir`. Their new
/// names are durable before any file goes: a power loss must not bring back a part of a log under
/// the name of a partition.
async fn remove_logs(env: &Env, dir: &Path, doomed: &[&Path], id: TopicId) -> std::io::Result<()> {
    if doomed.is_empty() {
        return Ok(());
    }
    let mut renamed = Vec::new();
    let mut failed = None;
    for path in doomed {
        let gone = suffixed(path, &format!(".{id}{DELETED_SUFFIX}"));
        match env.disk.rename(path, &gone).await {
            Ok(()) => renamed.push(gone),
            Err(error) => failed = Some(error),
        }
    }
    env.disk.sync_dir(dir).await?;
    for gone in renamed {
        if let Err(error) = env.disk.remove_dir(&gone).await {
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The partitions' directories in a data directory, by name. What a deletion left is removed.
async fn existing(env: &Env, dir: &LogDir) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut is_synced = false;
    for entry in env.disk.list(&dir.path).await? {
        let path = dir.path.join(&entry.name);
        if !entry.is_dir || entry.name.starts_with("__cluster_metadata") {
            continue;
        }
        if entry.name.ends_with(DELETED_SUFFIX) {
            tracing::trace!(target: "klamm::probe", name = "unfinished-deletion-finished");
            if !is_synced {
                // A process that was killed may have left the new name unsynced.
                env.disk.sync_dir(&dir.path).await?;
                is_synced = true;
            }
            env.disk.remove_dir(&path).await?;
        } else if entry
            .name
            .rsplit_once('-')
            .is_some_and(|(_, n)| n.parse::<i32>().is_ok())
        {
            found.push((entry.name, path));
        }
    }
    Ok(found)
}
