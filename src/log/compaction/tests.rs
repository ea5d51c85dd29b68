//! Compaction against a model of the log.

use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::noop_waker;

use super::plan::{CompactionRules, LogView, SealedSegment, plan};
use super::*;
use crate::types::{LeaderEpoch, Sequence};
use crate::wire::Str;
use crate::wire::batch::{BatchBuilder, Compression, Record, TimestampType};

mod planning;
mod property;
mod transactions;

/// Nothing here waits for anything but its turn.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let waker = noop_waker();
    loop {
        if let Poll::Ready(value) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
    }
}

/// A log in memory: segments of batches, the last one active.
#[derive(Clone, Debug)]
struct TestLog {
    segments: Vec<(Offset, Vec<RecordBatch>)>,
    end: Offset,
    clean_point: Option<CleanPoint>,
    aborted: Vec<AbortedTransaction>,
}

impl Default for TestLog {
    fn default() -> Self {
        Self {
            segments: vec![(Offset::ZERO, Vec::new())],
            end: Offset::ZERO,
            clean_point: None,
            aborted: Vec::new(),
        }
    }
}

impl TestLog {
    fn append(&mut self, batch: RecordBatch) {
        assert_eq!(batch.header.base_offset, self.end);
        self.end = batch.header.end_offset();
        let (_, active) = self.segments.last_mut().expect("never empty");
        active.push(batch);
    }

    fn roll(&mut self) {
        if self.segments.last().is_some_and(|last| last.0 < self.end) {
            self.segments.push((self.end, Vec::new()));
        }
    }

    fn batches(&self) -> impl Iterator<Item = &RecordBatch> {
        self.segments.iter().flat_map(|(_, batches)| batches)
    }

    fn records(&self) -> Vec<Record> {
        self.batches().flat_map(records_of).collect()
    }

    fn producers(&self) -> ProducerState {
        let mut state = ProducerState::default();
        for batch in self.batches() {
            state.append(&batch.header);
        }
        state
    }

    fn sealed(&self) -> Vec<SealedSegment> {
        let ends = self.segments.iter().skip(1).map(|(base, _)| *base);
        let largest = |batches: &[RecordBatch]| {
            let times = batches.iter().map(|batch| batch.header.max_timestamp);
            times.max().unwrap_or(Timestamp::NONE)
        };
        self.segments
            .iter()
            .zip(ends)
            .map(|((base_offset, batches), end_offset)| SealedSegment {
                base_offset: *base_offset,
                end_offset,
                bytes: batches.iter().map(|batch| batch.total_bytes() as u64).sum(),
                first_timestamp: largest(&batches[..batches.len().min(1)]),
                largest_timestamp: largest(batches),
            })
            .collect()
    }

    fn plan(
        &self,
        rules: &CompactionRules,
        high_watermark: Offset,
        now: Timestamp,
    ) -> Option<CompactionJob> {
        let view = LogView {
            sealed: &self.sealed(),
            log_start_offset: Offset::ZERO,
            high_watermark,
            producers: &self.producers(),
            aborted: &self.aborted,
            clean_point: self.clean_point,
        };
        plan(rules, &view, now)
    }

    /// Puts the first `groups` groups of a round in place; all of them also move the clean point.
    fn install(&mut self, compacted: &Compacted, io: &TestIo<'_>, groups: usize) {
        for compacted in compacted.groups.iter().take(groups) {
            if !compacted.changed {
                continue;
            }
            let group = &compacted.group;
            let output = io.finished(group);
            let at = self
                .segments
                .iter()
                .position(|(base, _)| *base == group.base_offset())
                .expect("the sources are there");
            let sources = at..at + group.sources.len();
            self.segments
                .splice(sources, [(group.base_offset(), output)]);
        }
        if groups >= compacted.groups.len() {
            self.clean_point = Some(compacted.clean_point);
        }
    }

    /// Plans, runs and installs a round over all that is sealed.
    fn compact(&mut self, rules: &CompactionRules, now: i64) -> Option<Compacted> {
        let job = self.plan(rules, self.end, Timestamp(now))?;
        let before = self.clone();
        let mut io = TestIo::new(&before);
        let compacted = block_on(run(&job, &mut io)).expect("nothing is damaged");
        self.install(&compacted, &io, usize::MAX);
        Some(compacted)
    }
}

fn records_of(batch: &RecordBatch) -> Vec<Record> {
    let records = batch.records().expect("well formed");
    records.map(|record| record.expect("well formed")).collect()
}

/// Reads a log a few batches at a time and keeps what is written.
struct TestIo<'a> {
    log: &'a TestLog,
    outputs: Vec<(Group, Vec<RecordBatch>, Option<bool>)>,
}

impl<'a> TestIo<'a> {
    fn new(log: &'a TestLog) -> Self {
        Self {
            log,
            outputs: Vec::new(),
        }
    }

