//! The classic protocol rule by rule: one short story a test.

use std::time::Duration;

use bytes::Bytes;

use super::ledger::{Reply, Request};
use super::test_group::*;
use super::*;
use crate::types::ErrorCode;
use crate::wire::Str;
use crate::wire::message::join_group::JoinGroupRequest;
use crate::wire::message::leave_group::LeaveGroupRequest;
use crate::wire::message::list_groups::ListGroupsRequest;
use crate::wire::message::sync_group::SyncGroupRequest;

fn with_protocols(member_id: &Str, names: &[&str]) -> JoinGroupRequest {
    JoinGroupRequest {
        protocols: names
            .iter()
            .map(|name| protocol(name, subscription(&["t"])))
            .collect(),
        ..join_request(member_id)
    }
}

/// Static members `names`, stable; their ids in order, and the generation.
fn stable_static(bench: &mut Bench, names: &[&str], version: i16) -> (Vec<Str>, i32) {
    let joins: Vec<_> = names
        .iter()
        .map(|name| bench.join_as(static_join(name, &nobody()), version))
        .collect();
    bench.seconds(7);
    let answers: Vec<_> = joins
        .iter()
        .map(|to| bench.joined(*to).expect("the delay is over"))
        .collect();
    let ids: Vec<Str> = answers.iter().map(|a| a.member_id.clone()).collect();
    let plan: Vec<(&Str, &str)> = ids.iter().zip(names.iter().copied()).collect();
    let generation = answers[0].generation_id;
    for id in &ids {
        let own: &[_] = if *id == answers[0].leader { &plan } else { &[] };
        bench.sync(generation, id, own);
    }
    assert_eq!(bench.state(), GroupState::Stable);
    (ids, generation)
}

#[test]
fn a_new_member_learns_its_id_before_it_joins() {
    let mut bench = Bench::new();
    let id = bench.member_id();
    assert!(
        id.starts_with("client-") && id.len() == "client-".len() + 36,
        "{id}"
    );
    let other = bench.member_id();
    assert_ne!(id, other);
    let old = bench.join_as(join_request(&nobody()), 3);
    assert!(bench.joined(old).is_none(), "version 3 joins at once");
}

#[test]
fn a_member_id_lapses_when_nobody_joins_with_it() {
    let mut bench = Bench::new();
    let id = bench.member_id();
    bench.seconds(11);
    assert_eq!(bench.state(), GroupState::Dead);
    let to = bench.join(&id);
    let answer = bench.joined(to).expect("refused at once");
    assert_eq!(answer.error_code, ErrorCode::UnknownMemberId.code());
    assert_eq!(answer.member_id, id);
}

#[test]
fn the_first_generation_waits_for_members_that_keep_coming() {
    let mut bench = Bench::new();
    let first = bench.join_as(join_request(&nobody()), 3);
    bench.seconds(2);
    let second = bench.join_as(join_request(&nobody()), 3);
    bench.seconds(2);
    assert!(
        bench.joined(first).is_none(),
        "the second member extends the delay"
    );
    bench.seconds(2);
    let first = bench.joined(first).expect("nobody came for one delay");
    let second = bench.joined(second).expect("nobody came for one delay");
    assert_eq!((first.generation_id, second.generation_id), (1, 1));
    assert_eq!(first.leader, second.leader);
    let (leader, follower) = match first.leader == first.member_id {
        true => (first, second),
        false => (second, first),
    };
    assert_eq!(leader.members.len(), 2);
    assert!(follower.members.is_empty());
}

#[test]
fn the_first_delay_ends_with_the_rebalance_timeout() {
    let mut bench = Bench::new();
    let short = |bench: &mut Bench| {
        let request = JoinGroupRequest {
            rebalance_timeout_ms: 7_000,
            ..join_request(&nobody())
        };
        bench.join_as(request, 3)
    };
    let first = short(&mut bench);
    for _ in 0..7 {
        bench.seconds(1);
        short(&mut bench);
    }
    assert!(bench.joined(first).is_some());
}

