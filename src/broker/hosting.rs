//! Carries changes of the metadata into the partitions hosted here: logs are made, opened,
//! configured and removed; their owners are told who leads; copying starts and ends; coordinators
//! are loaded and unloaded.
//!
//! **Promises.** A log is removed only when committed metadata says that its topic (by id) is gone
//! or that this broker is not among its replicas. What the metadata merely does not name is set
//! aside. A log that was here and is missed is never replaced by an empty one while anybody counts
//! on what was in it.

mod dirs;
mod opening;
mod removing;
mod roles;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use super::clean_shutdown::Ends;
use super::high_watermarks::HighWatermarks;
use super::hosted_register::{Entry, HostedRegister};
use super::log_dir::LogDir;
use super::mirror::Mirrors;
use super::partitions::{Hosted, HostedTopic};
use super::replica_fetcher::{Move, ReplicaFetchers};
use super::{Broker, topics};
use crate::config::TopicConfig;
use crate::controller::{
    ClusterImage, ConfigResource, ImageDelta, MirrorImage, ResourceType, TopicDelta, TopicImage,
};
use crate::replication::{UnusableLog, Useless};
use crate::types::{BrokerId, LeaderEpoch, TopicId, TopicPartition};

use dirs::{existing, remove_logs, set_aside, set_damaged_aside};
use opening::{Plan, SharedRegister, Wanted, may_copy_anew, may_repair, open};
use removing::Removing;
pub use roles::assignment;

/// Logs that are opened at once: one may have much to look through, and memory for that.
const OPENING_MAX: usize = 16;

/// Logs that are made at once: what that waits for is the disk, which makes all that waits durable
/// by few writes.
const MAKING_MAX: usize = 64;

/// A topic, and those of its partitions that are to be hosted.
type Fresh = (Arc<TopicImage>, BTreeSet<i32>);

/// What came of opening the logs of a topic.
struct OpenedTopic {
    topic: Arc<TopicImage>,
    config: Arc<TopicConfig>,
    opened: Vec<Hosted>,
    offline: BTreeSet<i32>,
}

impl OpenedTopic {
    fn new(topic: Arc<TopicImage>, config: Arc<TopicConfig>) -> Self {
        Self {
            topic,
            config,
            opened: Vec::new(),
            offline: BTreeSet::new(),
        }
    }
}

/// What the owner of the hosted partitions keeps between changes.
pub struct Hosting {
    broker: Arc<Broker>,
    /// Shared by the logs that are opened side by side.
    register: SharedRegister,
    /// Directories of partitions that were found at the start and not opened yet.
    found: BTreeMap<String, PathBuf>,
    /// Directories of logs that are gone.
    removing: Arc<Removing>,
    /// Of those found, and of none, the logs that cannot be used.
    unusable: BTreeMap<Entry, Option<PathBuf>>,
    /// How logs ended, from the clean-shutdown markers.
    ends: Ends,
    /// From the checkpoints.
    high_watermarks: HighWatermarks,
    fetchers: ReplicaFetchers,
    mirrors: Mirrors,
    /// Partitions of the offsets topic whose groups were loaded here, with the epoch of that.
    coordinating: BTreeMap<i32, LeaderEpoch>,
}

impl Hosting {
    pub async fn new(
        broker: Arc<Broker>,
        image: &ClusterImage,
        ends: Ends,
        high_watermarks: HighWatermarks,
    ) -> std::io::Result<Self> {
        let env = &broker.env;
        let removing = Arc::new(Removing::default());
        let mut found = BTreeMap::new();
        for dir in &broker.log_dirs {
            for (name, path) in existing(env, &removing, dir).await? {
                found.insert(name, path);
            }
        }
        let known = hosted_entries(image, broker.config.node_id);
        let any_log = !found.is_empty();
        let register =
            HostedRegister::open(env.disk.clone(), &broker.log_dirs[0].path, &known, any_log)
                .await?;
        Ok(Self {
            fetchers: ReplicaFetchers::new(broker.clone()),
            mirrors: Mirrors::new(broker.clone()),
            broker,
            register: tokio::sync::Mutex::new(register),
            found,
            removing,
            unusable: BTreeMap::new(),
            ends,
            high_watermarks,
            coordinating: BTreeMap::new(),
        })
    }

