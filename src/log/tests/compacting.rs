//! Compaction of a log's files, and crashes at every step of putting them in place.

use std::collections::BTreeMap;

use super::disk::Survive;
use super::*;
use crate::log::compaction;

/// A log of keys `k0` to `k4`, written over and over.
fn keyed_bench() -> (Bench, Log) {
    keyed_bench_in(Bench::new())
}

fn keyed_bench_in(mut bench: Bench) -> (Bench, Log) {
    bench.config.segment_bytes = 900;
    bench.config.cleanup.compact = true;
    bench.config.cleanup.delete = false;
    let mut log = bench.create();
    for at in 0..40 {
        let mut builder = BatchBuilder::new(Offset::ZERO, Compression::None, None);
        for record in 0..2 {
            let key = format!("k{}", (at * 2 + record) % 5);
            let value = format!("value {at} {record} {:0>30}", 0);
            let (key, value) = (key.as_bytes(), value.as_bytes());
            builder.push(Timestamp(1000 + at), Some(key), Some(value), &[]);
        }
        put(&mut log, &builder.build());
    }
    (bench, log)
}

/// The last value and offset of every key.
fn state(log: &Log) -> BTreeMap<Vec<u8>, (i64, Vec<u8>)> {
    let mut state = BTreeMap::new();
    for batch in read_all(&log.reader(), log.log_start_offset(), 400) {
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            let (key, value) = (
                record.key.unwrap_or_default(),
                record.value.unwrap_or_default(),
            );
            state.insert(key.to_vec(), (record.offset.0, value.to_vec()));
        }
    }
    state
}

pub(super) fn compact(log: &mut Log) -> Result<usize, LogError> {
    let now = Timestamp(10_000);
    let end = log.durable_end();
    let job = run(log.compaction_plan(now, end, 1 << 20))?.expect("a round is due");
    let mut io = log.compaction_io();
    match run_polling(compaction::run(&job, &mut io)) {
        Ok(compacted) => run(log.install_compacted(compacted)),
        Err(error) => Err(LogError::Stopped {
            path: PathBuf::new(),
            reason: error.to_string(),
        }),
    }
}

/// A round yields now and then; nothing else does.
fn run_polling<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        if let Some(done) = work.as_mut().now_or_never() {
            return done;
        }
    }
}

#[test]
fn compaction_keeps_the_last_of_every_key_and_frees_the_rest() {
    let (bench, mut log) = keyed_bench();
    let before = state(&log);
    let size = log.reader().size_bytes();
    let reader = log.reader();
    assert!(compact(&mut log).unwrap() > 0);
    assert!(log.reader().size_bytes() < size / 2);
    assert_eq!(state(&log), before);
    assert_eq!(log.log_end_offset(), Offset(80));
    // Every offset is answered, by the batch that holds it or the next.
    for from in 0..80 {
        let read = run(reader.read(Offset(from), Offset(80), 1, true)).unwrap();
        assert!(read.end > Offset(from));
        let found = split(read.concat());
        assert!(found[0].header.last_offset() >= Offset(from));
    }
    put(&mut log, &batch(&["on"], 1));
    drop(log);
    let (log, recovery) = bench.open(None);
    assert_eq!(recovery.cut, None);
    let mut after = state(&log);
    after.remove(&Vec::new());
    assert_eq!(after, before);
}

/// The offsets of all records that a reader is given.
fn offsets(log: &Log) -> Vec<i64> {
    let batches = read_all(&log.reader(), log.log_start_offset(), 400);
    let records = batches.iter().flat_map(|batch| batch.records().unwrap());
    records.map(|record| record.unwrap().offset.0).collect()
}