#[test]
fn members_get_what_the_assigning_member_decided() {
    let mut bench = Bench::undelayed();
    let (a, b) = (bench.member_id(), bench.member_id());
    let (join_a, join_b) = (bench.join(&a), bench.join(&b));
    bench.seconds(1);
    let leader = bench.joined(join_a).expect("joined").leader;
    assert_eq!(bench.joined(join_b).expect("joined").generation_id, 1);
    let follower = if leader == a { b.clone() } else { a.clone() };
    assert_eq!(bench.state(), GroupState::CompletingRebalance);
    assert_eq!(bench.heartbeat(1, &follower), ErrorCode::None);
    let waits = bench.sync(1, &follower, &[]);
    assert!(bench.synced(waits).is_none());
    let own = bench.sync(1, &leader, &[(&leader, "L"), (&follower, "F")]);
    let own = bench.synced(own).expect("answered");
    assert_eq!(own.assignment, "L");
    assert_eq!(own.protocol_name, Some("range".into()));
    assert_eq!(bench.synced(waits).expect("answered").assignment, "F");
    assert_eq!(bench.heartbeat(1, &leader), ErrorCode::None);
    let again = bench.sync(1, &follower, &[]);
    assert_eq!(bench.synced(again).expect("answered").assignment, "F");
    let other = bench.sync(1, &leader, &[(&leader, "other")]);
    let other = bench.synced(other).expect("answered").assignment;
    assert_eq!(other, "L", "a generation has one assignment");
}

#[test]
fn the_protocol_most_members_like_among_those_all_know_is_chosen() {
    let mut bench = Bench::undelayed();
    let ids: Vec<Str> = (0..3).map(|_| bench.member_id()).collect();
    let lists: [&[&str]; 3] = [&["x", "b", "a"], &["b", "a"], &["a", "b"]];
    for (id, names) in ids.iter().zip(lists) {
        bench.join_as(with_protocols(id, names), 5);
    }
    bench.seconds(1);
    assert_eq!(bench.metadata().protocol, Some("b".into()));
}

#[test]
fn a_member_that_shares_no_protocol_is_refused() {
    let mut bench = Bench::undelayed();
    bench.stable(1);
    let stranger = bench.join_as(with_protocols(&nobody(), &["other"]), 3);
    let refused = bench.joined(stranger).expect("refused at once");
    assert_eq!(
        refused.error_code,
        ErrorCode::InconsistentGroupProtocol.code()
    );
    let other_type = JoinGroupRequest {
        protocol_type: "connect".into(),
        ..join_request(&nobody())
    };
    let to = bench.join_as(other_type, 3);
    let refused = bench.joined(to).expect("refused at once");
    assert_eq!(
        refused.error_code,
        ErrorCode::InconsistentGroupProtocol.code()
    );
    assert_eq!(bench.state(), GroupState::Stable);
    let mut empty = Bench::undelayed();
    let to = empty.join_as(with_protocols(&nobody(), &[]), 3);
    let refused = empty.joined(to).expect("refused at once");
    assert_eq!(
        refused.error_code,
        ErrorCode::InconsistentGroupProtocol.code()
    );
}

#[test]
fn a_joining_member_makes_the_others_join_again() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(2);
    let newcomer = bench.member_id();
    let to = bench.join(&newcomer);
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert_eq!(
        bench.heartbeat(generation, &ids[0]),
        ErrorCode::RebalanceInProgress
    );
    let late = bench.sync(generation, &ids[0], &[]);
    let late = bench.synced(late).expect("refused at once").error_code;
    assert_eq!(late, ErrorCode::RebalanceInProgress.code());
    let joins: Vec<_> = ids.iter().map(|id| bench.join(id)).collect();
    for to in joins.into_iter().chain([to]) {
        let answer = bench.joined(to).expect("all have joined");
        assert_eq!(answer.generation_id, generation + 1);
    }
    assert_eq!(
        bench.heartbeat(generation, &ids[0]),
        ErrorCode::IllegalGeneration
    );
}

#[test]
fn members_that_do_not_join_again_in_time_are_out() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(2);
    let newcomer = bench.member_id();
    let to = bench.join(&newcomer);
    let stays = bench.join(&ids[0]);
    for _ in 0..12 {
        bench.seconds(5);
        bench.heartbeat(generation, &ids[1]);
    }
    assert_eq!(
        bench.joined(to).expect("time is up").generation_id,
        generation + 1
    );
    assert_eq!(bench.joined(stays).expect("time is up").error_code, 0);
    assert_eq!(
        bench.heartbeat(generation, &ids[1]),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(bench.metadata().members.len(), 2);
}

