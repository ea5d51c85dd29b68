//! Each property by a history that breaks it and by one that almost does.

use super::tell::{
    Tell, appended, batch, by_library, fetched, of, reading, retried, seen, stamp, stamped, t0,
    timestamp, written,
};
use crate::checker::{Index, Options, metrics};
use crate::history::{
    Answer, Call, Library, ListedAt, LogState, NodeEvent, Note, Stamp, Written, summary,
};

const LOG_APPEND: &[(&str, &str)] = &[("message.timestamp.type", "LogAppendTime")];

#[test]
fn a_plain_run_is_legal() {
    let mut tell = Tell::new();
    tell.create(&[]);
    tell.send("a", &[1, 2], 0);
    tell.assign("c", 0);
    tell.read("c", 0, &[(0, 1)]);
    tell.send("a", &[3], 2);
    tell.read("c", 1, &[(1, 2), (2, 3)]);
    tell.read_all(&[(0, 1), (1, 2), (2, 3)]);
    tell.is_legal();
}

#[test]
fn two_values_at_one_offset_break_p1() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    let op = tell.invoke("b", batch(&[2]));
    tell.info(op, &["TIMEOUT"]);
    tell.read("c", 0, &[(0, 2)]);
    // The read also tells that 1 is not where it was said to be: nobody read it anywhere.
    tell.breaks(&["P1"]);
}

#[test]
fn an_offset_that_a_lost_and_never_seen_record_had_may_be_used_again() {
    let mut tell = Tell::new();
    let lost = tell.invoke("a", batch(&[1]));
    tell.note(Note::Node {
        event: NodeEvent::PowerLoss,
    });
    tell.info(lost, &["DISCONNECTED"]);
    tell.send("b", &[2], 0);
    tell.read_all(&[(0, 2)]);
    tell.is_legal();
}

#[test]
fn an_acknowledged_record_that_a_final_read_passes_over_breaks_p2() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    tell.send("a", &[2], 1);
    tell.send("a", &[3], 2);
    tell.read_all(&[(0, 1), (2, 3)]);
    tell.breaks(&["P2", "P6"]);
}

#[test]
fn to_have_been_read_once_does_not_excuse_being_gone() {
    let mut tell = Tell::new();
    let op = tell.invoke("a", batch(&[1]));
    tell.info(op, &["TIMEOUT"]);
    tell.send("a", &[2], 1);
    tell.read("c", 0, &[(0, 1)]);
    tell.read_all(&[(1, 2)]);
    tell.breaks(&["P2", "P6"]);
}

#[test]
fn without_a_final_phase_a_lost_write_is_one_that_no_read_returned() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    tell.send("a", &[2], 1);
    tell.read("c", 1, &[(1, 2)]);
    tell.is_legal();
    tell.read("d", 0, &[(1, 2)]);
    tell.breaks(&["P2", "P6"]);
}

#[test]
fn a_batch_that_was_seen_in_part_is_required_whole() {
    let mut tell = Tell::new();
    let op = tell.invoke("a", batch(&[1, 2, 3]));
    tell.info(op, &["TIMEOUT"]);
    tell.read("c", 0, &[(0, 1)]);
    tell.read_all(&[(0, 1), (1, 2), (2, 3)]);
    tell.is_legal();
    tell.ends(0, 1);
    let mut torn = Tell::new();
    let op = torn.invoke("a", batch(&[1, 2, 3]));
    torn.info(op, &["TIMEOUT"]);
    torn.read_all(&[(0, 1), (2, 3)]);
    torn.breaks(&["P2", "P6"]);
}

#[test]
fn an_acknowledged_record_missing_at_the_end_breaks_p3() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    tell.send("a", &[2], 1);
    let mut legal = tell.clone();
    tell.read_all(&[(0, 1)]);
    tell.breaks(&["P3"]);
    // Without having read to the end nobody can say.
    legal.final_phase();
    legal.read("reader", 0, &[(0, 1)]);
    legal.is_legal();
}

