//! Settings of a node among others: its part in the quorum, and how it copies partitions.

use std::time::Duration;

use super::listener::Listener;
use crate::types::BrokerId;

/// A controller as `controller.quorum.voters` names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Voter {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
}

/// A node's part in the controller quorum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumConfig {
    /// Whether this node holds partitions and serves clients.
    pub is_broker: bool,
    /// Whether this node may vote and lead the quorum.
    pub is_controller: bool,
    /// From `controller.quorum.voters`; empty where the quorum is found by `bootstrap_servers`, or
    /// where this node is the whole cluster.
    pub voters: Vec<Voter>,
    /// `host:port` of nodes that know the quorum.
    pub bootstrap_servers: Vec<String>,
    /// Those for the nodes of the cluster; empty on a node that is only a broker, and where this
    /// node is the whole cluster.
    pub listeners: Vec<Listener>,
    /// Name of the listener by which brokers reach each other.
    pub inter_broker_listener: String,
    pub election_timeout: Duration,
    /// Without word from the leader for this long a voter stands for election.
    pub fetch_timeout: Duration,
    pub request_timeout: Duration,
}

/// `host:port`, with brackets around an IPv6 host.
#[must_use]
pub fn address(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

impl QuorumConfig {
    /// Whether this node is a cluster by itself and keeps its metadata alone.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.voters.is_empty() && self.bootstrap_servers.is_empty()
    }
}

/// How partitions are copied, and when a broker counts as gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicationConfig {
    /// Fetchers for each broker that is copied from.
    pub fetchers: usize,
    /// Whether consumers are sent to an in-sync replica in their own rack (KIP-392).
    pub rack_aware_reads: bool,
    pub high_watermark_checkpoint_interval: Duration,
    pub lag_time_max: Duration,
    pub fetch_max_bytes: i32,
    pub fetch_response_max_bytes: i32,
    pub fetch_min_bytes: i32,
    pub fetch_wait_max: Duration,
    pub fetch_backoff: Duration,
    pub socket_timeout: Duration,
    /// Between two looks at the source of a link.
    pub mirror_discovery_interval: Duration,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub registration_timeout: Duration,
    pub auto_leader_rebalance: bool,
    pub leader_imbalance_check_interval: Duration,
    pub leader_imbalance_per_broker_percentage: i32,
}
