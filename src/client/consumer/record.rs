//! A record as a consumer gets it.

use bytes::Bytes;

use crate::types::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use crate::wire::Str;
use crate::wire::batch::TimestampType;

/// A record that was read. Key, value and headers are views of the fetched bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerRecord {
    pub partition: TopicPartition,
    pub offset: Offset,
    /// The producer's, or the broker's where `timestamp_type` says so.
    pub timestamp: Timestamp,
    pub timestamp_type: TimestampType,
    /// Epoch of the leader that wrote the batch.
    pub leader_epoch: LeaderEpoch,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In the producer's order; the same key may come more than once.
    pub headers: Vec<(Str, Option<Bytes>)>,
}
