//! Appending, rolling, reading, searching, closing.

use super::*;
use crate::log::{AppendError, ProducerError, ReadError};
use crate::types::ErrorCode;
use crate::wire::batch::TimestampType;

#[test]
fn what_is_appended_is_read_from_any_offset_in_any_pieces() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 40);
    let reader = log.reader();
    assert!(reader.segment_count() > 3);
    let all = read_all(&reader, Offset(0), usize::MAX);
    assert_eq!(all.len(), 40);
    for from in 0..120 {
        for max_bytes in [1, 200, 1000] {
            let got = read_all(&reader, Offset(from), max_bytes);
            assert_eq!(got, all[from as usize / 3..], "from {from} by {max_bytes}");
        }
    }
}

#[test]
fn recent_batches_come_from_memory_and_equal_the_file() {
    let mut bench = Bench::new();
    bench.tail_cache = TailCache::new(2000);
    let mut log = bench.create();
    fill(&mut log, 20);
    let reader = log.reader();
    let before = bench.disk.bytes_read();
    let read = run(reader.read(Offset(57), Offset(60), 1000, true)).unwrap();
    assert_eq!(bench.disk.bytes_read(), before);
    assert_eq!(read.slices.len(), 2);
    let from_memory = split(read.concat());
    assert_eq!(read_all(&reader, Offset(0), 500)[19..], from_memory);
    assert!(bench.disk.bytes_read() > before);
}

/// Nobody reads a follower's copies at once, so they are not to push out what a leader's consumers
/// read; unless consumers are sent to followers.
#[test]
fn copies_are_kept_in_memory_only_where_followers_are_read() {
    for kept in [false, true] {
        let mut bench = Bench::new();
        bench.tail_cache = TailCache::new(1 << 20);
        bench.config.copies_in_memory = kept;
        bench.config.segment_bytes = 1 << 20;
        let mut log = bench.create();
        fill(&mut log, 5);
        let led = bench.tail_cache.used_bytes();
        let size = led / 5;
        assert!(led > 0);
        for offset in 15..20 {
            let one = batch(&["copied"], 1);
            let (base_offset, leader_epoch) = (Offset(offset), LeaderEpoch(1));
            let header = BatchHeader {
                base_offset,
                leader_epoch,
                ..one.header
            };
            let copy = RecordBatch::seal(header, &one.payload());
            let appended = run(log.append_as_is(&copy, Timestamp(1), true)).unwrap();
            run(appended.done).unwrap();
            log.completed(appended.ticket);
        }
        let used = bench.tail_cache.used_bytes();
        assert!(if kept { used > led } else { used == 0 });
        // It leads again: what it appends is kept, and nothing is taken for what lies between.
        fill(&mut log, 5);
        let used = bench.tail_cache.used_bytes();
        assert!(if kept {
            used > 2 * led
        } else {
            used == 5 * size
        });
        let reader = log.reader();
        for from in 0..35 {
            let read = records(&read_all(&reader, Offset(from), 400));
            let offsets = read.iter().map(|record| record.0);
            let offsets: Vec<i64> = offsets.filter(|offset| *offset >= from).collect();
            assert_eq!(offsets, (from..35).collect::<Vec<_>>());
        }
    }
}

#[test]
fn limits_of_a_read_are_kept() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 4);
    let reader = log.reader();
    let size = split(
        run(reader.read(Offset(0), Offset(3), 9999, true))
            .unwrap()
            .concat(),
    )[0]
    .total_bytes();
    let read = |from, up_to, max, one| {
        run(reader.read(Offset(from), Offset(up_to), max, one))
            .unwrap()
            .end
    };
    assert_eq!(read(0, 12, size, true), Offset(3));
    assert_eq!(read(0, 12, 2 * size, true), Offset(6));
    assert_eq!(read(0, 12, 3 * size - 1, true), Offset(6));
    assert_eq!(read(1, 12, size - 1, true), Offset(3));
    assert_eq!(read(1, 12, size - 1, false), Offset(1));
    assert_eq!(
        read(0, 5, 9999, true),
        Offset(3),
        "a batch past the bound stays out"
    );
    assert_eq!(read(12, 12, 9999, true), Offset(12));
    for outside in [-1, 13] {
        let refused = run(reader.read(Offset(outside), Offset(99), 9999, true));
        assert!(matches!(refused, Err(ReadError::OutOfRange { .. })));
    }
}