    /// Hosts everything the image gives to this broker. Called once, before any change, with an
    /// image that has everything up to this broker's registration.
    pub async fn host_all(&mut self, image: &ClusterImage) {
        self.tell_eligible(image).await;
        let moves = self.host(image, image.topics().map(whole).collect()).await;
        self.fetchers.apply(image, moves);
        self.mirrors.apply(image);
        if image.cluster_id().is_some() {
            for path in std::mem::take(&mut self.found).into_values() {
                set_aside(&self.broker, &path).await;
            }
        }
        self.high_watermarks.clear();
    }

    /// Carries out one change.
    pub async fn apply(&mut self, image: &ClusterImage, delta: &ImageDelta) {
        if !delta.brokers.is_empty() {
            self.tell_eligible(image).await;
            self.fetchers.follow_addresses(image);
        }
        // Before the owners hear of the leader epochs in which clients write.
        self.configure_mirrors(image, delta).await;
        let mut moves = Vec::new();
        let mut fresh = Vec::new();
        for (id, change) in deletions_first(&delta.topics) {
            match change {
                TopicDelta::Deleted { name, partitions } => {
                    let gone = (0..).take(*partitions).map(|partition| Move {
                        key: (*id, partition),
                        to: None,
                    });
                    moves.extend(gone);
                    self.remove(name, *id).await;
                }
                TopicDelta::Created => {
                    fresh.extend(image.topic_by_id(*id).map(whole));
                }
                TopicDelta::Changed(changes) => {
                    if let Some(topic) = image.topic_by_id(*id).cloned() {
                        let mut partitions = changes.created.clone();
                        let given = self
                            .reassign((image, &topic), &changes.changed, &mut moves)
                            .await;
                        partitions.extend(given);
                        fresh.push((topic, partitions));
                    }
                }
            }
        }
        moves.extend(self.host(image, fresh).await);
        if !delta.brokers.is_empty() {
            self.resign_all_offline(image);
        }
        self.fetchers.apply(image, moves);
        self.apply_configs(image, delta).await;
        self.open_to_clients(image, delta);
        if Mirrors::are_touched(image, delta) {
            self.mirrors.apply(image);
        }
    }

    async fn configure_mirrors(&mut self, image: &ClusterImage, delta: &ImageDelta) {
        let mirrors = delta.mirrors.iter();
        for topic in mirrors.filter_map(|id| image.topic_by_id(*id)) {
            self.configure(image, &topic.name).await;
        }
    }

    /// Lets clients write to mirrors that were promoted. The owners of their logs have been told
    /// the new leader epochs: what was still being copied is refused before the first such write.
    fn open_to_clients(&self, image: &ClusterImage, delta: &ImageDelta) {
        for id in &delta.mirrors {
            let read_only = is_read_only(image, *id);
            self.broker.partitions.set_read_only(*id, read_only);
        }
    }

