//! The bytes of one file: as readers see them, and as a power loss may leave them.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use klamm::env::Rng;

/// What the device writes as a whole or not at all.
const SECTOR: usize = 512;
/// No simulated file is longer: a larger one is a mistake in an offset.
const MAX_LEN: u64 = 1 << 32;

/// **Invariant**: `live` is `durable` with all of `pending` applied.
#[derive(Debug, Default)]
pub(crate) struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Changes not yet durable, oldest first.
    pending: VecDeque<Change>,
    /// Changes before those.
    settled: u64,
}

#[derive(Debug)]
enum Change {
    Write { pos: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Inode {
    pub(crate) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    pub(crate) fn read(&self, pos: u64, len: usize) -> Bytes {
        let start = usize::try_from(pos).map_or(self.live.len(), |pos| pos.min(self.live.len()));
        let end = start.saturating_add(len).min(self.live.len());
        Bytes::copy_from_slice(&self.live[start..end])
    }

    pub(crate) fn write(&mut self, pos: u64, bytes: Vec<u8>) -> io::Result<()> {
        let end = pos.saturating_add(bytes.len() as u64);
        bounded(end)?;
        if bytes.is_empty() {
            return Ok(());
        }
        let pos = bounded(pos)?;
        self.change(Change::Write { pos, bytes });
        Ok(())
    }

    pub(crate) fn truncate(&mut self, len: u64) -> io::Result<()> {
        let len = bounded(len)?;
        self.change(Change::Truncate(len));
        Ok(())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.pending.push_back(change);
    }

    /// Changes called so far.
    pub(crate) fn changes(&self) -> u64 {
        self.settled + self.pending.len() as u64
    }

    /// Makes the first `changes` of all durable.
    pub(crate) fn settle(&mut self, changes: u64) {
        while self.settled < changes
            && let Some(change) = self.pending.pop_front()
        {
            apply(&mut self.durable, &change);
            self.settled += 1;
        }
    }

    /// Keeps each pending change whole, in part, or not at all.
    pub(crate) fn lose_power(&mut self, rng: &mut Rng) {
        while let Some(change) = self.pending.pop_front() {
            self.settled += 1;
            match rng.below(3) {
                0 => {}
                1 => apply(&mut self.durable, &change),
                _ => tear(&mut self.durable, &change, rng),
            }
        }
        self.live.clone_from(&self.durable);
    }
}

fn bounded(offset: u64) -> io::Result<usize> {
    if offset > MAX_LEN {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { pos, bytes } => put(image, *pos, bytes),
        Change::Truncate(len) => image.resize(*len, 0),
    }
}

fn put(image: &mut Vec<u8>, pos: usize, bytes: &[u8]) {
    let end = pos + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[pos..end].copy_from_slice(bytes);
}

/// Applies some sectors of a write. The file may grow by what it does not get: zeros then. A
/// truncate has no parts.
fn tear(image: &mut Vec<u8>, change: &Change, rng: &mut Rng) {
    let Change::Write { pos, bytes } = change else {
        return;
    };
    let end = pos + bytes.len();
    if rng.below(2) == 0 && image.len() < end {
        image.resize(end, 0);
    }
    let mut start = *pos;
    while start < end {
        let sector_end = ((start / SECTOR + 1) * SECTOR).min(end);
        if rng.below(2) == 0 {
            put(image, start, &bytes[start - pos..sector_end - pos]);
        }
        start = sector_end;
    }
}
