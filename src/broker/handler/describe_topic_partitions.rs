//! DescribeTopicPartitions: topics in pages (KIP-966).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::broker::Broker;
use crate::controller::{ClusterImage, PartitionState, TopicImage, is_internal_topic};
use crate::types::ErrorCode;
use crate::wire::message::describe_topic_partitions::{
    CursorResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};

pub fn handle(
    broker: &Arc<Broker>,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = broker.controller.image();
    let most = broker.config.network.max_request_partition_size_limit;
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut response = page(&image, request, asked.clamp(1, most));
    for topic in &mut response.topics {
        let Some(known) = image.topic_by_id(topic.topic_id) else {
            continue;
        };
        for partition in &mut topic.partitions {
            let at = partition.partition_index;
            partition.offline_replicas = super::offline_replicas(broker, &image, known, at);
        }
    }
    response
}

/// The part of the answer that fits `room` partitions, and where the next page begins.
fn page(
    image: &ClusterImage,
    request: &DescribeTopicPartitionsRequest,
    mut room: usize,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let start = request
        .cursor
        .as_ref()
        .map(|cursor| (cursor.topic_name.as_str(), cursor));
    for name in names(image, request) {
        let mut from = 0;
        if let Some((first, cursor)) = start {
            if name.as_str() < first {
                continue;
            }
            if name == first {
                from = usize::try_from(cursor.partition_index).unwrap_or(0);
            }
        }
        let Some(topic) = image.topic(&name) else {
            response.topics.push(unknown(&name));
            continue;
        };
        if room == 0 {
            response.next_cursor = Some(cursor(&name, from));
            return response;
        }
        let end = topic.partitions.len().min(from.saturating_add(room));
        let shown = topic.partitions.get(from..end).unwrap_or_default();
        room -= shown.len();
        response.topics.push(described(topic, from, shown));
        if end < topic.partitions.len() {
            response.next_cursor = Some(cursor(&name, end));
            return response;
        }
    }
    response
}

/// In ascending order, as the cursor needs it; no topics means all.
fn names(image: &ClusterImage, request: &DescribeTopicPartitionsRequest) -> BTreeSet<String> {
    if request.topics.is_empty() {
        return image.topics().map(|topic| topic.name.to_string()).collect();
    }
    request
        .topics
        .iter()
        .map(|topic| topic.name.as_str().to_owned())
        .collect()
}

fn cursor(topic: &str, partition: usize) -> Box<CursorResponse> {
    Box::new(CursorResponse {
        topic_name: topic.into(),
        partition_index: i32::try_from(partition).unwrap_or(i32::MAX),
        ..Default::default()
    })
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match crate::controller::validate_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(refusal) => refusal.code,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.into()),
        ..Default::default()
    }
}

fn described(
    topic: &TopicImage,
    from: usize,
    shown: &[Arc<PartitionState>],
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = (from..).zip(shown).map(|(index, state)| {
        let code = match state.leader {
            Some(_) => ErrorCode::None,
            None => ErrorCode::LeaderNotAvailable,
        };
        DescribeTopicPartitionsResponsePartition {
            error_code: code.code(),
            partition_index: i32::try_from(index).unwrap_or(i32::MAX),
            leader_id: state.leader.map_or(-1, |leader| leader.0),
            leader_epoch: state.leader_epoch.0,
            replica_nodes: super::ids(&state.replicas),
            isr_nodes: super::ids(&state.isr),
            eligible_leader_replicas: Some(super::ids(&state.elr)),
            last_known_elr: Some(super::ids(&state.last_known_elr)),
            ..Default::default()
        }
    });
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.as_ref().into()),
        topic_id: topic.id,
        is_internal: is_internal_topic(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: super::TOPIC_OPERATIONS,
        ..Default::default()
    }
}
