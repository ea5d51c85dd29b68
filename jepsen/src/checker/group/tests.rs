//! Each property by a history that breaks it and one that nearly does.

use super::check;
use crate::checker::story::{
    Story, accepted, by, commit, committed, create, fetch_committed, fetched_committed, join,
    joined, partition,
};
use crate::history::{Answer, Call, Membership, NodeEvent, Note, Phase};

fn heartbeat(member: &str, generation: i32) -> Call {
    Call::Heartbeat(by(member, generation))
}

/// A story whose client sends its own heartbeats.
fn begin() -> Story {
    let mut story = Story::new();
    story.refused(heartbeat("none", 0), "UNKNOWN_MEMBER_ID");
    story
}

fn nobody() -> Membership {
    by("", -1)
}

/// A group of two in generation 1.
fn two() -> Story {
    let mut story = begin();
    story.topic("t", 2, &[]);
    let a = story.invoke(join("", None));
    let b = story.invoke(join("", None));
    story.ok(a, joined("a", 1, &[0]));
    story.ok(b, joined("b", 1, &[1]));
    story
}

#[test]
fn a_client_with_a_library_tells_late_that_it_joined() {
    let mut story = begin();
    story.done(join("", None), joined("a", 2, &[0]));
    for (call, answer) in [
        (join("", None), joined("b", 1, &[0])),
        (commit(by("b", 1), 3), accepted()),
    ] {
        let op = story.invoke_as("library", call);
        story.ok(op, answer);
    }
    story.done(commit(nobody(), 4), accepted());
    story.done(fetch_committed(), fetched_committed(3));
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(fetch_committed(), fetched_committed(5));
    assert_eq!(story.broken(check), ["CG4"]);
}

#[test]
fn two_members_with_one_partition_in_a_generation_break_cg1() {
    let mut story = two();
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(join("", None), joined("c", 1, &[1]));
    assert_eq!(story.broken(check), ["CG1"]);
}

#[test]
fn a_static_member_under_a_new_id_is_the_same_owner() {
    let mut story = begin();
    story.done(join("", Some("i")), joined("a", 1, &[0]));
    story.done(join("", Some("i")), joined("b", 1, &[0]));
    assert_eq!(story.broken(check), Vec::<&str>::new());
}

#[test]
fn a_group_that_may_have_begun_anew_may_repeat_a_generation() {
    let mut story = two();
    story.wait(20);
    story.done(join("", None), joined("c", 1, &[0, 1]));
    assert_eq!(story.broken(check), Vec::<&str>::new());
}

#[test]
fn a_partition_taken_from_a_member_in_its_hold_breaks_cg1() {
    let mut story = two();
    story.done(heartbeat("a", 1), Answer::Heartbeat);
    let rest = story.invoke(join("b", None));
    story.wait(5);
    story.ok(rest, joined("b", 2, &[0, 1]));
    assert_eq!(story.broken(check), Vec::<&str>::new(), "its time was over");
    let mut story = two();
    story.wait(4);
    story.done(heartbeat("a", 1), Answer::Heartbeat);
    let rest = story.invoke(join("b", None));
    story.wait(2);
    story.ok(rest, joined("b", 2, &[0, 1]));
    assert_eq!(story.broken(check), ["CG1"]);
}

#[test]
fn a_member_that_asked_to_leave_owns_nothing() {
    let mut story = two();
    story.lost(Call::Leave(by("a", 1)));
    story.done(join("b", None), joined("b", 2, &[0, 1]));
    assert_eq!(story.broken(check), Vec::<&str>::new());
}

