//! PartitionHistory (key 20002): why a partition has the leader and the replicas it has. Version
//! 0, flexible; Klamm's own.
//!
//! Every change of a partition's state has a cause in the metadata; a broker answers with the last
//! of them, oldest first.

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct PartitionHistoryRequest {
        topic: Str [0..],
        partition: i32 [0..],
    }

    pub struct PartitionHistoryResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
        topic_id: Uuid [0..],
        changes: Vec<PartitionChange> [0..],
    }

    /// The state of the partition after a change, and what caused it.
    pub struct PartitionChange {
        /// Metadata offset after the change; -1 where it is not known.
        metadata_end: i64 [0..] = -1,
        /// When it was decided, in milliseconds; -1 where it is not known.
        timestamp_ms: i64 [0..] = -1,
        /// A name such as `BROKER_FENCED`.
        cause: Str [0..],
        /// The broker whose start, end or proposal led to it; -1 where there is none.
        broker: i32 [0..] = -1,
        /// -1 where nobody leads.
        leader: i32 [0..] = -1,
        leader_epoch: i32 [0..] = -1,
        partition_epoch: i32 [0..] = -1,
        replicas: Vec<i32> [0..],
        isr: Vec<i32> [0..],
        eligible_leader_replicas: Vec<i32> [0..],
        last_known_elr: Vec<i32> [0..],
        adding_replicas: Vec<i32> [0..],
        removing_replicas: Vec<i32> [0..],
        /// The leader was elected uncleanly and has not recovered yet.
        recovering: bool [0..],
    }
}
