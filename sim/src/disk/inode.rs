//! The bytes of one file: as readers see them, and as a power loss may leave them.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;

use super::crash::{Kept, Part};
use crate::plan::SyncFailure;

/// What the device writes as a whole or not at all.
pub(super) const SECTOR: usize = 512;
/// No simulated file is longer: a larger one is a mistake in an offset.
const MAX_LEN: u64 = 1 << 32;

/// **Invariant**: `live` is `durable` with all of `pending` applied, but for what `cache_only`
/// tells, and equal to it below `differs_from`.
#[derive(Debug, Clone, Default)]
pub(super) struct Inode {
    seen: Image,
    /// What the file would be without rot, lost and misdirected writes, once there was one.
    pristine: Option<Box<Image>>,
    /// Changes not yet durable, oldest first.
    pending: VecDeque<Pending>,
    /// Changes before those.
    settled: u64,
    /// Lowest position at which `live` may differ from `durable`.
    differs_from: Option<usize>,
    /// Whether readers see what the device does not have and was not told to get: after a failed
    /// sync, or a write that the device lost.
    cache_only: bool,
    /// When the last sync called so far completes.
    pub(super) synced_at: Duration,
    /// Names that lead here, for processes and for good, and open handles.
    pub(super) links: u32,
    pub(super) durable_links: u32,
    pub(super) handles: u32,
    /// No name and no handle is left: its space is free.
    pub(super) released: bool,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Image {
    live: Vec<u8>,
    durable: Vec<u8>,
}

/// A change and its place among all changes of the disk.
#[derive(Debug, Clone)]
struct Pending {
    number: u64,
    change: Change,
    fate: Fate,
}

#[derive(Debug, Clone)]
enum Change {
    Write { pos: usize, bytes: Bytes },
    Truncate(usize),
}

/// What the device does with a write it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Written,
    /// It only takes note of the length. Whether readers still see the bytes in the cache.
    Lost {
        cached: bool,
    },
}

impl Inode {
    pub(super) fn len(&self) -> u64 {
        self.seen.live.len() as u64
    }

    pub(super) fn live(&self) -> &[u8] {
        &self.seen.live
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.seen.durable
    }

    /// What readers would see if the device had always done what it said.
    pub(super) fn truth(&self) -> &[u8] {
        let image = self.pristine.as_deref().unwrap_or(&self.seen);
        &image.live
    }

    pub(super) fn read(&self, pos: u64, len: usize) -> Bytes {
        let live = &self.seen.live;
        let start = usize::try_from(pos).map_or(live.len(), |pos| pos.min(live.len()));
        let end = start.saturating_add(len).min(live.len());
        Bytes::copy_from_slice(&live[start..end])
    }

    /// Takes a write as change `number`. Nothing happens for one without bytes.
    pub(super) fn write(&mut self, number: u64, pos: u64, bytes: Bytes, fate: Fate) -> Checked {
        let end = pos.saturating_add(bytes.len() as u64);
        bounded(end)?;
        if bytes.is_empty() {
            return Ok(());
        }
        if fate != Fate::Written {
            self.remember_truth();
            self.cache_only |= fate == Fate::Lost { cached: true };
        }
        let pos = bounded(pos)?;
        self.differ_from(pos);
        self.take(number, Change::Write { pos, bytes }, fate);
        Ok(())
    }

    /// Takes a truncate as change `number`.
    pub(super) fn truncate(&mut self, number: u64, len: u64) -> Checked {
        let len = bounded(len)?;
        self.differ_from(len);
        self.take(number, Change::Truncate(len), Fate::Written);
        Ok(())
    }

    fn differ_from(&mut self, pos: usize) {
        let from = pos.min(self.seen.live.len());
        self.differs_from = Some(self.differs_from.map_or(from, |known| known.min(from)));
    }

    fn take(&mut self, number: u64, change: Change, fate: Fate) {
        let fate_of_cache = match fate {
            Fate::Lost { cached: true } => Fate::Written,
            other => other,
        };
        apply(&mut self.seen.live, &change, fate_of_cache);
        if let Some(pristine) = &mut self.pristine {
            apply(&mut pristine.live, &change, Fate::Written);
        }
        self.pending.push_back(Pending {
            number,
            change,
            fate,
        });
    }

