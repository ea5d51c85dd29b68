//! In-sync proposals: what counts and what is refused.

use super::{Cluster, at_home, ids};
use crate::controller::*;
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, TopicId, Uuid};

/// A proposal of `isr` by the leader, for the state as it is.
fn proposal(cluster: &Cluster, isr: &[i32]) -> AlterPartition {
    let (state, image) = (cluster.state(), cluster.ledger.image());
    let leader = state.leader.unwrap();
    AlterPartition {
        broker: leader,
        broker_epoch: cluster.epoch(leader.0),
        changes: vec![IsrChange {
            topic_id: image.topic("a").unwrap().id,
            partition: 0,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: isr
                .iter()
                .map(|id| (BrokerId(*id), cluster.epoch(*id)))
                .collect(),
            recovering: false,
        }],
    }
}

fn propose(cluster: &mut Cluster, request: AlterPartition) -> Result<PartitionState, Refusal> {
    match cluster.ask(Request::AlterPartition(request))? {
        Reply::AlterPartition(mut results) => results.remove(0).2,
        other => panic!("{other:?}"),
    }
}

fn three() -> Cluster {
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2, 3], &[("min.insync.replicas", "2")]);
    cluster
}

#[test]
fn the_leader_shrinks_and_expands_the_isr_in_its_epoch() {
    let mut cluster = three();
    let shrunk = proposal(&cluster, &[1]);
    let state = propose(&mut cluster, shrunk).unwrap();
    assert_eq!(
        (state.isr.clone(), state.elr.clone()),
        (ids(&[1]), ids(&[2, 3]))
    );
    assert_eq!(
        (state.leader_epoch, state.partition_epoch),
        (LeaderEpoch(0), 1)
    );
    assert_eq!(state, cluster.state());
    let expanded = proposal(&cluster, &[3, 1]);
    let state = propose(&mut cluster, expanded.clone()).unwrap();
    assert_eq!(
        (state.isr, state.elr),
        (ids(&[1, 3]), ids(&[])),
        "two are enough"
    );
    assert_eq!((state.partition_epoch, state.cause), (2, Cause::IsrChanged));
    // What is so already is written once.
    let end = cluster.end;
    let same = proposal(&cluster, &[1, 3]);
    assert_eq!(propose(&mut cluster, same).unwrap(), cluster.state());
    assert_eq!(cluster.end, end);
    // The first proposal sent again is for a state that is gone.
    let late = propose(&mut cluster, expanded).unwrap_err();
    assert_eq!(late.code, ErrorCode::InvalidUpdateVersion);
}

#[test]
fn a_proposal_that_does_not_fit_is_refused_with_kafkas_code() {
    let mut cluster = three();
    cluster.fence(3);
    let good = proposal(&cluster, &[1, 2]);
    type Spoil = fn(&mut AlterPartition);
    let cases: [(Spoil, ErrorCode); 11] = [
        (
            |p| p.changes[0].topic_id = Uuid([9; 16]),
            ErrorCode::UnknownTopicId,
        ),
        (
            |p| p.changes[0].partition = 1,
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            |p| p.changes[0].leader_epoch = LeaderEpoch(-1),
            ErrorCode::FencedLeaderEpoch,
        ),
        (
            |p| p.changes[0].leader_epoch = LeaderEpoch(1),
            ErrorCode::NotController,
        ),
        (
            |p| p.changes[0].partition_epoch += 1,
            ErrorCode::NotController,
        ),
        (
            |p| p.changes[0].partition_epoch -= 1,
            ErrorCode::InvalidUpdateVersion,
        ),
        (
            |p| p.changes[0].isr = p.changes[0].isr.split_off(1),
            ErrorCode::InvalidRequest,
        ),
        (
            |p| p.changes[0].isr.push((BrokerId(9), BrokerEpoch(1))),
            ErrorCode::InvalidRequest,
        ),
        (
            |p| p.changes[0].isr.push((BrokerId(3), BrokerEpoch(1))),
            ErrorCode::IneligibleReplica,
        ),
        (
            |p| p.changes[0].isr[1].1 = BrokerEpoch(0),
            ErrorCode::IneligibleReplica,
        ),
        (
            |p| p.changes[0].recovering = true,
            ErrorCode::InvalidRequest,
        ),
    ];
    for (spoil, code) in cases {
        let mut bad = good.clone();
        spoil(&mut bad);
        let refusal = propose(&mut cluster, bad.clone()).unwrap_err();
        assert_eq!(refusal.code, code, "{bad:?}: {refusal}");
    }
    let stale = AlterPartition {
        broker_epoch: BrokerEpoch(0),
        ..good.clone()
    };
    let refusal = cluster.ask(Request::AlterPartition(stale)).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::StaleBrokerEpoch);
    let usurper = AlterPartition {
        broker: BrokerId(2),
        broker_epoch: cluster.epoch(2),
        ..good.clone()
    };
    let refusal = propose(&mut cluster, usurper).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::InvalidRequest);
    // Two changes of one partition in one request: the second is for a state that is gone.
    let mut twice = proposal(&cluster, &[1]);
    twice.changes.push(good.changes[0].clone());
    let Ok(Reply::AlterPartition(results)) = cluster.ask(Request::AlterPartition(twice)) else {
        panic!()
    };
    let codes: Vec<_> = results.iter().map(|(.., one)| one.as_ref().err()).collect();
    assert_eq!(codes[0], None);
    assert_eq!(codes[1].unwrap().code, ErrorCode::InvalidUpdateVersion);
}