#[test]
fn a_silent_member_is_out_after_its_session() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(2);
    for _ in 0..2 {
        bench.seconds(5);
        bench.heartbeat(generation, &ids[0]);
    }
    bench.seconds(1);
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert_eq!(
        bench.heartbeat(generation, &ids[1]),
        ErrorCode::UnknownMemberId
    );
    let to = bench.join(&ids[0]);
    assert_eq!(bench.joined(to).expect("alone").members.len(), 1);
}

#[test]
fn committing_offsets_keeps_a_session_alive() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    for offset in 0..5 {
        bench.seconds(8);
        assert_eq!(bench.commit(generation, &ids[0], offset), ErrorCode::None);
    }
    assert_eq!(bench.heartbeat(generation, &ids[0]), ErrorCode::None);
}

#[test]
fn members_that_never_ask_for_their_assignment_do_not_hold_up_the_group() {
    let mut bench = Bench::undelayed();
    let ids: Vec<Str> = (0..2).map(|_| bench.member_id()).collect();
    let joins: Vec<_> = ids.iter().map(|id| bench.join(id)).collect();
    bench.seconds(1);
    let leader = bench.joined(joins[0]).expect("joined").leader;
    let follower = ids
        .iter()
        .find(|id| **id != leader)
        .expect("two members")
        .clone();
    let waits = bench.sync(1, &follower, &[]);
    for _ in 0..13 {
        bench.seconds(5);
        bench.heartbeat(1, &leader);
    }
    let refused = bench.synced(waits).expect("the leader is given up");
    assert_eq!(refused.error_code, ErrorCode::RebalanceInProgress.code());
    assert_eq!(bench.heartbeat(1, &leader), ErrorCode::UnknownMemberId);
    let again = bench.join(&follower);
    let again = bench.joined(again).expect("alone");
    assert_eq!((again.leader, again.generation_id), (follower, 2));
}

#[test]
fn a_new_member_that_went_away_while_joining_times_out() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    bench.join_as(join_request(&nobody()), 3);
    for _ in 0..70 {
        bench.seconds(5);
        if bench.state() == GroupState::PreparingRebalance {
            break;
        }
    }
    bench.seconds(1);
    assert!(bench.heartbeat(generation, &ids[0]) != ErrorCode::None);
}

#[test]
fn the_past_has_no_effect() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    let before = bench.log.len();
    for wrong in [generation - 1, generation + 1] {
        assert_eq!(
            bench.heartbeat(wrong, &ids[0]),
            ErrorCode::IllegalGeneration
        );
        assert_eq!(
            bench.commit(wrong, &ids[0], 7),
            ErrorCode::IllegalGeneration
        );
        let sync = bench.sync(wrong, &ids[0], &[(&ids[0], "stolen")]);
        let error = bench.synced(sync).expect("refused").error_code;
        assert_eq!(error, ErrorCode::IllegalGeneration.code());
    }
    let stranger = Str::from("stranger");
    assert_eq!(
        bench.heartbeat(generation, &stranger),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(
        bench.commit(generation, &stranger, 7),
        ErrorCode::UnknownMemberId
    );
    let sync = bench.sync(generation, &stranger, &[]);
    let error = bench.synced(sync).expect("refused").error_code;
    assert_eq!(error, ErrorCode::UnknownMemberId.code());
    assert_eq!(bench.log.len(), before);
}

#[test]
fn a_sync_that_names_another_protocol_is_refused() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    let request = |protocol_type: &str, protocol_name: &str| SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id: generation,
        member_id: ids[0].clone(),
        protocol_type: Some(protocol_type.into()),
        protocol_name: Some(protocol_name.into()),
        ..SyncGroupRequest::default()
    };
    let mut error = |request| {
        let to = bench.ask(Request::Sync(request));
        bench.synced(to).expect("answered at once").error_code
    };
    let refused = ErrorCode::InconsistentGroupProtocol.code();
    assert_eq!(error(request("consumer", "range")), 0);
    assert_eq!(error(request("connect", "range")), refused);
    assert_eq!(error(request("consumer", "sticky")), refused);
}

