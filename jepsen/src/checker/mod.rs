//! Which properties a history breaks.
//!
//! One file a property, or a few that are one scan; each says in its doc what it demands and when
//! it is silent. All are at most O(n log n) in the length of the history.

mod cleaning;
mod group;
mod state;
#[cfg(test)]
mod story;
mod violation;

pub use violation::{Violation, Violations};

use crate::history::History;

/// What a checker is: all it knows is the history.
pub type Check = fn(&History, &mut Violations);

/// Every checker.
pub const CHECKS: &[Check] = &[group::check, cleaning::check, state::check];

/// Every violation, those of the lowest times first.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Violations::default();
    for check in CHECKS {
        check(history, &mut found);
    }
    found.into_sorted()
}
