//! What a client knows of its cluster: brokers, topics, leaders. Pure values, replaced as answers
//! arrive.
//!
//! Invariant: for a topic that keeps its id, a partition's leader epoch never goes back, so an
//! answer from a broker that lags does not undo newer knowledge.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::ApiError;
use crate::types::{BrokerId, ErrorCode, Instant, LeaderEpoch, TopicId, TopicPartition};
use crate::wire::message::metadata::{MetadataResponse, MetadataResponseTopic};

/// A broker's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerView {
    pub id: BrokerId,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl BrokerView {
    /// `host:port`; IPv6 addresses in brackets.
    #[must_use]
    pub fn address(&self) -> String {
        match self.host.contains(':') && !self.host.starts_with('[') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A partition as the cluster last described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    pub partition: i32,
    /// `None` while it has none.
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub offline_replicas: Vec<BrokerId>,
}

/// A topic as the cluster last described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    pub name: Arc<str>,
    /// Zero where the broker is too old to say.
    pub id: TopicId,
    pub is_internal: bool,
    /// By number; numbers may be missing in a cluster that starts up.
    pub partitions: BTreeMap<i32, PartitionView>,
    pub fetched_at: Instant,
}

/// All that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    pub cluster_id: Option<String>,
    /// Where admin requests go; any broker forwards them in clusters without ZooKeeper.
    pub controller: Option<BrokerId>,
    pub brokers: BTreeMap<BrokerId, BrokerView>,
    pub topics: BTreeMap<Arc<str>, TopicView>,
    /// Why a topic that was asked for is not in `topics`.
    pub topic_errors: BTreeMap<Arc<str>, ApiError>,
}

impl ClusterView {
    /// The leader of a partition, if it is known and has one.
    #[must_use]
    pub fn leader(&self, partition: &TopicPartition) -> Option<(BrokerId, LeaderEpoch)> {
        let topic = self.topics.get(&partition.topic)?;
        let view = topic.partitions.get(&partition.partition)?;
        let leader = view.leader?;
        self.brokers
            .contains_key(&leader)
            .then_some((leader, view.leader_epoch))
    }

    /// The id of a topic; zero when not known.
    #[must_use]
    pub fn topic_id(&self, topic: &str) -> TopicId {
        self.topics
            .get(topic)
            .map_or(TopicId::ZERO, |topic| topic.id)
    }

    /// The name of the topic with this id.
    #[must_use]
    pub fn topic_named(&self, id: TopicId) -> Option<Arc<str>> {
        let mut topics = self.topics.values();
        let found = topics.find(|topic| topic.id == id && !id.is_zero());
        found.map(|topic| Arc::clone(&topic.name))
    }

    /// This view with an answer taken in. `whole` says that every topic was asked for, so those
    /// missing are gone.
    #[must_use]
    pub fn updated(&self, answer: &MetadataResponse, whole: bool, now: Instant) -> Self {
        let mut next = self.clone();
        next.brokers = answer.brokers.iter().map(broker_view).collect();
        if let Some(id) = &answer.cluster_id {
            next.cluster_id = Some(id.to_string());
        }
        next.controller = known(answer.controller_id);
        if whole {
            next.topics.clear();
            next.topic_errors.clear();
        }
        for topic in &answer.topics {
            let Some(name) = &topic.name else { continue };
            let name: Arc<str> = Arc::from(name.as_str());
            match ApiError::from_wire(topic.error_code, None) {
                None => {
                    next.topic_errors.remove(&name);
                    let merged = topic_view(&name, topic, self.topics.get(&name), now);
                    next.topics.insert(name, merged);
                }
                Some(error) => {
                    if error.code == ErrorCode::UnknownTopicOrPartition {
                        next.topics.remove(&name);
                    }
                    next.topic_errors.insert(name, error);
                }
            }
        }
        next
    }

