//! DescribeGroups (key 15): state and members of groups. Versions 0 to 6, flexible from 5.
//!
//! - 1: throttle time.
//! - 2: throttled answers are sent at once (KIP-219).
//! - 3: authorized operations on request (KIP-430).
//! - 4: static members (KIP-345).
//! - 5: flexible.
//! - 6: a group that does not exist is GROUP_ID_NOT_FOUND instead of a dead group (KIP-1043).

use bytes::Bytes;

use crate::wire::primitive::Str;

message! {
    pub struct DescribeGroupsRequest {
        groups: Vec<Str> [0..],
        include_authorized_operations: bool [3..],
    }

    pub struct DescribeGroupsResponse {
        throttle_time_ms: i32 [1..],
        groups: Vec<DescribedGroup> [0..],
    }

    pub struct DescribedGroup {
        error_code: i16 [0..],
        error_message: Option<Str> [6..],
        group_id: Str [0..],
        group_state: Str [0..],
        protocol_type: Str [0..],
        protocol_data: Str [0..],
        members: Vec<DescribedGroupMember> [0..],
        authorized_operations: i32 [3..] = -2147483648,
    }

    pub struct DescribedGroupMember {
        member_id: Str [0..],
        group_instance_id: Option<Str> [4..],
        client_id: Str [0..],
        client_host: Str [0..],
        member_metadata: Bytes [0..],
        member_assignment: Bytes [0..],
    }
}
