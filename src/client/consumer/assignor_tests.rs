//! Assignors: complete, even, and quiet when nothing changed.

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::*;
use crate::client::config::Strategy;

fn member(id: &str, topics: &[&str]) -> Member {
    Member {
        member_id: id.to_owned(),
        instance_id: None,
        subscription: Subscription {
            topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
            owned: Vec::new(),
            generation: -1,
        },
    }
}

fn counts(pairs: &[(&str, i32)]) -> Counts {
    pairs
        .iter()
        .map(|(topic, n)| (Arc::from(*topic), *n))
        .collect()
}

fn partitions(names: &[(&str, i32)]) -> Vec<TopicPartition> {
    names
        .iter()
        .map(|(topic, p)| TopicPartition::new(*topic, *p))
        .collect()
}

#[test]
fn range_gives_neighbours_and_the_first_members_one_more() {
    let members = [member("b", &["t", "u"]), member("a", &["t", "u"])];
    let got = assign(Strategy::Range, &members, &counts(&[("t", 3), ("u", 3)]));
    assert_eq!(
        got["a"],
        partitions(&[("t", 0), ("t", 1), ("u", 0), ("u", 1)])
    );
    assert_eq!(got["b"], partitions(&[("t", 2), ("u", 2)]));
}

#[test]
fn round_robin_goes_on_over_topics() {
    let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
    let got = assign(
        Strategy::RoundRobin,
        &members,
        &counts(&[("t", 3), ("u", 3)]),
    );
    assert_eq!(got["a"], partitions(&[("t", 0), ("t", 2), ("u", 1)]));
    assert_eq!(got["b"], partitions(&[("t", 1), ("u", 0), ("u", 2)]));
}

#[test]
fn static_members_sort_by_their_lasting_name() {
    let mut first = member("z", &["t"]);
    first.instance_id = Some("1".to_owned());
    let got = assign(
        Strategy::Range,
        &[member("a", &["t"]), first],
        &counts(&[("t", 1)]),
    );
    assert_eq!((got["z"].len(), got["a"].len()), (1, 0));
}

#[test]
fn a_partition_that_moves_is_free_for_one_generation() {
    let mut old = member("a", &["t"]);
    old.subscription.owned = partitions(&[("t", 0), ("t", 1), ("t", 2), ("t", 3)]);
    old.subscription.generation = 1;
    let joined = member("b", &["t"]);
    let counts = counts(&[("t", 4)]);
    let first = assign(
        Strategy::CooperativeSticky,
        &[old.clone(), joined.clone()],
        &counts,
    );
    assert_eq!(first["a"], partitions(&[("t", 0), ("t", 1)]));
    assert!(first["b"].is_empty());
    old.subscription.owned = first["a"].clone();
    old.subscription.generation = 2;
    let second = assign(Strategy::CooperativeSticky, &[old, joined], &counts);
    assert_eq!(second["a"], partitions(&[("t", 0), ("t", 1)]));
    assert_eq!(second["b"], partitions(&[("t", 2), ("t", 3)]));
}

#[test]
fn a_claim_from_an_older_generation_is_void() {
    let mut zombie = member("a", &["t"]);
    zombie.subscription.owned = partitions(&[("t", 0)]);
    zombie.subscription.generation = 3;
    let mut owner = member("b", &["t"]);
    owner.subscription.owned = partitions(&[("t", 0)]);
    owner.subscription.generation = 4;
    let got = assign(
        Strategy::CooperativeSticky,
        &[zombie, owner],
        &counts(&[("t", 1)]),
    );
    assert_eq!((got["a"].len(), got["b"].len()), (0, 1));
}

fn groups() -> impl proptest::strategy::Strategy<Value = (Vec<Member>, Counts)> {
    let topics = ["t", "u", "v"];
    let one = (
        btree_set(0_usize..3, 1..3),
        vec((0_usize..3, 0_i32..6), 0..8),
        0_i32..3,
    );
    (vec(one, 1..6), [0_i32..6, 0_i32..6, 0_i32..6]).prop_map(move |(members, sizes)| {
        let members = members
            .into_iter()
            .enumerate()
            .map(|(n, (wants, owned, generation))| {
                let names: Vec<&str> = wants.iter().map(|at| topics[*at]).collect();
                let mut member = member(&format!("m{n}"), &names);
                let owned: Vec<_> = owned.iter().map(|(at, p)| (topics[*at], *p)).collect();
                member.subscription.owned = partitions(&owned);
                member.subscription.owned.sort();
                member.subscription.owned.dedup();
                member.subscription.generation = generation;
                member
            });
        let counts = topics.iter().zip(sizes).map(|(t, n)| (Arc::from(*t), n));
        (members.collect::<Vec<_>>(), counts.collect::<Counts>())
    })
}

proptest! {
    #[test]
    fn every_partition_goes_to_exactly_one_of_its_subscribers((members, counts) in groups()) {
        for strategy in [Strategy::Range, Strategy::RoundRobin] {
            check_complete(&assign(strategy, &members, &counts), &members, &counts, false);
        }
    }

    #[test]
    fn cooperative_rounds_settle_complete_and_even((mut members, counts) in groups()) {
        for round in 0.. {
            let got = assign(Strategy::CooperativeSticky, &members, &counts);
            check_complete(&got, &members, &counts, true);
            let settled = members.iter().all(|m| m.subscription.owned == got[&m.member_id]);
            if settled {
                check_complete(&got, &members, &counts, false);
                check_even(&got, &members);
                break;
            }
            prop_assert!(round < 8, "still moving");
            for member in &mut members {
                member.subscription.owned = got[&member.member_id].clone();
                member.subscription.generation = 10 + round;
            }
        }
    }
}

fn check_complete(got: &Assignment, members: &[Member], counts: &Counts, may_wait: bool) {
    let mut seen = BTreeSet::new();
    for member in members {
        for partition in &got[&member.member_id] {
            assert!(
                subscribes(member, &partition.topic),
                "{partition} was not asked for"
            );
            assert!(partition.partition < counts[&partition.topic]);
            assert!(seen.insert(partition.clone()), "{partition} twice");
        }
    }
    for partition in all_partitions(counts) {
        let wanted = members
            .iter()
            .any(|member| subscribes(member, &partition.topic));
        assert!(
            may_wait || seen.contains(&partition) == wanted,
            "{partition}"
        );
    }
}

fn check_even(got: &Assignment, members: &[Member]) {
    for rich in members {
        for poor in members {
            let gap = got[&rich.member_id]
                .len()
                .saturating_sub(got[&poor.member_id].len());
            let movable = got[&rich.member_id]
                .iter()
                .any(|p| subscribes(poor, &p.topic));
            assert!(
                gap < 2 || !movable,
                "{} and {}",
                rich.member_id,
                poor.member_id
            );
        }
    }
}
