//! What a person asks of a cluster while it runs: partitions moved, leaders elected, voters taken
//! out and added. Nothing of it is an operation of the history; each is tried again until it worked
//! or its time is over.

use std::time::Duration;

use klamm::env::{Env, Rng};
use klamm::types::{ErrorCode, Instant, Uuid};
use klamm::wire::message::add_raft_voter::{AddRaftVoterRequest, Listener};
use klamm::wire::message::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use klamm::wire::message::describe_quorum::{
    DescribeQuorumRequest, PartitionData, PartitionRequest, TopicRequest,
};
use klamm::wire::message::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use klamm::wire::message::metadata::{MetadataRequest, MetadataRequestTopic};
use klamm::wire::message::remove_raft_voter::RemoveRaftVoterRequest;

use super::errors::error_name;
use super::line::{DISCONNECTED, Line};
use crate::record::Recorder;

/// Version of DescribeQuorum that tells directories.
const DIRECTORIES_SINCE: i16 = 2;
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Partitions with the brokers that have copies of them, the preferred one first.
type Copies = Vec<(i32, Vec<i32>)>;

/// An operator's connection.
pub struct Operator {
    line: Line,
    rng: Rng,
    deadline: Instant,
}

impl Operator {
    /// Somebody who has `within` for what they are asked to do.
    #[must_use]
    pub fn new(env: &Env, brokers: &str, mut rng: Rng, within: Duration) -> Self {
        let own = Rng::from_seed(rng.bytes());
        // What it asks is no part of the history.
        let line = Line::new(env.clone(), Recorder::default(), "operator", brokers, own);
        Self {
            line,
            rng,
            deadline: env.now().plus(within),
        }
    }

    fn is_late(&self) -> bool {
        self.line.env.now() >= self.deadline
    }

    /// Moves every partition of a topic to drawn brokers, as many as before.
    pub async fn reassign(&mut self, topic: &str) -> Result<(), String> {
        loop {
            match self.try_reassign(topic).await {
                Err(_) if !self.is_late() => self.line.wait_a_little().await,
                done => return done,
            }
        }
    }

    async fn try_reassign(&mut self, topic: &str) -> Result<(), String> {
        let (found, mut brokers) = self.copies(topic).await?;
        brokers.sort_unstable();
        let moved = found.into_iter().map(|(partition, replicas)| {
            let mut left = brokers.clone();
            let mut drawn = Vec::new();
            while drawn.len() < replicas.len() && !left.is_empty() {
                let at = self.rng.below(left.len() as u64);
                drawn.push(left.remove(usize::try_from(at).unwrap_or(0)));
            }
            (partition, drawn)
        });
        let moved = moved.collect();
        self.place(topic, moved).await
    }

    /// Has every partition of a topic prefer its copy on broker `id`, and then elects the
    /// preferred ones.
    pub async fn lead(&mut self, topic: &str, id: i32) -> Result<(), String> {
        let (found, _) = self.copies(topic).await?;
        let count = i32::try_from(found.len()).unwrap_or(i32::MAX);
        let moved = found.into_iter().map(|(partition, mut replicas)| {
            replicas.sort_unstable_by_key(|replica| *replica != id);
            (partition, replicas)
        });
        let moved = moved.collect();
        self.place(topic, moved).await?;
        self.elect(topic, count).await
    }

