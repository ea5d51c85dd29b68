//! Reading a segment file from end to end, believing nothing.
//!
//! A scan checks every batch: that its length fits the file, its CRC, that offsets go on where
//! they ended (or later, where compaction left gaps), that leader epochs do not go back. It ends
//! at the end of the file or at the first batch that is not right, and says why. Memory is bounded
//! whatever the lengths in the file claim.

use std::io;

use bytes::Bytes;

use super::header_page::HEADER_PAGE_BYTES;
use super::index::{RELATIVE_OFFSET_MAX, SegmentIndex};
use super::recovery_point::RecoveryPoint;
use crate::env::File;
use crate::types::{LeaderEpoch, Offset};
use crate::wire::batch::{BatchHeader, HEADER_BYTES};

/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;
/// Bytes of a batch that its own CRC does not cover.
const UNCOVERED_BYTES: usize = 21;

/// Carries a chain (see [`super::header_page`]) on over the batch that begins with `head`.
pub(super) fn chained(chain: u32, head: &[u8]) -> u32 {
    crc32c::crc32c_append(chain, &head[..UNCOVERED_BYTES.min(head.len())])
}

/// What a scan found.
pub(super) struct Scanned {
    /// Where the last good batch ends.
    pub position: u64,
    /// The offset after the last good batch.
    pub end_offset: Offset,
    pub index: SegmentIndex,
    /// Over all good batches.
    pub chain: u32,
    /// The chain at the position asked for, if a batch ended there.
    pub chain_at: Option<u32>,
    /// Why it ended before the end of the file.
    pub damage: Option<String>,
    /// The end of the batch that it ended at, where that reaches past the limit. Of its offsets
    /// nothing is proved: the CRC of a batch does not cover where it begins.
    pub at_limit: Option<Offset>,
}

/// What to scan, and how.
pub(super) struct Scan<'a> {
    pub file: &'a dyn File,
    pub base_offset: Offset,
    pub file_bytes: u64,
    pub index_interval_bytes: u64,
    /// Where to begin, if not with the first batch.
    pub from: Option<&'a RecoveryPoint>,
    /// See [`Scanned::chain_at`].
    pub chain_position: u64,
    /// Offsets from here on belong to the next segment.
    pub limit: Option<Offset>,
}

struct Window<'a> {
    file: &'a dyn File,
    file_bytes: u64,
    start: u64,
    bytes: Bytes,
}

impl Window<'_> {
    /// Up to `want` bytes from `position`, at most a window; fewer where window or file end.
    async fn some(&mut self, position: u64, want: usize) -> io::Result<Bytes> {
        let held_to = self.start + self.bytes.len() as u64;
        if position < self.start || position >= held_to {
            self.fill(position).await?;
        }
        let at = usize::try_from(position - self.start).map_err(io::Error::other)?;
        let to = self.bytes.len().min(at.saturating_add(want));
        Ok(self.bytes.slice(at.min(to)..to))
    }

    /// Exactly `want` bytes (far fewer than a window) unless the file ends before.
    async fn whole(&mut self, position: u64, want: usize) -> io::Result<Bytes> {
        let bytes = self.some(position, want).await?;
        if bytes.len() == want {
            return Ok(bytes);
        }
        self.fill(position).await?;
        self.some(position, want).await
    }

    async fn fill(&mut self, position: u64) -> io::Result<()> {
        let left = self.file_bytes.saturating_sub(position);
        let len = usize::try_from(left).map_or(WINDOW_BYTES, |left| left.min(WINDOW_BYTES));
        self.bytes = self.file.read_at(position, len).await?;
        self.start = position;
        Ok(())
    }
}

