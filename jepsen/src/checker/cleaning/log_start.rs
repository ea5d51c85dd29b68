//! K6: a log's start only moves up, and nothing below it is served.
//!
//! Within one era of the topic, also across restarts of the broker:
//!
//! - a start that was told (by ListOffsets, a fetch, a send, DeleteRecords or a node's note) is not
//!   below one that was told before it was asked for;
//! - DeleteRecords answers a start of at least what it was asked for; asked for the high watermark
//!   (-1), at least the end of every batch that was acknowledged with acks=all before;
//! - no fetch gives a record below a start that was told before it was invoked.
//!
//! Silent on partitions that were damaged, and on answers that span the end of an era.

use std::collections::BTreeMap;

use super::facts::{Seeing, Told};
use super::violation;
use crate::checker::Violations;
use crate::history::{Answer, Call};

pub(super) fn check(seen: &Seeing, violations: &mut Violations) {
    let highest = Highest::of(seen, &seen.log.starts);
    for told in &seen.log.starts {
        if let Some(era) = seen.era_of(told)
            && let Some(before) = highest.before(era, told.from)
            && before.offset > told.offset
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
        let Some(era) = seen.era(op) else {
            continue;
        };
        let Some(start) = highest.before(era, op.invoked) else {
            continue;
        };
        if let Some(record) = fetched.records.iter().find(|one| one.offset < start.offset) {
            let detail = format!(
                "offset {} was read though the log had been told to start at {}",
                record.offset, start.offset
            );
            let operations: Vec<u64> = start.op.into_iter().chain([op.op]).collect();
            violations.add(violation("K6", op.returned, seen.of, &operations, detail));
        }
    }
    deletes(seen, violations);
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
        if asked.is_some_and(|asked| *log_start_offset < asked) {
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