#[test]
fn a_replica_seen_in_sync_in_an_earlier_run_is_not_taken_in() {
    let mut cluster = three();
    cluster.fence(3);
    cluster.start(3, 2);
    let late = proposal(&cluster, &[1, 2, 3]);
    // It loses power and comes back while the proposal is on its way (B23).
    let crashed = RegisterBroker {
        after_clean_shutdown: false,
        ..at_home(3, 3)
    };
    cluster.register(crashed).unwrap();
    cluster.beat(3).unwrap();
    let mut now = late;
    now.changes[0].partition_epoch = cluster.state().partition_epoch;
    let refusal = propose(&mut cluster, now).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::IneligibleReplica);
    assert_eq!(cluster.state().isr, ids(&[1, 2]));
}

#[test]
fn a_stopping_broker_is_not_taken_in() {
    let mut cluster = three();
    let stop = BrokerHeartbeat {
        wants_shut_down: true,
        ..cluster.heartbeat(3)
    };
    cluster.tell(stop).unwrap();
    let request = proposal(&cluster, &[1, 2, 3]);
    let refusal = propose(&mut cluster, request).unwrap_err();
    assert_eq!(refusal.code, ErrorCode::IneligibleReplica);
}

#[test]
fn a_leader_that_cannot_go_on_hands_over_or_begins_anew() {
    for (durability, elr) in [("fsync", ids(&[1])), ("replicated", Vec::new())] {
        let mut cluster = Cluster::of(2, "");
        let settings = [
            ("min.insync.replicas", "2"),
            ("klamm.durability", durability),
        ];
        cluster.create_on(&[1, 2], &settings);
        let resigned = proposal(&cluster, &[]);
        let state = propose(&mut cluster, resigned.clone()).unwrap();
        assert_eq!((state.leader, state.isr), (Some(BrokerId(2)), ids(&[2])));
        assert_eq!((&state.elr, state.cause), (&elr, Cause::LeaderResigned));
        let late = propose(&mut cluster, resigned).unwrap_err();
        assert_eq!(late.code, ErrorCode::FencedLeaderEpoch);
        let alone = proposal(&cluster, &[]);
        let again = propose(&mut cluster, alone).unwrap();
        // One that is eligible has everything committed; one that may lack some has not.
        let next = if state.elr.is_empty() { 2 } else { 1 };
        assert_eq!(
            (again.leader, again.isr),
            (Some(BrokerId(next)), ids(&[next]))
        );
        assert_eq!(again.leader_epoch.0, state.leader_epoch.0 + 1);
    }
}

fn elect(cluster: &mut Cluster, kind: ElectionKind) -> Vec<PartitionResult> {
    let partitions = Some(vec![("a".to_owned(), 0)]);
    match cluster.ask(Request::ElectLeaders(ElectLeaders { kind, partitions })) {
        Ok(Reply::ElectLeaders(results)) => results,
        other => panic!("{other:?}"),
    }
}

fn code(results: &[PartitionResult]) -> Option<ErrorCode> {
    results[0].2.as_ref().err().map(|refusal| refusal.code)
}