#[test]
fn a_join_repeated_while_completing_tells_the_same_again() {
    let mut bench = Bench::undelayed();
    let id = bench.member_id();
    let first = bench.join(&id);
    bench.seconds(1);
    let again = bench.join(&id);
    let (first, again) = (bench.joined(first), bench.joined(again));
    assert_eq!(first, again);
    let again = again.expect("answered at once");
    assert_eq!(again.members.len(), 1);
}

#[test]
fn a_follower_may_ask_again_but_the_assigning_member_starts_a_rebalance() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(2);
    let leader = bench.metadata().leader.expect("stable");
    let follower = ids.iter().find(|id| **id != leader).expect("two").clone();
    let to = bench.join(&follower);
    let answer = bench.joined(to).expect("at once");
    assert_eq!(
        (answer.generation_id, answer.members.len()),
        (generation, 0)
    );
    let changed = JoinGroupRequest {
        protocols: vec![protocol("range", subscription(&["t", "u"]))],
        ..join_request(&follower)
    };
    let to = bench.join_as(changed, 5);
    assert!(
        bench.joined(to).is_none(),
        "a new subscription starts a rebalance"
    );
    let to = bench.join(&leader);
    assert_eq!(bench.joined(to).expect("all").generation_id, generation + 1);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_the_old_one_is_fenced() {
    for version in [5, 9] {
        let mut bench = Bench::undelayed();
        let (ids, generation) = stable_static(&mut bench, &["x", "y"], version);
        let leader = bench.metadata().leader.expect("stable");
        for (old, name) in ids.iter().zip(["x", "y"]) {
            let to = bench.join_as(static_join(name, &nobody()), version);
            let answer = bench.joined(to).expect("at once");
            assert_eq!((answer.error_code, answer.generation_id), (0, generation));
            assert_ne!(answer.member_id, *old);
            let leads = *old == leader;
            assert_eq!(answer.skip_assignment, leads && version >= 9);
            assert_eq!(
                answer.members.len(),
                if leads && version >= 9 { 2 } else { 0 }
            );
            if version < 9 {
                assert_ne!(answer.leader, answer.member_id, "it would assign anew");
            }
            assert_eq!(bench.state(), GroupState::Stable);
            let fenced = bench.heartbeat_as(generation, old, Some(name));
            assert_eq!(fenced, ErrorCode::FencedInstanceId);
            assert_eq!(bench.heartbeat(generation, old), ErrorCode::UnknownMemberId);
            let sync = bench.sync(generation, &answer.member_id, &[]);
            assert_eq!(bench.synced(sync).expect("at once").assignment, name);
            // The new id outlives the coordinator.
            bench.fail_over(bench.log.len());
            let alive = bench.heartbeat_as(generation, &answer.member_id, Some(name));
            assert_eq!(alive, ErrorCode::None);
        }
    }
}

#[test]
fn a_static_member_that_wants_other_topics_starts_a_rebalance() {
    let mut bench = Bench::undelayed();
    stable_static(&mut bench, &["x", "y"], 5);
    let request = JoinGroupRequest {
        protocols: vec![protocol("range", subscription(&["u"]))],
        ..static_join("y", &nobody())
    };
    let to = bench.join_as(request, 5);
    assert!(bench.joined(to).is_none());
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
}

#[test]
fn the_old_static_member_is_fenced_while_it_waits() {
    let mut bench = Bench::undelayed();
    let (ids, _) = stable_static(&mut bench, &["x", "y"], 5);
    let leader = bench.metadata().leader.expect("stable");
    let name = if ids[0] == leader { "x" } else { "y" };
    let waits = bench.join_as(static_join(name, &leader), 5);
    assert!(
        bench.joined(waits).is_none(),
        "the assigning member starts a rebalance"
    );
    bench.join_as(static_join(name, &nobody()), 5);
    let fenced = bench.joined(waits).expect("fenced");
    assert_eq!(fenced.error_code, ErrorCode::FencedInstanceId.code());
}

