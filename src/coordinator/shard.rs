//! One ledger on one partition: load, append, replay, and hold answers back until they are safe.
//!
//! Records are replayed when they are handed to the log, so the next request is decided on them at
//! once; its answer waits behind them. Answers therefore leave in the order of the decisions, and
//! none shows a state that a failover could take back.
//!
//! An append that fails leaves it unknown whether its records are in the log. The shard then tells
//! every waiting client so, forgets everything, waits for its other appends to end, and replays
//! the log from the start: the same path as a failover.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::driver::LoadedBatch;
use super::ledger::{KeyValue, Ledger, Moment, Outcome, ReplyTo};
use crate::types::{ErrorCode, Instant, Offset};

/// Appends under way at once. More records wait and share the next append.
pub const APPENDS_IN_FLIGHT_MAX: usize = 16;

/// Most bytes of keys and values handed to the log in one append (one record may exceed it).
pub const APPEND_BYTES_MAX: usize = 512 * 1024;

/// How long after a failed read loading tries again.
const READ_RETRY: Duration = Duration::from_millis(100);

/// What a shard asks of its driver, in order.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect<A> {
    /// Read records from this offset on and hand them to [`Shard::read`].
    Read(Offset),
    /// Hand these records to the log now; report the result to [`Shard::appended`]. Results are
    /// reported in the order of the appends.
    Append(Vec<KeyValue>),
    /// Answer a request.
    Reply(ReplyTo, Result<A, ErrorCode>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// Replaying the log. `retry_at` is set while a failed read waits.
    Loading {
        retry_at: Option<Instant>,
    },
    /// An append failed: waiting for the others to end before loading again.
    Draining,
    Leading,
    Resigned,
}

struct Appending {
    base_offset: Offset,
    count: i64,
}

struct Parked<A> {
    /// Safe once everything before this offset is.
    behind: Offset,
    replies: Vec<(ReplyTo, A)>,
}

/// One ledger on one partition of an internal topic (pure).
pub struct Shard<L: Ledger> {
    ledger: L,
    soft: L::Soft,
    role: Role,
    /// Offset of the next record to replay or append.
    next_offset: Offset,
    /// Everything before this offset is durable and below the high watermark.
    safe_offset: Offset,
    in_flight: VecDeque<Appending>,
    unsent: VecDeque<KeyValue>,
    parked: VecDeque<Parked<L::Reply>>,
    /// Requests without an answer, whether parked here or waiting inside the ledger.
    unanswered: BTreeSet<ReplyTo>,
}

impl<L: Ledger> Shard<L> {
    /// A shard that begins by loading; `effects` gets its first read.
    pub fn load(ledger: L, effects: &mut Vec<Effect<L::Reply>>) -> Self {
        let mut shard = Self {
            ledger,
            soft: L::Soft::default(),
            role: Role::Draining,
            next_offset: Offset::ZERO,
            safe_offset: Offset::ZERO,
            in_flight: VecDeque::new(),
            unsent: VecDeque::new(),
            parked: VecDeque::new(),
            unanswered: BTreeSet::new(),
        };
        shard.start_loading(effects);
        shard
    }

    pub fn ledger(&self) -> &L {
        &self.ledger
    }

    pub fn soft(&self) -> &L::Soft {
        &self.soft
    }

    /// Whether requests are served: loaded and not resigned.
    pub fn is_leading(&self) -> bool {
        self.role == Role::Leading
    }

    /// Offset after the last record replayed.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Takes the answer to an [`Effect::Read`].
    pub fn read(
        &mut self,
        at: Moment,
        result: Result<LoadedBatch, ErrorCode>,
        effects: &mut Vec<Effect<L::Reply>>,
    ) {
        if !matches!(self.role, Role::Loading { .. }) {
            return;
        }
        let progress = |batch: &LoadedBatch| batch.end || batch.next > self.next_offset;
        let Some(batch) = result.ok().filter(progress) else {
            self.role = Role::Loading {
                retry_at: Some(at.now.plus(READ_RETRY)),
            };
            return;
        };
        for record in batch.records {
            if let Some(known) = L::decode(record.key, record.value) {
                self.ledger
                    .replay(&mut self.soft, record.offset, record.timestamp, known);
            }
        }
        self.next_offset = self.next_offset.max(batch.next);
        if !batch.end {
            effects.push(Effect::Read(self.next_offset));
            return;
        }
        if self.next_offset > Offset::ZERO {
            tracing::trace!(target: "klamm::probe", name = "coordinator-loaded-state");
        }
        self.safe_offset = self.next_offset;
        self.role = Role::Leading;
        self.ledger.loaded(&mut self.soft, at);
    }

    /// Decides on a request.
    pub fn request(
        &mut self,
        at: Moment,
        from: ReplyTo,
        request: L::Request,
        effects: &mut Vec<Effect<L::Reply>>,
    ) {
        let refusal = match self.role {
            Role::Leading => {
                self.unanswered.insert(from);
                let outcome = self.ledger.handle(&mut self.soft, at, from, request);
                return self.accept(at, outcome, effects);
            }
            Role::Loading { .. } | Role::Draining => {
                tracing::trace!(target: "klamm::probe", name = "coordinator-asked-while-loading");
                ErrorCode::CoordinatorLoadInProgress
            }
            Role::Resigned => ErrorCode::NotCoordinator,
        };
        effects.push(Effect::Reply(from, Err(refusal)));
    }

