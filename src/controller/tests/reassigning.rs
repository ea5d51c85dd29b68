//! Replicas on the move.

use super::{Cluster, ids};
use crate::controller::*;
use crate::types::{BrokerId, ErrorCode};

fn reassign(cluster: &mut Cluster, target: Option<&[i32]>, may_resize: bool) -> Option<ErrorCode> {
    let request = AlterReassignments {
        allow_replication_factor_change: may_resize,
        partitions: vec![("a".to_owned(), 0, target.map(ids))],
    };
    match cluster.ask(Request::AlterReassignments(request)) {
        Ok(Reply::AlterReassignments(mut results)) => {
            results.remove(0).2.err().map(|refusal| refusal.code)
        }
        other => panic!("{other:?}"),
    }
}

/// The leader proposes `isr`.
fn propose(cluster: &mut Cluster, isr: &[i32]) -> PartitionState {
    let state = cluster.state();
    let leader = state.leader.unwrap();
    let request = AlterPartition {
        broker: leader,
        broker_epoch: cluster.epoch(leader.0),
        changes: vec![IsrChange {
            topic_id: cluster.ledger.image().topic("a").unwrap().id,
            partition: 0,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: isr
                .iter()
                .map(|id| (BrokerId(*id), cluster.epoch(*id)))
                .collect(),
            recovering: false,
        }],
    };
    match cluster.ask(Request::AlterPartition(request)) {
        Ok(Reply::AlterPartition(mut results)) => results.remove(0).2.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reassignment_is_complete_only_when_all_its_targets_are_in_sync() {
    let mut cluster = Cluster::of(4, "");
    cluster.create_on(&[1, 2], &[]);
    assert_eq!(reassign(&mut cluster, Some(&[3, 4]), false), None);
    let state = cluster.state();
    assert_eq!(state.replicas, ids(&[3, 4, 1, 2]));
    assert_eq!((state.adding, state.removing), (ids(&[3, 4]), ids(&[1, 2])));
    assert_eq!((state.isr, state.leader), (ids(&[1, 2]), Some(BrokerId(1))));
    let state = propose(&mut cluster, &[1, 2, 3]);
    assert_eq!(state.replicas.len(), 4, "broker 4 is not in sync (B35)");
    let epoch = state.leader_epoch;
    let state = propose(&mut cluster, &[1, 2, 3, 4]);
    assert_eq!(
        (&state.replicas, &state.isr),
        (&ids(&[3, 4]), &ids(&[3, 4]))
    );
    assert!(!state.is_reassigning());
    assert_eq!(
        (state.leader, state.leader_epoch.0),
        (Some(BrokerId(3)), epoch.0 + 1)
    );
    assert_eq!(state.cause, Cause::ReassignmentCompleted);
}

#[test]
fn who_only_goes_goes_at_once_in_a_new_leader_epoch() {
    let mut cluster = Cluster::of(3, "");
    cluster.create_on(&[1, 2, 3], &[]);
    let refused = reassign(&mut cluster, Some(&[1, 2]), false);
    assert_eq!(refused, Some(ErrorCode::InvalidReplicationFactor));
    assert_eq!(reassign(&mut cluster, Some(&[2, 1]), true), None);
    let state = cluster.state();
    assert_eq!(
        (&state.replicas, &state.isr),
        (&ids(&[2, 1]), &ids(&[1, 2]))
    );
    assert_eq!((state.leader, state.leader_epoch.0), (Some(BrokerId(1)), 1));
}

#[test]
fn a_cancelled_reassignment_leaves_the_replicas_there_were() {
    let mut cluster = Cluster::of(4, "");
    cluster.create_on(&[1, 2], &[]);
    let nothing = reassign(&mut cluster, None, true);
    assert_eq!(nothing, Some(ErrorCode::NoReassignmentInProgress));
    reassign(&mut cluster, Some(&[3, 4]), true);
    propose(&mut cluster, &[1, 2, 3]);
    assert_eq!(reassign(&mut cluster, None, true), None);
    let state = cluster.state();
    assert_eq!(
        (&state.replicas, &state.isr),
        (&ids(&[1, 2]), &ids(&[1, 2]))
    );
    assert!(!state.is_reassigning());
    assert_eq!(state.cause, Cause::ReassignmentCancelled);
    // Not if only the new replicas are left.
    reassign(&mut cluster, Some(&[3, 4]), true);
    propose(&mut cluster, &[1, 2, 3]);
    cluster.fence(1);
    cluster.fence(2);
    assert_eq!(cluster.state().leader, Some(BrokerId(3)));
    let refused = reassign(&mut cluster, None, true);
    assert_eq!(refused, Some(ErrorCode::InvalidReplicaAssignment));
}

#[test]
fn a_new_target_starts_from_the_replicas_there_were() {
    let mut cluster = Cluster::of(4, "");
    cluster.create_on(&[1, 2], &[]);
    reassign(&mut cluster, Some(&[3, 2]), true);
    assert_eq!(reassign(&mut cluster, Some(&[4, 2]), true), None);
    let state = cluster.state();
    assert_eq!(state.replicas, ids(&[4, 2, 1]));
    assert_eq!((state.adding, state.removing), (ids(&[4]), ids(&[1])));
    let state = propose(&mut cluster, &[1, 2, 4]);
    assert_eq!(state.replicas, ids(&[4, 2]));
}

#[test]
fn targets_must_be_distinct_known_brokers() {
    let mut cluster = Cluster::of(2, "");
    cluster.create_on(&[1, 2], &[]);
    for bad in [&[][..], &[1, 1], &[1, 9]] {
        let refused = reassign(&mut cluster, Some(bad), true);
        assert_eq!(
            refused,
            Some(ErrorCode::InvalidReplicaAssignment),
            "{bad:?}"
        );
    }
    let moves = vec![
        ("a".to_owned(), 7, Some(ids(&[1]))),
        ("a".to_owned(), 0, Some(ids(&[2, 1]))),
        ("a".to_owned(), 0, Some(ids(&[1, 2]))),
    ];
    let request = AlterReassignments {
        allow_replication_factor_change: true,
        partitions: moves,
    };
    let Ok(Reply::AlterReassignments(results)) = cluster.ask(Request::AlterReassignments(request))
    else {
        panic!()
    };
    let codes: Vec<_> = results
        .iter()
        .map(|(.., one)| one.as_ref().err().map(|refusal| refusal.code))
        .collect();
    let wanted = [
        Some(ErrorCode::UnknownTopicOrPartition),
        None,
        Some(ErrorCode::InvalidRequest),
    ];
    assert_eq!(codes, wanted);
}
