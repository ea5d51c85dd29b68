//! Each property by a history that breaks it and one that nearly does.

use super::{check, check_with};
use crate::checker::story::{Story, create, partition, send, sent, written};
use crate::checker::{Options, Violations};
use crate::history::{Answer, Call, History, LogState, NodeEvent, Note, Phase};

const NONE: &[&str] = &[];

fn of_copies(history: &History, violations: &mut Violations) {
    let options = Options {
        replicated: true,
        ..Options::default()
    };
    check_with(history, options, violations);
}

fn log(story: &mut Story, start: i64, high_watermark: i64, end: i64) {
    let state = LogState {
        start,
        high_watermark,
        end,
        recovery_point: start,
        leader_epoch: 3,
    };
    let of = partition(0);
    story.note("server", Note::Log { of, state });
}

fn log_synced(story: &mut Story, high_watermark: i64, recovery_point: i64, end: i64) {
    let state = LogState {
        start: 0,
        high_watermark,
        end,
        recovery_point,
        leader_epoch: 3,
    };
    let of = partition(0);
    story.note("server", Note::Log { of, state });
}

fn fault(story: &mut Story, kind: &str) {
    let note = Note::Fault {
        kind: kind.to_owned(),
        detail: String::new(),
    };
    story.note("nemesis", note);
}

#[test]
fn offsets_out_of_order_break_r10() {
    let mut story = Story::new();
    log(&mut story, 2, 2, 2);
    assert_eq!(story.broken(check), NONE);
    log(&mut story, 2, 4, 3);
    assert_eq!(story.broken(check), ["R10"]);
}

#[test]
fn a_recovery_point_beyond_the_end_breaks_r10() {
    let mut story = Story::new();
    let state = LogState {
        start: 0,
        high_watermark: 0,
        end: 5,
        recovery_point: 6,
        leader_epoch: 0,
    };
    let of = partition(0);
    story.note("server", Note::Log { of, state });
    assert_eq!(story.broken(check), ["R10"]);
}

#[test]
fn a_high_watermark_may_fall_with_a_start_only() {
    let mut story = Story::new();
    story.node(NodeEvent::Start);
    log(&mut story, 0, 3, 5);
    story.node(NodeEvent::Kill);
    story.node(NodeEvent::Start);
    log(&mut story, 0, 0, 3);
    assert_eq!(story.broken(check), NONE);
    log(&mut story, 0, 3, 4);
    log(&mut story, 0, 2, 4);
    assert_eq!(story.broken(check), ["R5"]);
}

#[test]
fn a_copy_may_be_emptied_and_not_only_cut_below_what_it_showed() {
    let falls_to = |high_watermark, end| {
        let mut story = Story::new();
        log(&mut story, 1, 3, 5);
        log(&mut story, 1, high_watermark, end);
        story
    };
    assert_eq!(falls_to(1, 1).broken(of_copies), NONE);
    assert_eq!(falls_to(2, 2).broken(of_copies), ["R5"]);
    assert_eq!(falls_to(1, 1).broken(check), ["R5"]);
}

#[test]
fn what_was_neither_durable_nor_visible_may_be_cut_off_between_starts() {
    let cut_to = |high_watermark, recovery_point, end| {
        let mut story = Story::new();
        log_synced(&mut story, 3, 4, 6);
        log_synced(&mut story, high_watermark, recovery_point, end);
        story.broken(check)
    };
    assert_eq!(cut_to(3, 4, 4), NONE);
    assert_eq!(cut_to(3, 3, 3), ["R5"], "it was durable");
    assert_eq!(cut_to(2, 4, 4), ["R5"], "it was visible");
}

#[test]
fn a_log_that_is_cut_below_what_was_visible_or_durable_breaks_r10_at_least() {
    let mut story = Story::new();
    log_synced(&mut story, 3, 4, 6);
    log_synced(&mut story, 3, 4, 3);
    assert_eq!(story.broken(check), ["R10"]);
}

#[test]
fn what_was_visible_is_there_after_a_start() {
    let told = |end| {
        let mut story = Story::new();
        log(&mut story, 0, 3, 5);
        story.node(NodeEvent::PowerLoss);
        story.node(NodeEvent::Start);
        log(&mut story, 0, 0, end);
        story.broken(check)
    };
    assert_eq!(told(3), NONE);
    assert_eq!(told(2), ["R5"]);
}

#[test]
fn what_was_acknowledged_is_there_after_a_start() {
    let told = |config: &[(&str, &str)], end| {
        let mut story = Story::new();
        story.topic("t", 1, config);
        let record = written(1, "a", false, 0);
        story.done(send(record.clone()), sent(4));
        let late = story.invoke(send(record));
        story.node(NodeEvent::Start);
        log(&mut story, 0, 0, end);
        story.ok(late, sent(5));
        story.broken(check)
    };
    assert_eq!(told(&[], 5), NONE);
    assert_eq!(told(&[], 4), ["R5"]);
    assert_eq!(told(&[("klamm.durability", "replicated")], 4), NONE);
}

