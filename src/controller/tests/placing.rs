//! Where new partitions go.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Cluster, at_home};
use crate::controller::placement::{Place, place};
use crate::controller::*;
use crate::types::{BrokerId, ErrorCode};

fn brokers(racks: &[Option<u8>]) -> Vec<Place> {
    let broker = |(id, rack): (i32, &Option<u8>)| Place {
        id: BrokerId(id),
        rack: rack.map(|rack| format!("rack {rack}")),
    };
    (0..).zip(racks).map(broker).collect()
}

proptest! {
    #[test]
    fn replicas_are_distinct_in_as_many_racks_as_there_are_and_leaders_are_even(
        racks in prop::collection::vec(prop::option::weighted(0.9, 0..4_u8), 1..9),
        (rounds, factor, start, first) in (1..4_usize, 1..6_usize, 0..20_usize, 0..30_usize),
    ) {
        let all = brokers(&racks);
        let factor = factor.min(all.len());
        let count = rounds * all.len();
        let placed = place(&all, first, count, factor, start);
        prop_assert_eq!(placed.len(), count);
        let rack = |id: &BrokerId| racks[usize::try_from(id.0).unwrap()];
        let rack_count = racks.iter().collect::<BTreeSet<_>>().len();
        let mut leaders: BTreeMap<BrokerId, usize> = BTreeMap::new();
        for replicas in &placed {
            prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor);
            *leaders.entry(replicas[0]).or_default() += 1;
            if racks.iter().all(Option::is_some) {
                let used: BTreeSet<_> = replicas.iter().map(rack).collect();
                prop_assert_eq!(used.len(), factor.min(rack_count));
            }
        }
        prop_assert!(leaders.values().all(|count| *count == rounds), "{:?}", leaders);
    }
}

#[test]
fn replicas_of_even_racks_are_even_too() {
    let all = brokers(&[Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)]);
    let mut held: BTreeMap<BrokerId, usize> = BTreeMap::new();
    for replicas in place(&all, 0, 36, 3, 5) {
        for id in replicas {
            *held.entry(id).or_default() += 1;
        }
    }
    assert!(held.values().all(|count| *count == 18), "{held:?}");
}

#[test]
fn brokers_that_are_away_get_replicas_last_and_are_not_in_sync() {
    let mut cluster = Cluster::of(3, "");
    cluster.fence(2);
    let topic = |name: &str, replication_factor| NewTopic {
        partitions: 4,
        replication_factor,
        ..NewTopic::named(name)
    };
    let refusal = cluster.create(topic("a", 4)).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InvalidReplicationFactor);
    cluster.create(topic("a", 3)).unwrap();
    cluster.create(topic("b", 2)).unwrap();
    let partitions = |name: &str| {
        cluster
            .ledger
            .image()
            .topic(name)
            .unwrap()
            .partitions
            .clone()
    };
    for state in partitions("a") {
        assert_eq!(state.replicas.last(), Some(&BrokerId(2)), "{state:?}");
        assert!(!state.isr.contains(&BrokerId(2)), "{state:?}");
        assert_ne!(state.leader, Some(BrokerId(2)), "{state:?}");
    }
    for state in partitions("b") {
        assert!(!state.replicas.contains(&BrokerId(2)), "{state:?}");
    }
}

#[test]
fn racks_that_brokers_register_with_count() {
    let mut cluster = Cluster::of(0, "");
    for (id, rack) in [(1, "x"), (2, "x"), (3, "y"), (4, "y")] {
        let registration = RegisterBroker {
            rack: Some(rack.to_owned()),
            ..at_home(id, 1)
        };
        cluster.register(registration).unwrap();
        cluster.beat(id).unwrap();
    }
    let topic = NewTopic {
        partitions: 8,
        replication_factor: 2,
        ..NewTopic::named("a")
    };
    cluster.create(topic).unwrap();
    for state in &cluster.ledger.image().topic("a").unwrap().partitions {
        let in_x = state.replicas.iter().filter(|id| id.0 <= 2).count();
        assert_eq!(in_x, 1, "{:?}", state.replicas);
    }
}

#[test]
fn internal_topics_follow_the_size_of_the_cluster_not_who_has_started_yet() {
    let internal = || NewTopic {
        partitions: 1,
        replication_factor: 3,
        ..NewTopic::named("__consumer_offsets")
    };
    // Two brokers are all there are.
    let mut cluster = Cluster::of(2, "");
    assert_eq!(cluster.create(internal()).unwrap().replication_factor, 2);
    // One of them is only away for the moment.
    let mut cluster = Cluster::of(2, "");
    cluster.fence(2);
    assert_eq!(cluster.create(internal()).unwrap().replication_factor, 2);
    // Two of three nodes have started.
    let voters = "node.id=1\ncontroller.listener.names=CONTROLLER\n\
                  process.roles=broker,controller\n\
                  listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
                  controller.quorum.voters=1@a:9093,2@b:9093,3@c:9093";
    let mut cluster = Cluster::of(2, voters);
    let refusal = cluster.create(internal()).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InvalidReplicationFactor);
    cluster.start(3, 1);
    assert_eq!(cluster.create(internal()).unwrap().replication_factor, 3);
}
