//! Claims about logs that are filled from another cluster, and about what becomes of its producers.

use super::*;

/// `batch` as another cluster has it, at `offset`.
fn at(offset: i64, batch: &RecordBatch) -> RecordBatch {
    let header = BatchHeader {
        base_offset: Offset(offset),
        leader_epoch: LeaderEpoch(77),
        ..batch.header
    };
    RecordBatch::seal(header, &batch.payload())
}

fn mirror(log: &mut Log, batch: &RecordBatch, epoch: i32) {
    let appended = run(log.append_mirrored(batch, LeaderEpoch(epoch), Timestamp(0), true));
    let appended = appended.unwrap();
    run(appended.done).unwrap();
    log.completed(appended.ticket);
}

fn copy(log: &mut Log, batch: &RecordBatch) {
    let appended = run(log.append_as_is(batch, Timestamp(0), true)).unwrap();
    run(appended.done).unwrap();
    log.completed(appended.ticket);
}

fn all(log: &Log) -> Vec<RecordBatch> {
    let reader = log.reader();
    read_all(&reader, reader.log_start_offset(), 1 << 20)
}

/// Whether a client's batch is taken for one that is there.
fn is_duplicate(log: &mut Log, batch: &RecordBatch, epoch: i32) -> bool {
    match run(log.append(batch, LeaderEpoch(epoch), Timestamp(0), true)).unwrap() {
        Append::New(appended) => {
            run(appended.done).unwrap();
            log.completed(appended.ticket);
            false
        }
        Append::Duplicate { .. } => true,
    }
}

#[test]
fn a_mirrored_batch_stays_as_it_is_but_for_the_leader_epoch() {
    let mut log = Bench::new().create();
    let first = at(3, &sequenced(7, 2, 40, &["a", "b"]));
    let second = at(9, &batch(&["c"], 5000));
    mirror(&mut log, &first, 1);
    mirror(&mut log, &second, 2);
    let found = all(&log);
    assert_eq!(found.len(), 2);
    for (found, (source, epoch)) in found.iter().zip([(&first, 1), (&second, 2)]) {
        assert_eq!(found.header.leader_epoch, LeaderEpoch(epoch));
        assert_eq!(found.header.crc, source.header.crc);
        let mut same = found.header;
        same.leader_epoch = source.header.leader_epoch;
        assert_eq!(same, source.header);
        assert_eq!(found.payload(), source.payload());
    }
    assert_eq!(log.log_end_offset(), Offset(10));
    assert_eq!(
        log.epochs(),
        [(LeaderEpoch(1), Offset(3)), (LeaderEpoch(2), Offset(9))]
    );
    let known = log.producers().get(ProducerId(7)).unwrap();
    assert_eq!(known.epoch(), ProducerEpoch(2));
}

#[test]
fn a_mirrored_batch_from_before_the_end_is_refused() {
    let mut log = Bench::new().create();
    mirror(&mut log, &at(3, &batch(&["a", "b"], 1)), 1);
    let late = at(4, &batch(&["b"], 1));
    let refused = run(log.append_mirrored(&late, LeaderEpoch(1), Timestamp(0), true));
    assert!(refused.is_err());
    assert_eq!(log.log_end_offset(), Offset(5));
}

#[test]
fn after_a_promotion_ids_of_the_source_are_those_of_other_producers() {
    let mut bench = Bench::new();
    let mut log = bench.create();
    mirror(&mut log, &at(0, &sequenced(7, 0, 0, &["a"])), 1);
    let mine = sequenced(7, 0, 0, &["mine"]);
    assert!(is_duplicate(&mut log, &mine, 1), "else the claim is idle");
    bench.config.producers_since = Some(LeaderEpoch(2));
    log.set_config(bench.config.clone());
    log.begin_epoch(LeaderEpoch(2));
    assert!(!is_duplicate(&mut log, &mine, 2));
    assert!(is_duplicate(&mut log, &mine, 2), "its own it knows");
    assert_eq!(records(&all(&log))[1], (1, "mine".to_owned()));
}

#[test]
fn producers_after_a_promotion_are_the_same_after_a_restart() {
    for is_clean in [false, true] {
        let mut bench = Bench::new();
        let mut log = bench.create();
        for offset in 0..30 {
            let id = 7 + offset % 2;
            let sequence = i32::try_from(offset / 2).unwrap();
            let value = format!("{offset:0>100}");
            mirror(
                &mut log,
                &at(offset, &sequenced(id, 0, sequence, &[&value])),
                1,
            );
        }
        bench.config.producers_since = Some(LeaderEpoch(2));
        log.set_config(bench.config.clone());
        assert!(log.producers().is_empty());
        put_in(&mut log, &sequenced(7, 0, 0, &["mine"]), 2);
        let before = log.producers().clone();
        let clean = match is_clean {
            true => Some(run(log.close()).unwrap()),
            false => None,
        };
        let (log, _) = bench.open(clean);
        assert_eq!(*log.producers(), before);
        assert_eq!(log.producers().len(), 1);
    }
}

