//! Topics: create, grow, delete, list, describe, and delete records.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Admin, Each, by_topic, first_retriable};
use crate::client::cluster::Topics;
use crate::client::error::{ApiError, ClientError};
use crate::client::metadata::TopicView;
use crate::types::{BrokerId, ErrorCode, Offset, TopicId, TopicPartition};
use crate::wire::Str;
use crate::wire::message::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::wire::message::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use crate::wire::message::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::wire::message::delete_topics::{DeleteTopicState, DeleteTopicsRequest};

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    /// `None` for the broker's default.
    pub partitions: Option<i32>,
    /// `None` for the broker's default.
    pub replication_factor: Option<i16>,
    /// Replicas by partition, preferred leader first; replaces the two counts when not empty.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    pub configs: BTreeMap<String, String>,
}

impl TopicSpec {
    /// A topic with the broker's defaults.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            partitions: None,
            replication_factor: None,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
        }
    }

    fn to_wire(&self) -> CreatableTopic {
        let assigned = !self.assignments.is_empty();
        let assignments = self.assignments.iter();
        let assignments = assignments.map(|(partition, brokers)| CreatableReplicaAssignment {
            partition_index: *partition,
            broker_ids: brokers.iter().map(|id| id.0).collect(),
            ..Default::default()
        });
        let configs = self
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: Str::from(name.as_str()),
                value: Some(Str::from(value.as_str())),
                ..Default::default()
            });
        CreatableTopic {
            name: Str::from(self.name.as_str()),
            num_partitions: self.partitions.filter(|_| !assigned).unwrap_or(-1),
            replication_factor: self.replication_factor.filter(|_| !assigned).unwrap_or(-1),
            assignments: assignments.collect(),
            configs: configs.collect(),
            ..Default::default()
        }
    }
}

/// What a broker made of a [`TopicSpec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Zero where the broker is too old to say.
    pub id: TopicId,
    /// `None` where the broker is too old to say.
    pub partitions: Option<i32>,
    /// `None` where the broker is too old to say.
    pub replication_factor: Option<i16>,
}

impl Admin {
    /// Creates topics, or only checks whether they could be created.
    pub async fn create_topics(
        &self,
        topics: &[TopicSpec],
        validate_only: bool,
    ) -> Result<Each<String, CreatedTopic>, ClientError> {
        let request = CreateTopicsRequest {
            topics: topics.iter().map(TopicSpec::to_wire).collect(),
            timeout_ms: self.broker_timeout_ms(),
            validate_only,
            ..Default::default()
        };
        let attempt = || async {
            let controller = self.cluster.controller().await?;
            let answer = self.cluster.call(controller, request.clone()).await?;
            let results = answer.topics.iter().map(|topic| {
                let text = topic.error_message.as_deref();
                let created = CreatedTopic {
                    id: topic.topic_id,
                    partitions: Some(topic.num_partitions).filter(|count| *count >= 0),
                    replication_factor: Some(topic.replication_factor).filter(|n| *n >= 0),
                };
                let result = ApiError::check(topic.error_code, text).map(|()| created);
                (topic.name.to_string(), result)
            });
            let results: Each<String, CreatedTopic> = results.collect();
            first_retriable("creating topics", results.values())?;
            Ok(results)
        };
        self.cluster.retry("creating topics", attempt).await
    }

    /// Deletes topics with all their records.
    pub async fn delete_topics(&self, names: &[String]) -> Result<Each<String, ()>, ClientError> {
        let states = names.iter().map(|name| DeleteTopicState {
            name: Some(Str::from(name.as_str())),
            ..Default::default()
        });
        let request = DeleteTopicsRequest {
            topics: states.collect(),
            topic_names: names.iter().map(|name| Str::from(name.as_str())).collect(),
            timeout_ms: self.broker_timeout_ms(),
            ..Default::default()
        };
        let attempt = || async {
            let controller = self.cluster.controller().await?;
            let answer = self.cluster.call(controller, request.clone()).await?;
            let results = answer.responses.iter().map(|topic| {
                let text = topic.error_message.as_deref();
                let name = topic.name.as_ref().map(ToString::to_string);
                (
                    name.unwrap_or_default(),
                    ApiError::check(topic.error_code, text),
                )
            });
            let results: Each<String, ()> = results.collect();
            // An unknown topic counts as retriable for those who wait for one; here it is final.
            let passing = results.values().filter(|result| !is_unknown_topic(result));
            first_retriable("deleting topics", passing)?;
            Ok(results)
        };
        self.cluster.retry("deleting topics", attempt).await
    }

