//! CG3 and the second half of CG9: who is out is refused.
//!
//! A heartbeat or a commit (of which any partition counts) must not be accepted
//!
//! - under a generation below one that a join was told before the request was invoked, unless the
//!   group may have begun anew since (see [`super::facts`]): CG3;
//! - from a member id whose leave had worked before; ids are never used again: CG3;
//! - from a member id whose instance another member had taken before, that is by a join invoked
//!   after one of the old id had returned: CG9.
//!
//! The last two hold for joins too. That refused commits have no effect is seen where committed
//! offsets are read ([`super::offsets`]).

use std::collections::BTreeMap;

use super::facts::{Group, Joined};
use super::violation;
use crate::checker::Violations;
use crate::history::{Call, Operation};

/// When a member id came to its end, and the operation that ended it.
type Ends<'a> = BTreeMap<&'a str, (u64, u64)>;

pub(super) fn check(name: &str, group: &Group, violations: &mut Violations) {
    old_generations(name, group, violations);
    let left = left(group);
    let replaced = replaced(group);
    let accepted = group.accepted.iter().map(|one| (one.op, &*one.by.member));
    let joined = group.joins.iter().map(|one| (one.op, one.member));
    for (op, member) in accepted.chain(joined) {
        let ends = [
            ("CG3", &left, "left"),
            ("CG9", &replaced, "been replaced by its instance's next holder"),
        ];
        for (property, ends, how) in ends {
            if let Some((at, by)) = ends.get(member)
                && *at < op.invoked
            {
                let what = kind(op);
                let detail = format!("a {what} of {member} in {name} worked after it had {how}");
                let operations = [*by, op.op];
                violations.add(violation(property, op.returned, None, &operations, detail));
            }
        }
    }
}

fn kind(op: &Operation) -> &'static str {
    match op.call {
        Call::Commit { .. } => "commit",
        Call::Join(_) => "join",
        _ => "heartbeat",
    }
}

fn old_generations(name: &str, group: &Group, violations: &mut Violations) {
    let mut returned = group.joins.iter().peekable();
    let mut highest: Option<&Joined> = None;
    let mut latest: Option<&Joined> = None;
    for accepted in &group.accepted {
        let op = accepted.op;
        while let Some(before) = returned.next_if(|one| one.op.returned < op.invoked) {
            latest = Some(before);
            if highest.is_none_or(|known| known.generation <= before.generation) {
                highest = Some(before);
            }
        }
        let generation = accepted.by.generation;
        let newer = [highest, latest].into_iter().flatten().find(|before| {
            before.generation > generation && group.lasts(before, op.returned)
        });
        if let Some(newer) = newer {
            let detail = format!(
                "a {} of {} in {name} worked in generation {generation} after {} had joined in {}",
                kind(op),
                accepted.by.member,
                newer.member,
                newer.generation
            );
            let operations = [newer.op.op, op.op];
            violations.add(violation("CG3", op.returned, None, &operations, detail));
        }
    }
}

fn left<'a>(group: &Group<'a>) -> Ends<'a> {
    let mut ends = Ends::new();
    for leave in &group.leaves {
        if leave.op.answer().is_some() && !leave.by.member.is_empty() {
            let end = (leave.op.returned, leave.op.op);
            let known = ends.entry(leave.by.member.as_str()).or_insert(end);
            *known = end.min(*known);
        }
    }
    ends
}

fn replaced<'a>(group: &Group<'a>) -> Ends<'a> {
    let mut by_instance: BTreeMap<&str, Vec<&Joined<'a>>> = BTreeMap::new();
    for joined in &group.joins {
        if let Some(instance) = &joined.join.instance {
            by_instance.entry(instance).or_default().push(joined);
        }
    }
    let mut ends = Ends::new();
    for mut joins in by_instance.into_values() {
        joins.sort_by_key(|joined| joined.op.invoked);
        // Members not replaced yet, and the return of their first join.
        let mut holders: BTreeMap<&'a str, u64> = BTreeMap::new();
        for joined in joins {
            holders.retain(|member, since| {
                let is_out = *member != joined.member && *since < joined.op.invoked;
                if is_out {
                    ends.insert(member, (joined.op.returned, joined.op.op));
                }
                !is_out
            });
            if !ends.contains_key(joined.member) {
                let since = holders.entry(joined.member).or_insert(joined.op.returned);
                *since = joined.op.returned.min(*since);
            }
        }
    }
    ends
}
