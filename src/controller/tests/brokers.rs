//! The life of brokers, and what it does to the partitions they hold.

use super::{Cluster, at_home, ids, registration};
use crate::controller::*;
use crate::types::{BrokerId, ErrorCode, LeaderEpoch, Timestamp, Uuid};

fn crashed(id: i32, run: u8) -> RegisterBroker {
    RegisterBroker {
        after_clean_shutdown: false,
        ..at_home(id, run)
    }
}

fn wiped(id: i32, run: u8) -> RegisterBroker {
    RegisterBroker {
        directories: vec![Uuid([run | 0x80; 16])],
        ..crashed(id, run)
    }
}

#[test]
fn a_broker_begins_fenced_and_comes_alive_once_it_has_seen_its_registration() {
    let mut cluster = Cluster::of(0, "");
    let before = cluster.end;
    cluster.register(at_home(1, 1)).unwrap();
    let early = BrokerHeartbeat {
        metadata_end: before,
        ..cluster.heartbeat(1)
    };
    let reply = cluster.tell(early).unwrap();
    assert!(reply.is_fenced && !reply.is_caught_up);
    assert_eq!(cluster.ledger.image().alive().count(), 0);
    let reply = cluster.beat(1).unwrap();
    assert!(!reply.is_fenced && reply.is_caught_up);
    let end = cluster.end;
    cluster.beat(1).unwrap();
    assert_eq!(cluster.end, end, "nothing changed, nothing written");
}

#[test]
fn heartbeats_of_earlier_runs_and_of_strangers_are_refused() {
    let mut cluster = Cluster::of(1, "");
    let old = cluster.heartbeat(1);
    cluster.register(crashed(1, 2)).unwrap();
    let stale = cluster.tell(old).unwrap_err();
    assert_eq!(stale.code, ErrorCode::StaleBrokerEpoch);
    let stranger = BrokerHeartbeat {
        id: BrokerId(9),
        ..old
    };
    let unknown = cluster.tell(stranger).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::BrokerIdNotRegistered);
}

#[test]
fn a_second_node_with_the_id_of_one_that_is_alive_is_refused() {
    let mut cluster = Cluster::of(2, "");
    let epoch = cluster.epoch(1);
    let refusal = cluster.register(wiped(1, 2)).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::DuplicateBrokerRegistration);
    assert!(refusal.text.contains("broker 1"), "{refusal}");
    // A registration sent again is the same one (B36).
    assert_eq!(cluster.register(at_home(1, 1)), Ok(epoch));
    assert!(!cluster.ledger.image().broker(BrokerId(1)).unwrap().fenced);
    // Its own directories prove that the earlier process is gone.
    assert!(cluster.register(crashed(1, 3)).unwrap() > epoch);
    // And so does being fenced.
    cluster.fence(2);
    cluster.register(wiped(2, 2)).unwrap();
    let known = registration(3, 1);
    cluster.register(known).unwrap();
}

#[test]
fn a_fenced_leader_is_replaced_from_the_isr_in_a_new_epoch() {
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2, 3], &[]);
    cluster.fence(1);
    let state = cluster.state();
    assert_eq!(state.leader, Some(BrokerId(2)));
    assert_eq!(state.isr, ids(&[2, 3]));
    assert!(state.elr.is_empty(), "enough are in sync");
    assert_eq!(
        (state.leader_epoch, state.partition_epoch),
        (LeaderEpoch(1), 1)
    );
    assert_eq!(state.cause, Cause::BrokerFenced);
    // A follower that goes leaves the leader and its epoch alone.
    cluster.fence(3);
    let state = cluster.state();
    assert_eq!(
        (state.leader_epoch, state.partition_epoch),
        (LeaderEpoch(1), 2)
    );
    assert_eq!(state.isr, ids(&[2]));
    let end = cluster.end;
    cluster.fence(3);
    assert_eq!(cluster.end, end, "it was fenced already");
}

#[test]
fn fencing_an_earlier_run_does_nothing_to_the_present_one() {
    let mut cluster = Cluster::of(2, "");
    let epoch = cluster.epoch(1);
    cluster.start(1, 2);
    let id = BrokerId(1);
    cluster.ask(Request::FenceBroker { id, epoch }).unwrap();
    assert!(!cluster.ledger.image().broker(id).unwrap().fenced);
}

#[test]
fn several_brokers_that_expire_at_once_are_fenced_as_one() {
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2, 3], &[("min.insync.replicas", "2")]);
    let both = [1, 2].map(|id| (BrokerId(id), cluster.epoch(id)));
    let records = cluster.ledger.fence_brokers(Timestamp(0), &both);
    let end = cluster.end.plus(records.len() as i64);
    let committed = Committed::Batch { end, records };
    cluster.ledger.replay(&committed).unwrap();
    let state = cluster.state();
    assert_eq!((state.leader, state.isr), (Some(BrokerId(3)), ids(&[3])));
    assert_eq!(state.elr, ids(&[1, 2]), "both were in sync until then");
}