#[test]
fn the_preferred_leader_is_elected_when_asked_for_and_in_sync() {
    let mut cluster = three();
    let not_needed = elect(&mut cluster, ElectionKind::Preferred);
    assert_eq!(code(&not_needed), Some(ErrorCode::ElectionNotNeeded));
    cluster.fence(1);
    cluster.start(1, 2);
    let behind = elect(&mut cluster, ElectionKind::Preferred);
    assert_eq!(code(&behind), Some(ErrorCode::PreferredLeaderNotAvailable));
    let request = proposal(&cluster, &[1, 2, 3]);
    propose(&mut cluster, request).unwrap();
    let epoch = cluster.state().leader_epoch;
    assert_eq!(code(&elect(&mut cluster, ElectionKind::Preferred)), None);
    let state = cluster.state();
    assert_eq!(
        (state.leader, state.cause),
        (Some(BrokerId(1)), Cause::PreferredElection)
    );
    assert_eq!(state.leader_epoch.0, epoch.0 + 1);
}

#[test]
fn an_unclean_election_happens_where_it_is_asked_for_or_allowed_and_is_written_down() {
    let mut cluster = Cluster::of(2, "");
    cluster.create_on(&[1, 2], &[]);
    let led = elect(&mut cluster, ElectionKind::Unclean);
    assert_eq!(code(&led), Some(ErrorCode::ElectionNotNeeded));
    cluster.fence(2);
    cluster.fence(1);
    let nobody = elect(&mut cluster, ElectionKind::Unclean);
    assert_eq!(code(&nobody), Some(ErrorCode::EligibleLeadersNotAvailable));
    cluster.start(2, 2);
    assert_eq!(cluster.state().leader, None);
    assert_eq!(code(&elect(&mut cluster, ElectionKind::Unclean)), None);
    let state = cluster.state();
    assert_eq!((state.leader, state.isr), (Some(BrokerId(2)), ids(&[2])));
    assert_eq!(
        (state.cause, state.recovering),
        (Cause::UncleanElection, true)
    );
    assert!(state.elr.is_empty());
    // The leader says when it has recovered; until then it is alone.
    let mut recovering = proposal(&cluster, &[2]);
    recovering.changes[0].recovering = true;
    assert_eq!(propose(&mut cluster, recovering).unwrap(), cluster.state());
    let recovered = proposal(&cluster, &[2]);
    assert!(!propose(&mut cluster, recovered).unwrap().recovering);

    let mut cluster = Cluster::of(2, "");
    cluster.create_on(&[1, 2], &[("unclean.leader.election.enable", "true")]);
    cluster.fence(2);
    cluster.fence(1);
    cluster.start(2, 2);
    assert_eq!(cluster.state().cause, Cause::UncleanElection);

    let mut cluster = Cluster::of(2, "");
    cluster.create_on(&[1, 2], &[]);
    cluster.fence(2);
    cluster.fence(1);
    cluster.start(2, 2);
    let settings = vec![(
        "unclean.leader.election.enable".to_owned(),
        Some("true".to_owned()),
    )];
    let request = AlterConfigs {
        resources: vec![(ConfigResource::topic("a"), settings)],
        validate_only: false,
    };
    cluster.ask(Request::AlterConfigs(request)).unwrap();
    assert_eq!(
        cluster.state().cause,
        Cause::UncleanElection,
        "allowed later"
    );
}

#[test]
fn an_election_for_all_tells_only_of_those_that_needed_one() {
    let mut cluster = three();
    let all = |kind| {
        Request::ElectLeaders(ElectLeaders {
            kind,
            partitions: None,
        })
    };
    let reply = cluster.ask(all(ElectionKind::Preferred)).unwrap();
    assert_eq!(reply, Reply::ElectLeaders(Vec::new()));
    let partitions = Some(vec![("b".to_owned(), 0), ("a".to_owned(), 1)]);
    let kind = ElectionKind::Unclean;
    let request = Request::ElectLeaders(ElectLeaders { kind, partitions });
    let Ok(Reply::ElectLeaders(results)) = cluster.ask(request) else {
        panic!()
    };
    for (.., result) in results {
        assert_eq!(result.unwrap_err().code, ErrorCode::UnknownTopicOrPartition);
    }
    assert_ne!(TopicId::ZERO, cluster.ledger.image().topic("a").unwrap().id);
}
