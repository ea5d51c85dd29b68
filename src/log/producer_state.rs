//! What a partition knows of its idempotent and transactional producers.
//!
//! For each producer id: its epoch, its last five batches, and its open transaction. That is
//! enough to answer a repeated batch with the place it got the first time, and to refuse a batch
//! that would leave a gap or that an older incarnation of the producer sent (KIP-98, KIP-360).
//!
//! **Invariant.** The state is a function of the batches below [`ProducerState::end`]: feeding
//! them again, from the first one or from a snapshot on, gives an equal state. Nothing but a batch
//! changes it, except that idle producers are forgotten; which ones is decided by time, never by a
//! timestamp that a client chose.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::types::{ErrorCode, Instant, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::wire::batch::BatchHeader;

/// How many of a producer's batches are remembered: as many as a producer may have in flight.
pub const BATCHES_KEPT: usize = 5;

/// One batch of a producer, as it lies in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerBatch {
    pub base_sequence: Sequence,
    pub last_sequence: Sequence,
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// The batch's largest timestamp; with `LogAppendTime`, when it was appended.
    pub timestamp: Timestamp,
}

/// One producer. Equality is of what the log says; when it was last heard is left out.
#[derive(Clone, Debug)]
pub struct Producer {
    pub(super) epoch: ProducerEpoch,
    /// Oldest first, at most [`BATCHES_KEPT`], all of `epoch`.
    pub(super) batches: VecDeque<ProducerBatch>,
    pub(super) last_timestamp: Timestamp,
    pub(super) transaction_start: Option<Offset>,
    /// Since when nothing was appended, as far as expiry has looked.
    idle_since: Option<Instant>,
}

impl PartialEq for Producer {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch
            && self.batches == other.batches
            && self.last_timestamp == other.last_timestamp
            && self.transaction_start == other.transaction_start
    }
}

impl Eq for Producer {}

impl Producer {
    pub(super) fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            batches: VecDeque::new(),
            last_timestamp: Timestamp::NONE,
            transaction_start: None,
            idle_since: None,
        }
    }

    #[must_use]
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// The batches remembered, oldest first.
    #[must_use]
    pub fn batches(&self) -> impl ExactSizeIterator<Item = &ProducerBatch> {
        self.batches.iter()
    }

    /// The newest batch of data, unless its epoch has ended.
    #[must_use]
    pub fn last_batch(&self) -> Option<&ProducerBatch> {
        self.batches.back()
    }

    /// Timestamp of the newest batch or marker.
    #[must_use]
    pub fn last_timestamp(&self) -> Timestamp {
        self.last_timestamp
    }

    /// First offset of the open transaction.
    #[must_use]
    pub fn transaction_start(&self) -> Option<Offset> {
        self.transaction_start
    }

    fn enter_epoch(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

/// What to do with a batch that may be appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Append it.
    New,
    /// It is in the log already, here. Answer with this place, once that is as durable as a new
    /// batch would have to be.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
        timestamp: Timestamp,
    },
}

/// Why a producer's batch must not be appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// Batches before it are missing, or it repeats one too old to be remembered.
    #[error(
        "producer {} sent sequence {}, which does not follow {}", producer.0, sent.0, last.0
    )]
    OutOfOrderSequence {
        producer: ProducerId,
        sent: Sequence,
        /// -1 when the epoch has no batch yet, so that 0 was due.
        last: Sequence,
    },
    /// The producer id was taken over by a newer incarnation.
    #[error("producer {} sent epoch {}, which {} has replaced", producer.0, sent.0, current.0)]
    InvalidProducerEpoch {
        producer: ProducerId,
        sent: ProducerEpoch,
        current: ProducerEpoch,
    },
    /// A batch outside the transaction that its producer has open.
    #[error("producer {} has a transaction open and sent a batch that is not in it", producer.0)]
    InvalidTransactionState { producer: ProducerId },
    /// An id without an epoch or a sequence.
    #[error("producer {} sent no epoch or no sequence", producer.0)]
    Incomplete { producer: ProducerId },
}

impl ProducerError {
    /// What a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::InvalidTransactionState { .. } => ErrorCode::InvalidTxnState,
            Self::Incomplete { .. } => ErrorCode::InvalidRecord,
        }
    }
}

/// A transaction that a marker has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EndedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The marker's offset.
    pub last_offset: Offset,
}

/// All producers of one partition. See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProducerState {
    pub(super) producers: BTreeMap<ProducerId, Producer>,
    /// First offsets of open transactions.
    pub(super) open: BTreeMap<Offset, ProducerId>,
    pub(super) end: Offset,
}

impl ProducerState {
    /// The offset after the last batch taken into account.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    #[must_use]
    pub fn get(&self, id: ProducerId) -> Option<&Producer> {
        self.producers.get(&id)
    }

