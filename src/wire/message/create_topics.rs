//! CreateTopics (key 19): creates topics. Versions 2 to 7, flexible from 5.
//!
//! - 2: throttle time.
//! - 3: throttled answers are sent at once (KIP-219).
//! - 4: -1 partitions or replicas ask for the broker's default (KIP-464).
//! - 5: flexible; the answer holds the configuration of the new topic (KIP-525).
//! - 6: THROTTLING_QUOTA_EXCEEDED may come (KIP-599).
//! - 7: topic id in the answer (KIP-516).

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct CreateTopicsRequest {
        topics: Vec<CreatableTopic> [0..],
        timeout_ms: i32 [0..] = 60000,
        validate_only: bool [0..],
    }

    pub struct CreatableTopic {
        name: Str [0..],
        /// -1: the default, or as many as are assigned.
        num_partitions: i32 [0..],
        /// -1: the default, or as many as are assigned.
        replication_factor: i16 [0..],
        assignments: Vec<CreatableReplicaAssignment> [0..],
        configs: Vec<CreatableTopicConfig> [0..],
    }

    pub struct CreatableReplicaAssignment {
        partition_index: i32 [0..],
        broker_ids: Vec<i32> [0..],
    }

    pub struct CreatableTopicConfig {
        name: Str [0..],
        value: Option<Str> [0..] = Some(Default::default()),
    }

    pub struct CreateTopicsResponse {
        throttle_time_ms: i32 [0..],
        topics: Vec<CreatableTopicResult> [0..],
    }

    pub struct CreatableTopicResult {
        name: Str [0..],
        topic_id: Uuid [7..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..] = Some(Default::default()),
        num_partitions: i32 [5..] = -1,
        replication_factor: i16 [5..] = -1,
        configs: Option<Vec<CreatableTopicConfigs>> [5..] = Some(Default::default()),
    } tagged {
        /// Why the configuration is not shown.
        0 topic_config_error_code: i16 [5..],
    }

    pub struct CreatableTopicConfigs {
        name: Str [5..],
        value: Option<Str> [5..] = Some(Default::default()),
        read_only: bool [5..],
        config_source: i8 [5..] = -1,
        is_sensitive: bool [5..],
    }
}
