//! ListPartitionReassignments (key 46): moves of replicas under way (KIP-455). Version 0,
//! flexible.

use crate::wire::primitive::Str;

message! {
    pub struct ListPartitionReassignmentsRequest {
        timeout_ms: i32 [0..] = 60000,
        /// `None`: every partition.
        topics: Option<Vec<ListPartitionReassignmentsTopics>> [0..],
    }

    pub struct ListPartitionReassignmentsTopics {
        name: Str [0..],
        partition_indexes: Vec<i32> [0..],
    }

    pub struct ListPartitionReassignmentsResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
        topics: Vec<OngoingTopicReassignment> [0..],
    }

    pub struct OngoingTopicReassignment {
        name: Str [0..],
        partitions: Vec<OngoingPartitionReassignment> [0..],
    }

    pub struct OngoingPartitionReassignment {
        partition_index: i32 [0..],
        /// All that hold the partition now, those to be removed included.
        replicas: Vec<i32> [0..],
        adding_replicas: Vec<i32> [0..],
        removing_replicas: Vec<i32> [0..],
    }
}
