//! Retention, DeleteRecords, truncation.

use super::disk::Survive;
use super::*;
use crate::env::OpenMode;
use crate::log::ReadError;

#[test]
fn old_segments_go_whole_and_only_below_the_high_watermark() {
    let mut bench = Bench::new();
    bench.config.retention_ms = Some(100);
    let mut log = bench.create();
    fill(&mut log, 40);
    let before = contents(&log);
    let reader = log.reader();
    let segments = reader.segment_count();
    let none = run(log.apply_retention(Timestamp(1050), Offset(120))).unwrap();
    assert_eq!(none.segments_removed, 0);
    let held = run(log.apply_retention(Timestamp(9000), Offset(2))).unwrap();
    assert_eq!(held.segments_removed, 0, "the high watermark holds them");
    let some = run(log.apply_retention(Timestamp(1350), Offset(120))).unwrap();
    assert!(some.segments_removed > 0);
    assert_eq!(reader.segment_count(), segments - some.segments_removed);
    let start = reader.log_start_offset();
    assert_eq!(start, some.log_start_offset);
    assert_eq!(contents(&log), before[start.0 as usize..]);
    let gone = run(reader.read(Offset(0), Offset(120), 99, true));
    assert!(matches!(gone, Err(ReadError::OutOfRange { .. })));
    let all = run(log.apply_retention(Timestamp(9000), Offset(120))).unwrap();
    assert_eq!(
        all.log_start_offset,
        Offset(120),
        "the active one too, once closed"
    );
    assert_eq!(put(&mut log, &batch(&["on"], 9000)), Offset(120));
    drop(log);
    assert_eq!(bench.open(None).0.log_start_offset(), Offset(120));
}

#[test]
fn a_clock_that_steps_back_and_times_in_the_future_remove_nothing() {
    let mut bench = Bench::new();
    bench.config.retention_ms = Some(100);
    let mut log = bench.create();
    fill(&mut log, 20);
    put(&mut log, &batch(&["late"], i64::MAX - 1));
    for now in [-5, 0, 900] {
        let kept = run(log.apply_retention(Timestamp(now), Offset(61))).unwrap();
        assert_eq!(kept.segments_removed, 0);
    }
    let removed = run(log.apply_retention(Timestamp(i64::MAX), Offset(61))).unwrap();
    assert!(
        removed.log_start_offset < Offset(61),
        "the future holds its segment"
    );
}

#[test]
fn a_log_stays_just_above_its_size() {
    let mut bench = Bench::new();
    bench.config.retention_ms = None;
    bench.config.retention_bytes = Some(5000);
    let mut log = bench.create();
    fill(&mut log, 60);
    run(log.apply_retention(Timestamp(0), Offset(180))).unwrap();
    let size = log.reader().size_bytes();
    assert!((5000..7000).contains(&size), "{size}");
}

#[test]
fn removed_files_stay_until_their_delay_has_passed() {
    let mut bench = Bench::new();
    bench.config.retention_ms = Some(0);
    let mut log = bench.create();
    fill(&mut log, 40);
    let reader = log.reader();
    let kept: Vec<RecordBatch> = read_all(&reader, Offset(0), 500);
    assert_eq!(kept.len(), 40);
    let deleted = || {
        let names = bench.disk.names();
        names
            .iter()
            .filter(|name| name.ends_with(".deleted"))
            .count()
    };
    let removed = run(log.apply_retention(Timestamp(5000), Offset(120))).unwrap();
    assert_eq!(deleted(), removed.segments_removed);
    assert_eq!(run(log.remove_deleted(Timestamp(5999))).unwrap(), 0);
    assert_eq!(
        run(log.remove_deleted(Timestamp(2000))).unwrap(),
        0,
        "a step back"
    );
    assert_eq!(
        run(log.remove_deleted(Timestamp(3000))).unwrap(),
        removed.segments_removed
    );
    assert_eq!(deleted(), 0);
}

#[test]
fn deleted_records_stay_deleted() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 40);
    assert_eq!(
        run(log.delete_records_before(Offset(50))).unwrap(),
        Offset(50)
    );
    assert_eq!(
        run(log.delete_records_before(Offset(10))).unwrap(),
        Offset(50)
    );
    assert!(run(log.delete_records_before(Offset(121))).is_err());
    let read = read_all(&log.reader(), Offset(50), 300);
    assert_eq!(
        read[0].header.base_offset,
        Offset(48),
        "the batch that holds it, whole"
    );
    drop(log);
    bench.disk.lose_power(disk::Survive::None);
    let (mut log, _) = bench.open(None);
    assert_eq!(log.log_start_offset(), Offset(50));
    let retained = run(log.apply_retention(Timestamp(0), Offset(120))).unwrap();
    assert_eq!(retained.log_start_offset, Offset(50));
    assert_eq!(
        log.reader().end_of_epoch(LeaderEpoch(0)),
        (LeaderEpoch(0), Offset(50))
    );
}