#[test]
fn a_generation_that_falls_breaks_cg2_unless_the_group_may_have_vanished() {
    let mut story = two();
    story.done(join("a", None), joined("a", 2, &[0]));
    story.done(join("", None), joined("c", 1, &[]));
    assert_eq!(story.broken(check), ["CG2"]);

    let mut vanished = two();
    vanished.done(join("a", None), joined("a", 2, &[0]));
    vanished.wait(60);
    vanished.done(join("", None), joined("c", 1, &[]));
    assert_eq!(vanished.broken(check), Vec::<&str>::new());

    let mut pinned = begin();
    pinned.done(commit(nobody(), 1), accepted());
    pinned.done(join("", None), joined("a", 2, &[0]));
    pinned.wait(60);
    pinned.node(NodeEvent::Start);
    pinned.done(join("", None), joined("c", 1, &[]));
    assert_eq!(pinned.broken(check), ["CG2"]);
}

#[test]
fn a_deleted_group_counts_from_one_again() {
    let mut story = begin();
    story.done(commit(nobody(), 1), accepted());
    story.done(join("", None), joined("a", 2, &[0]));
    story.done(Call::Leave(by("a", 2)), Answer::Leave);
    let group = "g".to_owned();
    story.done(Call::DeleteGroup { group }, Answer::DeleteGroup);
    story.done(join("", None), joined("b", 1, &[0]));
    assert_eq!(story.broken(check), Vec::<&str>::new());
}

#[test]
fn concurrent_joins_may_get_generations_in_any_order() {
    let mut story = begin();
    let slow = story.invoke(join("", None));
    story.done(join("", None), joined("b", 2, &[0]));
    story.ok(slow, joined("a", 1, &[1]));
    assert_eq!(story.broken(check), Vec::<&str>::new());
}

#[test]
fn a_member_told_two_assignments_in_a_generation_breaks_cg2() {
    let mut story = two();
    story.done(join("a", None), joined("a", 1, &[0]));
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(join("a", None), joined("a", 1, &[]));
    assert_eq!(story.broken(check), ["CG2"]);
}

#[test]
fn an_old_generation_that_works_breaks_cg3() {
    let mut story = two();
    let late = story.invoke(commit(by("a", 1), 7));
    story.done(join("b", None), joined("b", 2, &[]));
    story.ok(late, accepted());
    story.refused(commit(by("a", 1), 8), "ILLEGAL_GENERATION");
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(commit(by("a", 1), 9), accepted());
    assert_eq!(story.broken(check), ["CG3"]);
}

#[test]
fn a_commit_whose_partitions_were_all_refused_did_not_work() {
    let mut story = two();
    story.done(join("b", None), joined("b", 2, &[]));
    let refused = vec![(partition(0), "ILLEGAL_GENERATION".to_owned())];
    story.done(commit(by("a", 1), 9), Answer::Commit { refused });
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(fetch_committed(), fetched_committed(9));
    assert_eq!(story.broken(check), ["CG3"]);
}

#[test]
fn a_member_that_left_and_goes_on_breaks_cg3() {
    let mut story = two();
    let late = story.invoke(heartbeat("a", 1));
    story.done(Call::Leave(by("a", 1)), Answer::Leave);
    story.ok(late, Answer::Heartbeat);
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(heartbeat("a", 1), Answer::Heartbeat);
    assert_eq!(story.broken(check), ["CG3"]);
}

#[test]
fn a_replaced_static_member_that_goes_on_breaks_cg9() {
    let mut story = begin();
    story.done(join("", Some("i")), joined("a", 1, &[0]));
    let late = story.invoke(heartbeat("a", 1));
    story.done(join("", Some("i")), joined("b", 1, &[0]));
    story.ok(late, Answer::Heartbeat);
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(heartbeat("a", 1), Answer::Heartbeat);
    assert_eq!(story.broken(check), ["CG9"]);
}

