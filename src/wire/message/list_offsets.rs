//! ListOffsets (key 2): finds offsets by timestamp or by a special position. Versions 1 to 11,
//! flexible from 6.
//!
//! Special timestamps: -1 the end, -2 the start, -3 the record with the largest timestamp (from 7,
//! KIP-734), -4 the local start (from 8, KIP-405), -5 the last tiered offset (from 9, KIP-1005),
//! -6 the first offset not yet uploaded (from 11, KIP-1023).
//!
//! - 1: one offset a partition instead of a list of segment starts.
//! - 2: isolation level; throttle time.
//! - 3: throttled answers are sent at once (KIP-219).
//! - 4: leader epochs fence in both directions (KIP-320).
//! - 5: OFFSET_NOT_AVAILABLE may come (KIP-207).
//! - 6: flexible.
//! - 10: a timeout, for offsets that must be looked up remotely (KIP-1075).

use crate::wire::primitive::Str;

message! {
    pub struct ListOffsetsRequest {
        /// -1 for a consumer.
        replica_id: i32 [0..],
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic> [0..],
        timeout_ms: i32 [10..],
    }

    pub struct ListOffsetsTopic {
        name: Str [0..],
        partitions: Vec<ListOffsetsPartition> [0..],
    }

    pub struct ListOffsetsPartition {
        partition_index: i32 [0..],
        current_leader_epoch: i32 [4..] = -1,
        /// Milliseconds, or a special position.
        timestamp: i64 [0..],
    }

    pub struct ListOffsetsResponse {
        throttle_time_ms: i32 [2..],
        topics: Vec<ListOffsetsTopicResponse> [0..],
    }

    pub struct ListOffsetsTopicResponse {
        name: Str [0..],
        partitions: Vec<ListOffsetsPartitionResponse> [0..],
    }

    pub struct ListOffsetsPartitionResponse {
        partition_index: i32 [0..],
        error_code: i16 [0..],
        /// Of the record found; -1 for special positions.
        timestamp: i64 [0..] = -1,
        /// -1 where no record is as late.
        offset: i64 [0..] = -1,
        leader_epoch: i32 [4..] = -1,
    }
}
