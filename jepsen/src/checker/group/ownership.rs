//! CG1: no two members own a partition in one generation, nor one after another too early.
//!
//! - In one generation of a group a partition is in the assignment of one member. A static member
//!   that came back under a new id is the same member.
//! - A member that was acknowledged a partition owns it as long as its hold lasts (see
//!   [`super::facts`]): a later generation that gives it to another cannot be answered before.
//!   Only joins that were invoked after the owner's had returned are judged.
//!
//! Silent between two joins between which the group may have begun anew, and on the internal
//! topic's damage. A member that goes on under an old generation is CG3's.

use std::collections::BTreeMap;

use super::facts::{Group, Joined};
use super::violation;
use crate::checker::Violations;
use crate::history::Partition;

pub(super) fn check(name: &str, group: &Group, violations: &mut Violations) {
    let mut owners: BTreeMap<(i32, &Partition), &Joined> = BTreeMap::new();
    let mut latest: BTreeMap<&Partition, &Joined> = BTreeMap::new();
    for joined in &group.joins {
        for of in joined.assigned {
            if let Some(other) = owners.insert((joined.generation, of), joined)
                && is_another(other, joined)
                && group.is_one(other, joined)
            {
                let detail = format!(
                    "in generation {} of {name} both {} and {} were assigned it",
                    joined.generation, other.member, joined.member
                );
                add(violations, of, [other, joined], detail);
            }
            if let Some(owner) = latest.get(of) {
                if is_another(owner, joined) && is_too_early(group, owner, joined) {
                    let detail = format!(
                        "{} was assigned it in generation {} of {name} while {} had it in {}",
                        joined.member, joined.generation, owner.member, owner.generation
                    );
                    add(violations, of, [owner, joined], detail);
                }
                if owner.generation > joined.generation {
                    continue;
                }
            }
            latest.insert(of, joined);
        }
    }
}

fn is_another(one: &Joined, other: &Joined) -> bool {
    one.member != other.member && !one.is_same_instance(other)
}

fn is_too_early(group: &Group, owner: &Joined, joined: &Joined) -> bool {
    let at = joined.op.returned;
    owner.generation < joined.generation
        && owner.op.returned < joined.op.invoked
        && group.held_until(owner, at) > at
}

fn add(violations: &mut Violations, of: &Partition, both: [&Joined; 2], detail: String) {
    let operations = both.map(|joined| joined.op.op);
    let time = both[1].op.returned;
    violations.add(violation("CG1", time, Some(of), &operations, detail));
}
