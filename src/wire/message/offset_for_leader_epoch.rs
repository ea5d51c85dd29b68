//! OffsetForLeaderEpoch (key 23), versions 2 to 4, flexible from 4.

use crate::wire::primitive::Str;

message! {
    pub struct OffsetForLeaderEpochRequest {
        replica_id: i32 [3..] = -2,
        topics: Vec<OffsetForLeaderTopic> [0..],
    }

    pub struct OffsetForLeaderTopic {
        topic: Str [0..],
        partitions: Vec<OffsetForLeaderPartition> [0..],
    }

    pub struct OffsetForLeaderPartition {
        partition: i32 [0..],
        current_leader_epoch: i32 [0..] = -1,
        leader_epoch: i32 [0..],
    }

    pub struct OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 [0..],
        topics: Vec<OffsetForLeaderTopicResult> [0..],
    }

    pub struct OffsetForLeaderTopicResult {
        topic: Str [0..],
        partitions: Vec<EpochEndOffset> [0..],
    }

    pub struct EpochEndOffset {
        error_code: i16 [0..],
        partition: i32 [0..],
        leader_epoch: i32 [0..] = -1,
        end_offset: i64 [0..] = -1,
    }
}
