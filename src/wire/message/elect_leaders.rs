//! ElectLeaders (key 43): elects leaders of partitions at an administrator's wish (KIP-183).
//! Versions 0 to 2, flexible from 2.
//!
//! - 1: unclean elections, and an error of the whole request (KIP-460).
//! - 2: flexible.

use crate::wire::primitive::Str;

message! {
    pub struct ElectLeadersRequest {
        /// 0: the preferred replica; 1: uncleanly, a replica that may lack records.
        election_type: i8 [1..],
        /// `None`: every partition.
        topic_partitions: Option<Vec<TopicPartitions>> [0..] = Some(Default::default()),
        timeout_ms: i32 [0..] = 60000,
    }

    pub struct TopicPartitions {
        topic: Str [0..],
        partitions: Vec<i32> [0..],
    }

    pub struct ElectLeadersResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [1..],
        replica_election_results: Vec<ReplicaElectionResult> [0..],
    }

    pub struct ReplicaElectionResult {
        topic: Str [0..],
        partition_result: Vec<PartitionResult> [0..],
    }

    pub struct PartitionResult {
        partition_id: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
    }
}