#[test]
fn a_cut_log_goes_on_where_it_was_cut() {
    for end in [0, 1, 30, 33, 59, 90, 118, 119] {
        let bench = Bench::new();
        let mut log = bench.create();
        for at in 0..40 {
            let value = format!("{at:0>20}");
            put(&mut log, &sequenced(4, 0, at * 3, &[&value, &value, "y"]));
        }
        let before = contents(&log);
        run(log.truncate_to(Offset(end))).unwrap();
        let cut = Offset(end / 3 * 3);
        assert_eq!(log.log_end_offset(), cut);
        assert_eq!(log.durable_end(), cut);
        assert_eq!(contents(&log), before[..cut.0 as usize]);
        let last = log.producers().get(ProducerId(4));
        let last = last.and_then(|producer| producer.last_batch().copied());
        assert_eq!(
            last.map(|last| last.last_offset.next()),
            (cut.0 > 0).then_some(cut)
        );
        assert_eq!(put(&mut log, &sequenced(4, 0, cut.0 as i32, &["new"])), cut);
        let after = contents(&log);
        drop(log);
        bench.disk.lose_power(disk::Survive::None);
        let (log, recovery) = bench.open(None);
        assert_eq!(contents(&log), after, "cut at {end}: {recovery:?}");
    }
}

#[test]
fn a_cut_takes_epochs_without_records_even_where_it_takes_no_records() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 3);
    log.begin_epoch(LeaderEpoch(4));
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(4)));
    let epochs = (LeaderEpoch(1), Offset(9));
    assert_eq!(log.reader().end_of_epoch(LeaderEpoch(3)), epochs);
    run(log.truncate_to(Offset(20))).unwrap();
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(1)));
    assert_eq!(log.log_end_offset(), Offset(9));
}

#[test]
fn a_log_begins_anew_beyond_its_end_whenever_the_power_fails() {
    for filled in [0, 1, 40] {
        let bench = Bench::new();
        let mut log = bench.create();
        fill(&mut log, filled);
        let start = Offset(filled * 3 + 5);
        run(log.restart_at(start)).unwrap();
        assert_eq!(
            (log.log_start_offset(), log.log_end_offset()),
            (start, start)
        );
        assert_eq!((log.latest_epoch(), log.durable_end()), (None, start));
        assert!(contents(&log).is_empty());
        drop(log);
        bench.disk.lose_power(disk::Survive::None);
        let (mut log, _) = bench.open(None);
        assert_eq!(
            (log.log_start_offset(), log.log_end_offset()),
            (start, start)
        );
        assert_eq!(put(&mut log, &batch(&["a", "b"], 1)), start);
        let after = contents(&log);
        drop(log);
        let (log, _) = bench.open(None);
        assert_eq!(contents(&log), after);
        assert_eq!(log.latest_epoch(), Some(LeaderEpoch(1)));
    }
}

/// A log of several segments that begins within a batch, and the first offset in it.
fn begun_within_a_batch() -> (Bench, Offset) {
    let mut bench = Bench::new();
    bench.config.segment_bytes = 420;
    let mut log = bench.create();
    fill(&mut log, 9);
    run(log.delete_records_before(Offset(13))).unwrap();
    run(log.stamp()).unwrap();
    (bench, Offset(13))
}

#[test]
fn a_crash_amid_beginning_anew_is_followed_by_the_rest_of_it() {
    for start in [Offset(13), Offset(14), Offset(27), Offset(40)] {
        let (mut before, mut after) = (0, 0);
        for calls in 0.. {
            let mut finished = false;
            for choice in 0..6u8 {
                let (bench, first) = begun_within_a_batch();
                let (mut log, _) = bench.open(None);
                bench.disk.stop_after(calls);
                finished = run(log.restart_at(start)).is_ok();
                drop(log);
                bench.disk.lose_power(match choice {
                    0 => Survive::None,
                    1 => Survive::All,
                    _ => Survive::Some(crate::env::Rng::from_seed([choice; 32])),
                });
                for _ in 0..2 {
                    let (mut log, _) = bench.open(None);
                    let span = (log.log_start_offset(), log.log_end_offset());
                    if span == (first, Offset(27)) && !finished {
                        before += 1;
                        continue;
                    }
                    assert_eq!(span, (start, start), "{calls} calls, choice {choice}");
                    after += 1;
                    // What is appended stays, whatever is found at the next start.
                    let appended = put(&mut log, &batch(&["a"], 1));
                    assert_eq!(appended, start);
                    let end = log.log_end_offset();
                    drop(log);
                    bench.disk.lose_power(Survive::None);
                    let (log, _) = bench.open(None);
                    assert_eq!((log.log_start_offset(), log.log_end_offset()), (start, end));
                    let segments = bench.disk.names().into_iter();
                    let segments = segments.filter(|name| name.ends_with(".log")).count();
                    assert_eq!(segments, 1, "nothing is left of what was there");
                    break;
                }
            }
            if finished {
                break;
            }
        }
        assert!(before > 3 && after > 10, "{before} and {after} for {start}");
    }
}