    fn finished(&self, group: &Group) -> Vec<RecordBatch> {
        let output = self.outputs.iter().find(|output| output.0 == *group);
        let (_, batches, kept) = output.expect("it was begun");
        assert_eq!(*kept, Some(true), "it was finished to be kept");
        batches.clone()
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, io::Result<T>> {
    Box::pin(std::future::ready(Ok(value)))
}

impl CompactionIo for TestIo<'_> {
    fn read(&mut self, from: Offset, up_to: Offset) -> BoxFuture<'_, io::Result<Vec<RecordBatch>>> {
        let batches = self
            .log
            .batches()
            .skip_while(|batch| batch.header.end_offset() <= from)
            .take_while(|batch| batch.header.base_offset < up_to)
            .take(3);
        ready(batches.cloned().collect())
    }

    fn begin<'a>(&'a mut self, group: &'a Group) -> BoxFuture<'a, io::Result<()>> {
        self.outputs.push((group.clone(), Vec::new(), None));
        ready(())
    }

    fn write(&mut self, batches: Vec<RecordBatch>) -> BoxFuture<'_, io::Result<()>> {
        let (_, output, finished) = self.outputs.last_mut().expect("begun");
        assert_eq!(*finished, None);
        output.extend(batches);
        ready(())
    }

    fn finish(&mut self, keep: bool) -> BoxFuture<'_, io::Result<()>> {
        self.outputs.last_mut().expect("begun").2 = Some(keep);
        ready(())
    }
}

const RETENTION_MS: i64 = 1000;

fn rules() -> CompactionRules {
    CompactionRules {
        min_cleanable_dirty_ratio: 0.0,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
        delete_retention_ms: RETENTION_MS,
        segment_bytes: 1 << 30,
        map_bytes: 1 << 20,
    }
}

/// A batch of records `(key, value)`, at the log's end, all with timestamp `at`.
fn batch(log: &TestLog, at: i64, records: &[(&str, Option<&str>)]) -> RecordBatch {
    let mut builder = BatchBuilder::new(log.end, Compression::None, None);
    for (key, value) in records {
        let value = value.map(str::as_bytes);
        builder.push(Timestamp(at), Some(key.as_bytes()), value, &[]);
    }
    builder.build()
}

/// Offset, key and value of every record.
fn content(log: &TestLog) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    log.records()
        .iter()
        .map(|record| {
            let key = record.key.as_ref().map_or_else(String::new, text);
            (record.offset.0, key, record.value.as_ref().map(text))
        })
        .collect()
}

fn keys(log: &TestLog) -> Vec<(i64, String)> {
    let pairs = content(log).into_iter();
    pairs.map(|(offset, key, _)| (offset, key)).collect()
}