    /// Changes called so far.
    pub(super) fn changes(&self) -> u64 {
        self.settled + self.pending.len() as u64
    }

    /// The numbers of what is not durable.
    pub(super) fn pending_numbers(&self) -> impl Iterator<Item = u64> {
        self.pending.iter().map(|pending| pending.number)
    }

    /// Makes the first `changes` of all durable; gives the number of the last of them, if any was
    /// not yet.
    pub(super) fn settle(&mut self, changes: u64) -> Option<u64> {
        let mut last = None;
        while self.settled < changes
            && let Some(pending) = self.pending.pop_front()
        {
            self.make_durable(&pending, &Kept::Whole);
            last = Some(pending.number);
            self.settled += 1;
        }
        if self.pending.is_empty() && !self.cache_only {
            self.differs_from = None;
        }
        last
    }

    /// A sync of the first `changes` of all failed: the device has none of what was not durable,
    /// and nothing will write it again. Gives the lowest position concerned, unless a later
    /// truncate cut that off already.
    pub(super) fn lose_sync(&mut self, changes: u64, how: SyncFailure) -> Option<u64> {
        let mut lowest = None;
        while self.settled < changes
            && let Some(pending) = self.pending.pop_front()
        {
            let pos = pending.change.pos();
            lowest = Some(lowest.map_or(pos, |known: usize| known.min(pos)));
            self.settled += 1;
        }
        let lowest = lowest.unwrap_or(self.seen.live.len());
        match how {
            SyncFailure::KeepInCache => self.cache_only = true,
            SyncFailure::Revert => self.revert(),
        }
        let cut = self
            .pending
            .iter()
            .any(|later| matches!(later.change, Change::Truncate(len) if len <= lowest));
        (!cut).then_some(lowest as u64)
    }

    /// Readers see what the device has, and what it is still to get.
    fn revert(&mut self) {
        self.cache_only = false;
        self.forget_cache();
        for pending in &self.pending {
            let from = pending.change.pos().min(self.seen.live.len());
            self.differs_from = Some(self.differs_from.map_or(from, |known| known.min(from)));
            let cached = match pending.fate {
                Fate::Lost { cached: true } => Fate::Written,
                other => other,
            };
            self.cache_only |= pending.fate == Fate::Lost { cached: true };
            apply(&mut self.seen.live, &pending.change, cached);
            if let Some(pristine) = &mut self.pristine {
                apply(&mut pristine.live, &pending.change, Fate::Written);
            }
        }
    }

    /// Readers see what is durable, and only that.
    fn forget_cache(&mut self) {
        if let Some(from) = self.differs_from.take() {
            let Image { live, durable } = &mut self.seen;
            let from = from.min(durable.len()).min(live.len());
            live.truncate(from);
            live.extend_from_slice(&durable[from..]);
        }
        if let Some(pristine) = &mut self.pristine {
            pristine.live.clone_from(&pristine.durable);
        }
    }

    fn make_durable(&mut self, pending: &Pending, kept: &Kept) {
        keep(&mut self.seen.durable, pending, pending.fate, kept);
        if let Some(pristine) = &mut self.pristine {
            keep(&mut pristine.durable, pending, Fate::Written, kept);
        }
    }

    /// Keeps of each pending change what `choose` says of its number and, for a write, the range
    /// of its bytes.
    pub(super) fn lose_power(
        &mut self,
        mut choose: impl FnMut(u64, Option<(usize, usize)>) -> Kept,
    ) {
        while let Some(pending) = self.pending.pop_front() {
            let kept = choose(pending.number, pending.change.range());
            self.make_durable(&pending, &kept);
            self.settled += 1;
        }
        self.cache_only = false;
        self.forget_cache();
        self.synced_at = Duration::ZERO;
    }

    /// Flips one bit of a byte that is durable and not about to be written; `false` when `pos` is
    /// not such a byte.
    pub(super) fn rot(&mut self, pos: usize, bit: u8) -> bool {
        let settled = self.differs_from.is_none_or(|from| pos < from);
        if !settled || pos >= self.seen.durable.len() {
            return false;
        }
        self.remember_truth();
        self.seen.live[pos] ^= 1 << bit;
        self.seen.durable[pos] ^= 1 << bit;
        true
    }