    /// Raises the number of partitions of topics to the given totals.
    pub async fn create_partitions(
        &self,
        totals: &BTreeMap<String, i32>,
        validate_only: bool,
    ) -> Result<Each<String, ()>, ClientError> {
        let topics = totals.iter().map(|(name, total)| CreatePartitionsTopic {
            name: Str::from(name.as_str()),
            count: *total,
            assignments: None,
            ..Default::default()
        });
        let request = CreatePartitionsRequest {
            topics: topics.collect(),
            timeout_ms: self.broker_timeout_ms(),
            validate_only,
            ..Default::default()
        };
        let attempt = || async {
            let controller = self.cluster.controller().await?;
            let answer = self.cluster.call(controller, request.clone()).await?;
            let results = answer.results.iter().map(|topic| {
                let text = topic.error_message.as_deref();
                let result = ApiError::check(topic.error_code, text);
                (topic.name.to_string(), result)
            });
            let results: Each<String, ()> = results.collect();
            let passing = results.values().filter(|result| !is_unknown_topic(result));
            first_retriable("adding partitions", passing)?;
            Ok(results)
        };
        self.cluster.retry("adding partitions", attempt).await
    }

    /// Every topic of the cluster, internal ones included.
    pub async fn list_topics(&self) -> Result<BTreeMap<Arc<str>, TopicView>, ClientError> {
        let attempt = || self.cluster.refresh_with(&Topics::All, false);
        let view = self.cluster.retry("listing topics", attempt).await?;
        Ok(view.topics.clone())
    }

    /// The topics with these names; none is created.
    pub async fn describe_topics(
        &self,
        names: &[String],
    ) -> Result<Each<String, TopicView>, ClientError> {
        let asked: Vec<Arc<str>> = names.iter().map(|name| Arc::from(name.as_str())).collect();
        let asked = Topics::Named(asked);
        let attempt = || self.cluster.refresh_with(&asked, false);
        let view = self.cluster.retry("describing topics", attempt).await?;
        let each = names.iter().map(|name| {
            let found = view.topics.get(name.as_str()).cloned();
            let result = found.ok_or_else(|| {
                let error = view.topic_errors.get(name.as_str()).cloned();
                error.unwrap_or_else(|| ErrorCode::UnknownTopicOrPartition.into())
            });
            (name.clone(), result)
        });
        Ok(each.collect())
    }

    /// Makes the records below the given offsets unreadable (`Offset(-1)`: all of a partition)
    /// and returns the new log start offsets.
    pub async fn delete_records(
        &self,
        below: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<Each<TopicPartition, Offset>, ClientError> {
        let within = self.broker_timeout_ms();
        let ask = |broker, partitions: Vec<TopicPartition>| async move {
            let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| {
                let partitions = partitions.into_iter().map(|partition| {
                    let key = TopicPartition::new(Arc::clone(&topic), partition);
                    DeleteRecordsPartition {
                        partition_index: partition,
                        offset: below.get(&key).map_or(0, |offset| offset.0),
                        ..Default::default()
                    }
                });
                DeleteRecordsTopic {
                    name: Str::from(&*topic),
                    partitions: partitions.collect(),
                    ..Default::default()
                }
            });
            let request = DeleteRecordsRequest {
                topics: topics.collect(),
                timeout_ms: within,
                ..Default::default()
            };
            let answer = self.cluster.call(broker, request).await?;
            let mut results = Each::new();
            for topic in &answer.topics {
                for partition in &topic.partitions {
                    let key = TopicPartition::new(topic.name.as_str(), partition.partition_index);
                    let result = ApiError::check(partition.error_code, None);
                    results.insert(key, result.map(|()| Offset(partition.low_watermark)));
                }
            }
            Ok(results)
        };
        self.on_leaders("deleting records", below.keys().cloned(), ask)
            .await
    }
}

fn is_unknown_topic<T>(result: &Result<T, ApiError>) -> bool {
    matches!(result, Err(error) if error.code == ErrorCode::UnknownTopicOrPartition)
}
