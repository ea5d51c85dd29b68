//! Random logs, random rounds, random crashes while a round is put in place.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;

const KEYS: u8 = 6;

#[derive(Clone, Debug)]
enum Step {
    Append(NewBatch),
    Roll,
    Compact(Round),
}

#[derive(Clone, Debug)]
struct NewBatch {
    /// Key, length of the value, which is missing for 0.
    records: Vec<(u8, usize)>,
    codec: Compression,
    log_append_time: bool,
    producer: Option<i64>,
}

#[derive(Clone, Debug)]
struct Round {
    elapsed_ms: i64,
    /// How far below the log's end the high watermark is.
    lag: i64,
    map_bytes: usize,
    segment_bytes: u64,
    /// Groups put in place before a crash.
    installed: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let codec = prop_oneof![
        Just(Compression::None),
        Just(Compression::Gzip),
        Just(Compression::Snappy),
        Just(Compression::Lz4),
        Just(Compression::Zstd),
    ];
    let records =
        prop::collection::vec((0..KEYS, prop_oneof![2 => 1..30_usize, 1 => Just(0)]), 1..5);
    let producer = prop::option::of(0..2_i64);
    let append = (records, codec, any::<bool>(), producer);
    let installed = prop_oneof![3 => Just(usize::MAX), 1 => 0..3_usize];
    let round = (
        0..2 * RETENTION_MS,
        0..10_i64,
        1..600_usize,
        1..900_u64,
        installed,
    );
    prop_oneof![
        6 => append.prop_map(|(records, codec, log_append_time, producer)| {
            Step::Append(NewBatch { records, codec, log_append_time, producer })
        }),
        2 => Just(Step::Roll),
        3 => round.prop_map(|(elapsed_ms, lag, map_bytes, segment_bytes, installed)| {
            Step::Compact(Round { elapsed_ms, lag, map_bytes, segment_bytes, installed })
        }),
    ]
}

/// A log, all it ever held, and what is known of its tombstones.
#[derive(Default)]
struct World {
    log: TestLog,
    history: Vec<Record>,
    originals: BTreeMap<Offset, RecordBatch>,
    next_sequence: BTreeMap<i64, Sequence>,
    now: i64,
    /// When a round that was put in place first saw the tombstone.
    seen: BTreeMap<Offset, i64>,
    /// Batches below may have been rewritten.
    touched: Offset,
    tombstones_gone: usize,
}

type Checked = Result<(), TestCaseError>;

impl World {
    fn append(&mut self, new: &NewBatch) {
        let mut builder =
            BatchBuilder::new(self.log.end, new.codec, None).leader_epoch(LeaderEpoch(3));
        if new.log_append_time {
            builder = builder.timestamp_type(TimestampType::LogAppendTime);
        }
        if let Some(producer) = new.producer {
            let sequence = self.next_sequence.entry(producer).or_default();
            builder = builder.producer(ProducerId(producer), ProducerEpoch(1), *sequence);
            *sequence = sequence.plus(i32::try_from(new.records.len()).expect("few"));
        }
        for (at, (key, length)) in (0..).zip(&new.records) {
            let value = vec![b'v'; *length];
            let value = (*length > 0).then_some(&value[..]);
            let headers = [(Str::from("h"), Some(Bytes::from_static(b"x")))];
            builder.push(Timestamp(self.now - at), Some(&[*key]), value, &headers);
        }
        let batch = builder.build();
        self.history.extend(records_of(&batch));
        self.originals
            .insert(batch.header.base_offset, batch.clone());
        self.log.append(batch);
    }

    fn compact(&mut self, round: &Round) -> Checked {
        self.now += round.elapsed_ms;
        let rules = CompactionRules {
            map_bytes: round.map_bytes,
            segment_bytes: round.segment_bytes,
            ..rules()
        };
        let high_watermark = Offset((self.log.end.0 - round.lag).max(0));
        let Some(job) = self.log.plan(&rules, high_watermark, Timestamp(self.now)) else {
            return Ok(());
        };
        let before = self.log.clone();
        let mut io = TestIo::new(&before);
        let compacted = block_on(run(&job, &mut io)).expect("nothing is damaged");
        let end = compacted.clean_point.first_dirty;
        prop_assert!(end <= high_watermark);
        prop_assert!(end > job.first_dirty, "every round goes on");
        self.log.install(&compacted, &io, round.installed);
        self.touched = self.touched.max(end);

        self.check_tombstones(&before, &compacted, round.installed)?;
        if round.installed >= compacted.groups.len() {
            self.check_complete(end)?;
            check_second_run(&self.log, &job, end)?;
        }
        Ok(())
    }

    /// K3: no tombstone goes before its time.
    fn check_tombstones(
        &mut self,
        before: &TestLog,
        compacted: &Compacted,
        installed: usize,
    ) -> Checked {
        let left: BTreeSet<Offset> = self.log.records().iter().map(|it| it.offset).collect();
        let reached = compacted.groups.iter().take(installed).next_back();
        let reached = reached.map_or(Offset::ZERO, |group| group.group.end);
        let reached = reached.min(compacted.clean_point.first_dirty);
        for record in before.records() {
            if record.value.is_some() || record.offset >= reached {
                continue;
            }
            let replaced = self.history.iter().any(|later| {
                later.key == record.key
                    && later.offset > record.offset
                    && later.offset < compacted.clean_point.first_dirty
            });
            if left.contains(&record.offset) {
                self.seen.entry(record.offset).or_insert(self.now);
            } else if !replaced {
                let seen = self.seen.get(&record.offset);
                let since = seen.map(|seen| self.now - seen);
                prop_assert!(since >= Some(RETENTION_MS), "{} {since:?}", record.offset);
                self.tombstones_gone += 1;
            }
        }
        Ok(())
    }

