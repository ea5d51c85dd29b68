//! What a history says of each group, in the form that the checkers of groups read.
//!
//! Two things decide what may be claimed:
//!
//! - **A hold**: how long a member is in its group for certain. A coordinator may drop a member
//!   whose session ran out, or that did not join again within the rebalance time-out; both count
//!   from a moment that is not before the invocation of the member's last heartbeat that was
//!   accepted (a rebalance that had begun would have refused it). A fifth is taken off for clocks
//!   that run fast. The hold ends when anybody asks to join or leave under the member's id or
//!   instance, and there is none if such a request of unknown end is under way before. Operations
//!   are taken to be one request each: one that was sent again under one number may act twice.
//!   Only a request without an answer (none came, or the connection ended) may act later.
//! - **A group may vanish** once it has neither members nor offsets, or when it is deleted, and its
//!   generations then begin anew. It cannot while somebody holds on to it, nor while it has an
//!   acknowledged offset that nobody may have deleted (offsets expire after a week).
//!
//! A process that joins and never sends a heartbeat speaks through a library that does so for it.
//! When it says that it joined, it had joined at some time before, and its commits may have been
//! sent again and in another generation: its joins are known as asked for and no more, and its
//! commits are judged only as writes.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::cleaning::Topics;
use crate::history::{Answer, Call, Committed, Ending, History, Join, Membership, Operation};
use crate::history::{Note, Partition, outcome};

/// The internal topic whose damage groups may suffer from.
pub(super) const TOPIC: &str = "__consumer_offsets";

/// The error that tells members to join again.
const REBALANCING: &str = "REBALANCE_IN_PROGRESS";

/// A join that worked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joined<'a> {
    pub op: &'a Operation,
    pub join: &'a Join,
    pub member: &'a str,
    pub generation: i32,
    pub assigned: &'a [Partition],
}

impl Joined<'_> {
    /// Whether the other is the same static member.
    pub fn is_same_instance(&self, other: &Self) -> bool {
        self.join.instance.is_some() && self.join.instance == other.join.instance
    }
}

/// A request that spoke for a member and was accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted<'a> {
    pub op: &'a Operation,
    pub by: &'a Membership,
}

/// Everything about one group.
#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    /// In the order of their returns.
    pub joins: Vec<Joined<'a>>,
    /// Every join, whatever became of it, by invocation. So are those below.
    pub asked: Vec<(&'a Operation, &'a Join)>,
    /// Whether any of its members speaks through a library.
    pub has_buffered: bool,
    /// Heartbeats, and commits of members of which a partition was accepted.
    pub accepted: Vec<Accepted<'a>>,
    /// Requests of static members that were refused since another has their instance.
    pub fenced: Vec<&'a Operation>,
    /// Ends of heartbeats and commits that were refused since a rebalance was under way, by member
    /// and generation.
    told: BTreeMap<(&'a str, i32), Vec<u64>>,
    /// That may have happened.
    pub leaves: Vec<Accepted<'a>>,
    pub describes: Vec<&'a Operation>,
    pub commits: Vec<&'a Operation>,
    pub fetches: Vec<&'a Operation>,
    /// That may have happened, of offsets or the group.
    pub deletes: Vec<&'a Operation>,
    /// Invocations of accepted heartbeats.
    heartbeats: BTreeMap<(&'a str, i32), Vec<u64>>,
    by_member: BTreeMap<&'a str, Named>,
    by_instance: BTreeMap<&'a str, Named>,
    /// Spans in which somebody is in the group for certain, apart from each other, ascending.
    held: Vec<(u64, u64)>,
    /// Since when an offset is in it that nobody may have deleted.
    pinned_at: Option<u64>,
    deleted_at: Option<u64>,
}

/// Joins and leaves that name somebody.
#[derive(Debug, Default)]
struct Named {
    invoked: Vec<u64>,
    first_unknown: Option<u64>,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Groups<'a> {
    pub by_name: BTreeMap<&'a str, Group<'a>>,
    pub topics: Topics<'a>,
    /// Whether the coordinator's log was damaged at any time: what it forgot is no violation.
    pub is_damaged: bool,
    pub notes: &'a [(u64, String, Note)],
    /// Processes that speak through a library.
    pub buffered: BTreeSet<&'a str>,
    /// For each process, the ends of its joins (false) and of refused requests (true), by time.
    pub refused: BTreeMap<&'a str, Vec<(u64, bool)>>,
}

impl<'a> Groups<'a> {
    pub fn of(history: &'a History) -> Self {
        let topics = Topics::of(history);
        let buffered = buffered(history);
        let mut by_name: BTreeMap<&'a str, Group<'a>> = BTreeMap::new();
        for op in &history.operations {
            if let Some(name) = group_of(&op.call) {
                let is_buffered = buffered.contains(op.process.as_str());
                by_name.entry(name).or_default().add(op, is_buffered);
            }
        }
        for group in by_name.values_mut() {
            group.finish(&topics);
        }
        Self {
            is_damaged: topics.is_any_damaged(TOPIC),
            by_name,
            topics,
            buffered,
            notes: &history.notes,
            refused: super::stability::refusals(&history.operations),
        }
    }
}

/// Processes that join and send no heartbeat.
fn buffered(history: &History) -> BTreeSet<&str> {
    let of = |wanted: fn(&Call) -> bool| -> BTreeSet<&str> {
        let all = history.operations.iter().filter(|op| wanted(&op.call));
        all.map(|op| op.process.as_str()).collect()
    };
    let joining = of(|call| matches!(call, Call::Join(_)));
    let beating = of(|call| matches!(call, Call::Heartbeat(_)));
    joining.difference(&beating).copied().collect()
}

/// Whether the request may still be on its way to the broker when its client gave up.
pub(super) fn is_dangling(op: &Operation) -> bool {
    match &op.ending {
        Ending::Unknown(attempts) => attempts
            .last()
            .is_none_or(|last| outcome::LOCAL.contains(&last.error.as_str())),
        _ => false,
    }
}

fn group_of(call: &Call) -> Option<&str> {
    match call {
        Call::Join(Join { group, .. })
        | Call::Heartbeat(Membership { group, .. })
        | Call::Leave(Membership { group, .. })
        | Call::Commit {
            by: Membership { group, .. },
            ..
        }
        | Call::FetchCommitted { group, .. }
        | Call::DescribeGroup { group }
        | Call::DeleteGroup { group }
        | Call::DeleteOffsets { group, .. } => Some(group),
        _ => None,
    }
}

/// What became of one offset of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Acked,
    Refused,
    Unknown,
}