fn expect_keys(log: &TestLog, expected: &[(i64, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(offset, key)| (*offset, (*key).to_owned()))
        .collect();
    assert_eq!(keys(log), expected);
}

#[test]
fn only_the_last_record_of_a_key_survives() {
    let mut log = TestLog::default();
    log.append(batch(&log, 0, &[("a", Some("1")), ("b", Some("1"))]));
    log.append(batch(&log, 0, &[("a", Some("2")), ("c", Some("1"))]));
    log.roll();
    let compacted = log.compact(&rules(), 5).expect("due");
    expect_keys(&log, &[(1, "b"), (2, "a"), (3, "c")]);
    assert_eq!(compacted.totals.records_read, 4);
    assert_eq!(compacted.totals.records_kept, 3);
    assert_eq!(log.clean_point.map(|point| point.first_dirty.0), Some(4));
    assert!(log.compact(&rules(), 6).is_none(), "nothing is dirty");
}

#[test]
fn a_record_of_the_clean_part_goes_when_the_dirty_part_replaces_it() {
    let mut log = TestLog::default();
    log.append(batch(&log, 0, &[("a", Some("1")), ("b", Some("1"))]));
    log.roll();
    log.compact(&rules(), 5).expect("due");
    log.append(batch(&log, 0, &[("a", Some("2"))]));
    log.roll();
    log.compact(&rules(), 6).expect("due");
    expect_keys(&log, &[(1, "b"), (2, "a")]);
}

#[test]
fn the_active_segment_replaces_nothing() {
    let mut log = TestLog::default();
    log.append(batch(&log, 0, &[("a", Some("1"))]));
    log.roll();
    log.append(batch(&log, 0, &[("a", Some("2"))]));
    log.compact(&rules(), 5).expect("due");
    expect_keys(&log, &[(0, "a"), (1, "a")]);
}

#[test]
fn a_tombstone_goes_after_its_time_and_not_before() {
    let mut log = TestLog::default();
    log.append(batch(&log, 0, &[("a", Some("1")), ("b", Some("1"))]));
    log.append(batch(&log, 0, &[("a", None), ("c", Some("1"))]));
    log.roll();
    let clean_at = |log: &mut TestLog, now: i64| {
        log.append(batch(log, 0, &[("z", Some("1"))]));
        log.roll();
        log.compact(&rules(), now).expect("due");
        keys(log).contains(&(2, "a".to_owned()))
    };
    assert!(clean_at(&mut log, 100), "first seen");
    assert!(clean_at(&mut log, 100 + RETENTION_MS - 1));
    assert!(!clean_at(&mut log, 100 + RETENTION_MS));
    expect_keys(&log, &[(1, "b"), (3, "c"), (6, "z")]);
}

#[test]
fn a_records_timestamp_outlives_the_delete_horizon() {
    let mut log = TestLog::default();
    log.append(batch(&log, 77, &[("a", None), ("b", Some("1"))]));
    log.append(batch(&log, 78, &[("b", Some("2"))]));
    log.roll();
    let before = log.records();
    log.compact(&rules(), 100).expect("due");
    let first = log.batches().next().expect("kept");
    assert!(first.header.attributes.has_delete_horizon());
    assert_eq!(first.header.base_timestamp, Timestamp(100 + RETENTION_MS));
    assert_eq!(first.header.last_offset_delta, 1, "the span stays");
    assert_eq!(log.records(), [before[0].clone(), before[2].clone()]);
}

#[test]
fn records_without_key_go() {
    let mut log = TestLog::default();
    let mut builder = BatchBuilder::new(log.end, Compression::None, None);
    builder.push(Timestamp(0), None, Some(b"v"), &[]);
    builder.push(Timestamp(0), Some(b"k"), Some(b"v"), &[]);
    log.append(builder.build());
    log.roll();
    log.compact(&rules(), 5).expect("due");
    expect_keys(&log, &[(1, "k")]);
}

#[test]
fn the_last_batch_of_a_producer_stays_as_an_empty_one() {
    let mut log = TestLog::default();
    for at in 0..3 {
        let mut builder = BatchBuilder::new(log.end, Compression::Gzip, None)
            .leader_epoch(LeaderEpoch(4))
            .producer(ProducerId(7), ProducerEpoch(2), Sequence(at));
        builder.push(Timestamp(at.into()), Some(b"k"), Some(b"v"), &[]);
        log.append(builder.build());
    }
    log.append(batch(&log, 9, &[("k", Some("last"))]));
    log.roll();
    log.compact(&rules(), 5).expect("due");
    expect_keys(&log, &[(3, "k")]);
    let header = log.batches().next().expect("kept").header;
    assert_eq!((header.base_offset, header.record_count), (Offset(2), 0));
    assert_eq!(header.leader_epoch, LeaderEpoch(4));
    let state = log.producers();
    let producer = state.get(ProducerId(7)).expect("known");
    assert_eq!(producer.epoch(), ProducerEpoch(2));
    let last = producer.last_batch().expect("known");
    assert_eq!(
        (last.last_sequence, last.last_offset),
        (Sequence(2), Offset(2))
    );

    // Once the producer is forgotten, so is the batch.
    log.append(batch(&log, 9, &[("z", Some("1"))]));
    log.roll();
    let mut job = log.plan(&rules(), log.end, Timestamp(6)).expect("due");
    job.producers.clear();
    let before = log.clone();
    let mut io = TestIo::new(&before);
    let compacted = block_on(run(&job, &mut io)).expect("nothing is damaged");
    log.install(&compacted, &io, usize::MAX);
    assert_eq!(log.batches().count(), 2);
}

#[test]
fn a_full_map_ends_the_round_early_and_the_next_goes_on() {
    let mut log = TestLog::default();
    for at in 0..20 {
        let key = format!("key-{}", at % 10);
        log.append(batch(&log, 0, &[(&key, Some("v"))]));
        if at % 7 == 6 {
            log.roll();
        }
    }
    log.roll();
    let small = CompactionRules {
        map_bytes: 3 * 70,
        ..rules()
    };
    let mut rounds = 0;
    let mut last = Offset::ZERO;
    while let Some(compacted) = log.compact(&small, 5) {
        assert!(compacted.clean_point.first_dirty > last, "it goes on");
        last = compacted.clean_point.first_dirty;
        rounds += 1;
    }
    assert!(rounds > 3, "{rounds} rounds");
    let expected: Vec<_> = (10..20)
        .map(|at| (at, format!("key-{}", at % 10)))
        .collect();
    assert_eq!(keys(&log), expected);
}

#[test]
fn a_batch_that_cannot_be_read_ends_the_round_with_its_offset() {
    let mut log = TestLog::default();
    log.append(batch(&log, 0, &[("a", Some("1"))]));
    let mut header = batch(&log, 0, &[("b", Some("1"))]).header;
    header.record_count = 1;
    log.append(RecordBatch::seal(header, b"not records"));
    log.roll();
    let job = log.plan(&rules(), log.end, Timestamp(5)).expect("due");
    let error = block_on(run(&job, &mut TestIo::new(&log))).expect_err("unreadable");
    assert!(
        error.to_string().starts_with("the batch at offset 1 "),
        "{error}"
    );
}