    async fn apply_configs(&mut self, image: &ClusterImage, delta: &ImageDelta) {
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

    /// Whether the log of a partition that is offline may be replaced by a copy of its leader's.
    fn may_be_repaired(&self, topic: &TopicImage, partition: i32) -> bool {
        if !self.unusable.contains_key(&(topic.id, partition)) {
            return false;
        }
        let table = self.broker.partitions.table();
        let Some(known) = table.topic_by_id(topic.id) else {
            return false;
        };
        let only = BTreeSet::from([partition]);
        let wanted = self.wanted(topic, &only, (&known.config, None));
        let me = self.broker.config.node_id;
        wanted.iter().any(|wanted| may_repair(me, wanted))
    }

    /// Takes away the log of a follower that cannot be used, and begins another one, which is
    /// copied from its leader: as at a start of the process, where nobody counts on what is in it.
    /// That is judged by the metadata in which the log's owner knew that its leader does not; with
    /// any other it asks again.
    pub async fn copy_anew(&mut self, image: &ClusterImage, unusable: UnusableLog) {
        let key = (unusable.topic_id, unusable.partition);
        let Some(topic) = image.topic_by_id(key.0).cloned() else {
            return;
        };
        let table = self.broker.partitions.table();
        let Some(known) = table.topic_by_id(key.0).cloned() else {
            return;
        };
        let only = BTreeSet::from([key.1]);
        let me = self.broker.config.node_id;
        let is_safe = |wanted: &Wanted| match unusable.why {
            Useless::Damaged => may_repair(me, wanted),
            Useless::Foreign => may_copy_anew(me, &wanted.state),
        };
        let may = self
            .wanted(&topic, &only, (&known.config, None))
            .iter()
            .any(|it| it.state.leader_epoch == unusable.leader_epoch && is_safe(it));
        let hosted = known.partitions.get(&key.1);
        if !may || hosted.is_none_or(|hosted| hosted.slot != unusable.slot) {
            return;
        }
        let Some(hosted) = self.broker.partitions.take_offline(key.0, key.1).await else {
            return;
        };
        if let Err(error) = self.make_way(&hosted, unusable).await {
            let partition = &hosted.topic_partition;
            tracing::error!(%partition, %error, "the log that is to go cannot be taken away");
            // It may have lost its name before that failed.
            let listed = self.broker.env.disk.list(&hosted.dir).await;
            if !listed.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                self.unusable.insert(key, Some(hosted.dir.clone()));
            }
        }
        let moves = self.host(image, vec![(topic, only)]).await;
        self.fetchers.apply(image, moves);
    }

    /// Frees the name of a closed log: what may be read of a damaged one is kept.
    async fn make_way(&self, hosted: &Hosted, unusable: UnusableLog) -> std::io::Result<()> {
        let partition = &hosted.topic_partition;
        match (unusable.why, hosted.dir.parent()) {
            (Useless::Foreign, Some(above)) => {
                tracing::trace!(target: "klamm::probe", name = "foreign-log-copied-anew");
                tracing::warn!(
                    %partition,
                    "nothing in this log is in its leader's, which was elected without all that \
                     was committed: it is removed, and copied anew"
                );
                let doomed = [hosted.dir.as_path()];
                remove_logs(&self.broker, &self.removing, above, &doomed).await
            }
            _ => {
                tracing::trace!(target: "klamm::probe", name = "unusable-log-copied-anew");
                tracing::error!(
                    %partition, "a log that cannot be cut for damage in it is copied anew"
                );
                set_damaged_aside(&self.broker, &hosted.dir).await
            }
        }
    }

    /// Opens those of the partitions that are this broker's, of all topics side by side; answers
    /// how they are copied.
    async fn host(&mut self, image: &ClusterImage, fresh: Vec<Fresh>) -> Vec<Move> {
        let mut topics = BTreeMap::new();
        let mut plans = Vec::new();
        let mut load = self.load();
        for (topic, partitions) in fresh {
            if topic.name.as_ref() == crate::group::TOPIC {
                let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                self.broker.groups.set_partitions(count);
            }
            let config = Arc::new(self.topic_config(image, &topic.name));
            let mirror = image.mirror(topic.id);
            for wanted in self.wanted(&topic, &partitions, (&config, mirror)) {
                plans.push(self.plan(wanted, &mut load));
                let opened = topics.entry(topic.id);
                opened.or_insert_with(|| OpenedTopic::new(topic.clone(), config.clone()));
            }
        }
        self.open_all(plans, &mut topics).await;
        self.enter(&topics).await;
        let mut moves = Vec::new();
        for (id, mut it) in topics {
            let (partitions, read_only) = (&self.broker.partitions, is_read_only(image, id));
            let (topic, opened) = (&it.topic, it.opened.clone());
            let config = (it.config, read_only);
            partitions.publish(&topic.name, id, config, opened, &it.offline);
            for partition in it.offline {
                self.resign_offline(image, topic, partition);
            }
            it.opened
                .sort_by_key(|hosted| hosted.topic_partition.partition);
            for hosted in &it.opened {
                moves.extend(self.take_role(topic, hosted).await);
            }
        }
        moves
    }