#[test]
fn of_brokers_that_expire_at_once_all_that_were_in_sync_stay_eligible() {
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2], &[("min.insync.replicas", "1")]);
    let both = [2, 1].map(|id| (BrokerId(id), cluster.epoch(id)));
    let records = cluster.ledger.fence_brokers(Timestamp(0), &both);
    let end = cluster.end.plus(records.len() as i64);
    let committed = Committed::Batch { end, records };
    cluster.ledger.replay(&committed).unwrap();
    cluster.end = end;
    let state = cluster.state();
    assert_eq!((state.leader, state.isr), (None, ids(&[])));
    assert_eq!(state.elr, ids(&[1, 2]));
    // Whoever comes first leads, and lacks nothing.
    cluster.start(2, 2);
    assert_eq!(cluster.state().leader, Some(BrokerId(2)));
    assert_eq!(cluster.state().cause, Cause::BrokerStarted);
}

#[test]
fn who_leaves_below_min_insync_replicas_stays_eligible_and_may_lead_again() {
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2, 3], &[("min.insync.replicas", "2")]);
    for id in [3, 2, 1] {
        cluster.fence(id);
    }
    let state = cluster.state();
    assert_eq!((state.leader, state.isr), (None, ids(&[])));
    assert_eq!((state.elr, state.last_known_elr), (ids(&[1, 2]), ids(&[1])));
    // Broker 3 fell behind before: it must wait.
    cluster.start(3, 2);
    assert_eq!(cluster.state().leader, None);
    cluster.start(2, 2);
    let state = cluster.state();
    assert_eq!((state.leader, state.isr), (Some(BrokerId(2)), ids(&[2])));
    assert_eq!(state.elr, ids(&[1]));
    assert_eq!(state.cause, Cause::BrokerStarted);
    assert!(!state.recovering && state.last_known_elr.is_empty());
}

#[test]
fn what_was_on_disk_survives_a_crash_of_all_and_the_loss_of_one_disk() {
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2, 3], &[("min.insync.replicas", "2")]);
    // All lose power. They come back before anybody is missed, broker 1 with an empty disk.
    cluster.register(crashed(2, 2)).unwrap();
    assert_eq!(cluster.state().isr, ids(&[1, 3]));
    cluster.register(crashed(3, 2)).unwrap();
    assert_eq!(cluster.state().elr, ids(&[3]));
    cluster.fence(1);
    cluster.register(wiped(1, 2)).unwrap();
    let state = cluster.state();
    assert_eq!(
        (state.leader, state.elr),
        (None, ids(&[3])),
        "broker 1 has nothing"
    );
    cluster.beat(1).unwrap();
    assert_eq!(cluster.state().leader, None);
    cluster.beat(3).unwrap();
    let state = cluster.state();
    assert_eq!((state.leader, state.recovering), (Some(BrokerId(3)), false));
}

#[test]
fn the_last_replica_leads_again_after_a_crash_but_not_with_an_empty_disk() {
    for (registration, leader) in [(crashed(1, 2), Some(BrokerId(1))), (wiped(1, 2), None)] {
        let mut cluster = Cluster::of(2, "");
        cluster.create_on(&[1, 2], &[]);
        cluster.fence(2);
        cluster.fence(1);
        cluster.register(registration).unwrap();
        cluster.beat(1).unwrap();
        cluster.start(2, 2);
        let state = cluster.state();
        assert_eq!(
            (state.leader, state.recovering),
            (leader, false),
            "{state:?}"
        );
    }
}

#[test]
fn a_replica_that_lost_its_memory_is_never_a_clean_leader_of_a_replicated_topic() {
    let settings = [
        ("min.insync.replicas", "2"),
        ("klamm.durability", "replicated"),
    ];
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2, 3], &settings);
    for id in [3, 2, 1] {
        cluster.fence(id);
    }
    assert_eq!(cluster.state().elr, ids(&[1, 2]));
    cluster.register(crashed(1, 2)).unwrap();
    cluster.beat(1).unwrap();
    let state = cluster.state();
    assert_eq!(
        (state.leader, state.elr),
        (None, ids(&[2])),
        "broker 2 may have more"
    );
    // Now nobody has more than the one who led last; that it may lack something is written down.
    cluster.register(crashed(2, 2)).unwrap();
    cluster.beat(2).unwrap();
    let state = cluster.state();
    assert_eq!((state.leader, state.isr), (Some(BrokerId(1)), ids(&[1])));
    assert_eq!(
        (state.recovering, state.cause),
        (true, Cause::LastKnownLeader)
    );
    // After a clean stop nothing is lost.
    let mut cluster = Cluster::of(1, "");
    cluster.create_on(&[1], &settings);
    cluster.fence(1);
    cluster.start(1, 2);
    assert!(cluster.state().leader.is_some() && !cluster.state().recovering);
}

#[test]
fn a_restarted_follower_leaves_the_isr_before_it_comes_back() {
    let mut cluster = Cluster::of(2, "");
    cluster.create_on(&[1, 2], &[]);
    cluster.register(crashed(2, 2)).unwrap();
    let state = cluster.state();
    assert_eq!((state.isr, state.leader), (ids(&[1]), Some(BrokerId(1))));
    assert_eq!(state.cause, Cause::BrokerRestarted);
}