/// What became of `one` of the offsets that `op` commits.
pub(super) fn fate(op: &Operation, one: &Committed) -> Fate {
    match &op.ending {
        Ending::Fail(_) => Fate::Refused,
        Ending::Unknown(_) => Fate::Unknown,
        Ending::Ok(Answer::Commit { refused }) => {
            match refused.iter().find(|(of, _)| *of == one.of) {
                None => Fate::Acked,
                Some((_, error)) if outcome::of_other(error) == outcome::Class::Fail => {
                    Fate::Refused
                }
                Some(_) => Fate::Unknown,
            }
        }
        Ending::Ok(_) => Fate::Unknown,
    }
}

impl<'a> Group<'a> {
    fn add(&mut self, op: &'a Operation, is_buffered: bool) {
        self.has_buffered |= is_buffered;
        if super::fenced::is_fenced(op) {
            self.fenced.push(op);
        }
        if let (Call::Heartbeat(by) | Call::Commit { by, .. }, Ending::Fail(attempts)) =
            (&op.call, &op.ending)
            && attempts.iter().any(|one| one.error == REBALANCING)
        {
            let key = (by.member.as_str(), by.generation);
            self.told.entry(key).or_default().push(op.returned);
        }
        match (&op.call, op.answer().filter(|_| !is_buffered)) {
            (Call::Join(join), answer) => {
                self.asked.push((op, join));
                self.name(op, &join.member, join.instance.as_deref());
                if let Some(Answer::Join {
                    member,
                    generation,
                    assigned,
                    ..
                }) = answer
                {
                    self.joins.push(Joined {
                        op,
                        join,
                        member,
                        generation: *generation,
                        assigned,
                    });
                }
            }
            (Call::Heartbeat(by), Some(_)) => {
                self.accepted.push(Accepted { op, by });
                let key = (by.member.as_str(), by.generation);
                self.heartbeats.entry(key).or_default().push(op.invoked);
            }
            (Call::Leave(by), _) => {
                self.name(op, &by.member, by.instance.as_deref());
                if !op.failed() {
                    self.leaves.push(Accepted { op, by });
                }
            }
            (Call::Commit { by, offsets }, _) => {
                self.commits.push(op);
                let is_accepted = offsets.iter().any(|one| fate(op, one) == Fate::Acked);
                if is_accepted && !is_buffered && !by.member.is_empty() && by.generation >= 0 {
                    self.accepted.push(Accepted { op, by });
                }
            }
            (Call::FetchCommitted { .. }, Some(_)) => self.fetches.push(op),
            (Call::DescribeGroup { .. }, Some(_)) => self.describes.push(op),
            (Call::DeleteGroup { .. } | Call::DeleteOffsets { .. }, _) if !op.failed() => {
                self.deletes.push(op);
            }
            _ => {}
        }
    }