#[test]
fn an_absent_static_member_keeps_its_place_until_its_session_ends() {
    let mut bench = Bench::undelayed();
    let long = |name: &str, id: &Str| JoinGroupRequest {
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 10_000,
        ..static_join(name, id)
    };
    let x = bench.join_as(long("x", &nobody()), 5);
    let y = bench.join_as(long("y", &nobody()), 5);
    bench.seconds(1);
    let (x, y) = (
        bench.joined(x).expect("joined"),
        bench.joined(y).expect("joined"),
    );
    bench.sync(1, &x.leader, &[]);
    let other = if x.leader == x.member_id { &y } else { &x };
    bench.sync(1, &other.member_id, &[]);
    let (name, id) = match x.leader == x.member_id {
        true => ("x", x.member_id.clone()),
        false => ("y", y.member_id.clone()),
    };
    let again = bench.join_as(long(name, &id), 5);
    bench.seconds(11);
    let again = bench.joined(again).expect("the rebalance timeout is over");
    assert_eq!((again.generation_id, again.members.len()), (2, 2));
    bench.sync(2, &id, &[(&other.member_id, "kept")]);
    bench.seconds(60);
    assert_eq!(
        bench.state(),
        GroupState::Stable,
        "no sync is awaited of the absent"
    );
    for _ in 0..4 {
        bench.seconds(60);
        bench.heartbeat(2, &id);
    }
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
}

#[test]
fn members_leave_together_each_with_its_own_error() {
    let mut bench = Bench::undelayed();
    let (empty, stranger) = (nobody(), Str::from("stranger"));
    let nowhere = bench.leave(&[(&stranger, None)]);
    let unknown = ErrorCode::UnknownMemberId.code();
    assert_eq!(
        (nowhere.error_code, nowhere.members[0].error_code),
        (0, unknown)
    );
    let (ids, generation) = stable_static(&mut bench, &["x", "y", "z"], 5);
    let answer = bench.leave(&[
        (&ids[0], Some("x")),
        (&empty, Some("y")),
        (&empty, Some("w")),
        (&stranger, Some("z")),
        (&stranger, None),
    ]);
    let codes: Vec<i16> = answer.members.iter().map(|m| m.error_code).collect();
    let fenced = ErrorCode::FencedInstanceId.code();
    assert_eq!(codes, [0, 0, unknown, fenced, unknown]);
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert_eq!(
        bench.heartbeat(generation, &ids[0]),
        ErrorCode::UnknownMemberId
    );
    let last = bench.join_as(static_join("z", &ids[2]), 5);
    assert_eq!(bench.joined(last).expect("alone").members.len(), 1);
}

#[test]
fn when_the_last_member_leaves_the_group_is_empty_for_good() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    let old = LeaveGroupRequest {
        group_id: GROUP.into(),
        member_id: ids[0].clone(),
        ..LeaveGroupRequest::default()
    };
    let leave = |request| Request::Leave {
        request,
        version: 1,
    };
    let Reply::Leave(answer) = bench.reply_to(leave(old.clone())) else {
        panic!("not a leave");
    };
    assert_eq!(answer.error_code, 0);
    assert_eq!(bench.state(), GroupState::Empty);
    let recorded = bench.metadata();
    assert_eq!(recorded.generation, generation + 1);
    assert!(recorded.members.is_empty() && recorded.protocol.is_none());
    let Reply::Leave(answer) = bench.reply_to(leave(old)) else {
        panic!("not a leave");
    };
    assert_eq!(answer.error_code, ErrorCode::UnknownMemberId.code());
    let (_, next) = bench.stable(1);
    assert_eq!(next, generation + 2, "generations go on where they were");
}

#[test]
fn a_full_group_takes_nobody_more() {
    let mut bench = Bench::with(GroupConfig {
        max_size: 2,
        initial_rebalance_delay: Duration::ZERO,
        ..GroupConfig::default()
    });
    let (ids, generation) = bench.stable(2);
    let to = bench.join_as(join_request(&nobody()), 3);
    let refused = bench.joined(to).expect("refused at once");
    assert_eq!(refused.error_code, ErrorCode::GroupMaxSizeReached.code());
    assert_eq!(bench.heartbeat(generation, &ids[0]), ErrorCode::None);
}

