//! Where partitions are and who leads them: elections, reassignments, brokers that leave.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Admin, Each, by_topic};
use crate::client::error::{ApiError, ClientError};
use crate::types::{BrokerId, ErrorCode, TopicPartition};
use crate::wire::Str;
use crate::wire::message::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use crate::wire::message::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use crate::wire::message::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use crate::wire::message::unregister_broker::UnregisterBrokerRequest;

/// Which replica is to lead; the number is ElectLeaders'.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i8)]
pub enum ElectionKind {
    /// The first of the replicas, if it is in sync.
    Preferred = 0,
    /// Any replica alive where none in sync is: acknowledged records may be lost.
    Unclean = 1,
}

/// Replicas of a partition on the move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reassignment {
    /// All that hold the partition now.
    pub replicas: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
}

impl Reassignment {
    /// The replicas once the move is done.
    #[must_use]
    pub fn target(&self) -> Vec<BrokerId> {
        let stays = |id: &&BrokerId| !self.removing.contains(id);
        self.replicas.iter().filter(stays).copied().collect()
    }
}

impl Admin {
    /// Elects leaders of `partitions`, or (`None`) of all partitions that want it; those that do
    /// not are then left out of the answer. ELECTION_NOT_NEEDED says that all was as wanted.
    pub async fn elect_leaders(
        &self,
        kind: ElectionKind,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Each<TopicPartition, ()>, ClientError> {
        let topics = partitions.map(|partitions| {
            let topics = by_topic(partitions.iter().cloned()).into_iter();
            let topic = |(topic, partitions): (Arc<str>, Vec<i32>)| TopicPartitions {
                topic: Str::from(&*topic),
                partitions,
                ..Default::default()
            };
            topics.map(topic).collect()
        });
        let request = ElectLeadersRequest {
            election_type: kind as i8,
            topic_partitions: topics,
            timeout_ms: self.broker_timeout_ms(),
            ..Default::default()
        };
        let what = "electing leaders";
        let attempt = || async {
            let controller = self.cluster.controller().await?;
            let answer = self.cluster.call(controller, request.clone()).await?;
            ApiError::check(answer.error_code, None)
                .map_err(|error| ClientError::refused(what, error))?;
            let mut results = Each::new();
            for topic in &answer.replica_election_results {
                for one in &topic.partition_result {
                    let key = TopicPartition::new(topic.topic.as_str(), one.partition_id);
                    let result = ApiError::check(one.error_code, one.error_message.as_deref());
                    results.insert(key, result);
                }
            }
            passing(what, &results)?;
            Ok(results)
        };
        self.cluster.retry(what, attempt).await
    }

    /// Moves partitions to other replicas, preferred leader first; `None` cancels a move. The
    /// answer says that the move has begun: [`Admin::list_reassignments`] tells of its end.
    pub async fn alter_reassignments(
        &self,
        moves: &BTreeMap<TopicPartition, Option<Vec<BrokerId>>>,
    ) -> Result<Each<TopicPartition, ()>, ClientError> {
        let topics = by_topic(moves.keys().cloned())
            .into_iter()
            .map(|(topic, partitions)| {
                let partition = |partition_index| {
                    let key = TopicPartition::new(Arc::clone(&topic), partition_index);
                    let replicas = moves.get(&key).and_then(Option::as_ref);
                    ReassignablePartition {
                        partition_index,
                        replicas: replicas.map(|ids| ids.iter().map(|id| id.0).collect()),
                        ..Default::default()
                    }
                };
                ReassignableTopic {
                    name: Str::from(&*topic),
                    partitions: partitions.into_iter().map(partition).collect(),
                    ..Default::default()
                }
            });
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: self.broker_timeout_ms(),
            topics: topics.collect(),
            ..Default::default()
        };
        let what = "moving replicas";
        let attempt = || async {
            let controller = self.cluster.controller().await?;
            let answer = self.cluster.call(controller, request.clone()).await?;
            ApiError::check(answer.error_code, answer.error_message.as_deref())
                .map_err(|error| ClientError::refused(what, error))?;
            let mut results = Each::new();
            for topic in &answer.responses {
                for one in &topic.partitions {
                    let key = TopicPartition::new(topic.name.as_str(), one.partition_index);
                    let result = ApiError::check(one.error_code, one.error_message.as_deref());
                    results.insert(key, result);
                }
            }
            passing(what, &results)?;
            Ok(results)
        };
        self.cluster.retry(what, attempt).await
    }

    /// What is on the move: of `partitions`, or of all.
    pub async fn list_reassignments(
        &self,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, Reassignment>, ClientError> {
        let topics = partitions.map(|partitions| {
            let topics = by_topic(partitions.iter().cloned()).into_iter();
            let topic = |(name, indexes): (Arc<str>, Vec<i32>)| ListPartitionReassignmentsTopics {
                name: Str::from(&*name),
                partition_indexes: indexes,
                ..Default::default()
            };
            topics.map(topic).collect()
        });
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: self.broker_timeout_ms(),
            topics,
            ..Default::default()
        };
        let what = "listing moves of replicas";
        let attempt = || async {
            let controller = self.cluster.controller().await?;
            let answer = self.cluster.call(controller, request.clone()).await?;
            ApiError::check(answer.error_code, answer.error_message.as_deref())
                .map_err(|error| ClientError::refused(what, error))?;
            let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
            let mut found = BTreeMap::new();
            for topic in &answer.topics {
                for one in &topic.partitions {
                    let key = TopicPartition::new(topic.name.as_str(), one.partition_index);
                    let value = Reassignment {
                        replicas: brokers(&one.replicas),
                        adding: brokers(&one.adding_replicas),
                        removing: brokers(&one.removing_replicas),
                    };
                    found.insert(key, value);
                }
            }
            Ok(found)
        };
        self.cluster.retry(what, attempt).await
    }

    /// Makes the cluster forget a broker that is gone for good.
    pub async fn unregister_broker(&self, id: BrokerId) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest {
            broker_id: id.0,
            ..Default::default()
        };
        let what = format!("unregistering broker {id}");
        let attempt = || async {
            let controller = self.cluster.controller().await?;
            let answer = self.cluster.call(controller, request.clone()).await?;
            ApiError::check(answer.error_code, answer.error_message.as_deref())
                .map_err(|error| ClientError::refused(&*what, error))
        };
        self.cluster.retry(&what, attempt).await
    }
}

/// Fails where the whole request is worth another attempt. What is said of a single partition is
/// final, though some of its codes count as retriable for those who wait.
fn passing(what: &str, results: &Each<TopicPartition, ()>) -> Result<(), ClientError> {
    for result in results.values() {
        if let Err(error) = result
            && matches!(
                error.code,
                ErrorCode::NotController | ErrorCode::RequestTimedOut
            )
        {
            return Err(ClientError::refused(what, error.clone()));
        }
    }
    Ok(())
}
