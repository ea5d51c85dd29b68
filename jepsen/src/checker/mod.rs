//! Which properties a history breaks.
//!
//! One file a property, or a few that are one scan; each says in its doc what it demands and when
//! it is silent. All are at most O(n log n) in the length of the history, and all read the same
//! [`Index`] of it.

mod cleaning;
mod control;
mod group;
mod index;
mod leaders;
pub mod linear;
mod log;
mod metrics;
pub mod mirror;
mod options;
mod state;
#[cfg(test)]
pub(crate) mod story;
#[cfg(test)]
mod tests;
mod violation;

pub use index::{Fact, Index, Log, Poll, Sent, Timestamps, Topic};
pub use metrics::{Metrics, metrics};
pub use options::Options;
pub use violation::{Violation, Violations};

use crate::history::History;

/// What a checker is: all it knows is the history and what the broker promises.
pub type Check = fn(&Index<'_>, &mut Violations);

/// Every checker.
pub const CHECKS: &[Check] = &[
    log::inconsistent_offset::check,
    log::lost_write::check,
    log::duplicate::check,
    log::phantom::check,
    log::within_poll::check,
    log::between_polls::check,
    log::send_order::check,
    log::batch::check,
    log::append_order::check,
    log::staleness::check,
    log::bounds::check,
    log::time_lookup::check,
    log::content::check,
    log::acknowledgement::check,
    log::read_bound::check,
    log::broken::check,
    |index, found| group::check(index.history, found),
    |index, found| cleaning::check_with(index.history, index.options, found),
    |index, found| state::check_with(index.history, index.options, found),
    control::check,
];

/// Every violation, those of the lowest times first.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    check_with(history, Options::default())
}

/// As [`check`], for a broker whose promises are `options`.
#[must_use]
pub fn check_with(history: &History, options: Options) -> Vec<Violation> {
    found(history, options).into_sorted()
}

/// All that the checkers found, and what they could not decide.
#[must_use]
pub fn found(history: &History, options: Options) -> Violations {
    let index = Index::new(history, options);
    let mut found = Violations::default();
    for check in CHECKS {
        check(&index, &mut found);
    }
    found
}
