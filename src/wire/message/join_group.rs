//! JoinGroup (key 11): enters a group and waits for its next generation. Versions 0 to 9, flexible
//! from 6.
//!
//! - 1: rebalance timeout apart from the session timeout.
//! - 2: throttle time.
//! - 3: throttled answers are sent at once (KIP-219).
//! - 4: the first join is answered MEMBER_ID_REQUIRED with an id to join again with (KIP-394).
//! - 5: static members (KIP-345).
//! - 6: flexible.
//! - 7: the answer repeats the protocol type; the protocol chosen may be null (KIP-559).
//! - 8: a reason for joining, for logs (KIP-800).
//! - 9: the leader may be told to leave the assignment as it is (KIP-814).

use bytes::Bytes;

use crate::wire::primitive::Str;

message! {
    pub struct JoinGroupRequest {
        group_id: Str [0..],
        session_timeout_ms: i32 [0..],
        /// -1 in version 0: the session timeout serves for both.
        rebalance_timeout_ms: i32 [1..] = -1,
        /// Empty at the first join.
        member_id: Str [0..],
        /// Names a static member.
        group_instance_id: Option<Str> [5..],
        protocol_type: Str [0..],
        /// In order of preference.
        protocols: Vec<JoinGroupRequestProtocol> [0..],
        reason: Option<Str> [8..],
    }

    pub struct JoinGroupRequestProtocol {
        name: Str [0..],
        /// Opaque to the broker.
        metadata: Bytes [0..],
    }

    pub struct JoinGroupResponse {
        throttle_time_ms: i32 [2..],
        error_code: i16 [0..],
        generation_id: i32 [0..] = -1,
        protocol_type: Option<Str> [7..],
        protocol_name: Option<Str> [0..; null 7..] = Some(Default::default()),
        leader: Str [0..],
        skip_assignment: bool [9..],
        member_id: Str [0..],
        /// All members for the leader, none for others.
        members: Vec<JoinGroupResponseMember> [0..],
    }

    pub struct JoinGroupResponseMember {
        member_id: Str [0..],
        group_instance_id: Option<Str> [5..],
        metadata: Bytes [0..],
    }
}
