//! Keeping the last record of every key: log compaction (`cleanup.policy=compact`).
//!
//! One round cleans a prefix of the sealed segments, `[log start, end)`. It reads the part not
//! cleaned before and notes the highest offset of every key ([`OffsetMap`]), then rewrites the
//! prefix, leaving out records that a later one of their key replaces ([`Rewrite`]).
//!
//! **Promises.** For every key, the record with the highest offset below the end of the round
//! survives, unless it is a tombstone (a record without value) whose delete horizon has passed.
//! What survives keeps its offset, order, timestamp and content; what changes is which records
//! are there. A tombstone stays at least `delete.retention.ms` after the first round that saw it,
//! so that a reader who started before has time to see it (KIP-534). Nothing at or above the high
//! watermark or the first unstable offset is touched, nor the active segment.
//!
//! **Division of labour.** [`plan`](plan::plan) decides whether a round is due and what it covers.
//! [`run`] reads and writes through [`CompactionIo`] and returns [`Compacted`]; meanwhile the log
//! goes on. The owner of the log then puts the output in place of its sources:
//!
//! 1. a group any of whose sources is gone (retention, truncation) is dropped with all after it,
//!    and what is left goes **in ascending order** or at once: a tombstone may be removed only
//!    after, never before, the older records it hides, which lie in the same or an earlier group;
//! 2. each group whole: readers and recovery see all its sources or its output;
//! 3. the [`CleanPoint`] is saved last, and only if no group was dropped.
//!
//! So a crash or a dropped group costs work done again, never a record.

mod offset_map;
pub mod plan;
mod rewrite;

use std::collections::BTreeMap;
use std::task::Poll;

use crate::env::BoxFuture;
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};
use crate::wire::batch::{BatchError, RecordBatch};

use super::producer_state::ProducerState;
pub use offset_map::OffsetMap;
pub use plan::CleanPoint;
pub use rewrite::{Outcome, Rewrite};

/// A transaction that was aborted: its records are as if they had never been written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AbortedTransaction {
    pub producer_id: ProducerId,
    pub first_offset: Offset,
    /// The abort marker's offset.
    pub last_offset: Offset,
}

/// What must stay of a live producer, so that its next sequence and its epoch are still known to
/// whoever rebuilds producer state from the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastOfProducer {
    /// The batch of data that ends here.
    Batch(Offset),
    /// The transaction marker of this epoch: the epoch has no data yet.
    Marker(ProducerEpoch),
}

/// Consecutive segments that become one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Base offsets of the sources, ascending; the output takes the first.
    pub sources: Vec<Offset>,
    /// Base offset of the segment after the last source.
    pub end: Offset,
}

impl Group {
    /// Base offset of the output.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.sources.first().copied().unwrap_or(self.end)
    }
}

/// One round of compaction, decided.
#[derive(Clone, Debug)]
pub struct CompactionJob {
    /// All segments of the round, ascending.
    pub groups: Vec<Group>,
    /// Below it, every key has at most one record already.
    pub first_dirty: Offset,
    /// The round covers no record at or above it.
    pub end: Offset,
    /// When the round began.
    pub now: Timestamp,
    pub delete_retention_ms: i64,
    /// Memory the offset map may take; a round that would need more ends earlier.
    pub map_bytes: usize,
    pub producers: BTreeMap<ProducerId, LastOfProducer>,
    pub aborted: Vec<AbortedTransaction>,
}

/// What must stay of each producer in `state`.
#[must_use]
pub fn last_of_producers(state: &ProducerState) -> BTreeMap<ProducerId, LastOfProducer> {
    state
        .iter()
        .map(|(id, producer)| {
            let last = match producer.last_batch() {
                Some(batch) => LastOfProducer::Batch(batch.last_offset),
                None => LastOfProducer::Marker(producer.epoch()),
            };
            (id, last)
        })
        .collect()
}

/// Why a round was given up. The log is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// A batch cannot be read although its CRC is right. Compacting on would lose its records.
    #[error("the batch at offset {base_offset} cannot be compacted: {source}")]
    Batch {
        base_offset: Offset,
        source: BatchError,
    },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The bytes a round works on. Implemented by the log.
pub trait CompactionIo: Send {
    /// Whole batches in ascending order, CRC checked, from the first that ends after `from`, all
    /// beginning below `up_to`: some of them, at most a few MiB unless one batch is larger; none
    /// only when there are no more.
    fn read(
        &mut self,
        from: Offset,
        up_to: Offset,
    ) -> BoxFuture<'_, std::io::Result<Vec<RecordBatch>>>;

    /// Begins the output of `group`, replacing any left by a round that was given up.
    fn begin<'a>(&'a mut self, group: &'a Group) -> BoxFuture<'a, std::io::Result<()>>;

