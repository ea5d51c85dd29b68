//! What a batch of records changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::image::ClusterImage;
use super::link::LinkId;
use super::record::ConfigResource;
use crate::types::{BrokerId, TopicId};

/// What is different between two images. The new values are in the newer image.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ImageDelta {
    pub topics: BTreeMap<TopicId, TopicDelta>,
    /// Things whose settings changed; those of new and deleted topics are not among them.
    pub configs: BTreeSet<ConfigResource>,
    pub brokers: BTreeSet<BrokerId>,
    /// Links that are new, changed or gone.
    pub links: BTreeSet<LinkId>,
    /// Topics that are mirrors, or were: as such, or in a partition, not what they were.
    pub mirrors: BTreeSet<TopicId>,
    /// The cluster was founded or a feature level changed.
    pub cluster: bool,
}

/// What happened to a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicDelta {
    Created,
    Changed(PartitionChanges),
    /// Gone with this many partitions. Another topic may have its name by now.
    Deleted {
        name: Arc<str>,
        partitions: usize,
    },
}

/// Partitions of a topic that are new or not what they were.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionChanges {
    pub created: BTreeSet<i32>,
    pub changed: BTreeSet<i32>,
}

impl ImageDelta {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn partition(&mut self, topic: TopicId, partition: i32, is_new: bool) {
        let delta = self
            .topics
            .entry(topic)
            .or_insert_with(|| TopicDelta::Changed(PartitionChanges::default()));
        if let TopicDelta::Changed(changes) = delta {
            if is_new {
                changes.created.insert(partition);
            } else if !changes.created.contains(&partition) {
                changes.changed.insert(partition);
            }
        }
    }

    pub(super) fn deleted(&mut self, topic: TopicId, name: Arc<str>, partitions: usize) {
        self.configs.remove(&ConfigResource::topic(&*name));
        match self.topics.get(&topic) {
            // Made and deleted in between: nobody needs to know.
            Some(TopicDelta::Created) => {
                self.topics.remove(&topic);
            }
            _ => {
                self.topics
                    .insert(topic, TopicDelta::Deleted { name, partitions });
            }
        }
    }

    /// Everything that differs between two images.
    #[must_use]
    pub fn between(old: &ClusterImage, new: &ClusterImage) -> Self {
        let mut delta = Self::default();
        for topic in old.topics() {
            if new.topic_by_id(topic.id).is_none() {
                delta.deleted(topic.id, topic.name.clone(), topic.partitions.len());
            }
        }
        for topic in new.topics() {
            let Some(before) = old.topic_by_id(topic.id) else {
                delta.topics.insert(topic.id, TopicDelta::Created);
                continue;
            };
            for (partition, state) in (0..).zip(&topic.partitions) {
                match usize::try_from(partition)
                    .ok()
                    .and_then(|at| before.partitions.get(at))
                {
                    None => delta.partition(topic.id, partition, true),
                    Some(known) if known != state => delta.partition(topic.id, partition, false),
                    Some(_) => {}
                }
            }
        }
        delta.configs = differing_configs(old, new, &delta);
        let ids: BTreeSet<BrokerId> = old
            .brokers()
            .chain(new.brokers())
            .map(|one| one.id)
            .collect();
        delta.brokers = ids
            .into_iter()
            .filter(|id| old.broker(*id) != new.broker(*id))
            .collect();
        delta.links = differing_links(old, new);
        delta.mirrors = differing_mirrors(old, new);
        delta.cluster = old.cluster_id() != new.cluster_id() || old.features() != new.features();
        delta
    }
}

fn differing_links(old: &ClusterImage, new: &ClusterImage) -> BTreeSet<LinkId> {
    let ids = old.links().chain(new.links()).map(|link| link.id);
    ids.filter(|id| old.link(*id) != new.link(*id)).collect()
}

fn differing_mirrors(old: &ClusterImage, new: &ClusterImage) -> BTreeSet<TopicId> {
    let ids = old.mirrors().chain(new.mirrors()).map(|(id, _)| id);
    ids.filter(|id| old.mirror(*id) != new.mirror(*id))
        .collect()
}

fn differing_configs(
    old: &ClusterImage,
    new: &ClusterImage,
    delta: &ImageDelta,
) -> BTreeSet<ConfigResource> {
    let is_kept = |resource: &ConfigResource| match resource.resource_type {
        super::record::ResourceType::Topic => new
            .topic(&resource.name)
            .is_some_and(|topic| !matches!(delta.topics.get(&topic.id), Some(TopicDelta::Created))),
        _ => true,
    };
    old.configured()
        .chain(new.configured())
        .filter(|resource| old.config(resource) != new.config(resource) && is_kept(resource))
        .cloned()
        .collect()
}