    /// Carries out all plans, several at a time.
    async fn open_all(&mut self, plans: Vec<Plan>, topics: &mut BTreeMap<TopicId, OpenedTopic>) {
        self.note_lost(&plans).await;
        let dirs: BTreeMap<Entry, Option<PathBuf>> = plans.iter().map(Plan::found).collect();
        let side_by_side = match plans.iter().any(|plan| plan.exists) {
            true => OPENING_MAX,
            false => MAKING_MAX,
        };
        let register = &self.register;
        let mut opening = stream::iter(plans)
            .map(|plan| open(self.broker.clone(), register, plan))
            .buffer_unordered(side_by_side);
        while let Some((entry, result)) = opening.next().await {
            let Some(of) = topics.get_mut(&entry.0) else {
                continue;
            };
            match result {
                Ok(hosted) => of.opened.push(hosted),
                Err(error) => {
                    let (topic, partition) = (&of.topic.name, entry.1);
                    tracing::trace!(target: "klamm::probe", name = "partition-offline");
                    tracing::error!(%topic, partition, %error, "the partition stays offline");
                    let dir = dirs.get(&entry).cloned().flatten();
                    self.unusable.insert(entry, dir);
                    of.offline.insert(partition);
                }
            }
        }
    }

    /// Enters at once which of the logs that are here no more are to be made anew: what that
    /// fails on fails again where each of them is.
    async fn note_lost(&mut self, plans: &[Plan]) {
        let me = self.broker.config.node_id;
        let lost = plans.iter().filter(|plan| plan.is_to_be_made_anew(me));
        let lost = lost.map(Plan::entry).collect();
        if let Err(error) = self.register.get_mut().make_anew(&lost).await {
            tracing::warn!(%error, "the register of hosted partitions cannot be written");
        }
    }

    fn wanted(
        &self,
        topic: &TopicImage,
        partitions: &BTreeSet<i32>,
        (config, mirror): (&Arc<TopicConfig>, Option<&Arc<MirrorImage>>),
    ) -> Vec<Wanted> {
        let me = self.broker.config.node_id;
        let wanted = partitions.iter().filter_map(|partition| {
            let state = topic.partition(*partition)?.clone();
            state.replicas.contains(&me).then(|| Wanted {
                topic_partition: TopicPartition::new(topic.name.clone(), *partition),
                topic_id: topic.id,
                state,
                config: config.clone(),
                mirror: mirror.cloned(),
            })
        });
        wanted.collect()
    }

    /// Enters the partitions that were opened into the register.
    async fn enter(&mut self, topics: &BTreeMap<TopicId, OpenedTopic>) {
        let mut entries = BTreeSet::new();
        for (id, topic) in topics {
            let opened = topic.opened.iter();
            entries.extend(opened.map(|hosted| (*id, hosted.topic_partition.partition)));
        }
        if let Err(error) = self.register.get_mut().enter(&entries).await {
            // The logs exist; should they be lost before the next start, that would go unnoticed.
            tracing::error!(%error, "hosted partitions could not be registered");
        }
    }

    fn plan(&mut self, wanted: Wanted, load: &mut [usize]) -> Plan {
        let name = wanted.topic_partition.to_string();
        let entry = (wanted.topic_id, wanted.topic_partition.partition);
        let unusable = self.unusable.remove(&entry).flatten();
        let found = self.found.remove(&name).or(unusable);
        let register = self.register.get_mut();
        let (registered, is_made) = (register.contains(entry), register.is_made(entry));
        let (dir, exists) = match found {
            Some(dir) => (dir, true),
            None => (self.roomiest(load).join(&name), false),
        };
        Plan {
            wanted,
            dir,
            exists,
            registered,
            is_made,
            clean: self.ends.remove(&name),
            high_watermark: self.high_watermarks.remove(&entry).filter(|_| exists),
        }
    }

    /// How many partitions each data directory holds.
    fn load(&self) -> Vec<usize> {
        let dirs = &self.broker.log_dirs;
        if let [_] = dirs.as_slice() {
            return vec![0];
        }
        let topics = self.broker.partitions.table().topics();
        let load = |dir: &LogDir| {
            let partitions = topics.iter().flat_map(|topic| topic.partitions.values());
            partitions
                .filter(|hosted| hosted.dir.starts_with(&dir.path))
                .count()
        };
        dirs.iter().map(load).collect()
    }

