//! CG2: generations only grow, and one generation is one assignment.
//!
//! - A join that was invoked after another had returned does not get a smaller generation, whatever
//!   became of the coordinator between.
//! - A member that is told its assignment in a generation twice is told the same.
//!
//! Silent where the group may have begun anew between the two joins (see [`super::facts`]): a group
//! that vanished counts from 1 again. Generations beyond the largest number are not foreseen.

use std::collections::BTreeMap;

use super::facts::{Group, Joined};
use super::violation;
use crate::checker::Violations;

pub(super) fn check(name: &str, group: &Group, violations: &mut Violations) {
    let mut by_invocation: Vec<&Joined> = group.joins.iter().collect();
    by_invocation.sort_by_key(|joined| joined.op.invoked);
    let mut returned = group.joins.iter().peekable();
    let mut highest: Option<&Joined> = None;
    let mut latest: Option<&Joined> = None;
    for joined in by_invocation {
        while let Some(before) = returned.next_if(|one| one.op.returned < joined.op.invoked) {
            latest = Some(before);
            if highest.is_none_or(|known| known.generation <= before.generation) {
                highest = Some(before);
            }
        }
        for before in [highest, latest].into_iter().flatten() {
            if before.generation > joined.generation && group.lasts(before, joined.op.returned) {
                let detail = format!(
                    "{} joined {name} in generation {} after {} had joined in {}",
                    joined.member, joined.generation, before.member, before.generation
                );
                let operations = [before.op.op, joined.op.op];
                let time = joined.op.returned;
                violations.add(violation("CG2", time, None, &operations, detail));
                break;
            }
        }
    }
    one_assignment(name, group, violations);
}

fn one_assignment(name: &str, group: &Group, violations: &mut Violations) {
    let mut known: BTreeMap<(&str, i32), &Joined> = BTreeMap::new();
    for joined in &group.joins {
        let Some(before) = known.insert((joined.member, joined.generation), joined) else {
            continue;
        };
        let sorted = |joined: &Joined| {
            let mut assigned = joined.assigned.to_vec();
            assigned.sort();
            assigned
        };
        if sorted(before) != sorted(joined) && group.is_one(before, joined) {
            let detail = format!(
                "{} was told two assignments in generation {} of {name}: {:?} and {:?}",
                joined.member, joined.generation, before.assigned, joined.assigned
            );
            let operations = [before.op.op, joined.op.op];
            let time = joined.op.returned;
            violations.add(violation("CG2", time, None, &operations, detail));
        }
    }
}