#[test]
fn those_who_were_told_of_a_rebalance_did_not_begin_it() {
    for is_told in [true, false] {
        let mut story = begin();
        let i = story.invoke(join("", Some("i")));
        let a = story.invoke(join("", None));
        story.ok(i, joined("i1", 1, &[0]));
        story.ok(a, joined("a", 1, &[1]));
        story.done(heartbeat("a", 1), Answer::Heartbeat);
        let back = story.invoke(join("", Some("i")));
        if is_told {
            story.refused(heartbeat("a", 1), "REBALANCE_IN_PROGRESS");
        }
        let again = story.invoke(join("a", None));
        story.ok(again, joined("a", 2, &[1]));
        story.ok(back, joined("i2", 2, &[0]));
        let wanted: &[&str] = if is_told { &["CG9"] } else { &[] };
        assert_eq!(story.broken(check), wanted);
    }
}

/// A heartbeat of a static member, refused since another is said to have its instance.
fn fence(story: &mut Story, member: &str) -> u64 {
    let instance = Some("i".to_owned());
    let by = Membership {
        instance,
        ..by(member, 1)
    };
    story.refused(Call::Heartbeat(by), "FENCED_INSTANCE_ID")
}

#[test]
fn a_static_member_that_is_fenced_and_was_not_replaced_breaks_cg9() {
    let mut story = begin();
    story.done(join("", Some("i")), joined("a", 1, &[0]));
    story.done(join("", Some("i")), joined("b", 1, &[0]));
    fence(&mut story, "a");
    assert_eq!(story.broken(check), Vec::<&str>::new(), "b replaced it");
    fence(&mut story, "b");
    assert_eq!(story.broken(check), ["CG9"]);
}

#[test]
fn a_join_of_the_same_instance_that_may_come_late_excuses_a_fencing() {
    for answer in [None, Some("TIMEOUT"), Some("NOT_COORDINATOR")] {
        let mut story = begin();
        let other = story.invoke(join("", Some("i")));
        if let Some(error) = answer {
            story.info(other, error);
        }
        story.done(join("", Some("i")), joined("a", 1, &[0]));
        fence(&mut story, "a");
        let is_over = answer == Some("NOT_COORDINATOR");
        let wanted: &[&str] = if is_over { &["CG9"] } else { &[] };
        assert_eq!(story.broken(check), wanted, "{answer:?}");
    }
    let mut story = begin();
    story.done(join("", Some("i")), joined("a", 1, &[0]));
    story.invoke(join("", Some("i")));
    fence(&mut story, "a");
    assert_eq!(story.broken(check), Vec::<&str>::new(), "it is under way");
}

#[test]
fn a_static_member_that_returns_in_time_and_finds_a_rebalance_breaks_cg9() {
    let mut story = two();
    let i = story.invoke(join("", Some("i")));
    let a = story.invoke(join("a", None));
    let b = story.invoke(join("b", None));
    for (op, member, of) in [(i, "i1", 0), (a, "a", 1), (b, "b", 2)] {
        story.ok(op, joined(member, 2, &[of]));
    }
    let mut late = two();
    let back = |story: &mut Story, generation| {
        story.done(join("", Some("i")), joined("i2", generation, &[0]));
    };
    back(&mut story, 3);
    assert_eq!(story.broken(check), ["CG9"]);

    late.done(join("", Some("i")), joined("i1", 2, &[]));
    late.wait(11);
    back(&mut late, 3);
    assert_eq!(late.broken(check), Vec::<&str>::new());
}

#[test]
fn a_static_member_may_find_a_rebalance_that_another_began() {
    let mut story = begin();
    story.done(join("", Some("i")), joined("a", 1, &[0]));
    let other = story.invoke(join("", None));
    let back = story.invoke(join("", Some("i")));
    story.ok(other, joined("b", 2, &[1]));
    story.ok(back, joined("c", 2, &[0]));
    assert_eq!(story.broken(check), Vec::<&str>::new());
}

#[test]
fn a_committed_offset_that_goes_back_breaks_cg4() {
    let mut story = begin();
    story.done(commit(nobody(), 1), accepted());
    let unknown = story.lost(commit(nobody(), 2));
    story.done(fetch_committed(), fetched_committed(1));
    story.done(fetch_committed(), fetched_committed(2));
    assert_eq!(
        story.broken(check),
        Vec::<&str>::new(),
        "{unknown} came late"
    );
    story.done(fetch_committed(), fetched_committed(1));
    assert_eq!(story.broken(check), ["CG4"]);
}

