//! Random work on a log, power lost at a random step of it, and again while it recovers.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::env::{BoxFuture, Clock, Entropy, Env, Listener, Net, Rng, Stream, Task, Tasks, Timer};
use crate::log::compaction::{self, Compacted};
use crate::log::producer_state::Verdict;
use crate::log::test_disk::{TestDisk, coin};
use crate::log::{
    Append, AppendError, CleanupPolicy, Log, LogConfig, LogError, LogIdentity, OpenOptions,
    TailCache, Ticket,
};
use crate::types::{
    Instant, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
    TopicPartition,
};
use crate::wire::batch::{BatchBuilder, BatchHeader, Compression, Record, RecordBatch};

/// Nothing here waits for anything but its turn.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
    panic!("it waits for something that does not come");
}

struct Surroundings {
    wall: AtomicI64,
}

impl Clock for Surroundings {
    fn now(&self) -> Instant {
        Instant(self.wall.load(Ordering::Relaxed).unsigned_abs() * 1_000_000)
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::Relaxed))
    }

    fn timer(&self) -> Box<dyn Timer> {
        panic!("a log sets no timers")
    }
}

impl Entropy for Surroundings {
    fn stream(&self, _: &'static str) -> Rng {
        Rng::from_seed([7; 32])
    }
}

impl Tasks for Surroundings {
    fn spawn(&self, name: &'static str, _: BoxFuture<'static, ()>) -> Task {
        panic!("a log starts no task {name}")
    }
}

impl Net for Surroundings {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        panic!("a log has no network")
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        panic!("a log has no network")
    }

    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        panic!("a log has no network")
    }
}

fn dir() -> &'static Path {
    Path::new("/data/topic-3")
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Policy {
    Delete,
    Compact,
}

/// What may be there after a crash.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Durable: must be there.
    end_min: Offset,
    start_min: Offset,
    start_max: Offset,
}

