//! Each property by a history that breaks it and one that nearly does.

use super::check;
use crate::checker::story::{Story, create, fetched, partition, read, seen, send, sent, written};
use crate::history::{
    Answer, Call, Fetched, ListedAt, NodeEvent, Note, Phase, Position, Seen, Wanted,
};

const COMPACT: &[(&str, &str)] = &[("cleanup.policy", "compact")];
const NONE: &[&str] = &[];

fn topic(config: &[(&str, &str)]) -> Story {
    let mut story = Story::new();
    story.topic("t", 1, config);
    story
}

/// Sends a record with this key and id; the offset is the id.
fn put(story: &mut Story, id: u64, key: &str) {
    story.done(send(written(id, key, false, 0)), sent(id as i64));
}

fn final_reads(story: &mut Story, end: i64, records: Vec<Seen>) {
    story.phase(Phase::Final);
    story.done(read(0), fetched(0, 0, records));
    let ends = Wanted {
        of: partition(0),
        log_start_offset: 0,
        log_end_offset: end,
    };
    story.note("run", Note::Ends { ends });
}

fn record(id: u64, key: &str) -> Seen {
    seen(id as i64, &written(id, key, false, 0))
}

#[test]
fn a_key_without_its_last_record_breaks_k1() {
    let mut story = topic(COMPACT);
    for (id, key) in [(0, "a"), (1, "b"), (2, "a")] {
        put(&mut story, id, key);
    }
    let mut lost = topic(COMPACT);
    for (id, key) in [(0, "a"), (1, "b"), (2, "a")] {
        put(&mut lost, id, key);
    }
    final_reads(&mut story, 3, vec![record(1, "b"), record(2, "a")]);
    assert_eq!(story.broken(check), NONE);
    final_reads(&mut lost, 3, vec![record(0, "a"), record(2, "a")]);
    assert_eq!(lost.broken(check), ["K1"]);
}

#[test]
fn a_record_of_a_topic_that_is_not_only_compacted_is_not_asked_for() {
    let mut story = topic(&[("cleanup.policy", "compact,delete")]);
    put(&mut story, 0, "a");
    final_reads(&mut story, 1, Vec::new());
    assert_eq!(story.broken(check), NONE);
}

#[test]
fn a_tombstone_that_goes_early_breaks_k3() {
    let config = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "5000"),
    ];
    let told = |seconds| {
        let mut story = topic(&config);
        put(&mut story, 0, "a");
        story.done(send(written(1, "a", true, 0)), sent(1));
        put(&mut story, 2, "b");
        story.wait(seconds);
        final_reads(&mut story, 3, vec![record(2, "b")]);
        story.broken(check)
    };
    assert_eq!(told(2), ["K3"]);
    assert_eq!(told(6), NONE);
}

#[test]
fn a_record_that_a_lost_tombstone_may_have_replaced_may_be_gone_as_late() {
    let config = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "5000"),
    ];
    let told = |seconds, tombstone| {
        let mut story = topic(&config);
        put(&mut story, 0, "a");
        story.lost(send(written(1, "a", tombstone, 0)));
        story.wait(seconds);
        final_reads(&mut story, 2, Vec::new());
        story.broken(check)
    };
    assert_eq!(told(6, true), NONE);
    assert_eq!(told(1, true), ["K3"]);
    assert_eq!(told(6, false), ["K1"]);
}

#[test]
fn what_was_put_into_a_topic_before_it_was_made_again_is_not_asked_for() {
    let mut story = topic(COMPACT);
    put(&mut story, 0, "a");
    let topic = "t".to_owned();
    story.done(Call::DeleteTopic { topic }, Answer::DeleteTopic);
    story.topic("t", 1, COMPACT);
    final_reads(&mut story, 1, vec![record(0, "b")]);
    assert_eq!(story.broken(check), NONE);
}

#[test]
fn a_record_that_is_not_what_it_was_breaks_k2() {
    let mut story = topic(COMPACT);
    put(&mut story, 0, "a");
    story.done(read(0), fetched(0, 0, vec![record(0, "a")]));
    assert_eq!(story.broken(check), NONE);
    let other = Seen {
        timestamp: 9,
        ..record(0, "a")
    };
    story.done(read(0), fetched(0, 0, vec![other]));
    assert_eq!(story.broken(check), ["K2"]);
}