#[test]
fn a_fetch_that_misses_an_acknowledged_commit_breaks_cg4() {
    let mut story = begin();
    story.done(commit(nobody(), 1), accepted());
    let reading = story.invoke(fetch_committed());
    story.done(commit(nobody(), 2), accepted());
    story.ok(reading, fetched_committed(1));
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(fetch_committed(), fetched_committed(1));
    assert_eq!(story.broken(check), ["CG4"]);
}

#[test]
fn an_offset_nobody_committed_breaks_cg4() {
    let mut story = begin();
    story.done(fetch_committed(), fetched_committed(-1));
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(fetch_committed(), fetched_committed(5));
    assert_eq!(story.broken(check), ["CG4"]);

    let mut torn = begin();
    torn.done(commit(nobody(), 5), accepted());
    let offsets = vec![committed(6, "m5")];
    torn.done(fetch_committed(), Answer::FetchCommitted { offsets });
    assert_eq!(torn.broken(check), ["CG4"]);
}

#[test]
fn a_refused_commit_that_is_read_breaks_cg3() {
    let mut story = begin();
    story.lost(commit(nobody(), 4));
    story.done(fetch_committed(), fetched_committed(4));
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.refused(commit(nobody(), 5), "UNKNOWN_MEMBER_ID");
    story.done(fetch_committed(), fetched_committed(5));
    assert_eq!(story.broken(check), ["CG3"]);
}

fn delete_offsets() -> Call {
    Call::DeleteOffsets {
        group: "g".to_owned(),
        of: vec![partition(0)],
    }
}

#[test]
fn an_acknowledged_commit_that_is_gone_breaks_cg5() {
    let mut story = begin();
    story.done(commit(nobody(), 1), accepted());
    story.done(fetch_committed(), fetched_committed(-1));
    assert_eq!(story.broken(check), ["CG5"]);

    let mut deleted = begin();
    deleted.done(commit(nobody(), 1), accepted());
    deleted.lost(delete_offsets());
    deleted.done(fetch_committed(), fetched_committed(-1));
    assert_eq!(deleted.broken(check), Vec::<&str>::new());

    let mut before = begin();
    before.done(delete_offsets(), Answer::DeleteOffsets);
    before.done(commit(nobody(), 1), accepted());
    before.done(fetch_committed(), fetched_committed(-1));
    assert_eq!(before.broken(check), ["CG5"]);
}

#[test]
fn an_offset_read_after_its_deletion_breaks_cg4() {
    let mut story = begin();
    story.done(commit(nobody(), 1), accepted());
    let deleting = story.invoke(delete_offsets());
    story.done(fetch_committed(), fetched_committed(1));
    story.ok(deleting, Answer::DeleteOffsets);
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(fetch_committed(), fetched_committed(1));
    assert_eq!(story.broken(check), ["CG4"]);
}

#[test]
fn offsets_of_a_deleted_topic_may_be_gone_and_are_still_of_somebody() {
    let mut story = begin();
    story.topic("t", 1, &[]);
    story.done(commit(nobody(), 1), accepted());
    let topic = "t".to_owned();
    story.done(Call::DeleteTopic { topic }, Answer::DeleteTopic);
    story.topic("t", 1, &[]);
    story.done(fetch_committed(), fetched_committed(-1));
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(fetch_committed(), fetched_committed(3));
    assert_eq!(story.broken(check), ["CG4"]);
}

#[test]
fn a_damaged_coordinator_may_forget_and_must_not_invent() {
    let mut story = begin();
    story.done(commit(nobody(), 1), accepted());
    let of = crate::history::Partition {
        topic: "__consumer_offsets".to_owned(),
        partition: 0,
    };
    story.note("server", Note::Damaged { of });
    story.done(fetch_committed(), fetched_committed(-1));
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.done(fetch_committed(), fetched_committed(3));
    assert_eq!(story.broken(check), ["CG4"]);
}

