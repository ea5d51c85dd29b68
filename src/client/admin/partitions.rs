//! Partitions beyond what Metadata tells: replicas eligible to lead, and causes.

use std::collections::BTreeMap;

use super::Admin;
use crate::client::error::{ApiError, ClientError};
use crate::types::{BrokerId, LeaderEpoch, Offset, Timestamp, TopicPartition};
use crate::wire::Str;
use crate::wire::message::describe_topic_partitions::{
    CursorRequest, DescribeTopicPartitionsRequest, TopicRequest,
};
use crate::wire::message::partition_history::{self, PartitionHistoryRequest};

/// Replicas outside the ISR that may lead (KIP-966).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EligibleReplicas {
    /// Have everything committed.
    pub elr: Vec<BrokerId>,
    /// Were the last to have it, and are not known to have lost it.
    pub last_known: Vec<BrokerId>,
}

/// A partition's state after a change, and what caused it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionChange {
    /// Metadata offset after the change.
    pub metadata_end: Option<Offset>,
    pub at: Option<Timestamp>,
    /// Such as `BROKER_FENCED`.
    pub cause: String,
    /// The broker whose start, end or proposal led to it.
    pub broker: Option<BrokerId>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub eligible: EligibleReplicas,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    /// The leader was elected uncleanly and has not recovered yet.
    pub recovering: bool,
}

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

impl Admin {
    /// The eligible replicas of these topics' partitions. Empty where brokers are too old to tell,
    /// and without topics that do not exist.
    pub async fn eligible_replicas(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<TopicPartition, EligibleReplicas>, ClientError> {
        let mut found = BTreeMap::new();
        if topics.is_empty() {
            return Ok(found);
        }
        let named = topics.iter().map(|name| TopicRequest {
            name: Str::from(name.as_str()),
            ..Default::default()
        });
        let mut request = DescribeTopicPartitionsRequest {
            topics: named.collect(),
            ..Default::default()
        };
        loop {
            let attempt = || self.cluster.call_any(request.clone());
            let answer = match self.cluster.retry("describing partitions", attempt).await {
                Ok(answer) => answer,
                Err(ClientError::UnsupportedVersion { .. }) => return Ok(found),
                Err(error) => return Err(error),
            };
            for topic in answer.topics.iter().filter(|topic| topic.error_code == 0) {
                let name = topic.name.as_deref().unwrap_or_default();
                for one in &topic.partitions {
                    let key = TopicPartition::new(name, one.partition_index);
                    let ids = |ids: &Option<Vec<i32>>| brokers(ids.as_deref().unwrap_or_default());
                    let value = EligibleReplicas {
                        elr: ids(&one.eligible_leader_replicas),
                        last_known: ids(&one.last_known_elr),
                    };
                    found.insert(key, value);
                }
            }
            let Some(next) = answer.next_cursor else {
                return Ok(found);
            };
            request.cursor = Some(Box::new(CursorRequest {
                topic_name: next.topic_name,
                partition_index: next.partition_index,
                ..Default::default()
            }));
        }
    }

    /// The last changes of a partition's leader and replicas with their causes, oldest first. Only
    /// Klamm's brokers can tell.
    pub async fn partition_history(
        &self,
        partition: &TopicPartition,
    ) -> Result<Vec<PartitionChange>, ClientError> {
        let request = PartitionHistoryRequest {
            topic: Str::from(&*partition.topic),
            partition: partition.partition,
            ..Default::default()
        };
        let answer = self.cluster.call_any(request).await?;
        ApiError::check(answer.error_code, answer.error_message.as_deref())
            .map_err(|error| ClientError::refused(partition.to_string(), error))?;
        Ok(answer.changes.iter().map(change).collect())
    }
}

fn change(one: &partition_history::PartitionChange) -> PartitionChange {
    PartitionChange {
        metadata_end: (one.metadata_end >= 0).then_some(Offset(one.metadata_end)),
        at: (one.timestamp_ms >= 0).then_some(Timestamp(one.timestamp_ms)),
        cause: one.cause.to_string(),
        broker: (one.broker >= 0).then_some(BrokerId(one.broker)),
        leader: (one.leader >= 0).then_some(BrokerId(one.leader)),
        leader_epoch: LeaderEpoch(one.leader_epoch),
        partition_epoch: one.partition_epoch,
        replicas: brokers(&one.replicas),
        isr: brokers(&one.isr),
        eligible: EligibleReplicas {
            elr: brokers(&one.eligible_leader_replicas),
            last_known: brokers(&one.last_known_elr),
        },
        adding: brokers(&one.adding_replicas),
        removing: brokers(&one.removing_replicas),
        recovering: one.recovering,
    }
}