#[test]
fn a_log_that_falls_back_amid_beginning_anew_is_not_emptied_later() {
    let mut fallen = 0;
    for calls in 0.. {
        let (bench, _) = begun_within_a_batch();
        let (mut log, _) = bench.open(None);
        bench.disk.stop_after(calls);
        if run(log.restart_at(Offset(40))).is_ok() {
            break;
        }
        bench.disk.go_on();
        assert!(run(log.append(&batch(&["a"], 1), LeaderEpoch(1), Timestamp(1), true)).is_err());
        run(log.fall_back()).unwrap();
        put(&mut log, &batch(&["kept"], 1));
        let (kept, start, end) = (contents(&log), log.log_start_offset(), log.log_end_offset());
        drop(log);
        bench.disk.lose_power(Survive::None);
        let (log, _) = bench.open(None);
        assert_eq!((contents(&log), log.log_end_offset()), (kept, end));
        assert!(log.log_start_offset() >= start);
        fallen += 1;
    }
    assert!(fallen > 10, "{fallen}");
}

#[test]
fn damage_goes_with_all_else_when_a_log_begins_anew() {
    let mut bench = Bench::new();
    bench.config.segment_bytes = 420;
    let mut log = bench.create();
    fill(&mut log, 7);
    let first = bench
        .disk
        .names()
        .into_iter()
        .find(|name| name.ends_with(".log"));
    let first = bench.path(&first.unwrap());
    bench.disk.damage(&first, |bytes| bytes[4096 + 70] ^= 1);
    assert!(
        run(log.truncate_to(Offset(2))).is_err(),
        "it would keep what is damaged"
    );
    drop(log);
    bench.disk.damage(&first, |bytes| bytes[4096 + 70] ^= 1);
    let (mut log, _) = bench.open(None);
    bench.disk.damage(&first, |bytes| bytes[4096 + 70] ^= 1);
    run(log.restart_at(Offset(30))).unwrap();
    assert_eq!(put(&mut log, &batch(&["a"], 1)), Offset(30));
    drop(log);
    let (log, _) = bench.open(None);
    assert_eq!(log.log_start_offset(), Offset(30));
    assert_eq!(contents(&log).len(), 1);
}

#[test]
fn a_failed_sync_takes_only_what_was_not_durable() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 15);
    let before = contents(&log);
    let good = submit(&mut log, &batch(&["good"], 1), 1);
    run(good.done).unwrap();
    bench.disk.fail_next_sync();
    let bad = submit(&mut log, &batch(&["bad"], 1), 1);
    assert!(run(bad.done).is_err());
    let later = submit(&mut log, &batch(&["later"], 1), 1);
    assert!(run(later.done).is_err(), "a failure stays");
    assert!(run(log.sync_all()).is_err());
    log.completed(good.ticket);
    run(log.fall_back()).unwrap();
    assert_eq!(log.log_end_offset(), Offset(46));
    assert_eq!(contents(&log)[..45], before);
    assert_eq!(put(&mut log, &batch(&["after"], 1)), Offset(46));
    let after = contents(&log);
    drop(log);
    bench.disk.lose_power(disk::Survive::None);
    let (log, _) = bench.open(None);
    assert_eq!(contents(&log), after);
}

#[test]
fn a_failed_sync_takes_nothing_that_was_said_to_be_written() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 5);
    let now = log.env.wall();
    for value in ["one", "two"] {
        let append = run(log.append(&batch(&[value], 1), LeaderEpoch(1), now, false)).unwrap();
        let Append::New(appended) = append else {
            panic!("not a duplicate");
        };
        run(appended.done).unwrap();
        log.completed(appended.ticket);
    }
    let before = contents(&log);
    bench.disk.fail_next_sync();
    assert!(run(log.sync_all()).is_err());
    run(log.fall_back()).unwrap();
    assert_eq!(contents(&log), before);
    assert_eq!(log.durable_end(), Offset(17));
    drop(log);
    bench.disk.lose_power(disk::Survive::None);
    let (log, _) = bench.open(None);
    assert_eq!(contents(&log), before);
}