    /// K1: below `end`, each key has its last record and no other.
    fn check_complete(&self, end: Offset) -> Checked {
        let mut last = BTreeMap::new();
        for record in self.history.iter().filter(|record| record.offset < end) {
            last.insert(record.key.clone(), record);
        }
        let records = self.log.records();
        let cleaned: Vec<_> = records.iter().filter(|it| it.offset < end).collect();
        for record in &cleaned {
            prop_assert_eq!(last.get(&record.key), Some(record));
        }
        for record in last.values().filter(|record| record.value.is_some()) {
            // A round that reached further may have been put in place in part before.
            let replaced = self.history.iter().any(|later| {
                later.key == record.key
                    && later.offset > record.offset
                    && later.offset < self.touched
            });
            prop_assert!(
                cleaned.contains(record) || replaced,
                "lost {}",
                record.offset
            );
        }
        Ok(())
    }

    /// What holds always, also in the middle of putting a round in place.
    fn check(&self) -> Checked {
        // K2: what is there is what was written, in order.
        let records = self.log.records();
        let mut written = self.history.iter();
        for record in &records {
            prop_assert!(written.any(|it| it == record), "not as written: {record:?}");
        }
        // The fold of a reader from the start is that of the whole log.
        prop_assert_eq!(fold(&records), fold(&self.history));
        // K4: batches outside any round are as they were, byte for byte.
        for (base, original) in self.originals.range(self.touched..) {
            let found = self.log.batches().find(|it| it.header.base_offset == *base);
            prop_assert_eq!(found.map(RecordBatch::bytes), Some(original.bytes()));
        }
        for batch in self.log.batches() {
            self.check_header(batch)?;
        }
        // R11: the next sequence of every producer is the same.
        let state = self.log.producers();
        for (producer, next) in &self.next_sequence {
            let known = state.get(ProducerId(*producer)).expect("still known");
            let last = known.last_batch().expect("still known");
            prop_assert_eq!(last.last_sequence.next(), *next);
        }
        Ok(())
    }

    fn check_header(&self, batch: &RecordBatch) -> Checked {
        let original = &self.originals[&batch.header.base_offset].header;
        let header = &batch.header;
        let whole = RecordBatch::split_first(&mut batch.bytes().clone());
        prop_assert_eq!(whole.as_ref(), Ok(batch), "CRC and header are right");
        prop_assert_eq!(header.last_offset(), original.last_offset());
        prop_assert_eq!(header.leader_epoch, original.leader_epoch);
        prop_assert_eq!(header.producer_id, original.producer_id);
        prop_assert_eq!(header.producer_epoch, original.producer_epoch);
        prop_assert_eq!(header.base_sequence, original.base_sequence);
        if header.record_count > 0 {
            let codec = (
                header.attributes.compression(),
                header.attributes.timestamp_type(),
            );
            let before = (
                original.attributes.compression(),
                original.attributes.timestamp_type(),
            );
            prop_assert_eq!(codec, before);
        }
        Ok(())
    }
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

/// The same round on its own result, at the same time, changes nothing.
fn check_second_run(log: &TestLog, job: &CompactionJob, end: Offset) -> Checked {
    let bases: BTreeSet<Offset> = log.segments.iter().map(|(base, _)| *base).collect();
    let again = CompactionJob {
        groups: job
            .groups
            .iter()
            .filter(|group| bases.contains(&group.base_offset()) && group.base_offset() < end)
            .map(|group| Group {
                sources: vec![group.base_offset()],
                end: group.end,
            })
            .collect(),
        end,
        map_bytes: usize::MAX,
        ..job.clone()
    };
    let mut io = TestIo::new(log);
    let second = block_on(run(&again, &mut io)).expect("nothing is damaged");
    for group in &second.groups {
        prop_assert!(!group.changed, "{:?} changed again", group.group);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn compaction_keeps_the_last_of_every_key(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World { now: 10_000, ..World::default() };
        for step in &steps {
            world.now += 10;
            match step {
                Step::Append(new) => world.append(new),
                Step::Roll => world.log.roll(),
                Step::Compact(round) => world.compact(round)?,
            }
            world.check()?;
        }
    }
}

#[test]
fn tombstones_do_go_in_random_logs() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut gone = 0;
    for _ in 0..40 {
        let steps = prop::collection::vec(step(), 40..60)
            .new_tree(&mut runner)
            .expect("steps")
            .current();
        let mut world = World {
            now: 10_000,
            ..World::default()
        };
        for step in steps {
            match step {
                Step::Append(new) => world.append(&new),
                Step::Roll => world.log.roll(),
                Step::Compact(round) => world.compact(&round).expect("holds"),
            }
        }
        gone += world.tombstones_gone;
    }
    assert!(gone > 20, "{gone} tombstones went");
}
