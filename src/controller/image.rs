//! The state of the cluster at one point of its metadata log.
//!
//! An image is what replaying the records up to [`ClusterImage::end`] gives, and nothing else makes
//! one: two nodes with the same end have equal images. It never changes once published; the next
//! one shares with it what stayed the same.

mod mirrors;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::delta::{ImageDelta, TopicDelta};
use super::record::{
    BrokerRecord, ConfigResource, MetadataRecord, PartitionEvent, PartitionRecord, PartitionState,
    ResourceType,
};
use super::sorted::SortedMap;
use super::topic_name::collision_key;
use crate::config::BrokerDefaults;
use crate::types::{BrokerEpoch, BrokerId, Offset, ProducerId, Timestamp, TopicId, Uuid};

pub use mirrors::MirrorImage;
use mirrors::Mirrors;

/// The state of the cluster. Cheap to clone.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterImage {
    end: Offset,
    cluster_id: Option<Uuid>,
    features: Arc<BTreeMap<String, i16>>,
    brokers: Arc<BTreeMap<BrokerId, BrokerRecord>>,
    last_broker_epoch: BrokerEpoch,
    next_producer_id: ProducerId,
    topics: SortedMap<Arc<str>, Arc<TopicImage>>,
    names: SortedMap<TopicId, Arc<str>>,
    /// Names with `.` or `_`, by what two names must not share.
    collisions: SortedMap<String, Arc<str>>,
    configs: SortedMap<ConfigResource, Arc<BTreeMap<String, String>>>,
    partitions: usize,
    mirrors: Mirrors,
}

/// A topic and its partitions, by index.
#[derive(Clone, PartialEq, Debug)]
pub struct TopicImage {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partitions: Vec<Arc<PartitionState>>,
    /// By partition, the last changes that led to its state; at most [`HISTORY_MAX`] of each.
    histories: Vec<Arc<[PartitionEvent]>>,
}

/// Most changes of a partition that are remembered.
pub const HISTORY_MAX: usize = 10;

/// Records that do not fit the state they are replayed on: the metadata is damaged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("metadata up to offset {end} does not fit together: {reason}")]
pub struct ReplayError {
    pub end: Offset,
    pub reason: String,
}

impl Default for ClusterImage {
    fn default() -> Self {
        Self {
            end: Offset::ZERO,
            cluster_id: None,
            features: Arc::default(),
            brokers: Arc::default(),
            last_broker_epoch: BrokerEpoch(0),
            next_producer_id: ProducerId(0),
            topics: SortedMap::default(),
            names: SortedMap::default(),
            collisions: SortedMap::default(),
            configs: SortedMap::default(),
            partitions: 0,
            mirrors: Mirrors::default(),
        }
    }
}

