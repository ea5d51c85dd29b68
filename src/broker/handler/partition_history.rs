//! PartitionHistory: why a partition is led and held by whom it is.

use std::sync::Arc;

use crate::broker::Broker;
use crate::controller::PartitionEvent;
use crate::types::ErrorCode;
use crate::wire::message::partition_history::{
    PartitionChange, PartitionHistoryRequest, PartitionHistoryResponse,
};

pub fn handle(broker: &Arc<Broker>, request: &PartitionHistoryRequest) -> PartitionHistoryResponse {
    let image = broker.controller.image();
    let topic = image.topic(&request.topic);
    let found = topic.filter(|topic| topic.partition(request.partition).is_some());
    let Some(found) = found else {
        return PartitionHistoryResponse {
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            error_message: Some(match topic {
                None => format!("there is no topic '{}'", request.topic).into(),
                Some(topic) => format!(
                    "topic '{}' has the partitions 0 to {}",
                    request.topic,
                    topic.partitions.len().saturating_sub(1)
                )
                .into(),
            }),
            ..Default::default()
        };
    };
    PartitionHistoryResponse {
        topic_id: found.id,
        changes: found
            .history(request.partition)
            .iter()
            .map(change)
            .collect(),
        ..Default::default()
    }
}

fn change(event: &PartitionEvent) -> PartitionChange {
    let state = &event.state;
    PartitionChange {
        metadata_end: event.end.0,
        timestamp_ms: event.at.0,
        cause: state.cause.name().into(),
        broker: event.by.map_or(-1, |broker| broker.0),
        leader: state.leader.map_or(-1, |leader| leader.0),
        leader_epoch: state.leader_epoch.0,
        partition_epoch: state.partition_epoch,
        replicas: super::ids(&state.replicas),
        isr: super::ids(&state.isr),
        eligible_leader_replicas: super::ids(&state.elr),
        last_known_elr: super::ids(&state.last_known_elr),
        adding_replicas: super::ids(&state.adding),
        removing_replicas: super::ids(&state.removing),
        recovering: state.recovering,
        ..Default::default()
    }
}
