//! One partition's batches on their way, pure: which may be sent now, and what an answer means.
//!
//! With idempotence (KIP-98, KIP-360) the promise is: **a record is written at most once, and
//! records of a partition are written in the order they were given**. The rules that keep it:
//!
//! - A batch gets producer id, epoch and sequence when it is first sent and keeps them on every
//!   later attempt, so the broker can tell a repetition from a new batch.
//! - At most five batches wait for their answer, because a broker remembers the last five.
//! - Until the broker has acknowledged a first batch, one at a time is sent: a broker that does not
//!   know the producer yet takes any sequence, and would take the second after refusing the first.
//! - A batch is sent again only when all before it are settled, and nothing new is sent while one
//!   waits to be sent again.
//! - Once a gap is certain (the broker wants an earlier sequence than that of the oldest batch),
//!   the batches that certainly are not in the log get sequences from 0 in a higher epoch. A batch
//!   with an attempt whose fate is unknown is never renumbered: it fails as
//!   [`Outcome::Unknown`], because a second copy could not be told from the first.
//!
//! Without idempotence nothing is numbered: a retry may write twice, and with several requests in
//! flight it may reorder.

use std::collections::VecDeque;

use super::record::{Acknowledged, BatchResult, DeliveryError, Outcome};
use crate::client::error::{ApiError, ClientError};
use crate::types::{ErrorCode, Instant, ProducerEpoch, ProducerId, Sequence};
use crate::wire::batch::{BatchBuilder, RecordBatch};

#[cfg(test)]
#[path = "sequencer_tests.rs"]
mod tests;

/// A number for each batch of a producer, ascending.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct BatchId(pub u64);

/// Who an idempotent producer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

/// A batch on its way, with `H` to find whoever waits for it.
#[derive(Debug)]
pub struct Batch<H> {
    pub id: BatchId,
    pub created: Instant,
    pub handle: H,
    content: Content,
    records: i32,
    /// Set from the first sending on, with idempotence.
    numbered: Option<(Identity, Sequence)>,
    attempts: u32,
    in_flight: bool,
    retry_at: Instant,
    /// An attempt ended without telling whether it wrote.
    doubtful: bool,
    last_error: Option<ClientError>,
}

#[derive(Debug)]
enum Content {
    Open(Box<BatchBuilder>),
    Sealed(RecordBatch),
    /// Only while it changes from one to the other.
    Taken,
}

impl<H> Batch<H> {
    pub fn new(id: BatchId, created: Instant, handle: H, builder: BatchBuilder) -> Self {
        Self {
            id,
            created,
            handle,
            content: Content::Open(Box::new(builder)),
            records: 0,
            numbered: None,
            attempts: 0,
            in_flight: false,
            retry_at: Instant(0),
            doubtful: false,
            last_error: None,
        }
    }

    /// The builder, while records may be added.
    pub fn open(&mut self) -> Option<&mut BatchBuilder> {
        match &mut self.content {
            Content::Open(builder) => Some(builder),
            Content::Sealed(_) | Content::Taken => None,
        }
    }

    fn seal(&mut self) -> RecordBatch {
        let numbered = self.numbered;
        let sealed = match std::mem::replace(&mut self.content, Content::Taken) {
            Content::Open(builder) => {
                self.records = i32::try_from(builder.len()).unwrap_or(i32::MAX);
                let builder = match numbered {
                    Some((who, sequence)) => builder.producer(who.id, who.epoch, sequence),
                    None => *builder,
                };
                builder.build()
            }
            Content::Sealed(batch) => match numbered {
                Some((who, sequence))
                    if batch.header.producer_id != who.id
                        || batch.header.producer_epoch != who.epoch
                        || batch.header.base_sequence != sequence =>
                {
                    let mut header = batch.header;
                    header.producer_id = who.id;
                    header.producer_epoch = who.epoch;
                    header.base_sequence = sequence;
                    RecordBatch::seal(header, &batch.payload())
                }
                _ => batch,
            },
            Content::Taken => unreachable!("content is put back before this returns"),
        };
        self.content = Content::Sealed(sealed.clone());
        sealed
    }

