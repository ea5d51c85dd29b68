//! SyncGroup (key 14): the leader hands in the assignment, every member fetches its part. Versions
//! 0 to 5, flexible from 4.
//!
//! - 1: throttle time.
//! - 2: throttled answers are sent at once (KIP-219).
//! - 3: static members (KIP-345).
//! - 4: flexible.
//! - 5: protocol type and name, to be checked against the group's (KIP-559).

use bytes::Bytes;

use crate::wire::primitive::Str;

message! {
    pub struct SyncGroupRequest {
        group_id: Str [0..],
        generation_id: i32 [0..],
        member_id: Str [0..],
        group_instance_id: Option<Str> [3..],
        protocol_type: Option<Str> [5..],
        protocol_name: Option<Str> [5..],
        /// From the leader; empty from others.
        assignments: Vec<SyncGroupRequestAssignment> [0..],
    }

    pub struct SyncGroupRequestAssignment {
        member_id: Str [0..],
        assignment: Bytes [0..],
    }

    pub struct SyncGroupResponse {
        throttle_time_ms: i32 [1..],
        error_code: i16 [0..],
        protocol_type: Option<Str> [5..],
        protocol_name: Option<Str> [5..],
        assignment: Bytes [0..],
    }
}
