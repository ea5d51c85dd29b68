//! K5: what retention must keep is there.
//!
//! A record that was acknowledged with acks=all is not below a start that the log was told to have,
//! unless somebody may have asked by then to delete the records up to beyond it, or retention may
//! have taken it. Retention takes nothing from a topic that is only compacted, and nothing by time
//! that is younger than `retention.ms`: a segment is as old as its youngest record. Its age is at
//! most the latest that the broker's clock showed until then (see [`super::clock`]) less the
//! record's own timestamp.
//!
//! Silent about time where the broker's clock is not known, where `retention.bytes` was ever set
//! (sizes are not in the history), and on topics that are compacted and expire too; the smallest
//! `retention.ms` that was ever set counts, a week if none was, and nothing is said of topics
//! without one if the broker has a retention of its own.

use std::collections::BTreeMap;

use super::facts::{Acked, Seeing, Told};
use super::violation;
use crate::checker::Violations;
use crate::history::Call;

const WEEK_MS: i64 = 7 * 24 * 3_600_000;

pub(super) fn check(seen: &Seeing, violations: &mut Violations) {
    let rule = Rule::of(seen);
    if matches!(rule, Rule::Unknown) {
        return;
    }
    let mut by_era: BTreeMap<usize, Vec<&Acked>> = BTreeMap::new();
    for acked in &seen.log.acked {
        if let Some(era) = seen.era(acked.op) {
            by_era.entry(era).or_default().push(acked);
        }
    }
    for acked in by_era.values_mut() {
        acked.sort_by_key(|acked| acked.offset);
    }
    let asked = asked_to_go(seen);
    let copies = seen.log.copies.iter().map(|copy| &copy.start);
    let mut starts: Vec<&Told> = seen.log.starts.iter().chain(copies).collect();
    starts.sort_by_key(|told| told.until);
    // Of each era, how many are known to be gone.
    let mut gone: BTreeMap<usize, usize> = BTreeMap::new();
    for told in starts {
        let Some(era) = seen.era_of(told) else {
            continue;
        };
        let Some(acked) = by_era.get(&era) else {
            continue;
        };
        let done = gone.entry(era).or_default();
        let first = *done;
        *done = first.max(acked.partition_point(|one| one.offset < told.offset));
        let at = asked.partition_point(|(invoked, _)| *invoked <= told.until);
        let may_go = asked[..at].last().map_or(0, |(_, before)| *before);
        let lost = acked[first..*done].iter().find(|one| {
            one.offset >= may_go && one.op.invoked <= told.until && rule.keeps(seen, one, told)
        });
        if let Some(lost) = lost {
            let detail = format!(
                "the log starts at {} and the record at {}, of time {}, had to stay",
                told.offset, lost.offset, lost.record.timestamp
            );
            let operations: Vec<u64> = [lost.op.op].into_iter().chain(told.op).collect();
            violations.add(violation("K5", told.until, seen.of, &operations, detail));
        }
    }
}

/// By invocation, up to where records may have been asked to go by then.
fn asked_to_go(seen: &Seeing) -> Vec<(u64, i64)> {
    let mut most = 0;
    let deletes = seen.log.deletes.iter();
    deletes
        .map(|op| {
            if let Call::DeleteRecords { before, .. } = op.call {
                most = most.max(if before < 0 { i64::MAX } else { before });
            }
            (op.invoked, most)
        })
        .collect()
}

/// What may take records.
enum Rule {
    Nothing,
    /// Time alone, after so many milliseconds.
    Time {
        retention_ms: i64,
        is_stamped: bool,
    },
    Unknown,
}

impl Rule {
    fn of(seen: &Seeing) -> Self {
        let (topics, topic) = (seen.topics, seen.topic());
        if topics.is_only_compacted(topic) {
            return Self::Nothing;
        }
        let is_bounded = topics
            .values(topic, "retention.bytes")
            .iter()
            .any(|value| value.is_some_and(|text| !text.starts_with('-')));
        if is_bounded || topics.is_ever_compacted(topic) {
            return Self::Unknown;
        }
        let is_said = !topics.values(topic, "retention.ms").contains(&None);
        if seen.options.retention && !is_said {
            return Self::Unknown;
        }
        let types = topics.values(topic, "message.timestamp.type");
        Self::Time {
            retention_ms: topics.least(topic, "retention.ms", WEEK_MS),
            is_stamped: types.contains(&Some("LogAppendTime")),
        }
    }

    fn keeps(&self, seen: &Seeing, acked: &Acked, told: &Told) -> bool {
        match *self {
            Self::Nothing => true,
            Self::Unknown => false,
            Self::Time {
                retention_ms,
                is_stamped,
            } => {
                let timestamp = match acked.log_append_time {
                    time if time >= 0 => time,
                    _ if is_stamped => return false,
                    _ => acked.record.timestamp,
                };
                // Without a time of its own a record is kept, not aged.
                let age = seen
                    .clock
                    .latest(told.until)
                    .map(|now| now.saturating_sub(timestamp));
                timestamp >= 0 && age.is_some_and(|age| age <= retention_ms)
            }
        }
    }
}
