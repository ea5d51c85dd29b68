//! P2 and P3: what must be in a log is read from it.
//!
//! Required are records of sends acknowledged with acks other than 0 (`acks=1` only where the
//! broker promises it), records that a read returned, and the other records of their batches.
//!
//! - P2, lost: a read without error began at or below a required record and returned one above
//!   it, and no read returned the record itself. Where the final phase read the log, "no read" is
//!   "no read of the final phase": to have been read once is no excuse for being gone.
//! - P3, unseen: the final phase read the partition to its end ([`Note::Ends`]), nothing passed
//!   over the record, and nothing returned it. A record acknowledged as one the broker already
//!   has, with no offset, counts as unseen wherever it ought to be.
//!
//! Silent for compacted topics and below the log start. P3 is silent for damaged partitions,
//! where reads may fail, for batches at or above that end that became known in the final phase, and
//! for eras that ended before it.

use crate::checker::index::NEVER;
use crate::checker::{Fact, Index, Log, Sent, Violation, Violations};
use crate::history::{Note, Wanted};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for log in index.logs.iter().filter(|log| !log.compacted) {
        lost(index, log, found);
    }
    for (time, _, note) in &index.history.notes {
        if let Note::Ends { ends } = note {
            unseen(index, *time, ends, found);
        }
    }
}

/// A read without error: the position it asked for, the last offset it returned, which operation
/// it was, and when that ended.
#[derive(Clone, Copy)]
struct Pass {
    from: i64,
    to: i64,
    op: u64,
    time: u64,
}

/// For each fact of a log the read that went furthest among those that began at or below it.
struct Passes {
    furthest: Vec<Option<Pass>>,
    /// Whether the log was read in the final phase; then only those reads count.
    read_at_end: bool,
}

impl Passes {
    fn of(index: &Index<'_>, log: &Log<'_>) -> Self {
        let polls = || log.polls.iter().map(|at| &index.polls[*at]);
        let read_at_end = polls().any(|poll| index.is_final(poll.operation));
        let mut passes: Vec<Pass> = polls()
            .filter(|poll| index.is_final(poll.operation) || !read_at_end)
            .filter(|poll| poll.fetched.error.is_none())
            .filter_map(|poll| {
                Some(Pass {
                    from: poll.fetched.from,
                    to: poll.fetched.records.iter().map(|seen| seen.offset).max()?,
                    op: poll.operation.op,
                    time: poll.operation.returned,
                })
            })
            .collect();
        passes.sort_by_key(|pass| pass.from);
        let mut passes = passes.into_iter().peekable();
        let mut furthest: Option<Pass> = None;
        let of_fact = |fact: &Fact| {
            while let Some(next) = passes.next_if(|next| next.from <= fact.offset) {
                if furthest.is_none_or(|far| far.to < next.to) {
                    furthest = Some(next);
                }
            }
            furthest
        };
        Self {
            furthest: log.facts.iter().map(of_fact).collect(),
            read_at_end,
        }
    }

    /// The required records that were not read, and the read that passed over each, if one did.
    fn missing<'l>(&self, log: &'l Log<'_>) -> impl Iterator<Item = (&'l Fact, Option<Pass>)> {
        let floor = log.floor(NEVER);
        let facts = log.facts.iter().zip(&self.furthest);
        facts.filter_map(move |(fact, furthest)| {
            let was_read = if self.read_at_end {
                fact.in_final
            } else {
                fact.seen != NEVER
            };
            let over = furthest.filter(|pass| fact.offset < pass.to);
            (!was_read && fact.offset >= floor).then_some((fact, over))
        })
    }
}

fn lost(index: &Index<'_>, log: &Log<'_>, found: &mut Violations) {
    for (fact, over) in Passes::of(index, log).missing(log) {
        let Some(pass) = over else { continue };
        found.add(Violation {
            property: "P2",
            time: pass.time.max(fact.known()),
            partition: Some(log.of.clone()),
            operations: vec![fact.told_by, pass.op],
            detail: format!(
                "record {} at offset {} is lost: a read from {} returned offset {} and not it",
                fact.id, fact.offset, pass.from, pass.to
            ),
        });
    }
}

/// Where the batch of a record begins. It is below the log's end as a whole or not at all.
fn batch_of(index: &Index<'_>, fact: &Fact) -> i64 {
    let position = index.place_of(fact.id).map_or(0, |(_, position)| position);
    let back = i64::try_from(position).unwrap_or(i64::MAX);
    fact.offset.saturating_sub(back)
}

fn unseen(index: &Index<'_>, time: u64, ends: &Wanted, found: &mut Violations) {
    let Some(final_from) = index.final_from else {
        return;
    };
    let Some(place) = index.log_during(&ends.of, time, time) else {
        return;
    };
    let log = &index.logs[place];
    if log.compacted || log.damaged {
        return;
    }
    let mut add = |id: u64, offset: Option<i64>, op: u64| {
        let at = offset.map_or_else(String::new, |offset| format!(" at offset {offset}"));
        found.add(Violation {
            property: "P3",
            time,
            partition: Some(log.of.clone()),
            operations: vec![op],
            detail: format!(
                "record {id}{at} is not among those read from {} to the end, {}",
                ends.log_start_offset, ends.log_end_offset
            ),
        });
    };
    let retained = index.is_retained(log.of);
    let is_there = |fact: &Fact| !retained || fact.offset >= ends.log_start_offset;
    for (fact, over) in Passes::of(index, log).missing(log) {
        // Without a read in the final phase nothing of it was read there, whatever was before.
        let is_below = batch_of(index, fact) < ends.log_end_offset;
        let is_due = is_below || fact.known() < final_from;
        if over.is_none() && is_due && is_there(fact) {
            add(fact.id, Some(fact.offset), fact.told_by);
        }
    }
    let is_required = |sent: &&Sent<'_>| {
        sent.log == Some(place)
            && sent.base_offset.is_none()
            && sent.is_promised(index.options)
            && sent.operation.returned < final_from
    };
    if log.floor(NEVER) > 0 || (retained && ends.log_start_offset > 0) {
        return;
    }
    for sent in index.sends.iter().filter(is_required) {
        for record in sent.records {
            if log.facts_of(record.id).next().is_none() {
                add(record.id, None, sent.operation.op);
            }
        }
    }
}