#[test]
fn an_empty_log_at_the_end_breaks_p3() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    tell.final_phase();
    tell.ends(0, 0);
    tell.breaks(&["P3"]);
}

#[test]
fn a_record_that_is_called_a_duplicate_must_be_there() {
    let mut tell = Tell::new();
    tell.call("a", stamped(&[1], 0), retried(-1, &["TIMEOUT"]));
    let mut legal = tell.clone();
    tell.send("b", &[2], 0);
    tell.read_all(&[(0, 2)]);
    tell.breaks(&["P3"]);

    legal.final_phase();
    let mut answer = fetched(0, &[(0, 1)]);
    answer.records[0].stamp = Some(stamp(0));
    legal.answer("reader", answer);
    legal.ends(0, 1);
    legal.is_legal();
}

#[test]
fn acknowledgements_of_one_replica_are_promises_unless_said_otherwise() {
    let mut tell = Tell::new();
    let mut call = batch(&[1]);
    if let Call::Send { acks, .. } = &mut call {
        *acks = 1;
    }
    tell.call("a", call, appended(0));
    tell.send("b", &[2], 1);
    tell.read_all(&[(1, 2)]);
    tell.breaks(&["P2", "P6"]);
    tell.is_legal_with(Options {
        weak_acks_one: true,
        ..Options::default()
    });
}

#[test]
fn damage_excuses_reads_that_fail_and_not_those_that_skip() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    tell.send("a", &[2], 1);
    tell.note(Note::Damaged { of: t0() });
    let mut skipping = tell.clone();
    tell.final_phase();
    let mut refused = fetched(0, &[]);
    refused.error = Some("KAFKA_STORAGE_ERROR".to_owned());
    tell.answer("reader", refused);
    tell.ends(0, 0);
    tell.is_legal();

    skipping.read_all(&[(1, 2)]);
    skipping.breaks(&["P2", "P6"]);
}

#[test]
fn records_below_a_log_start_that_was_asked_for_may_be_gone() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    tell.send("a", &[2], 1);
    let mut unasked = tell.clone();
    tell.delete_records(1);
    tell.read_all(&[(1, 2)]);
    tell.is_legal();

    let mut answer = fetched(0, &[(1, 2)]);
    answer.log_start_offset = 1;
    unasked.final_phase();
    unasked.answer("reader", answer);
    unasked.ends(1, 2);
    unasked.breaks(&["P14", "P2", "P6"]);
    unasked.is_legal_with(Options {
        retention: true,
        ..Options::default()
    });
}

#[test]
fn compaction_excuses_absence_and_nothing_else() {
    let mut tell = Tell::new();
    tell.create(&[("cleanup.policy", "compact")]);
    tell.send("a", &[1], 0);
    tell.send("a", &[2], 1);
    let mut changed = tell.clone();
    tell.read_all(&[(1, 2)]);
    tell.is_legal();
    changed.read_all(&[(0, 2)]);
    changed.breaks(&["P1", "P16"]);
}

#[test]
fn more_copies_than_attempts_break_p4() {
    let mut tell = Tell::new();
    tell.call("a", batch(&[1]), retried(1, &["TIMEOUT"]));
    tell.read_all(&[(0, 1), (1, 1)]);
    tell.is_legal();

    let mut certain = Tell::new();
    certain.call("a", batch(&[1]), retried(1, &["NOT_ENOUGH_REPLICAS"]));
    certain.read_all(&[(0, 1), (1, 1)]);
    certain.breaks(&["P4"]);
}

#[test]
fn an_idempotent_batch_twice_breaks_p4() {
    let mut tell = Tell::new();
    tell.call("a", stamped(&[1], 0), retried(1, &["TIMEOUT"]));
    let mut answer = fetched(0, &[(0, 1), (1, 1)]);
    answer.records[0].stamp = Some(stamp(0));
    answer.records[1].stamp = Some(stamp(0));
    tell.answer("c", answer);
    tell.breaks(&["P4"]);
}

