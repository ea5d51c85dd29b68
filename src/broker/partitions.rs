//! The partitions this broker hosts: a table that readers look into without waiting, and the
//! shards that own what is in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::oneshot;

use super::metrics::TopicCounters;
use crate::config::TopicConfig;
use crate::log::{CleanEnd, Log, LogConfig};
use crate::replication::{
    Assignment, Closing, Command, PartitionView, Past, ShardHandle, Slot, WantedDurability,
};
use crate::types::{ErrorCode, LeaderEpoch, TopicId, TopicPartition};

/// One hosted partition.
#[derive(Clone)]
pub struct Hosted {
    pub topic_partition: TopicPartition,
    pub slot: Slot,
    pub shard: usize,
    pub view: Arc<PartitionView>,
    /// The partition's own directory.
    pub dir: PathBuf,
}

/// A topic with the partitions of it that are hosted here.
#[derive(Clone)]
pub struct HostedTopic {
    pub name: Arc<str>,
    pub id: TopicId,
    pub config: Arc<TopicConfig>,
    pub counters: Arc<TopicCounters>,
    /// It is a mirror that a link fills: no client writes to it.
    pub read_only: bool,
    pub partitions: BTreeMap<i32, Hosted>,
    /// Partitions that should be here but whose log cannot be used.
    pub offline: BTreeSet<i32>,
}

impl HostedTopic {
    /// The hosted partition, or what to tell who asks for it.
    pub fn find(&self, partition: i32) -> Result<&Hosted, ErrorCode> {
        match self.partitions.get(&partition) {
            Some(hosted) => Ok(hosted),
            None if self.offline.contains(&partition) => Err(ErrorCode::KafkaStorageError),
            None => Err(ErrorCode::UnknownTopicOrPartition),
        }
    }
}

/// An immutable picture of the table.
#[derive(Clone, Default)]
pub struct Table {
    by_name: HashMap<Arc<str>, Arc<HostedTopic>>,
    by_id: HashMap<TopicId, Arc<str>>,
}

impl Table {
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<HostedTopic>> {
        self.by_name.get(name)
    }

    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<HostedTopic>> {
        self.by_name.get(self.by_id.get(&id)?)
    }

    /// The hosted partition, or what to tell who asks for it.
    pub fn partition(&self, topic: &str, partition: i32) -> Result<&Hosted, ErrorCode> {
        self.topic(topic)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?
            .find(partition)
    }

    /// Every topic, by name.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<HostedTopic>> {
        let mut topics: Vec<_> = self.by_name.values().cloned().collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.by_name
            .values()
            .map(|topic| topic.partitions.len())
            .sum()
    }
}

/// The table and the shards behind it.
pub struct Partitions {
    table: RwLock<Arc<Table>>,
    shards: Vec<ShardHandle>,
    next_slot: AtomicU64,
}

impl Partitions {
    #[must_use]
    pub fn new(shards: Vec<ShardHandle>) -> Self {
        assert!(!shards.is_empty(), "a broker needs at least one shard");
        Self {
            table: RwLock::default(),
            shards,
            next_slot: AtomicU64::new(0),
        }
    }

    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    #[must_use]
    pub fn shards(&self) -> &[ShardHandle] {
        &self.shards
    }

    /// Which shard owns the partition of this slot.
    #[must_use]
    pub fn shard_of(&self, slot: Slot) -> usize {
        let count = u64::try_from(self.shards.len()).expect("a handful of shards");
        usize::try_from(slot % count).expect("less than the number of shards")
    }

