//! OffsetFetch (key 9): asks for committed offsets. Versions 1 to 10, flexible from 6.
//!
//! - 1: offsets come from the log, not from ZooKeeper.
//! - 2: null asks for all topics of the group; an error for the group as a whole.
//! - 3: throttle time.
//! - 4: throttled answers are sent at once (KIP-219).
//! - 5: leader epochs (KIP-320).
//! - 6: flexible.
//! - 7: stable offsets only, waiting for open transactions: UNSTABLE_OFFSET_COMMIT (KIP-447).
//! - 8: several groups in one request (KIP-709).
//! - 9: member id and epoch of the newer group protocol (KIP-848).
//! - 10: topics by id instead of name.

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct OffsetFetchRequest {
        group_id: Str [0..=7],
        /// `None`: all topics of the group.
        topics: Option<Vec<OffsetFetchRequestTopic>> [0..=7; null 2..] = Some(Default::default()),
        groups: Vec<OffsetFetchRequestGroup> [8..],
        /// Refuse offsets that an open transaction may change.
        require_stable: bool [7..],
    }

    pub struct OffsetFetchRequestTopic {
        name: Str [0..=7],
        partition_indexes: Vec<i32> [0..=7],
    }

    pub struct OffsetFetchRequestGroup {
        group_id: Str [8..],
        member_id: Option<Str> [9..],
        member_epoch: i32 [9..] = -1,
        /// `None`: all topics of the group.
        topics: Option<Vec<OffsetFetchRequestTopics>> [8..] = Some(Default::default()),
    }

    pub struct OffsetFetchRequestTopics {
        name: Str [8..=9],
        topic_id: Uuid [10..],
        partition_indexes: Vec<i32> [8..],
    }

    pub struct OffsetFetchResponse {
        throttle_time_ms: i32 [3..],
        topics: Vec<OffsetFetchResponseTopic> [0..=7],
        error_code: i16 [2..=7],
        groups: Vec<OffsetFetchResponseGroup> [8..],
    }

    pub struct OffsetFetchResponseTopic {
        name: Str [0..=7],
        partitions: Vec<OffsetFetchResponsePartition> [0..=7],
    }

    pub struct OffsetFetchResponsePartition {
        partition_index: i32 [0..=7],
        /// -1 where nothing was committed.
        committed_offset: i64 [0..=7],
        committed_leader_epoch: i32 [5..=7] = -1,
        metadata: Option<Str> [0..=7] = Some(Default::default()),
        error_code: i16 [0..=7],
    }

    pub struct OffsetFetchResponseGroup {
        group_id: Str [8..],
        topics: Vec<OffsetFetchResponseTopics> [8..],
        error_code: i16 [8..],
    }

    pub struct OffsetFetchResponseTopics {
        name: Str [8..=9],
        topic_id: Uuid [10..],
        partitions: Vec<OffsetFetchResponsePartitions> [8..],
    }

    pub struct OffsetFetchResponsePartitions {
        partition_index: i32 [8..],
        /// -1 where nothing was committed.
        committed_offset: i64 [8..],
        committed_leader_epoch: i32 [8..] = -1,
        metadata: Option<Str> [8..] = Some(Default::default()),
        error_code: i16 [8..],
    }
}
