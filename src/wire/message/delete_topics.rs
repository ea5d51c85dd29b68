//! DeleteTopics (key 20): deletes topics. Versions 1 to 6, flexible from 4.
//!
//! - 1: throttle time.
//! - 2: throttled answers are sent at once (KIP-219).
//! - 3: TOPIC_DELETION_DISABLED may come.
//! - 4: flexible.
//! - 5: error texts; THROTTLING_QUOTA_EXCEEDED may come (KIP-599).
//! - 6: topics by name or by id (KIP-516).

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<Str> [0..=5],
        timeout_ms: i32 [0..],
    }

    pub struct DeleteTopicState {
        name: Option<Str> [6..],
        topic_id: Uuid [6..],
    }

    pub struct DeleteTopicsResponse {
        throttle_time_ms: i32 [0..],
        responses: Vec<DeletableTopicResult> [0..],
    }

    pub struct DeletableTopicResult {
        name: Option<Str> [0..; null 6..] = Some(Default::default()),
        topic_id: Uuid [6..],
        error_code: i16 [0..],
        error_message: Option<Str> [5..],
    }
}
