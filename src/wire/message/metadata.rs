//! Metadata (key 3): brokers, topics, partitions and their leaders. Versions 0 to 13, flexible
//! from 9.
//!
//! - 0: an empty list of topics asks for all of them.
//! - 1: null asks for all topics and an empty list for none; racks, controller, internal topics.
//! - 2: cluster id (KIP-78).
//! - 3: throttle time.
//! - 4: the client says whether missing topics are to be created; before, they always are.
//! - 5: offline replicas (KIP-112).
//! - 6: throttled answers are sent at once (KIP-219).
//! - 7: leader epochs (KIP-320).
//! - 8: authorized operations on request (KIP-430).
//! - 9: flexible.
//! - 10: topic ids (KIP-516), though asking by id came with 12 only.
//! - 11: authorized operations on the cluster moved to DescribeCluster (KIP-700).
//! - 12: topics can be asked for by id, with a null name.
//! - 13: an error for the request as a whole.

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct MetadataRequest {
        /// `None`: all topics. In version 0 an empty list means the same, and null is not
        /// allowed.
        topics: Option<Vec<MetadataRequestTopic>> [0..; null 1..] = Some(Default::default()),
        /// Read as true below version 4.
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    pub struct MetadataRequestTopic {
        topic_id: Uuid [10..],
        /// `None` only from 12 on, with a topic id.
        name: Option<Str> [0..; null 10..] = Some(Default::default()),
    }

    pub struct MetadataResponse {
        throttle_time_ms: i32 [3..],
        brokers: Vec<MetadataResponseBroker> [0..],
        cluster_id: Option<Str> [2..],
        /// Any live broker will do: it forwards.
        controller_id: i32 [1..] = -1,
        topics: Vec<MetadataResponseTopic> [0..],
        /// A bit an operation; the least number when not asked for.
        cluster_authorized_operations: i32 [8..=10] = -2147483648,
        error_code: i16 [13..],
    }

    pub struct MetadataResponseBroker {
        node_id: i32 [0..],
        host: Str [0..],
        port: i32 [0..],
        rack: Option<Str> [1..],
    }

    pub struct MetadataResponseTopic {
        error_code: i16 [0..],
        /// `None` only for an id nobody knows.
        name: Option<Str> [0..; null 12..] = Some(Default::default()),
        topic_id: Uuid [10..],
        is_internal: bool [1..],
        partitions: Vec<MetadataResponsePartition> [0..],
        topic_authorized_operations: i32 [8..] = -2147483648,
    }

    pub struct MetadataResponsePartition {
        error_code: i16 [0..],
        partition_index: i32 [0..],
        /// -1 without a leader.
        leader_id: i32 [0..],
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32> [0..],
        isr_nodes: Vec<i32> [0..],
        offline_replicas: Vec<i32> [5..],
    }
}