/// Reading.
impl ClusterImage {
    /// The metadata offset after the last record this image has seen.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// `None` before the cluster is founded.
    #[must_use]
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.cluster_id
    }

    /// Levels of the features the cluster runs at.
    #[must_use]
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// By ascending id.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerRecord> {
        self.brokers.values()
    }

    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&BrokerRecord> {
        self.brokers.get(&id)
    }

    /// Brokers that may lead and be offered to clients, by ascending id.
    pub fn alive(&self) -> impl Iterator<Item = BrokerId> {
        let usable = self.brokers.values().filter(|broker| broker.is_alive());
        usable.map(|broker| broker.id)
    }

    #[must_use]
    pub fn last_broker_epoch(&self) -> BrokerEpoch {
        self.last_broker_epoch
    }

    /// No producer id from this one on was given out.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// By name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.count()
    }

    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.names.get(&id)?)
    }

    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Arc<PartitionState>> {
        self.topic(topic)?.partition(partition)
    }

    /// Another topic that `name` would collide with: one that differs only in `.` and `_`.
    #[must_use]
    pub fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        self.collisions
            .get(&collision_key(name))
            .filter(|other| ***other != *name)
    }

    /// What administrators set for `resource`; empty if nothing.
    #[must_use]
    pub fn config(&self, resource: &ConfigResource) -> Arc<BTreeMap<String, String>> {
        self.configs.get(resource).cloned().unwrap_or_default()
    }

    /// What a topic sets itself.
    #[must_use]
    pub fn topic_overrides(&self, name: &str) -> Arc<BTreeMap<String, String>> {
        self.config(&ConfigResource::topic(name))
    }

    /// Everything that has settings of its own.
    pub fn configured(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.iter().map(|(resource, _)| resource)
    }

    /// The settings of broker `id`, whose own start gave it `defaults`, with what administrators
    /// changed since.
    #[must_use]
    pub fn broker_defaults(&self, defaults: &BrokerDefaults, id: BrokerId) -> BrokerDefaults {
        defaults.with_dynamic(
            self.config(&ConfigResource::all_brokers()),
            self.config(&ConfigResource::broker(id)),
        )
    }

    /// Records that replayed on an empty image give this one.
    #[must_use]
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::with_capacity(self.partitions + 2 * self.topics.count() + 8);
        records.extend(
            self.cluster_id
                .map(|cluster_id| MetadataRecord::Cluster { cluster_id }),
        );
        for (name, level) in self.features.iter() {
            let (name, level) = (name.clone(), *level);
            records.push(MetadataRecord::Feature { name, level });
        }
        records.extend(self.brokers.values().cloned().map(MetadataRecord::Broker));
        records.push(MetadataRecord::BrokerEpochs {
            last: self.last_broker_epoch,
        });
        records.push(MetadataRecord::ProducerIds {
            next: self.next_producer_id,
            broker: BrokerId(-1),
        });
        records.extend(self.link_records());
        for topic in self.topics() {
            records.push(MetadataRecord::Topic {
                id: topic.id,
                name: topic.name.to_string(),
            });
            for (partition, state) in (0..).zip(&topic.partitions) {
                let history = topic.history(partition).to_vec();
                records.push(MetadataRecord::Partition(PartitionRecord {
                    topic_id: topic.id,
                    partition,
                    state: PartitionState::clone(state),
                    at: history.last().map_or(Timestamp(-1), |event| event.at),
                    by: history.last().and_then(|event| event.by),
                    history,
                }));
            }
        }
        for (resource, values) in self.configs.iter() {
            for (name, value) in values.iter() {
                records.push(MetadataRecord::Config {
                    resource: resource.clone(),
                    name: name.clone(),
                    value: Some(value.clone()),
                });
            }
        }
        records.extend(self.mirror_records());
        records
    }
}

impl TopicImage {
    #[must_use]
    pub fn partition(&self, partition: i32) -> Option<&Arc<PartitionState>> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    /// The last changes of a partition, oldest first: the chain of causes of its state. Empty if
    /// there is no such partition.
    #[must_use]
    pub fn history(&self, partition: i32) -> &[PartitionEvent] {
        let at = usize::try_from(partition).ok();
        at.and_then(|at| self.histories.get(at))
            .map_or(&[], |history| history)
    }

    /// Takes over what `record`, which takes effect at `end`, says of partition number `at`.
    fn take_over(&mut self, at: usize, record: &PartitionRecord, end: Offset) {
        let state = Arc::new(record.state.clone());
        let history: Arc<[PartitionEvent]> = match record.history.is_empty() {
            false => Arc::from(record.history.as_slice()),
            true => {
                let before = self.histories.get(at).map_or(&[][..], |history| history);
                let first = (before.len() + 1).saturating_sub(HISTORY_MAX);
                let event = PartitionEvent {
                    end,
                    at: record.at,
                    by: record.by,
                    state: state.clone(),
                };
                before[first..].iter().cloned().chain([event]).collect()
            }
        };
        match at < self.partitions.len() {
            true => {
                self.partitions[at] = state;
                self.histories[at] = history;
            }
            false => {
                self.partitions.push(state);
                self.histories.push(history);
            }
        }
    }
}

