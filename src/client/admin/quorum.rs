//! The controller quorum: who leads it, how far its members are, and who has a vote.

use std::collections::BTreeMap;

use super::Admin;
use crate::client::error::{ApiError, ClientError};
use crate::types::{BrokerId, Offset, Timestamp, Uuid};
use crate::wire::Str;
use crate::wire::message::add_raft_voter::{AddRaftVoterRequest, Listener};
use crate::wire::message::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, PartitionRequest, ReplicaState, TopicRequest,
};
use crate::wire::message::remove_raft_voter::RemoveRaftVoterRequest;

/// The one partition that has such a quorum.
const TOPIC: &str = "__cluster_metadata";

/// The quorum as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumDescription {
    /// `None` while it has none.
    pub leader: Option<BrokerId>,
    pub leader_epoch: i32,
    pub high_watermark: Offset,
    pub voters: Vec<QuorumMember>,
    /// Those that follow without a vote.
    pub observers: Vec<QuorumMember>,
}

/// A member of the quorum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumMember {
    pub id: BrokerId,
    /// Zero where the broker is too old to say.
    pub directory_id: Uuid,
    pub log_end_offset: Option<Offset>,
    /// When the leader last heard of it, by the leader's clock.
    pub last_fetch: Option<Timestamp>,
    pub last_caught_up: Option<Timestamp>,
    pub endpoints: Vec<QuorumEndpoint>,
}

/// Where a controller is reached by other controllers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumEndpoint {
    pub listener: String,
    pub host: String,
    pub port: u16,
}

impl Admin {
    pub async fn describe_quorum(&self) -> Result<QuorumDescription, ClientError> {
        let topic = TopicRequest {
            topic_name: TOPIC.into(),
            partitions: vec![PartitionRequest::default()],
            ..Default::default()
        };
        let request = DescribeQuorumRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let what = "describing the quorum";
        let attempt = || async {
            let answer = self.cluster.call_any(request.clone()).await?;
            ApiError::check(answer.error_code, answer.error_message.as_deref())
                .and_then(|()| described(&answer))
                .map_err(|error| ClientError::refused(what, error))
        };
        self.cluster.retry(what, attempt).await
    }

    /// Gives a controller that follows the quorum a vote.
    pub async fn add_voter(
        &self,
        id: BrokerId,
        directory_id: Uuid,
        endpoints: &[QuorumEndpoint],
    ) -> Result<(), ClientError> {
        let listeners = endpoints.iter().map(|one| Listener {
            name: Str::from(one.listener.as_str()),
            host: Str::from(one.host.as_str()),
            port: one.port,
            ..Default::default()
        });
        let request = AddRaftVoterRequest {
            cluster_id: None,
            timeout_ms: self.broker_timeout_ms(),
            voter_id: id.0,
            voter_directory_id: directory_id,
            listeners: listeners.collect(),
            ..Default::default()
        };
        let what = format!("giving controller {id} a vote");
        let attempt = || async {
            let answer = self.cluster.call_any(request.clone()).await?;
            ApiError::check(answer.error_code, answer.error_message.as_deref())
                .map_err(|error| ClientError::refused(&*what, error))
        };
        self.cluster.retry(&what, attempt).await
    }

    /// Takes a controller's vote away.
    pub async fn remove_voter(&self, id: BrokerId, directory_id: Uuid) -> Result<(), ClientError> {
        let request = RemoveRaftVoterRequest {
            cluster_id: None,
            voter_id: id.0,
            voter_directory_id: directory_id,
            ..Default::default()
        };
        let what = format!("taking the vote of controller {id}");
        let attempt = || async {
            let answer = self.cluster.call_any(request.clone()).await?;
            ApiError::check(answer.error_code, answer.error_message.as_deref())
                .map_err(|error| ClientError::refused(&*what, error))
        };
        self.cluster.retry(&what, attempt).await
    }
}

fn described(answer: &DescribeQuorumResponse) -> Result<QuorumDescription, ApiError> {
    let topic = answer.topics.first();
    let found = topic.and_then(|topic| topic.partitions.first());
    let partition = found.ok_or_else(|| ApiError {
        code: crate::types::ErrorCode::UnknownServerError,
        text: Some("the answer is empty".to_owned()),
    })?;
    ApiError::check(partition.error_code, partition.error_message.as_deref())?;
    let mut endpoints: BTreeMap<i32, Vec<QuorumEndpoint>> = BTreeMap::new();
    for node in &answer.nodes {
        let listeners = node.listeners.iter().map(|one| QuorumEndpoint {
            listener: one.name.to_string(),
            host: one.host.to_string(),
            port: one.port,
        });
        endpoints.insert(node.node_id, listeners.collect());
    }
    let member = |state: &ReplicaState| QuorumMember {
        id: BrokerId(state.replica_id),
        directory_id: state.replica_directory_id,
        log_end_offset: known(state.log_end_offset).map(Offset),
        last_fetch: known(state.last_fetch_timestamp).map(Timestamp),
        last_caught_up: known(state.last_caught_up_timestamp).map(Timestamp),
        endpoints: endpoints
            .get(&state.replica_id)
            .cloned()
            .unwrap_or_default(),
    };
    Ok(QuorumDescription {
        leader: (partition.leader_id >= 0).then_some(BrokerId(partition.leader_id)),
        leader_epoch: partition.leader_epoch,
        high_watermark: Offset(partition.high_watermark),
        voters: partition.current_voters.iter().map(member).collect(),
        observers: partition.observers.iter().map(member).collect(),
    })
}

fn known(number: i64) -> Option<i64> {
    (number >= 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::describe_quorum::{Node, PartitionData, TopicData};

    #[test]
    fn members_get_the_addresses_that_stand_apart_from_them() {
        let replica = |replica_id, log_end_offset| ReplicaState {
            replica_id,
            log_end_offset,
            ..Default::default()
        };
        let partition = PartitionData {
            leader_id: 1,
            current_voters: vec![replica(1, 9), replica(2, -1)],
            ..Default::default()
        };
        let listener = crate::wire::message::describe_quorum::Listener {
            name: "CONTROLLER".into(),
            host: "b".into(),
            port: 9093,
            ..Default::default()
        };
        let answer = DescribeQuorumResponse {
            topics: vec![TopicData {
                partitions: vec![partition],
                ..Default::default()
            }],
            nodes: vec![Node {
                node_id: 2,
                listeners: vec![listener],
                ..Default::default()
            }],
            ..Default::default()
        };
        let quorum = described(&answer).unwrap();
        assert_eq!(quorum.leader, Some(BrokerId(1)));
        assert_eq!(quorum.voters[0].log_end_offset, Some(Offset(9)));
        assert_eq!(quorum.voters[0].endpoints, []);
        assert_eq!(quorum.voters[1].log_end_offset, None);
        assert_eq!(quorum.voters[1].endpoints[0].host, "b");
        assert!(described(&DescribeQuorumResponse::default()).is_err());
    }
}
