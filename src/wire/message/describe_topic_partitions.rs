//! DescribeTopicPartitions (key 75): partitions in pages, with the replicas eligible to lead
//! (KIP-966). Version 0, flexible.
//!
//! Topics come in order of their names; where the limit is reached, the cursor says what comes
//! next.

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest> [0..],
        response_partition_limit: i32 [0..] = 2000,
        /// Where to go on; `None` from the start.
        cursor: Option<Box<CursorRequest>> [0..],
    }

    pub struct TopicRequest {
        name: Str [0..],
    }

    pub struct CursorRequest {
        topic_name: Str [0..],
        partition_index: i32 [0..],
    }

    pub struct DescribeTopicPartitionsResponse {
        throttle_time_ms: i32 [0..],
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0..],
        /// `None` on the last page.
        next_cursor: Option<Box<CursorResponse>> [0..],
    }

    pub struct DescribeTopicPartitionsResponseTopic {
        error_code: i16 [0..],
        name: Option<Str> [0..] = Some(Default::default()),
        topic_id: Uuid [0..],
        is_internal: bool [0..],
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0..],
        topic_authorized_operations: i32 [0..] = -2147483648,
    }

    pub struct DescribeTopicPartitionsResponsePartition {
        error_code: i16 [0..],
        partition_index: i32 [0..],
        leader_id: i32 [0..],
        leader_epoch: i32 [0..] = -1,
        replica_nodes: Vec<i32> [0..],
        isr_nodes: Vec<i32> [0..],
        eligible_leader_replicas: Option<Vec<i32>> [0..],
        last_known_elr: Option<Vec<i32>> [0..],
        offline_replicas: Vec<i32> [0..],
    }

    pub struct CursorResponse {
        topic_name: Str [0..],
        partition_index: i32 [0..],
    }
}