#[test]
fn metadata_that_could_not_be_recorded_is_refused_at_the_door() {
    let mut bench = Bench::with(GroupConfig {
        record_bytes_max: 400,
        initial_rebalance_delay: Duration::ZERO,
        ..GroupConfig::default()
    });
    let large = JoinGroupRequest {
        protocols: vec![protocol("range", Bytes::from(vec![0; 401]))],
        ..join_request(&nobody())
    };
    let to = bench.join_as(large, 3);
    let refused = bench.joined(to).expect("refused at once").error_code;
    assert_eq!(refused, ErrorCode::GroupMaxSizeReached.code());
    let id = bench.member_id();
    bench.join(&id);
    bench.seconds(1);
    let large = "x".repeat(400);
    let to = bench.sync(1, &id, &[(&id, &large)]);
    let refused = bench.synced(to).expect("refused at once").error_code;
    assert_eq!(refused, ErrorCode::UnknownServerError.code());
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    let again = bench.join(&id);
    assert!(bench.joined(again).is_some(), "the group goes on");
}

#[test]
fn requests_outside_the_limits_are_refused() {
    let mut bench = Bench::new();
    let mut error = |request: JoinGroupRequest| {
        let to = bench.join_as(request, 5);
        let code = bench.joined(to).expect("refused at once").error_code;
        ErrorCode::from_wire(code).expect("a known code")
    };
    let base = || join_request(&nobody());
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let request = JoinGroupRequest {
            session_timeout_ms,
            ..base()
        };
        assert_eq!(error(request), ErrorCode::InvalidSessionTimeout);
    }
    let unnamed = JoinGroupRequest {
        group_id: nobody(),
        ..base()
    };
    assert_eq!(error(unnamed), ErrorCode::InvalidGroupId);
    let long = JoinGroupRequest {
        group_instance_id: Some("i".repeat(40_000).into()),
        ..base()
    };
    assert_eq!(error(long), ErrorCode::InvalidRequest);
    assert_eq!(bench.state(), GroupState::Dead);
}

#[test]
fn a_generation_that_members_know_never_names_another() {
    let mut bench = Bench::undelayed();
    let id = bench.member_id();
    let to = bench.join(&id);
    bench.seconds(1);
    assert_eq!(bench.joined(to).expect("joined").generation_id, 1);
    // The coordinator is lost before the assignment was handed in.
    bench.fail_over(bench.log.len());
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    let late = bench.sync(1, &id, &[(&id, "late")]);
    let error = bench.synced(late).expect("refused").error_code;
    assert_eq!(error, ErrorCode::RebalanceInProgress.code());
    assert_eq!(bench.heartbeat(1, &id), ErrorCode::RebalanceInProgress);
    let to = bench.join(&id);
    assert_eq!(bench.joined(to).expect("alone").generation_id, 2);
}

#[test]
fn a_failover_of_a_stable_group_is_not_seen_by_its_members() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(3);
    bench.seconds(8);
    bench.fail_over(bench.log.len());
    bench.seconds(8);
    for id in &ids {
        assert_eq!(bench.heartbeat(generation, id), ErrorCode::None);
        let sync = bench.sync(generation, id, &[]);
        assert_eq!(bench.synced(sync).expect("at once").assignment, "share");
    }
    bench.seconds(11);
    assert_eq!(
        bench.state(),
        GroupState::Empty,
        "sessions run after a failover too"
    );
}

#[test]
fn sessions_end_after_a_failover_even_if_nobody_is_heard_of() {
    let mut bench = Bench::undelayed();
    bench.stable(2);
    bench.fail_over(bench.log.len());
    bench.seconds(9);
    assert_eq!(bench.state(), GroupState::Stable);
    bench.seconds(2);
    assert_eq!(bench.state(), GroupState::Empty);
}

#[test]
fn nothing_is_answered_before_it_is_safe() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    bench.is_prompt = false;
    let request = Bench::commit_request(generation, &ids[0], 5);
    let commit = bench.ask(Request::CommitOffsets(request));
    let list = bench.ask(Request::List(ListGroupsRequest::default()));
    assert!(bench.answer(commit).is_none());
    assert!(
        bench.answer(list).is_none(),
        "a read waits behind what it saw"
    );
    bench.acknowledge(Ok(()));
    assert!(bench.answer(commit).is_some() && bench.answer(list).is_some());
    let request = Bench::commit_request(generation, &ids[0], 6);
    let commit = bench.ask(Request::CommitOffsets(request));
    bench.acknowledge(Err(ErrorCode::NotEnoughReplicasAfterAppend));
    let unknown = Err(ErrorCode::CoordinatorNotAvailable);
    assert_eq!(bench.answer(commit), Some(&unknown));
    assert_eq!(
        bench.heartbeat(generation, &ids[0]),
        ErrorCode::None,
        "it loaded again"
    );
}

