//! AlterPartitionReassignments (key 45): moves replicas, or cancels a move under way (KIP-455).
//! Versions 0 to 1, flexible from 0.
//!
//! - 1: the client may forbid that the number of replicas changes (KIP-860).

use crate::wire::primitive::Str;

message! {
    pub struct AlterPartitionReassignmentsRequest {
        timeout_ms: i32 [0..] = 60000,
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<ReassignableTopic> [0..],
    }

    pub struct ReassignableTopic {
        name: Str [0..],
        partitions: Vec<ReassignablePartition> [0..],
    }

    pub struct ReassignablePartition {
        partition_index: i32 [0..],
        /// Preferred leader first; `None` cancels the move under way.
        replicas: Option<Vec<i32>> [0..],
    }

    pub struct AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32 [0..],
        allow_replication_factor_change: bool [1..] = true,
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
        responses: Vec<ReassignableTopicResponse> [0..],
    }

    pub struct ReassignableTopicResponse {
        name: Str [0..],
        partitions: Vec<ReassignablePartitionResponse> [0..],
    }

    pub struct ReassignablePartitionResponse {
        partition_index: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
    }
}