#[test]
fn what_compaction_removed_does_not_come_back_out_of_memory() {
    let mut bench = Bench::new();
    bench.tail_cache = TailCache::new(1 << 20);
    let (_bench, mut log) = keyed_bench_in(bench);
    assert!(compact(&mut log).unwrap() > 0);
    let once = offsets(&log);
    assert!(once.len() < 40, "{once:?}");
    // A second round whose dirty part has none of the keys of the first.
    for at in 0..20 {
        let mut builder = BatchBuilder::new(Offset::ZERO, Compression::None, None);
        let value = [b'v'; 100];
        builder.push(Timestamp(2000 + at), Some(b"other"), Some(&value), &[]);
        put(&mut log, &builder.build());
    }
    let end = log.log_end_offset();
    assert!(compact(&mut log).unwrap() > 0);
    let twice = offsets(&log);
    let back = twice
        .iter()
        .find(|offset| !once.contains(offset) && **offset < 80);
    assert_eq!(back, None);
    assert_eq!(log.log_end_offset(), end);
}

#[test]
fn a_crash_at_any_step_of_compaction_leaves_every_keys_last_value() {
    let (bench, log) = keyed_bench();
    let before = state(&log);
    drop(log);
    let mut steps = 0;
    for calls in 0.. {
        let mut finished = false;
        for choice in 0..6u8 {
            let copy = Bench {
                disk: bench.disk.copy(),
                dir: bench.dir.clone(),
                tail_cache: bench.tail_cache.clone(),
                config: bench.config.clone(),
            };
            let (mut log, _) = copy.open(None);
            copy.disk.stop_after(calls);
            finished = compact(&mut log).is_ok();
            drop(log);
            copy.disk.lose_power(match choice {
                0 => Survive::None,
                1 => Survive::All,
                _ => Survive::Some(crate::env::Rng::from_seed([choice; 32])),
            });
            let (log, recovery) = copy.open(None);
            assert_eq!(recovery.cut, None);
            assert_eq!(state(&log), before, "after {calls} calls, choice {choice}");
            assert_eq!(log.log_end_offset(), Offset(80));
            let left = copy.disk.names();
            let stray = |name: &&String| name.ends_with(".swap") || name.ends_with(".cleaned");
            assert_eq!(left.iter().find(stray), None);
        }
        if finished {
            break;
        }
        steps += 1;
    }
    assert!(steps > 50, "{steps} steps were cut short");
}

#[test]
fn a_round_whose_sources_left_is_not_put_in_place() {
    let (_bench, mut log) = keyed_bench();
    let end = log.durable_end();
    let job = run(log.compaction_plan(Timestamp(10_000), end, 1 << 20)).unwrap();
    let job = job.expect("a round is due");
    let mut io = log.compaction_io();
    let compacted = run_polling(compaction::run(&job, &mut io)).unwrap();
    run(log.delete_records_before(Offset(30))).unwrap();
    run(log.apply_retention(Timestamp(0), end)).unwrap();
    let before = state(&log);
    let installed = run(log.install_compacted(compacted)).unwrap();
    assert_eq!(installed, 0);
    assert_eq!(state(&log), before);
}

#[test]
fn a_round_that_is_given_up_leaves_no_files() {
    let (bench, log) = keyed_bench();
    let before = bench.disk.names();
    let job = run(log.compaction_plan(Timestamp(10_000), log.durable_end(), 1 << 20)).unwrap();
    let job = job.expect("a round is due");
    let mut io = log.compaction_io();
    run_polling(compaction::run(&job, &mut io)).unwrap();
    assert_ne!(bench.disk.names(), before);
    run(io.discard());
    assert_eq!(bench.disk.names(), before);
}

#[test]
fn a_segment_that_compaction_emptied_stays_until_the_next_one_is_due() {
    let (bench, mut log) = keyed_bench();
    drop(log);
    let mut config = bench.config.clone();
    config.cleanup.delete = true;
    config.retention_ms = Some(100_000);
    let bench = Bench { config, ..bench };
    log = bench.open(None).0;
    assert!(compact(&mut log).unwrap() > 0);
    let end = log.durable_end();
    assert!(offsets(&log)[0] > 0, "the first segment is empty");
    run(log.apply_retention(Timestamp(50_000), end)).unwrap();
    assert_eq!(log.log_start_offset(), Offset(0));
    let read = run(log.reader().read(Offset(0), end, 1, true)).unwrap();
    assert!(
        !read.is_empty(),
        "a reader that stands below is served what follows"
    );
    run(log.apply_retention(Timestamp(200_000), end)).unwrap();
    assert_eq!(log.log_start_offset(), end);
}
