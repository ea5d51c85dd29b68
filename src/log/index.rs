//! The sparse index of one segment: from offsets to positions, and from timestamps to offsets.
//!
//! An entry is made every `index.interval.bytes`. The index of the segment being written lives in
//! memory; it is written to `%020d.index` when the segment is closed. It says nothing that the
//! segment itself does not: a file that is missing, damaged, or of another generation or length
//! of the segment is built again.
//!
//! **Invariant.** Offsets, positions and timestamps of the entries strictly increase. Offsets are
//! kept relative to the segment's base and always fit 32 bits with a sign, as Kafka's do.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::checkpoint::{self, CheckpointError};
use super::files;
use crate::env::Disk;
use crate::types::{Offset, Timestamp};
use crate::wire::batch::BatchHeader;

const VERSION: u16 = 1;
const HEAD_BYTES: usize = 2 + 8 + 8 + 8 + 4 + 1 + 8 + 4 + 8 + 8 + 4 + 4;
const OFFSET_ENTRY_BYTES: usize = 8;
const TIME_ENTRY_BYTES: usize = 12;

/// Most entries of each kind kept in memory for a closed segment; the rest is left out evenly.
const LOADED_ENTRIES_MAX: usize = 32_768;

/// Largest offset a record may have relative to its segment's base.
pub(super) const RELATIVE_OFFSET_MAX: i64 = i32::MAX as i64;

/// What a segment's index, and its file, was made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct IndexOf {
    pub generation: u64,
    /// Length of the segment file.
    pub file_bytes: u64,
    /// The offset after the last batch.
    pub end_offset: Offset,
    /// See [`super::header_page`].
    pub chain: u32,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SegmentIndex {
    base_offset: Offset,
    /// Base offset of a batch (relative), and its position.
    offsets: Vec<(u32, u32)>,
    /// Largest timestamp of all batches up to the one at the (relative) offset.
    times: Vec<(i64, u32)>,
    pub bytes_since_entry: u64,
    /// Whether offsets are missing between batches, as after compaction.
    pub has_gaps: bool,
    pub max_timestamp: Timestamp,
    /// Base offset (relative) of the first batch with the largest timestamp.
    max_timestamp_at: u32,
    /// Largest timestamp of the first batch: the age of the segment's data counts from it.
    pub first_timestamp: Timestamp,
    /// Wall-clock time of the last append, for records without timestamps.
    pub appended_at: Timestamp,
}

