//! What a coordinator is: a pure machine whose recorded state is a function of its log.

use bytes::Bytes;

use crate::types::{Instant, Offset, Timestamp};

/// The time a decision is made at: monotonic for spans, wall-clock for what is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moment {
    pub now: Instant,
    pub wall: Timestamp,
}

/// Names the request an answer belongs to; given by the driver, unique within its shard's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplyTo(pub u64);

/// One record of an internal topic. No value is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue {
    pub timestamp: Timestamp,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// What a ledger decided: records to append, and answers that are true once those records (and
/// all before them) are durable. An answer may belong to an earlier request.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome<R, A> {
    pub records: Vec<R>,
    pub replies: Vec<(ReplyTo, A)>,
}

impl<R, A> Default for Outcome<R, A> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            replies: Vec::new(),
        }
    }
}

impl<R, A> Outcome<R, A> {
    pub fn record(&mut self, record: R) {
        self.records.push(record);
    }

    pub fn reply(&mut self, to: ReplyTo, answer: A) {
        self.replies.push((to, answer));
    }
}

/// A record-driven machine. `self` is what the records say; `Soft` is what a failover may forget
/// (sessions, waiting requests, timers).
///
/// Every request gets exactly one answer, now or in a later outcome, unless the shard is dropped
/// first; then the shard answers with an error.
pub trait Ledger: Send + 'static {
    type Request: Send + 'static;
    type Reply: Send + 'static;
    type Record: Send + 'static;
    type Soft: Default + Send + 'static;

    /// A ledger of the same settings that has replayed nothing.
    fn blank(&self) -> Self;

    /// The record as bytes. The timestamp is `wall`.
    fn encode(record: &Self::Record, wall: Timestamp) -> KeyValue;

    /// The bytes as a record; `None` for a record this version does not know, which is skipped.
    fn decode(key: Option<Bytes>, value: Option<Bytes>) -> Option<Self::Record>;

    /// Decides on `request`. Cannot touch recorded state: what it wants to change it returns as
    /// records, which are replayed before the next call.
    fn handle(
        &self,
        soft: &mut Self::Soft,
        at: Moment,
        from: ReplyTo,
        request: Self::Request,
    ) -> Outcome<Self::Record, Self::Reply>;

    /// Takes over one record: the only change of recorded state, both while loading and after
    /// `handle` or `tick`. Depends on nothing but its arguments.
    fn replay(
        &mut self,
        soft: &mut Self::Soft,
        offset: Offset,
        timestamp: Timestamp,
        record: Self::Record,
    );

    /// The log has been replayed to its end: time to start timers.
    fn loaded(&self, soft: &mut Self::Soft, at: Moment);

    /// When `tick` is due next.
    fn deadline(&self, soft: &Self::Soft) -> Option<Instant>;

    /// Does what is due at `at`.
    fn tick(&self, soft: &mut Self::Soft, at: Moment) -> Outcome<Self::Record, Self::Reply>;
}
