//! A log on a disk that can lose power, against what was appended.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod basic;
mod compacting;
mod corruption;
mod crash;
mod disk;
mod mirroring;
mod power_loss;
mod recovery_points;
mod removing;
mod stretching;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;

use self::disk::MemDisk;
use super::{
    Append, Appended, CleanEnd, Log, LogConfig, LogError, LogIdentity, LogReader, OpenOptions,
    Recovery, TailCache,
};
use crate::types::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId, TopicPartition,
};
use crate::wire::batch::{Attributes, BatchBuilder, BatchHeader, Compression, RecordBatch};

/// Everything a log needs, and what outlives it.
struct Bench {
    disk: MemDisk,
    dir: PathBuf,
    tail_cache: Arc<TailCache>,
    config: LogConfig,
}

impl Bench {
    /// Small segments, and no memory of recent batches: every read goes to the files.
    fn new() -> Self {
        Self {
            disk: MemDisk::default(),
            dir: PathBuf::from("/data/orders-3"),
            tail_cache: TailCache::new(0),
            config: LogConfig {
                segment_bytes: 2000,
                index_interval_bytes: 300,
                file_delete_delay_ms: 1000,
                ..LogConfig::default()
            },
        }
    }

    fn identity() -> LogIdentity {
        LogIdentity {
            topic_id: TopicId::from_random([5; 16]),
            topic_partition: TopicPartition::new("orders", 3),
        }
    }

    fn options(&self, clean: Option<CleanEnd>) -> OpenOptions {
        OpenOptions {
            identity: Self::identity(),
            config: self.config.clone(),
            clean,
            tail_cache: self.tail_cache.clone(),
        }
    }

    fn create(&self) -> Log {
        run(Log::create(&self.disk.env(), &self.dir, self.options(None))).unwrap()
    }

    fn try_open(&self, clean: Option<CleanEnd>) -> Result<(Log, Recovery), LogError> {
        let options = self.options(clean);
        run(Log::open(&self.disk.env(), &self.dir, options))
    }

    fn open(&self, clean: Option<CleanEnd>) -> (Log, Recovery) {
        self.try_open(clean).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn segment(&self, base_offset: i64) -> PathBuf {
        self.path(&format!("{base_offset:020}.log"))
    }
}

/// The disk of the tests never makes anybody wait.
fn run<T>(work: impl Future<Output = T>) -> T {
    work.now_or_never().expect("nothing waits")
}

/// A batch of one record per value, a millisecond apart.
fn batch(values: &[&str], timestamp: i64) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset::ZERO, Compression::None, None);
    for (at, value) in values.iter().enumerate() {
        let timestamp = Timestamp(timestamp + at as i64);
        builder.push(timestamp, None, Some(value.as_bytes()), &[]);
    }
    builder.build()
}

fn sequenced(producer: i64, epoch: i16, sequence: i32, values: &[&str]) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset::ZERO, Compression::None, None).producer(
        ProducerId(producer),
        ProducerEpoch(epoch),
        Sequence(sequence),
    );
    for value in values {
        builder.push(Timestamp(1000), None, Some(value.as_bytes()), &[]);
    }
    builder.build()
}

/// Appends without waiting for the outcome.
fn submit(log: &mut Log, batch: &RecordBatch, epoch: i32) -> Appended {
    let now = log.env.wall();
    match run(log.append(batch, LeaderEpoch(epoch), now, true)).unwrap() {
        Append::New(appended) => appended,
        Append::Duplicate { .. } => panic!("not a duplicate"),
    }
}

/// Appends and waits until it is durable; the base offset.
fn put(log: &mut Log, batch: &RecordBatch) -> Offset {
    let appended = submit(log, batch, 1);
    run(appended.done).unwrap();
    log.completed(appended.ticket);
    appended.base_offset
}

/// `count` durable batches of three records and some 170 bytes each.
fn fill(log: &mut Log, count: i64) {
    for at in 0..count {
        let value = format!("{at:0>30}");
        put(log, &batch(&[&value, &value, "z"], 1000 + at * 10));
    }
}

/// All batches from `from` on, read in pieces of `max_bytes`.
fn read_all(reader: &LogReader, from: Offset, max_bytes: usize) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    let mut from = from;
    let end = reader.log_end_offset();
    while from < end {
        let read = run(reader.read(from, end, max_bytes, true)).unwrap();
        if read.is_empty() {
            // Submitted, and nobody waited for it to be written.
            break;
        }
        assert!(read.end > from);
        from = read.end;
        batches.extend(split(read.concat()));
    }
    batches
}

fn split(mut bytes: Bytes) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        batches.push(RecordBatch::split_first(&mut bytes).unwrap());
    }
    batches
}

/// Offset and value of every record.
fn records(batches: &[RecordBatch]) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for batch in batches {
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            let value = record.value.unwrap_or_default();
            let value = String::from_utf8(value.to_vec()).unwrap();
            found.push((record.offset.0, value));
        }
    }
    found
}

fn contents(log: &Log) -> Vec<(i64, String)> {
    let reader = log.reader();
    records(&read_all(&reader, reader.log_start_offset(), 700))
}

/// A header without a producer, to be filled in.
pub(super) fn blank_header() -> BatchHeader {
    BatchHeader {
        base_offset: Offset(0),
        batch_length: 0,
        leader_epoch: LeaderEpoch(0),
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: 0,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence(-1),
        record_count: 1,
    }
}

/// Whatever a broker does with a log, it does on tasks that may move between threads.
#[allow(dead_code)]
fn everything_can_be_sent(log: &'static mut super::Log, reader: &'static super::LogReader) {
    fn send<T: Send>(_: T) {}
    let at = Timestamp(0);
    send(reader.read(Offset(0), Offset(0), 0, true));
    send(reader.offset_for_timestamp(at, Offset(0)));
    send(reader.offset_of_max_timestamp(Offset(0)));
    let choice = at.0;
    match choice {
        0 => send(log.apply_retention(at, Offset(0))),
        1 => send(log.truncate_to(Offset(0))),
        2 => send(log.fall_back()),
        3 => send(log.roll_if_due(at)),
        4 => send(log.compaction_plan(at, Offset(0), 0)),
        _ => send(log.delete_records_before(Offset(0))),
    }
}

#[allow(dead_code)]
async fn opening_can_be_sent(env: &'static crate::env::Env, options: super::OpenOptions) {
    fn send<T: Send>(work: T) -> T {
        work
    }
    let dir = Path::new("");
    let opened = send(super::Log::open(env, dir, options.clone())).await;
    drop(opened);
    let mut log = send(super::Log::create(env, dir, options))
        .await
        .expect("made");
    let batch = crate::wire::batch::RecordBatch::seal(blank_header(), &[]);
    drop(send(log.append(&batch, LeaderEpoch(0), Timestamp(0), true)).await);
    drop(send(log.close()).await);
}
