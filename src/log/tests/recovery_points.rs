//! Starts that read a segment from a place within it: they learn what a start from its beginning
//! does, and no point speaks of what is not there any more.

use super::disk::Survive;
use super::*;
use crate::log::ReadError;
use crate::log::index::SegmentIndex;
use crate::log::recovery_point::FILE_NAME;

/// One large segment, and a point after every 400 bytes.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.config.segment_bytes = 100_000;
    bench.config.recovery_point_interval_bytes = 400;
    bench
}

fn save(log: &mut Log) -> bool {
    log.save_recovery_point().is_some_and(run)
}

/// `count` durable batches in leader epoch `epoch`, each of a producer's, with points.
fn fill_saving(log: &mut Log, count: i32, epoch: i32) {
    for at in 0..count {
        let value = format!("{epoch}.{at:0>40}");
        let sequence = log.log_end_offset().0 as i32;
        let made = sequenced(7, 0, sequence, &[&value, "z"]);
        let appended = submit(log, &made, epoch);
        run(appended.done).unwrap();
        log.completed(appended.ticket);
        save(log);
    }
}

/// All that a log knows, in words, but for the entries of its index: after an orderly end they are
/// others than those that a start makes of the segment.
fn known(log: &Log) -> String {
    let view = log.shared.view();
    let index = &view.active.index;
    let producers: Vec<_> = log.producers().iter().collect();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {producers:?}",
        log.writer.end,
        (view.log_start_offset, log.producers().end()),
        view.epochs,
        (index.has_gaps, index.first_timestamp),
        (index.max_timestamp, index.max_timestamp_offset()),
    )
}

/// The index of the segment being written. The time of the last append is that of the start.
fn index(log: &Log) -> SegmentIndex {
    let mut index = log.shared.view().active.index.clone();
    index.appended_at = Timestamp(0);
    index
}

fn copied(bench: &Bench) -> Bench {
    Bench {
        disk: bench.disk.copy(),
        dir: bench.dir.clone(),
        tail_cache: bench.tail_cache.clone(),
        config: bench.config.clone(),
    }
}

/// The log as a start finds it from the point, and from the beginning of the segment: the same.
pub(super) fn opened_both_ways(bench: &Bench) -> (Log, Recovery) {
    opened(bench).0
}

/// The same of a log that never ended in order.
fn opened_exactly(bench: &Bench) -> (Log, Recovery) {
    let (from_point, from_beginning) = opened(bench);
    assert_eq!(index(&from_point.0), index(&from_beginning.0));
    from_point
}

type Opened = (Log, Recovery);

fn opened(bench: &Bench) -> (Opened, Opened) {
    let whole = copied(bench);
    if whole.disk.names().iter().any(|name| name == FILE_NAME) {
        whole.disk.remove_now(&whole.path(FILE_NAME));
    }
    let (from_point, from_beginning) = (bench.open(None), whole.open(None));
    assert_eq!(from_beginning.1.began_at, None);
    assert_eq!(known(&from_point.0), known(&from_beginning.0));
    assert_eq!(from_point.1.cut, from_beginning.1.cut);
    (from_point, from_beginning)
}

#[test]
fn a_start_reads_from_the_newest_point_and_knows_all_the_same() {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 12, 1);
    fill_saving(&mut log, 13, 4);
    let bytes = log.reader().size_bytes();
    let before = contents(&log);
    bench.disk.lose_power(Survive::None);
    let (log, recovery) = opened_exactly(&bench);
    assert!(recovery.began_at.is_some_and(|at| at > Offset(36)));
    assert!(
        recovery.scanned_bytes < 800 && bytes > 2500,
        "{recovery:?} of {bytes}"
    );
    assert_eq!(contents(&log), before);
    assert_eq!(
        log.epochs(),
        [(LeaderEpoch(1), Offset(0)), (LeaderEpoch(4), Offset(24))]
    );
    let found = run(log.reader().offset_for_timestamp(Timestamp(1), Offset(50))).unwrap();
    assert_eq!(found.unwrap().1, Offset(0));
}

#[test]
fn a_point_waits_for_the_sync_that_covers_it() {
    let bench = bench();
    let mut log = bench.create();
    let value = "v".repeat(600);
    let appended = submit(&mut log, &batch(&[&value], 1), 1);
    assert!(log.save_recovery_point().is_none());
    run(appended.done).unwrap();
    assert!(log.save_recovery_point().is_none());
    log.completed(appended.ticket);
    assert!(save(&mut log));
    let now = log.env.wall();
    let unsynced = run(log.append(&batch(&[&value], 2), LeaderEpoch(1), now, false)).unwrap();
    let Append::New(unsynced) = unsynced else {
        panic!("no producer id was given");
    };
    run(unsynced.done).unwrap();
    log.completed(unsynced.ticket);
    assert!(log.save_recovery_point().is_none(), "written, not synced");
    run(log.sync_all()).unwrap();
    assert!(save(&mut log));
    bench.disk.lose_power(Survive::None);
    let (_, recovery) = opened_exactly(&bench);
    assert_eq!(recovery.began_at, Some(Offset(2)));
}

