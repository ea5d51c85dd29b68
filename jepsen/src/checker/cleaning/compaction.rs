//! K1 and K3: compaction keeps the last record of each key, and tombstones long enough.
//!
//! Judged of topics that were compacted and nothing else all the time, by the final reads, which
//! gave everything between the ends that they found. Of each key, the record with the highest
//! offset that was acknowledged with acks=all or read by anybody in this era must be among them if
//! it lies between those ends.
//!
//! A tombstone may be gone, and so may a record that a tombstone of unknown offset may have
//! replaced; but only `delete.retention.ms` after that tombstone was sent (the smallest value ever
//! set counts). Until then even its absence is a violation (K3): so whoever reads all from the
//! start within that time sees the final state. A later record that is none would itself be among
//! what was read.
//!
//! Silent on records without keys, on damaged partitions, on topics that may lose what they showed,
//! and about tombstones where the broker's clock is not known (see [`super::clock`]).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Seeing;
use super::violation;
use crate::checker::Violations;

const DAY_MS: i64 = 24 * 3_600_000;

/// The last that is known of a key.
#[derive(Debug, Clone, Copy)]
struct Last {
    offset: i64,
    is_tombstone: bool,
    op: u64,
    /// When it may have been sent, at the earliest.
    since: u64,
}

pub(super) fn check(seen: &Seeing, violations: &mut Violations) {
    let (topics, topic) = (seen.topics, seen.topic());
    if !topics.is_only_compacted(topic) || topics.is_loose(topic) {
        return;
    }
    let Some((time, ends)) = seen.log.wanted else {
        return;
    };
    if seen.log.final_from > time {
        return;
    }
    let Some(era) = topics.era(topic, seen.log.final_from, time) else {
        return;
    };
    let read = seen.log.reads.iter();
    let read = read.filter(|(op, _)| op.invoked >= seen.log.final_from);
    let present: BTreeSet<i64> = read
        .flat_map(|(_, fetched)| fetched.records.iter().map(|record| record.offset))
        .collect();
    let tombstones = vague_tombstones(seen);
    let retention = topics.least(topic, "delete.retention.ms", DAY_MS);
    for (key, last) in last_of_keys(seen, era) {
        let is_between = (ends.log_start_offset..ends.log_end_offset).contains(&last.offset);
        if !is_between || present.contains(&last.offset) {
            continue;
        }
        let own = last.is_tombstone.then_some(last.since);
        let excuse = own.into_iter().chain(tombstones.get(key).copied()).min();
        let property = match excuse {
            None => "K1",
            Some(since) => match seen.clock.most_between(since, time) {
                Some(span) if span < retention => "K3",
                _ => continue,
            },
        };
        let what = if last.is_tombstone {
            "tombstone"
        } else {
            "record"
        };
        let detail = format!(
            "the last {what} of key {key:?}, at {}, is not in what was left between {} and {}",
            last.offset, ends.log_start_offset, ends.log_end_offset
        );
        violations.add(violation(property, time, seen.of, &[last.op], detail));
    }
}

fn last_of_keys<'a>(seen: &Seeing<'a>, era: usize) -> BTreeMap<&'a str, Last> {
    let mut known: BTreeMap<&str, Last> = BTreeMap::new();
    let mut add = |key: &'a Option<String>, last: Last| {
        let Some(key) = key else {
            return;
        };
        let entry = known.entry(key).or_insert(last);
        if entry.offset < last.offset {
            *entry = last;
        }
    };
    let log: &'a super::facts::Log<'a> = seen.log;
    for acked in &log.acked {
        if seen.era(acked.op) == Some(era) {
            let last = Last {
                offset: acked.offset,
                is_tombstone: acked.record.tombstone,
                op: acked.op.op,
                since: acked.op.invoked,
            };
            add(&acked.record.key, last);
        }
    }
    let sent = vague_ids(seen);
    for (op, fetched) in &log.reads {
        if seen.era(op) != Some(era) {
            continue;
        }
        for record in &fetched.records {
            let sent = record.id.and_then(|id| sent.get(&id)).copied();
            let last = Last {
                offset: record.offset,
                is_tombstone: record.tombstone,
                op: op.op,
                since: sent.unwrap_or(0),
            };
            add(&record.key, last);
        }
    }
    known
}

/// When records whose offsets no answer told were sent.
fn vague_ids(seen: &Seeing) -> BTreeMap<u64, u64> {
    let vague = seen.log.vague.iter();
    vague.map(|(op, record)| (record.id, op.invoked)).collect()
}

/// Of each key, when a tombstone was sent first of which it is not known where it is.
fn vague_tombstones<'a>(seen: &Seeing<'a>) -> BTreeMap<&'a str, u64> {
    let mut first: BTreeMap<&str, u64> = BTreeMap::new();
    for (op, record) in &seen.log.vague {
        if let Some(key) = record.key.as_deref().filter(|_| record.tombstone) {
            let at = first.entry(key).or_insert(op.invoked);
            *at = op.invoked.min(*at);
        }
    }
    first
}
