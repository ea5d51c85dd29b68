//! K2: what survives compaction is what it was, and what is gone stays gone.
//!
//! On topics that may have been compacted, within one era:
//!
//! - a record read at an offset has the id, key, content and timestamp of what was acknowledged
//!   there with acks=all, and of every other read there (timestamps of a broker that stamps are
//!   compared with what it told);
//! - an offset that one fetch passed over (it asked at or below and gave a record above) is not
//!   given by a fetch that was invoked after that one had returned, as long as no node started
//!   between: a crash may undo a clean.
//!
//! Silent on damaged partitions.

use std::collections::BTreeMap;

use super::facts::Seeing;
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
            };
            known.entry((era, acked.offset)).or_insert(content);
        }
    }
    for (op, fetched) in &seen.log.reads {
        let Some(era) = seen.era(op) else {
            continue;
        };
        for record in &fetched.records {
            let content = Content {
                id: record.id,
                key: record.key.as_deref(),
                is_tombstone: record.tombstone,
                digest: record.digest,
                timestamp: Some(record.timestamp),
                op: op.op,
            };
            let at = (era, record.offset);
            if let Some(before) = known.get(&at) {
                if before.differs(&content) {
                    let detail = format!("the record at {} is not what it was", record.offset);
                    let operations = [before.op, op.op];
                    violations.add(violation("K2", op.returned, seen.of, &operations, detail));
                }
            } else {
                known.insert(at, content);
            }
        }
    }
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
    let mut by_return: Vec<_> = seen.log.reads.iter().collect();
    by_return.sort_by_key(|(op, _)| op.returned);
    let mut by_return = by_return.into_iter().peekable();
    // The era and number of starts that what was passed over belongs to.
    let mut current = None;
    let mut passed = Passed::default();
    let incarnation = |op: &Operation| {
        let restarts = &seen.log.restarts;
        let before = restarts.partition_point(|at| *at <= op.invoked);
        let until = restarts.partition_point(|at| *at <= op.returned);
        let era = seen.era(op)?;
        (before == until).then_some((era, before))
    };
    for (op, fetched) in &seen.log.reads {
        let Some(this) = incarnation(op) else {
            continue;
        };
        if current != Some(this) {
            current = Some(this);
            passed = Passed::default();
        }
        while let Some((before, answer)) = by_return.next_if(|(one, _)| one.returned < op.invoked) {
            if incarnation(before) == current {
                passed.pass(before, answer);
            }
        }
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