impl SegmentIndex {
    pub fn new(base_offset: Offset) -> Self {
        Self {
            base_offset,
            offsets: Vec::new(),
            times: Vec::new(),
            bytes_since_entry: 0,
            has_gaps: false,
            max_timestamp: Timestamp::NONE,
            max_timestamp_at: 0,
            first_timestamp: Timestamp::NONE,
            appended_at: Timestamp::NONE,
        }
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.since(self.base_offset)).unwrap_or(u32::MAX)
    }

    fn absolute(&self, relative: u32) -> Offset {
        self.base_offset.plus(i64::from(relative))
    }

    /// Takes the batch that `header` describes into account; it lies at `position`, and the batch
    /// before it (or the segment's base) ended at `expected`.
    pub fn add(&mut self, header: &BatchHeader, position: u64, expected: Offset, interval: u64) {
        let relative = self.relative(header.base_offset);
        if header.base_offset != expected {
            self.has_gaps = true;
        }
        let first = self.offsets.is_empty();
        if first {
            self.first_timestamp = header.max_timestamp;
        }
        if first || header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_at = relative;
        }
        if first || self.bytes_since_entry >= interval {
            let position = u32::try_from(position).expect("segments are closed below 4 GiB");
            self.offsets.push((relative, position));
            let newest = self.times.last().map_or(i64::MIN, |entry| entry.0);
            if crate::mutant!("time-index-not-monotone") {
                self.times.push((header.max_timestamp.0, relative));
            } else if self.max_timestamp.0 > newest {
                self.times.push((self.max_timestamp.0, relative));
            }
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.total_bytes() as u64;
    }

    /// A copy with no more entries than are kept of a closed segment.
    pub fn thinned(&self) -> Self {
        let step = self.offsets.len().div_ceil(LOADED_ENTRIES_MAX).max(1);
        Self {
            offsets: self.offsets.iter().step_by(step).copied().collect(),
            times: self.times.iter().step_by(step).copied().collect(),
            ..*self
        }
    }

    /// Base offset and position of a batch at or before the one that holds `offset`. `None`:
    /// begin with the first batch.
    pub fn before(&self, offset: Offset) -> Option<(Offset, u64)> {
        let relative = self.relative(offset.max(self.base_offset));
        let after = self.offsets.partition_point(|entry| entry.0 <= relative);
        let (at, position) = *self.offsets.get(after.checked_sub(1)?)?;
        Some((self.absolute(at), u64::from(position)))
    }

    /// The last known position of a batch that begins at `offset` or before it, and at or before
    /// `position`: the batches before it end there.
    pub fn last_before(&self, offset: Offset, position: u64) -> Option<u64> {
        let relative = self.relative(offset.max(self.base_offset));
        let is_within = |entry: &(u32, u32)| entry.0 <= relative && u64::from(entry.1) <= position;
        let after = self.offsets.partition_point(is_within);
        let (_, position) = *self.offsets.get(after.checked_sub(1)?)?;
        Some(u64::from(position))
    }

    /// An offset before which no batch has a timestamp of `at` or later.
    pub fn before_timestamp(&self, at: Timestamp) -> Offset {
        let after = self.times.partition_point(|entry| entry.0 < at.0);
        match after.checked_sub(1) {
            Some(entry) => self.absolute(self.times[entry].1),
            None => self.base_offset,
        }
    }

    /// Base offset of the first batch that has the largest timestamp.
    pub fn max_timestamp_offset(&self) -> Offset {
        self.absolute(self.max_timestamp_at)
    }

    /// The bytes [`decode`](Self::decode) reads.
    pub fn encode(&self, of: &IndexOf) -> Bytes {
        let entries = self.offsets.len() * OFFSET_ENTRY_BYTES + self.times.len() * TIME_ENTRY_BYTES;
        let mut to = BytesMut::with_capacity(HEAD_BYTES + entries);
        to.put_u16(VERSION);
        to.put_u64(of.generation);
        to.put_u64(of.file_bytes);
        to.put_i64(of.end_offset.0);
        to.put_u32(of.chain);
        to.put_u8(u8::from(self.has_gaps));
        to.put_i64(self.max_timestamp.0);
        to.put_u32(self.max_timestamp_at);
        to.put_i64(self.first_timestamp.0);
        to.put_i64(self.appended_at.0);
        to.put_u32(u32::try_from(self.offsets.len()).expect("positions are 32 bits"));
        to.put_u32(u32::try_from(self.times.len()).expect("never more than offsets"));
        for (relative, position) in &self.offsets {
            to.put_u32(*relative);
            to.put_u32(*position);
        }
        for (timestamp, relative) in &self.times {
            to.put_i64(*timestamp);
            to.put_u32(*relative);
        }
        to.freeze()
    }

    /// Reads what `encode` wrote; `None` when it cannot be that.
    pub fn decode(base_offset: Offset, mut from: Bytes) -> Option<(IndexOf, Self)> {
        if from.len() < HEAD_BYTES || from.get_u16() != VERSION {
            return None;
        }
        let of = IndexOf {
            generation: from.get_u64(),
            file_bytes: from.get_u64(),
            end_offset: Offset(from.get_i64()),
            chain: from.get_u32(),
        };
        let mut index = Self::new(base_offset);
        index.has_gaps = from.get_u8() != 0;
        index.max_timestamp = Timestamp(from.get_i64());
        index.max_timestamp_at = from.get_u32();
        index.first_timestamp = Timestamp(from.get_i64());
        index.appended_at = Timestamp(from.get_i64());
        let offsets = usize::try_from(from.get_u32()).ok()?;
        let times = usize::try_from(from.get_u32()).ok()?;
        let need = offsets.checked_mul(OFFSET_ENTRY_BYTES)?;
        if from.len() != need.checked_add(times.checked_mul(TIME_ENTRY_BYTES)?)? {
            return None;
        }
        let mut times_from = from.split_off(need);
        let step = offsets.div_ceil(LOADED_ENTRIES_MAX).max(1);
        index.offsets = (0..offsets)
            .map(|_| (from.get_u32(), from.get_u32()))
            .step_by(step)
            .collect();
        index.times = (0..times)
            .map(|_| (times_from.get_i64(), times_from.get_u32()))
            .step_by(step)
            .collect();
        Some((of, index))
    }

    pub async fn save(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        of: &IndexOf,
    ) -> Result<(), CheckpointError> {
        let name = files::name(self.base_offset, files::INDEX);
        checkpoint::write(disk, dir, &name, self.encode(of)).await
    }

    /// The index kept in a file, if there is one that can be read.
    pub async fn load(disk: &dyn Disk, dir: &Path, base_offset: Offset) -> Option<(IndexOf, Self)> {
        let name = files::name(base_offset, files::INDEX);
        let body = checkpoint::read(disk, dir, &name).await.ok()??;
        Self::decode(base_offset, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::RecordBatch;

    fn header(base_offset: i64, count: i32, timestamp: i64) -> BatchHeader {
        let mut header = super::super::tests::blank_header();
        header.base_offset = Offset(base_offset);
        header.last_offset_delta = count - 1;
        header.record_count = count;
        header.max_timestamp = Timestamp(timestamp);
        RecordBatch::seal(header, &[0; 39]).header
    }

    fn index() -> SegmentIndex {
        let mut index = SegmentIndex::new(Offset(1000));
        let mut position = 4096;
        for batch in 0..100 {
            let timestamp = 5000 + (batch ^ 3) * 10;
            let header = header(1000 + batch * 5, 5, timestamp);
            index.add(&header, position, Offset(1000 + batch * 5), 250);
            position += 100;
        }
        index
    }

    #[test]
    fn an_offset_is_found_at_or_after_its_entry() {
        let index = index();
        for offset in 1000..1500 {
            let (base, position) = index.before(Offset(offset)).expect("not empty");
            assert!(base <= Offset(offset));
            assert_eq!(position, 4096 + 100 * ((base.0 - 1000) / 5) as u64);
            assert!(
                offset - base.0 < 5 * 3,
                "entries are at most 3 batches apart"
            );
        }
        assert!(!index.has_gaps);
    }

    #[test]
    fn no_batch_before_the_offset_found_for_a_timestamp_is_that_late() {
        let index = index();
        for at in 4990..6100 {
            let start = index.before_timestamp(Timestamp(at));
            for batch in 0..100 {
                if Offset(1000 + batch * 5) < start {
                    assert!(5000 + (batch ^ 3) * 10 < at);
                }
            }
        }
        assert_eq!(index.max_timestamp, Timestamp(5990));
        assert_eq!(index.max_timestamp_offset(), Offset(1000 + 96 * 5));
    }

    #[test]
    fn an_index_survives_its_file() {
        let of = IndexOf {
            generation: 1,
            file_bytes: 14_096,
            end_offset: Offset(1500),
            chain: 5,
        };
        let bytes = index().encode(&of);
        let (read_of, mut read) = SegmentIndex::decode(Offset(1000), bytes.clone()).expect("whole");
        read.bytes_since_entry = index().bytes_since_entry;
        assert_eq!((read_of, read), (of, index()));
        for cut in 0..bytes.len() {
            assert!(SegmentIndex::decode(Offset(1000), bytes.slice(..cut)).is_none());
        }
    }
}