    /// Appends to the output begun last. A batch keeps its base offset and leader epoch.
    fn write(&mut self, batches: Vec<RecordBatch>) -> BoxFuture<'_, std::io::Result<()>>;

    /// Ends the output begun last. With `keep`, it is durable (though not yet in place) when this
    /// returns; without, it is removed: it would equal its only source.
    fn finish(&mut self, keep: bool) -> BoxFuture<'_, std::io::Result<()>>;
}

/// A group's output, ready to be put in place of its sources.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompactedGroup {
    pub group: Group,
    /// False when the only source is good as it is and there is no output.
    pub changed: bool,
}

/// What a round did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CompactionTotals {
    pub records_read: u64,
    pub records_kept: u64,
    pub bytes_read: u64,
    pub bytes_kept: u64,
}

/// A finished round. See the module for how it is put in place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compacted {
    /// Ascending.
    pub groups: Vec<CompactedGroup>,
    /// The offset from which the next round is dirty.
    pub clean_point: CleanPoint,
    pub totals: CompactionTotals,
}

/// Carries out `job`. Dropping the future gives the round up; what it wrote is for the next
/// [`CompactionIo::begin`] or for recovery to remove.
pub async fn run(
    job: &CompactionJob,
    io: &mut dyn CompactionIo,
) -> Result<Compacted, CompactionError> {
    let (map, end) = build_map(job, io).await?;
    let mut rewrite = Rewrite::new(job, map, end);
    let mut groups = Vec::new();
    let mut totals = CompactionTotals::default();
    for group in job.groups.iter().filter(|group| group.base_offset() < end) {
        let changed = rewrite_group(group, &mut rewrite, io, &mut totals).await?;
        groups.push(CompactedGroup {
            group: group.clone(),
            changed,
        });
    }
    Ok(Compacted {
        groups,
        clean_point: CleanPoint { first_dirty: end },
        totals,
    })
}

/// Notes the keys of the dirty part, and how far they were noted.
async fn build_map(
    job: &CompactionJob,
    io: &mut dyn CompactionIo,
) -> Result<(OffsetMap, Offset), CompactionError> {
    let mut map = OffsetMap::new(job.map_bytes, &job.aborted);
    let mut from = job.first_dirty;
    loop {
        let batches = io.read(from, job.end).await?;
        if batches.is_empty() {
            return Ok((map, job.end));
        }
        for batch in &batches {
            if map.is_full() {
                tracing::trace!(target: "klamm::probe", name = "compaction-map-full");
                return Ok((map, batch.header.base_offset));
            }
            map.add(batch).map_err(|source| failed(batch, source))?;
            from = batch.header.end_offset();
        }
        yield_now().await;
    }
}

/// Returns whether the output differs from the source.
async fn rewrite_group(
    group: &Group,
    rewrite: &mut Rewrite,
    io: &mut dyn CompactionIo,
    totals: &mut CompactionTotals,
) -> Result<bool, CompactionError> {
    io.begin(group).await?;
    let mut changed = group.sources.len() > 1;
    let mut from = group.base_offset();
    loop {
        let batches = io.read(from, group.end).await?;
        let Some(last) = batches.last() else {
            break;
        };
        from = last.header.end_offset();
        let mut kept = Vec::with_capacity(batches.len());
        for batch in batches {
            totals.read(&batch);
            let outcome = rewrite
                .step(&batch)
                .map_err(|source| failed(&batch, source))?;
            changed |= outcome != Outcome::Keep;
            match outcome {
                Outcome::Keep => kept.push(batch),
                Outcome::Replace(smaller) => kept.push(smaller),
                Outcome::Drop => {}
            }
        }
        kept.iter().for_each(|batch| totals.kept(batch));
        if !kept.is_empty() {
            io.write(kept).await?;
        }
        yield_now().await;
    }
    io.finish(changed).await?;
    Ok(changed)
}

impl CompactionTotals {
    fn read(&mut self, batch: &RecordBatch) {
        self.records_read += u64::try_from(batch.header.record_count).unwrap_or(0);
        self.bytes_read += batch.total_bytes() as u64;
    }

    fn kept(&mut self, batch: &RecordBatch) {
        self.records_kept += u64::try_from(batch.header.record_count).unwrap_or(0);
        self.bytes_kept += batch.total_bytes() as u64;
    }
}

fn failed(batch: &RecordBatch, source: BatchError) -> CompactionError {
    CompactionError::Batch {
        base_offset: batch.header.base_offset,
        source,
    }
}

/// Lets other tasks of the thread run: reads from the page cache complete at once, and codecs take
/// long.
async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
