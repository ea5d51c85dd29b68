//! Fetch (key 1): reads record batches, for consumers and for followers. Versions 4 to 18,
//! flexible from 12.
//!
//! Batches come whole, so the first may exceed the limits given and may begin before the offset
//! asked for. Partitions are served in the order of the request.
//!
//! - 4: isolation level, last stable offset and aborted transactions (KIP-98).
//! - 5: log start offset in both directions.
//! - 6: KAFKA_STORAGE_ERROR may come.
//! - 7: sessions: only what changed is named (KIP-227).
//! - 8: throttled answers are sent at once and the connection is muted after (KIP-219).
//! - 9: the leader epoch the reader knows fences stale readers (KIP-320).
//! - 10: zstd batches may come (KIP-110).
//! - 11: rack of the reader, and a replica nearer to it (KIP-392).
//! - 12: flexible; the epoch last fetched, and where the reader's log diverges (KIP-595).
//! - 13: topics by id instead of name (KIP-516).
//! - 14: OFFSET_MOVED_TO_TIERED_STORAGE may come (KIP-405).
//! - 15: followers name themselves in a tagged field, with their epoch (KIP-903).
//! - 16: addresses of the leaders named (KIP-951).
//! - 17: followers name their log directory (KIP-853).
//! - 18: followers tell the high watermark they know (KIP-1166).

use crate::types::Uuid;
use crate::wire::primitive::{Records, Str};

message! {
    pub struct FetchRequest {
        /// The follower that asks; -1 for a consumer. From 15 on in `replica_state`.
        replica_id: i32 [0..=14] = -1,
        /// How long to wait for `min_bytes`.
        max_wait_ms: i32 [0..],
        min_bytes: i32 [0..],
        max_bytes: i32 [0..] = i32::MAX,
        /// 0: up to the high watermark; 1: up to the last stable offset.
        isolation_level: i8 [0..],
        /// 0 without a session.
        session_id: i32 [7..],
        /// -1: no session; 0: begins one; above: goes on.
        session_epoch: i32 [7..] = -1,
        topics: Vec<FetchTopic> [0..],
        /// Partitions to take out of the session.
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
        /// Epoch the reader knows; -1 for none.
        current_leader_epoch: i32 [9..] = -1,
        fetch_offset: i64 [0..],
        /// Epoch of the record before `fetch_offset`, by which divergence is found; -1 for
        /// none.
        last_fetched_epoch: i32 [12..] = -1,
        /// Where a follower's log starts; -1 for a consumer.
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
        /// 0 where the broker keeps no session.
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
        /// Below it no transaction is open; -1 with an error.
        last_stable_offset: i64 [0..] = -1,
        log_start_offset: i64 [5..] = -1,
        /// By ascending first offset; `None` without isolation.
        aborted_transactions: Option<Vec<AbortedTransaction>> [0..] = Some(Default::default()),
        /// Replica to read from instead; -1 for none.
        preferred_read_replica: i32 [11..] = -1,
        /// Whole batches; empty, never null, where there are none (librdkafka reads null as a
        /// size).
        records: Option<Records> [0..] = Some(Default::default()),
    } tagged {
        /// Where the follower's log leaves the leader's; -1 where it does not.
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