/// Replaying.
impl ClusterImage {
    /// The image after `records`, which end at `end`, and what they changed.
    pub fn replay(
        &self,
        end: Offset,
        records: &[MetadataRecord],
    ) -> Result<(Self, ImageDelta), ReplayError> {
        let mut next = self.clone();
        let mut delta = ImageDelta::default();
        for record in records {
            next.replay_one(record, end, &mut delta)
                .map_err(|reason| ReplayError { end, reason })?;
        }
        if end < self.end {
            let reason = format!("the state already covers offset {}", self.end);
            return Err(ReplayError { end, reason });
        }
        next.end = end;
        Ok((next, delta))
    }

    /// The image that a snapshot holds.
    pub fn from_snapshot(end: Offset, records: &[MetadataRecord]) -> Result<Self, ReplayError> {
        Ok(Self::default().replay(end, records)?.0)
    }

    fn replay_one(
        &mut self,
        record: &MetadataRecord,
        end: Offset,
        delta: &mut ImageDelta,
    ) -> Result<(), String> {
        match record {
            MetadataRecord::Cluster { cluster_id } => {
                if let Some(known) = self.cluster_id {
                    return Err(format!("cluster {known} is founded again as {cluster_id}"));
                }
                self.cluster_id = Some(*cluster_id);
                delta.cluster = true;
            }
            MetadataRecord::Feature { name, level } => {
                let features = Arc::make_mut(&mut self.features);
                match level {
                    0 => features.remove(name),
                    level => features.insert(name.clone(), *level),
                };
                delta.cluster = true;
            }
            MetadataRecord::Broker(broker) => self.replay_broker(broker, delta)?,
            MetadataRecord::BrokerRemoved { id, epoch } => {
                let known = Arc::make_mut(&mut self.brokers).remove(id);
                if known.is_none_or(|broker| broker.epoch != *epoch) {
                    return Err(format!(
                        "broker {id} with epoch {} is removed unknown",
                        epoch.0
                    ));
                }
                delta.brokers.insert(*id);
            }
            MetadataRecord::BrokerEpochs { last } => {
                self.last_broker_epoch = self.last_broker_epoch.max(*last);
            }
            MetadataRecord::Topic { id, name } => self.replay_topic(*id, name, delta)?,
            MetadataRecord::Partition(record) => self.replay_partition(record, end, delta)?,
            MetadataRecord::PartitionChange(record) => self.replay_change(record, end, delta)?,
            MetadataRecord::TopicRemoved { id } => self.replay_removal(*id, delta)?,
            MetadataRecord::Config {
                resource,
                name,
                value,
            } => self.replay_config(resource, name, value.as_deref(), delta),
            MetadataRecord::ProducerIds { next, .. } => {
                if *next < self.next_producer_id {
                    return Err(format!("producer ids go back to {}", next.0));
                }
                self.next_producer_id = *next;
            }
            MetadataRecord::Link(link) => self.replay_link(link, delta)?,
            MetadataRecord::LinkRemoved { id } => self.replay_link_removal(*id, delta)?,
            MetadataRecord::MirrorTopic { topic_id, mirror } => {
                self.replay_mirror(*topic_id, mirror, delta)?;
            }
            MetadataRecord::MirrorPartition {
                topic_id,
                partition,
                state,
            } => self.replay_mirror_partition(*topic_id, *partition, state, delta)?,
        }
        Ok(())
    }

    fn replay_broker(
        &mut self,
        broker: &BrokerRecord,
        delta: &mut ImageDelta,
    ) -> Result<(), String> {
        let known = self.brokers.get(&broker.id);
        let is_change = known.is_some_and(|known| known.epoch == broker.epoch);
        // In a snapshot brokers come by id, so epochs ascend per broker, not over all.
        if !is_change && known.is_some_and(|known| known.epoch > broker.epoch) {
            return Err(format!("the epoch of broker {} goes back", broker.id));
        }
        self.last_broker_epoch = self.last_broker_epoch.max(broker.epoch);
        Arc::make_mut(&mut self.brokers).insert(broker.id, broker.clone());
        delta.brokers.insert(broker.id);
        Ok(())
    }

