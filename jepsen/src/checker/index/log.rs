//! The log of one partition in one era of its topic, as acknowledgements and reads tell it.

use std::ops::Range;

use crate::history::Partition;

/// A time that does not come.
pub const NEVER: u64 = u64::MAX;

/// That a record is at an offset. Times are those at which somebody learnt it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    pub offset: i64,
    pub id: u64,
    /// [`NEVER`] if no acknowledgement tells it, and so on.
    pub acked: u64,
    pub seen: u64,
    /// When another record of its batch was seen where this one belongs there: batches are
    /// appended and shown whole.
    pub implied: u64,
    /// Whether a read of the final phase returned it.
    pub in_final: bool,
    /// The operation that first told it.
    pub told_by: u64,
}

impl Fact {
    /// From when on it is known that the record is there.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.acked.min(self.seen).min(self.implied)
    }

    /// Whether an operation says so, and not only the other records of the batch.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.acked != NEVER || self.seen != NEVER
    }
}

/// All that is known of a log.
#[derive(Debug)]
pub struct Log<'a> {
    pub of: &'a Partition,
    pub era: usize,
    pub compacted: bool,
    /// Whether its bytes were damaged on purpose.
    pub damaged: bool,
    /// By offset, then id. More than one of an offset is a contradiction.
    pub facts: Vec<Fact>,
    /// Places in `facts`, by id, then offset.
    pub by_id: Vec<usize>,
    /// Places in [`super::Index::polls`].
    pub polls: Vec<usize>,
    /// Times and log starts, both rising: up to where records may have been deleted.
    pub(super) floors: Vec<(u64, i64)>,
    /// Times and offsets, both rising: the highest offset known by then.
    pub(super) ends: Vec<(u64, i64)>,
}

impl<'a> Log<'a> {
    pub(super) fn new(of: &'a Partition, era: usize, compacted: bool) -> Self {
        Self {
            of,
            era,
            compacted,
            damaged: false,
            facts: Vec::new(),
            by_id: Vec::new(),
            polls: Vec::new(),
            floors: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Records below this may be gone at `time`; [`NEVER`] asks for the end of the history.
    #[must_use]
    pub fn floor(&self, time: u64) -> i64 {
        let after = self.floors.partition_point(|(at, _)| *at <= time);
        after.checked_sub(1).map_or(0, |last| self.floors[last].1)
    }

    /// The highest offset that was known to have a record before `time`.
    #[must_use]
    pub fn last_known(&self, time: u64) -> Option<i64> {
        let after = self.ends.partition_point(|(at, _)| *at < time);
        after.checked_sub(1).map(|last| self.ends[last].1)
    }

    /// What is known of `offsets`.
    #[must_use]
    pub fn within(&self, offsets: Range<i64>) -> &[Fact] {
        let start = self
            .facts
            .partition_point(|fact| fact.offset < offsets.start);
        let rest = &self.facts[start..];
        &rest[..rest.partition_point(|fact| fact.offset < offsets.end)]
    }

    /// The first record that a read which ended at `time` passed over, if it returned none of
    /// `offsets` and the one at the end of them.
    ///
    /// It does not matter when the record became known: a log grows at its end only, so a record
    /// below one that is visible is visible.
    #[must_use]
    pub fn passed_over(&self, offsets: Range<i64>, time: u64) -> Option<&Fact> {
        if self.compacted || offsets.is_empty() {
            return None;
        }
        let start = offsets.start.max(self.floor(time));
        self.within(start..offsets.end.max(start)).first()
    }

    /// All that is known of records with their offsets, grouped by record.
    pub fn records(&self) -> impl Iterator<Item = &[usize]> {
        self.by_id
            .chunk_by(|one, next| self.facts[*one].id == self.facts[*next].id)
    }

    /// Facts of the record `id`.
    pub fn facts_of(&self, id: u64) -> impl Iterator<Item = &Fact> {
        let start = self.by_id.partition_point(|at| self.facts[*at].id < id);
        let rest = self.by_id[start..].iter().map(|at| &self.facts[*at]);
        rest.take_while(move |fact| fact.id == id)
    }

    /// Where the send's record is, if it is told to be at one offset only.
    #[must_use]
    pub fn only_place(&self, id: u64) -> Option<i64> {
        let mut told = self.facts_of(id).filter(|fact| fact.is_told());
        let first = told.next()?;
        told.next().is_none().then_some(first.offset)
    }
}

/// Keeps of `marks` those that are higher than all before, in the order of their times.
pub(in crate::checker) fn rising(mut marks: Vec<(u64, i64)>) -> Vec<(u64, i64)> {
    marks.sort_unstable();
    let mut kept: Vec<(u64, i64)> = Vec::new();
    for (time, value) in marks {
        match kept.last_mut() {
            Some((_, highest)) if value <= *highest => {}
            Some((at, highest)) if *at == time => *highest = value,
            _ => kept.push((time, value)),
        }
    }
    kept
}