struct World {
    random: Rng,
    policy: Policy,
    disk: TestDisk,
    env: Env,
    surroundings: Arc<Surroundings>,
    log: Option<Log>,
    /// All batches ever submitted and not cut, as the log should hold them.
    history: Vec<RecordBatch>,
    next_sequence: BTreeMap<i64, Sequence>,
    epoch: i32,
    bounds: Bounds,
    undone: Vec<(Ticket, BoxFuture<'static, io::Result<()>>)>,
    /// What happened, to be seen at the end.
    seen: Seen,
}

#[derive(Clone, Copy, Default, Debug)]
struct Seen {
    crashes: usize,
    cut: usize,
    compactions: usize,
    removals: usize,
    truncations: usize,
    cut_off_recoveries: usize,
}

/// The power went, or the log said so.
struct PowerOff;

impl World {
    fn new(seed: u64, policy: Policy) -> Self {
        let disk = TestDisk::default();
        let surroundings = Arc::new(Surroundings {
            wall: AtomicI64::new(1_000_000),
        });
        let env = Env {
            clock: surroundings.clone(),
            net: surroundings.clone(),
            disk: Arc::new(disk.clone()),
            tasks: surroundings.clone(),
            entropy: surroundings.clone(),
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut world = Self {
            random: Rng::from_seed(bytes),
            policy,
            disk,
            env,
            surroundings,
            log: None,
            history: Vec::new(),
            next_sequence: BTreeMap::new(),
            epoch: 0,
            bounds: Bounds {
                end_min: Offset::ZERO,
                start_min: Offset::ZERO,
                start_max: Offset::ZERO,
            },
            undone: Vec::new(),
            seen: Seen::default(),
        };
        let log = block_on(Log::create(&world.env, dir(), world.options()));
        world.log = Some(log.expect("the disk works"));
        world
    }

    fn options(&self) -> OpenOptions {
        OpenOptions {
            identity: LogIdentity {
                topic_id: TopicId::from_random([5; 16]),
                topic_partition: TopicPartition::new("topic", 3),
            },
            config: LogConfig {
                segment_bytes: 900,
                index_interval_bytes: 150,
                recovery_point_interval_bytes: 300,
                retention_bytes: Some(4000),
                retention_ms: None,
                cleanup: CleanupPolicy {
                    delete: self.policy == Policy::Delete,
                    compact: self.policy == Policy::Compact,
                },
                min_cleanable_dirty_ratio: 0.0,
                delete_retention_ms: 300,
                file_delete_delay_ms: 200,
                ..LogConfig::default()
            },
            clean: None,
            tail_cache: TailCache::new(if self.policy == Policy::Delete {
                900
            } else {
                0
            }),
        }
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.random.below(count) == 0
    }

    fn now(&self) -> Timestamp {
        self.env.wall()
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("open")
    }

    fn step(&mut self) -> Result<(), PowerOff> {
        self.surroundings.wall.fetch_add(10, Ordering::Relaxed);
        match self.random.below(20) {
            0..=11 => self.append()?,
            12 | 13 => self.settle(usize::MAX)?,
            14 => {
                self.settle(usize::MAX)?;
                let synced = block_on(self.log().sync_all());
                synced.map_err(|_| PowerOff)?;
            }
            15 => {
                let stamped = block_on(self.log().stamp());
                stamped.map_err(|_| PowerOff)?;
            }
            16 => self.delete_records()?,
            17 if self.policy == Policy::Delete => self.truncate()?,
            17..=19 => self.clean()?,
            _ => {}
        }
        let durable = self.log().durable_end();
        self.bounds.end_min = self.bounds.end_min.max(durable);
        Ok(())
    }

    fn append(&mut self) -> Result<(), PowerOff> {
        if self.one_in(15) {
            self.epoch += 1;
        }
        let producer = i64::try_from(self.random.below(2)).expect("small");
        let count = 1 + self.random.below(3);
        let base_offset = self.log().log_end_offset();
        let sequence = self
            .next_sequence
            .get(&producer)
            .copied()
            .unwrap_or_default();
        let codec = match self.one_in(3) {
            true => Compression::Lz4,
            false => Compression::None,
        };
        let mut builder = BatchBuilder::new(base_offset, codec, None)
            .leader_epoch(LeaderEpoch(self.epoch))
            .producer(ProducerId(producer), ProducerEpoch(0), sequence);
        for _ in 0..count {
            let key = [b'k', u8::try_from(self.random.below(5)).expect("small")];
            // Some span sectors of the disk, of which each survives or not by itself.
            let length_max = if self.one_in(3) { 1100 } else { 120 };
            let length = usize::try_from(self.random.below(length_max)).expect("small");
            let value = vec![b'v'; length];
            let value = (length >= 20).then_some(&value[..]);
            builder.push(self.now(), Some(&key), value, &[]);
        }
        let batch = builder.build();
        let next = batch.header.last_sequence().next();
        // It may survive even if the append fails.
        self.history.push(batch.clone());
        let (epoch, now, sync) = (LeaderEpoch(self.epoch), self.now(), !self.one_in(2));
        let appended = block_on(self.log().append(&batch, epoch, now, sync));
        match appended {
            Ok(Append::New(new)) => {
                assert_eq!(new.base_offset, base_offset);
                self.next_sequence.insert(producer, next);
                self.undone.push((new.ticket, new.done));
            }
            Ok(Append::Duplicate { .. }) => panic!("it is new"),
            Err(AppendError::Storage(_)) => return Err(PowerOff),
            Err(error) => panic!("refused: {error}"),
        }
        let some = usize::try_from(self.random.below(4)).expect("small");
        self.settle(some)
    }

    /// Learns the outcome of the oldest `count` appends.
    fn settle(&mut self, count: usize) -> Result<(), PowerOff> {
        for _ in 0..count.min(self.undone.len()) {
            let (ticket, done) = self.undone.remove(0);
            block_on(done).map_err(|_| PowerOff)?;
            self.log().completed(ticket);
            self.save_point();
        }
        Ok(())
    }

    /// Most points are saved at once, some go on only when somebody waits for them.
    fn save_point(&mut self) {
        if let Some(saving) = self.log().save_recovery_point()
            && !self.one_in(4)
        {
            block_on(saving);
        }
    }

    fn expect_power_off<T>(done: Result<T, LogError>) -> Result<T, PowerOff> {
        done.map_err(|error| match error {
            LogError::Corrupt(corruption) => panic!("{corruption}"),
            _ => PowerOff,
        })
    }

    fn delete_records(&mut self) -> Result<(), PowerOff> {
        let (start, end) = (self.log().log_start_offset(), self.bounds.end_min);
        let span = u64::try_from(end.since(start)).unwrap_or(0);
        let by = i64::try_from(self.random.below(span / 3 + 1)).expect("small");
        let to = start.plus(by);
        self.bounds.start_max = self.bounds.start_max.max(to);
        let done = block_on(self.log().delete_records_before(to));
        self.bounds.start_min = Self::expect_power_off(done)?;
        Ok(())
    }

    fn truncate(&mut self) -> Result<(), PowerOff> {
        self.settle(usize::MAX)?;
        let (start, end) = (self.log().log_start_offset(), self.log().log_end_offset());
        let span = u64::try_from(end.since(start)).expect("in order");
        let back = i64::try_from(self.random.below(span + 1).min(12)).expect("small");
        let to = end.plus(-back);
        let whole = |batch: &&RecordBatch| batch.header.end_offset() <= to;
        let cut_to = self.history.iter().filter(whole).last();
        let cut_to = cut_to.map_or(Offset::ZERO, |batch| batch.header.end_offset());
        if cut_to < self.bounds.start_max {
            return Ok(());
        }
        self.bounds.end_min = self.bounds.end_min.min(cut_to);
        let done = block_on(self.log().truncate_to(to));
        Self::expect_power_off(done)?;
        assert_eq!(self.log().log_end_offset(), cut_to);
        self.forget_from(cut_to);
        self.seen.truncations += 1;
        Ok(())
    }

    fn forget_from(&mut self, end: Offset) {
        self.history
            .retain(|batch| batch.header.end_offset() <= end);
        self.next_sequence.clear();
        for batch in &self.history {
            let next = batch.header.last_sequence().next();
            self.next_sequence.insert(batch.header.producer_id.0, next);
        }
    }

    fn clean(&mut self) -> Result<(), PowerOff> {
        let (now, high_watermark) = (self.now(), self.bounds.end_min);
        if self.policy == Policy::Compact {
            return self.compact();
        }
        // Whatever retention does, it stays below the high watermark.
        self.bounds.start_max = self.bounds.start_max.max(high_watermark);
        let done = block_on(self.log().apply_retention(now, high_watermark));
        let retained = Self::expect_power_off(done)?;
        self.bounds.start_min = retained.log_start_offset;
        self.bounds.start_max = retained.log_start_offset;
        self.seen.removals += retained.segments_removed;
        Ok(())
    }

    fn compact(&mut self) -> Result<(), PowerOff> {
        let (now, high_watermark) = (self.now(), self.bounds.end_min);
        let map_bytes = 100 + usize::try_from(self.random.below(400)).expect("small");
        let planned = block_on(self.log().compaction_plan(now, high_watermark, map_bytes));
        let Some(job) = Self::expect_power_off(planned)? else {
            return Ok(());
        };
        let mut io = self.log().compaction_io();
        let compacted: Compacted = match block_on(compaction::run(&job, &mut io)) {
            Ok(compacted) => compacted,
            Err(compaction::CompactionError::Batch { .. }) => panic!("nothing is damaged"),
            Err(compaction::CompactionError::Io(error)) => {
                assert!(error.to_string().contains("power"), "{error}");
                return Err(PowerOff);
            }
        };
        let installed = block_on(self.log().install_compacted(compacted));
        Self::expect_power_off(installed)?;
        self.seen.compactions += 1;
        self.settle(usize::MAX)?;
        self.check();
        Ok(())
    }

    /// Loses power and opens the log again, perhaps at the second attempt.
    fn crash(&mut self) {
        self.undone.clear();
        self.log = None;
        self.seen.crashes += 1;
        let seed = self.random.u64();
        self.disk.power_loss(coin(seed));
        if self.one_in(3) {
            self.disk.power_off_after(1 + seed % 10);
            match block_on(Log::open(&self.env, dir(), self.options())) {
                Ok(_) => {}
                Err(LogError::Corrupt(corruption)) => panic!("{corruption}"),
                Err(_) => self.seen.cut_off_recoveries += 1,
            }
            self.disk.power_loss(coin(seed + 1));
        }
        let opened = block_on(Log::open(&self.env, dir(), self.options()));
        let (log, report) = opened.unwrap_or_else(|error| panic!("not opened: {error}"));
        self.seen.cut += usize::from(report.cut.is_some());
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let bounds = self.bounds;
        assert!(
            end >= bounds.end_min,
            "durable to {}, ends at {end}",
            bounds.end_min
        );
        assert!(
            start >= bounds.start_min && start <= bounds.start_max,
            "{start} {bounds:?}"
        );
        assert_eq!(log.durable_end(), end, "what recovery leaves is durable");
        self.bounds = Bounds {
            end_min: end,
            start_min: start,
            start_max: start,
        };
        self.log = Some(log);
        self.forget_from(end);
        let known = self
            .history
            .last()
            .map_or(Offset::ZERO, |last| last.header.end_offset());
        assert!(
            end <= known.max(start),
            "nothing was made up: {end} {known}"
        );
        self.check();
    }

    /// The log holds what it should.
    fn check(&mut self) {
        let log = self.log.as_ref().expect("open");
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let expected: Vec<Record> = records(self.history.iter(), start, end);
        let found = read_all(log);
        let found: Vec<Record> = records(found.iter(), start, end);
        match self.policy {
            Policy::Delete => assert_eq!(found, expected),
            Policy::Compact => {
                let mut rest = expected.iter();
                for record in &found {
                    assert!(rest.any(|it| it == record), "not as written: {record:?}");
                }
                assert_eq!(fold(&found), fold(&expected));
            }
        }
        for (producer, next) in &self.next_sequence {
            let mut of_it = self.history.iter();
            let last = of_it.rfind(|batch| batch.header.producer_id.0 == *producer);
            let last = last.expect("it has a next sequence").header;
            let verdict = log.producers().check(&last);
            let base_offset = match verdict {
                Ok(Verdict::Duplicate { base_offset, .. }) => base_offset,
                other => panic!("a retry of {last:?} is {other:?}"),
            };
            assert_eq!(base_offset, last.base_offset);
            let next = BatchHeader {
                base_sequence: *next,
                ..last
            };
            assert_eq!(log.producers().check(&next), Ok(Verdict::New));
        }
    }
}

fn records<'a>(
    batches: impl Iterator<Item = &'a RecordBatch>,
    start: Offset,
    end: Offset,
) -> Vec<Record> {
    let all = batches.flat_map(|batch| batch.records().expect("well formed"));
    all.map(|record| record.expect("well formed"))
        .filter(|record| record.offset >= start && record.offset < end)
        .collect()
}

fn fold(records: &[Record]) -> BTreeMap<Option<Bytes>, Bytes> {
    let mut values = BTreeMap::new();
    for record in records {
        match &record.value {
            Some(value) => values.insert(record.key.clone(), value.clone()),
            None => values.remove(&record.key),
        };
    }
    values
}

fn read_all(log: &Log) -> Vec<RecordBatch> {
    let reader = log.reader();
    let mut batches = Vec::new();
    let mut from = log.log_start_offset();
    loop {
        let read = block_on(reader.read(from, Offset(i64::MAX), 700, true));
        let read = read.unwrap_or_else(|error| panic!("at {from}: {error}"));
        if read.is_empty() {
            return batches;
        }
        from = read.end;
        let mut bytes = read.concat();
        while !bytes.is_empty() {
            batches.push(RecordBatch::split_first(&mut bytes).expect("whole batches"));
        }
    }
}

fn torment(policy: Policy, seeds: std::ops::Range<u64>) -> Seen {
    let mut total = Seen::default();
    for seed in seeds {
        let mut world = World::new(seed, policy);
        for _ in 0..6 {
            let until = 1 + world.random.below(150);
            world.disk.power_off_after(until);
            let mut steps = 0;
            while world.step().is_ok() {
                steps += 1;
                assert!(steps < 10_000, "the power goes sooner");
            }
            world.crash();
        }
        total.crashes += world.seen.crashes;
        total.cut += world.seen.cut;
        total.compactions += world.seen.compactions;
        total.removals += world.seen.removals;
        total.truncations += world.seen.truncations;
        total.cut_off_recoveries += world.seen.cut_off_recoveries;
    }
    total
}

#[test]
fn a_log_survives_power_loss_at_any_step() {
    let seen = torment(Policy::Delete, 0..100);
    assert!(seen.cut > 5 && seen.removals > 50, "{seen:?}");
    assert!(
        seen.truncations > 50 && seen.cut_off_recoveries > 50,
        "{seen:?}"
    );
}

#[test]
fn a_compacted_log_survives_power_loss_at_any_step() {
    let seen = torment(Policy::Compact, 0..100);
    assert!(seen.cut > 5 && seen.compactions > 50, "{seen:?}");
}
