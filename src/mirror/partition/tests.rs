//! Claims about single answers.

use super::*;
use crate::types::{ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::wire::batch::{BatchBuilder, Compression};

const AT: At = (Instant(1_000_000_000), 5);
const LEADER: BrokerId = BrokerId(4);

fn batch(base: i64, epoch: i32, change: impl Fn(BatchBuilder) -> BatchBuilder) -> Bytes {
    let builder = BatchBuilder::new(Offset(base), Compression::None, None);
    let mut builder = change(builder.leader_epoch(LeaderEpoch(epoch)));
    builder.push(Timestamp(1), None, Some(b"value"), &[]);
    builder.build().bytes().clone()
}

fn answer(records: &[Bytes]) -> Answer {
    Answer {
        error: ErrorCode::None,
        high_watermark: Offset(1000),
        log_start_offset: Offset::ZERO,
        diverging: None,
        records: records.concat().into(),
    }
}

fn position(end: i64) -> Position {
    Position {
        log_end_offset: Offset(end),
        log_start_offset: Offset::ZERO,
        high_watermark: Offset(end),
    }
}

/// One whose copy ends at `end`, and which may fetch from a leader of epoch 9.
fn ready(lineage: &[(i32, i64)], end: i64) -> MirrorPartition {
    let lineage = lineage.iter();
    let lineage = lineage.map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start)));
    let mut machine = MirrorPartition::new(lineage.collect(), Turn(0));
    machine.led_by(Some((LEADER, LeaderEpoch(9))));
    let (turn, effect) = machine.poll(AT.0).unwrap();
    assert!(matches!(effect, Effect::Place));
    machine.placed(turn, AT, Ok(position(end)));
    machine
}

fn fetch(machine: &mut MirrorPartition, answer: Answer) -> Option<Effect> {
    let asked = machine.asks().expect("it may fetch");
    let turn = machine.sent(asked);
    machine.fetched(turn, AT, &asked, answer);
    machine.poll(AT.0).map(|(_, effect)| effect)
}

#[test]
fn a_batch_of_a_new_epoch_waits_for_the_lineage() {
    let mut machine = ready(&[(3, 0)], 10);
    let asked = machine.asks().unwrap();
    assert_eq!(asked.fetch_offset, Offset(10));
    assert_eq!(asked.last_fetched_epoch, LeaderEpoch(3));
    let plain = |base, epoch| batch(base, epoch, |builder| builder);
    let effect = fetch(
        &mut machine,
        answer(&[plain(10, 3), plain(11, 3), plain(12, 5)]),
    );
    let Some(Effect::Append {
        fetch_offset,
        batches,
        ..
    }) = effect
    else {
        panic!("{effect:?}");
    };
    assert_eq!((fetch_offset, batches.len()), (Offset(10), 2));
    let turn = machine.turn;
    machine.placed(turn, AT, Ok(position(12)));
    let effect = fetch(&mut machine, answer(&[plain(12, 5)]));
    assert!(
        matches!(
            effect,
            Some(Effect::Enter {
                epoch: LeaderEpoch(5),
                start: Offset(12)
            })
        ),
        "{effect:?}"
    );
}

#[test]
fn what_the_source_does_not_have_is_a_fault() {
    let mut machine = ready(&[(3, 0)], 10);
    let mut said = answer(&[]);
    said.diverging = Some((LeaderEpoch(3), Offset(7)));
    let effect = fetch(&mut machine, said);
    let Some(Effect::Fail(fault)) = effect else {
        panic!("{effect:?}");
    };
    let (at, source_end) = (Offset(10), Offset(7));
    assert_eq!(fault, Fault::Truncated { at, source_end });
    let turn = machine.turn;
    machine.failed(turn, AT, Ok(()));
    assert!(machine.has_ended());
    assert!(machine.poll(Instant(u64::MAX)).is_none());
}

#[test]
fn a_transaction_is_refused_after_what_comes_before_it() {
    let mut machine = ready(&[(3, 0)], 10);
    let plain = batch(10, 3, |builder| builder);
    let open = batch(11, 3, |builder| {
        let builder = builder.producer(ProducerId(1), ProducerEpoch(0), Sequence(0));
        builder.transactional()
    });
    let effect = fetch(&mut machine, answer(&[plain, open.clone()]));
    let Some(Effect::Append { batches, .. }) = effect else {
        panic!("{effect:?}");
    };
    assert_eq!(batches.len(), 1);
    let turn = machine.turn;
    machine.placed(turn, AT, Ok(position(11)));
    let effect = fetch(&mut machine, answer(&[open]));
    let wanted = Fault::Transactional { at: Offset(11) };
    assert!(matches!(effect, Some(Effect::Fail(fault)) if fault == wanted));
}

