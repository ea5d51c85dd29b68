//! The settings of one log, as plain values. Defaults are Kafka's.

use crate::types::{LeaderEpoch, Offset};
use crate::wire::batch::TimestampType;

/// What happens to old records (`cleanup.policy`). Neither: they stay for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanupPolicy {
    /// Old segments are removed, by time and size.
    pub delete: bool,
    /// Of the records with one key only the newest stays.
    pub compact: bool,
}

/// The settings of one log. Spans are in milliseconds.
#[derive(Clone, PartialEq, Debug)]
pub struct LogConfig {
    /// A segment is closed before it would hold more than this (`segment.bytes`).
    pub segment_bytes: u64,
    /// A segment is closed once its first record is this old (`segment.ms`).
    pub segment_ms: i64,
    /// Up to this much is taken from `segment_ms`, drawn per segment (`segment.jitter.ms`).
    pub segment_jitter_ms: i64,
    /// Bytes between two entries of an index (`index.interval.bytes`).
    pub index_interval_bytes: u64,
    /// `None`: no limit (`retention.ms=-1`).
    pub retention_ms: Option<i64>,
    /// `None`: no limit (`retention.bytes=-1`).
    pub retention_bytes: Option<u64>,
    /// Bytes between two places from which on recovery reads a segment
    /// (`klamm.log.recovery.point.interval.bytes`).
    pub recovery_point_interval_bytes: u64,
    /// Largest batch that may be appended (`max.message.bytes`).
    pub max_message_bytes: usize,
    pub cleanup: CleanupPolicy,
    pub min_cleanable_dirty_ratio: f64,
    pub delete_retention_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    /// How long a removed file stays under its `.deleted` name (`file.delete.delay.ms`).
    pub file_delete_delay_ms: i64,
    pub message_timestamp_type: TimestampType,
    /// An idle producer is forgotten after this (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: i64,
    /// Of a mirror that became writable: only what producers did in batches of this leader epoch
    /// or a later one counts. Ids in earlier ones were given out by another cluster, which may have
    /// meant other producers by them.
    pub producers_since: Option<LeaderEpoch>,
    /// Whether batches copied from the partition's leader go to the tail cache. They are read again
    /// only where consumers are sent to followers.
    pub copies_in_memory: bool,
    /// Where the log begins while it has never held a record: a mirror's source may have lost
    /// its first ones before.
    pub first_offset: Offset,
}

impl Default for LogConfig {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 3_600_000;
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            recovery_point_interval_bytes: 32 << 20,
            retention_ms: Some(7 * DAY_MS),
            retention_bytes: None,
            max_message_bytes: 1_048_588,
            cleanup: CleanupPolicy {
                delete: true,
                compact: false,
            },
            min_cleanable_dirty_ratio: 0.5,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            file_delete_delay_ms: 60_000,
            message_timestamp_type: TimestampType::CreateTime,
            producer_id_expiration_ms: DAY_MS,
            producers_since: None,
            copies_in_memory: false,
            first_offset: Offset::ZERO,
        }
    }
}
