//! K6: a log's start only moves up, and nothing below it is served.
//!
//! Within one era of the topic, also across restarts of the broker and changes of the leader:
//!
//! - a start that was told (by ListOffsets, a fetch, a send, DeleteRecords or, where there is one
//!   copy, a node's note) is not below one that was told before it was asked for;
//! - DeleteRecords answers a start of at least what it was asked for; asked for the high watermark
//!   (-1), at least the end of every batch that was acknowledged with acks=all before;
//! - no fetch gives a record below a start that was told before it was invoked;
//! - where there are several copies, each may begin elsewhere. What a node notes of its own does
//!   not fall, unless the log is empty: it was made anew.
//!
//! In a cluster a leader that was replaced and does not know it yet tells the start of its log;
//! answers of a time in which there may have been one ([`crate::checker::leaders`]) are not
//! compared. And a leader may begin with a log that begins later than those of the others, who had
//! not let go of as much when the leader before ended: it tells so, and if it ends before any other
//! has followed, the next one tells less. So a start that was first told after a leader had begun
//! with just that one is no claim on later ones, unless DeleteRecords was answered with it.
//!
//! Silent on partitions that were damaged, on answers that span the end of an era, and on records
//! out of a client's buffer (answers without any end of the log).

use std::collections::BTreeMap;

use super::facts::{Seeing, Told, is_direct};
use super::violation;
use crate::checker::Violations;
use crate::history::{Answer, Call};

pub(super) fn check(seen: &Seeing, violations: &mut Violations) {
    let highest = Highest::of(seen, &seen.log.starts);
    for told in &seen.log.starts {
        if let Some(era) = seen.era_of(told)
            && let Some(before) = highest.before(era, told.from)
            && before.offset > told.offset
            && binds(seen, &before, (told.from, told.until))
        {
            let detail = format!(
                "the log's start was told as {} after it had been {}",
                told.offset, before.offset
            );
            let operations: Vec<u64> = before.op.into_iter().chain(told.op).collect();
            violations.add(violation("K6", told.until, seen.of, &operations, detail));
        }
    }
    for (op, fetched) in &seen.log.reads {
        let Some(era) = seen.era(op).filter(|_| is_direct(fetched)) else {
            continue;
        };
        let Some(start) = highest.before(era, op.invoked) else {
            continue;
        };
        if let Some(record) = fetched.records.iter().find(|one| one.offset < start.offset)
            && binds(seen, &start, (op.invoked, op.returned))
        {
            let detail = format!(
                "offset {} was read though the log had been told to start at {}",
                record.offset, start.offset
            );
            let operations: Vec<u64> = start.op.into_iter().chain([op.op]).collect();
            violations.add(violation("K6", op.returned, seen.of, &operations, detail));
        }
    }
    deletes(seen, violations);
    copies(seen, violations);
}

/// Whether a start that was told is a claim on answers of this span. There may have been a leader
/// that had let go of more than others, or one that was replaced.
fn binds(seen: &Seeing, before: &Told, (from, until): (u64, u64)) -> bool {
    let leads = &seen.log.leads;
    let mut deletes = seen.log.deletes.iter();
    let is_deletion = before
        .op
        .is_some_and(|told_by| deletes.any(|op| op.op == told_by));
    !leads.may_be_stale(from, until)
        && (is_deletion || !leads.began_at(before.offset, before.until))
}

fn copies(seen: &Seeing, violations: &mut Violations) {
    let mut known: BTreeMap<(&str, usize), i64> = BTreeMap::new();
    for copy in &seen.log.copies {
        let (node, start) = (copy.node, copy.start.offset);
        let Some(era) = seen.era_of(&copy.start) else {
            continue;
        };
        let before = known.insert((node, era), start);
        if let Some(before) = before.filter(|before| start < *before && start < copy.end) {
            let detail = format!("{node}: the log begins at {start} after {before}");
            violations.add(violation("K6", copy.start.until, seen.of, &[], detail));
        }
    }
}

fn deletes(seen: &Seeing, violations: &mut Violations) {
    let ends = Highest::of(seen, &acked_ends(seen));
    for op in &seen.log.deletes {
        let (Call::DeleteRecords { before, .. }, Some(Answer::DeleteRecords { log_start_offset })) =
            (&op.call, op.answer())
        else {
            continue;
        };
        let asked = match seen.era(op) {
            _ if *before >= 0 => Some(*before),
            Some(era) => ends.before(era, op.invoked).map(|end| end.offset),
            None => None,
        };
        let may_be_stale = *before < 0 && seen.log.leads.may_be_stale(op.invoked, op.returned);
        if asked.is_some_and(|asked| *log_start_offset < asked) && !may_be_stale {
            let detail = format!(
                "records up to {} were to go and the log starts at {log_start_offset}",
                asked.unwrap_or_default()
            );
            violations.add(violation("K6", op.returned, seen.of, &[op.op], detail));
        }
    }
}

fn acked_ends(seen: &Seeing) -> Vec<Told> {
    let acked = seen.log.acked.iter();
    acked
        .map(|one| Told {
            offset: one.offset + 1,
            from: one.op.invoked,
            until: one.op.returned,
            op: Some(one.op.op),
        })
        .collect()
}

/// The highest offset that had been told before a time.
pub(super) struct Highest {
    /// For each era, by the ends of the answers, each with the highest up to it.
    by_era: BTreeMap<usize, Vec<(u64, Told)>>,
}

impl Highest {
    pub fn of(seen: &Seeing, told: &[Told]) -> Self {
        let mut sorted: Vec<&Told> = told.iter().collect();
        sorted.sort_by_key(|one| one.until);
        let mut by_era: BTreeMap<usize, Vec<(u64, Told)>> = BTreeMap::new();
        for one in sorted {
            let Some(era) = seen.era_of(one) else {
                continue;
            };
            let era = by_era.entry(era).or_default();
            let highest = match era.last() {
                Some((_, highest)) if highest.offset >= one.offset => *highest,
                _ => *one,
            };
            era.push((one.until, highest));
        }
        Self { by_era }
    }

    pub fn before(&self, era: usize, time: u64) -> Option<Told> {
        let told = self.by_era.get(&era)?;
        let before = told.partition_point(|(until, _)| *until < time);
        told[..before].last().map(|(_, highest)| *highest)
    }
}
