//! Metadata: the brokers, the topics, and who leads what.

use std::sync::Arc;

use super::RequestContext;
use crate::broker::{Broker, endpoints, topics};
use crate::controller::{ClusterImage, TopicImage, is_internal_topic};
use crate::types::ErrorCode;
use crate::wire::Str;
use crate::wire::message::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};

/// First version in which no topics means none, and null means all.
const NULL_IS_ALL_SINCE: i16 = 1;

/// First version that says whether missing topics may be made.
const AUTO_CREATE_FLAG_SINCE: i16 = 4;

pub async fn handle(
    broker: Arc<Broker>,
    context: RequestContext,
    request: MetadataRequest,
) -> MetadataResponse {
    let wanted = match request.topics {
        Some(topics) if topics.is_empty() && context.version < NULL_IS_ALL_SINCE => None,
        topics => topics,
    };
    let may_create = context.version < AUTO_CREATE_FLAG_SINCE || request.allow_auto_topic_creation;
    let with_operations = request.include_topic_authorized_operations;
    let described = match wanted {
        None => {
            let image = broker.controller.image();
            image
                .topics()
                .map(|topic| described(&broker, &image, topic, with_operations))
                .collect()
        }
        Some(wanted) => {
            if may_create {
                create_missing(&broker, &wanted).await;
            }
            let image = broker.controller.image();
            wanted
                .into_iter()
                .map(|topic| find(&broker, &image, topic, with_operations))
                .collect()
        }
    };
    let image = broker.controller.image();
    MetadataResponse {
        brokers: endpoints::alive(&broker, &context)
            .into_iter()
            .map(|endpoint| MetadataResponseBroker {
                node_id: endpoint.id.0,
                host: endpoint.host.into(),
                port: endpoint.port,
                rack: endpoint.rack.map(Into::into),
                ..Default::default()
            })
            .collect(),
        cluster_id: image.cluster_id().map(|id| id.to_string().into()),
        controller_id: endpoints::controller(&broker, &image).0,
        cluster_authorized_operations: super::operations(
            request.include_cluster_authorized_operations,
            super::CLUSTER_OPERATIONS,
        ),
        topics: described,
        ..Default::default()
    }
}

/// Makes the topics that are asked for and missing, where the settings allow it.
async fn create_missing(broker: &Arc<Broker>, wanted: &[MetadataRequestTopic]) {
    if !broker.config.topics.auto_create_enable {
        return;
    }
    let image = broker.controller.image();
    let missing: Vec<&str> = wanted
        .iter()
        .filter_map(|topic| topic.name.as_deref())
        .filter(|name| !name.is_empty() && image.topic(name).is_none())
        .collect();
    if !missing.is_empty() {
        topics::create_automatically(broker, &missing).await;
    }
}

fn find(
    broker: &Broker,
    image: &ClusterImage,
    wanted: MetadataRequestTopic,
    operations: bool,
) -> MetadataResponseTopic {
    let by_id = !wanted.topic_id.is_zero();
    let found = match (&wanted.name, by_id) {
        (_, true) => image
            .topic_by_id(wanted.topic_id)
            .ok_or(ErrorCode::UnknownTopicId),
        (Some(name), false) => image.topic(name).ok_or_else(|| missing(name)),
        (None, false) => Err(ErrorCode::InvalidRequest),
    };
    match found {
        Ok(topic) => described(broker, image, topic, operations),
        Err(code) => MetadataResponseTopic {
            error_code: code.code(),
            is_internal: wanted.name.as_deref().is_some_and(is_internal_topic),
            name: wanted.name,
            topic_id: wanted.topic_id,
            ..Default::default()
        },
    }
}

fn missing(name: &str) -> ErrorCode {
    match crate::controller::validate_topic_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(refusal) => refusal.code,
    }
}

fn described(
    broker: &Broker,
    image: &ClusterImage,
    topic: &Arc<TopicImage>,
    operations: bool,
) -> MetadataResponseTopic {
    let ids = |brokers: &[crate::types::BrokerId]| brokers.iter().map(|id| id.0).collect();
    let partition = |(index, state): (i32, &Arc<crate::controller::PartitionState>)| {
        let code = match state.leader {
            Some(_) => ErrorCode::None,
            None => ErrorCode::LeaderNotAvailable,
        };
        MetadataResponsePartition {
            error_code: code.code(),
            partition_index: index,
            leader_id: state.leader.map_or(-1, |leader| leader.0),
            leader_epoch: state.leader_epoch.0,
            replica_nodes: ids(&state.replicas),
            isr_nodes: ids(&state.isr),
            offline_replicas: super::offline_replicas(broker, image, topic, index),
            ..Default::default()
        }
    };
    MetadataResponseTopic {
        name: Some(Str::from(topic.name.as_ref())),
        topic_id: topic.id,
        is_internal: is_internal_topic(&topic.name),
        partitions: (0..).zip(&topic.partitions).map(partition).collect(),
        topic_authorized_operations: super::operations(operations, super::TOPIC_OPERATIONS),
        ..Default::default()
    }
}
