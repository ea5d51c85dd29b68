//! Reading in two parts: a first piece now, and the rest as it is wanted.
//!
//! Whoever sends what it reads holds one piece at a time that way, and each is still in the
//! processor's caches when it is sent, however much is asked for. How much there will be is known
//! before: it is what lies between two places of the index.

use std::sync::Arc;

use bytes::Bytes;

use super::error::ReadError;
use super::reader::{LogReader, Place, Reached, ReadBatches, Unread, Wanted, nothing};
use super::segment::Segment;
use crate::types::Offset;
use crate::wire::batch::{BatchCheck, HEADER_BYTES};

/// Whole batches of one segment that are yet to be read.
///
/// **Promise.** [`next`](Self::next) gives, piece by piece, [`len`](Self::len) bytes, which follow
/// what was read before; or an error. A piece may end within a batch; each batch is checked as by
/// [`LogReader::read`] before the piece with its last byte is given, so what was given up to then
/// is worth nothing alone. What the log does meanwhile does not matter, except that a cut of these
/// batches ends in an error.
pub struct Stretch {
    reader: LogReader,
    /// A batch begins there, of which `check` says how much was given.
    place: Place,
    sealed: Option<Arc<Segment>>,
    check: Option<BatchCheck>,
    changes: u64,
    len: usize,
    piece_bytes: usize,
}

impl Stretch {
    /// Bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true of one that was just begun.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the log was cut, rolled or compacted since: an error that is met says nothing of
    /// what is stored.
    #[must_use]
    pub fn has_log_changed(&self) -> bool {
        self.reader.has_changed(self.changes)
    }

    /// The next piece, `None` after the last. Once this has failed for what is stored, the log
    /// gives no more stretches, so that whoever reads on comes as far as there is something good,
    /// and is told what is wrong there.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let piece = self.piece().await;
        if piece.is_err() && !self.has_log_changed() {
            self.reader.shared.doubt();
        }
        piece
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, ReadError> {
        let place = &mut self.place;
        let left = place.limit.saturating_sub(place.position);
        if left == 0 {
            return Ok(None);
        }
        let most = self.piece_bytes.max(HEADER_BYTES);
        let want = usize::try_from(left).map_or(most, |left| left.min(most));
        let read = place.file.read_at(place.position, want).await;
        let read = read.map_err(ReadError::io(&place.path))?;
        if read.len() < want {
            return Err(place.corrupt(read.len(), "the end of the file".to_owned()));
        }
        let checked = self.check(&read)?;
        self.place.position += checked as u64;
        if let (Some(segment), None) = (&self.sealed, &self.check) {
            segment.set_read_to(self.place.expected, self.place.position);
        }
        Ok(Some(read.slice(..checked)))
    }

    /// Checks what was read at the place; how much of it may be given.
    fn check(&mut self, read: &Bytes) -> Result<usize, ReadError> {
        let place = &mut self.place;
        let mut at = 0;
        while at < read.len() {
            let rest = &read[at..];
            let check = match &mut self.check {
                Some(check) => check,
                None => match place.header(rest, place.position + at as u64) {
                    Ok(Some(header)) => self.check.insert(BatchCheck::begin(header)),
                    // Cut off amid a header, which is read again.
                    Ok(None) => break,
                    Err(found) => return Err(place.corrupt(at, found)),
                },
            };
            let taken = check.take(rest);
            at += taken.map_err(|error| place.corrupt(at, error.to_string()))?;
            if check.is_complete() {
                let epoch = self.reader.verify_epoch(check.header());
                epoch.map_err(|found| place.corrupt(at, found))?;
                place.expected = check.header().end_offset();
                self.check = None;
            }
        }
        Ok(at)
    }
}