#[test]
fn a_client_that_vanished_may_have_sent_any_number_of_times() {
    let mut tell = Tell::new();
    tell.invoke("a", batch(&[1]));
    tell.read_all(&[(0, 1), (1, 1), (2, 1)]);
    tell.is_legal();
}

#[test]
fn values_from_nowhere_break_p5() {
    let mut phantom = Tell::new();
    phantom.read("c", 0, &[(0, 1)]);
    phantom.breaks(&["P5"]);

    let mut refused = Tell::new();
    let op = refused.invoke("a", batch(&[1]));
    refused.fail(op, &["NOT_ENOUGH_REPLICAS"]);
    let mut unknown = Tell::new();
    let op = unknown.invoke("a", batch(&[1]));
    unknown.info(op, &["NOT_LEADER_OR_FOLLOWER"]);
    refused.read("c", 0, &[(0, 1)]);
    refused.breaks(&["P5"]);
    unknown.read("c", 0, &[(0, 1)]);
    unknown.is_legal();
}

#[test]
fn a_value_read_before_it_was_sent_or_elsewhere_breaks_p5() {
    let mut early = Tell::new();
    early.read("c", 0, &[(0, 1)]);
    early.send("a", &[1], 0);
    early.breaks(&["P5"]);

    let mut elsewhere = Tell::new();
    elsewhere.send("a", &[1], 0);
    let mut answer = fetched(0, &[(0, 1)]);
    answer.of = of("t", 1);
    elsewhere.answer("c", answer);
    elsewhere.breaks(&["P5"]);
}

#[test]
fn a_value_may_be_read_while_it_is_sent() {
    let mut tell = Tell::new();
    let read = tell.invoke("c", reading());
    let sent = tell.invoke("a", batch(&[1]));
    let partitions = vec![fetched(0, &[(0, 1)])];
    tell.ok(read, Answer::Read { partitions });
    tell.ok(sent, appended(0));
    tell.is_legal();
}

#[test]
fn a_gap_inside_an_answer_breaks_p6_if_something_was_there() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    tell.send("a", &[3], 2);
    tell.read("c", 0, &[(0, 1), (2, 3)]);
    // Nobody knows of a record at 1.
    tell.is_legal();
    let mut later = tell.clone();
    later.read("d", 1, &[]);
    later.is_legal();
    tell.invoke("b", batch(&[2]));
    tell.read("d", 1, &[(1, 2)]);
    // 2 was sent after 3 was acknowledged, and is below it.
    tell.breaks(&["P12", "P6"]);
}

#[test]
fn a_record_acknowledged_later_was_there_if_one_above_it_was() {
    let mut tell = Tell::new();
    let slow = tell.invoke("a", batch(&[1]));
    tell.send("b", &[2], 1);
    tell.read("c", 0, &[(1, 2)]);
    tell.ok(slow, appended(0));
    tell.read("d", 0, &[(0, 1), (1, 2)]);
    tell.breaks(&["P6"]);
}

#[test]
fn offsets_that_do_not_rise_inside_an_answer_break_p7() {
    let mut tell = Tell::new();
    tell.send("a", &[1, 2], 0);
    let mut legal = tell.clone();
    tell.read("c", 0, &[(1, 2), (0, 1)]);
    tell.breaks(&["P6", "P7"]);
    legal.read("c", 1, &[(1, 2)]);
    legal.is_legal();
    legal.read("d", 1, &[(0, 1), (1, 2)]);
    legal.breaks(&["P7"]);
}