#[test]
fn nothing_is_on_its_way_to_the_directory_of_a_log_that_was_let_go_of() {
    let bench = bench();
    let mut log = bench.create();
    put(&mut log, &batch(&[&"v".repeat(600)], 1));
    let under_way = log.save_recovery_point().expect("one is due");
    run(log.abandon());
    assert_eq!(under_way.peek(), Some(&true));
}

/// Cuts a log with points back to `end`, and lets it grow again beyond where the newest lay.
fn regrown(end: i64, is_under_way: bool) -> (Bench, Vec<(i64, String)>) {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 20, 1);
    let mut under_way = None;
    if is_under_way {
        let value = "v".repeat(600);
        put(&mut log, &batch(&[&value], 1));
        under_way = log.save_recovery_point();
        assert!(under_way.is_some());
    }
    run(log.truncate_to(Offset(end))).unwrap();
    assert!(!bench.disk.names().iter().any(|name| name == FILE_NAME));
    drop(under_way);
    for at in 0..30 {
        put(&mut log, &batch(&[&format!("new {at:0>50}"), "y"], at));
    }
    (bench, contents(&log))
}

#[test]
fn a_point_is_gone_before_the_log_is_cut() {
    for (end, is_under_way) in [(0, false), (1, false), (20, true), (39, false), (40, true)] {
        let (bench, expected) = regrown(end, is_under_way);
        bench.disk.lose_power(Survive::None);
        let (log, recovery) = opened_exactly(&bench);
        assert_eq!(recovery.began_at, None);
        assert_eq!(contents(&log), expected);
    }
}

#[test]
fn a_point_of_a_segment_says_nothing_of_one_made_anew_in_its_place() {
    let mut bench = bench();
    bench.config.segment_bytes = 2000;
    let mut log = bench.create();
    fill_saving(&mut log, 30, 1);
    let base = log.shared.view().active.base_offset;
    assert!(base > Offset(0));
    run(log.truncate_to(base.plus(-1))).unwrap();
    let at_end = "v".repeat(900);
    while log.shared.view().active.base_offset < base {
        put(&mut log, &batch(&[&at_end], 1));
    }
    put(&mut log, &batch(&[&at_end], 1));
    let expected = contents(&log);
    bench.disk.lose_power(Survive::None);
    let (log, recovery) = opened_exactly(&bench);
    assert_eq!((recovery.began_at, contents(&log)), (None, expected));
}

#[test]
fn a_point_of_the_segment_before_is_not_used_and_does_no_harm() {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 20, 1);
    run(log.roll_if_due(Timestamp(i64::MAX))).unwrap();
    put(&mut log, &batch(&["one"], 1));
    let expected = contents(&log);
    bench.disk.lose_power(Survive::None);
    let (mut log, recovery) = opened_exactly(&bench);
    assert_eq!((recovery.began_at, contents(&log)), (None, expected));
    // Back into that segment, and on from there.
    run(log.truncate_to(Offset(10))).unwrap();
    fill(&mut log, 20);
    let expected = contents(&log);
    bench.disk.lose_power(Survive::None);
    let (log, recovery) = opened_exactly(&bench);
    assert_eq!((recovery.began_at, contents(&log)), (None, expected));
}

#[test]
fn a_failed_sync_takes_the_point_with_it() {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 20, 1);
    bench.disk.fail_next_sync();
    let failed = submit(&mut log, &batch(&["lost"], 1), 1);
    assert!(run(failed.done).is_err());
    run(log.fall_back()).unwrap();
    fill_saving(&mut log, 1, 2);
    let expected = contents(&log);
    bench.disk.lose_power(Survive::None);
    let (log, _) = opened_exactly(&bench);
    assert_eq!(contents(&log), expected);
}

#[test]
fn a_damaged_point_costs_time_and_nothing_else() {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 10, 1);
    let expected = contents(&log);
    let point = bench.path(FILE_NAME);
    for at in 0..bench.disk.content(&point).len() {
        let copy = copied(&bench);
        copy.disk.damage(&point, |bytes| bytes[at] ^= 4);
        let (log, recovery) = copy.open(None);
        assert_eq!(recovery.began_at, None, "byte {at}");
        assert_eq!(
            (recovery.rebuilt.len(), contents(&log)),
            (1, expected.clone())
        );
    }
}

#[test]
fn a_segment_that_ends_before_its_point_is_refused() {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 10, 1);
    put(&mut log, &batch(&[&"v".repeat(600)], 1));
    assert!(save(&mut log));
    // Of the last batch no slot says that it was durable.
    let short = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1);
    bench.disk.damage(&bench.segment(0), short);
    let refused = bench.try_open(None);
    assert!(matches!(refused, Err(LogError::Corrupt(_))));
}