    /// This view with one leader changed, as a produce or fetch answer told (KIP-951). Ignored
    /// unless it is newer.
    #[must_use]
    pub fn with_leader(
        &self,
        partition: &TopicPartition,
        leader: BrokerId,
        leader_epoch: LeaderEpoch,
    ) -> Option<Self> {
        if !self.brokers.contains_key(&leader) {
            return None;
        }
        let mut next = self.clone();
        let topic = next.topics.get_mut(&partition.topic)?;
        let view = topic.partitions.get_mut(&partition.partition)?;
        if leader_epoch <= view.leader_epoch {
            return None;
        }
        view.leader = Some(leader);
        view.leader_epoch = leader_epoch;
        Some(next)
    }
}

fn known(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

fn broker_view(
    broker: &crate::wire::message::metadata::MetadataResponseBroker,
) -> (BrokerId, BrokerView) {
    let view = BrokerView {
        id: BrokerId(broker.node_id),
        host: broker.host.to_string(),
        port: broker.port,
        rack: broker.rack.as_ref().map(ToString::to_string),
    };
    (view.id, view)
}

fn topic_view(
    name: &Arc<str>,
    topic: &MetadataResponseTopic,
    before: Option<&TopicView>,
    now: Instant,
) -> TopicView {
    let same = before.filter(|before| before.id == topic.topic_id);
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let mut partitions = BTreeMap::new();
    for partition in &topic.partitions {
        let view = PartitionView {
            partition: partition.partition_index,
            leader: known(partition.leader_id),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            replicas: ids(&partition.replica_nodes),
            isr: ids(&partition.isr_nodes),
            offline_replicas: ids(&partition.offline_replicas),
        };
        let older = same.and_then(|same| same.partitions.get(&view.partition));
        let view = match older {
            Some(older) if older.leader_epoch > view.leader_epoch => older.clone(),
            _ => view,
        };
        partitions.insert(view.partition, view);
    }
    TopicView {
        name: Arc::clone(name),
        id: topic.topic_id,
        is_internal: topic.is_internal,
        partitions,
        fetched_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Uuid;
    use crate::wire::message::metadata::{MetadataResponseBroker, MetadataResponsePartition};

    fn answer(id: u8, leader: i32, epoch: i32) -> MetadataResponse {
        let partition = MetadataResponsePartition {
            leader_id: leader,
            leader_epoch: epoch,
            ..Default::default()
        };
        let topic = MetadataResponseTopic {
            name: Some("t".into()),
            topic_id: Uuid([id; 16]),
            partitions: vec![partition],
            ..Default::default()
        };
        let brokers = (1..=2).map(|node_id| MetadataResponseBroker {
            node_id,
            host: "h".into(),
            port: 9092,
            ..Default::default()
        });
        MetadataResponse {
            brokers: brokers.collect(),
            topics: vec![topic],
            ..Default::default()
        }
    }

    #[test]
    fn an_older_leader_epoch_does_not_replace_a_newer_one() {
        let partition = TopicPartition::new("t", 0);
        let view = ClusterView::default().updated(&answer(1, 1, 5), false, Instant(0));
        let stale = view.updated(&answer(1, 2, 4), false, Instant(1));
        assert_eq!(
            stale.leader(&partition),
            Some((BrokerId(1), LeaderEpoch(5)))
        );
        let recreated = stale.updated(&answer(2, 2, 0), false, Instant(2));
        assert_eq!(
            recreated.leader(&partition),
            Some((BrokerId(2), LeaderEpoch(0)))
        );
    }

    #[test]
    fn a_deleted_topic_is_forgotten_and_its_error_kept() {
        let view = ClusterView::default().updated(&answer(1, 1, 5), false, Instant(0));
        let mut gone = answer(1, 1, 5);
        gone.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
        let view = view.updated(&gone, false, Instant(1));
        assert!(view.topics.is_empty());
        assert_eq!(
            view.topic_errors["t"].code,
            ErrorCode::UnknownTopicOrPartition
        );
    }
}
