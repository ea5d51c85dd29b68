//! All partitions of a producer, pure: collects records into batches, chooses what goes into a
//! request, and hands answers to the partition they are for.

use std::collections::{BTreeMap, BTreeSet};

use super::record::BatchResult;
use super::sequencer::{Answer, Batch, BatchId, Identity, Rules, Sequencer, Verdict};
use crate::client::error::{ApiError, ClientError};
use crate::types::{Instant, Offset, ProducerEpoch, Timestamp, TopicPartition};
use crate::wire::Str;
use crate::wire::batch::{BatchBuilder, Compression, RecordBatch};
use bytes::Bytes;

/// The parts of a record that are written.
#[derive(Clone, Copy, Debug)]
pub struct RecordParts<'a> {
    pub timestamp: Timestamp,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(Str, Option<Bytes>)],
    /// Bytes it takes at most.
    pub bytes_max: usize,
}

/// A batch to be sent.
#[derive(Debug)]
pub struct Sendable {
    pub partition: TopicPartition,
    pub id: BatchId,
    pub batch: RecordBatch,
}

/// What became of batches, for whoever waits for them, and what is wanted.
#[derive(Debug)]
pub struct Effects<H> {
    pub ended: Vec<(H, BatchResult)>,
    /// Topics whose leaders have to be looked up.
    pub stale: BTreeSet<TopicPartition>,
}

impl<H> Default for Effects<H> {
    fn default() -> Self {
        Self {
            ended: Vec::new(),
            stale: BTreeSet::new(),
        }
    }
}

/// All batches of a producer.
#[derive(Debug)]
pub struct Accumulator<H> {
    rules: Rules,
    /// A request takes batches up to this many bytes, and one in any case.
    request_max: usize,
    compression: Compression,
    identity: Option<Identity>,
    partitions: BTreeMap<TopicPartition, Sequencer<H>>,
    /// Partitions with anything to do.
    active: BTreeSet<TopicPartition>,
    incomplete: BTreeSet<BatchId>,
    next_id: BatchId,
    /// Batches below do not linger.
    hurry: BatchId,
    /// The partition a request took from last; the next one begins after it.
    cursor: Option<TopicPartition>,
    fenced: Option<ApiError>,
}

impl<H> Accumulator<H> {
    pub fn new(rules: Rules, request_max: usize, compression: Compression) -> Self {
        Self {
            rules,
            request_max,
            compression,
            identity: None,
            partitions: BTreeMap::new(),
            active: BTreeSet::new(),
            incomplete: BTreeSet::new(),
            next_id: BatchId(0),
            hurry: BatchId(0),
            cursor: None,
            fenced: None,
        }
    }

    /// Why nothing can be sent any more.
    #[must_use]
    pub fn fenced(&self) -> Option<&ApiError> {
        self.fenced.as_ref()
    }

    /// Adds a record: returns its batch's handle (made by `handle` for a new batch), its place in
    /// the batch, and whether there may be something to send
    /// sooner than before (a new batch, or a full one).
    pub fn append(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        record: RecordParts<'_>,
        handle: impl FnOnce() -> H,
    ) -> (&mut H, u32, bool) {
        let queue = self.partitions.entry(partition.clone()).or_default();
        let limit = self.rules.batch_size;
        let room = queue.pending.back_mut().and_then(Batch::open);
        let fits = room.is_some_and(|open| open.estimated_bytes() + record.bytes_max <= limit);
        if !fits {
            let id = self.next_id;
            self.next_id = BatchId(id.0 + 1);
            self.incomplete.insert(id);
            self.active.insert(partition.clone());
            let builder = BatchBuilder::new(Offset(0), self.compression, None);
            let batch = Batch::new(id, now, handle(), builder);
            queue.pending.push_back(batch);
        }
        let batch = queue
            .pending
            .back_mut()
            .expect("a batch was there or was just added");
        let builder = batch.open().expect("the last pending batch is open");
        let index = u32::try_from(builder.len()).unwrap_or(u32::MAX);
        builder.push(record.timestamp, record.key, record.value, record.headers);
        let full = builder.estimated_bytes() >= limit;
        (&mut batch.handle, index, !fits || full)
    }

    /// Whether an identity has to be fetched before anything can be sent.
    #[must_use]
    pub fn wants_identity(&self) -> bool {
        self.rules.idempotent && self.identity.is_none() && self.fenced.is_none()
    }

    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// Lets what was added so far go without lingering; the id is for [`Accumulator::is_done`].
    pub fn hurry(&mut self) -> BatchId {
        self.hurry = self.next_id;
        self.next_id
    }

    /// Whether every batch below `id` has ended.
    #[must_use]
    pub fn is_done(&self, id: BatchId) -> bool {
        self.incomplete.first().is_none_or(|first| *first >= id)
    }

