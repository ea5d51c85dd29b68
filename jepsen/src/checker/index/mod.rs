//! A history arranged by partitions, made once for all checkers.
//!
//! A topic may be deleted and made again under its name, so the log of a partition is that of one
//! *era* of its topic ([`Topic`]). An operation that overlaps a deletion has no era, and nothing
//! that depends on one is concluded from it. Within an era a log only grows at its end and loses
//! only below its start, and both an acknowledgement and a read tell for ever what is at an
//! offset: the union of all they tell is the [`Log`].

mod build;
mod log;
mod order;
mod topic;

use std::collections::BTreeMap;

pub(super) use log::rising;
pub use log::{Fact, Log, NEVER};
pub use order::{Observation, regressions};
pub use topic::{Timestamps, Topic};

use super::Options;
use crate::history::{Fetched, History, Library, Operation, Partition, Stamp, Written};

/// A send, whatever came of it.
#[derive(Debug)]
pub struct Sent<'a> {
    pub operation: &'a Operation,
    pub to: &'a Partition,
    pub acks: i16,
    pub records: &'a [Written],
    pub stamp: Option<Stamp>,
    /// Set if a client library sent it; the stamp is not known then.
    pub library: Option<Library>,
    /// The log it is in, if it was acknowledged and overlaps no deletion of its topic.
    pub log: Option<usize>,
    /// The offset it was acknowledged at, if that is a claim.
    pub base_offset: Option<i64>,
    /// How many attempts may have been appended.
    pub appends: u32,
    /// Whether an attempt may still be appended after the operation ended.
    pub late: bool,
}

impl Sent<'_> {
    /// Whether the broker promised that the records are in the log.
    #[must_use]
    pub fn is_promised(&self, options: Options) -> bool {
        let acknowledged = self.operation.answer().is_some();
        acknowledged && self.acks != 0 && !(options.weak_acks_one && self.acks == 1)
    }

    /// How many copies of it may be in one log: the broker tells the attempts of an idempotent
    /// producer apart.
    #[must_use]
    pub fn copies(&self) -> u32 {
        if self.stamp.is_some() || self.library == Some(Library::Idempotent) {
            self.appends.min(1)
        } else {
            self.appends
        }
    }
}

/// What one read told of one partition.
#[derive(Debug)]
pub struct Poll<'a> {
    pub operation: &'a Operation,
    pub fetched: &'a Fetched,
    /// Absent if the read overlaps a deletion of the topic, or may be answered by a leader who was
    /// not told of one.
    pub log: Option<usize>,
}

/// A history, arranged.
#[derive(Debug)]
pub struct Index<'a> {
    pub history: &'a History,
    pub options: Options,
    /// When the final phase began.
    pub final_from: Option<u64>,
    /// In the order of their invocations, as are the next.
    pub sends: Vec<Sent<'a>>,
    pub polls: Vec<Poll<'a>>,
    /// By partition, then era.
    pub logs: Vec<Log<'a>>,
    /// Ids of records, in order, with the place of their send and theirs in it.
    by_id: Vec<(u64, usize, usize)>,
    by_place: BTreeMap<(&'a Partition, usize), usize>,
    topics: BTreeMap<&'a str, Topic>,
    untold: Topic,
}

impl<'a> Index<'a> {
    /// Takes O(n log n) for n records sent and read.
    #[must_use]
    pub fn new(history: &'a History, options: Options) -> Self {
        build::index(history, options)
    }

    /// The send that carries the record, and the record's place in it.
    #[must_use]
    pub fn sent(&self, id: u64) -> Option<(&Sent<'a>, usize)> {
        let (send, position) = self.place_of(id)?;
        Some((&self.sends[send], position))
    }

    /// As [`Self::sent`], with the place of the send in [`Self::sends`].
    #[must_use]
    pub fn place_of(&self, id: u64) -> Option<(usize, usize)> {
        // Ids are numbers in a row, mostly.
        let guess = id.checked_sub(self.by_id.first()?.0)?;
        let guess = usize::try_from(guess)
            .ok()
            .and_then(|at| self.by_id.get(at));
        let found = guess.filter(|one| one.0 == id).or_else(|| {
            let at = self.by_id.binary_search_by_key(&id, |one| one.0);
            at.ok().map(|at| &self.by_id[at])
        });
        found.map(|(_, send, position)| (*send, *position))
    }

    #[must_use]
    pub fn topic(&self, name: &str) -> &Topic {
        self.topics.get(name).unwrap_or(&self.untold)
    }

    /// Whether the start of the partition's log may move without being asked.
    #[must_use]
    pub fn is_retained(&self, of: &Partition) -> bool {
        self.options.retention || self.topic(&of.topic).retention
    }

    /// The log that whatever happened from `since` to `until` was done to.
    #[must_use]
    pub fn log_during(&self, of: &Partition, since: u64, until: u64) -> Option<usize> {
        let era = self.topic(&of.topic).era(since, until)?;
        self.by_place.get(&(of, era)).copied()
    }

    /// As [`Self::log_during`], for an operation.
    #[must_use]
    pub fn log_of(&self, of: &Partition, operation: &Operation) -> Option<usize> {
        self.log_during(of, operation.invoked, operation.effect_until())
    }

    /// Whether the operation belongs to the final phase.
    #[must_use]
    pub fn is_final(&self, operation: &Operation) -> bool {
        self.final_from
            .is_some_and(|began| operation.invoked >= began)
    }
}