    fn record_count(&self) -> i32 {
        match &self.content {
            Content::Open(builder) => i32::try_from(builder.len()).unwrap_or(i32::MAX),
            Content::Sealed(_) | Content::Taken => self.records,
        }
    }

    fn bytes(&self) -> usize {
        match &self.content {
            Content::Open(builder) => builder.estimated_bytes(),
            Content::Sealed(batch) => batch.total_bytes(),
            Content::Taken => 0,
        }
    }

    fn failure(&self, error: ClientError) -> BatchResult {
        let outcome = match self.doubtful || self.in_flight {
            true => Outcome::Unknown,
            false => Outcome::NotAppended,
        };
        Err(DeliveryError { error, outcome })
    }
}

/// What a sent batch met.
#[derive(Clone, Debug)]
pub enum Answer {
    Acknowledged(Acknowledged),
    Refused(ApiError),
    /// No answer; `sent` says whether the broker may have got the request.
    Lost {
        error: ClientError,
        sent: bool,
    },
}

/// What the producer must do after an answer.
#[derive(Debug)]
pub enum Verdict<H> {
    /// The batch has ended.
    Ended(H, BatchId, BatchResult),
    /// The partition's leader has to be looked up anew.
    StaleLeader,
    /// A new epoch is needed before the partition can go on.
    NeedsEpoch,
    /// Another producer took over: nothing can be sent any more.
    Fenced(ApiError),
}

/// Bounds and rules.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub idempotent: bool,
    /// Batches of a partition that may wait for their answer.
    pub unresolved_max: usize,
    pub retries: u32,
    pub retry_pause: std::time::Duration,
    pub linger: std::time::Duration,
    /// A batch of this size does not linger.
    pub batch_size: usize,
    pub delivery_timeout: std::time::Duration,
}

/// One partition's batches.
#[derive(Debug)]
pub struct Sequencer<H> {
    identity: Option<Identity>,
    next_sequence: Sequence,
    /// Not sent yet, in order; the last may be open.
    pub(super) pending: VecDeque<Batch<H>>,
    /// Sent and not settled, in order.
    unresolved: VecDeque<Batch<H>>,
    /// A gap in the sequences is certain: everything unsettled must be numbered anew.
    gap: bool,
    /// The broker has acknowledged something of this identity, so it knows the sequence to expect.
    established: bool,
}

impl<H> Default for Sequencer<H> {
    fn default() -> Self {
        Self {
            identity: None,
            next_sequence: Sequence(0),
            pending: VecDeque::new(),
            unresolved: VecDeque::new(),
            gap: false,
            established: false,
        }
    }
}