#[test]
fn a_record_that_comes_back_breaks_k2_unless_a_crash_was_between() {
    let gone = || {
        let mut story = topic(COMPACT);
        let late = story.invoke(read(0));
        story.done(read(0), fetched(0, 0, vec![record(1, "a")]));
        story.ok(late, fetched(0, 0, vec![record(0, "a"), record(1, "a")]));
        story
    };
    assert_eq!(gone().broken(check), NONE);
    let back = |story: &mut Story| {
        story.done(read(0), fetched(0, 0, vec![record(0, "a"), record(1, "a")]));
    };
    let mut story = gone();
    back(&mut story);
    assert_eq!(story.broken(check), ["K2"]);
    let mut crashed = gone();
    crashed.node(NodeEvent::Start);
    back(&mut crashed);
    assert_eq!(crashed.broken(check), NONE);
}

fn earliest(story: &mut Story, offset: i64) {
    let call = Call::ListOffsets {
        of: partition(0),
        at: ListedAt::Earliest,
    };
    let answer = Answer::ListOffsets {
        offset,
        timestamp: -1,
        leader_epoch: 0,
    };
    story.done(call, answer);
}

fn delete_records(before: i64) -> Call {
    Call::DeleteRecords {
        of: partition(0),
        before,
    }
}

fn deleted(log_start_offset: i64) -> Answer {
    Answer::DeleteRecords { log_start_offset }
}

#[test]
fn a_young_record_that_goes_breaks_k5() {
    let told = |seconds, config: &[(&str, &str)]| {
        let mut story = topic(config);
        put(&mut story, 0, "a");
        story.wait(seconds);
        earliest(&mut story, 1);
        story.broken(check)
    };
    let config = [("retention.ms", "5000")];
    assert_eq!(told(3, &config), ["K5"]);
    assert_eq!(told(6, &config), NONE);
    assert_eq!(told(6, &[]), ["K5"], "a week if nothing is said");
    assert_eq!(told(6, COMPACT), ["K5"], "never");
    assert_eq!(told(1, &[("retention.bytes", "100")]), NONE);
}

#[test]
fn a_record_whose_deletion_was_asked_for_may_go() {
    let mut story = topic(&[]);
    put(&mut story, 0, "a");
    put(&mut story, 1, "a");
    story.lost(delete_records(1));
    earliest(&mut story, 1);
    assert_eq!(story.broken(check), NONE);
    earliest(&mut story, 2);
    assert_eq!(story.broken(check), ["K5"]);
}

#[test]
fn a_stepped_clock_makes_ages_unknown() {
    let mut story = topic(&[("retention.ms", "5000")]);
    put(&mut story, 0, "a");
    let note = Note::Fault {
        kind: "StepClock".to_owned(),
        detail: String::new(),
    };
    story.note("nemesis", note);
    earliest(&mut story, 1);
    assert_eq!(story.broken(check), NONE);
}

#[test]
fn a_clock_that_was_noted_tells_ages_in_spite_of_steps() {
    // The record's own time is 0 s; the log's start is told 2 s later.
    let told = |noted: &[(u64, i64)]| {
        let mut story = topic(&[("retention.ms", "5000")]);
        put(&mut story, 0, "a");
        let mut waited = 0;
        for (second, wall_ms) in noted {
            story.wait(second - waited);
            waited = *second;
            story.note("server", Note::Clock { wall_ms: *wall_ms });
        }
        story.wait(2 - waited);
        earliest(&mut story, 1);
        story.broken(check)
    };
    assert_eq!(told(&[(0, 0)]), ["K5"]);
    assert_eq!(told(&[(0, 2500)]), ["K5"]);
    assert_eq!(told(&[(0, 4000)]), NONE, "ahead of whoever sent it");
    assert_eq!(told(&[(0, 0), (1, 6000)]), NONE, "stepped past its time");
    assert_eq!(told(&[(0, 6000), (1, 0)]), NONE, "back after it went");
    assert_eq!(told(&[(0, 0), (1, -9000)]), ["K5"]);
}

#[test]
fn a_tombstone_is_as_old_as_the_clock_may_have_risen() {
    let config = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "5000"),
    ];
    let told = |from: i64, to: i64| {
        let mut story = topic(&config);
        story.note("server", Note::Clock { wall_ms: 0 });
        put(&mut story, 0, "a");
        story.done(send(written(1, "a", true, 0)), sent(1));
        put(&mut story, 2, "b");
        for wall_ms in [from, to] {
            story.wait(1);
            story.note("server", Note::Clock { wall_ms });
        }
        final_reads(&mut story, 3, vec![record(2, "b")]);
        story.broken(check)
    };
    assert_eq!(told(1000, 2000), ["K3"]);
    assert_eq!(
        told(1000, -90_000),
        ["K3"],
        "a step back makes nothing older"
    );
    assert_eq!(told(-9000, 1000), NONE);
    assert_eq!(told(1000, 9000), NONE);
}

