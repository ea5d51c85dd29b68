//! CG6: a stable group has every partition of its topics, each once.
//!
//! Judged by DescribeGroup answers of state `Stable`. No partition may be with two members. And all
//! partitions of all topics that members asked for are with somebody; that is silent unless every
//! member's join is known with what it asked for, and each topic was made before the first of those
//! joins was invoked, and nothing else was ever done to its partitions (the member that assigns may
//! know of a change late).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Group, Groups, Joined};
use super::violation;
use crate::checker::Violations;
use crate::history::{Answer, Operation, Partition};

pub(super) fn check(name: &str, group: &Group, groups: &Groups, violations: &mut Violations) {
    for op in &group.describes {
        let Some(Answer::DescribeGroup { state, members }) = op.answer() else {
            continue;
        };
        if state != "Stable" {
            continue;
        }
        let mut owners: BTreeMap<&Partition, &str> = BTreeMap::new();
        for (member, assigned) in members {
            for of in assigned {
                if let Some(other) = owners.insert(of, member) {
                    let detail = format!("{name} is stable and both {other} and {member} have it");
                    let time = op.returned;
                    violations.add(violation("CG6", time, Some(of), &[op.op], detail));
                }
            }
        }
        for of in wanted(op, members.keys(), group, groups) {
            if !owners.contains_key(&of) {
                let detail = format!("{name} is stable and nobody has it");
                violations.add(violation("CG6", op.returned, Some(&of), &[op.op], detail));
            }
        }
    }
}

/// The partitions that must be assigned; none if that cannot be known.
fn wanted<'m>(
    op: &Operation,
    members: impl Iterator<Item = &'m String>,
    group: &Group,
    groups: &Groups,
) -> Vec<Partition> {
    let mut joins: BTreeMap<&str, &Joined> = BTreeMap::new();
    for joined in &group.joins {
        if joined.op.returned < op.invoked {
            joins.insert(joined.member, joined);
        }
    }
    let mut topics: BTreeSet<&str> = BTreeSet::new();
    let mut first = op.invoked;
    for member in members {
        let Some(joined) = joins.get(member.as_str()) else {
            return Vec::new();
        };
        topics.extend(joined.join.topics.iter().map(String::as_str));
        first = first.min(joined.op.invoked);
    }
    let mut wanted = Vec::new();
    for topic in topics {
        match groups.topics.get(topic).and_then(|known| known.fixed_partitions()) {
            Some((count, since)) if since < first => {
                wanted.extend((0..count).map(|partition| Partition {
                    topic: topic.to_owned(),
                    partition,
                }));
            }
            _ => return Vec::new(),
        }
    }
    wanted
}
