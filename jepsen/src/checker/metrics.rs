//! How far readers were behind: figures, not verdicts (P13 before the final phase).

use super::index::NEVER;
use super::{Index, Log};

/// Times are nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Partitions of answers to reads.
    pub polls: u64,
    /// Of these, those after which a record that was known when the read began was still unread.
    pub behind: u64,
    /// The highest age, at a read's beginning, of the oldest record that was known then and that
    /// the read did not come up to.
    pub realtime_lag_max: u64,
    /// The sum of all, for a mean over `polls`.
    pub realtime_lag_total: u128,
    /// The most records at one time that were acknowledged and had not been read.
    pub unseen_max: u64,
    /// Those that never were.
    pub unseen_at_end: u64,
}

/// Measures the history of `index`.
#[must_use]
pub fn metrics(index: &Index<'_>) -> Metrics {
    let mut metrics = Metrics::default();
    for log in &index.logs {
        lag(index, log, &mut metrics);
    }
    unseen(index, &mut metrics);
    metrics
}

fn lag(index: &Index<'_>, log: &Log<'_>, metrics: &mut Metrics) {
    // The time at which the first of all facts from here on became known.
    let mut earliest = vec![NEVER; log.facts.len() + 1];
    for (at, fact) in log.facts.iter().enumerate().rev() {
        earliest[at] = earliest[at + 1].min(fact.known());
    }
    for poll in log.polls.iter().map(|at| &index.polls[*at]) {
        let last = poll.fetched.records.last();
        let next = last.map_or(poll.fetched.from, |seen| seen.offset.saturating_add(1));
        let floor = log.floor(poll.operation.returned);
        let next = next.max(floor);
        let at = log.facts.partition_point(|fact| fact.offset < next);
        let lag = poll.operation.invoked.saturating_sub(earliest[at]);
        metrics.polls += 1;
        metrics.behind += u64::from(lag > 0);
        metrics.realtime_lag_max = metrics.realtime_lag_max.max(lag);
        metrics.realtime_lag_total += u128::from(lag);
    }
}

fn unseen(index: &Index<'_>, metrics: &mut Metrics) {
    let facts = index.logs.iter().flat_map(|log| &log.facts);
    let late = facts.filter(|fact| fact.acked != NEVER && fact.acked < fact.seen);
    let mut changes: Vec<(u64, bool)> = late
        .flat_map(|fact| [(fact.acked, true), (fact.seen, false)])
        .filter(|(time, _)| *time != NEVER)
        .collect();
    changes.sort_unstable();
    let mut unseen = 0u64;
    for (_, is_more) in changes {
        unseen = if is_more {
            unseen + 1
        } else {
            unseen.saturating_sub(1)
        };
        metrics.unseen_max = metrics.unseen_max.max(unseen);
    }
    metrics.unseen_at_end = unseen;
}
