//! K2, K6 and K7 where a partition has copies, by stories that break them and ones that nearly do.

use super::check_with;
use crate::checker::story::{Story, fetched, partition, read, seen, send, sent, written};
use crate::checker::{Options, Violations};
use crate::history::{
    Answer, Call, Fetched, History, ListedAt, LogState, NodeEvent, Note, Position, Seen,
};

const NONE: &[&str] = &[];

fn check(history: &History, violations: &mut Violations) {
    let options = Options {
        replicated: true,
        ..Options::default()
    };
    check_with(history, options, violations);
}

fn topic() -> Story {
    let mut story = Story::new();
    story.topic("t", 1, &[("retention.ms", "0")]);
    story
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

fn delete(story: &mut Story, before: i64) {
    let call = Call::DeleteRecords {
        of: partition(0),
        before,
    };
    let log_start_offset = before;
    story.done(call, Answer::DeleteRecords { log_start_offset });
}

fn leads(story: &mut Story, node: &str, leader_epoch: i32, start: i64) {
    let of = partition(0);
    let note = Note::Leading {
        of,
        leader_epoch,
        start,
    };
    story.note(node, note);
}

/// A node's log spans this, in a leader epoch.
fn log(story: &mut Story, node: &str, leader_epoch: i32, (start, end): (i64, i64)) {
    let state = LogState {
        start,
        high_watermark: end,
        end,
        recovery_point: end,
        leader_epoch,
    };
    let of = partition(0);
    story.note(node, Note::Log { of, state });
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
fn copies_begin_where_they_do_and_none_falls() {
    let mut story = topic();
    log(&mut story, "n1", 1, (5, 9));
    earliest(&mut story, 5);
    log(&mut story, "n2", 1, (0, 9));
    log(&mut story, "n2", 1, (5, 9));
    assert_eq!(story.broken(check), NONE);
    log(&mut story, "n2", 1, (4, 9));
    assert_eq!(story.broken(check), ["K6"]);
}

#[test]
fn a_copy_that_was_made_anew_begins_anew() {
    let mut story = topic();
    log(&mut story, "n1", 1, (5, 9));
    log(&mut story, "n1", 1, (0, 0));
    log(&mut story, "n1", 1, (5, 9));
    assert_eq!(story.broken(check), NONE);
}

#[test]
fn a_new_leader_that_begins_before_what_was_told_breaks_k6() {
    let mut story = topic();
    leads(&mut story, "n1", 1, 0);
    earliest(&mut story, 5);
    story.node(NodeEvent::Kill);
    log(&mut story, "n1", 2, (5, 9));
    leads(&mut story, "n2", 2, 4);
    earliest(&mut story, 4);
    assert_eq!(story.broken(check), ["K6"]);
}

#[test]
fn a_leader_that_was_replaced_may_tell_what_was() {
    let told = |is_told: bool| {
        let mut story = topic();
        leads(&mut story, "n1", 1, 0);
        leads(&mut story, "n2", 2, 0);
        delete(&mut story, 5);
        if is_told {
            log(&mut story, "n1", 2, (4, 9));
        }
        earliest(&mut story, 4);
        story.done(
            read(4),
            fetched(4, 4, vec![seen(4, &written(4, "a", false, 0))]),
        );
        story.broken(check)
    };
    assert_eq!(told(false), NONE);
    assert_eq!(told(true), ["K6"]);
}

#[test]
fn what_only_the_leader_between_had_let_go_of_may_come_back() {
    let told = |is_deleted: bool, is_told_before: bool| {
        let mut story = topic();
        leads(&mut story, "n1", 1, 0);
        if is_told_before {
            earliest(&mut story, 5);
        }
        log(&mut story, "n1", 2, (5, 9));
        leads(&mut story, "n2", 2, 5);
        match is_deleted {
            true => delete(&mut story, 5),
            false => earliest(&mut story, 5),
        }
        log(&mut story, "n2", 3, (5, 9));
        leads(&mut story, "n3", 3, 4);
        earliest(&mut story, 4);
        story.broken(check)
    };
    assert_eq!(told(false, false), NONE);
    assert_eq!(told(true, false), ["K6"]);
    assert_eq!(told(false, true), ["K6"]);
}

#[test]
fn a_position_within_every_leaders_log_that_is_refused_breaks_k7() {
    let told = |second: i64, third: i64, copy: i64| {
        let mut story = topic();
        for id in 0..8 {
            story.done(send(written(id, "a", false, 0)), sent(id as i64));
        }
        leads(&mut story, "n2", 2, second);
        out_of_range(&mut story, 5);
        log(&mut story, "n1", 2, (copy, 9));
        log(&mut story, "n2", 3, (second, 9));
        leads(&mut story, "n3", 3, third);
        earliest(&mut story, third);
        story.broken(check)
    };
    assert_eq!(told(4, 4, 4), ["K7"]);
    assert_eq!(told(6, 4, 4), NONE, "the second leader had let go of it");
    assert_eq!(told(6, 6, 4), NONE, "a copy that does not lead has it yet");
}

#[test]
fn a_leader_that_was_replaced_may_refuse_what_it_lacks() {
    let told = |knows: bool| {
        let mut story = topic();
        leads(&mut story, "n1", 1, 0);
        leads(&mut story, "n2", 2, 0);
        for id in 0..8 {
            story.done(send(written(id, "a", false, 0)), sent(id as i64));
        }
        if knows {
            log(&mut story, "n1", 2, (0, 3));
        }
        out_of_range(&mut story, 8);
        log(&mut story, "n1", 2, (0, 3));
        earliest(&mut story, 0);
        story.broken(check)
    };
    assert_eq!(told(false), NONE);
    assert_eq!(told(true), ["K7"]);
}

fn record(id: u64, key: &str) -> Seen {
    seen(id as i64, &written(id, key, false, 0))
}

/// Reads all, where the record at 0 is, or is gone.
fn look(story: &mut Story, is_there: bool) {
    let first = is_there.then(|| record(0, "a"));
    let records = first.into_iter().chain([record(1, "a")]).collect();
    story.done(read(0), fetched(0, 0, records));
}

fn compacted() -> Story {
    let mut story = Story::new();
    story.topic("t", 1, &[("cleanup.policy", "compact")]);
    log(&mut story, "n1", 0, (0, 2));
    leads(&mut story, "n1", 1, 0);
    look(&mut story, true);
    look(&mut story, false);
    story
}

/// `n2` leads, and `n1` knows.
fn is_replaced(story: &mut Story) {
    leads(story, "n2", 2, 0);
    log(story, "n1", 2, (0, 2));
}

#[test]
fn what_one_copy_of_a_log_has_no_more_another_may_have() {
    let mut story = compacted();
    is_replaced(&mut story);
    look(&mut story, true);
    assert_eq!(story.broken(check), NONE);
    look(&mut story, false);
    look(&mut story, true);
    assert_eq!(
        story.broken(check),
        ["K2"],
        "the second copy had lost it, too"
    );
}

#[test]
fn what_is_gone_from_a_copy_comes_back_to_it_no_more_whoever_led_in_between() {
    let told = |between: &dyn Fn(&mut Story)| {
        let mut story = compacted();
        is_replaced(&mut story);
        look(&mut story, true);
        between(&mut story);
        log(&mut story, "n2", 3, (0, 2));
        leads(&mut story, "n1", 3, 0);
        look(&mut story, true);
        story.broken(check)
    };
    assert_eq!(told(&|_| {}), ["K2"]);
    assert_eq!(
        told(&|story| log(story, "n1", 2, (0, 5))),
        ["K2"],
        "it was copied on to"
    );
    let is_started = |story: &mut Story| {
        let event = NodeEvent::Kill;
        story.note("n1", Note::Node { event });
    };
    assert_eq!(told(&is_started), NONE);
    let is_let_go = |story: &mut Story| story.note("n1", Note::Closed { of: partition(0) });
    assert_eq!(told(&is_let_go), NONE);
    assert_eq!(
        told(&|story| log(story, "n1", 2, (0, 0))),
        NONE,
        "it was copied anew"
    );
    let is_other = |story: &mut Story| {
        let event = NodeEvent::Kill;
        story.note("n3", Note::Node { event });
    };
    assert_eq!(told(&is_other), ["K2"], "another node ended");
}

#[test]
fn an_answer_of_whoever_led_may_be_of_any_copy() {
    let mut story = compacted();
    let late = story.invoke(read(0));
    leads(&mut story, "n2", 2, 0);
    story.ok(late, fetched(0, 0, vec![record(0, "a"), record(1, "a")]));
    look(&mut story, true);
    assert_eq!(
        story.broken(check),
        NONE,
        "nobody knows whether n1 answered"
    );
}

#[test]
fn a_record_of_a_deleted_topic_is_told_by_its_leader_alone() {
    let told = |is_let_go: bool, known: &str| {
        let mut story = Story::new();
        let topic = "t".to_owned();
        story.topic("t", 1, &[("cleanup.policy", "compact")]);
        leads(&mut story, "n1", 1, 0);
        story.done(send(written(0, "a", false, 0)), sent(0));
        story.done(Call::DeleteTopic { topic }, Answer::DeleteTopic);
        story.topic("t", 1, &[("cleanup.policy", "compact")]);
        leads(&mut story, "n2", 0, 0);
        story.done(send(written(7, "b", false, 0)), sent(0));
        if is_let_go {
            story.note("n1", Note::Closed { of: partition(0) });
        }
        let record = seen(0, &written(0, known, false, 0));
        story.done(read(0), fetched(0, 0, vec![record]));
        story.broken(check)
    };
    assert_eq!(told(false, "a"), NONE);
    assert_eq!(told(false, "c"), ["K2"], "it was in neither topic");
    assert_eq!(told(true, "a"), ["K2"], "nobody is left to tell of it");
}
