//! Links and mirrors in the image.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ClusterImage;
use crate::controller::delta::{ImageDelta, TopicDelta};
use crate::controller::link::{LinkId, LinkRecord, MirrorPartition, MirrorTopic};
use crate::controller::record::MetadataRecord;
use crate::controller::sorted::SortedMap;
use crate::types::TopicId;

/// The links of a cluster, and its mirrors.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Mirrors {
    links: Arc<BTreeMap<LinkId, Arc<LinkRecord>>>,
    topics: SortedMap<TopicId, Arc<MirrorImage>>,
}

/// A mirror topic and what is known of its partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorImage {
    pub topic: MirrorTopic,
    /// By index; those of which nothing is known yet are missing.
    pub partitions: BTreeMap<i32, MirrorPartition>,
}

impl MirrorImage {
    /// What is known of a partition.
    #[must_use]
    pub fn partition(&self, partition: i32) -> Option<&MirrorPartition> {
        self.partitions.get(&partition)
    }
}

/// Reading.
impl ClusterImage {
    /// By ascending id.
    pub fn links(&self) -> impl Iterator<Item = &Arc<LinkRecord>> {
        self.mirrors.links.values()
    }

    #[must_use]
    pub fn link(&self, id: LinkId) -> Option<&Arc<LinkRecord>> {
        self.mirrors.links.get(&id)
    }

    #[must_use]
    pub fn link_by_name(&self, name: &str) -> Option<&Arc<LinkRecord>> {
        self.links().find(|link| link.name == name)
    }

    /// What mirrors the topic with this id is; `None` of a topic that never was one.
    #[must_use]
    pub fn mirror(&self, topic: TopicId) -> Option<&Arc<MirrorImage>> {
        self.mirrors.topics.get(&topic)
    }

    /// Topics that are, or were, mirrors, by id.
    pub fn mirrors(&self) -> impl Iterator<Item = (TopicId, &Arc<MirrorImage>)> {
        self.mirrors.topics.iter().map(|(id, mirror)| (*id, mirror))
    }

    /// Topics that link `link` fills, or filled, by id.
    pub fn mirrors_of(&self, link: LinkId) -> impl Iterator<Item = (TopicId, &Arc<MirrorImage>)> {
        self.mirrors()
            .filter(move |(_, mirror)| mirror.topic.link == link)
    }

    pub(super) fn link_records(&self) -> impl Iterator<Item = MetadataRecord> {
        let links = self.links().map(|link| LinkRecord::clone(link));
        links.map(MetadataRecord::Link)
    }

    pub(super) fn mirror_records(&self) -> impl Iterator<Item = MetadataRecord> {
        self.mirrors().flat_map(|(topic_id, mirror)| {
            let topic = MetadataRecord::MirrorTopic {
                topic_id,
                mirror: mirror.topic.clone(),
            };
            let partitions = mirror.partitions.iter();
            let partitions =
                partitions.map(move |(partition, state)| MetadataRecord::MirrorPartition {
                    topic_id,
                    partition: *partition,
                    state: state.clone(),
                });
            [topic].into_iter().chain(partitions)
        })
    }
}

/// Replaying.
impl ClusterImage {
    pub(super) fn replay_link(
        &mut self,
        link: &LinkRecord,
        delta: &mut ImageDelta,
    ) -> Result<(), String> {
        let id = link.id;
        if self.links().any(|it| it.name == link.name && it.id != id) {
            return Err(format!("link '{}' is made twice", link.name));
        }
        Arc::make_mut(&mut self.mirrors.links).insert(id, Arc::new(link.clone()));
        delta.links.insert(id);
        Ok(())
    }

    pub(super) fn replay_link_removal(
        &mut self,
        id: LinkId,
        delta: &mut ImageDelta,
    ) -> Result<(), String> {
        let Some(link) = Arc::make_mut(&mut self.mirrors.links).remove(&id) else {
            return Err(format!("link {id} is removed unknown"));
        };
        let mut left = self.mirrors_of(id);
        if left.any(|(_, mirror)| mirror.topic.is_read_only()) {
            return Err(format!(
                "link '{}' is removed and still fills a topic",
                link.name
            ));
        }
        delta.links.insert(id);
        Ok(())
    }

    pub(super) fn replay_mirror(
        &mut self,
        id: TopicId,
        topic: &MirrorTopic,
        delta: &mut ImageDelta,
    ) -> Result<(), String> {
        if self.topic_by_id(id).is_none() {
            return Err(format!("mirror {id} is no topic"));
        }
        if topic.is_read_only() && self.link(topic.link).is_none() {
            return Err(format!("mirror {id} is of link {}, unknown", topic.link));
        }
        let topic = topic.clone();
        let partitions = match self.mirror(id) {
            Some(known) => known.partitions.clone(),
            None => BTreeMap::new(),
        };
        let mirror = Arc::new(MirrorImage { topic, partitions });
        self.mirrors.topics.insert(id, mirror);
        delta.mirrors.insert(id);
        Ok(())
    }

    pub(super) fn replay_mirror_partition(
        &mut self,
        id: TopicId,
        partition: i32,
        state: &MirrorPartition,
        delta: &mut ImageDelta,
    ) -> Result<(), String> {
        let topic = self.topic_by_id(id);
        if topic.and_then(|it| it.partition(partition)).is_none() {
            return Err(format!("mirror partition {partition} of {id} is unknown"));
        }
        if !state.is_in_order() {
            return Err(format!(
                "the lineage of partition {partition} of mirror {id} does not ascend"
            ));
        }
        let Some(mut mirror) = self.mirrors.topics.remove(&id) else {
            return Err(format!("topic {id} is no mirror"));
        };
        let partitions = &mut Arc::make_mut(&mut mirror).partitions;
        partitions.insert(partition, state.clone());
        self.mirrors.topics.insert(id, mirror);
        delta.mirrors.insert(id);
        Ok(())
    }

    /// The topic is gone. To be told before the delta is told so.
    pub(super) fn forget_mirror(&mut self, id: TopicId, delta: &mut ImageDelta) {
        if self.mirrors.topics.remove(&id).is_none() {
            return;
        }
        match delta.topics.get(&id) {
            // Made and deleted in between: nobody needs to know.
            Some(TopicDelta::Created) => delta.mirrors.remove(&id),
            _ => delta.mirrors.insert(id),
        };
    }
}
