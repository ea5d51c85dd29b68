//! K7: a position is out of range only outside of the log.
//!
//! A fetch is refused with OFFSET_OUT_OF_RANGE only if it asked below a start that the log may have
//! had by the end of the fetch, or above an end that it may have had. The start was not above any
//! that was told to somebody who asked later; the end was not below what had been acknowledged with
//! acks=all or shown as high watermark before. Silent where nothing was told later in the era, on
//! damaged partitions, and on topics that may lose what they showed.
//!
//! In a cluster one replica's position is not another's: what nodes note of their copies is not
//! counted, nor are answers of a time in which a leader that was replaced may have given them (see
//! [`crate::checker::leaders`]); and a leader may begin with a log that begins later than that of
//! whoever leads after it, as K6 says.

use std::collections::BTreeMap;

use super::facts::{Seeing, Told};
use super::log_start::Highest;
use super::violation;
use crate::checker::Violations;

pub(super) fn check(seen: &Seeing, violations: &mut Violations) {
    if seen.topics.is_loose(seen.topic()) {
        return;
    }
    let refused = seen
        .log
        .reads
        .iter()
        .filter(|(_, fetched)| fetched.error.as_deref() == Some("OFFSET_OUT_OF_RANGE"));
    let mut refused = refused.peekable();
    if refused.peek().is_none() {
        return;
    }
    let ends = Highest::of(seen, &seen.log.ends);
    let (starts, leads) = (lowest_later(seen), &seen.log.leads);
    for (op, fetched) in refused {
        let Some(era) = seen.era(op) else {
            continue;
        };
        let later = starts.get(&era).and_then(|told| {
            let at = told.partition_point(|(from, _)| *from <= op.returned);
            told.get(at).map(|(_, lowest)| *lowest)
        });
        let end = ends.before(era, op.invoked);
        if let (Some(start), Some(end)) = (later, end)
            && (start.offset..=end.offset).contains(&fetched.from)
            && !leads.may_be_stale(op.invoked, op.returned)
            && !leads.fell_back(fetched.from, op.returned, start.until)
        {
            let detail = format!(
                "{} was out of range though the log began at {} at most and ended at {} at least",
                fetched.from, start.offset, end.offset
            );
            let known = start.op.into_iter().chain(end.op);
            let operations: Vec<u64> = known.chain([op.op]).collect();
            violations.add(violation("K7", op.returned, seen.of, &operations, detail));
        }
    }
}

/// For each era, by the beginnings of the questions, the lowest start told from each on.
fn lowest_later(seen: &Seeing) -> BTreeMap<usize, Vec<(u64, Told)>> {
    let leads = &seen.log.leads;
    let sure = |told: &&Told| !leads.may_be_stale(told.from, told.until);
    let mut sorted: Vec<&Told> = seen.log.starts.iter().filter(sure).collect();
    sorted.sort_by_key(|told| std::cmp::Reverse(told.from));
    let mut by_era: BTreeMap<usize, Vec<(u64, Told)>> = BTreeMap::new();
    for told in sorted {
        let Some(era) = seen.era_of(told) else {
            continue;
        };
        let era = by_era.entry(era).or_default();
        let lowest = match era.last() {
            Some((_, lowest)) if lowest.offset <= told.offset => *lowest,
            _ => *told,
        };
        era.push((told.from, lowest));
    }
    for era in by_era.values_mut() {
        era.reverse();
    }
    by_era
}