impl Scan<'_> {
    /// Scans, showing every good batch's header to `visit`.
    pub async fn run(&self, visit: &mut (dyn FnMut(&BatchHeader) + Send)) -> io::Result<Scanned> {
        let mut window = Window {
            file: self.file,
            file_bytes: self.file_bytes,
            start: 0,
            bytes: Bytes::new(),
        };
        let (mut found, mut epoch) = self.begin();
        loop {
            if found.position == self.chain_position {
                found.chain_at = Some(found.chain);
            }
            if found.position >= self.file_bytes {
                return Ok(found);
            }
            let head = window.whole(found.position, HEADER_BYTES).await?;
            let checked = match self.head(&head, &found, epoch) {
                Ok(header) => self.body(&mut window, header, found.position).await?,
                Err(reason) => Err(reason),
            };
            let checked = checked.and_then(|header| {
                let end = header.end_offset();
                found.at_limit = self.limit.filter(|limit| end > *limit).map(|_| end);
                match found.at_limit.is_some() {
                    true => Err("a batch that reaches past the segment".to_owned()),
                    false => Ok(header),
                }
            });
            let header = match checked {
                Ok(header) => header,
                Err(reason) => {
                    found.damage = Some(reason);
                    return Ok(found);
                }
            };
            visit(&header);
            epoch = header.leader_epoch;
            let interval = self.index_interval_bytes;
            found
                .index
                .add(&header, found.position, found.end_offset, interval);
            found.chain = chained(found.chain, &head);
            found.position += header.total_bytes() as u64;
            found.end_offset = header.end_offset();
        }
    }

    /// What is found before the first batch is read, and the last leader epoch.
    fn begin(&self) -> (Scanned, LeaderEpoch) {
        let mut found = Scanned {
            position: HEADER_PAGE_BYTES,
            end_offset: self.base_offset,
            index: SegmentIndex::new(self.base_offset),
            chain: 0,
            chain_at: None,
            damage: None,
            at_limit: None,
        };
        let Some(point) = self.from else {
            return (found, LeaderEpoch::NONE);
        };
        found.position = point.at.position;
        found.end_offset = point.at.offset;
        found.index = point.index.clone();
        found.chain = point.at.chain;
        (found, point.leader_epoch)
    }

    fn head(
        &self,
        head: &[u8],
        so_far: &Scanned,
        epoch: LeaderEpoch,
    ) -> Result<BatchHeader, String> {
        if head.iter().all(|byte| *byte == 0) {
            return Err("zeros".to_owned());
        }
        let header = BatchHeader::parse(head).map_err(|error| error.to_string())?;
        let left = self.file_bytes.saturating_sub(so_far.position);
        if header.total_bytes() as u64 > left {
            let bytes = header.total_bytes();
            return Err(format!("a batch of {bytes} bytes where {left} are left"));
        }
        let end = header.end_offset();
        let fits = header.last_offset_delta >= 0
            && header.last_offset().since(self.base_offset) <= RELATIVE_OFFSET_MAX;
        if header.base_offset < so_far.end_offset || !fits {
            let base_offset = header.base_offset;
            return Err(format!("a batch of the offsets [{base_offset}, {end})"));
        }
        if header.leader_epoch < epoch {
            let (was, is) = (epoch.0, header.leader_epoch.0);
            return Err(format!("a batch of leader epoch {is} after one of {was}"));
        }
        Ok(header)
    }

    async fn body(
        &self,
        window: &mut Window<'_>,
        header: BatchHeader,
        position: u64,
    ) -> io::Result<Result<BatchHeader, String>> {
        let end = position + header.total_bytes() as u64;
        let mut at = position + UNCOVERED_BYTES as u64;
        let mut crc = 0;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(WINDOW_BYTES);
            let piece = window.some(at, want).await?;
            if piece.is_empty() {
                return Ok(Err("the file ends within a batch".to_owned()));
            }
            crc = crc32c::crc32c_append(crc, &piece);
            at += piece.len() as u64;
        }
        if crc == header.crc || crate::mutant!("torn-tail-kept") {
            return Ok(Ok(header));
        }
        let stored = header.crc;
        Ok(Err(format!(
            "a batch whose CRC-32C is {crc:08x}, and says {stored:08x}"
        )))
    }
}
