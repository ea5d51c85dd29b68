//! What a cluster says of itself, asked of whichever node answers: leaders, in-sync replicas, the
//! active controller. Nothing is remembered between two questions.

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use klamm::types::ErrorCode;
use klamm::wire::Str;
use klamm::wire::message::describe_quorum::{
    DescribeQuorumRequest, PartitionRequest, TopicRequest,
};
use klamm::wire::message::metadata::{MetadataRequest, MetadataResponse};

use super::super::wire_client::{WireClient, code};

/// The ports of the nodes, those of node 1 first.
#[derive(Clone)]
pub struct Eyes {
    ports: Vec<u16>,
}

/// A partition by topic and number.
pub type Place = (String, i32);

/// What one node says of a partition.
#[derive(Clone, Debug)]
pub struct PartitionState {
    /// -1 for none.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
}

impl PartitionState {
    pub fn is_whole(&self) -> bool {
        self.leader >= 0 && self.isr.len() == self.replicas.len()
    }
}

impl Eyes {
    pub fn new(ports: Vec<u16>) -> Self {
        Self { ports }
    }

    /// Where clients reach node `id`.
    pub fn port(&self, id: i32) -> u16 {
        self.ports[usize::try_from(id - 1).expect("nodes count from 1")]
    }

    /// All topics as node `id` knows them.
    pub fn metadata_of(&self, id: i32) -> io::Result<MetadataResponse> {
        let request = MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        WireClient::connect(self.port(id))?.call(12, request)
    }

    /// All partitions as node `id` knows them.
    pub fn partitions_of(&self, id: i32) -> io::Result<BTreeMap<Place, PartitionState>> {
        let mut all = BTreeMap::new();
        for topic in self.metadata_of(id)?.topics {
            let name = topic.name.as_ref().map(ToString::to_string);
            let name = name.unwrap_or_default();
            for partition in topic.partitions {
                let state = PartitionState {
                    leader: partition.leader_id,
                    replicas: partition.replica_nodes,
                    isr: partition.isr_nodes,
                };
                all.insert((name.clone(), partition.partition_index), state);
            }
        }
        Ok(all)
    }

    fn ids(&self) -> impl Iterator<Item = i32> + use<> {
        1..=i32::try_from(self.ports.len()).expect("few nodes")
    }

    /// The leader of a partition, as the first node says that answers and knows one.
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        let place = (topic.to_owned(), partition);
        wait("a leader", Duration::from_secs(30), || {
            for id in self.ids() {
                let known = self.partitions_of(id).ok();
                let state = known.and_then(|mut all| all.remove(&place));
                if let Some(state) = state.filter(|state| state.leader >= 0) {
                    return Ok(state.leader);
                }
            }
            Err(format!("nobody knows the leader of {topic}-{partition}"))
        })
    }

    /// The node that leads the quorum of the controllers, as the first node says that answers.
    pub fn active_controller(&self) -> i32 {
        wait("an active controller", Duration::from_secs(30), || {
            let mut last = "nobody answers".to_owned();
            for port in &self.ports {
                match quorum_leader(*port) {
                    Ok(leader) if leader > 0 => return Ok(leader),
                    Ok(leader) => last = format!("the leader is {leader}"),
                    Err(error) => last = error.to_string(),
                }
            }
            Err(last)
        })
    }

    /// Waits until each of `nodes` says that every partition has a leader and all its replicas in
    /// sync.
    pub fn wait_until_whole(&self, nodes: impl IntoIterator<Item = i32>, limit: Duration) {
        for id in nodes {
            wait(&format!("node {id} to see all in sync"), limit, || {
                let all = self.partitions_of(id).map_err(|error| error.to_string())?;
                let broken: Vec<String> = all
                    .iter()
                    .filter(|(_, state)| !state.is_whole())
                    .map(|((topic, partition), state)| format!("{topic}-{partition}: {state:?}"))
                    .collect();
                match broken.as_slice() {
                    [] => Ok(()),
                    [first, ..] => Err(format!("{} are not, such as {first}", broken.len())),
                }
            });
        }
    }
}

/// Asks until there is an answer, for at most `limit`.
#[track_caller]
pub fn wait<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) if started.elapsed() > limit => {
                panic!("waited {limit:?} for {what}; last: {why}")
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// The leader that node's quorum knows; -1 for none.
fn quorum_leader(port: u16) -> io::Result<i32> {
    let partition = PartitionRequest::default();
    let request = DescribeQuorumRequest {
        topics: vec![TopicRequest {
            topic_name: Str::from("__cluster_metadata"),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = WireClient::connect(port)?.call(2, request)?;
    let partition = answer.topics.first().and_then(|it| it.partitions.first());
    match (code(answer.error_code), partition) {
        (ErrorCode::None, Some(partition)) => Ok(partition.leader_id),
        (refused, _) => Err(io::Error::other(refused.name())),
    }
}