#[test]
fn a_segment_rolls_before_it_would_grow_too_large() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 100);
    let sizes = |name: &String| bench.disk.content(&bench.path(name)).len();
    let names = bench.disk.names();
    let largest = names
        .iter()
        .filter(|name| name.ends_with(".log"))
        .map(sizes);
    let limit = 4096 + 2000;
    assert!(
        largest
            .max()
            .is_some_and(|bytes| bytes <= limit && bytes > limit - 300)
    );
}

#[test]
fn a_segment_rolls_when_its_records_are_old() {
    let mut bench = Bench::new();
    bench.config.segment_ms = 500;
    let mut log = bench.create();
    put(&mut log, &batch(&["a"], 1000));
    put(&mut log, &batch(&["b"], 1500));
    assert_eq!(log.reader().segment_count(), 1);
    put(&mut log, &batch(&["c"], 1501));
    assert_eq!(log.reader().segment_count(), 2, "by the records' own time");
    assert!(!run(log.roll_if_due(Timestamp(500))).unwrap());
    assert!(
        run(log.roll_if_due(Timestamp(501))).unwrap(),
        "by the wall clock"
    );
    assert!(
        !run(log.roll_if_due(Timestamp(9000))).unwrap(),
        "an empty one stays"
    );
}

#[test]
fn offsets_in_a_segment_stay_within_32_bits() {
    let bench = Bench::new();
    let mut log = bench.create();
    let far = |offset: i64| {
        let mut header = batch(&["x"], 1).header;
        header.base_offset = Offset(offset);
        RecordBatch::seal(header, &batch(&["x"], 1).payload())
    };
    for offset in [0, i64::from(i32::MAX), i64::from(i32::MAX) + 1, 1 << 40] {
        let appended = run(log.append_as_is(&far(offset), Timestamp(1), true)).unwrap();
        run(appended.done).unwrap();
        log.completed(appended.ticket);
    }
    assert_eq!(log.reader().segment_count(), 3);
    let offsets: Vec<i64> = contents(&log).iter().map(|record| record.0).collect();
    assert_eq!(offsets, [0, (1 << 31) - 1, 1 << 31, 1 << 40]);
    drop(log);
    let (log, _) = bench.open(None);
    assert_eq!(contents(&log).len(), 4);
}

#[test]
fn a_duplicate_batch_gets_the_original_offset() {
    let bench = Bench::new();
    let mut log = bench.create();
    for at in 0..6 {
        assert_eq!(
            put(&mut log, &sequenced(7, 0, at * 2, &["a", "b"])),
            Offset(i64::from(at) * 2)
        );
    }
    let again = |log: &mut Log, sequence| {
        run(log.append(
            &sequenced(7, 0, sequence, &["a", "b"]),
            LeaderEpoch(1),
            Timestamp(0),
            true,
        ))
    };
    for at in 1..6 {
        match again(&mut log, at * 2) {
            Ok(Append::Duplicate { base_offset, .. }) => {
                assert_eq!(base_offset, Offset(i64::from(at) * 2));
            }
            _ => panic!("sequence {} is a duplicate", at * 2),
        }
    }
    for (sequence, code) in [
        (0, ErrorCode::OutOfOrderSequenceNumber),
        (14, ErrorCode::OutOfOrderSequenceNumber),
    ] {
        match again(&mut log, sequence) {
            Err(error) => assert_eq!(error.code(), code),
            Ok(_) => panic!("sequence {sequence} is out of order"),
        }
    }
    put(&mut log, &sequenced(7, 1, 0, &["c"]));
    assert!(matches!(
        again(&mut log, 12),
        Err(AppendError::Producer(
            ProducerError::InvalidProducerEpoch { .. }
        ))
    ));
    drop(log);
    let (mut log, _) = bench.open(None);
    match run(log.append(
        &sequenced(7, 1, 0, &["c"]),
        LeaderEpoch(1),
        Timestamp(0),
        true,
    )) {
        Ok(Append::Duplicate { base_offset, .. }) => assert_eq!(base_offset, Offset(12)),
        _ => panic!("remembered across a restart"),
    }
}

