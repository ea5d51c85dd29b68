//! DeleteRecords (key 21): moves the log start offset up (KIP-107). Versions 0 to 2, flexible from
//! 2.
//!
//! - 1: throttled answers are sent at once (KIP-219).
//! - 2: flexible.

use crate::wire::primitive::Str;

message! {
    pub struct DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic> [0..],
        timeout_ms: i32 [0..],
    }

    pub struct DeleteRecordsTopic {
        name: Str [0..],
        partitions: Vec<DeleteRecordsPartition> [0..],
    }

    pub struct DeleteRecordsPartition {
        partition_index: i32 [0..],
        /// The new log start; -1 for the high watermark.
        offset: i64 [0..],
    }

    pub struct DeleteRecordsResponse {
        throttle_time_ms: i32 [0..],
        topics: Vec<DeleteRecordsTopicResult> [0..],
    }

    pub struct DeleteRecordsTopicResult {
        name: Str [0..],
        partitions: Vec<DeleteRecordsPartitionResult> [0..],
    }

    pub struct DeleteRecordsPartitionResult {
        partition_index: i32 [0..],
        /// Lowest log start offset of all replicas; -1 with an error.
        low_watermark: i64 [0..],
        error_code: i16 [0..],
    }
}
