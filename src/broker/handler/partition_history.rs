//! PartitionHistory: why a partition is led and held by whom it is.

use std::sync::Arc;

use crate::broker::Broker;
use crate::controller::{Cause, PartitionState};
use crate::types::ErrorCode;
use crate::wire::message::partition_history::{
    PartitionChange, PartitionHistoryRequest, PartitionHistoryResponse,
};

pub fn handle(broker: &Arc<Broker>, request: &PartitionHistoryRequest) -> PartitionHistoryResponse {
    let image = broker.controller.image();
    let topic = image.topic(&request.topic);
    let found = topic.and_then(|topic| Some((topic.id, topic.partition(request.partition)?)));
    let Some((topic_id, state)) = found else {
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
        topic_id,
        changes: vec![change(state)],
        ..Default::default()
    }
}

fn change(state: &PartitionState) -> PartitionChange {
    PartitionChange {
        cause: cause(state.cause).into(),
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

/// The name of a cause: part of the API, so that clients can tell causes they do not know apart.
fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::TopicCreated => "TOPIC_CREATED",
        Cause::PartitionsAdded => "PARTITIONS_ADDED",
        Cause::BrokerStarted => "BROKER_STARTED",
        Cause::LeaderRestarted => "LEADER_RESTARTED",
        Cause::BrokerFenced => "BROKER_FENCED",
        Cause::BrokerShutDown => "BROKER_SHUT_DOWN",
        Cause::IsrChanged => "ISR_CHANGED",
        Cause::PreferredElection => "PREFERRED_ELECTION",
        Cause::UncleanElection => "UNCLEAN_ELECTION",
        Cause::Reassignment => "REASSIGNMENT",
    }
}
