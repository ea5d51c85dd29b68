//! Offsets that groups have committed: read, set, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Admin, Each, by_topic};
use crate::client::cluster::{Cluster, Lane};
use crate::client::error::{ApiError, ClientError};
use crate::types::{BrokerId, LeaderEpoch, Offset, TopicPartition};
use crate::wire::Str;
use crate::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::wire::message::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::wire::message::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};

/// Highest versions that name topics by name; later ones use ids alone.
pub(crate) const BY_NAME_MAX: i16 = 9;

/// An offset as a group committed it: the next record to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    pub offset: Offset,
    /// Epoch of the last record read, for truncation checks.
    pub leader_epoch: LeaderEpoch,
    pub metadata: String,
}

impl CommittedOffset {
    #[must_use]
    pub fn at(offset: Offset) -> Self {
        Self {
            offset,
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
        }
    }
}

/// Who commits: a member in its generation, or nobody in particular.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
}

impl Admin {
    /// What a group has committed, for `partitions` or for all it has. Partitions without a
    /// committed offset are left out.
    pub async fn group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Each<TopicPartition, CommittedOffset>, ClientError> {
        self.on_coordinator("reading the group's offsets", group, |broker| {
            fetch_offsets(&self.cluster, broker, group, partitions, false)
        })
        .await?
        .map_err(|error| ClientError::refused("reading the group's offsets", error))
    }

