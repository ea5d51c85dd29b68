//! DescribeLogDirs (key 35), versions 1 to 5, flexible from 2.

use crate::wire::primitive::Str;

message! {
    pub struct DescribeLogDirsRequest {
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
        total_bytes: i64 [4..] = -1,
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
        offset_lag: i64 [0..],
        is_future_key: bool [0..],
    }
}