/// What lies before the point is not looked at by the start. Whoever reads it is told.
#[test]
fn damage_before_the_point_is_told_by_the_read_that_meets_it() {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 10, 3);
    run(log.stamp()).unwrap();
    let batches = read_all(&log.reader(), Offset(0), 9999);
    let end = log.log_end_offset();
    let segment = bench.segment(0);
    let point = bench.open(None).1.began_at.unwrap();
    for at in 4096..bench.disk.content(&segment).len() {
        let copy = copied(&bench);
        copy.disk
            .damage(&segment, |bytes| bytes[at] ^= 1 << (at % 8));
        let (log, recovery) = match copy.try_open(None) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(matches!(error, LogError::Corrupt(_)), "byte {at}: {error}");
                continue;
            }
        };
        assert_eq!((recovery.began_at, recovery.cut), (Some(point), None));
        let (mut errors, reader) = (0, log.reader());
        for batch in &batches {
            match run(reader.read(batch.header.base_offset, end, 1, true)) {
                Ok(read) => assert_eq!(split(read.concat())[0], *batch, "byte {at}"),
                Err(ReadError::Corrupt(_)) => errors += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(errors > 0, "byte {at}");
    }
}

/// A cut reads the whole segment, and refuses to go on with damage that it meets.
#[test]
fn a_cut_meets_damage_before_the_point() {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 20, 1);
    run(log.stamp()).unwrap();
    drop(log);
    bench
        .disk
        .damage(&bench.segment(0), |bytes| bytes[4096 + 80] ^= 1);
    let (mut log, recovery) = bench.open(None);
    assert!(recovery.began_at.is_some());
    let refused = run(log.truncate_to(Offset(30)));
    assert!(matches!(refused, Err(LogError::Corrupt(_))));
}

#[test]
fn epochs_and_producers_that_no_file_holds_are_in_the_point() {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 6, 2);
    fill_saving(&mut log, 9, 5);
    // As leader of an epoch in which nothing was written.
    log.begin_epoch(LeaderEpoch(9));
    assert!(
        !bench
            .disk
            .names()
            .iter()
            .any(|name| name.ends_with(".snapshot"))
    );
    bench.disk.lose_power(Survive::All);
    let (mut log, recovery) = opened_exactly(&bench);
    assert!(recovery.began_at.is_some());
    assert_eq!(
        log.epochs(),
        [(LeaderEpoch(2), Offset(0)), (LeaderEpoch(5), Offset(12))]
    );
    let again = sequenced(7, 0, 28, &[&format!("5.{:0>40}", 8), "z"]);
    let now = log.env.wall();
    let answer = run(log.append(&again, LeaderEpoch(5), now, true)).unwrap();
    assert!(matches!(
        answer,
        Append::Duplicate {
            base_offset: Offset(28),
            ..
        }
    ));
}

#[test]
fn a_point_that_could_not_be_saved_is_not_missed() {
    let bench = bench();
    let mut log = bench.create();
    fill_saving(&mut log, 3, 1);
    put(&mut log, &batch(&[&"v".repeat(600)], 1));
    bench.disk.full_once_after(1);
    assert!(!save(&mut log));
    let end = run(log.close()).unwrap();
    let names = bench.disk.names();
    assert!(
        !names.iter().any(|name| name.ends_with(".tmp")),
        "{names:?}"
    );
    assert!(bench.open(Some(end)).1.clean);
    bench.disk.lose_power(Survive::None);
    opened_both_ways(&bench);
}

/// A batch that is written and not synced, in a log with a point every 400 bytes.
fn put_unsynced(log: &mut Log, value: &str) {
    let now = log.env.wall();
    let appended = run(log.append(&batch(&[value], 1), LeaderEpoch(1), now, false)).unwrap();
    let Append::New(appended) = appended else {
        panic!("no producer id was given");
    };
    run(appended.done).unwrap();
    log.completed(appended.ticket);
}

#[test]
fn what_nobody_syncs_is_synced_for_a_point_and_not_written_anew() {
    let bench = bench();
    let mut log = bench.create();
    let value = "v".repeat(150);
    while !log.wants_flush() {
        put_unsynced(&mut log, &value);
    }
    let flushing = run(log.flush()).unwrap().unwrap();
    assert!(run(log.flush()).unwrap().is_none(), "one at a time");
    let at = log.log_end_offset();
    put_unsynced(&mut log, &value);
    let (flushed, done) = flushing.parts();
    run(done).unwrap();
    assert_eq!(log.durable_end(), Offset(0));
    log.flushed(flushed);
    assert_eq!(log.durable_end(), at, "and not what was appended meanwhile");
    assert!(save(&mut log));
    let expected = contents(&log);
    bench.disk.lose_power(Survive::None);
    let (log, recovery) = opened_exactly(&bench);
    assert_eq!(recovery.began_at, Some(at));
    let kept = usize::try_from(at.0).unwrap();
    assert_eq!(contents(&log)[..kept], expected[..kept]);
}

#[test]
fn a_sync_says_nothing_of_a_log_that_was_cut_meanwhile() {
    let bench = bench();
    let mut log = bench.create();
    let value = "v".repeat(600);
    put_unsynced(&mut log, &value);
    let (flushed, done) = run(log.flush()).unwrap().unwrap().parts();
    run(log.truncate_to(Offset(0))).unwrap();
    put_unsynced(&mut log, "short");
    run(done).unwrap();
    log.flushed(flushed);
    assert_eq!(log.durable_end(), Offset(0));
}
