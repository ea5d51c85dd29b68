//! DeleteGroups (key 42): deletes empty groups and their offsets (KIP-229). Versions 0 to 2,
//! flexible from 2.
//!
//! - 1: throttled answers are sent at once (KIP-219).
//! - 2: flexible.

use crate::wire::primitive::Str;

message! {
    pub struct DeleteGroupsRequest {
        groups_names: Vec<Str> [0..],
    }

    pub struct DeleteGroupsResponse {
        throttle_time_ms: i32 [0..],
        results: Vec<DeletableGroupResult> [0..],
    }

    pub struct DeletableGroupResult {
        group_id: Str [0..],
        error_code: i16 [0..],
    }
}