#[test]
fn a_gap_between_answers_breaks_p8_unless_the_consumer_was_moved() {
    let mut tell = Tell::new();
    tell.send("a", &[1, 2, 3], 0);
    tell.assign("c", 0);
    tell.read("c", 0, &[(0, 1)]);
    let mut moved = tell.clone();
    tell.read("c", 2, &[(2, 3)]);
    tell.breaks(&["P8"]);
    moved.assign("c", 2);
    moved.read("c", 2, &[(2, 3)]);
    moved.is_legal();
}

#[test]
fn a_consumer_starts_where_it_was_put() {
    let mut tell = Tell::new();
    tell.send("a", &[1, 2], 0);
    tell.assign("c", 0);
    tell.read("c", 1, &[(1, 2)]);
    tell.breaks(&["P8"]);
}

#[test]
fn going_back_between_answers_breaks_p9_unless_the_consumer_was_moved() {
    let mut tell = Tell::new();
    tell.send("a", &[1, 2], 0);
    tell.read("c", 0, &[(0, 1), (1, 2)]);
    let mut moved = tell.clone();
    tell.read("c", 0, &[(0, 1)]);
    tell.breaks(&["P9"]);
    moved.assign("c", 0);
    moved.read("c", 0, &[(0, 1)]);
    moved.is_legal();
}

#[test]
fn a_later_send_of_one_producer_below_an_earlier_breaks_p10() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 1);
    tell.send("a", &[2], 0);
    tell.breaks(&["P10", "P12"]);
}

#[test]
fn pipelined_sends_keep_their_order_only_with_idempotence() {
    let pipelined = |first: Call, second: Call| {
        let mut tell = Tell::new();
        let one = tell.invoke("a", first);
        let two = tell.invoke("a", second);
        tell.ok(two, appended(0));
        tell.ok(one, retried(1, &["TIMEOUT"]));
        tell
    };
    pipelined(batch(&[1]), batch(&[2])).is_legal();
    pipelined(stamped(&[1], 0), stamped(&[2], 1)).breaks(&["P10"]);
}

#[test]
fn a_wrong_order_is_there_once_both_are_answered() {
    let mut tell = Tell::new();
    let one = tell.invoke("a", stamped(&[1], 0));
    let two = tell.invoke("a", stamped(&[2], 1));
    tell.ok(one, appended(1));
    tell.ok(two, appended(0));
    let history = tell.history();
    let answered = history.operations.iter().map(|op| op.returned).max();
    let found = crate::checker::check(&history);
    let times = found.into_iter().map(|violation| violation.time);
    assert_eq!(times.max(), answered);
}

#[test]
fn a_batch_out_of_order_or_apart_breaks_p11() {
    let mut back = Tell::new();
    let op = back.invoke("a", batch(&[1, 2]));
    back.info(op, &["TIMEOUT"]);
    let mut apart = back.clone();
    let mut legal = back.clone();
    back.read("c", 1, &[(1, 1)]);
    back.read("d", 0, &[(0, 2)]);
    back.breaks(&["P11a"]);
    apart.send("b", &[3], 1);
    apart.read("c", 0, &[(0, 1)]);
    apart.read("d", 1, &[(1, 3), (2, 2)]);
    apart.breaks(&["P11b"]);
    legal.read("c", 0, &[(0, 1)]);
    legal.read("d", 1, &[(1, 2)]);
    legal.is_legal();
}

#[test]
fn a_send_that_began_after_another_ended_is_above_it_or_breaks_p12() {
    let mut tell = Tell::new();
    tell.send("a", &[1], 1);
    tell.send("b", &[2], 0);
    tell.breaks(&["P12"]);

    let mut overlapping = Tell::new();
    let op = overlapping.invoke("b", batch(&[2]));
    overlapping.send("a", &[1], 1);
    overlapping.ok(op, appended(0));
    overlapping.is_legal();
}

#[test]
fn what_was_read_before_a_send_began_is_below_it_or_breaks_p12() {
    let mut tell = Tell::new();
    tell.invoke("a", batch(&[1]));
    tell.read("c", 1, &[(1, 1)]);
    tell.send("b", &[2], 0);
    tell.breaks(&["P12"]);
}

