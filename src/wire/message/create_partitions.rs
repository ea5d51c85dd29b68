//! CreatePartitions (key 37): adds partitions to topics (KIP-195). Versions 0 to 3, flexible from
//! 2.
//!
//! - 1: throttled answers are sent at once (KIP-219).
//! - 2: flexible.
//! - 3: THROTTLING_QUOTA_EXCEEDED may come (KIP-599).

use crate::wire::primitive::Str;

message! {
    pub struct CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic> [0..],
        timeout_ms: i32 [0..],
        validate_only: bool [0..],
    }

    pub struct CreatePartitionsTopic {
        name: Str [0..],
        /// Partitions in all, not to be added.
        count: i32 [0..],
        /// `None`: the broker chooses.
        assignments: Option<Vec<CreatePartitionsAssignment>> [0..] = Some(Default::default()),
    }

    pub struct CreatePartitionsAssignment {
        broker_ids: Vec<i32> [0..],
    }

    pub struct CreatePartitionsResponse {
        throttle_time_ms: i32 [0..],
        results: Vec<CreatePartitionsTopicResult> [0..],
    }

    pub struct CreatePartitionsTopicResult {
        name: Str [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
    }
}