/// Appends; whether it is durable. After a failure the log goes on from what is.
fn try_put(log: &mut Log, batch: &RecordBatch) -> bool {
    let now = log.env.wall();
    let Ok(Append::New(appended)) = run(log.append(batch, LeaderEpoch(1), now, true)) else {
        return false;
    };
    let done = run(appended.done);
    match done {
        Ok(()) => log.completed(appended.ticket),
        Err(_) => run(log.fall_back()).unwrap(),
    }
    done.is_ok()
}

#[test]
fn a_disk_that_is_full_at_any_step_of_a_roll_spoils_nothing_for_later() {
    let large = "x".repeat(900);
    for calls in 0..40 {
        for survive in [disk::Survive::None, disk::Survive::All] {
            let bench = Bench::new();
            let mut log = bench.create();
            fill(&mut log, 10);
            bench.disk.full_once_after(calls);
            let _ = try_put(&mut log, &batch(&[&large], 2000));
            // Small enough for the segment that was to be closed.
            let tried = (0..3).any(|_| try_put(&mut log, &batch(&["small"], 2001)));
            assert!(tried, "the log stays closed after call {calls}");
            bench.disk.full_once_after(u64::MAX);
            put(&mut log, &batch(&[&large, &large], 2002));
            fill(&mut log, 20);
            let before = contents(&log);
            drop(log);
            bench.disk.lose_power(survive);
            let (log, recovery) = bench.try_open(None).unwrap_or_else(|error| {
                panic!("a failure of call {calls} made the log unusable: {error}")
            });
            assert_eq!(recovery.cut, None);
            assert_eq!(contents(&log), before);
        }
    }
}

#[test]
fn a_cut_that_failed_at_any_step_is_made_good_by_falling_back() {
    let mut failed = 0;
    for (end, left) in [(20, 18), (45, 45), (88, 87)] {
        for calls in 0..60 {
            for again in [None, Some(2), Some(9)] {
                let bench = Bench::new();
                let mut log = bench.create();
                fill(&mut log, 30);
                let all = contents(&log);
                bench.disk.full_once_after(calls);
                let cut = run(log.truncate_to(Offset(end)));
                if cut.is_err() {
                    failed += 1;
                    bench.disk.full_once_after(again.unwrap_or(u64::MAX));
                    let mut back = run(log.fall_back());
                    bench.disk.full_once_after(u64::MAX);
                    if again.is_some() && back.is_err() {
                        back = run(log.fall_back());
                    }
                    back.unwrap_or_else(|error| panic!("{end}, call {calls}, {again:?}: {error}"));
                    let kept = contents(&log);
                    assert!(kept.len() >= left && kept == all[..kept.len()]);
                    run(log.truncate_to(Offset(end))).unwrap();
                }
                bench.disk.full_once_after(u64::MAX);
                assert_eq!(
                    contents(&log),
                    all[..left],
                    "{end}, call {calls}, {again:?}"
                );
                fill(&mut log, 20);
                let before = contents(&log);
                drop(log);
                bench.disk.lose_power(disk::Survive::None);
                let (log, recovery) = bench.open(None);
                assert_eq!(recovery.cut, None);
                assert_eq!(contents(&log), before);
            }
        }
    }
    assert!(failed > 100, "only {failed}");
}

#[test]
fn a_segment_whose_creation_did_not_finish_is_remade_although_all_before_it_is_deleted() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 5);
    let end = log.log_end_offset();
    run(log.delete_records_before(end)).unwrap();
    drop(log);
    // A roll whose new file has got its name and nothing else.
    let next = bench.segment(end.0);
    drop(run(bench.disk.env().disk.open(&next, OpenMode::Create)).unwrap());
    for calls in 0..40 {
        let bench = Bench {
            disk: bench.disk.copy(),
            ..Bench::new()
        };
        bench.disk.stop_after(calls);
        let _ = bench.try_open(None);
        bench.disk.lose_power(disk::Survive::All);
        let (mut log, _) = bench.open(None);
        assert_eq!(log.log_start_offset(), end);
        assert_eq!(put(&mut log, &batch(&["on"], 9000)), end);
    }
}

#[test]
fn a_log_whose_maker_was_killed_is_safe_before_anything_is_appended() {
    for calls in 0.. {
        let bench = Bench::new();
        bench.disk.stop_after(calls);
        let made = run(Log::create(
            &bench.disk.env(),
            &bench.dir,
            bench.options(None),
        ));
        let is_whole = made.is_ok();
        drop(made);
        bench.disk.go_on();
        let opened = bench.try_open(None).map(|(log, _)| log);
        let mut log = opened.unwrap_or_else(|_| bench.create());
        put(&mut log, &batch(&["kept"], 1));
        run(log.stamp()).unwrap();
        let before = contents(&log);
        drop(log);
        bench.disk.lose_power(disk::Survive::None);
        let (log, _) = bench.open(None);
        assert_eq!(contents(&log), before, "killed after {calls} calls");
        if is_whole {
            break;
        }
    }
}
