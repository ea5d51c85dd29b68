//! Reading a log while its owner goes on writing.
//!
//! **Promise.** A read gives whole batches, exactly as they were appended, in order and without
//! leaving one out; or an error. Every batch that comes from a file is checked (CRC, the offsets
//! and leader epoch it must have) before it is given out. A read that runs beside a roll, a
//! removal or a compaction sees the state before or after it, never a mixture.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::error::{Corruption, ReadError};
use super::header_page::HEADER_PAGE_BYTES;
use super::segment::{Segment, Shared};
use crate::env::File;
use crate::types::{LeaderEpoch, Offset};
use crate::wire::batch::{BatchHeader, HEADER_BYTES, RecordBatch};

/// Most bytes read from a file at once, unless one batch is larger: as much as a disk copies to the
/// reader without a hand-over (`env/tokio/disk.rs`). Who wants more gets several pieces.
const READ_BYTES_MAX: usize = 2 << 20;

/// Reads one log. Cheap to clone; stays valid while the log changes.
#[derive(Clone)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

/// Consecutive batches: their bytes are those of `slices`, one after another.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReadBatches {
    pub slices: Vec<Bytes>,
    /// Where to read on.
    pub end: Offset,
}

impl ReadBatches {
    #[must_use]
    pub fn len(&self) -> usize {
        self.slices.iter().map(Bytes::len).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// The bytes in one piece; copied unless they are.
    #[must_use]
    pub fn concat(mut self) -> Bytes {
        match self.slices.len() {
            1 => self.slices.remove(0),
            _ => self.slices.concat().into(),
        }
    }
}

/// What a read asks for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub from: Offset,
    pub up_to: Offset,
    pub max_bytes: usize,
    pub at_least_one: bool,
}

/// Where in which file to look for an offset.
pub(super) struct Place {
    pub file: Arc<dyn File>,
    pub path: PathBuf,
    /// A batch begins here.
    pub position: u64,
    /// Its base offset, or what it must not be below.
    pub expected: Offset,
    /// Nothing to read from here on.
    pub limit: u64,
    /// Whether offsets may be missing between batches.
    pub has_gaps: bool,
    /// Whether the file gave less than it should hold.
    pub short: bool,
}

/// What was read from one file: nothing when no batch of it ends after `from`.
pub(super) struct Found {
    pub bytes: Bytes,
    pub end: Offset,
    /// Position of `end`.
    pub position: u64,
    /// Whether the file has nothing more to give after `end`.
    pub exhausted: bool,
}

/// A place in a segment.
pub(super) struct Reached {
    pub place: Place,
    /// The segment, unless it is the active one.
    pub sealed: Option<Arc<Segment>>,
}

/// A read that memory could not answer: of the log as it was when it had changed so often.
pub(super) struct Unread {
    pub wanted: Wanted,
    pub changes: u64,
}