#[test]
fn a_broker_that_wants_to_stop_leads_nothing_and_then_may() {
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2, 3], &[]);
    let stop = BrokerHeartbeat {
        wants_shut_down: true,
        ..cluster.heartbeat(1)
    };
    let reply = cluster.tell(stop).unwrap();
    assert!(!reply.should_shut_down, "others must know first");
    let state = cluster.state();
    assert_eq!((state.leader, state.isr), (Some(BrokerId(2)), ids(&[2, 3])));
    assert_eq!(state.cause, Cause::BrokerShutDown);
    let waiting = Situation::default();
    let request = Request::Heartbeat(stop);
    let (records, _) = cluster
        .ledger
        .handle(&mut cluster.entropy, waiting, &request)
        .unwrap();
    assert!(
        records.len() <= 1,
        "nothing new but the broker: {records:?}"
    );
    let reply = cluster.tell(stop).unwrap();
    assert!(reply.should_shut_down && reply.is_fenced);
    assert!(cluster.ledger.image().broker(BrokerId(1)).unwrap().fenced);
    // It comes back as it was, and follows.
    cluster.start(1, 2);
    let state = cluster.state();
    assert_eq!((state.leader, state.isr), (Some(BrokerId(2)), ids(&[2, 3])));
}

#[test]
fn unregistering_is_for_brokers_that_are_gone() {
    let mut cluster = Cluster::of(2, "");
    let id = BrokerId(2);
    let refusal = cluster.ask(Request::UnregisterBroker { id }).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InvalidRequest);
    cluster.fence(2);
    let epoch = cluster.epoch(2);
    cluster.ask(Request::UnregisterBroker { id }).unwrap();
    assert!(cluster.ledger.image().broker(id).is_none());
    let refusal = cluster.ask(Request::UnregisterBroker { id }).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::BrokerIdNotRegistered);
    // Epochs are never given again (M12).
    assert!(cluster.register(at_home(2, 1)).unwrap() > epoch);
}

#[test]
fn the_chain_of_causes_is_kept_for_the_last_changes_and_survives_a_snapshot() {
    let mut cluster = Cluster::of(2, "");
    cluster.create_on(&[1, 2], &[]);
    for run in 2..9 {
        cluster.fence(1);
        cluster.start(1, run);
        cluster.fence(2);
        cluster.start(2, run);
    }
    let image = cluster.ledger.image();
    let history = image.topic("a").unwrap().history(0);
    assert_eq!(history.len(), HISTORY_MAX);
    assert_eq!(*history.last().unwrap().state, cluster.state());
    for pair in history.windows(2) {
        assert!(pair[0].end < pair[1].end);
        assert!(pair[0].state.partition_epoch < pair[1].state.partition_epoch);
    }
    let last = history.last().unwrap();
    assert_eq!((last.at, last.by), (Timestamp(77), Some(BrokerId(2))));
    let rebuilt = ClusterImage::from_snapshot(image.end(), &image.to_records()).unwrap();
    assert_eq!(rebuilt.topic("a").unwrap().history(0), history);
    assert!(image.topic("a").unwrap().history(1).is_empty());
}

#[test]
fn what_all_brokers_must_agree_on_is_in_the_metadata_from_the_founding_on() {
    let mut cluster = Cluster::of(2, "min.insync.replicas=2");
    let all = ConfigResource::all_brokers();
    let settings = cluster.ledger.image().config(&all);
    assert_eq!(settings.get("min.insync.replicas").unwrap(), "2");
    assert_eq!(settings.get("klamm.durability").unwrap(), "fsync");
    cluster.create_on(&[1, 2], &[]);
    cluster.fence(2);
    assert_eq!(cluster.state().elr, ids(&[2]));
    let mut set = |resource: ConfigResource, operation, value: Option<&str>| {
        let change = ConfigChange {
            name: "min.insync.replicas".to_owned(),
            operation,
            value: value.map(str::to_owned),
        };
        let request = IncrementalAlterConfigs {
            resources: vec![(resource, vec![change])],
            validate_only: false,
        };
        let reply = cluster.ask(Request::IncrementalAlterConfigs(request));
        let Ok(Reply::AlterConfigs(mut results)) = reply else {
            panic!("{reply:?}")
        };
        results.remove(0).1
    };
    let one = ConfigResource::broker(BrokerId(1));
    let refusal = set(one, AlterOperation::Set, Some("1")).unwrap_err();
    assert!(refusal.text.contains("same on all brokers"), "{refusal}");
    // Fewer are enough from now on: the high watermark moves on without broker 2.
    set(all, AlterOperation::Delete, None).unwrap();
    let state = cluster.state();
    assert_eq!((state.elr, state.isr), (ids(&[]), ids(&[1])));
    assert_eq!(state.cause, Cause::MinInsyncReplicasChanged);
}
