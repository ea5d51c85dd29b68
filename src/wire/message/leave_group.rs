//! LeaveGroup (key 13): takes members out of a group. Versions 0 to 5, flexible from 4.
//!
//! - 1: throttle time.
//! - 2: throttled answers are sent at once (KIP-219).
//! - 3: several members in one request, static ones too, so that tools can remove them (KIP-345).
//! - 4: flexible.
//! - 5: a reason for leaving, for logs (KIP-800).

use crate::wire::primitive::Str;

message! {
    pub struct LeaveGroupRequest {
        group_id: Str [0..],
        member_id: Str [0..=2],
        members: Vec<MemberIdentity> [3..],
    }

    pub struct MemberIdentity {
        member_id: Str [3..],
        group_instance_id: Option<Str> [3..],
        reason: Option<Str> [5..],
    }

    pub struct LeaveGroupResponse {
        throttle_time_ms: i32 [1..],
        error_code: i16 [0..],
        members: Vec<MemberResponse> [3..],
    }

    pub struct MemberResponse {
        member_id: Str [3..],
        group_instance_id: Option<Str> [3..] = Some(Default::default()),
        error_code: i16 [3..],
    }
}