    fn replay_topic(
        &mut self,
        id: TopicId,
        name: &str,
        delta: &mut ImageDelta,
    ) -> Result<(), String> {
        if id.is_zero() || self.names.get(&id).is_some() {
            return Err(format!("topic id {id} of '{name}' is zero or in use"));
        }
        let name: Arc<str> = Arc::from(name);
        let topic = TopicImage {
            id,
            name: name.clone(),
            partitions: Vec::new(),
            histories: Vec::new(),
        };
        if self.topics.insert(name.clone(), Arc::new(topic)).is_some() {
            return Err(format!("topic '{name}' is created twice"));
        }
        if name.contains(['.', '_']) {
            self.collisions.insert(collision_key(&name), name.clone());
        }
        self.names.insert(id, name);
        delta.topics.insert(id, TopicDelta::Created);
        Ok(())
    }

    /// A topic taken out of the image, so that it is not copied while it changes; it must be put
    /// back under its name.
    fn take(&mut self, id: TopicId) -> Result<Arc<TopicImage>, String> {
        let unknown = || format!("topic id {id} is unknown");
        let name = self.names.get(&id).ok_or_else(unknown)?.clone();
        self.topics.remove(&*name).ok_or_else(unknown)
    }

    fn replay_partition(
        &mut self,
        record: &PartitionRecord,
        end: Offset,
        delta: &mut ImageDelta,
    ) -> Result<(), String> {
        let mut topic = self.take(record.topic_id)?;
        let name = topic.name.clone();
        let count = topic.partitions.len();
        if usize::try_from(record.partition) != Ok(count) {
            let partition = record.partition;
            return Err(format!(
                "partition {partition} of '{name}' comes after {count} others"
            ));
        }
        Arc::make_mut(&mut topic).take_over(count, record, end);
        self.topics.insert(name, topic);
        self.partitions += 1;
        delta.partition(record.topic_id, record.partition, true);
        Ok(())
    }

    fn replay_change(
        &mut self,
        record: &PartitionRecord,
        end: Offset,
        delta: &mut ImageDelta,
    ) -> Result<(), String> {
        let mut topic = self.take(record.topic_id)?;
        let (name, partition) = (topic.name.clone(), record.partition);
        let known = usize::try_from(partition)
            .ok()
            .and_then(|at| Some((at, topic.partitions.get(at)?)));
        let (at, known) =
            known.ok_or_else(|| format!("partition {partition} of '{name}' is unknown"))?;
        if record.state.partition_epoch <= known.partition_epoch
            || record.state.leader_epoch < known.leader_epoch
            || (record.state.leader_epoch == known.leader_epoch
                && record.state.leader != known.leader
                && !crate::mutant!("leader-epoch-reused"))
        {
            return Err(format!(
                "an epoch of partition {partition} of '{name}' does not grow"
            ));
        }
        Arc::make_mut(&mut topic).take_over(at, record, end);
        self.topics.insert(name, topic);
        delta.partition(record.topic_id, partition, false);
        Ok(())
    }

    fn replay_removal(&mut self, id: TopicId, delta: &mut ImageDelta) -> Result<(), String> {
        let topic = self.take(id)?;
        self.names.remove(&id);
        self.collisions.remove(&collision_key(&topic.name));
        self.configs.remove(&ConfigResource::topic(&*topic.name));
        self.partitions -= topic.partitions.len();
        self.forget_mirror(id, delta);
        delta.deleted(id, topic.name.clone(), topic.partitions.len());
        Ok(())
    }

    fn replay_config(
        &mut self,
        resource: &ConfigResource,
        name: &str,
        value: Option<&str>,
        delta: &mut ImageDelta,
    ) {
        let mut values = self.config(resource);
        let changed = Arc::make_mut(&mut values);
        match value {
            Some(value) => changed.insert(name.to_owned(), value.to_owned()),
            None => changed.remove(name),
        };
        match values.is_empty() {
            true => self.configs.remove(resource),
            false => self.configs.insert(resource.clone(), values),
        };
        let is_new_topic = resource.resource_type == ResourceType::Topic
            && self.topic(&resource.name).is_some_and(|topic| {
                matches!(delta.topics.get(&topic.id), Some(TopicDelta::Created))
            });
        if !is_new_topic {
            delta.configs.insert(resource.clone());
        }
    }
}