    /// Partitions with a batch that may be sent now.
    #[must_use]
    pub fn ready(&self, now: Instant) -> Vec<TopicPartition> {
        if self.wants_identity() {
            return Vec::new();
        }
        let ready = self.active.iter().filter(|partition| {
            let queue = self.partitions.get(*partition);
            let at = queue.and_then(|queue| queue.ready_at(&self.rules, self.hurry));
            at.is_some_and(|at| at <= now)
        });
        ready.cloned().collect()
    }

    /// Whether a partition has batches.
    #[must_use]
    pub fn is_active(&self, partition: &TopicPartition) -> bool {
        self.active.contains(partition)
    }

    /// When to look again, if nothing happens before.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let queues = self.active.iter();
        let queues = queues.filter_map(|partition| self.partitions.get(partition));
        let moments = queues.flat_map(|queue| {
            let ready = queue.ready_at(&self.rules, self.hurry);
            // What is ready already waits for something else: a leader, a connection, an answer.
            [ready.filter(|at| *at > now), queue.expires_at(&self.rules)]
        });
        moments.flatten().min()
    }

    /// Takes what goes into one request: at most a batch of each of `candidates`, which must be
    /// ready and led by one broker.
    pub fn take(&mut self, candidates: &[TopicPartition]) -> Vec<Sendable> {
        let start = match &self.cursor {
            Some(cursor) => candidates.partition_point(|candidate| candidate <= cursor),
            None => 0,
        };
        let (before, after) = candidates.split_at(start);
        let mut taken = Vec::new();
        let mut bytes = 0;
        for partition in after.iter().chain(before) {
            let Some(queue) = self.partitions.get_mut(partition) else {
                continue;
            };
            let size = queue.next_bytes();
            if !taken.is_empty() && bytes + size > self.request_max {
                break;
            }
            if let Some((id, batch)) = queue.take(self.identity) {
                bytes += size;
                self.cursor = Some(partition.clone());
                taken.push(Sendable {
                    partition: partition.clone(),
                    id,
                    batch,
                });
            }
        }
        taken
    }

    /// Takes in what a sent batch met.
    pub fn answered(
        &mut self,
        now: Instant,
        partition: &TopicPartition,
        id: BatchId,
        answer: Answer,
        effects: &mut Effects<H>,
    ) {
        if let Some(queue) = self.partitions.get_mut(partition) {
            let verdicts = queue.answered(now, id, answer, &self.rules);
            self.apply(partition, verdicts, effects);
        }
    }

    /// Ends what has run out of time.
    pub fn expire(&mut self, now: Instant, effects: &mut Effects<H>) {
        for partition in self.active.clone() {
            let Some(queue) = self.partitions.get_mut(&partition) else {
                continue;
            };
            if queue.expires_at(&self.rules).is_some_and(|at| at <= now) {
                let verdicts = queue.expire(now, &self.rules);
                // Perhaps it is elsewhere.
                effects.stale.insert(partition.clone());
                self.apply(&partition, verdicts, effects);
            }
        }
    }

    /// Ends everything with `error`.
    pub fn abandon(&mut self, error: &ClientError, effects: &mut Effects<H>) {
        for partition in self.active.clone() {
            if let Some(queue) = self.partitions.get_mut(&partition) {
                let verdicts = queue.abandon(error);
                self.apply(&partition, verdicts, effects);
            }
        }
    }

    fn apply(
        &mut self,
        partition: &TopicPartition,
        verdicts: Vec<Verdict<H>>,
        effects: &mut Effects<H>,
    ) {
        for verdict in verdicts {
            match verdict {
                Verdict::Ended(handle, id, result) => {
                    self.incomplete.remove(&id);
                    effects.ended.push((handle, result));
                }
                Verdict::StaleLeader => {
                    effects.stale.insert(partition.clone());
                }
                Verdict::NeedsEpoch => self.raise_epoch(partition),
                Verdict::Fenced(error) => self.fenced = Some(error),
            }
        }
        let idle = self
            .partitions
            .get(partition)
            .is_none_or(Sequencer::is_idle);
        if idle {
            self.active.remove(partition);
        }
        if let Some(error) = self.fenced.clone()
            && !self.active.is_empty()
        {
            self.abandon(&ClientError::refused("writing records", error), effects);
        }
    }

    /// Gives a partition with a gap an epoch above its own. Other partitions move to it when they
    /// have nothing in flight; each counts its own sequences in each epoch.
    fn raise_epoch(&mut self, partition: &TopicPartition) {
        let theirs = self.partitions.get(partition).and_then(Sequencer::identity);
        let (Some(theirs), Some(ours)) = (theirs, self.identity) else {
            return;
        };
        if theirs != ours {
            return;
        }
        self.identity = ours.epoch.0.checked_add(1).map(|epoch| Identity {
            id: ours.id,
            epoch: ProducerEpoch(epoch),
        });
    }
}
