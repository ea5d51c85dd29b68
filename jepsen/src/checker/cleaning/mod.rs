//! What goes from a log, and what must not: compaction, retention, DeleteRecords.
//!
//! K4, K9 and K10, and what a crash leaves of a clean (K8), are seen by who looks at the disk; they
//! come as notes. The rest is judged from answers here.

mod clock;
mod compaction;
mod content;
mod facts;
mod log_start;
mod out_of_range;
mod retention;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_clusters;
mod topics;

pub(in crate::checker) use topics::Topics;

use super::{Options, Violation, Violations};
use crate::history::{History, Partition};

/// K1 to K3 and K5 to K7.
#[cfg(test)]
fn check(history: &History, violations: &mut Violations) {
    check_with(history, Options::default(), violations);
}

/// K1 to K3 and K5 to K7, for a broker whose promises are `options`.
pub fn check_with(history: &History, options: Options, violations: &mut Violations) {
    let topics = Topics::of(history);
    let clock = clock::Clock::of(history);
    for (of, log) in &facts::logs(history, options) {
        if topics.is_damaged(of) {
            continue;
        }
        let seen = facts::Seeing {
            of,
            log,
            topics: &topics,
            clock: &clock,
            options,
        };
        compaction::check(&seen, violations);
        content::check(&seen, violations);
        retention::check(&seen, violations);
        log_start::check(&seen, violations);
        out_of_range::check(&seen, violations);
    }
}

fn violation(
    property: &'static str,
    time: u64,
    of: &Partition,
    operations: &[u64],
    detail: String,
) -> Violation {
    Violation {
        property,
        time,
        partition: Some(of.clone()),
        operations: operations.to_vec(),
        detail,
    }
}
