//! CG4 and CG5: the committed offset of a group for a partition is one register; CG3: a refused
//! commit has no effect.
//!
//! Commits carry metadata that nobody else uses, so that an answer names its commit. What is
//! demanded of answers to FetchCommitted:
//!
//! - the offset and metadata are of one commit that was made (CG4), and not of one that was refused
//!   (CG3);
//! - together with the commits they are a linearizable register ([`super::register`]): never an
//!   older commit than one that was acknowledged before, never back to an older one (CG4), and
//!   never none after one was acknowledged (CG5).
//!
//! A commit whose end is unknown may take effect at any time after its invocation, once, or never.
//! Where offsets may have been deleted (DeleteOffsets, DeleteGroup), an answer of none is excused
//! if any deletion may have come after the last acknowledged commit, and an acknowledged deletion
//! is a write between whose sides no value can stand. Expiry is after a week and not foreseen.
//!
//! Silent but for commits never made and refused ones: on partitions of a topic that was ever
//! deleted, and where the coordinator's log was ever damaged. Reads of a commit that may have been
//! made twice (its metadata was used twice, or a library may have sent it again) show only that it
//! was made; where metadata was used twice or offsets were deleted, the general search for an order
//! ([`linear`]) judges what is left.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Fate, Group, Groups, fate};
use super::register::{Cluster, Conflict, Span, conflicts};
use super::violation;
use crate::checker::Violations;
use crate::checker::control::judge;
use crate::checker::linear;
use crate::checker::linear::model::{CommittedOffset, OffsetOperation};
use crate::history::{Answer, Call, Committed, Operation, Partition};

/// A commit of one partition.
#[derive(Debug, Clone, Copy)]
struct Write<'a> {
    offset: i64,
    op: &'a Operation,
    fate: Fate,
    /// Whether a library may have sent it more than once.
    is_repeated: bool,
    /// Whether another commit has the same metadata.
    has_twin: bool,
}

/// All of one group and partition.
#[derive(Debug, Default)]
struct Register<'a> {
    writes: BTreeMap<&'a str, Write<'a>>,
    /// Also those whose metadata had been used.
    all: Vec<(&'a str, Write<'a>)>,
    has_twins: bool,
    reads: Vec<(&'a Operation, &'a Committed)>,
    deletes: Vec<&'a Operation>,
}

pub(super) fn check(name: &str, group: &Group, groups: &Groups, violations: &mut Violations) {
    for (of, register) in registers(group, &groups.buffered) {
        let is_silent = groups.is_damaged || !groups.topics.is_never_deleted(&of.topic);
        register.check(name, of, is_silent, violations);
    }
}

fn registers<'a>(
    group: &Group<'a>,
    buffered: &BTreeSet<&str>,
) -> BTreeMap<&'a Partition, Register<'a>> {
    let mut registers: BTreeMap<&Partition, Register> = BTreeMap::new();
    for op in &group.commits {
        let Call::Commit { offsets, .. } = &op.call else {
            continue;
        };
        for one in offsets {
            let register = registers.entry(&one.of).or_default();
            let write = Write {
                offset: one.offset,
                op,
                fate: fate(op, one),
                is_repeated: buffered.contains(op.process.as_str()),
                has_twin: false,
            };
            register.all.push((&one.metadata, write));
            if let Some(other) = register.writes.get_mut(one.metadata.as_str()) {
                other.has_twin = true;
                register.has_twins = true;
            } else {
                register.writes.insert(&one.metadata, write);
            }
        }
    }
    for op in &group.fetches {
        if let Some(Answer::FetchCommitted { offsets }) = op.answer() {
            for one in offsets {
                registers.entry(&one.of).or_default().reads.push((op, one));
            }
        }
    }
    for op in &group.deletes {
        match &op.call {
            Call::DeleteOffsets { of, .. } => {
                for of in of {
                    registers.entry(of).or_default().deletes.push(op);
                }
            }
            _ => registers.values_mut().for_each(|one| one.deletes.push(op)),
        }
    }
    registers
}

