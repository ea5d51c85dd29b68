//! OffsetForLeaderEpoch (key 23): where an epoch ended in the leader's log, to find truncation
//! (KIP-101, KIP-320). Versions 2 to 4, flexible from 4.
//!
//! - 2: leader epoch the reader knows; throttle time.
//! - 3: followers name themselves.
//! - 4: flexible.

use crate::wire::primitive::Str;

message! {
    pub struct OffsetForLeaderEpochRequest {
        /// -1 for a consumer, -2 for a tool.
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
        /// Largest epoch up to the one asked for; -1 for none.
        leader_epoch: i32 [0..] = -1,
        /// The offset after that epoch's last; -1 for none.
        end_offset: i64 [0..] = -1,
    }
}