    /// Puts `bytes` where they do not belong, as far as the file reaches.
    pub(super) fn scribble(&mut self, pos: usize, bytes: &[u8]) {
        self.remember_truth();
        for image in [&mut self.seen.live, &mut self.seen.durable] {
            let end = (pos + bytes.len()).min(image.len());
            if pos < end {
                image[pos..end].copy_from_slice(&bytes[..end - pos]);
            }
        }
    }

    fn remember_truth(&mut self) {
        if self.pristine.is_none() {
            self.pristine = Some(Box::new(self.seen.clone()));
        }
    }

    /// Whether readers see, or will after a restart, what was never written there.
    pub(super) fn is_damaged(&self) -> bool {
        let pristine = self.pristine.as_deref();
        pristine.is_some_and(|pristine| *pristine != self.seen)
    }

    /// Makes the bytes from `pos` on as if the device had always done what it said.
    pub(super) fn repair_from(&mut self, pos: usize) {
        let Some(pristine) = self.pristine.as_deref() else {
            return;
        };
        let images = [
            (&mut self.seen.live, &pristine.live),
            (&mut self.seen.durable, &pristine.durable),
        ];
        for (image, right) in images {
            if image.len() >= pos {
                image.truncate(pos);
                image.extend_from_slice(right.get(pos..).unwrap_or_default());
            }
        }
        for pending in &mut self.pending {
            if pending.change.pos() >= pos {
                pending.fate = Fate::Written;
            }
        }
        let from = self.differs_from.unwrap_or(pos).min(pos);
        self.differs_from = Some(from);
    }

    /// Makes it as if the device had always done what it said.
    pub(super) fn repair(&mut self) {
        let Some(pristine) = self.pristine.take() else {
            return;
        };
        self.seen = *pristine;
        for pending in &mut self.pending {
            pending.fate = Fate::Written;
        }
        if !self.pending.is_empty() || self.cache_only {
            self.differs_from = Some(0);
        }
    }
}

impl Change {
    /// Where it begins to change the file.
    fn pos(&self) -> usize {
        match self {
            Self::Write { pos, .. } => *pos,
            Self::Truncate(len) => *len,
        }
    }

    /// The bytes a write covers.
    fn range(&self) -> Option<(usize, usize)> {
        match self {
            Self::Write { pos, bytes } => Some((*pos, pos + bytes.len())),
            Self::Truncate(_) => None,
        }
    }
}

pub(super) type Checked = io::Result<()>;

/// `offset` in memory; too large a file otherwise.
pub(super) fn bounded(offset: u64) -> io::Result<usize> {
    if offset > MAX_LEN {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

fn apply(image: &mut Vec<u8>, change: &Change, fate: Fate) {
    match change {
        Change::Write { pos, bytes } if fate == Fate::Written => put(image, *pos, bytes),
        Change::Write { pos, bytes } => grow(image, pos + bytes.len()),
        Change::Truncate(len) => image.resize(*len, 0),
    }
}

/// Applies what a power loss or a sync kept of a change.
fn keep(image: &mut Vec<u8>, pending: &Pending, fate: Fate, kept: &Kept) {
    match (kept, &pending.change) {
        (Kept::Nothing, _) => {}
        (Kept::Whole, change) => apply(image, change, fate),
        // A truncate has no parts.
        (Kept::Torn { .. }, Change::Truncate(_)) => {}
        (Kept::Torn { grown, parts }, Change::Write { pos, bytes }) => {
            if *grown {
                grow(image, pos + bytes.len());
            }
            for (start, part) in parts {
                match part {
                    Part::New(end) if fate == Fate::Written => {
                        put(image, *start, &bytes[start - pos..end - pos]);
                    }
                    Part::New(end) => grow(image, *end),
                    Part::Garbage(garbage) => put(image, *start, garbage),
                }
            }
        }
    }
}

fn grow(image: &mut Vec<u8>, len: usize) {
    if image.len() < len {
        image.resize(len, 0);
    }
}

fn put(image: &mut Vec<u8>, pos: usize, bytes: &[u8]) {
    if pos == image.len() {
        image.extend_from_slice(bytes);
        return;
    }
    grow(image, pos + bytes.len());
    image[pos..pos + bytes.len()].copy_from_slice(bytes);
}