    fn change(&self, change: impl FnOnce(&mut Table)) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut table));
    }

    /// Hands an open log to a shard. `None` when the shard has ended.
    pub async fn host(
        &self,
        topic_partition: TopicPartition,
        dir: PathBuf,
        log: Log,
        assignment: Arc<Assignment>,
        durability: WantedDurability,
        past: Past,
    ) -> Option<Hosted> {
        let slot = self.next_slot.fetch_add(1, Ordering::Relaxed);
        let shard = self.shard_of(slot);
        let (reply, view) = oneshot::channel();
        let log = Box::new(log);
        let command = Command::Host {
            slot,
            log,
            assignment,
            durability,
            past,
            reply,
        };
        self.shards[shard].send(command).await;
        let view = view.await.ok()?;
        Some(Hosted {
            topic_partition,
            slot,
            shard,
            view,
            dir,
        })
    }

    /// Makes hosted partitions of a topic visible.
    pub fn publish(
        &self,
        name: &Arc<str>,
        id: TopicId,
        (config, read_only): (Arc<TopicConfig>, bool),
        partitions: Vec<Hosted>,
        offline: &BTreeSet<i32>,
    ) {
        self.change(|table| {
            let mut topic = match table.by_name.get(name) {
                Some(topic) if topic.id == id => HostedTopic::clone(topic),
                _ => HostedTopic {
                    name: name.clone(),
                    id,
                    config: config.clone(),
                    counters: Arc::default(),
                    read_only,
                    partitions: BTreeMap::new(),
                    offline: BTreeSet::new(),
                },
            };
            topic.config = config;
            topic.read_only = read_only;
            let added = partitions
                .into_iter()
                .map(|p| (p.topic_partition.partition, p));
            topic.partitions.extend(added);
            let hosted = &topic.partitions;
            topic
                .offline
                .retain(|partition| !hosted.contains_key(partition));
            topic.offline.extend(offline);
            table.by_id.insert(id, name.clone());
            table.by_name.insert(name.clone(), Arc::new(topic));
        });
    }

    /// Takes a topic out of the table and lets go of its logs, which are to be removed; answers
    /// what was hosted of it.
    pub async fn remove(&self, name: &str) -> Option<Arc<HostedTopic>> {
        let mut removed = None;
        self.change(|table| {
            removed = table.by_name.remove(name);
            if let Some(topic) = &removed
                && !crate::mutant!("topic-id-outlives-its-topic")
            {
                table.by_id.remove(&topic.id);
            }
        });
        let topic = removed?;
        self.let_go(topic.partitions.values()).await;
        Some(topic)
    }

    /// Takes the log of a partition away, which stays in the table as one that is offline, and
    /// closes it; answers what was hosted of it.
    pub async fn take_offline(&self, id: TopicId, partition: i32) -> Option<Hosted> {
        let mut taken = None;
        self.change(|table| {
            let Some(name) = table.by_id.get(&id).cloned() else {
                return;
            };
            let topic = table.by_name.get_mut(&name);
            let Some(topic) = topic.filter(|topic| topic.id == id) else {
                return;
            };
            let mut copy = HostedTopic::clone(topic);
            taken = copy.partitions.remove(&partition);
            if taken.is_some() {
                copy.offline.insert(partition);
                *topic = Arc::new(copy);
            }
        });
        let taken = taken?;
        self.close(&taken).await;
        Some(taken)
    }

    /// Takes partitions out of the table and lets go of their logs, which are to be removed;
    /// answers what was hosted of them.
    pub async fn take(&self, id: TopicId, partitions: &BTreeSet<i32>) -> Vec<Hosted> {
        let mut taken = Vec::new();
        self.change(|table| {
            let Some(name) = table.by_id.get(&id).cloned() else {
                return;
            };
            let Some(topic) = table.by_name.get(&name).filter(|topic| topic.id == id) else {
                return;
            };
            let mut copy = HostedTopic::clone(topic);
            for partition in partitions {
                taken.extend(copy.partitions.remove(partition));
                copy.offline.remove(partition);
            }
            if copy.partitions.is_empty() && copy.offline.is_empty() {
                table.by_name.remove(&name);
                table.by_id.remove(&id);
            } else {
                table.by_name.insert(name, Arc::new(copy));
            }
        });
        self.let_go(taken.iter()).await;
        taken
    }

    /// A read found damage while this broker led the partition in `leader_epoch`.
    pub fn damaged(&self, hosted: &Hosted, leader_epoch: LeaderEpoch) {
        let slot = hosted.slot;
        self.shards[hosted.shard].submit(Command::Damaged { slot, leader_epoch });
    }

    /// Closes the log of a partition after its writes have ended.
    pub async fn close(&self, hosted: &Hosted) -> Option<CleanEnd> {
        self.end(hosted, false).await
    }

    /// Has done with logs after their writes have ended, as their files go next.
    async fn let_go(&self, doomed: impl Iterator<Item = &Hosted>) {
        let mut closing = Vec::with_capacity(doomed.size_hint().0);
        for hosted in doomed {
            closing.push(self.end(hosted, true));
        }
        futures_util::future::join_all(closing).await;
    }

    async fn end(&self, hosted: &Hosted, is_doomed: bool) -> Option<CleanEnd> {
        let (reply, end) = oneshot::channel();
        let slot = hosted.slot;
        let closing = Closing { is_doomed, reply };
        let command = Command::Close { slot, closing };
        self.shards[hosted.shard].send(command).await;
        end.await.ok().flatten()
    }

    /// Whether clients may write to a topic.
    pub fn set_read_only(&self, id: TopicId, read_only: bool) {
        self.change(|table| {
            let name = table.by_id.get(&id).cloned();
            if let Some(topic) = name.and_then(|name| table.by_name.get_mut(&name))
                && topic.read_only != read_only
            {
                let mut copy = HostedTopic::clone(topic);
                copy.read_only = read_only;
                *topic = Arc::new(copy);
            }
        });
    }

    /// Applies a changed topic configuration, and what it comes to for each partition's log.
    pub async fn configure(
        &self,
        name: &str,
        config: Arc<TopicConfig>,
        log_config: impl Fn(i32) -> LogConfig,
        durability: WantedDurability,
    ) {
        let mut changed = None;
        self.change(|table| {
            if let Some(topic) = table.by_name.get_mut(name) {
                let mut copy = HostedTopic::clone(topic);
                copy.config = config;
                *topic = Arc::new(copy);
                changed = Some(topic.clone());
            }
        });
        let Some(topic) = changed else { return };
        for hosted in topic.partitions.values() {
            let config = Box::new(log_config(hosted.topic_partition.partition));
            let command = Command::Configure {
                slot: hosted.slot,
                config,
                durability,
            };
            self.shards[hosted.shard].send(command).await;
        }
    }
}
