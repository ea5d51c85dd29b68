//! Fetch (key 1), versions 4 to 18, flexible from 12.

use crate::types::Uuid;
use crate::wire::primitive::{Records, Str};

message! {
    pub struct FetchRequest {
        replica_id: i32 [0..=14] = -1,
        max_wait_ms: i32 [0..],
        min_bytes: i32 [0..],
        max_bytes: i32 [0..] = i32::MAX,
        isolation_level: i8 [0..],
        session_id: i32 [7..],
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic> [0..],
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id: Str [11..],
    } tagged {
        0 cluster_id: Option<Str> [12..],
        1 replica_state: ReplicaState [15..],
    }

    pub struct ReplicaState {
        replica_id: i32 [15..] = -1,
        replica_epoch: i64 [15..] = -1,
    }

    pub struct FetchTopic {
        topic: Str [0..=12],
        topic_id: Uuid [13..],
        partitions: Vec<FetchPartition> [0..],
    }

    pub struct FetchPartition {
        partition: i32 [0..],
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64 [0..],
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5..] = -1,
        partition_max_bytes: i32 [0..],
    } tagged {
        0 replica_directory_id: Uuid [17..],
        1 high_watermark: i64 [18..] = 9223372036854775807,
    }

    pub struct ForgottenTopic {
        topic: Str [7..=12],
        topic_id: Uuid [13..],
        partitions: Vec<i32> [7..],
    }

    pub struct FetchResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [7..],
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse> [0..],
    } tagged {
        0 node_endpoints: Vec<NodeEndpoint> [16..],
    }

    pub struct FetchableTopicResponse {
        topic: Str [0..=12],
        topic_id: Uuid [13..],
        partitions: Vec<PartitionData> [0..],
    }

    pub struct PartitionData {
        partition_index: i32 [0..],
        error_code: i16 [0..],
        high_watermark: i64 [0..],
        last_stable_offset: i64 [0..] = -1,
        log_start_offset: i64 [5..] = -1,
        aborted_transactions: Option<Vec<AbortedTransaction>> [0..] = Some(Default::default()),
        preferred_read_replica: i32 [11..] = -1,
        records: Option<Records> [0..] = Some(Default::default()),
    } tagged {
        0 diverging_epoch: EpochEndOffset [12..],
        1 current_leader: LeaderIdAndEpoch [12..],
        2 snapshot_id: SnapshotId [12..],
    }

    pub struct EpochEndOffset {
        epoch: i32 [12..] = -1,
        end_offset: i64 [12..] = -1,
    }

    pub struct LeaderIdAndEpoch {
        leader_id: i32 [12..] = -1,
        leader_epoch: i32 [12..] = -1,
    }

    pub struct SnapshotId {
        end_offset: i64 [0..] = -1,
        epoch: i32 [0..] = -1,
    }

    pub struct AbortedTransaction {
        producer_id: i64 [0..],
        first_offset: i64 [0..],
    }

    pub struct NodeEndpoint {
        node_id: i32 [16..],
        host: Str [16..],
        port: i32 [16..],
        rack: Option<Str> [16..],
    }
}
