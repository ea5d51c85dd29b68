//! DescribeLogDirs (key 35): log directories of a broker and what lies in them (KIP-113). Versions
//! 1 to 5, flexible from 2.
//!
//! - 1: throttled answers are sent at once (KIP-219).
//! - 2: flexible.
//! - 3: an error for the request as a whole.
//! - 4: size of the volume and what is free (KIP-827).
//! - 5: whether a directory is cordoned off from new replicas (KIP-1066).

use crate::wire::primitive::Str;

message! {
    pub struct DescribeLogDirsRequest {
        /// `None`: all topics.
        topics: Option<Vec<DescribableLogDirTopic>> [0..] = Some(Default::default()),
    }

    pub struct DescribableLogDirTopic {
        topic: Str [0..],
        partitions: Vec<i32> [0..],
    }

    pub struct DescribeLogDirsResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [3..],
        results: Vec<DescribeLogDirsResult> [0..],
    }

    pub struct DescribeLogDirsResult {
        error_code: i16 [0..],
        log_dir: Str [0..],
        topics: Vec<DescribeLogDirsTopic> [0..],
        /// Of the volume; -1 when unknown.
        total_bytes: i64 [4..] = -1,
        /// Of the volume; -1 when unknown.
        usable_bytes: i64 [4..] = -1,
        is_cordoned: bool [5..],
    }

    pub struct DescribeLogDirsTopic {
        name: Str [0..],
        partitions: Vec<DescribeLogDirsPartition> [0..],
    }

    pub struct DescribeLogDirsPartition {
        partition_index: i32 [0..],
        partition_size: i64 [0..],
        /// Records not yet in this copy.
        offset_lag: i64 [0..],
        is_future_key: bool [0..],
    }
}