fn span(op: &Operation) -> Span {
    Span {
        op: op.op,
        invoked: op.invoked,
        returned: op.effect_until(),
    }
}

impl<'a> Register<'a> {
    fn check(mut self, name: &str, of: &Partition, is_silent: bool, violations: &mut Violations) {
        let before = violations.count();
        self.deletes.sort_by_key(|op| op.op);
        self.deletes.dedup_by_key(|op| op.op);
        let mut read: BTreeMap<&'a str, Vec<Span>> = BTreeMap::new();
        let mut none = Vec::new();
        for (op, one) in &self.reads {
            if one.offset < 0 {
                none.push(span(op));
                continue;
            }
            match self.why_not(one) {
                Some((property, detail)) => {
                    let known = self.writes.get(one.metadata.as_str());
                    let operations: Vec<u64> = known
                        .map(|write| write.op.op)
                        .into_iter()
                        .chain([op.op])
                        .collect();
                    let detail = format!("{name} was said to have committed {detail}");
                    let time = op.returned;
                    violations.add(violation(property, time, Some(of), &operations, detail));
                }
                None => read.entry(&one.metadata).or_default().push(span(op)),
            }
        }
        if is_silent {
            return;
        }
        if self.deletes.is_empty() {
            self.linearizable(name, of, read, Some(none), violations);
        } else {
            self.lost(name, of, &none, violations);
            self.linearizable(name, of, read, None, violations);
        }
        // What the fast ones cannot see: values that are no names of their commits, and deletions.
        let is_beyond = self.has_twins || !self.deletes.is_empty();
        if is_beyond && violations.count() == before {
            let what = format!("the offset of {name} for {}-{}", of.topic, of.partition);
            let model = CommittedOffset::default();
            judge("CG4", &what, &model, &self.calls(), violations);
        }
    }

