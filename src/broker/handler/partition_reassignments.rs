//! AlterPartitionReassignments and ListPartitionReassignments: replicas on the move.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::Broker;
use crate::controller::{AlterReassignments, ClusterImage, PartitionResult, PartitionState};
use crate::types::BrokerId;
use crate::wire::message::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::wire::message::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};

pub async fn alter(
    broker: Arc<Broker>,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let allow_replication_factor_change = request.allow_replication_factor_change;
    let partitions: Vec<_> = request
        .topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| {
                let ids = partition.replicas.as_ref();
                let replicas = ids.map(|ids| ids.iter().copied().map(BrokerId).collect());
                let name = topic.name.as_str().to_owned();
                (name, partition.partition_index, replicas)
            })
        })
        .collect();
    let wanted = AlterReassignments {
        allow_replication_factor_change,
        partitions,
    };
    let controller = super::controller_within(&broker, request.timeout_ms);
    let mut response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change,
        ..Default::default()
    };
    match controller.alter_reassignments(wanted).await {
        Ok(results) => response.responses = by_topic(results),
        Err(refusal) => {
            response.error_code = refusal.code.code();
            response.error_message = Some(refusal.text.into());
        }
    }
    response
}

fn by_topic(results: Vec<PartitionResult>) -> Vec<ReassignableTopicResponse> {
    let mut topics: BTreeMap<String, Vec<ReassignablePartitionResponse>> = BTreeMap::new();
    for (topic, partition_index, outcome) in results {
        let (error_code, error_message) = super::outcome(outcome);
        let partitions = topics.entry(topic).or_default();
        partitions.push(ReassignablePartitionResponse {
            partition_index,
            error_code,
            error_message,
            ..Default::default()
        });
    }
    topics
        .into_iter()
        .map(|(name, partitions)| ReassignableTopicResponse {
            name: name.into(),
            partitions,
            ..Default::default()
        })
        .collect()
}

/// What this broker's metadata says is under way.
pub fn list(
    broker: &Arc<Broker>,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse {
        topics: under_way(&broker.controller.image(), request),
        ..Default::default()
    }
}

/// Topics and partitions that do not exist are not on the move: they are left out, as in Kafka.
fn under_way(
    image: &ClusterImage,
    request: &ListPartitionReassignmentsRequest,
) -> Vec<OngoingTopicReassignment> {
    let mut found = Vec::new();
    match &request.topics {
        None => {
            for topic in image.topics() {
                let moves = (0..).zip(&topic.partitions).filter_map(ongoing);
                add(&mut found, &topic.name, moves.collect());
            }
        }
        Some(wanted) => {
            for topic in wanted {
                let states = topic.partition_indexes.iter().filter_map(|index| {
                    let state = image.partition(&topic.name, *index)?;
                    ongoing((*index, state))
                });
                add(&mut found, &topic.name, states.collect());
            }
        }
    }
    found
}

fn add(
    found: &mut Vec<OngoingTopicReassignment>,
    name: &str,
    partitions: Vec<OngoingPartitionReassignment>,
) {
    if !partitions.is_empty() {
        found.push(OngoingTopicReassignment {
            name: name.into(),
            partitions,
            ..Default::default()
        });
    }
}

fn ongoing(
    (partition_index, state): (i32, &Arc<PartitionState>),
) -> Option<OngoingPartitionReassignment> {
    if !state.is_reassigning() {
        return None;
    }
    Some(OngoingPartitionReassignment {
        partition_index,
        replicas: super::ids(&state.replicas),
        adding_replicas: super::ids(&state.adding),
        removing_replicas: super::ids(&state.removing),
        ..Default::default()
    })
}

#[cfg(test)]
#[path = "partition_reassignments_tests.rs"]
mod tests;
