//! Fetch requests and their answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::buffer::{Aborted, PartitionBuffer};
use crate::client::admin::by_topic;
use crate::client::cluster::{Cluster, Lane};
use crate::client::config::Isolation;
use crate::client::error::{ApiError, ClientError};
use crate::types::{BrokerId, Offset, ProducerId, TopicId, TopicPartition};
use crate::wire::Str;
use crate::wire::message::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};

/// Highest version of Fetch that names topics by name.
const BY_NAME_MAX: i16 = 12;

/// Where a fetch begins, and the consumer's stamp of that position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub position: Offset,
    pub stamp: u64,
}

/// One partition's part of an answer.
#[derive(Debug)]
pub(super) struct Part {
    pub partition: TopicPartition,
    pub result: Result<PartitionBuffer, ApiError>,
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
    /// A newer leader the broker told of.
    pub leader: Option<(i32, i32)>,
}

/// Fetches from one broker what it leads; the broker waits for data at most `wait_max`.
pub(super) async fn fetch(
    cluster: &Cluster,
    broker: BrokerId,
    asked: &BTreeMap<TopicPartition, Asked>,
    wait_max: Duration,
) -> Result<Vec<Part>, ClientError> {
    let config = cluster.config();
    let connection = cluster.connection(broker, Lane::Fetch).await?;
    let mut names = BTreeMap::new();
    let (mut request, cap) = request(cluster, asked, &mut names);
    let wait = config.fetch_max_wait.min(wait_max);
    request.max_wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let within = config.request_timeout + config.fetch_max_wait;
    let answer = connection.call_capped(request, cap, within).await?;
    ApiError::check(answer.error_code, None)
        .map_err(|error| ClientError::refused("fetching", error))?;
    Ok(parts(answer, asked, &names, config.isolation_level))
}

fn request(
    cluster: &Cluster,
    asked: &BTreeMap<TopicPartition, Asked>,
    names: &mut BTreeMap<TopicId, Arc<str>>,
) -> (FetchRequest, i16) {
    let view = cluster.view();
    let config = cluster.config();
    let mut cap = i16::MAX;
    let mut topics = Vec::new();
    for (name, numbers) in by_topic(asked.keys().cloned()) {
        let topic_id = view.topic_id(&name);
        if topic_id.is_zero() {
            cap = BY_NAME_MAX;
        }
        names.insert(topic_id, Arc::clone(&name));
        let partitions = numbers.into_iter().filter_map(|number| {
            let key = TopicPartition::new(Arc::clone(&name), number);
            let asked = asked.get(&key)?;
            Some(FetchPartition {
                partition: number,
                current_leader_epoch: view.leader(&key).map_or(-1, |(_, epoch)| epoch.0),
                fetch_offset: asked.position.0,
                partition_max_bytes: config.max_partition_fetch_bytes,
                ..Default::default()
            })
        });
        topics.push(FetchTopic {
            topic: Str::from(&*name),
            topic_id,
            partitions: partitions.collect(),
            ..Default::default()
        });
    }
    let request = FetchRequest {
        replica_id: -1,
        min_bytes: config.fetch_min_bytes,
        max_bytes: config.fetch_max_bytes,
        isolation_level: config.isolation_level.to_wire(),
        topics,
        ..Default::default()
    };
    (request, cap)
}

fn parts(
    answer: FetchResponse,
    asked: &BTreeMap<TopicPartition, Asked>,
    names: &BTreeMap<TopicId, Arc<str>>,
    isolation: Isolation,
) -> Vec<Part> {
    let mut parts = Vec::new();
    for topic in answer.responses {
        let name = match topic.topic.is_empty() {
            true => names.get(&topic.topic_id).cloned(),
            false => Some(Arc::from(topic.topic.as_str())),
        };
        let Some(name) = name else { continue };
        for data in topic.partitions {
            let partition = TopicPartition::new(Arc::clone(&name), data.partition_index);
            if let Some(asked) = asked.get(&partition) {
                parts.push(part(partition, asked.position, data, isolation));
            }
        }
    }
    parts
}

fn part(
    partition: TopicPartition,
    position: Offset,
    data: PartitionData,
    isolation: Isolation,
) -> Part {
    let aborted = (isolation == Isolation::ReadCommitted).then(|| {
        let aborted = data.aborted_transactions.unwrap_or_default().into_iter();
        let aborted = aborted.map(|aborted| Aborted {
            first_offset: Offset(aborted.first_offset),
            producer_id: ProducerId(aborted.producer_id),
        });
        aborted.collect()
    });
    let bytes = data.records.unwrap_or_default().contiguous();
    let told = (
        data.current_leader.leader_id,
        data.current_leader.leader_epoch,
    );
    let result = ApiError::check(data.error_code, None)
        .map(|()| PartitionBuffer::new(partition.clone(), position, bytes, aborted));
    Part {
        partition,
        result,
        high_watermark: Offset(data.high_watermark),
        log_start_offset: Offset(data.log_start_offset),
        leader: (told.0 >= 0).then_some(told),
    }
}
