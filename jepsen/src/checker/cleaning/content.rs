//! K2: what survives compaction is what it was, and what is gone stays gone.
//!
//! On topics that may have been compacted, within one era:
//!
//! - a record read at an offset has the id, key, content and timestamp of what was acknowledged
//!   there with acks=all, and of every other read there (timestamps of a broker that stamps are
//!   compared with what it told);
//!   where somebody may have answered for a topic of this name that was deleted, that may also be
//!   what was in an earlier era, if anything is known of it there;
//! - an offset that one fetch passed over (it asked at or below and gave a record above) is not
//!   given by a fetch that was invoked after that one had returned, out of the same copy of the
//!   log. Every replica compacts its own, so another leader may still have what is gone from that
//!   of the one before it; and a crash may undo a clean. Where there is one node, it has one copy
//!   from a start to the next; of others the notes on leaders tell, and an answer is not judged
//!   during which the leader changed, or one that was replaced may not have known it.
//!
//! Silent on damaged partitions. Answers out of a client's buffer (without any end of the log) may
//! be older than their question, and are judged by the first rule only.

use std::collections::BTreeMap;

use super::facts::{Seeing, is_direct};
use super::violation;
use crate::checker::Violations;
use crate::history::{Fetched, Operation};

/// What is at an offset, and the operation that told.
struct Content<'a> {
    id: Option<u64>,
    key: Option<&'a str>,
    is_tombstone: bool,
    digest: u32,
    /// Absent where what was told cannot be compared.
    timestamp: Option<i64>,
    op: u64,
    /// When that was told.
    told: u64,
}

impl Content<'_> {
    fn differs(&self, other: &Self) -> bool {
        let times = self.timestamp.zip(other.timestamp);
        (self.id, self.key, self.is_tombstone, self.digest)
            != (other.id, other.key, other.is_tombstone, other.digest)
            || times.is_some_and(|(one, other)| one != other)
    }
}

pub(super) fn check(seen: &Seeing, violations: &mut Violations) {
    if !seen.topics.is_ever_compacted(seen.topic()) {
        return;
    }
    same_content(seen, violations);
    comes_back(seen, violations);
}

fn same_content(seen: &Seeing, violations: &mut Violations) {
    let types = seen.topics.values(seen.topic(), "message.timestamp.type");
    let is_stamped = types.contains(&Some("LogAppendTime"));
    let mut known: BTreeMap<(usize, i64), Content> = BTreeMap::new();
    for acked in &seen.log.acked {
        if let Some(era) = seen.era(acked.op) {
            let timestamp = match acked.log_append_time {
                time if time >= 0 => Some(time),
                _ => (!is_stamped).then_some(acked.record.timestamp),
            };
            let content = Content {
                id: Some(acked.record.id),
                key: acked.record.key.as_deref(),
                is_tombstone: acked.record.tombstone,
                digest: acked.record.digest,
                timestamp,
                op: acked.op.op,
                told: acked.op.returned,
            };
            known.entry((era, acked.offset)).or_insert(content);
        }
    }
    for (op, fetched) in &seen.log.reads {
        let Some(era) = seen.era(op) else {
            continue;
        };
        let may_be_outlived = seen.log.leads.may_be_outlived(op.invoked, op.returned);
        for record in &fetched.records {
            let content = Content {
                id: record.id,
                key: record.key.as_deref(),
                is_tombstone: record.tombstone,
                digest: record.digest,
                timestamp: Some(record.timestamp),
                op: op.op,
                told: op.returned,
            };
            let at = (era, record.offset);
            if may_be_outlived && was_so(&known, at, &content) {
                continue;
            }
            if let Some(before) = known.get(&at) {
                if before.differs(&content) {
                    let detail = format!("the record at {} is not what it was", record.offset);
                    let operations = [before.op, op.op];
                    let time = before.told.max(op.returned);
                    violations.add(violation("K2", time, seen.of, &operations, detail));
                }
            } else {
                known.insert(at, content);
            }
        }
    }
}

