//! Who gets which partition, pure: computed by the leader of a group from what all members want.
//!
//! Every assignor promises: each partition of a topic somebody subscribes to goes to exactly one
//! of its subscribers, and the result depends on the arguments alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::protocol::Subscription;
use crate::client::config::Strategy;
use crate::types::TopicPartition;

#[cfg(test)]
#[path = "assignor_tests.rs"]
mod tests;

/// A member, for the assignors. Members sort by instance id where they have one, so that a
/// restart of a static member changes nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub subscription: Subscription,
}

/// Count of partitions by topic; topics that do not exist are left out.
pub type Counts = BTreeMap<Arc<str>, i32>;

/// Partitions by member id; every member is in it.
pub type Assignment = BTreeMap<String, Vec<TopicPartition>>;

/// Shares the partitions of `counts` out by `strategy`.
#[must_use]
pub fn assign(strategy: Strategy, members: &[Member], counts: &Counts) -> Assignment {
    let mut members: Vec<&Member> = members.iter().collect();
    members.sort_by_key(|member| {
        // Static members first, as in Java's clients.
        let instance = member.instance_id.as_deref();
        (instance.is_none(), instance, member.member_id.as_str())
    });
    let mut assignment = match strategy {
        Strategy::Range => range(&members, counts),
        Strategy::RoundRobin => round_robin(&members, counts),
        Strategy::CooperativeSticky => cooperative_sticky(&members, counts),
    };
    for member in members {
        assignment.entry(member.member_id.clone()).or_default();
    }
    for partitions in assignment.values_mut() {
        partitions.sort();
    }
    assignment
}

fn subscribes(member: &Member, topic: &Arc<str>) -> bool {
    member.subscription.topics.contains(topic)
}

/// Per topic, neighbouring partitions to each subscriber, the first ones getting one more.
fn range(members: &[&Member], counts: &Counts) -> Assignment {
    let mut assignment = Assignment::new();
    for (topic, count) in counts {
        let subscribers: Vec<&&Member> = members.iter().filter(|m| subscribes(m, topic)).collect();
        let Ok(takers) = i32::try_from(subscribers.len()) else {
            continue;
        };
        if takers == 0 {
            continue;
        }
        let (each, extra) = (count / takers, count % takers);
        let mut next = 0;
        for (place, member) in (0..).zip(subscribers) {
            let take = each + i32::from(place < extra);
            let mine = (next..next + take).map(|p| TopicPartition::new(Arc::clone(topic), p));
            let partitions = assignment.entry(member.member_id.clone()).or_default();
            partitions.extend(mine);
            next += take;
        }
    }
    assignment
}

fn all_partitions(counts: &Counts) -> impl Iterator<Item = TopicPartition> {
    counts.iter().flat_map(|(topic, count)| {
        (0..*count).map(|partition| TopicPartition::new(Arc::clone(topic), partition))
    })
}

/// One partition after another to one subscriber after another.
fn round_robin(members: &[&Member], counts: &Counts) -> Assignment {
    let mut assignment = Assignment::new();
    let mut turn = 0;
    for partition in all_partitions(counts) {
        let order = (0..members.len()).map(|step| (turn + step) % members.len());
        let mut order = order.filter(|at| subscribes(members[*at], &partition.topic));
        if let Some(at) = order.next() {
            let member_id = members[at].member_id.clone();
            assignment.entry(member_id).or_default().push(partition);
            turn = at + 1;
        }
    }
    assignment
}

/// Balanced, with as few moves as balance allows; and a partition that must move goes to nobody
/// first, so that its owner gives it up in this generation before another gets it in the next
/// (KIP-429).
fn cooperative_sticky(members: &[&Member], counts: &Counts) -> Assignment {
    let owners = owners(members, counts);
    let mut assignment = sticky(members, counts, &owners);
    for (member_id, partitions) in &mut assignment {
        partitions.retain(|partition| owners.get(partition).is_none_or(|owner| owner == member_id));
    }
    assignment
}

/// Who owns what, by the members' word: a claim from an older generation yields to a newer one,
/// and two claims from the same generation cancel each other.
fn owners(members: &[&Member], counts: &Counts) -> BTreeMap<TopicPartition, String> {
    let mut claims: BTreeMap<&TopicPartition, (i32, Vec<&Member>)> = BTreeMap::new();
    for member in members {
        let generation = member.subscription.generation;
        for partition in &member.subscription.owned {
            let exists = counts
                .get(&partition.topic)
                .is_some_and(|count| partition.partition < *count);
            if !exists || !subscribes(member, &partition.topic) {
                continue;
            }
            let claim = claims.entry(partition).or_insert((generation, Vec::new()));
            if generation > claim.0 {
                *claim = (generation, Vec::new());
            }
            if generation == claim.0 {
                claim.1.push(member);
            }
        }
    }
    let single = claims.into_iter().filter(|(_, (_, by))| by.len() == 1);
    single
        .map(|(partition, (_, by))| (partition.clone(), by[0].member_id.clone()))
        .collect()
}

/// Keeps owners as far as balance allows: first everybody keeps what is theirs, then what is free
/// goes to the subscriber with the least, then single partitions move from those with the most to
/// those with at least two less.
fn sticky(
    members: &[&Member],
    counts: &Counts,
    owners: &BTreeMap<TopicPartition, String>,
) -> Assignment {
    let mut held: Vec<BTreeSet<TopicPartition>> = vec![BTreeSet::new(); members.len()];
    let places: BTreeMap<&str, usize> = members
        .iter()
        .enumerate()
        .map(|(at, member)| (member.member_id.as_str(), at))
        .collect();
    let mut free = Vec::new();
    for partition in all_partitions(counts) {
        match owners
            .get(&partition)
            .and_then(|id| places.get(id.as_str()))
        {
            Some(at) => {
                held[*at].insert(partition);
            }
            None => free.push(partition),
        }
    }
    for partition in free {
        let takers = (0..members.len()).filter(|at| subscribes(members[*at], &partition.topic));
        if let Some(at) = takers.min_by_key(|at| (held[*at].len(), *at)) {
            held[at].insert(partition);
        }
    }
    while let Some((from, to, partition)) = next_move(members, &held) {
        held[from].remove(&partition);
        held[to].insert(partition);
    }
    members
        .iter()
        .zip(held)
        .map(|(member, held)| (member.member_id.clone(), held.into_iter().collect()))
        .collect()
}

/// A move that makes the shares more even. Each lowers the sum of the squares of the shares, so
/// there is an end to them.
fn next_move(
    members: &[&Member],
    held: &[BTreeSet<TopicPartition>],
) -> Option<(usize, usize, TopicPartition)> {
    let mut from_most: Vec<usize> = (0..held.len()).collect();
    from_most.sort_by_key(|at| (std::cmp::Reverse(held[*at].len()), *at));
    for from in &from_most {
        // The last partitions go first: those with low numbers stay longest.
        for to in from_most.iter().rev() {
            if held[*from].len() < held[*to].len() + 2 {
                break;
            }
            let movable = held[*from].iter().rev();
            let mut movable = movable.filter(|p| subscribes(members[*to], &p.topic));
            if let Some(partition) = movable.next() {
                return Some((*from, *to, partition.clone()));
            }
        }
    }
    None
}
