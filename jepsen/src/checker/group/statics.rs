//! CG9, first half: a static member that comes back in time changes nothing.
//!
//! A member that joins without a member id, under an instance whose last holder's session still
//! runs, takes the holder's place: it is told the present generation and the holder's assignment,
//! also if the holder is the one that assigns (KIP-345, KIP-814).
//!
//! A rebalance is legal, and this is silent, where the group may not have been stable or somebody
//! else may have changed it: unless the holder's generation is the last that was told when the
//! member came back, the topics asked for are the same, the holder and everybody else who joined
//! this generation was heard of so lately that they are members all along (see [`super::facts`]),
//! no static member is kept that did not join, no other join or leave was under way or of unknown
//! end since the generation's last joins began, and every client of the group tells of its own
//! requests. Joins of members who had been told that a rebalance is under way do not count: they do
//! not begin it, and the return itself may have. Each such return looks at all joins of its group:
//! those are few.

use std::collections::BTreeSet;

use super::facts::{Group, Joined, is_dangling};
use super::violation;
use crate::checker::Violations;
use crate::history::Partition;

pub(super) fn check(name: &str, group: &Group, violations: &mut Violations) {
    if group.has_buffered {
        return;
    }
    for joined in &group.joins {
        if joined.join.instance.is_none() || !joined.join.member.is_empty() {
            continue;
        }
        let invoked = joined.op.invoked;
        let earlier = group.joins.partition_point(|one| one.op.returned < invoked);
        let earlier = &group.joins[..earlier];
        let Some(holder) = holder(group, earlier, joined) else {
            continue;
        };
        let is_same = holder.generation == joined.generation && sorted(holder) == sorted(joined);
        if !is_same {
            let detail = format!(
                "{} came back to {name} in time and was told generation {} and {:?}; it had \
                 generation {} and {:?}",
                joined.join.instance.as_deref().unwrap_or_default(),
                joined.generation,
                joined.assigned,
                holder.generation,
                holder.assigned
            );
            let operations = [holder.op.op, joined.op.op];
            let time = joined.op.returned;
            violations.add(violation("CG9", time, None, &operations, detail));
        }
    }
}

fn sorted<'a>(joined: &'a Joined) -> Vec<&'a Partition> {
    let mut assigned: Vec<_> = joined.assigned.iter().collect();
    assigned.sort();
    assigned
}

/// Whose place this join must take, if that is certain.
fn holder<'g, 'a>(
    group: &Group<'a>,
    earlier: &'g [Joined<'a>],
    joined: &Joined,
) -> Option<&'g Joined<'a>> {
    let until = joined.op.returned;
    // Joins of the last generation that was told, and when the first of them began.
    let generation = earlier.last()?.generation;
    let members = earlier
        .iter()
        .rev()
        .take_while(|one| one.generation == generation);
    let members = last_of_each(members);
    let since = members.iter().map(|one| one.op.invoked).min()?;
    let is_latest = earlier.iter().all(|one| one.generation <= generation);
    let holder = *members.iter().find(|one| one.is_same_instance(joined))?;
    let is_alive = |one: &&Joined| match one.is_same_instance(joined) {
        // Its own return ends the hold; nothing else has.
        true => {
            group.held_until(one, until) >= joined.op.invoked
                && group.alive_until(one, joined.op.invoked) > until
        }
        // That it asked to leave, or to join without having been told to, is looked for below.
        false => group.alive_until(one, joined.op.invoked) > until,
    };
    let is_quiet = is_latest
        && holder.join.topics == joined.join.topics
        && members.iter().all(is_alive)
        && no_sleeper(group, until, &members)
        && !is_disturbed(group, joined, since, &members);
    is_quiet.then_some(holder)
}

/// The last join of each member of a generation, from its joins, the last first.
fn last_of_each<'g, 'a>(joins: impl Iterator<Item = &'g Joined<'a>>) -> Vec<&'g Joined<'a>>
where
    'a: 'g,
{
    let mut known = BTreeSet::new();
    joins
        .filter(|one| {
            let name = one.join.instance.as_deref().unwrap_or(one.member);
            known.insert((one.join.instance.is_some(), name))
        })
        .collect()
}

/// Whether every static member that ever asked is in the generation by a join of its own. One that
/// is only kept in it may run out of time and so begin a rebalance.
fn no_sleeper(group: &Group, until: u64, members: &[&Joined]) -> bool {
    let asked = group.asked.iter().filter(|(op, _)| op.invoked < until);
    let mut instances = asked.filter_map(|(_, join)| join.instance.as_ref());
    instances.all(|instance| {
        let is_it = |one: &&Joined| one.join.instance.as_ref() == Some(instance);
        members.iter().any(is_it)
    })
}

/// Whether anything else may have changed the group between `since` and the join's return.
fn is_disturbed(group: &Group, joined: &Joined, since: u64, members: &[&Joined]) -> bool {
    let until = joined.op.returned;
    let is_known = |op: u64| op == joined.op.op || members.iter().any(|one| one.op.op == op);
    let generation = members.first().map_or(0, |one| one.generation);
    let joins = group.asked.iter().any(|(op, join)| {
        let is_beside = op.invoked < until && (op.returned > since || is_dangling(op));
        is_beside && !is_known(op.op) && !group.was_told(op, join, generation)
    });
    let others = group.leaves.iter().map(|leave| leave.op);
    let others = others.chain(group.deletes.iter().copied());
    let mut others = others.filter(|op| op.invoked < until && op.effect_until() > since);
    joins || others.next().is_some()
}