    /// Where the copies of each partition are, and all brokers.
    async fn copies(&mut self, topic: &str) -> Result<(Copies, Vec<i32>), String> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(topic.into()),
                ..Default::default()
            }]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        self.line.anyone();
        let answer = self.line.call(request, 4).await?;
        let brokers = answer.brokers.iter().map(|broker| broker.node_id).collect();
        let found = answer.topics.into_iter().next().ok_or(DISCONNECTED)?;
        let each = found.partitions.into_iter();
        let copies = each.map(|found| (found.partition_index, found.replica_nodes));
        Ok((copies.collect(), brokers))
    }

    async fn place(&mut self, topic: &str, copies: Copies) -> Result<(), String> {
        let moved = copies.into_iter();
        let moved = moved.map(|(partition_index, replicas)| ReassignablePartition {
            partition_index,
            replicas: Some(replicas),
            ..Default::default()
        });
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: 5000,
            topics: vec![ReassignableTopic {
                name: topic.into(),
                partitions: moved.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.line.call(request, 0).await?;
        error_name(answer.error_code).map_or(Ok(()), Err)
    }

    /// Makes the preferred replicas of a topic leaders, once.
    pub async fn elect(&mut self, topic: &str, partitions: i32) -> Result<(), String> {
        let request = ElectLeadersRequest {
            election_type: 0,
            topic_partitions: Some(vec![TopicPartitions {
                topic: topic.into(),
                partitions: (0..partitions).collect(),
                ..Default::default()
            }]),
            timeout_ms: 5000,
            ..Default::default()
        };
        self.line.anyone();
        let answer = self.line.call(request, 0).await?;
        error_name(answer.error_code).map_or(Ok(()), Err)
    }

    async fn quorum(&mut self) -> Result<PartitionData, String> {
        let request = DescribeQuorumRequest {
            topics: vec![TopicRequest {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![PartitionRequest {
                    partition_index: 0,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.line.anyone();
        let answer = self.line.call(request, DIRECTORIES_SINCE).await?;
        error_name(answer.error_code).map_or(Ok(()), Err)?;
        let mut each = answer.topics.into_iter().flat_map(|topic| topic.partitions);
        let found = each.next().ok_or(DISCONNECTED)?;
        error_name(found.error_code).map_or(Ok(found), Err)
    }

    /// Takes the vote of a node away, if it has one. What the quorum is said to be may not be
    /// committed yet, so only what the quorum answers counts.
    pub async fn remove_voter(&mut self, id: i32) -> Result<(), String> {
        loop {
            match self.try_remove_voter(id).await {
                Err(_) if !self.is_late() => self.line.wait_a_little().await,
                done => return done,
            }
        }
    }

    async fn try_remove_voter(&mut self, id: i32) -> Result<(), String> {
        let quorum = self.quorum().await?;
        let mut voters = quorum.current_voters.iter();
        let voter = voters.find(|voter| voter.replica_id == id);
        let request = RemoveRaftVoterRequest {
            voter_id: id,
            voter_directory_id: voter
                .map(|one| one.replica_directory_id)
                .unwrap_or_default(),
            ..Default::default()
        };
        let answer = self.line.call(request, 0).await?;
        match answer.error_code {
            code if code == ErrorCode::VoterNotFound.code() => Ok(()),
            code => error_name(code).map_or(Ok(()), Err),
        }
    }

    /// The directory by which the quorum knows a node.
    pub async fn directory(&mut self, id: i32) -> Option<Uuid> {
        loop {
            match self.quorum().await {
                Err(_) if !self.is_late() => self.line.wait_a_little().await,
                Err(_) => return None,
                Ok(quorum) => {
                    let mut members = quorum.current_voters.iter().chain(&quorum.observers);
                    let found = members.find(|member| member.replica_id == id);
                    return found.map(|found| found.replica_directory_id);
                }
            }
        }
    }

    /// Gives a node that follows the quorum a vote. The directory `gone` is one that it lost.
    pub async fn add_voter(
        &mut self,
        id: i32,
        host: &str,
        gone: Option<Uuid>,
    ) -> Result<(), String> {
        loop {
            match self.try_add_voter(id, host, gone).await {
                Err(_) if !self.is_late() => self.line.wait_a_little().await,
                done => return done,
            }
        }
    }

    async fn try_add_voter(
        &mut self,
        id: i32,
        host: &str,
        gone: Option<Uuid>,
    ) -> Result<(), String> {
        let quorum = self.quorum().await?;
        let mut members = quorum.observers.iter().chain(&quorum.current_voters);
        let found = members.find(|member| member.replica_id == id);
        let directory = found.map(|found| found.replica_directory_id);
        let directory = directory.filter(|id| *id != Uuid::default() && Some(*id) != gone);
        let request = AddRaftVoterRequest {
            timeout_ms: 5000,
            voter_id: id,
            voter_directory_id: directory.ok_or("NOT_AN_OBSERVER")?,
            listeners: vec![Listener {
                name: "CONTROLLER".into(),
                host: host.into(),
                port: 9093,
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.line.call(request, 0).await?;
        match answer.error_code {
            code if code == ErrorCode::DuplicateVoter.code() => Ok(()),
            code => error_name(code).map_or(Ok(()), Err),
        }
    }
}