#[test]
fn a_leader_epoch_that_falls_breaks_r8() {
    let mut story = Story::new();
    log(&mut story, 0, 0, 0);
    let state = LogState {
        start: 0,
        high_watermark: 0,
        end: 0,
        recovery_point: 0,
        leader_epoch: 2,
    };
    let of = partition(0);
    story.note("server", Note::Log { of, state });
    assert_eq!(story.broken(check), ["R8"]);
}

#[test]
fn an_empty_log_of_a_deleted_topic_may_be_that_of_another_era() {
    let falls = |is_deleted: bool, end: i64| {
        let mut story = Story::new();
        if is_deleted {
            let topic = partition(0).topic;
            story.done(create(&topic, 1, &[]), Answer::CreateTopic);
            let deletion = Call::DeleteTopic {
                topic: topic.clone(),
            };
            story.done(deletion, Answer::DeleteTopic);
            story.done(create(&topic, 1, &[]), Answer::CreateTopic);
        }
        log(&mut story, 0, end, end);
        let state = LogState {
            start: 0,
            high_watermark: end,
            end,
            recovery_point: 0,
            leader_epoch: 2,
        };
        let of = partition(0);
        story.note("server", Note::Log { of, state });
        story.broken(of_copies)
    };
    assert_eq!(falls(true, 0), NONE);
    assert_eq!(falls(true, 1), ["R8"]);
    assert_eq!(falls(false, 0), ["R8"]);
}

#[test]
fn a_node_that_refuses_to_start_breaks_k8_unless_its_disk_was_bad() {
    let failed = || NodeEvent::Failed("corrupt".to_owned());
    let mut story = Story::new();
    story.node(NodeEvent::Start);
    story.node(NodeEvent::Ready);
    story.node(failed());
    assert_eq!(story.broken(check), NONE, "it had started");
    story.node(NodeEvent::Start);
    story.node(failed());
    assert_eq!(story.broken(check), ["K8"]);

    let mut bad = Story::new();
    fault(&mut bad, "FailSync");
    bad.node(NodeEvent::Start);
    bad.node(failed());
    assert_eq!(bad.broken(check), NONE);
    bad.phase(Phase::Liveness);
    bad.node(NodeEvent::Start);
    bad.node(failed());
    assert_eq!(bad.broken(check), ["K8"]);
    bad.note("server", Note::Damaged { of: partition(0) });
    assert_eq!(bad.broken(check), NONE);
}

#[test]
fn a_partition_that_takes_nothing_once_healed_breaks_v2() {
    let told = |partitions, is_sent_before: bool| {
        let mut story = Story::new();
        story.topic("t", partitions, &[]);
        let record = written(1, "a", false, 0);
        let early = story.invoke(send(record.clone()));
        story.phase(Phase::Liveness);
        story.ok(early, sent(0));
        if !is_sent_before {
            story.done(send(record), sent(1));
        }
        story.phase(Phase::Final);
        story.broken(check)
    };
    assert_eq!(told(1, false), NONE);
    assert_eq!(told(2, false), ["V2"]);
    assert_eq!(told(1, true), ["V2"]);
}

#[test]
fn a_topic_of_another_process_is_not_asked_to_take_anything() {
    let mut story = Story::new();
    story.topic("t", 0, &[]);
    let call = crate::checker::story::create("own", 1, &[]);
    let op = story.invoke_as("admin", call);
    story.ok(op, crate::history::Answer::CreateTopic);
    story.phase(Phase::Liveness);
    story.phase(Phase::Final);
    assert_eq!(story.broken(check), NONE);
}

#[test]
fn an_operation_without_end_breaks_v10() {
    let mut story = Story::new();
    let record = written(1, "a", false, 0);
    story.invoke(send(record.clone()));
    story.phase(Phase::Liveness);
    story.lost(send(record.clone()));
    assert_eq!(story.broken(check), NONE);
    story.invoke(send(record));
    assert_eq!(story.broken(check), ["V10"]);
}

#[test]
fn a_client_that_is_gone_waits_for_no_answer() {
    let mut story = Story::new();
    story.phase(Phase::Liveness);
    story.invoke_as("somebody", send(written(1, "a", false, 0)));
    story.note("somebody else", Note::Gone);
    assert_eq!(story.broken(check), ["V10"]);
    story.note("somebody", Note::Gone);
    assert_eq!(story.broken(check), NONE);
}

#[test]
fn a_final_operation_that_times_out_breaks_v10() {
    let mut story = Story::new();
    let record = written(1, "a", false, 0);
    story.phase(Phase::Liveness);
    story.phase(Phase::Final);
    let op = story.invoke(send(record.clone()));
    story.info(op, "DISCONNECTED");
    assert_eq!(story.broken(check), NONE);
    story.lost(send(record));
    assert_eq!(story.broken(check), ["V10"]);
}
