//! OffsetCommit and OffsetDelete: what a group has consumed, by topic name within the coordinator.

use std::sync::Arc;

use super::RequestContext;
use crate::broker::Broker;
use crate::controller::ClusterImage;
use crate::types::ErrorCode;
use crate::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::wire::message::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};

/// First version that names topics by id.
const TOPIC_ID_SINCE: i16 = 10;

pub async fn handle(
    broker: Arc<Broker>,
    context: RequestContext,
    mut request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let image = broker.controller.image();
    let by_id = context.version >= TOPIC_ID_SINCE;
    let mut refused = Vec::new();
    let mut accepted = Vec::new();
    for topic in std::mem::take(&mut request.topics) {
        let (known, unknown) = split(&image, topic, by_id);
        refused.extend(unknown);
        accepted.extend(known);
    }
    if accepted.is_empty() && !refused.is_empty() {
        return OffsetCommitResponse {
            topics: refused,
            ..Default::default()
        };
    }
    request.topics = accepted;
    let mut response = broker.groups.commit_offsets(request).await;
    if by_id {
        for topic in &mut response.topics {
            if let Some(known) = image.topic(&topic.name) {
                topic.topic_id = known.id;
            }
        }
    }
    response.topics.extend(refused);
    response
}

/// The part of a topic that exists, by name, and the answer for the part that does not.
fn split(
    image: &ClusterImage,
    mut topic: OffsetCommitRequestTopic,
    by_id: bool,
) -> (
    Option<OffsetCommitRequestTopic>,
    Option<OffsetCommitResponseTopic>,
) {
    let (found, code) = match by_id {
        true => (image.topic_by_id(topic.topic_id), ErrorCode::UnknownTopicId),
        false => (image.topic(&topic.name), ErrorCode::UnknownTopicOrPartition),
    };
    let count = found.map_or(0, |topic| {
        i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)
    });
    let code = if found.is_some() {
        ErrorCode::UnknownTopicOrPartition
    } else {
        code
    };
    let exists = |index: i32| (0..count).contains(&index);
    let mut refused = Vec::new();
    topic.partitions.retain(|partition| {
        if !exists(partition.partition_index) {
            refused.push(OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code.code(),
                ..Default::default()
            });
        }
        exists(partition.partition_index)
    });
    let refused = (!refused.is_empty()).then(|| OffsetCommitResponseTopic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: refused,
        ..Default::default()
    });
    if let Some(found) = found {
        topic.name = found.name.as_ref().into();
    }
    ((!topic.partitions.is_empty()).then_some(topic), refused)
}

pub async fn delete(broker: Arc<Broker>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    broker.groups.delete_offsets(request).await
}