impl LogReader {
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.shared.view().log_start_offset
    }

    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.shared.view().log_end_offset
    }

    /// Bytes of all batches.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.view().size_bytes()
    }

    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shared.view().sealed.len() + 1
    }

    /// `OffsetForLeaderEpoch`: the largest epoch not above `epoch`, and where it ends. See
    /// [`EpochCache::end_of_epoch`](super::epoch_cache::EpochCache::end_of_epoch).
    #[must_use]
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let view = self.shared.view();
        view.epochs.end_of_epoch(epoch, view.log_end_offset)
    }

    /// The oldest leader epoch that is known.
    #[must_use]
    pub fn oldest_epoch(&self) -> Option<LeaderEpoch> {
        let view = self.shared.view();
        view.epochs.entries().first().map(|oldest| oldest.epoch)
    }

    /// The leader epoch of the record at `offset`; at the log's end, the newest epoch.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> LeaderEpoch {
        self.shared.view().epochs.epoch_of(offset)
    }

    /// Whole batches from the one that holds `from` (or the next one, where compaction left a
    /// gap), none reaching past `up_to`, together at most `max_bytes`, except that the first comes
    /// whole when `at_least_one`. May give fewer than there are; nothing only when there is
    /// nothing to give.
    ///
    /// Recent batches come from memory without waiting.
    pub async fn read(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<ReadBatches, ReadError> {
        let asked = Wanted {
            from,
            up_to,
            max_bytes,
            at_least_one,
        };
        loop {
            let Unread { wanted, changes } = match self.look_in_memory(asked)? {
                Ok(batches) => return Ok(batches),
                Err(unread) => unread,
            };
            match self.read_pieces(wanted, changes).await {
                // The log changed under the read: what it met says nothing.
                Err(_) if self.has_changed(changes) => {}
                read => return read,
            }
        }
    }

    pub(super) fn has_changed(&self, changes: u64) -> bool {
        self.shared.view().changes != changes
    }

    /// What needs no file, or else what is wanted of files.
    pub(super) fn look_in_memory(
        &self,
        mut wanted: Wanted,
    ) -> Result<Result<ReadBatches, Unread>, ReadError> {
        let from = wanted.from;
        let changes = {
            let view = self.shared.view();
            if from < view.log_start_offset || from > view.log_end_offset {
                return Err(ReadError::OutOfRange {
                    offset: from,
                    start: view.log_start_offset,
                    end: view.log_end_offset,
                });
            }
            wanted.up_to = wanted.up_to.min(view.log_end_offset);
            view.changes
        };
        if from >= wanted.up_to {
            return Ok(Ok(nothing(from)));
        }
        let (max_bytes, at_least_one) = (wanted.max_bytes, wanted.at_least_one);
        let tail = &self.shared.tail;
        let cached = tail.gather(from, wanted.up_to, max_bytes, at_least_one);
        Ok(match cached {
            Some(cached) => Ok(ReadBatches {
                slices: cached.slices,
                end: cached.end_offset.unwrap_or(from),
            }),
            None => Err(Unread { wanted, changes }),
        })
    }

    /// As many pieces as it takes to give what is wanted, all of one state of the log: `changes`
    /// is its count before the first.
    pub(super) async fn read_pieces(
        &self,
        mut wanted: Wanted,
        changes: u64,
    ) -> Result<ReadBatches, ReadError> {
        let (mut read, _) = self.read_files(wanted).await?;
        let mut last = read.len();
        while last > 0 && wanted.max_bytes > READ_BYTES_MAX {
            wanted.max_bytes = wanted.max_bytes.saturating_sub(last);
            (wanted.from, wanted.at_least_one) = (read.end, false);
            // What was read is good. What stopped the read is told when it comes first.
            let Ok((more, _)) = self.read_files(wanted).await else {
                break;
            };
            if self.has_changed(changes) {
                break;
            }
            last = more.len();
            if last > 0 {
                tracing::trace!(target: "klamm::probe", name = "read-in-pieces");
                read.slices.extend(more.slices);
                read.end = more.end;
            }
        }
        Ok(read)
    }

    /// One piece, and where it ended if there is any.
    pub(super) async fn read_files(
        &self,
        mut wanted: Wanted,
    ) -> Result<(ReadBatches, Option<Reached>), ReadError> {
        while wanted.from < wanted.up_to {
            let Some(Reached { mut place, sealed }) = self.place(&mut wanted).await? else {
                break;
            };
            let found = self.read_place(&mut place, wanted).await?;
            if let Some(segment) = &sealed
                && found.end > wanted.from
            {
                segment.set_read_to(found.end, found.position);
            }
            if !found.bytes.is_empty() {
                let read = ReadBatches {
                    slices: vec![found.bytes],
                    end: found.end,
                };
                return Ok((read, Some(Reached { place, sealed })));
            }
            match &sealed {
                // All that was left in the segment went by compaction.
                Some(segment) if found.exhausted => wanted.from = segment.end_offset,
                _ => break,
            }
        }
        Ok((nothing(wanted.from), None))
    }

    /// Where to look for the beginning of what is wanted, of which nothing that is not written is
    /// then wanted any more; `None` when that is all of it.
    pub(super) async fn place(&self, wanted: &mut Wanted) -> Result<Option<Reached>, ReadError> {
        let sealed = self.shared.view().sealed_at(wanted.from).cloned();
        let place = match &sealed {
            Some(segment) => Some(self.place_in(segment, wanted.from).await?),
            None => self.place_in_active(wanted).await?,
        };
        Ok(place.map(|place| Reached { place, sealed }))
    }

    async fn place_in(&self, segment: &Arc<Segment>, from: Offset) -> Result<Place, ReadError> {
        let opened = self.shared.open_segment(segment).await?;
        let first = (segment.base_offset, HEADER_PAGE_BYTES);
        let (expected, position) = match segment.read_to() {
            Some(read_to) if read_to.0 == from => read_to,
            _ => opened.index.before(from).unwrap_or(first),
        };
        Ok(Place {
            file: opened.file.clone(),
            path: self.shared.path(segment.base_offset),
            position,
            expected,
            limit: segment.file_bytes,
            has_gaps: opened.index.has_gaps,
            short: false,
        })
    }

    /// `None` when what is wanted has not been written yet.
    async fn place_in_active(&self, wanted: &mut Wanted) -> Result<Option<Place>, ReadError> {
        let path = self.shared.path(self.shared.view().active.base_offset);
        let file = self.shared.active_file().await;
        let file = file.map_err(ReadError::io(&path))?;
        let view = self.shared.view();
        let active = &view.active;
        if self.shared.path(active.base_offset) != path {
            // Closed meanwhile; counted as a change.
            return Err(ReadError::io(&path)(std::io::ErrorKind::NotFound.into()));
        }
        wanted.up_to = wanted.up_to.min(active.written.0);
        if wanted.from >= wanted.up_to {
            return Ok(None);
        }
        let first = (active.base_offset, HEADER_PAGE_BYTES);
        let (expected, position) = active.index.before(wanted.from).unwrap_or(first);
        Ok(Some(Place {
            file,
            path,
            position,
            expected,
            limit: active.written.1,
            has_gaps: active.index.has_gaps,
            short: false,
        }))
    }

    /// Reads on at `place`, which moves behind what was found.
    pub(super) async fn read_place(
        &self,
        place: &mut Place,
        wanted: Wanted,
    ) -> Result<Found, ReadError> {
        let slack = usize::try_from(self.shared.index_interval_bytes).unwrap_or(0);
        let usual = wanted
            .max_bytes
            .saturating_add(slack)
            .clamp(HEADER_BYTES, READ_BYTES_MAX);
        let mut want = usual;
        loop {
            let left = place.limit.saturating_sub(place.position);
            let len = usize::try_from(left).map_or(want, |left| left.min(want));
            let read = place.file.read_at(place.position, len).await;
            let chunk = read.map_err(ReadError::io(&place.path))?;
            place.short = chunk.len() < len;
            match self.take(place, &chunk, wanted)? {
                Taken::Done(found) => {
                    (place.position, place.expected) = (found.position, found.end);
                    return Ok(found);
                }
                Taken::Again { bytes } => want = bytes.max(usual),
            }
        }
    }

    /// Takes what is wanted from `chunk`, which was read at the place.
    fn take(&self, place: &mut Place, chunk: &Bytes, wanted: Wanted) -> Result<Taken, ReadError> {
        let mut at = 0;
        let mut first = None;
        let mut end = wanted.from;
        let mut exhausted = false;
        loop {
            let here = place.position + at as u64;
            if here >= place.limit {
                exhausted = true;
                break;
            }
            let rest = chunk.slice(at.min(chunk.len())..);
            let taken = at - first.unwrap_or(at);
            let header = match place.header(&rest, here) {
                Ok(Some(header)) => header,
                Ok(None) if first.is_none() => return place.move_to(here, HEADER_BYTES),
                // What was taken is good; the next read will tell.
                Ok(None) => break,
                Err(_) if first.is_some() => break,
                Err(found) => return Err(place.corrupt(at, found)),
            };
            let total = header.total_bytes();
            let skipped = header.end_offset() <= wanted.from;
            let beyond = header.end_offset() > wanted.up_to;
            if first.is_none() && (beyond || (skipped && place.has_gaps)) {
                // A damaged header must not talk the reader out of a batch: it is believed if the
                // offsets around it leave no choice, or else once the CRC has been seen.
                if rest.len() < total {
                    return place.move_to(here, total);
                }
                self.verify(&header, rest.clone())
                    .map_err(|found| place.corrupt(at, found))?;
            }
            if skipped {
                at += total;
                place.expected = header.end_offset();
                if at >= chunk.len() && place.position + (at as u64) < place.limit {
                    let here = place.position + at as u64;
                    return place.move_to(here, HEADER_BYTES);
                }
                continue;
            }
            let fits = taken + total <= wanted.max_bytes;
            let only = first.is_none() && wanted.at_least_one;
            if beyond || !(fits || only) {
                break;
            }
            if rest.len() < total {
                match first {
                    None => return place.move_to(here, total),
                    Some(_) => break,
                }
            }
            match self.verify(&header, rest) {
                Err(found) if first.is_none() => return Err(place.corrupt(at, found)),
                Err(_) => break,
                Ok(()) => {}
            }
            first = first.or(Some(at));
            at += total;
            end = header.end_offset();
            place.expected = end;
        }
        Ok(Taken::Done(Found {
            bytes: first.map_or_else(Bytes::new, |first| chunk.slice(first..at)),
            end,
            position: place.position + at as u64,
            exhausted,
        }))
    }

    fn verify(&self, header: &BatchHeader, mut rest: Bytes) -> Result<(), String> {
        RecordBatch::split_first(&mut rest).map_err(|error| error.to_string())?;
        self.verify_epoch(header)
    }

    pub(super) fn verify_epoch(&self, header: &BatchHeader) -> Result<(), String> {
        let epoch = self.shared.view().epochs.epoch_of(header.base_offset);
        if epoch != LeaderEpoch::NONE && epoch != header.leader_epoch {
            let stored = header.leader_epoch.0;
            return Err(format!("leader epoch {stored} where {} was", epoch.0));
        }
        Ok(())
    }

    /// About how many bytes of batches lie in `[from, up_to)`: exact where they are in memory.
    #[must_use]
    pub fn bytes_between(&self, from: Offset, up_to: Offset) -> u64 {
        if let Some(bytes) = self.shared.tail.bytes_between(from, up_to) {
            return bytes;
        }
        let view = self.shared.view();
        let from = from.max(view.log_start_offset);
        let mut sum = 0;
        for segment in &view.sealed {
            if segment.end_offset > from && segment.base_offset < up_to {
                let span = (segment.base_offset, segment.end_offset);
                sum += share(segment.bytes(), span, (from, up_to));
            }
        }
        let active = &view.active;
        if up_to > active.base_offset {
            let position = |offset: Offset| match active.index.before(offset) {
                _ if offset >= view.log_end_offset => active.position,
                Some((_, position)) => position,
                None => HEADER_PAGE_BYTES,
            };
            sum += position(up_to).saturating_sub(position(from.max(active.base_offset)));
        }
        sum
    }
}