impl LogReader {
    /// As [`read`](Self::read), but what is in files comes as a [`Stretch`], to be read in pieces
    /// of `piece_bytes`, where it is more than one of them. Before it whole batches are read at
    /// once as far as it takes to know where one begins. What is given, with the stretch's length,
    /// is at most `max_bytes`, but for a first batch that is read at once.
    pub async fn read_beginning(
        &self,
        from: Offset,
        up_to: Offset,
        (max_bytes, piece_bytes): (usize, usize),
        at_least_one: bool,
    ) -> Result<(ReadBatches, Option<Stretch>), ReadError> {
        let asked = Wanted {
            from,
            up_to,
            max_bytes,
            at_least_one,
        };
        loop {
            let unread = match self.look_in_memory(asked)? {
                Ok(batches) => return Ok((batches, None)),
                Err(unread) => unread,
            };
            match self.begin(&unread, piece_bytes).await {
                // The log changed under the read: what it met says nothing.
                Err(_) if self.has_changed(unread.changes) => {}
                read => return read,
            }
        }
    }

    async fn begin(
        &self,
        unread: &Unread,
        piece_bytes: usize,
    ) -> Result<(ReadBatches, Option<Stretch>), ReadError> {
        let (mut wanted, of) = (unread.wanted, (unread.changes, piece_bytes));
        let mut read = nothing(wanted.from);
        let mut reached = self.place(&mut wanted).await?;
        if let Some(found) = &reached
            && found.place.expected != wanted.from
        {
            let first = Wanted {
                max_bytes: wanted.max_bytes.min(piece_bytes),
                ..wanted
            };
            (read, reached) = self.read_files(first).await?;
            wanted.max_bytes = wanted.max_bytes.saturating_sub(read.len());
            (wanted.from, wanted.at_least_one) = (read.end, first.at_least_one && read.is_empty());
        }
        let stretch = reached.and_then(|reached| self.stretch(reached, wanted, of));
        if stretch.is_some() {
            return Ok((read, stretch));
        }
        match self.read_pieces(wanted, unread.changes).await {
            Err(error) if read.is_empty() => return Err(error),
            // What was read is good. What stopped the read is told when it comes first.
            Err(_) => {}
            Ok(_) if !read.is_empty() && self.has_changed(unread.changes) => {}
            Ok(more) => {
                read.slices.extend(more.slices);
                read.end = more.end;
            }
        }
        Ok((read, None))
    }

    /// What follows `reached` in its segment, as far as is wanted, if that is more than a piece.
    fn stretch(
        &self,
        reached: Reached,
        wanted: Wanted,
        (changes, piece_bytes): (u64, usize),
    ) -> Option<Stretch> {
        if self.shared.is_in_doubt() {
            return None;
        }
        let Reached { mut place, sealed } = reached;
        place.limit = self.last_end(&place, sealed.as_deref(), wanted, changes)?;
        let len = usize::try_from(place.limit.checked_sub(place.position)?).ok()?;
        (len > piece_bytes).then(|| {
            tracing::trace!(target: "klamm::probe", name = "read-as-it-is-sent");
            Stretch {
                reader: self.clone(),
                place,
                sealed,
                check: None,
                changes,
                len,
                piece_bytes,
            }
        })
    }

    /// Where the last batch ends that is known to lie within what is wanted.
    fn last_end(
        &self,
        place: &Place,
        sealed: Option<&Segment>,
        wanted: Wanted,
        changes: u64,
    ) -> Option<u64> {
        let most = place.position.saturating_add(wanted.max_bytes as u64);
        let view = self.shared.view();
        if view.changes != changes {
            return None;
        }
        let Some(segment) = sealed else {
            let active = &view.active;
            // What is wanted ends where the file is written, at the latest.
            let is_all = wanted.up_to >= active.written.0 && place.limit <= most;
            return match is_all {
                true => Some(place.limit),
                false => active
                    .index
                    .last_before(wanted.up_to, most.min(place.limit)),
            };
        };
        if segment.end_offset <= wanted.up_to && place.limit <= most {
            return Some(place.limit);
        }
        drop(view);
        let opened = segment.opened()?;
        let most = most.min(place.limit);
        opened.index.last_before(wanted.up_to, most)
    }
}
