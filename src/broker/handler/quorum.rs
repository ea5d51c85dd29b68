//! DescribeQuorum, AddRaftVoter and RemoveRaftVoter: the controller quorum and its voters.

use std::sync::Arc;

use crate::broker::Broker;
use crate::broker::quorum_admin::{MemberStatus, QuorumQuestion, QuorumStatus};
use crate::controller::{Peer, Refusal};
use crate::types::{BrokerId, ErrorCode};
use crate::wire::Str;
use crate::wire::message::add_raft_voter::{self, AddRaftVoterRequest, AddRaftVoterResponse};
use crate::wire::message::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState,
    TopicData,
};
use crate::wire::message::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};

/// The one partition that the quorum has.
const TOPIC: &str = "__cluster_metadata";

/// Requests that name no time-out of their own.
const TIMEOUT_MS: i32 = 30_000;

pub async fn describe(
    broker: Arc<Broker>,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    if !is_about_metadata(&request) {
        return unknown(&request);
    }
    let within = super::patience(TIMEOUT_MS);
    match broker.quorum.ask(QuorumQuestion::Describe, within).await {
        Ok(status) => described(&status, controller_listener(&broker)),
        Err(refusal) => DescribeQuorumResponse {
            error_code: refusal.code.code(),
            error_message: Some(refusal.text.into()),
            ..Default::default()
        },
    }
}

fn is_about_metadata(request: &DescribeQuorumRequest) -> bool {
    matches!(&request.topics[..], [topic] if topic.topic_name == TOPIC
        && matches!(&topic.partitions[..], [partition] if partition.partition_index == 0))
}

/// The answer where something else is asked for than the metadata partition.
fn unknown(request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionData {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UnknownTopicOrPartition.code(),
                leader_id: -1,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

/// Name of the listener that the addresses of voters belong to.
fn controller_listener(broker: &Broker) -> &str {
    let listeners = &broker.config.quorum.listeners;
    listeners.first().map_or("CONTROLLER", |one| &one.name)
}

fn described(status: &QuorumStatus, listener: &str) -> DescribeQuorumResponse {
    // Kafka tells the addresses of voters only; those of observers let `klamm` give them a vote.
    let members = status.voters.iter().chain(&status.observers);
    let partition = PartitionData {
        leader_id: status.leader.map_or(-1, |leader| leader.0),
        leader_epoch: status.leader_epoch,
        high_watermark: status.high_watermark.0,
        current_voters: status.voters.iter().map(replica).collect(),
        observers: status.observers.iter().map(replica).collect(),
        ..Default::default()
    };
    let topic = TopicData {
        topic_name: TOPIC.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    DescribeQuorumResponse {
        topics: vec![topic],
        nodes: members.map(|one| node(one, listener)).collect(),
        ..Default::default()
    }
}

fn replica(member: &MemberStatus) -> ReplicaState {
    ReplicaState {
        replica_id: member.peer.id.0,
        replica_directory_id: member.peer.directory_id,
        log_end_offset: member.end.map_or(-1, |end| end.0),
        last_fetch_timestamp: member.last_fetch_ms.unwrap_or(-1),
        last_caught_up_timestamp: member.last_caught_up_ms.unwrap_or(-1),
        ..Default::default()
    }
}

/// A member and its address, which a cluster of one node does not have.
fn node(member: &MemberStatus, listener: &str) -> Node {
    let peer = &member.peer;
    let address = (!peer.host.is_empty()).then(|| Listener {
        name: listener.into(),
        host: peer.host.as_str().into(),
        port: peer.port,
        ..Default::default()
    });
    Node {
        node_id: peer.id.0,
        listeners: address.into_iter().collect(),
        ..Default::default()
    }
}

pub async fn add_voter(broker: Arc<Broker>, request: AddRaftVoterRequest) -> AddRaftVoterResponse {
    let done = async {
        check_cluster(&broker, request.cluster_id.as_ref())?;
        let peer = new_voter(&request, controller_listener(&broker))?;
        let within = super::patience(request.timeout_ms);
        broker
            .quorum
            .ask(QuorumQuestion::AddVoter(peer), within)
            .await
    };
    let (error_code, error_message) = super::outcome(done.await.map(|_| ()));
    AddRaftVoterResponse {
        error_code,
        error_message,
        ..Default::default()
    }
}

fn new_voter(request: &AddRaftVoterRequest, listener: &str) -> Result<Peer, Refusal> {
    let invalid = |text: String| Err(Refusal::new(ErrorCode::InvalidRequest, text));
    if request.voter_id < 0 || request.voter_directory_id.is_zero() {
        return invalid("a voter has a node id and a directory id".to_owned());
    }
    let named = |one: &&add_raft_voter::Listener| one.name == *listener;
    let found = request.listeners.iter().find(named);
    let Some(found) = found.filter(|one| !one.host.is_empty() && one.port != 0) else {
        return invalid(format!(
            "voter {} must say where its listener {listener} is",
            request.voter_id
        ));
    };
    Ok(Peer {
        id: BrokerId(request.voter_id),
        directory_id: request.voter_directory_id,
        host: found.host.as_str().to_owned(),
        port: found.port,
    })
}

pub async fn remove_voter(
    broker: Arc<Broker>,
    request: RemoveRaftVoterRequest,
) -> RemoveRaftVoterResponse {
    let done = async {
        check_cluster(&broker, request.cluster_id.as_ref())?;
        let question = QuorumQuestion::RemoveVoter {
            id: BrokerId(request.voter_id),
            directory_id: request.voter_directory_id,
        };
        let within = super::patience(TIMEOUT_MS);
        broker.quorum.ask(question, within).await
    };
    let (error_code, error_message) = super::outcome(done.await.map(|_| ()));
    RemoveRaftVoterResponse {
        error_code,
        error_message,
        ..Default::default()
    }
}

fn check_cluster(broker: &Broker, named: Option<&Str>) -> Result<(), Refusal> {
    let own = broker.controller.image().cluster_id();
    let own = own.map(|id| id.to_string()).unwrap_or_default();
    match named {
        Some(named) if *named != *own => Err(Refusal::new(
            ErrorCode::InconsistentClusterId,
            format!("this is cluster {own}, not {named}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "quorum_tests.rs"]
mod tests;
