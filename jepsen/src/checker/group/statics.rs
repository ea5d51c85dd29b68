//! CG9, first half: a static member that comes back in time changes nothing.
//!
//! A member that joins without a member id, under an instance whose last holder's session still
//! runs, takes the holder's place: it is told the present generation and the holder's assignment,
//! also if the holder is the one that assigns (KIP-345, KIP-814).
//!
//! A rebalance is legal, and this is silent, where the group may not have been stable or somebody
//! else may have changed it: unless the holder's join is the last of the group to have returned
//! in its generation and no later generation was told, the topics asked for are the same, the
//! holder and everybody else who joined this generation is held in the group all along (see
//! [`super::facts`]), no static member is kept that did not join, and no other join or leave was under way or of unknown end since the
//! generation's first join.

use super::facts::{Group, Joined};
use super::violation;
use crate::checker::Violations;
use crate::history::Ending;

pub(super) fn check(name: &str, group: &Group, violations: &mut Violations) {
    for (at, joined) in group.joins.iter().enumerate() {
        if joined.join.instance.is_none() || !joined.join.member.is_empty() {
            continue;
        }
        let earlier = &group.joins[..at];
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

fn sorted<'a>(joined: &'a Joined) -> Vec<&'a crate::history::Partition> {
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
    let members = earlier.iter().rev().take_while(|one| one.generation == generation);
    let members: Vec<&Joined> = members.collect();
    let since = members.iter().map(|one| one.op.invoked).min()?;
    let is_latest = earlier.iter().all(|one| one.generation <= generation);
    let holder = members.iter().find(|one| one.is_same_instance(joined))?;
    let is_alive = |one: &&&Joined| {
        let is_holder = one.is_same_instance(joined);
        match is_holder {
            // Its own return ends the hold; nothing else has.
            true => {
                group.held_until(one, until) >= joined.op.invoked
                    && group.alive_until(one, joined.op.invoked) > until
            }
            false => group.held_until(one, until) > until,
        }
    };
    let is_quiet = is_latest
        && holder.join.topics == joined.join.topics
        && holder.op.returned < joined.op.invoked
        && members.iter().all(|one| is_alive(&one))
        && no_sleeper(group, until, &members)
        && !is_disturbed(group, joined, since, &members);
    is_quiet.then(|| &earlier[position(earlier, holder)])
}

fn position(earlier: &[Joined], holder: &Joined) -> usize {
    let is_it = |one: &Joined| one.op.op == holder.op.op;
    earlier.iter().position(is_it).unwrap_or(0)
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
    let joins = group.asked.iter().any(|(op, _)| {
        let is_unknown = matches!(op.ending, Ending::Unknown(_));
        let is_beside = op.invoked < until && (op.returned > since || is_unknown);
        is_beside && !is_known(op.op)
    });
    let others = group.leaves.iter().map(|leave| leave.op);
    let others = others.chain(group.deletes.iter().copied());
    let mut others = others.filter(|op| op.invoked < until && op.effect_until() > since);
    joins || others.next().is_some()
}