fn put_in(log: &mut Log, batch: &RecordBatch, epoch: i32) {
    let appended = submit(log, batch, epoch);
    run(appended.done).unwrap();
    log.completed(appended.ticket);
}

#[test]
fn a_follower_that_is_behind_a_promotion_ends_with_the_same_producers() {
    let mut bench = Bench::new();
    let mut log = bench.create();
    let placed = |offset, epoch: i32, batch: &RecordBatch| {
        let mut placed = at(offset, batch);
        placed.header.leader_epoch = LeaderEpoch(epoch);
        RecordBatch::seal(placed.header, &placed.payload())
    };
    copy(&mut log, &placed(0, 1, &sequenced(7, 0, 0, &["a"])));
    bench.config.producers_since = Some(LeaderEpoch(2));
    log.set_config(bench.config.clone());
    copy(&mut log, &placed(1, 1, &sequenced(8, 0, 0, &["b"])));
    assert!(log.producers().is_empty(), "of the source's time");
    copy(&mut log, &placed(2, 2, &sequenced(8, 0, 0, &["c"])));
    copy(&mut log, &placed(3, 2, &sequenced(8, 0, 1, &["d"])));
    let before = log.producers().clone();
    assert_eq!(before.get(ProducerId(8)).unwrap().batches().len(), 2);
    run(log.truncate_to(Offset(3))).unwrap();
    assert_eq!(
        log.producers().get(ProducerId(8)).unwrap().batches().len(),
        1
    );
    run(log.truncate_to(Offset(2))).unwrap();
    assert!(log.producers().is_empty());
    assert_eq!(log.producers().end(), Offset(2));
}

/// A log that was to begin at 500. The crash came when its next segment was made, and where it
/// begins was not noted yet.
fn cut_short() -> Bench {
    let mut bench = Bench::new();
    let mut log = bench.create();
    bench.config.first_offset = Offset(500);
    log.set_config(bench.config.clone());
    run(log.roll(Offset(500))).unwrap();
    bench
}

#[test]
fn a_log_whose_beginning_was_cut_short_by_a_crash_begins_where_its_first_may_be() {
    let (mut log, _) = cut_short().open(None);
    assert_eq!(log.log_start_offset(), Offset(0));
    assert_eq!(log.log_end_offset(), Offset(500));
    assert!(run(log.begin_at_first()).unwrap());
    assert_eq!(log.log_start_offset(), Offset(500));
}

#[test]
fn a_beginning_that_a_crash_cut_short_leaves_no_hole_in_a_segment() {
    let bench = cut_short();
    // Nor was its next segment made yet, though the one before it ends there.
    let next = crate::log::files::path(&bench.dir, Offset(500), crate::log::files::LOG);
    run(bench.disk.env().disk.remove(&next)).unwrap();
    let (mut log, _) = bench.open(None);
    assert_eq!(log.log_end_offset(), Offset(500));
    assert!(run(log.begin_at_first()).unwrap());
    mirror(&mut log, &at(500, &batch(&["a"], 1)), 1);
    drop(log);
    let (log, _) = bench.open(None);
    assert_eq!(log.log_start_offset(), Offset(500));
    assert_eq!(log.shared.view().active.base_offset, Offset(500));
    assert_eq!(contents(&log), [(500, "a".to_owned())]);
}

#[test]
fn a_log_that_never_held_a_record_begins_where_its_first_may_be() {
    let mut bench = Bench::new();
    let mut log = bench.create();
    bench.config.first_offset = Offset(500);
    log.set_config(bench.config.clone());
    assert!(run(log.begin_at_first()).unwrap());
    assert!(!run(log.begin_at_first()).unwrap());
    assert_eq!(log.log_start_offset(), Offset(500));
    assert_eq!(log.log_end_offset(), Offset(500));
    drop(log);
    let (mut log, _) = bench.open(None);
    assert_eq!(log.log_start_offset(), Offset(500));
    mirror(&mut log, &at(510, &batch(&["a"], 1)), 1);
    bench.config.first_offset = Offset(600);
    log.set_config(bench.config.clone());
    assert!(!run(log.begin_at_first()).unwrap(), "it has a record");
    assert_eq!(contents(&log), [(510, "a".to_owned())]);
}