    /// What to do with a batch of data that a client sent. Batches without a producer id are new.
    ///
    /// The rules are Kafka's. A batch that equals one of the last five in epoch and sequences is a
    /// duplicate. An unknown producer may begin anywhere, since its earlier batches may have been
    /// deleted; a new epoch of a known one begins at 0; otherwise the sequence follows the last.
    pub fn check(&self, header: &BatchHeader) -> Result<Verdict, ProducerError> {
        if !header.has_producer() {
            return Ok(Verdict::New);
        }
        let id = header.producer_id;
        if header.producer_epoch < ProducerEpoch(0) || header.base_sequence.0 < 0 {
            return Err(ProducerError::Incomplete { producer: id });
        }
        let Some(producer) = self.producers.get(&id) else {
            return Ok(Verdict::New);
        };
        if let Some(batch) = producer.same_batch(header) {
            return Ok(Verdict::Duplicate {
                base_offset: batch.base_offset,
                last_offset: batch.last_offset,
                timestamp: batch.timestamp,
            });
        }
        if header.producer_epoch < producer.epoch {
            tracing::trace!(target: "klamm::probe", name = "producer-epoch-refused");
            return Err(ProducerError::InvalidProducerEpoch {
                producer: id,
                sent: header.producer_epoch,
                current: producer.epoch,
            });
        }
        let last = match producer.last_batch() {
            Some(batch) if header.producer_epoch == producer.epoch => Some(batch.last_sequence),
            _ => None,
        };
        let due = last.map_or(Sequence(0), Sequence::next);
        let gap = header.base_sequence.0 > due.0 && crate::mutant!("sequence-gap-accepted");
        if header.base_sequence != due && !gap {
            tracing::trace!(target: "klamm::probe", name = "sequence-refused");
            return Err(ProducerError::OutOfOrderSequence {
                producer: id,
                sent: header.base_sequence,
                last: last.unwrap_or(Sequence(-1)),
            });
        }
        if producer.transaction_start.is_some() && !header.attributes.is_transactional() {
            return Err(ProducerError::InvalidTransactionState { producer: id });
        }
        Ok(Verdict::New)
    }

    /// Takes into account the batch that lies in the log as `header` says (with its final offset
    /// and timestamps). Batches come in the order of the log, checked by whoever wrote them first:
    /// a follower's, a recovery's and a compacted log's are believed.
    ///
    /// Returns the transaction that the batch ended, if it is a marker and one was open.
    pub fn append(&mut self, header: &BatchHeader) -> Option<EndedTransaction> {
        self.end = self.end.max(header.end_offset());
        if !header.has_producer() {
            return None;
        }
        let id = header.producer_id;
        if header.attributes.is_control() {
            return self.append_marker(id, header);
        }
        let producer = self
            .producers
            .entry(id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        producer.enter_epoch(header.producer_epoch);
        producer.last_timestamp = header.max_timestamp;
        producer.idle_since = None;
        // Coordinators write for transactional producers without sequences.
        if header.base_sequence.0 >= 0 {
            if producer.batches.len() == BATCHES_KEPT {
                producer.batches.pop_front();
            }
            producer.batches.push_back(ProducerBatch {
                base_sequence: header.base_sequence,
                last_sequence: header.last_sequence(),
                base_offset: header.base_offset,
                last_offset: header.last_offset(),
                timestamp: header.max_timestamp,
            });
        }
        if header.attributes.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(header.base_offset);
            self.open.insert(header.base_offset, id);
        }
        None
    }

    /// A batch that says nothing of the producers known here.
    pub fn pass_over(&mut self, header: &BatchHeader) {
        self.end = self.end.max(header.end_offset());
    }

    /// Forgets what producers did in batches before `floor`, as if those had been passed over.
    pub fn forget_below(&mut self, floor: Offset) {
        self.producers.retain(|_, producer| {
            producer.batches.retain(|batch| batch.base_offset >= floor);
            let started = producer.transaction_start;
            producer.transaction_start = started.filter(|start| *start >= floor);
            producer.transaction_start.is_some() || !producer.batches.is_empty()
        });
        self.open = self.open.split_off(&floor);
    }

    fn append_marker(&mut self, id: ProducerId, header: &BatchHeader) -> Option<EndedTransaction> {
        // Compaction empties a marker when nothing of its transaction is left.
        if header.record_count == 0 {
            return None;
        }
        let producer = self
            .producers
            .entry(id)
            .or_insert_with(|| Producer::new(header.producer_epoch));
        producer.enter_epoch(header.producer_epoch);
        producer.last_timestamp = header.max_timestamp;
        producer.idle_since = None;
        let first_offset = producer.transaction_start.take()?;
        self.open.remove(&first_offset);
        Some(EndedTransaction {
            producer_id: id,
            first_offset,
            last_offset: header.last_offset(),
        })
    }

    /// The first offset of the oldest open transaction: nothing from there on is decided. The
    /// caller raises it to the log's start, which may have passed it.
    #[must_use]
    pub fn first_unstable_offset(&self) -> Option<Offset> {
        self.open.keys().next().copied()
    }

    /// Forgets producers without an open transaction that appended nothing for `after`. A
    /// producer counts as idle from the first call that finds nothing new from it, so it is kept
    /// at least `after` and at most one interval between calls longer; after a restart anew.
    /// Returns how many were forgotten.
    pub fn expire(&mut self, now: Instant, after: Duration) -> usize {
        let before = self.producers.len();
        self.producers.retain(|_, producer| {
            let since = *producer.idle_since.get_or_insert(now);
            producer.transaction_start.is_some() || now.since(since) < after
        });
        let expired = before - self.producers.len();
        if expired > 0 {
            tracing::trace!(target: "klamm::probe", name = "producer-expired");
        }
        expired
    }

    /// Forgets everything, for a log that begins anew at `start` or a rebuild from there.
    pub fn restart_at(&mut self, start: Offset) {
        *self = Self {
            end: start,
            ..Self::default()
        };
    }
}

impl Producer {
    fn same_batch(&self, header: &BatchHeader) -> Option<&ProducerBatch> {
        if header.producer_epoch != self.epoch {
            return None;
        }
        let known = match crate::mutant!("remember-only-last-batch") {
            true => 1,
            false => BATCHES_KEPT,
        };
        self.batches.iter().rev().take(known).find(|batch| {
            batch.base_sequence == header.base_sequence
                && batch.last_sequence == header.last_sequence()
        })
    }
}

#[cfg(test)]
mod tests;