    /// Takes the result of the oldest [`Effect::Append`]: the offset its first record got, once
    /// all its records are durable and below the high watermark.
    pub fn appended(
        &mut self,
        result: Result<Offset, ErrorCode>,
        effects: &mut Vec<Effect<L::Reply>>,
    ) {
        let Some(append) = self.in_flight.pop_front() else {
            return;
        };
        match (self.role, result) {
            (Role::Leading, Ok(base_offset)) if base_offset == append.base_offset => {
                self.safe_offset = base_offset.plus(append.count);
                self.release(effects);
                self.submit(effects);
            }
            (Role::Leading, Ok(_)) => self.fail(ErrorCode::CoordinatorNotAvailable, effects),
            (Role::Leading, Err(error)) => self.fail(client_error(error), effects),
            (Role::Draining, _) if self.in_flight.is_empty() => self.start_loading(effects),
            _ => {}
        }
    }

    /// Leadership is lost: everybody who waits is sent elsewhere.
    pub fn resign(&mut self, effects: &mut Vec<Effect<L::Reply>>) {
        self.forget(ErrorCode::NotCoordinator, effects);
        self.role = Role::Resigned;
    }

    /// When [`Shard::tick`] is due next.
    pub fn deadline(&self) -> Option<Instant> {
        match self.role {
            Role::Leading => self.ledger.deadline(&self.soft),
            Role::Loading { retry_at } => retry_at,
            Role::Draining | Role::Resigned => None,
        }
    }

    /// Does what is due at `at`.
    pub fn tick(&mut self, at: Moment, effects: &mut Vec<Effect<L::Reply>>) {
        match self.role {
            Role::Leading => {
                let outcome = self.ledger.tick(&mut self.soft, at);
                self.accept(at, outcome, effects);
            }
            Role::Loading {
                retry_at: Some(due),
            } if due <= at.now => {
                self.role = Role::Loading { retry_at: None };
                effects.push(Effect::Read(self.next_offset));
            }
            _ => {}
        }
    }

    fn accept(
        &mut self,
        at: Moment,
        outcome: Outcome<L::Record, L::Reply>,
        effects: &mut Vec<Effect<L::Reply>>,
    ) {
        for record in outcome.records {
            self.unsent.push_back(L::encode(&record, at.wall));
            self.ledger
                .replay(&mut self.soft, self.next_offset, at.wall, record);
            self.next_offset = self.next_offset.next();
        }
        self.submit(effects);
        if !outcome.replies.is_empty() {
            self.parked.push_back(Parked {
                behind: self.next_offset,
                replies: outcome.replies,
            });
        }
        self.release(effects);
    }

    /// Hands waiting records to the log, as many appends as may be under way.
    fn submit(&mut self, effects: &mut Vec<Effect<L::Reply>>) {
        while !self.unsent.is_empty() && self.in_flight.len() < APPENDS_IN_FLIGHT_MAX {
            let left = i64::try_from(self.unsent.len()).expect("a queue's length fits i64");
            let base_offset = self.next_offset.plus(-left);
            let mut bytes = 0;
            let mut count = 0;
            for record in &self.unsent {
                bytes += record.key.len() + record.value.as_ref().map_or(0, |value| value.len());
                if count > 0 && bytes > APPEND_BYTES_MAX {
                    break;
                }
                count += 1;
            }
            let records: Vec<_> = self.unsent.drain(..count).collect();
            self.in_flight.push_back(Appending {
                base_offset,
                count: i64::try_from(count).expect("a queue's length fits i64"),
            });
            effects.push(Effect::Append(records));
        }
    }

    fn release(&mut self, effects: &mut Vec<Effect<L::Reply>>) {
        while let Some(parked) = self.parked.pop_front_if(|parked| {
            parked.behind <= self.safe_offset || crate::mutant!("commit-acked-before-durable")
        }) {
            for (to, answer) in parked.replies {
                self.unanswered.remove(&to);
                effects.push(Effect::Reply(to, Ok(answer)));
            }
        }
    }

    fn fail(&mut self, error: ErrorCode, effects: &mut Vec<Effect<L::Reply>>) {
        tracing::trace!(target: "klamm::probe", name = "coordinator-reloaded");
        self.forget(error, effects);
        self.role = Role::Draining;
        if self.in_flight.is_empty() {
            self.start_loading(effects);
        }
    }

    fn forget(&mut self, error: ErrorCode, effects: &mut Vec<Effect<L::Reply>>) {
        for to in std::mem::take(&mut self.unanswered) {
            effects.push(Effect::Reply(to, Err(error)));
        }
        self.parked.clear();
        self.unsent.clear();
        self.ledger = self.ledger.blank();
        self.soft = L::Soft::default();
    }

    fn start_loading(&mut self, effects: &mut Vec<Effect<L::Reply>>) {
        self.next_offset = Offset::ZERO;
        self.role = Role::Loading { retry_at: None };
        effects.push(Effect::Read(Offset::ZERO));
    }
}

/// What a client is told when an append fails: both answers make it look the coordinator up again
/// and retry, and neither claims that nothing was written.
fn client_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::NotLeaderOrFollower
        | ErrorCode::FencedLeaderEpoch
        | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        _ => ErrorCode::CoordinatorNotAvailable,
    }
}