/// Whether the record may be that of an earlier era than that of `at`: one has it there, or nothing
/// is known of what any had there.
fn was_so(known: &BTreeMap<(usize, i64), Content>, at: (usize, i64), content: &Content) -> bool {
    let (era, offset) = at;
    let earlier = (0..era).filter_map(|era| known.get(&(era, offset)));
    let mut differ = earlier.map(|before| before.differs(content)).peekable();
    differ.peek().is_none() || differ.any(|differs| !differs)
}

/// Offsets that were passed over: spans apart from each other, by their ends' and beginnings.
#[derive(Default)]
struct Passed {
    /// From each beginning to the end and who passed.
    spans: BTreeMap<i64, (i64, u64)>,
}

impl Passed {
    fn add(&mut self, mut from: i64, mut until: i64, op: u64) {
        if from >= until || self.covers(from).is_some_and(|(end, _)| end >= until) {
            return;
        }
        let overlapping = |spans: &BTreeMap<i64, (i64, u64)>, from: i64, until: i64| {
            let before = spans.range(..=until).next_back();
            before
                .filter(|(_, (end, _))| *end >= from)
                .map(|(begin, (end, _))| (*begin, *end))
        };
        while let Some((begin, end)) = overlapping(&self.spans, from, until) {
            self.spans.remove(&begin);
            from = from.min(begin);
            until = until.max(end);
        }
        self.spans.insert(from, (until, op));
    }

    /// The end of the span that holds this offset, and who passed over it.
    fn covers(&self, offset: i64) -> Option<(i64, u64)> {
        let (_, (end, op)) = self.spans.range(..=offset).next_back()?;
        (*end > offset).then_some((*end, *op))
    }

    fn pass(&mut self, op: &Operation, fetched: &Fetched) {
        let mut next = fetched.from;
        for record in &fetched.records {
            self.add(next, record.offset, op.op);
            next = next.max(record.offset + 1);
        }
    }
}

fn comes_back(seen: &Seeing, violations: &mut Violations) {
    // The era, and the copy of the log, or the number of starts before.
    let answering = |op: &Operation| {
        let era = seen.era(op)?;
        if seen.options.replicated {
            let copy = seen.log.leads.copy_answering(op.invoked, op.returned)?;
            return Some((era, copy));
        }
        let restarts = &seen.log.restarts;
        let before = restarts.partition_point(|at| *at <= op.invoked);
        let until = restarts.partition_point(|at| *at <= op.returned);
        let starts = u64::try_from(before).ok()?;
        (before == until).then_some((era, starts))
    };
    let reads = seen.log.reads.iter();
    let direct = reads.filter(|(_, fetched)| is_direct(fetched));
    let placed = direct.filter_map(|(op, fetched)| Some((answering(op)?, *op, *fetched)));
    let placed: Vec<_> = placed.collect();
    let mut by_return = placed.clone();
    by_return.sort_by_key(|(_, op, _)| op.returned);
    let mut by_return = by_return.into_iter().peekable();
    let mut passed: BTreeMap<(usize, u64), Passed> = BTreeMap::new();
    for (copy, op, fetched) in placed {
        while let Some((of, before, answer)) =
            by_return.next_if(|(_, one, _)| one.returned < op.invoked)
        {
            passed.entry(of).or_default().pass(before, answer);
        }
        let Some(passed) = passed.get(&copy) else {
            continue;
        };
        let back = fetched.records.iter().find_map(|record| {
            let (_, by) = passed.covers(record.offset)?;
            Some((record.offset, by))
        });
        if let Some((offset, by)) = back {
            let detail = format!("the record at {offset} came back after it had been gone");
            let operations = [by, op.op];
            violations.add(violation("K2", op.returned, seen.of, &operations, detail));
        }
    }
}
