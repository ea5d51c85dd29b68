//! Calls that go to partition leaders, and finding offsets by position or time.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use super::{Admin, Each, by_topic};
use crate::client::cluster::{Cluster, Topics};
use crate::client::config::Isolation;
use crate::client::error::{ApiError, ClientError};
use crate::types::{BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp, TopicPartition};
use crate::wire::Str;
use crate::wire::message::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

/// Which offset of a partition is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark, or the last stable offset for readers of committed records.
    Latest,
    /// The record with the highest timestamp.
    MaxTimestamp,
    /// The first record with this timestamp or a later one.
    At(Timestamp),
}

impl OffsetSpec {
    fn to_wire(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::At(timestamp) => timestamp.0,
        }
    }
}

/// An offset that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundOffset {
    /// `None` when no record matches.
    pub offset: Option<Offset>,
    /// The record's timestamp; `Timestamp::NONE` for `Earliest` and `Latest`.
    pub timestamp: Timestamp,
    pub leader_epoch: LeaderEpoch,
}

impl Admin {
    /// Finds offsets of partitions at their leaders.
    pub async fn list_offsets(
        &self,
        wanted: &BTreeMap<TopicPartition, OffsetSpec>,
        isolation: Isolation,
    ) -> Result<Each<TopicPartition, FoundOffset>, ClientError> {
        let ask = |broker, partitions: Vec<TopicPartition>| {
            list_offsets_once(&self.cluster, broker, partitions, wanted, isolation)
        };
        self.on_leaders("finding offsets", wanted.keys().cloned(), ask)
            .await
    }

    /// Asks each partition's leader, tries those again whose error may pass, and answers for all.
    pub(super) async fn on_leaders<T, F>(
        &self,
        what: &str,
        partitions: impl IntoIterator<Item = TopicPartition>,
        ask: impl Fn(BrokerId, Vec<TopicPartition>) -> F,
    ) -> Result<Each<TopicPartition, T>, ClientError>
    where
        F: Future<Output = Result<Each<TopicPartition, T>, ClientError>>,
    {
        let mut left: BTreeSet<TopicPartition> = partitions.into_iter().collect();
        let mut done: Each<TopicPartition, T> = Each::new();
        let env = self.cluster.env().clone();
        let deadline = env.now().plus(self.cluster.config().default_api_timeout);
        let mut failures = 0;
        loop {
            let last = self.ask_leaders(&mut left, &mut done, &ask).await;
            if left.is_empty() {
                return Ok(done);
            }
            failures += 1;
            let pause = self.cluster.retry_pause(failures);
            if env.now().plus(pause) >= deadline {
                return match last {
                    Some(error)
                        if done.len() < left.len() || !done.contains_key(&left_first(&left)) =>
                    {
                        Err(gave_up(what, &self.cluster, error))
                    }
                    _ => Ok(done),
                };
            }
            env.sleep(pause).await;
            let topics: BTreeSet<Arc<str>> = left.iter().map(|p| Arc::clone(&p.topic)).collect();
            let topics = Topics::Named(topics.into_iter().collect());
            if let Err(error) = self.cluster.refresh_with(&topics, false).await {
                tracing::debug!(%error, what, "leaders cannot be asked for");
            }
        }
    }

    /// One round: what is settled moves from `left` to `done`. Errors that may pass are kept in
    /// `done` as well, for the case that time runs out.
    async fn ask_leaders<T, F>(
        &self,
        left: &mut BTreeSet<TopicPartition>,
        done: &mut Each<TopicPartition, T>,
        ask: &impl Fn(BrokerId, Vec<TopicPartition>) -> F,
    ) -> Option<ClientError>
    where
        F: Future<Output = Result<Each<TopicPartition, T>, ClientError>>,
    {
        let mut last = None;
        let mut brokers: BTreeMap<BrokerId, Vec<TopicPartition>> = BTreeMap::new();
        for partition in left.clone() {
            match self.cluster.leader(&partition).await {
                Ok((leader, _)) => brokers.entry(leader).or_default().push(partition),
                Err(ClientError::Refused { error, .. }) => {
                    // Metadata is authoritative on what exists.
                    if error.code == ErrorCode::UnknownTopicOrPartition
                        || !error.code.is_retriable()
                    {
                        left.remove(&partition);
                    }
                    done.insert(partition, Err(error));
                }
                Err(error) => last = Some(error),
            }
        }
        for (broker, partitions) in brokers {
            match ask(broker, partitions).await {
                Ok(results) => {
                    for (partition, result) in results {
                        if !matches!(&result, Err(error) if error.code.is_retriable()) {
                            left.remove(&partition);
                        }
                        done.insert(partition, result);
                    }
                }
                Err(error) => last = Some(error),
            }
        }
        last
    }
}

fn left_first(left: &BTreeSet<TopicPartition>) -> TopicPartition {
    left.first()
        .cloned()
        .unwrap_or_else(|| TopicPartition::new("", 0))
}

fn gave_up(what: &str, cluster: &Cluster, last: ClientError) -> ClientError {
    let within = cluster.config().default_api_timeout;
    ClientError::GaveUp {
        what: what.to_owned(),
        millis: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        last: Box::new(last),
    }
}

/// Asks one broker for offsets of partitions it leads.
pub(crate) async fn list_offsets_once(
    cluster: &Cluster,
    broker: BrokerId,
    partitions: Vec<TopicPartition>,
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation: Isolation,
) -> Result<Each<TopicPartition, FoundOffset>, ClientError> {
    let view = cluster.view();
    let topics = by_topic(partitions).into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|partition| {
            let key = TopicPartition::new(Arc::clone(&topic), partition);
            ListOffsetsPartition {
                partition_index: partition,
                current_leader_epoch: view.leader(&key).map_or(-1, |(_, epoch)| epoch.0),
                timestamp: wanted.get(&key).map_or(-1, |spec| spec.to_wire()),
                ..Default::default()
            }
        });
        ListOffsetsTopic {
            name: Str::from(&*topic),
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: isolation.to_wire(),
        topics: topics.collect(),
        timeout_ms: i32::try_from(cluster.config().request_timeout.as_millis()).unwrap_or(i32::MAX),
        ..Default::default()
    };
    let answer = cluster.call(broker, request).await?;
    Ok(found_offsets(&answer))
}

fn found_offsets(answer: &ListOffsetsResponse) -> Each<TopicPartition, FoundOffset> {
    let mut results = Each::new();
    for topic in &answer.topics {
        let name: Arc<str> = Arc::from(topic.name.as_str());
        for partition in &topic.partitions {
            let key = TopicPartition::new(Arc::clone(&name), partition.partition_index);
            let found = FoundOffset {
                offset: Some(Offset(partition.offset)).filter(|offset| offset.0 >= 0),
                timestamp: Timestamp(partition.timestamp),
                leader_epoch: LeaderEpoch(partition.leader_epoch),
            };
            let result = ApiError::check(partition.error_code, None).map(|()| found);
            results.insert(key, result);
        }
    }
    results
}
