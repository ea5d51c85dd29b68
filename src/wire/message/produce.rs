//! Produce (key 0): appends record batches to partitions. Versions 3 to 13, flexible from 9.
//!
//! One batch a partition; acknowledged as `acks` says, and with `acks` 0 not answered at all.
//!
//! - 3: transactional id; only batches of format 2.
//! - 4: KAFKA_STORAGE_ERROR may come.
//! - 5: the answer tells the log start offset, so that a producer can tell a truncated log from
//!   lost batches.
//! - 6: same as 5.
//! - 7: zstd is allowed (KIP-110).
//! - 8: the answer names the records that made a batch unacceptable (KIP-467).
//! - 9: flexible.
//! - 10: the answer to a wrong leader names the right one (KIP-951).
//! - 11: TRANSACTION_ABORTABLE may come (KIP-890).
//! - 12: producing adds the partition to the transaction (KIP-890).
//! - 13: topics by id instead of name (KIP-516).

use crate::types::Uuid;
use crate::wire::primitive::{Records, Str};

message! {
    pub struct ProduceRequest {
        /// `None` outside transactions.
        transactional_id: Option<Str> [0..],
        /// 0: no answer; 1: the leader has it; -1: all in-sync replicas have it.
        acks: i16 [0..],
        timeout_ms: i32 [0..],
        topic_data: Vec<TopicProduceData> [0..],
    }

    pub struct TopicProduceData {
        name: Str [0..=12],
        topic_id: Uuid [13..],
        partition_data: Vec<PartitionProduceData> [0..],
    }

    pub struct PartitionProduceData {
        index: i32 [0..],
        /// One batch.
        records: Option<Records> [0..] = Some(Default::default()),
    }

    pub struct ProduceResponse {
        responses: Vec<TopicProduceResponse> [0..],
        throttle_time_ms: i32 [0..],
    } tagged {
        0 node_endpoints: Vec<NodeEndpoint> [10..],
    }

    pub struct TopicProduceResponse {
        name: Str [0..=12],
        topic_id: Uuid [13..],
        partition_responses: Vec<PartitionProduceResponse> [0..],
    }

    pub struct PartitionProduceResponse {
        index: i32 [0..],
        error_code: i16 [0..],
        /// Offset of the first record; -1 with an error.
        base_offset: i64 [0..],
        /// Timestamp the broker gave all records; -1 where they keep their own.
        log_append_time_ms: i64 [0..] = -1,
        log_start_offset: i64 [5..] = -1,
        /// Which records made the batch unacceptable.
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        error_message: Option<Str> [8..],
    } tagged {
        /// With NOT_LEADER_OR_FOLLOWER: who leads.
        0 current_leader: LeaderIdAndEpoch [10..],
    }

    pub struct BatchIndexAndErrorMessage {
        /// Index of the record in its batch.
        batch_index: i32 [8..],
        batch_index_error_message: Option<Str> [8..],
    }

    pub struct LeaderIdAndEpoch {
        leader_id: i32 [10..] = -1,
        leader_epoch: i32 [10..] = -1,
    }

    pub struct NodeEndpoint {
        node_id: i32 [10..],
        host: Str [10..],
        port: i32 [10..],
        rack: Option<Str> [10..],
    }
}
