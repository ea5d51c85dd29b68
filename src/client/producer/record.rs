//! What goes into a producer and what comes back.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::client::error::ClientError;
use crate::types::{Offset, Timestamp, TopicPartition};
use crate::wire::Str;

/// A record to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerRecord {
    pub topic: Arc<str>,
    /// `None`: by the hash of the key, or, without a key, any.
    pub partition: Option<i32>,
    pub key: Option<Bytes>,
    /// `None` deletes the key's record in a compacted topic.
    pub value: Option<Bytes>,
    pub headers: Vec<(Str, Option<Bytes>)>,
    /// `None`: the wall clock's time of the send.
    pub timestamp: Option<Timestamp>,
}

impl ProducerRecord {
    /// A record with a value alone.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            partition: None,
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
        }
    }

    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    #[must_use]
    pub fn with_partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Bytes the record takes at most, in a batch of its own.
    pub(super) fn bytes_max(&self) -> usize {
        const BATCH_AND_FIELDS: usize = crate::wire::batch::HEADER_BYTES + 36;
        let header = |(key, value): &(Str, Option<Bytes>)| {
            key.len() + value.as_ref().map_or(0, Bytes::len) + 10
        };
        BATCH_AND_FIELDS
            + self.key.as_ref().map_or(0, Bytes::len)
            + self.value.as_ref().map_or(0, Bytes::len)
            + self.headers.iter().map(header).sum::<usize>()
    }
}

/// Where a record went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordMetadata {
    pub partition: TopicPartition,
    /// `None` with acks=0, and for a batch that the broker had already without saying where.
    pub offset: Option<Offset>,
    /// As stored: the record's own, or the broker's where the topic says so.
    pub timestamp: Timestamp,
}

/// Whether a record that failed may be in the log all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is not in the log and will not be.
    NotAppended,
    /// It may be in the log: an answer was lost, or came too late.
    Unknown,
}

/// A record was not acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{error}{}", match .outcome {
    Outcome::NotAppended => "",
    Outcome::Unknown => " (the record may have been written)",
})]
pub struct DeliveryError {
    pub error: ClientError,
    pub outcome: Outcome,
}

/// What an acknowledged batch got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    pub base_offset: Option<Offset>,
    /// Set where the topic's timestamps are the broker's.
    pub log_append_time: Option<Timestamp>,
}

/// How a batch ended.
pub type BatchResult = Result<Acknowledged, DeliveryError>;

/// The shared end of a batch, awaited by its records.
#[derive(Debug, Default)]
pub(super) struct Completion {
    state: Mutex<CompletionState>,
}

#[derive(Debug, Default)]
struct CompletionState {
    result: Option<BatchResult>,
    wakers: BTreeMap<u32, Waker>,
}

impl Completion {
    fn lock(&self) -> MutexGuard<'_, CompletionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn complete(&self, result: BatchResult) {
        let wakers = {
            let mut state = self.lock();
            state.result.get_or_insert(result);
            std::mem::take(&mut state.wakers)
        };
        for waker in wakers.into_values() {
            waker.wake();
        }
    }
}

/// The future of a record that was sent. Dropping it changes nothing for the record.
#[derive(Debug)]
pub struct Delivery {
    pub(super) completion: Arc<Completion>,
    /// Place in the batch.
    pub(super) index: u32,
    pub(super) partition: TopicPartition,
    pub(super) timestamp: Timestamp,
}

impl Delivery {
    /// Where the record goes.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, DeliveryError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.completion.lock();
        let Some(result) = &state.result else {
            state.wakers.insert(self.index, cx.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(result.clone().map(|done| {
            RecordMetadata {
                partition: self.partition.clone(),
                offset: done
                    .base_offset
                    .map(|base| base.plus(i64::from(self.index))),
                timestamp: done.log_append_time.unwrap_or(self.timestamp),
            }
        }))
    }
}