#[test]
fn log_append_time_replaces_the_records_times() {
    let mut bench = Bench::new();
    bench.config.message_timestamp_type = TimestampType::LogAppendTime;
    bench.disk.set_wall(7777);
    let mut log = bench.create();
    let appended = submit(&mut log, &batch(&["a"], 5), 1);
    assert_eq!(appended.log_append_time, Timestamp(7777));
    run(appended.done).unwrap();
    log.completed(appended.ticket);
    let found = run(log
        .reader()
        .offset_for_timestamp(Timestamp(6000), Offset(1)))
    .unwrap();
    assert_eq!(found, Some((Timestamp(7777), Offset(0), LeaderEpoch(1))));
}

#[test]
fn records_are_found_by_time_exactly() {
    let bench = Bench::new();
    let mut log = bench.create();
    // Times go up and down within and between batches.
    let times: Vec<i64> = (0..90).map(|at: i64| 1000 + (at * 37) % 91).collect();
    for three in times.chunks(3) {
        let mut builder = BatchBuilder::new(Offset::ZERO, Compression::None, None);
        for time in three {
            builder.push(Timestamp(*time), None, Some(&[b'v'; 30]), &[]);
        }
        put(&mut log, &builder.build());
    }
    let reader = log.reader();
    assert!(reader.segment_count() > 2);
    for start in [0, 40] {
        run(log.delete_records_before(Offset(start))).unwrap();
        for up_to in [45, 88, 90] {
            let visible = start as usize..up_to as usize;
            for at in 995..1100 {
                let expected = visible.clone().find(|offset| times[*offset] >= at);
                let found = run(reader.offset_for_timestamp(Timestamp(at), Offset(up_to)));
                let found = found.unwrap().map(|found| found.1.0 as usize);
                // A batch that reaches past the bound is not visible at all.
                let expected = expected.filter(|offset| offset / 3 < up_to as usize / 3);
                assert_eq!(found, expected, "{at} in {visible:?}");
            }
            let whole = start as usize..(up_to as usize / 3) * 3;
            let largest = whole.clone().map(|offset| times[offset]).max();
            let first = whole.clone().find(|offset| Some(times[*offset]) == largest);
            let found = run(reader.offset_of_max_timestamp(Offset(up_to))).unwrap();
            assert_eq!(found.map(|found| found.1.0 as usize), first, "in {whole:?}");
        }
    }
}

#[test]
fn epochs_end_where_the_next_begins() {
    let bench = Bench::new();
    let mut log = bench.create();
    for (epoch, count) in [(2, 3), (5, 1), (6, 4)] {
        for _ in 0..count {
            let appended = submit(&mut log, &batch(&["a", "b"], 1), epoch);
            run(appended.done).unwrap();
            log.completed(appended.ticket);
        }
    }
    let check = |reader: LogReader| {
        assert_eq!(
            reader.end_of_epoch(LeaderEpoch(2)),
            (LeaderEpoch(2), Offset(6))
        );
        assert_eq!(
            reader.end_of_epoch(LeaderEpoch(4)),
            (LeaderEpoch(2), Offset(6))
        );
        assert_eq!(
            reader.end_of_epoch(LeaderEpoch(6)),
            (LeaderEpoch(6), Offset(16))
        );
        assert_eq!(reader.epoch_of(Offset(7)), LeaderEpoch(5));
    };
    check(log.reader());
    drop(log);
    check(bench.open(None).0.reader());
    bench
        .disk
        .remove_now(&bench.path("leader-epoch-checkpoint"));
}