#[test]
fn a_stale_read_breaks_p13_in_the_final_phase_only() {
    let stale = |is_final: bool| {
        let mut tell = Tell::new();
        tell.send("a", &[1], 0);
        if is_final {
            tell.final_phase();
        }
        let mut answer = fetched(0, &[]);
        answer.high_watermark = 0;
        tell.answer("c", answer);
        tell.list("c", ListedAt::Latest, 0, -1);
        tell
    };
    stale(false).is_legal();
    stale(true).breaks(&["P13"]);

    let history = stale(false).history();
    let measured = metrics(&Index::new(&history, Options::default()));
    assert_eq!((measured.polls, measured.behind), (1, 1));
    assert_eq!(measured.realtime_lag_max, 10);
    assert_eq!((measured.unseen_max, measured.unseen_at_end), (1, 1));
}

#[test]
fn bounds_that_go_down_break_p14() {
    let told = |high_watermark, log_start_offset| {
        let mut answer = fetched(0, &[]);
        answer.high_watermark = high_watermark;
        answer.log_start_offset = log_start_offset;
        answer
    };
    let mut tell = Tell::new();
    tell.answer("c", told(5, 0));
    tell.note(Note::Node {
        event: NodeEvent::PowerLoss,
    });
    let mut other = tell.clone();
    tell.list("c", ListedAt::Latest, 4, -1);
    tell.breaks(&["P14"]);
    // Another client may be told by a leader that is behind.
    other.list("d", ListedAt::Latest, 4, -1);
    other.is_legal();

    let mut start = Tell::new();
    start.delete_records(3);
    start.answer("c", told(5, 3));
    start.is_legal();
    start.list("c", ListedAt::Earliest, 2, -1);
    start.breaks(&["P14"]);
}

#[test]
fn a_leader_that_was_replaced_unawares_may_not_know_what_is_late() {
    let look_up = |epochs: &[i32]| {
        let mut tell = Tell::new();
        tell.send("a", &[5], 0);
        for (node, leader_epoch) in epochs.iter().enumerate() {
            tell.note_by(
                &format!("n{node}"),
                Note::Leading {
                    of: t0(),
                    leader_epoch: *leader_epoch,
                    start: 0,
                },
            );
        }
        tell.list("c", ListedAt::Timestamp(timestamp(5)), -1, -1);
        tell
    };
    look_up(&[1, 2]).is_legal();
    look_up(&[1]).breaks(&["P14"]);
}

#[test]
fn a_look_up_by_time_finds_the_first_record_or_breaks_p14() {
    let mut tell = Tell::new();
    tell.send("a", &[5, 3], 0);
    tell.send("a", &[4], 2);
    let look_up = |id: u64, offset: i64, timestamp: i64| {
        let mut tell = tell.clone();
        tell.list(
            "c",
            ListedAt::Timestamp(1000 + id as i64),
            offset,
            timestamp,
        );
        tell
    };
    look_up(4, 0, timestamp(5)).is_legal();
    look_up(6, -1, -1).is_legal();
    look_up(4, 2, timestamp(4)).breaks(&["P14"]);
    look_up(4, -1, -1).breaks(&["P14"]);
    look_up(4, 0, timestamp(4)).breaks(&["P14"]);
    look_up(6, 0, timestamp(5)).breaks(&["P14"]);

    // A record whose send was still under way when the look-up began is not held against it.
    let mut racing = Tell::new();
    let op = racing.invoke("a", batch(&[5]));
    racing.list("c", ListedAt::Timestamp(0), -1, -1);
    racing.ok(op, appended(0));
    racing.is_legal();
}

