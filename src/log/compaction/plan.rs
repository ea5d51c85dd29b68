//! Whether a round of compaction is due, and what it covers.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{AbortedTransaction, CompactionJob, Group, last_of_producers};
use crate::env::Disk;
use crate::log::checkpoint::{self, CheckpointError};
use crate::log::producer_state::ProducerState;
use crate::types::{Offset, Timestamp};

/// The settings that compaction obeys.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CompactionRules {
    /// `min.cleanable.dirty.ratio`: the dirty share of the bytes above which a round is due.
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub delete_retention_ms: i64,
    /// `segment.bytes`: how large a segment may grow by merging.
    pub segment_bytes: u64,
    /// `log.cleaner.dedupe.buffer.size`, or a round's share of it.
    pub map_bytes: usize,
}

/// A sealed segment as planning sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedSegment {
    pub base_offset: Offset,
    /// The base offset of the segment after it.
    pub end_offset: Offset,
    /// Of batches; 0 for a segment that compaction has emptied.
    pub bytes: u64,
    /// The first batch's largest timestamp; [`Timestamp::NONE`] without batches.
    pub first_timestamp: Timestamp,
    pub largest_timestamp: Timestamp,
}

/// A log as planning sees it.
#[derive(Clone, Copy, Debug)]
pub struct LogView<'a> {
    /// All but the active one, ascending.
    pub sealed: &'a [SealedSegment],
    pub log_start_offset: Offset,
    pub high_watermark: Offset,
    pub producers: &'a ProducerState,
    pub aborted: &'a [AbortedTransaction],
    pub clean_point: Option<CleanPoint>,
}

/// The round that is due at `now`, if one is.
///
/// It covers whole sealed segments from the log's first up to the one that the high watermark, an
/// open transaction or `min.compaction.lag.ms` holds back. It is due when the dirty share of their
/// bytes is above the ratio, or the oldest dirty segment has passed `max.compaction.lag.ms`.
#[must_use]
pub fn plan(rules: &CompactionRules, view: &LogView<'_>, now: Timestamp) -> Option<CompactionJob> {
    let first_dirty = first_dirty(view);
    let stable_end = match view.producers.first_unstable_offset() {
        Some(unstable) => view.high_watermark.min(unstable),
        None => view.high_watermark,
    };
    let youngest = now.0.saturating_sub(rules.min_compaction_lag_ms.max(0));
    let lags = |segment: &SealedSegment| {
        rules.min_compaction_lag_ms > 0
            && segment.end_offset > first_dirty
            && segment.largest_timestamp.0 > youngest
    };
    let count = view
        .sealed
        .iter()
        .take_while(|segment| segment.end_offset <= stable_end && !lags(segment))
        .count();
    let cleanable = &view.sealed[..count];
    let end = cleanable.last()?.end_offset;
    if end <= first_dirty {
        return None;
    }
    let dirty = cleanable
        .iter()
        .filter(|segment| segment.end_offset > first_dirty);
    let dirty_bytes: u64 = dirty.clone().map(|segment| segment.bytes).sum();
    let all_bytes: u64 = cleanable.iter().map(|segment| segment.bytes).sum();
    if dirty_bytes == 0 {
        return None;
    }
    let oldest = now.0.saturating_sub(rules.max_compaction_lag_ms.max(0));
    let overdue = dirty
        .clone()
        .any(|segment| (0..oldest).contains(&segment.first_timestamp.0));
    // Shares of bytes: far below 2^52, where every integer is a float.
    let ratio = dirty_bytes as f64 / all_bytes as f64;
    if ratio <= rules.min_cleanable_dirty_ratio && !overdue {
        return None;
    }
    Some(CompactionJob {
        groups: group(cleanable, rules.segment_bytes),
        first_dirty,
        end,
        now,
        delete_retention_ms: rules.delete_retention_ms,
        map_bytes: rules.map_bytes,
        producers: last_of_producers(view.producers),
        aborted: view.aborted.to_vec(),
    })
}

/// A clean point outside the log (deleted records, a truncation) is not believed.
fn first_dirty(view: &LogView<'_>) -> Offset {
    let first = view.sealed.first().map_or(view.log_start_offset, |first| {
        first.base_offset.max(view.log_start_offset)
    });
    let end = view.sealed.last().map_or(first, |last| last.end_offset);
    match view.clean_point {
        Some(point) if (first..=end).contains(&point.first_dirty) => point.first_dirty,
        _ => first,
    }
}

/// Consecutive segments are merged while they stay within `segment_bytes` together and their
/// offsets within an i32 of the first's, as indexes store them.
fn group(segments: &[SealedSegment], segment_bytes: u64) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut bytes = 0;
    for segment in segments {
        if let Some(group) = groups.last_mut() {
            let span = segment.end_offset.since(group.base_offset());
            if bytes + segment.bytes <= segment_bytes && span <= i64::from(i32::MAX) {
                group.sources.push(segment.base_offset);
                group.end = segment.end_offset;
                bytes += segment.bytes;
                continue;
            }
        }
        bytes = segment.bytes;
        groups.push(Group {
            sources: vec![segment.base_offset],
            end: segment.end_offset,
        });
    }
    groups
}

/// How far a log is clean: below it, every key has at most one record. Kept in a checkpoint; a
/// lost one costs a longer round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanPoint {
    pub first_dirty: Offset,
}

impl CleanPoint {
    /// The checkpoint that holds it.
    pub const FILE_NAME: &'static str = "cleaner-offset-checkpoint";

    const VERSION: u16 = 1;

    /// Makes the clean point durable in `dir`, a partition's directory.
    pub async fn save(self, disk: &dyn Disk, dir: &Path) -> Result<(), CheckpointError> {
        let mut body = BytesMut::with_capacity(10);
        body.put_u16(Self::VERSION);
        body.put_i64(self.first_dirty.0);
        checkpoint::write(disk, dir, Self::FILE_NAME, body.freeze()).await
    }

    /// The clean point kept in `dir`; `None` when there is none.
    pub async fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, CheckpointError> {
        let Some(body) = checkpoint::read(disk, dir, Self::FILE_NAME).await? else {
            return Ok(None);
        };
        match Self::decode(body) {
            Some(point) => Ok(Some(point)),
            None => {
                let reason = "it is not a clean point that this program knows";
                Err(CheckpointError::damaged(dir, Self::FILE_NAME, reason))
            }
        }
    }

    fn decode(mut body: Bytes) -> Option<Self> {
        if body.len() != 10 || body.get_u16() != Self::VERSION {
            return None;
        }
        Some(Self {
            first_dirty: Offset(body.get_i64()),
        })
    }
}