#[test]
fn a_log_closed_well_opens_without_being_read() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 40);
    put(&mut log, &sequenced(9, 0, 0, &["last"]));
    let before = contents(&log);
    let clean = run(log.close()).unwrap();
    assert_eq!(clean.log_end_offset, Offset(121));
    let read_before = bench.disk.bytes_read();
    let (mut log, recovery) = bench.open(Some(clean));
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!(recovery.scanned_bytes, 0);
    assert!(bench.disk.bytes_read() - read_before < 8192);
    assert_eq!(contents(&log), before);
    assert_eq!(put(&mut log, &sequenced(9, 0, 1, &["more"])), Offset(121));
    assert_eq!(contents(&log).len(), 122);
    let again = run(log.close()).unwrap();
    assert!(bench.open(Some(again)).1.clean);
    let (_, recovery) = bench.open(Some(clean));
    assert!(!recovery.clean, "an older end is not this one's");
}

#[test]
fn a_log_that_was_never_used_is_closed_without_a_write_and_opens_well() {
    let bench = Bench::new();
    let log = bench.create();
    let names = bench.disk.names();
    let clean = run(log.close()).unwrap();
    assert_eq!(bench.disk.names(), names, "nothing was put beside it");
    let (log, recovery) = bench.open(Some(clean));
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!((recovery.cut, recovery.rebuilt), (None, Vec::new()));
    let again = run(log.close()).unwrap();
    let (mut log, recovery) = bench.open(Some(again));
    assert!(recovery.clean, "{recovery:?}");
    assert_eq!(put(&mut log, &sequenced(9, 0, 0, &["first"])), Offset(0));
    let used = run(log.close()).unwrap();
    let (log, recovery) = bench.open(Some(used));
    assert!(
        recovery.clean && recovery.scanned_bytes == 0,
        "{recovery:?}"
    );
    assert_eq!(contents(&log).len(), 1);
}

#[test]
fn an_index_that_is_lost_or_damaged_is_made_again() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 40);
    let before = contents(&log);
    let clean = run(log.close()).unwrap();
    for name in bench.disk.names() {
        let path = bench.path(&name);
        if name.ends_with(".index") || name.ends_with("checkpoint") {
            bench.disk.damage(&path, |bytes| {
                let at = bytes.len() / 2;
                bytes[at] ^= 4;
            });
        } else if name.ends_with(".snapshot") {
            bench.disk.remove_now(&path);
        }
    }
    let (log, recovery) = bench.open(Some(clean));
    assert!(!recovery.rebuilt.is_empty());
    assert!(recovery.cut.is_none());
    assert_eq!(contents(&log), before);
    assert_eq!(log.reader().epoch_of(Offset(60)), LeaderEpoch(1));
}

#[test]
fn a_batch_over_the_limit_is_refused() {
    let mut bench = Bench::new();
    bench.config.max_message_bytes = 100;
    let mut log = bench.create();
    let large = batch(&["0123456789012345678901234567890123456789"], 1);
    let refused = run(log.append(&large, LeaderEpoch(1), Timestamp(0), true));
    assert!(matches!(
        refused,
        Err(AppendError::TooLarge { limit: 100, .. })
    ));
    assert_eq!(log.log_end_offset(), Offset(0));
}

#[test]
fn durability_moves_in_the_order_of_the_appends() {
    let bench = Bench::new();
    let mut log = bench.create();
    let first = submit(&mut log, &batch(&["a"], 1), 1);
    let second = submit(&mut log, &batch(&["b"], 1), 1);
    let third = submit(&mut log, &batch(&["c"], 1), 1);
    log.completed(second.ticket);
    assert_eq!(log.durable_end(), Offset(0));
    log.completed(first.ticket);
    assert_eq!(log.durable_end(), Offset(2));
    run(log.sync_all()).unwrap();
    assert_eq!(log.durable_end(), Offset(3));
    log.completed(third.ticket);
    assert_eq!(log.durable_end(), Offset(3));
}