impl<H> Sequencer<H> {
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.unresolved.is_empty()
    }

    /// The identity its sequences count in.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// From when on a batch may be sent; `None` while an answer must come first. `hurry` is the
    /// id below which batches do not linger.
    #[must_use]
    pub fn ready_at(&self, rules: &Rules, hurry: BatchId) -> Option<Instant> {
        if self.gap {
            return None;
        }
        if let Some(at) = self.unresolved.iter().position(|batch| !batch.in_flight) {
            let waits = rules.idempotent && at > 0;
            return (!waits).then(|| self.unresolved[at].retry_at);
        }
        let known = self.established && self.identity.is_some();
        let unresolved_max = match rules.idempotent && !known {
            true => 1,
            false => rules.unresolved_max,
        };
        if self.unresolved.len() >= unresolved_max {
            return None;
        }
        let first = self.pending.front()?;
        if matches!(first.content, Content::Sealed(_)) {
            return Some(first.retry_at);
        }
        let full = self.pending.len() > 1 || first.bytes() >= rules.batch_size;
        if full || first.id < hurry {
            return Some(first.created);
        }
        Some(first.created.plus(rules.linger))
    }

    /// When its oldest batch runs out of time.
    #[must_use]
    pub fn expires_at(&self, rules: &Rules) -> Option<Instant> {
        let batches = self.unresolved.iter().chain(&self.pending);
        let oldest = batches.map(|batch| batch.created).min()?;
        Some(oldest.plus(rules.delivery_timeout))
    }

    /// The bytes of the batch that would be sent next.
    #[must_use]
    pub fn next_bytes(&self) -> usize {
        let waiting = self.unresolved.iter().find(|batch| !batch.in_flight);
        let next = waiting.or_else(|| self.pending.front());
        next.map_or(0, Batch::bytes)
    }

    /// Takes the batch to be sent now. Call only when [`Sequencer::ready_at`] has come.
    pub fn take(&mut self, identity: Option<Identity>) -> Option<(BatchId, RecordBatch)> {
        if let Some(again) = self.unresolved.iter_mut().find(|batch| !batch.in_flight) {
            again.in_flight = true;
            again.attempts += 1;
            return Some((again.id, again.seal()));
        }
        if self.unresolved.is_empty() && self.identity != identity {
            self.identity = identity;
            self.next_sequence = Sequence(0);
            self.established = false;
        }
        let mut batch = self.pending.pop_front()?;
        if let Some(who) = self.identity {
            batch.numbered = Some((who, self.next_sequence));
            self.next_sequence = self.next_sequence.plus(batch.record_count());
        }
        batch.in_flight = true;
        batch.attempts += 1;
        let taken = (batch.id, batch.seal());
        self.unresolved.push_back(batch);
        Some(taken)
    }

    /// Takes in what a sent batch met. A batch that has ended meanwhile is ignored.
    pub fn answered(
        &mut self,
        now: Instant,
        id: BatchId,
        answer: Answer,
        rules: &Rules,
    ) -> Vec<Verdict<H>> {
        let mut verdicts = Vec::new();
        let Some(at) = self.unresolved.iter().position(|batch| batch.id == id) else {
            return verdicts;
        };
        self.unresolved[at].in_flight = false;
        match answer {
            Answer::Acknowledged(done) => {
                self.established = true;
                self.end(at, Ok(done), &mut verdicts);
            }
            Answer::Lost { error, sent } => {
                self.unresolved[at].doubtful |= sent;
                verdicts.push(Verdict::StaleLeader);
                self.retry(now, at, error, rules, &mut verdicts);
            }
            Answer::Refused(error) => self.refused(now, at, error, rules, &mut verdicts),
        }
        self.settle_gap(now, rules, &mut verdicts);
        verdicts
    }

    fn refused(
        &mut self,
        now: Instant,
        at: usize,
        error: ApiError,
        rules: &Rules,
        verdicts: &mut Vec<Verdict<H>>,
    ) {
        let code = error.code;
        let failure = ClientError::refused("writing records", error.clone());
        match code {
            ErrorCode::DuplicateSequenceNumber => {
                let known = Acknowledged {
                    base_offset: None,
                    log_append_time: None,
                };
                self.end(at, Ok(known), verdicts);
            }
            ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId
                if rules.idempotent =>
            {
                self.out_of_order(now, at, failure, rules, verdicts);
            }
            ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced if rules.idempotent => {
                let result = self.unresolved[at].failure(failure);
                self.end(at, result, verdicts);
                verdicts.push(Verdict::Fenced(error));
            }
            _ if code.is_retriable() => {
                self.unresolved[at].doubtful |= may_have_appended(code);
                if moves_leader(code) {
                    verdicts.push(Verdict::StaleLeader);
                }
                self.retry(now, at, failure, rules, verdicts);
            }
            _ => {
                self.unresolved[at].doubtful |= may_have_appended(code);
                let result = self.unresolved[at].failure(failure);
                self.end(at, result, verdicts);
            }
        }
    }

    fn out_of_order(
        &mut self,
        now: Instant,
        at: usize,
        error: ClientError,
        rules: &Rules,
        verdicts: &mut Vec<Verdict<H>>,
    ) {
        if at > 0 {
            // One before it is missing at the broker; its turn comes when that is settled.
            self.retry(now, at, error, rules, verdicts);
        } else if self.unresolved[at].doubtful {
            let result = self.unresolved[at].failure(error);
            self.end(at, result, verdicts);
        } else {
            self.unresolved[at].last_error = Some(error);
            self.gap = true;
        }
    }

    fn retry(
        &mut self,
        now: Instant,
        at: usize,
        error: ClientError,
        rules: &Rules,
        verdicts: &mut Vec<Verdict<H>>,
    ) {
        let batch = &mut self.unresolved[at];
        if batch.attempts > rules.retries {
            let result = batch.failure(error);
            self.end(at, result, verdicts);
            return;
        }
        batch.retry_at = now.plus(rules.retry_pause);
        batch.last_error = Some(error);
    }

    fn end(&mut self, at: usize, result: BatchResult, verdicts: &mut Vec<Verdict<H>>) {
        let Some(batch) = self.unresolved.remove(at) else {
            return;
        };
        let certain = matches!(&result, Err(e) if e.outcome == Outcome::NotAppended);
        if let Some((who, sequence)) = batch.numbered
            && certain
            && self.unresolved.is_empty()
            && self.identity == Some(who)
            && sequence.plus(batch.record_count()) == self.next_sequence
        {
            // It was the last one numbered and is not in the log: its numbers are free.
            self.next_sequence = sequence;
        }
        verdicts.push(Verdict::Ended(batch.handle, batch.id, result));
    }

    /// Once a gap is certain and nothing is in flight: ends what is doubtful and puts the rest
    /// back in front of what was not sent yet, without numbers.
    fn settle_gap(&mut self, now: Instant, rules: &Rules, verdicts: &mut Vec<Verdict<H>>) {
        if !self.gap || self.unresolved.iter().any(|batch| batch.in_flight) {
            return;
        }
        self.gap = false;
        for mut batch in std::mem::take(&mut self.unresolved).into_iter().rev() {
            if batch.doubtful {
                let error = batch.last_error.clone().unwrap_or(ClientError::Closed);
                let result = batch.failure(error);
                verdicts.push(Verdict::Ended(batch.handle, batch.id, result));
            } else {
                batch.numbered = None;
                batch.retry_at = now.plus(rules.retry_pause);
                self.pending.push_front(batch);
            }
        }
        verdicts.push(Verdict::NeedsEpoch);
    }

    /// Ends the batches that have run out of time.
    pub fn expire(&mut self, now: Instant, rules: &Rules) -> Vec<Verdict<H>> {
        let mut verdicts = Vec::new();
        let millis = u64::try_from(rules.delivery_timeout.as_millis()).unwrap_or(u64::MAX);
        let late = |batch: &Batch<H>| now >= batch.created.plus(rules.delivery_timeout);
        let give_up = |batch: &Batch<H>| {
            let last = batch.last_error.clone();
            let last = last.unwrap_or_else(|| ClientError::Missing {
                what: "an answer from the partition's leader".to_owned(),
            });
            batch.failure(ClientError::GaveUp {
                what: "writing records".to_owned(),
                millis,
                last: Box::new(last),
            })
        };
        while let Some(at) = self.unresolved.iter().position(late) {
            let result = give_up(&self.unresolved[at]);
            self.end(at, result, &mut verdicts);
        }
        while let Some(first) = self.pending.front().filter(|batch| late(batch)) {
            let result = give_up(first);
            if let Some(batch) = self.pending.pop_front() {
                verdicts.push(Verdict::Ended(batch.handle, batch.id, result));
            }
        }
        self.settle_gap(now, rules, &mut verdicts);
        verdicts
    }

    /// Ends everything with `error`.
    pub fn abandon(&mut self, error: &ClientError) -> Vec<Verdict<H>> {
        let all = std::mem::take(&mut self.unresolved);
        let all = all.into_iter().chain(std::mem::take(&mut self.pending));
        all.map(|batch| {
            let result = batch.failure(error.clone());
            Verdict::Ended(batch.handle, batch.id, result)
        })
        .collect()
    }
}

/// Whether a broker may have written the records although it answered so.
fn may_have_appended(code: ErrorCode) -> bool {
    !matches!(
        code,
        ErrorCode::CorruptMessage
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidTopicException
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::InvalidRequiredAcks
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::InvalidTimestamp
            | ErrorCode::UnsupportedVersion
            | ErrorCode::UnsupportedForMessageFormat
            | ErrorCode::UnsupportedCompressionType
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidRequest
            | ErrorCode::PolicyViolation
            | ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::ThrottlingQuotaExceeded
    )
}

/// Whether the partition may have another leader now.
fn moves_leader(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::KafkaStorageError
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::NetworkException
    )
}