    fn name(&mut self, op: &Operation, member: &'a str, instance: Option<&'a str>) {
        let note = |named: &mut Named| {
            named.invoked.push(op.invoked);
            if is_dangling(op) {
                named.first_unknown.get_or_insert(op.invoked);
            }
        };
        if !member.is_empty() {
            note(self.by_member.entry(member).or_default());
        }
        if let Some(instance) = instance {
            note(self.by_instance.entry(instance).or_default());
        }
    }

    fn finish(&mut self, topics: &Topics<'a>) {
        self.joins.sort_by_key(|joined| joined.op.returned);
        let is_group = |op: &&&Operation| matches!(op.call, Call::DeleteGroup { .. });
        self.deleted_at = self.deletes.iter().find(is_group).map(|op| op.invoked);
        self.pinned_at = self.find_pinned(topics);
        let mut held: Vec<(u64, u64)> = self
            .joins
            .iter()
            .map(|joined| (joined.op.returned, self.held_until(joined, u64::MAX)))
            .filter(|(from, until)| from <= until)
            .collect();
        held.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (from, until) in held {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(until),
                _ => merged.push((from, until)),
            }
        }
        self.held = merged;
    }

    fn find_pinned(&self, topics: &Topics<'a>) -> Option<u64> {
        let may_go = |of: &Partition| {
            !topics.is_never_deleted(&of.topic)
                || self.deletes.iter().any(|delete| match &delete.call {
                    Call::DeleteOffsets { of: deleted, .. } => deleted.contains(of),
                    _ => false,
                })
        };
        let mut known: BTreeMap<&Partition, bool> = BTreeMap::new();
        let mut first = None;
        for op in &self.commits {
            let Call::Commit { offsets, .. } = &op.call else {
                continue;
            };
            let stays = offsets.iter().any(|one| {
                fate(op, one) == Fate::Acked
                    && !*known.entry(&one.of).or_insert_with(|| may_go(&one.of))
            });
            if stays {
                first = Some(first.map_or(op.returned, |at: u64| at.min(op.returned)));
            }
        }
        first
    }

    /// Until when the member is in its group for certain, by heartbeats invoked before `before`;
    /// 0 if that is never certain.
    pub fn held_until(&self, joined: &Joined, before: u64) -> u64 {
        let since = joined.op.invoked;
        let mut until = self.alive_until(joined, before);
        let by_instance = joined.join.instance.as_deref();
        let names = [
            self.by_member.get(joined.member),
            by_instance.and_then(|instance| self.by_instance.get(instance)),
        ];
        for named in names.into_iter().flatten() {
            if named.first_unknown.is_some_and(|at| at < since) {
                return 0;
            }
            let next = named.invoked.partition_point(|at| *at <= since);
            if let Some(at) = named.invoked.get(next) {
                until = until.min(*at);
            }
        }
        until
    }

    /// As [`Self::held_until`], had nobody asked to join or leave in the member's name since.
    pub fn alive_until(&self, joined: &Joined, before: u64) -> u64 {
        let key = (joined.member, joined.generation);
        let heartbeats = self.heartbeats.get(&key).map_or(&[][..], Vec::as_slice);
        let last = heartbeats.partition_point(|at| *at < before);
        let last = heartbeats[..last].last().copied().unwrap_or(0);
        let join = joined.join;
        let span = join.session_timeout_ms.min(join.rebalance_timeout_ms);
        // A fifth less, whatever a clock does.
        let span = u64::try_from(span).unwrap_or(0) * 800_000;
        last.max(joined.op.invoked) + span
    }

    /// Whether this join is of a member of that generation who had been told that a rebalance was
    /// under way: somebody else had begun it.
    pub fn was_told(&self, op: &Operation, join: &Join, generation: i32) -> bool {
        let told = self.told.get(&(join.member.as_str(), generation));
        told.is_some_and(|told| told.iter().any(|at| *at < op.invoked))
    }

    /// Whether the group of this join is certainly still the same, not one that began anew, at all
    /// times up to `until`.
    pub fn lasts(&self, joined: &Joined, until: u64) -> bool {
        let is_pinned = self.pinned_at.is_some_and(|at| at <= joined.op.invoked)
            && self.deleted_at.is_none_or(|at| until < at);
        is_pinned || {
            let returned = joined.op.returned;
            let at = self.held.partition_point(|(from, _)| *from <= returned);
            self.held_until(joined, u64::MAX) >= returned
                && self.held[..at].last().is_some_and(|(_, end)| *end >= until)
        }
    }

    /// Whether two joins, the first returned first, are certainly of one group that did not begin
    /// anew between.
    pub fn is_one(&self, first: &Joined, second: &Joined) -> bool {
        self.lasts(first, second.op.returned)
            && (second.op.invoked > first.op.returned || self.lasts(second, second.op.returned))
    }
}