#[test]
fn groups_are_described_as_their_state_allows() {
    let mut bench = Bench::undelayed();
    let described = |bench: &mut Bench, version| match bench.describe(version) {
        Reply::Describe(described) => described,
        other => panic!("not a description: {other:?}"),
    };
    let dead = described(&mut bench, 5);
    assert_eq!((dead.error_code, dead.group_state.as_str()), (0, "Dead"));
    let missing = described(&mut bench, 6);
    assert_eq!(missing.error_code, ErrorCode::GroupIdNotFound.code());
    let (ids, _) = bench.stable(2);
    let stable = described(&mut bench, 6);
    assert_eq!(stable.group_state, "Stable");
    assert_eq!(
        (&*stable.protocol_type, &*stable.protocol_data),
        ("consumer", "range")
    );
    assert_eq!(stable.members.len(), 2);
    assert_eq!(stable.members[0].member_assignment, "share");
    assert_eq!(stable.members[0].member_metadata, subscription(&["t"]));
    assert_eq!(stable.members[0].client_host, "/127.0.0.1");
    bench.leave(&[(&ids[0], None)]);
    let preparing = described(&mut bench, 6);
    assert_eq!(preparing.group_state, "PreparingRebalance");
    assert!(preparing.members[0].member_metadata.is_empty());
    assert_eq!(preparing.protocol_data, "");
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut bench = Bench::undelayed();
    bench.stable(1);
    let mut listed = |states: &[&str], types: &[&str]| {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|s| Str::from(*s)).collect(),
            types_filter: types.iter().map(|s| Str::from(*s)).collect(),
            ..ListGroupsRequest::default()
        };
        match bench.reply_to(Request::List(request)) {
            Reply::List(groups) => groups.len(),
            other => panic!("not a list: {other:?}"),
        }
    };
    assert_eq!(listed(&[], &[]), 1);
    assert_eq!(listed(&["stable"], &["Classic"]), 1);
    assert_eq!(listed(&["Empty", "Stable"], &[]), 1);
    assert_eq!(listed(&["Empty"], &[]), 0);
    assert_eq!(listed(&[], &["consumer"]), 0);
}

#[test]
fn only_an_empty_group_is_deleted() {
    let mut bench = Bench::undelayed();
    let delete = |bench: &mut Bench| match bench.reply_to(Request::Delete(GROUP.into())) {
        Reply::Delete(error) => error,
        other => panic!("not a deletion: {other:?}"),
    };
    assert_eq!(delete(&mut bench), ErrorCode::GroupIdNotFound);
    let (ids, generation) = bench.stable(1);
    assert_eq!(bench.commit(generation, &ids[0], 3), ErrorCode::None);
    assert_eq!(delete(&mut bench), ErrorCode::NonEmptyGroup);
    bench.leave(&[(&ids[0], None)]);
    assert_eq!(delete(&mut bench), ErrorCode::None);
    assert_eq!(bench.state(), GroupState::Dead);
    assert_eq!(bench.committed(), -1);
    bench.fail_over(bench.log.len());
    assert_eq!(bench.state(), GroupState::Dead);
    assert_eq!(delete(&mut bench), ErrorCode::GroupIdNotFound);
}

#[test]
fn protocol_types_other_than_consumer_are_served_unread() {
    let mut bench = Bench::undelayed();
    let request = |id: &Str| JoinGroupRequest {
        protocol_type: "connect".into(),
        protocols: vec![protocol("sessioned", Bytes::from_static(b"\xff\x00opaque"))],
        ..join_request(id)
    };
    let to = bench.join_as(request(&nobody()), 3);
    bench.seconds(1);
    let joined = bench.joined(to).expect("joined");
    assert_eq!(
        joined.members[0].metadata,
        Bytes::from_static(b"\xff\x00opaque")
    );
    bench.sync(1, &joined.member_id, &[(&joined.member_id, "\u{1}")]);
    assert_eq!(bench.state(), GroupState::Stable);
}
