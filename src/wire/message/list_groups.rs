//! ListGroups (key 16): groups this broker coordinates. Versions 0 to 5, flexible from 3.
//!
//! - 1: throttle time.
//! - 2: throttled answers are sent at once (KIP-219).
//! - 3: flexible.
//! - 4: states, and a filter by state (KIP-518).
//! - 5: types, and a filter by type (KIP-848).

use crate::wire::primitive::Str;

message! {
    pub struct ListGroupsRequest {
        states_filter: Vec<Str> [4..],
        types_filter: Vec<Str> [5..],
    }

    pub struct ListGroupsResponse {
        throttle_time_ms: i32 [1..],
        error_code: i16 [0..],
        groups: Vec<ListedGroup> [0..],
    }

    pub struct ListedGroup {
        group_id: Str [0..],
        protocol_type: Str [0..],
        group_state: Str [4..],
        group_type: Str [5..],
    }
}