/// The part of `bytes`, spread evenly over `whole`, that lies in `part`.
fn share(bytes: u64, whole: (Offset, Offset), part: (Offset, Offset)) -> u64 {
    let all = whole.1.since(whole.0).max(1);
    let within = whole.1.min(part.1).since(whole.0.max(part.0)).max(0);
    let scaled = u128::from(bytes) * within.unsigned_abs() as u128 / all.unsigned_abs() as u128;
    u64::try_from(scaled).unwrap_or(bytes)
}

pub(super) fn nothing(end: Offset) -> ReadBatches {
    ReadBatches {
        slices: Vec::new(),
        end,
    }
}

enum Taken {
    Done(Found),
    /// The place has moved on; read at least this much there.
    Again {
        bytes: usize,
    },
}

impl Place {
    /// To read on at `position`, where at least `bytes` are needed.
    fn move_to(&mut self, position: u64, bytes: usize) -> Result<Taken, ReadError> {
        self.position = position;
        match self.short {
            true => Err(self.corrupt(0, "the end of the file".to_owned())),
            false => Ok(Taken::Again { bytes }),
        }
    }

    /// The header of the batch at the start of `rest`, read at `position`; `None` when `rest` is
    /// too short to tell.
    pub(super) fn header(&self, rest: &[u8], position: u64) -> Result<Option<BatchHeader>, String> {
        let left = self.limit.saturating_sub(position);
        if rest.len() < HEADER_BYTES && left >= HEADER_BYTES as u64 {
            return Ok(None);
        }
        let header = BatchHeader::parse(rest).map_err(|error| error.to_string())?;
        let total = header.total_bytes();
        if total as u64 > left {
            return Err(format!("a batch of {total} bytes where {left} are left"));
        }
        let in_place = match self.has_gaps {
            true => header.base_offset >= self.expected,
            false => header.base_offset == self.expected,
        };
        if !in_place || header.last_offset_delta < 0 {
            let last_offset = header.last_offset();
            let base_offset = header.base_offset;
            return Err(format!("a batch of offsets {base_offset} to {last_offset}"));
        }
        Ok(Some(header))
    }

    pub(super) fn corrupt(&self, at: usize, found: String) -> ReadError {
        ReadError::Corrupt(Corruption {
            path: self.path.clone(),
            position: self.position + at as u64,
            offset: self.expected,
            found,
            expected: "the batch written there".to_owned(),
        })
    }
}