#[test]
fn an_append_without_a_sync_becomes_durable_with_a_later_one() {
    let bench = Bench::new();
    let mut log = bench.create();
    let written = match run(log.append(&batch(&["a"], 1), LeaderEpoch(1), Timestamp(0), false)) {
        Ok(Append::New(appended)) => appended,
        _ => panic!("appended"),
    };
    run(written.done).unwrap();
    log.completed(written.ticket);
    assert_eq!(log.durable_end(), Offset(0));
    assert_eq!(contents(&log).len(), 1, "written is readable");
    put(&mut log, &batch(&["b"], 1));
    assert_eq!(log.durable_end(), Offset(2));
}

#[test]
fn the_bytes_between_offsets_are_about_right() {
    let bench = Bench::new();
    let mut log = bench.create();
    fill(&mut log, 60);
    let reader = log.reader();
    assert_eq!(
        reader.bytes_between(Offset(0), Offset(180)),
        reader.size_bytes()
    );
    let half = reader.bytes_between(Offset(0), Offset(90));
    let off = half.abs_diff(reader.size_bytes() / 2);
    assert!(off < 1000, "{half} of {}", reader.size_bytes());
    assert_eq!(reader.bytes_between(Offset(180), Offset(180)), 0);
}

/// Batches that are large beside what is read from a file at once.
fn large_batches(bench: &mut Bench, segment_bytes: u64) -> (Log, Vec<RecordBatch>) {
    bench.config.segment_bytes = segment_bytes;
    let mut log = bench.create();
    for number in 0..9 {
        let value = number.to_string().repeat(700 << 10);
        put(&mut log, &batch(&[&value], 1000));
    }
    let all = read_all(&log.reader(), Offset(0), 1);
    assert_eq!(all.len(), 9);
    (log, all)
}

#[test]
fn a_read_of_much_gives_several_pieces_and_keeps_its_limits() {
    let mut bench = Bench::new();
    let (log, all) = large_batches(&mut bench, 64 << 20);
    let size = all[0].total_bytes();
    for batches in 3..=9 {
        for bytes in [batches * size, (batches + 1) * size - 1] {
            let read = run(log.reader().read(Offset(0), Offset(9), bytes, true)).unwrap();
            assert_eq!(read.end, Offset(batches as i64), "{bytes}");
            assert!(read.slices.len() > 1);
            assert_eq!(split(read.concat()), all[..batches]);
        }
    }
    let read = run(log.reader().read(Offset(1), Offset(6), usize::MAX, true)).unwrap();
    assert_eq!(split(read.concat()), all[1..6]);
}

#[test]
fn pieces_may_be_of_several_segments() {
    let mut bench = Bench::new();
    let (log, all) = large_batches(&mut bench, 4 << 20);
    assert_eq!(log.reader().segment_count(), 2);
    let read = run(log.reader().read(Offset(1), Offset(9), usize::MAX, true)).unwrap();
    assert_eq!(split(read.concat()), all[1..]);
}

#[test]
fn damage_in_a_later_piece_ends_the_read_before_it_and_is_told_next() {
    let mut bench = Bench::new();
    let (log, all) = large_batches(&mut bench, 64 << 20);
    let at = 4096 + 3 * all[0].total_bytes() + 1000;
    bench.disk.damage(&bench.segment(0), |bytes| bytes[at] ^= 1);
    let read = run(log.reader().read(Offset(0), Offset(9), usize::MAX, true)).unwrap();
    assert_eq!(split(read.concat()), all[..3]);
    let next = run(log.reader().read(Offset(3), Offset(9), usize::MAX, true));
    assert!(matches!(next, Err(ReadError::Corrupt(_))));
}
