//! OffsetCommit (key 8): records how far a group has read. Versions 2 to 10, flexible from 8.
//!
//! Consumers that are no members commit with generation -1 and an empty member id.
//!
//! - 2: retention time instead of a commit timestamp.
//! - 3: throttle time.
//! - 4: throttled answers are sent at once (KIP-219).
//! - 5: no retention time: offsets live as the broker is configured (KIP-211).
//! - 6: leader epoch of the record committed (KIP-320).
//! - 7: static members (KIP-345).
//! - 8: flexible.
//! - 9: member epochs of the newer group protocol; STALE_MEMBER_EPOCH and GROUP_ID_NOT_FOUND may
//!   come (KIP-848).
//! - 10: topics by id instead of name.

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct OffsetCommitRequest {
        group_id: Str [0..],
        /// -1 for consumers that are no members.
        generation_id_or_member_epoch: i32 [0..] = -1,
        member_id: Str [0..],
        group_instance_id: Option<Str> [7..],
        /// -1: as the broker is configured.
        retention_time_ms: i64 [0..=4] = -1,
        topics: Vec<OffsetCommitRequestTopic> [0..],
    }

    pub struct OffsetCommitRequestTopic {
        name: Str [0..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitRequestPartition> [0..],
    }

    pub struct OffsetCommitRequestPartition {
        partition_index: i32 [0..],
        /// The next offset to read.
        committed_offset: i64 [0..],
        /// -1 when unknown.
        committed_leader_epoch: i32 [6..] = -1,
        committed_metadata: Option<Str> [0..] = Some(Default::default()),
    }

    pub struct OffsetCommitResponse {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetCommitResponseTopic> [0..],
    }

    pub struct OffsetCommitResponseTopic {
        name: Str [0..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetCommitResponsePartition> [0..],
    }

    pub struct OffsetCommitResponsePartition {
        partition_index: i32 [0..],
        error_code: i16 [0..],
    }
}
