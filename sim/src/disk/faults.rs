//! What is going to go wrong with a disk.

use klamm::env::Rng;

use super::kind::concerns;
use super::platter::Platter;
use crate::plan::{FileKind, SyncFailure};

/// Faults that wait for a call, and conditions that last.
pub(super) struct Faults {
    armed: Vec<Armed>,
    /// For what a fault itself draws.
    pub(super) rng: Rng,
    /// Every call takes up to so many milliseconds longer.
    pub(super) slow_max_ms: u64,
    /// No call answers.
    pub(super) stalled: bool,
    /// No write goes to another place in a segment; one that should waits.
    pub(super) spare_segments: bool,
    /// The disk is empty at the next start.
    pub(super) lose_all: bool,
    /// The disk is this one at the next start.
    pub(super) roll_back: Option<Platter>,
}

#[derive(Clone, Copy)]
struct Armed {
    fault: Armable,
    kind: FileKind,
    left: u32,
}

/// A fault that befalls the next call that it concerns.
#[derive(Clone, Copy)]
pub(super) enum Armable {
    Sync(SyncFailure),
    Write,
    Read,
    Misdirect,
    Lose,
}

impl Faults {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            armed: Vec::new(),
            rng,
            slow_max_ms: 0,
            stalled: false,
            spare_segments: false,
            lose_all: false,
            roll_back: None,
        }
    }

    /// The next `count` calls on files of `kind` meet this fault, after those armed before.
    pub(super) fn arm(&mut self, fault: Armable, kind: FileKind, count: u32) {
        if count > 0 {
            let left = count;
            self.armed.push(Armed { fault, kind, left });
        }
    }

    /// The fault that a call on a file of `kind` meets, among those that `choose` knows.
    fn meet<T>(&mut self, kind: FileKind, choose: impl Fn(Armable) -> Option<T>) -> Option<T> {
        let mut found = None;
        for (at, armed) in self.armed.iter_mut().enumerate() {
            if concerns(armed.kind, kind)
                && let Some(fault) = choose(armed.fault)
            {
                armed.left -= 1;
                found = Some((at, armed.left, fault));
                break;
            }
        }
        let (at, left, fault) = found?;
        if left == 0 {
            self.armed.remove(at);
        }
        Some(fault)
    }

    pub(super) fn at_sync(&mut self, kind: FileKind) -> Option<SyncFailure> {
        self.meet(kind, |fault| match fault {
            Armable::Sync(how) => Some(how),
            _ => None,
        })
    }

    pub(super) fn at_read(&mut self, kind: FileKind) -> bool {
        let meets = |fault| matches!(fault, Armable::Read).then_some(());
        self.meet(kind, meets).is_some()
    }

    /// Of a truncate: it can only fail.
    pub(super) fn at_truncate(&mut self, kind: FileKind) -> bool {
        let meets = |fault| matches!(fault, Armable::Write).then_some(());
        self.meet(kind, meets).is_some()
    }

    /// Of a write: [`Armable::Write`], [`Armable::Misdirect`] or [`Armable::Lose`].
    pub(super) fn at_write(&mut self, kind: FileKind) -> Option<Armable> {
        let spared = self.spare_segments && kind == FileKind::Segment;
        self.meet(kind, |fault| match fault {
            Armable::Misdirect if spared => None,
            Armable::Write | Armable::Misdirect | Armable::Lose => Some(fault),
            Armable::Sync(_) | Armable::Read => None,
        })
    }

    /// Nothing goes wrong from now on.
    pub(super) fn clear(&mut self) {
        self.armed.clear();
        self.slow_max_ms = 0;
        self.stalled = false;
        self.spare_segments = false;
        self.roll_back = None;
    }
}