#[test]
fn content_that_differs_breaks_p15() {
    let read = |change: fn(&mut crate::history::Seen)| {
        let mut tell = Tell::new();
        tell.send("a", &[1], 0);
        let mut answer = fetched(0, &[(0, 1)]);
        change(&mut answer.records[0]);
        tell.answer("c", answer);
        tell
    };
    read(|_| ()).is_legal();
    read(|seen| seen.digest += 1).breaks(&["P15"]);
    read(|seen| seen.key = Some("k".to_owned())).breaks(&["P15"]);
    read(|seen| seen.tombstone = true).breaks(&["P15"]);
    read(|seen| seen.timestamp += 1).breaks(&["P15"]);
    read(|seen| seen.stamp = Some(stamp(0))).breaks(&["P15"]);
    read(|seen| seen.id = None).breaks(&["P15"]);
}

#[test]
fn stamps_are_compared_where_no_library_hides_them() {
    let told = |call: Call, seen_stamp: Option<Stamp>, library: bool| {
        let mut tell = Tell::new();
        tell.call("a", call, appended(0));
        let mut answer = fetched(0, &[(0, 1)]);
        answer.records[0].stamp = seen_stamp;
        let mut read = reading();
        if let Call::Read { library: flag, .. } = &mut read {
            *flag = library;
        }
        let partitions = vec![answer];
        tell.call("c", read, Answer::Read { partitions });
        tell
    };
    told(stamped(&[1], 0), Some(stamp(0)), false).is_legal();
    told(stamped(&[1], 0), None, false).breaks(&["P15"]);
    told(stamped(&[1], 0), None, true).is_legal();
    told(batch(&[1]), Some(stamp(0)), false).breaks(&["P15"]);
    let idempotent = || by_library(&[1], Library::Idempotent);
    told(idempotent(), Some(stamp(0)), false).is_legal();
    told(idempotent(), None, true).is_legal();
}

#[test]
fn a_library_may_repeat_what_the_broker_cannot_know_again() {
    let twice = |library| {
        let mut tell = Tell::new();
        tell.call("a", by_library(&[1], library), appended(0));
        tell.read("c", 0, &[(0, 1), (1, 1)]);
        tell
    };
    twice(Library::Repeats).is_legal();
    twice(Library::Once).breaks(&["P4"]);
    twice(Library::Idempotent).breaks(&["P4"]);
}

#[test]
fn a_library_tells_a_log_append_time_that_is_not_the_own_timestamp() {
    let told = |log_append_time, seen| {
        let mut tell = Tell::new();
        tell.create(LOG_APPEND);
        let answer = Answer::Send {
            base_offset: 0,
            log_append_time,
            log_start_offset: -1,
            attempts: Vec::new(),
        };
        tell.call("a", by_library(&[1], Library::Idempotent), answer);
        let mut answer = fetched(0, &[(0, 1)]);
        answer.records[0].timestamp = seen;
        tell.answer("c", answer);
        tell
    };
    told(77, 77).is_legal();
    told(77, 78).breaks(&["P15"]);
    told(-1, timestamp(1)).is_legal();
    told(-1, 77).breaks(&["P15"]);
}

#[test]
fn sequences_go_on_from_the_highest_to_zero() {
    let mut tell = Tell::new();
    tell.call("a", stamped(&[1, 2], i32::MAX), appended(0));
    let mut answer = fetched(0, &[(0, 1), (1, 2)]);
    answer.records[0].stamp = Some(stamp(i32::MAX));
    answer.records[1].stamp = Some(stamp(0));
    tell.answer("c", answer.clone());
    tell.is_legal();
    answer.records[1].stamp = Some(stamp(1));
    tell.answer("d", answer);
    tell.breaks(&["P15"]);
}