    /// The data directory with the fewest partitions, which now has one more.
    fn roomiest(&self, load: &mut [usize]) -> PathBuf {
        let dirs = self.broker.log_dirs.iter().zip(load);
        let fewest = dirs.min_by_key(|(_, load)| **load);
        fewest.map_or_else(PathBuf::new, |(dir, load)| {
            *load += 1;
            dir.path.clone()
        })
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

    async fn configure(&mut self, image: &ClusterImage, name: &str) {
        let Some(hosted) = self.broker.partitions.table().topic(name).cloned() else {
            return;
        };
        let config = Arc::new(self.topic_config(image, name));
        let mirror = image.mirror(hosted.id);
        let log_config = |partition| {
            let mirror = mirror.map(|mirror| &**mirror);
            topics::partition_log_config(&self.broker.config, &config, mirror, partition)
        };
        let durability = topics::durability(&config);
        let is_min_changed = hosted.config.min_insync_replicas != config.min_insync_replicas;
        self.broker
            .partitions
            .configure(name, config.clone(), log_config, durability)
            .await;
        if is_min_changed && let Some(topic) = image.topic_by_id(hosted.id) {
            let all = hosted.partitions.keys().copied().collect();
            self.assign(topic, &all).await;
        }
    }

    async fn remove(&mut self, name: &str, id: TopicId) {
        let table = self.broker.partitions.table();
        let is_meant =
            |topic: &Arc<HostedTopic>| topic.id == id || crate::mutant!("removal-by-topic-name");
        if !table.topic(name).is_some_and(is_meant) {
            return;
        }
        let Some(topic) = self.broker.partitions.remove(name).await else {
            return;
        };
        if name == crate::group::TOPIC {
            for (partition, epoch) in std::mem::take(&mut self.coordinating) {
                self.broker.groups.unload(partition, epoch).await;
            }
        }
        self.remove_dirs(name, topic.partitions.values()).await;
        // What could not be opened may be damaged, or another topic's: it is kept, out of the way.
        for partition in &topic.offline {
            self.unusable.remove(&(id, *partition));
            self.set_aside_partition(name, *partition).await;
        }
        self.forget_offsets(name).await;
    }

    /// Takes away the offsets that groups committed for a topic that is gone. A node by itself has
    /// then done all that a deletion asks for. Among others it must not wait: a coordinator that
    /// was replaced, and is yet to be told so by whoever waits here, gets no copies of what it
    /// writes.
    async fn forget_offsets(&self, name: &str) {
        let (groups, topic) = (self.broker.groups.clone(), name.to_owned());
        let forget = async move {
            let names = vec![crate::wire::Str::from(topic.as_str())];
            if let Err(code) = groups.topics_deleted(names).await {
                tracing::warn!(%topic, %code, "offsets committed for it may be left");
            }
        };
        let waits_for_copies =
            self.broker.cluster.is_some() && !crate::mutant!("hosting-waits-for-copies");
        match waits_for_copies {
            true => {
                let env = &self.broker.env;
                env.spawn("forget-offsets", forget).detach();
            }
            false => forget.await,
        }
    }
}

/// A topic with all its partitions.
fn whole(topic: &Arc<TopicImage>) -> Fresh {
    (topic.clone(), (0..).take(topic.partitions.len()).collect())
}

/// Where one change deletes a topic and makes another of the same name (of an image that was missed
/// for a while, or came as a snapshot), the old logs must be gone before the new ones are made.
fn deletions_first(
    topics: &BTreeMap<TopicId, TopicDelta>,
) -> impl Iterator<Item = (&TopicId, &TopicDelta)> {
    let is_deleted = |(_, change): &(&TopicId, &TopicDelta)| {
        matches!(change, TopicDelta::Deleted { .. }) && !crate::mutant!("removal-by-topic-name")
    };
    let (deleted, others): (Vec<_>, Vec<_>) = topics.iter().partition(is_deleted);
    deleted.into_iter().chain(others)
}

/// Whether a link alone writes to the topic.
fn is_read_only(image: &ClusterImage, topic: TopicId) -> bool {
    let mirror = image.mirror(topic);
    mirror.is_some_and(|mirror| mirror.topic.is_read_only())
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

#[cfg(test)]
mod tests;