    /// All that is told of the register, for the general search.
    fn calls(&self) -> Vec<linear::Call<OffsetOperation<'a>>> {
        let mut calls = Vec::new();
        let mut add = |op: &Operation, is_certain: bool, operation| {
            calls.push(linear::Call {
                id: op.op,
                invoked: op.invoked,
                returned: is_certain.then_some(op.returned),
                operation,
            });
        };
        let mut unsure = BTreeSet::new();
        for (metadata, write) in self.all.iter().filter(|(_, one)| one.fate != Fate::Refused) {
            if write.is_repeated {
                unsure.insert(*metadata);
            }
            let commit = OffsetOperation::Commit(write.offset, metadata);
            add(write.op, write.fate == Fate::Acked, commit);
        }
        for op in &self.deletes {
            add(op, op.answer().is_some(), OffsetOperation::Delete);
        }
        for (op, one) in &self.reads {
            let metadata = one.metadata.as_str();
            if one.offset < 0 {
                add(op, true, OffsetOperation::Fetch(None));
            } else if !unsure.contains(metadata) {
                let value = Some((one.offset, metadata));
                add(op, true, OffsetOperation::Fetch(value));
            }
        }
        calls
    }

    /// Why this answer can come from no commit.
    fn why_not(&self, one: &Committed) -> Option<(&'static str, String)> {
        let what = format!("offset {} with {:?}", one.offset, one.metadata);
        match self.writes.get(one.metadata.as_str()) {
            None => Some(("CG4", format!("{what}, which nobody did"))),
            Some(write) if write.has_twin => None,
            Some(write) if write.fate == Fate::Refused => {
                Some(("CG3", format!("{what}, which was refused")))
            }
            Some(write) if write.offset != one.offset => {
                let meant = write.offset;
                Some((
                    "CG4",
                    format!("{what}, which was committed with offset {meant}"),
                ))
            }
            Some(_) => None,
        }
    }

    /// `none` are the reads of nothing, where that is the register's first value and no other.
    fn linearizable(
        &self,
        name: &str,
        of: &Partition,
        mut read: BTreeMap<&'a str, Vec<Span>>,
        none: Option<Vec<Span>>,
        violations: &mut Violations,
    ) {
        let mut clusters = Vec::new();
        let mut titles = Vec::new();
        for (metadata, write) in &self.writes {
            let mut reads = read.remove(metadata).unwrap_or_default();
            if write.is_repeated || write.has_twin {
                reads.clear();
            }
            let is_acked = write.fate == Fate::Acked;
            if !is_acked && reads.is_empty() {
                continue;
            }
            let mut written = span(write.op);
            if !is_acked {
                written.returned = u64::MAX;
            }
            clusters.push(Cluster {
                write: written,
                reads,
            });
            titles.push(format!("offset {} ({metadata})", write.offset));
        }
        for delete in self.deletes.iter().filter(|op| op.answer().is_some()) {
            clusters.push(Cluster {
                write: span(delete),
                reads: Vec::new(),
            });
            titles.push("a deletion".to_owned());
        }
        let first = none.map(|reads| {
            let write = Span {
                op: 0,
                invoked: 0,
                returned: 0,
            };
            clusters.push(Cluster { write, reads });
            titles.push("none".to_owned());
            clusters.len() - 1
        });
        for conflict in conflicts(&clusters) {
            report(name, of, conflict, (&clusters, &titles, first), violations);
        }
    }

    /// Reads of nothing that no deletion explains.
    fn lost(&self, name: &str, of: &Partition, none: &[Span], violations: &mut Violations) {
        let acked = self
            .writes
            .values()
            .filter(|write| write.fate == Fate::Acked);
        let mut acked: Vec<Span> = acked.map(|write| span(write.op)).collect();
        acked.sort_by_key(|span| span.returned);
        let latest = running_max(&acked, |span| span.invoked);
        let mut deletes: Vec<Span> = self.deletes.iter().map(|op| span(op)).collect();
        deletes.sort_by_key(|span| span.invoked);
        let until = running_max(&deletes, |span| span.returned);
        for read in none {
            let before = acked.partition_point(|span| span.returned < read.invoked);
            let Some(at) = before.checked_sub(1) else {
                continue;
            };
            let write = acked[latest[at]];
            let possible = deletes.partition_point(|span| span.invoked < read.returned);
            let is_excused = possible
                .checked_sub(1)
                .is_some_and(|at| deletes[until[at]].returned > write.invoked);
            if !is_excused {
                let detail = format!("{name} was said to have committed nothing");
                let operations = [write.op, read.op];
                violations.add(violation(
                    "CG5",
                    read.returned,
                    Some(of),
                    &operations,
                    detail,
                ));
            }
        }
    }
}

/// For each prefix the place of its largest.
fn running_max(spans: &[Span], key: impl Fn(&Span) -> u64) -> Vec<usize> {
    let mut best = 0;
    let places = 0..spans.len();
    places
        .map(|at| {
            if key(&spans[at]) > key(&spans[best]) {
                best = at;
            }
            best
        })
        .collect()
}

fn report(
    name: &str,
    of: &Partition,
    conflict: Conflict,
    (clusters, titles, first): (&[Cluster], &[String], Option<usize>),
    violations: &mut Violations,
) {
    let (property, time, operations, detail) = match conflict {
        Conflict::Foreseen { cluster, read } => {
            let operations = vec![clusters[cluster].write.op, read.op];
            let detail = format!("{} was fetched before it was committed", titles[cluster]);
            ("CG4", read.returned, operations, detail)
        }
        Conflict::Between {
            kept,
            other,
            shown,
            again,
        } => {
            let is_none = first.is_some_and(|first| first == kept || first == other);
            let property = if is_none { "CG5" } else { "CG4" };
            let mut operations = vec![shown.op, clusters[other].write.op, again.op];
            operations.retain(|op| *op != 0);
            operations.dedup();
            let detail = format!(
                "{} of {name} came between two times at which it had {}",
                titles[other], titles[kept]
            );
            (property, again.invoked, operations, detail)
        }
    };
    violations.add(violation(property, time, Some(of), &operations, detail));
}
