//! P14, second half: the answer to "the first record at or after this time" is that.
//!
//! The timestamp told is not below the time asked for, and is that of the record at the offset, if
//! that is known. No record that was known when the look-up began, above the log start, is as
//! late and below the offset told (or anywhere, if the answer is that there is none). Records that
//! became known only later are not held against it. A leader that was replaced and does not know it
//! ([`crate::checker::leaders`]) knows nothing of what was appended since: what it may have
//! answered is not held against records.
//!
//! Only the first rule holds on topics whose timestamps the broker sets, and for compacted topics
//! and damaged partitions. Silent where the look-up overlaps a deletion of the topic.

use std::collections::BTreeMap;

use crate::checker::leaders::{Leads, leads};
use crate::checker::{Index, Log, Timestamps, Violation, Violations};
use crate::history::{Answer, Call, ListedAt, Operation};

struct LookUp<'a> {
    operation: &'a Operation,
    time: i64,
    offset: i64,
    timestamp: i64,
}

pub fn check(index: &Index<'_>, found: &mut Violations) {
    let mut by_log: BTreeMap<usize, Vec<LookUp<'_>>> = BTreeMap::new();
    for operation in &index.history.operations {
        if let (Call::ListOffsets { of, at }, Some(answer)) = (&operation.call, operation.answer())
            && let ListedAt::Timestamp(time) = at
            && let Answer::ListOffsets {
                offset, timestamp, ..
            } = answer
            && let Some(log) = index.log_of(of, operation)
        {
            by_log.entry(log).or_default().push(LookUp {
                operation,
                time: *time,
                offset: *offset,
                timestamp: *timestamp,
            });
        }
    }
    let leads = leads(index.history);
    for (log, look_ups) in by_log {
        let log = &index.logs[log];
        judge(index, log, (&look_ups, leads.get(log.of)), found);
    }
}

/// The look-ups are in the order of their invocations; beside them, who led.
fn judge(
    index: &Index<'_>,
    log: &Log<'_>,
    (look_ups, leads): (&[LookUp<'_>], Option<&Leads>),
    found: &mut Violations,
) {
    let is_sent_time = index.topic(&log.of.topic).timestamps == Timestamps::Create;
    let is_exact = is_sent_time && !log.compacted && !log.damaged;
    let mut by_known: Vec<usize> = (0..log.facts.len()).collect();
    by_known.sort_by_key(|at| log.facts[*at].known());
    let mut by_known = by_known.into_iter().peekable();
    let mut known = Latest::new(log.facts.len());
    for look_up in look_ups {
        let wrong = |detail: String, by: Option<u64>| Violation {
            property: "P14",
            time: look_up.operation.returned,
            partition: Some(log.of.clone()),
            operations: by.into_iter().chain([look_up.operation.op]).collect(),
            detail: format!("asked for time {}: {detail}", look_up.time),
        };
        if look_up.offset >= 0 && look_up.timestamp < look_up.time {
            let detail = format!("offset {} of {}", look_up.offset, look_up.timestamp);
            found.add(wrong(detail, None));
        }
        if !is_exact {
            continue;
        }
        let before = look_up.operation.invoked;
        while let Some(at) = by_known.next_if(|at| log.facts[*at].known() < before) {
            if let Some(timestamp) = timestamp(index, log, at) {
                known.set(at, timestamp);
            }
        }
        let place = |offset: i64| log.facts.partition_point(|fact| fact.offset < offset);
        let end = if look_up.offset < 0 {
            log.facts.len()
        } else {
            place(look_up.offset)
        };
        let start = place(log.floor(look_up.operation.returned));
        let (from, until) = (look_up.operation.invoked, look_up.operation.returned);
        let may_be_stale = leads.is_some_and(|leads| leads.may_be_stale(from, until));
        if let Some(at) = known
            .first_at_least(start, look_up.time)
            .filter(|at| *at < end && !may_be_stale)
        {
            let fact = &log.facts[at];
            let detail = format!(
                "offset {}, and record {} at offset {} is as late",
                look_up.offset, fact.id, fact.offset
            );
            found.add(wrong(detail, Some(fact.told_by)));
        }
        let at = place(look_up.offset);
        let there = log
            .facts
            .get(at)
            .filter(|fact| fact.offset == look_up.offset);
        let sent = there.and_then(|_| timestamp(index, log, at));
        if sent.is_some_and(|sent| sent != look_up.timestamp) {
            let detail = format!("offset {} of {}", look_up.offset, look_up.timestamp);
            let detail = format!("{detail}, which was sent as of {sent:?}");
            found.add(wrong(detail, None));
        }
    }
}

/// As it was sent.
fn timestamp(index: &Index<'_>, log: &Log<'_>, at: usize) -> Option<i64> {
    let (sent, position) = index.sent(log.facts[at].id)?;
    Some(sent.records[position].timestamp)
}

/// Timestamps by place, and the highest of each power of two of places.
struct Latest {
    /// The highest of places `2 i` and `2 i + 1` of the level below is at `i`; the leaves are the
    /// second half.
    highest: Vec<i64>,
    leaves: usize,
}

impl Latest {
    fn new(places: usize) -> Self {
        let leaves = places.max(1).next_power_of_two();
        Self {
            highest: vec![i64::MIN; 2 * leaves],
            leaves,
        }
    }

    fn set(&mut self, place: usize, timestamp: i64) {
        let mut at = self.leaves + place;
        while at > 0 {
            self.highest[at] = self.highest[at].max(timestamp);
            at /= 2;
        }
    }

    /// The first place from `start` on that has `timestamp` or a later one.
    fn first_at_least(&self, start: usize, timestamp: i64) -> Option<usize> {
        if start >= self.leaves {
            return None;
        }
        let mut at = self.leaves + start;
        while self.highest[at] < timestamp || self.highest[at] == i64::MIN {
            // On to the right: up while it is a right child, then across.
            while at % 2 == 1 {
                at /= 2;
            }
            if at == 0 {
                return None;
            }
            at += 1;
        }
        while at < self.leaves {
            at *= 2;
            if self.highest[at] < timestamp {
                at += 1;
            }
        }
        Some(at - self.leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::Latest;

    #[test]
    fn the_first_place_that_is_late_enough_is_found_from_anywhere() {
        let times = [3, 9, 1, 4, 4, 12, 2];
        let mut latest = Latest::new(times.len());
        for (place, time) in times.iter().enumerate() {
            latest.set(place, *time);
        }
        for start in 0..10 {
            for wanted in 0..14 {
                let expected = (start..times.len()).find(|place| times[*place] >= wanted);
                assert_eq!(latest.first_at_least(start, wanted), expected);
            }
        }
    }
}