#[test]
fn records_that_went_before_they_were_copied_are_a_fault() {
    let mut machine = ready(&[(3, 0)], 10);
    let mut refused = answer(&[]);
    refused.error = ErrorCode::OffsetOutOfRange;
    let effect = fetch(&mut machine, refused);
    assert!(matches!(effect, Some(Effect::Probe { .. })), "{effect:?}");
    let bounds = Bounds {
        start: Offset(20),
        end: Offset(30),
    };
    machine.bounded(machine.turn, AT, Ok(bounds));
    let mut said = answer(&[batch(20, 3, |builder| builder)]);
    said.log_start_offset = Offset(20);
    let effect = fetch(&mut machine, said);
    let Some(Effect::Fail(fault)) = effect else {
        panic!("{effect:?}");
    };
    let (at, source_start) = (Offset(10), Offset(20));
    assert_eq!(fault, Fault::Expired { at, source_start });
}

#[test]
fn a_batch_that_the_sources_start_lies_in_is_copied_whole() {
    let mut machine = ready(&[(3, 0)], 10);
    let mut refused = answer(&[]);
    refused.error = ErrorCode::OffsetOutOfRange;
    fetch(&mut machine, refused);
    let bounds = Bounds {
        start: Offset(11),
        end: Offset(30),
    };
    machine.bounded(machine.turn, AT, Ok(bounds));
    assert_eq!(machine.asks().unwrap().fetch_offset, Offset(11));
    let effect = fetch(&mut machine, answer(&[batch(10, 3, |builder| builder)]));
    assert!(matches!(effect, Some(Effect::Append { .. })), "{effect:?}");
}

#[test]
fn an_old_leader_is_not_asked() {
    let mut machine = ready(&[(3, 0), (9, 8)], 10);
    assert!(machine.asks().is_some());
    machine.led_by(Some((BrokerId(1), LeaderEpoch(7))));
    assert_eq!(machine.asks().unwrap().leader, LEADER);
    let mut fresh = ready(&[(3, 0), (12, 8)], 10);
    assert_eq!(fresh.asks(), None, "records of a later epoch were copied");
    fresh.led_by(Some((BrokerId(1), LeaderEpoch(12))));
    assert!(fresh.asks().is_some());
}

#[test]
fn an_outcome_of_an_earlier_turn_is_ignored() {
    let mut machine = ready(&[(3, 0)], 10);
    let asked = machine.asks().unwrap();
    let old = machine.sent(asked);
    machine.interrupted(old, AT, "lost".to_owned());
    assert!(machine.take_refresh());
    machine.fetched(old, AT, &asked, answer(&[batch(10, 3, |builder| builder)]));
    assert!(machine.poll(AT.0).is_none(), "it pauses");
    assert!(machine.wakes_at().is_some());
}

#[test]
fn damage_is_a_fault_only_if_it_stays() {
    let mut machine = ready(&[(3, 0)], 10);
    let mut bad = batch(10, 3, |builder| builder).to_vec();
    bad[30] ^= 1;
    let mut now = AT.0;
    for _ in 1..DAMAGED_MAX {
        assert!(fetch(&mut machine, answer(&[bad.clone().into()])).is_none());
        now = now.plus(PAUSE_LONGEST);
        let (turn, _) = machine.poll(now).expect("it is tried again");
        machine.placed(turn, AT, Ok(position(10)));
    }
    let effect = fetch(&mut machine, answer(&[bad.into()]));
    assert!(
        matches!(effect, Some(Effect::Fail(Fault::Damaged { .. }))),
        "{effect:?}"
    );
}

#[test]
fn what_follows_an_append_is_taken_up_once_that_is_safe() {
    for is_early in [false, true] {
        let plain = |base| answer(&[batch(base, 3, |builder| builder)]);
        let mut machine = ready(&[(3, 0)], 10);
        let effect = fetch(&mut machine, plain(10));
        assert!(matches!(effect, Some(Effect::Append { .. })), "{effect:?}");
        let append = machine.turn;
        let asked = machine.asks().expect("what follows");
        assert_eq!(asked.fetch_offset, Offset(11));
        assert_eq!(asked.last_fetched_epoch, LeaderEpoch(3));
        let ahead = machine.sent(asked);
        assert_eq!(machine.asks(), None);
        if is_early {
            machine.fetched(ahead, AT, &asked, plain(11));
            assert!(machine.poll(AT.0).is_none(), "the first is not safe yet");
        }
        machine.placed(append, AT, Ok(position(11)));
        if !is_early {
            assert!(machine.poll(AT.0).is_none());
            machine.fetched(ahead, AT, &asked, plain(11));
        }
        let (_, effect) = machine.poll(AT.0).expect("the second");
        let Effect::Append { fetch_offset, .. } = effect else {
            panic!("{effect:?}");
        };
        assert_eq!(fetch_offset, Offset(11));
    }
}

