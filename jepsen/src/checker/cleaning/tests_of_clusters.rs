//! K6 and K7 where a partition has copies, by stories that break them and ones that nearly do.

use super::check_with;
use crate::checker::story::{Story, fetched, partition, read, seen, send, sent, written};
use crate::checker::{Options, Violations};
use crate::history::{
    Answer, Call, Fetched, History, ListedAt, LogState, NodeEvent, Note, Position,
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
