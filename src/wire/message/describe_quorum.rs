//! DescribeQuorum (key 55): who leads the controller quorum and how far its members are
//! (KIP-595). Versions 0 to 2, flexible from 0.
//!
//! The only partition there is to ask for is `__cluster_metadata-0`.
//!
//! - 1: when each member was last heard of and last caught up (KIP-836).
//! - 2: directories of the members, addresses of the voters, texts of errors (KIP-853).

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct DescribeQuorumRequest {
        topics: Vec<TopicRequest> [0..],
    }

    pub struct TopicRequest {
        topic_name: Str [0..],
        partitions: Vec<PartitionRequest> [0..],
    }

    pub struct PartitionRequest {
        partition_index: i32 [0..],
    }

    pub struct DescribeQuorumResponse {
        error_code: i16 [0..],
        error_message: Option<Str> [2..],
        topics: Vec<TopicData> [0..],
        nodes: Vec<Node> [2..],
    }

    pub struct TopicData {
        topic_name: Str [0..],
        partitions: Vec<PartitionData> [0..],
    }

    pub struct PartitionData {
        partition_index: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [2..],
        /// -1 where nobody leads.
        leader_id: i32 [0..],
        leader_epoch: i32 [0..],
        high_watermark: i64 [0..],
        current_voters: Vec<ReplicaState> [0..],
        observers: Vec<ReplicaState> [0..],
    }

    pub struct ReplicaState {
        replica_id: i32 [0..],
        replica_directory_id: Uuid [2..],
        /// -1 where it is not known.
        log_end_offset: i64 [0..],
        /// In milliseconds by the leader's clock; -1 where it is not known.
        last_fetch_timestamp: i64 [1..] = -1,
        /// As `last_fetch_timestamp`.
        last_caught_up_timestamp: i64 [1..] = -1,
    }

    pub struct Node {
        node_id: i32 [2..],
        listeners: Vec<Listener> [2..],
    }

    pub struct Listener {
        name: Str [2..],
        host: Str [2..],
        port: u16 [2..],
    }
}