#[test]
fn what_follows_an_append_that_failed_is_dropped() {
    let mut machine = ready(&[(3, 0)], 10);
    fetch(&mut machine, answer(&[batch(10, 3, |builder| builder)]));
    let append = machine.turn;
    let asked = machine.asks().expect("what follows");
    let ahead = machine.sent(asked);
    let later = answer(&[batch(11, 3, |builder| builder)]);
    machine.fetched(ahead, AT, &asked, later);
    assert!(machine.held_bytes() > 0);
    machine.placed(append, AT, Err(ErrorCode::KafkaStorageError));
    assert_eq!(machine.held_bytes(), 0);
    let now = AT.0.plus(PAUSE_LONGEST);
    let (turn, effect) = machine.poll(now).expect("it looks where it is");
    assert!(matches!(effect, Effect::Place));
    machine.placed(turn, AT, Ok(position(10)));
    assert_eq!(
        machine.asks().map(|asked| asked.fetch_offset),
        Some(Offset(10))
    );
}

/// An answer of a source that has nothing before `start`.
fn emptied(start: i64, records: &[Bytes]) -> Answer {
    Answer {
        high_watermark: Offset(start + i64::try_from(records.len()).unwrap()),
        log_start_offset: Offset(start),
        ..answer(records)
    }
}

#[test]
fn another_leader_that_has_nothing_to_compare_is_not_believed() {
    let plain = |epoch| batch(10, epoch, |builder| builder);
    let effect = fetch(&mut ready(&[(3, 0)], 10), emptied(10, &[plain(9)]));
    let wanted = Fault::Unverified { at: Offset(10) };
    assert!(matches!(&effect, Some(Effect::Fail(fault)) if *fault == wanted));

    // What the leader gives that gave the last copied record, too, can only follow it.
    let effect = fetch(&mut ready(&[(3, 0)], 10), emptied(10, &[plain(3)]));
    assert!(matches!(effect, Some(Effect::Append { .. })), "{effect:?}");

    // Nor can the leader that agreed when it could still compare.
    let mut machine = ready(&[(3, 0)], 10);
    let mut said = answer(&[]);
    said.high_watermark = Offset(10);
    assert!(fetch(&mut machine, said).is_none());
    let effect = fetch(&mut machine, emptied(10, &[plain(9)]));
    assert!(matches!(effect, Some(Effect::Enter { .. })), "{effect:?}");
}

#[test]
fn a_topic_that_was_seen_empty_goes_on_under_any_leader() {
    let mut machine = ready(&[(3, 0)], 10);
    let mut said = answer(&[]);
    said.high_watermark = Offset(10);
    assert!(fetch(&mut machine, said).is_none());
    // All of it expires, and that this leader agreed is noted for whoever copies next.
    machine.position.as_mut().unwrap().log_start_offset = Offset(10);
    let effect = fetch(&mut machine, emptied(10, &[]));
    let noted = (LeaderEpoch(9), Offset(10));
    assert!(
        matches!(effect, Some(Effect::Enter { epoch, start }) if (epoch, start) == noted),
        "{effect:?}"
    );
    let lineage = vec![(LeaderEpoch(3), Offset(0)), noted];
    machine.entered(machine.turn, AT, Ok(lineage));
    machine.poll(AT.0).unwrap();
    machine.placed(machine.turn, AT, Ok(position(10)));
    machine.led_by(Some((LEADER, LeaderEpoch(11))));
    let plain = batch(10, 11, |builder| builder);
    let effect = fetch(&mut machine, emptied(10, &[plain]));
    assert!(matches!(effect, Some(Effect::Enter { .. })), "{effect:?}");

    let plain = |epoch| batch(10, epoch, |builder| builder);
    let mut another = ready(&[(3, 0), (9, 10)], 10);
    let effect = fetch(&mut another, emptied(10, &[plain(9)]));
    assert!(matches!(effect, Some(Effect::Append { .. })), "{effect:?}");
}