#[test]
fn a_log_start_that_falls_breaks_k6() {
    let mut story = topic(&[("retention.ms", "0")]);
    let slow = story.invoke(delete_records(5));
    earliest(&mut story, 3);
    story.ok(slow, deleted(5));
    let late = story.invoke(read(5));
    earliest(&mut story, 6);
    story.ok(late, fetched(5, 5, Vec::new()));
    assert_eq!(story.broken(check), NONE);
    story.node(NodeEvent::Start);
    earliest(&mut story, 5);
    assert_eq!(story.broken(check), ["K6"]);
}

#[test]
fn a_log_start_is_of_one_topic() {
    let mut story = topic(&[]);
    earliest(&mut story, 3);
    let name = "t".to_owned();
    story.done(Call::DeleteTopic { topic: name }, Answer::DeleteTopic);
    earliest(&mut story, 3);
    story.topic("t", 1, &[]);
    earliest(&mut story, 0);
    assert_eq!(story.broken(check), NONE);
}

#[test]
fn records_that_were_asked_to_go_and_stay_break_k6() {
    let mut story = topic(&[]);
    story.done(delete_records(2), deleted(2));
    assert_eq!(story.broken(check), NONE);
    let mut short = topic(&[]);
    short.done(delete_records(2), deleted(1));
    assert_eq!(short.broken(check), ["K6"]);
    let mut all = topic(&[]);
    put(&mut all, 0, "a");
    all.done(delete_records(-1), deleted(0));
    assert_eq!(all.broken(check), ["K6"]);
}

#[test]
fn a_record_below_the_start_breaks_k6() {
    let mut story = topic(&[]);
    let late = story.invoke(read(0));
    story.done(delete_records(1), deleted(1));
    story.ok(late, fetched(0, 0, vec![record(0, "a")]));
    assert_eq!(story.broken(check), NONE);
    story.done(read(0), fetched(0, -1, vec![record(0, "a")]));
    assert_eq!(story.broken(check), NONE, "it was in the client's buffer");
    let served = Fetched {
        of: partition(0),
        from: 0,
        error: None,
        high_watermark: 1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: vec![record(0, "a")],
    };
    let partitions = vec![served];
    story.done(read(0), Answer::Read { partitions });
    assert_eq!(story.broken(check), ["K6"]);
}

fn out_of_range(story: &mut Story, from: i64) {
    let of = partition(0);
    let call = Call::Read {
        from: vec![Position {
            of: of.clone(),
            offset: from,
        }],
        committed: false,
        library: false,
    };
    let fetched = Fetched {
        of,
        from,
        error: Some("OFFSET_OUT_OF_RANGE".to_owned()),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: Vec::new(),
    };
    let partitions = vec![fetched];
    story.done(call, Answer::Read { partitions });
}

#[test]
fn a_position_within_the_log_that_is_refused_breaks_k7() {
    let told = |from| {
        let mut story = topic(&[]);
        for id in 0..4 {
            put(&mut story, id, "a");
        }
        story.lost(delete_records(2));
        out_of_range(&mut story, from);
        earliest(&mut story, 2);
        story.broken(check)
    };
    assert_eq!(told(1), NONE, "it may have been deleted");
    assert_eq!(told(2), ["K7"]);
    assert_eq!(told(4), ["K7"], "the end is a position too");
    assert_eq!(told(5), NONE);
}

#[test]
fn a_damaged_partition_is_not_judged() {
    let mut story = topic(COMPACT);
    put(&mut story, 0, "a");
    story.note("server", Note::Damaged { of: partition(0) });
    final_reads(&mut story, 1, Vec::new());
    earliest(&mut story, 1);
    earliest(&mut story, 0);
    assert_eq!(story.broken(check), NONE);
}

#[test]
fn a_deletion_of_unknown_end_ends_all_claims() {
    let mut story = topic(&[]);
    earliest(&mut story, 3);
    let name = "t".to_owned();
    story.lost(Call::DeleteTopic { topic: name });
    story.done(create("t", 1, &[]), Answer::CreateTopic);
    earliest(&mut story, 1);
    earliest(&mut story, 0);
    assert_eq!(story.broken(check), NONE);
}
