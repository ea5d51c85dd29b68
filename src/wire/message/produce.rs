//! Produce (key 0), versions 3 to 13, flexible from 9.

use crate::types::Uuid;
use crate::wire::primitive::{Records, Str};

message! {
    pub struct ProduceRequest {
        transactional_id: Option<Str> [0..],
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
        base_offset: i64 [0..],
        log_append_time_ms: i64 [0..] = -1,
        log_start_offset: i64 [5..] = -1,
        record_errors: Vec<BatchIndexAndErrorMessage> [8..],
        error_message: Option<Str> [8..],
    } tagged {
        0 current_leader: LeaderIdAndEpoch [10..],
    }

    pub struct BatchIndexAndErrorMessage {
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