#[test]
fn where_the_broker_sets_timestamps_they_are_as_acknowledged() {
    let mut tell = Tell::new();
    tell.create(LOG_APPEND);
    let stamped_at = |log_append_time| Answer::Send {
        base_offset: 0,
        log_append_time,
        log_start_offset: 0,
        attempts: Vec::new(),
    };
    let mut unstamped = tell.clone();
    unstamped.call("a", batch(&[1]), stamped_at(-1));
    unstamped.breaks(&["P16"]);
    tell.call("a", batch(&[1]), stamped_at(77));
    let mut answer = fetched(0, &[(0, 1)]);
    answer.records[0].timestamp = 77;
    tell.answer("c", answer.clone());
    tell.is_legal();
    answer.records[0].timestamp = 78;
    tell.answer("d", answer);
    tell.breaks(&["P15"]);
}

#[test]
fn acknowledgements_that_lie_break_p16() {
    let mut elsewhere = Tell::new();
    elsewhere.send("a", &[1], 0);
    elsewhere.read("c", 5, &[(5, 1)]);
    elsewhere.breaks(&["P16"]);

    let mut duplicate = Tell::new();
    duplicate.call("a", batch(&[1]), appended(-1));
    duplicate.breaks(&["P16"]);

    let mut start = Tell::new();
    let answer = |log_start_offset| Answer::Send {
        base_offset: 9,
        log_append_time: -1,
        log_start_offset,
        attempts: Vec::new(),
    };
    let mut legal = start.clone();
    start.call("a", batch(&[1]), answer(4));
    start.breaks(&["P14", "P16"]);
    legal.delete_records(4);
    legal.call("a", batch(&[1]), answer(4));
    legal.is_legal();
}

#[test]
fn a_read_above_the_noted_high_watermark_breaks_p17() {
    let state = |high_watermark| Note::Log {
        of: t0(),
        state: LogState {
            start: 0,
            high_watermark,
            end: 9,
            recovery_point: 9,
            leader_epoch: 0,
        },
    };
    let mut tell = Tell::new();
    tell.send("a", &[1], 0);
    let mut silent = tell.clone();
    let mut late = tell.clone();
    tell.note(state(1));
    tell.read("c", 0, &[(0, 1)]);
    tell.is_legal();
    silent.read("c", 0, &[(0, 1)]);
    silent.is_legal();
    late.note(state(0));
    late.read("c", 0, &[(0, 1)]);
    late.note(state(1));
    late.breaks(&["P17"]);
}

#[test]
fn what_the_run_saw_broken_is_reported() {
    let broken = |property: &str| Note::Broken {
        property: property.to_owned(),
        detail: "said so".to_owned(),
        of: None,
    };
    let mut tell = Tell::new();
    tell.is_legal();
    tell.note(broken("P18"));
    tell.note(broken("a rule without a number"));
    tell.breaks(&["P18", "other"]);
}

#[test]
fn a_summary_counts_what_worked() {
    let mut tell = Tell::new();
    tell.send("a", &[1, 2], 0);
    let op = tell.invoke("a", batch(&[3]));
    tell.info(op, &["TIMEOUT"]);
    tell.read("c", 0, &[(0, 1), (1, 2)]);
    let summary = summary(&tell.history());
    let sends = summary.operations["send"];
    assert_eq!((sends.ok, sends.fail, sends.info), (1, 0, 1));
    assert_eq!((summary.records_acknowledged, summary.records_read), (2, 2));
    assert_eq!(summary.all().ok, 2);
}

#[test]
fn tombstones_and_keys_are_compared_too() {
    let record = Written {
        key: Some("k".to_owned()),
        tombstone: true,
        ..written(1)
    };
    let call = Call::Send {
        to: t0(),
        acks: -1,
        records: vec![record],
        stamp: None,
        library: None,
    };
    let mut tell = Tell::new();
    tell.call("a", call, appended(0));
    let mut answer = fetched(0, &[]);
    answer.records = vec![seen(0, 1)];
    answer.records[0].key = Some("k".to_owned());
    answer.records[0].tombstone = true;
    tell.answer("c", answer);
    tell.is_legal();
}
