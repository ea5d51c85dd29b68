//! DeleteTopics (key 20), versions 1 to 6, flexible from 4.

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
