//! Heartbeat (key 12): keeps a member's session and tells it of rebalances. Versions 0 to 4,
//! flexible from 4.
//!
//! - 1: throttle time.
//! - 2: throttled answers are sent at once (KIP-219).
//! - 3: static members (KIP-345).
//! - 4: flexible.

use crate::wire::primitive::Str;

message! {
    pub struct HeartbeatRequest {
        group_id: Str [0..],
        generation_id: i32 [0..],
        member_id: Str [0..],
        group_instance_id: Option<Str> [3..],
    }

    pub struct HeartbeatResponse {
        throttle_time_ms: i32 [1..],
        error_code: i16 [0..],
    }
}
