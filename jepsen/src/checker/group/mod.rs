//! Groups: who owns what, who is still a member, what was committed.
//!
//! Everything is judged from answers. What became of a group's internal log is the run's own to
//! look at (CG7, a note). [`facts`] says when a member is in its group for certain and when a group
//! may have begun anew; the checkers are silent where it is not certain.

mod assignment;
mod facts;
mod fenced;
mod fencing;
mod generation;
mod offsets;
#[cfg(test)]
mod offsets_tests;
mod ownership;
mod register;
#[cfg(test)]
mod register_tests;
mod stability;
mod statics;
#[cfg(test)]
mod tests;

use super::{Violation, Violations};
use crate::history::{History, Partition};

/// CG1 to CG6, CG8 and CG9.
pub fn check(history: &History, violations: &mut Violations) {
    let groups = facts::Groups::of(history);
    for (name, group) in &groups.by_name {
        if !groups.is_damaged {
            ownership::check(name, group, violations);
            generation::check(name, group, violations);
            fencing::check(name, group, violations);
            fenced::check(name, group, violations);
            statics::check(name, group, violations);
        }
        offsets::check(name, group, &groups, violations);
        assignment::check(name, group, &groups, violations);
        stability::check(name, group, &groups, violations);
    }
}

fn violation(
    property: &'static str,
    time: u64,
    partition: Option<&Partition>,
    operations: &[u64],
    detail: String,
) -> Violation {
    Violation {
        property,
        time,
        partition: partition.cloned(),
        operations: operations.to_vec(),
        detail,
    }
}