    /// Sets committed offsets of a group that has no members (the broker refuses others with
    /// `UNKNOWN_MEMBER_ID` or `REBALANCE_IN_PROGRESS`).
    pub async fn set_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, CommittedOffset>,
    ) -> Result<Each<TopicPartition, ()>, ClientError> {
        let committer = Committer {
            group: group.to_owned(),
            generation: -1,
            member_id: String::new(),
            instance_id: None,
        };
        self.on_coordinator("setting the group's offsets", group, |broker| {
            let committer = committer.clone();
            async move {
                commit_offsets(&self.cluster, broker, &committer, offsets)
                    .await
                    .map(Ok)
            }
        })
        .await?
        .map_err(|error| ClientError::refused("setting the group's offsets", error))
    }

    /// Deletes committed offsets of partitions that no member of the group subscribes to.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Each<TopicPartition, ()>, ClientError> {
        let topics = by_topic(partitions.iter().cloned()).into_iter();
        let topics = topics.map(|(topic, partitions)| {
            let partitions = partitions.into_iter();
            let partitions = partitions.map(|partition_index| OffsetDeleteRequestPartition {
                partition_index,
                ..Default::default()
            });
            OffsetDeleteRequestTopic {
                name: Str::from(&*topic),
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        let request = OffsetDeleteRequest {
            group_id: Str::from(group),
            topics: topics.collect(),
            ..Default::default()
        };
        self.on_coordinator("deleting the group's offsets", group, |broker| {
            let request = request.clone();
            async move {
                let answer = self.cluster.call(broker, request).await?;
                let mut results = Each::new();
                for topic in &answer.topics {
                    for p in &topic.partitions {
                        let key = TopicPartition::new(topic.name.as_str(), p.partition_index);
                        results.insert(key, ApiError::check(p.error_code, None));
                    }
                }
                Ok(ApiError::check(answer.error_code, None).map(|()| results))
            }
        })
        .await?
        .map_err(|error| ClientError::refused("deleting the group's offsets", error))
    }
}

/// Asks a coordinator for committed offsets. `stable` waits out transactions.
pub(crate) async fn fetch_offsets(
    cluster: &Cluster,
    broker: BrokerId,
    group: &str,
    partitions: Option<&[TopicPartition]>,
    stable: bool,
) -> Result<Result<Each<TopicPartition, CommittedOffset>, ApiError>, ClientError> {
    let topics = partitions.map(|partitions| by_topic(partitions.iter().cloned()));
    let single = topics.as_ref().map(|topics| {
        let topics = topics
            .iter()
            .map(|(name, indexes)| OffsetFetchRequestTopic {
                name: Str::from(&**name),
                partition_indexes: indexes.clone(),
                ..Default::default()
            });
        topics.collect()
    });
    let batched = topics.as_ref().map(|topics| {
        let topics = topics
            .iter()
            .map(|(name, indexes)| OffsetFetchRequestTopics {
                name: Str::from(&**name),
                partition_indexes: indexes.clone(),
                ..Default::default()
            });
        topics.collect()
    });
    let request = OffsetFetchRequest {
        group_id: Str::from(group),
        topics: single,
        groups: vec![OffsetFetchRequestGroup {
            group_id: Str::from(group),
            topics: batched,
            ..Default::default()
        }],
        require_stable: stable,
        ..Default::default()
    };
    let connection = cluster.connection(broker, Lane::Control).await?;
    let within = cluster.config().request_timeout;
    let answer = connection.call_capped(request, BY_NAME_MAX, within).await?;
    Ok(fetched(&answer))
}

fn fetched(
    answer: &OffsetFetchResponse,
) -> Result<Each<TopicPartition, CommittedOffset>, ApiError> {
    let mut results = Each::new();
    let mut take = |topic: &Str, index, offset, epoch, metadata: &Option<Str>, code| {
        let committed = CommittedOffset {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(epoch),
            metadata: metadata
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
        };
        let result = ApiError::check(code, None).map(|()| committed);
        if result.is_err() || offset >= 0 {
            results.insert(TopicPartition::new(topic.as_str(), index), result);
        }
    };
    if let Some(group) = answer.groups.first() {
        ApiError::check(group.error_code, None)?;
        for topic in &group.topics {
            for p in &topic.partitions {
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                take(
                    &topic.name,
                    p.partition_index,
                    offset,
                    epoch,
                    &p.metadata,
                    p.error_code,
                );
            }
        }
    } else {
        ApiError::check(answer.error_code, None)?;
        for topic in &answer.topics {
            for p in &topic.partitions {
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                take(
                    &topic.name,
                    p.partition_index,
                    offset,
                    epoch,
                    &p.metadata,
                    p.error_code,
                );
            }
        }
    }
    // Brokers before version 2 say what is wrong with the group on each partition.
    let first = results.values().find_map(|result| result.as_ref().err());
    match first {
        Some(error) if error.code.is_retriable() => Err(error.clone()),
        _ => Ok(results),
    }
}

/// Commits offsets at a coordinator.
pub(crate) async fn commit_offsets(
    cluster: &Cluster,
    broker: BrokerId,
    committer: &Committer,
    offsets: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Result<Each<TopicPartition, ()>, ClientError> {
    let topics = by_topic(offsets.keys().cloned()).into_iter();
    let topics = topics.map(|(topic, partitions)| {
        let partitions = partitions.into_iter().filter_map(|partition| {
            let key = TopicPartition::new(Arc::clone(&topic), partition);
            let committed = offsets.get(&key)?;
            Some(OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: committed.offset.0,
                committed_leader_epoch: committed.leader_epoch.0,
                committed_metadata: Some(Str::from(committed.metadata.as_str())),
                ..Default::default()
            })
        });
        OffsetCommitRequestTopic {
            name: Str::from(&*topic),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    let request = OffsetCommitRequest {
        group_id: Str::from(committer.group.as_str()),
        generation_id_or_member_epoch: committer.generation,
        member_id: Str::from(committer.member_id.as_str()),
        group_instance_id: committer.instance_id.as_deref().map(Str::from),
        topics: topics.collect(),
        ..Default::default()
    };
    let connection = cluster.connection(broker, Lane::Control).await?;
    let within = cluster.config().request_timeout;
    let answer = connection.call_capped(request, BY_NAME_MAX, within).await?;
    let mut results = Each::new();
    for topic in &answer.topics {
        for p in &topic.partitions {
            let key = TopicPartition::new(topic.name.as_str(), p.partition_index);
            results.insert(key, ApiError::check(p.error_code, None));
        }
    }
    super::first_retriable("committing offsets", results.values())?;
    Ok(results)
}