fn describe(story: &mut Story, state: &str, members: &[(&str, &[i32])]) {
    let members = members.iter().map(|(member, assigned)| {
        let assigned = assigned.iter().map(|number| partition(*number));
        ((*member).to_owned(), assigned.collect())
    });
    let answer = Answer::DescribeGroup {
        state: state.to_owned(),
        members: members.collect(),
    };
    let group = "g".to_owned();
    story.done(Call::DescribeGroup { group }, answer);
}

#[test]
fn a_stable_group_with_a_partition_of_nobody_breaks_cg6() {
    let mut story = two();
    describe(&mut story, "Stable", &[("a", &[0]), ("b", &[1])]);
    describe(&mut story, "CompletingRebalance", &[("a", &[]), ("b", &[])]);
    describe(&mut story, "Stable", &[("a", &[0]), ("stranger", &[])]);
    assert_eq!(story.broken(check), Vec::<&str>::new());
    describe(&mut story, "Stable", &[("a", &[0]), ("b", &[])]);
    assert_eq!(story.broken(check), ["CG6"]);
}

#[test]
fn a_stable_group_with_a_partition_of_two_breaks_cg6() {
    let mut story = two();
    describe(&mut story, "Stable", &[("x", &[0]), ("y", &[0])]);
    assert_eq!(story.broken(check), ["CG6"]);
}

#[test]
fn a_topic_that_grew_may_have_partitions_of_nobody() {
    let mut story = two();
    let grow = Call::CreatePartitions {
        topic: "t".to_owned(),
        partitions: 3,
    };
    story.lost(grow);
    describe(&mut story, "Stable", &[("a", &[0]), ("b", &[1])]);
    assert_eq!(story.broken(check), Vec::<&str>::new());
}

#[test]
fn a_group_that_goes_on_rebalancing_breaks_cg8() {
    let mut story = two();
    story.phase(Phase::Liveness);
    story.refused(heartbeat("a", 1), "REBALANCE_IN_PROGRESS");
    story.done(join("a", None), joined("a", 2, &[0]));
    story.wait(50);
    let mut disturbed = two();
    disturbed.phase(Phase::Liveness);
    disturbed.wait(50);
    describe(&mut story, "Stable", &[("a", &[0]), ("b", &[1])]);
    assert_eq!(story.broken(check), Vec::<&str>::new());
    story.refused(heartbeat("a", 2), "REBALANCE_IN_PROGRESS");
    story.done(join("a", None), joined("a", 3, &[0]));
    assert_eq!(story.broken(check), ["CG8"]);

    disturbed.done(join("", None), joined("c", 2, &[]));
    disturbed.refused(heartbeat("a", 2), "REBALANCE_IN_PROGRESS");
    disturbed.done(join("a", None), joined("a", 3, &[0]));
    assert_eq!(disturbed.broken(check), Vec::<&str>::new());
}

#[test]
fn a_group_still_in_a_rebalance_at_the_end_breaks_cg8() {
    let mut story = two();
    story.phase(Phase::Liveness);
    describe(&mut story, "PreparingRebalance", &[]);
    story.wait(50);
    story.phase(Phase::Final);
    assert_eq!(story.broken(check), Vec::<&str>::new());
    describe(&mut story, "PreparingRebalance", &[]);
    assert_eq!(story.broken(check), ["CG8"]);
}

#[test]
fn a_topic_made_late_is_not_asked_of_a_group() {
    let mut story = begin();
    let a = story.invoke(join("", None));
    let made = story.invoke(create("t", 2, &[]));
    story.ok(made, Answer::CreateTopic);
    story.ok(a, joined("a", 1, &[]));
    describe(&mut story, "Stable", &[("a", &[])]);
    assert_eq!(story.broken(check), Vec::<&str>::new());
}
