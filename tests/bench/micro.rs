//! What the parts of the broker cost by themselves: `cargo bench -p klamm --bench micro`.
//!
//! Files go to a temporary directory (`TMPDIR`): what `append` and `group-commit` tell is of the
//! disk beneath it. The others touch no disk, or the page cache only.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails may end")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use klamm::coordinator::{self, Moment, ReplyTo, Shard};
use klamm::env::tokio::{Options, env};
use klamm::env::{Env, OpenMode};
use klamm::group::{GroupConfig, GroupLedger, Request as GroupRequest};
use klamm::log::{Append, Log, LogConfig, LogIdentity, OpenOptions, TailCache};
use klamm::replication::{Assignment, Event, Opened, Partition, Past, WantedAcks};
use klamm::types::{BrokerId, Instant, LeaderEpoch, Offset, Timestamp, TopicId, TopicPartition};
use klamm::wire::api::{Request, Response};
use klamm::wire::batch::{BatchBuilder, Compression, RecordBatch};
use klamm::wire::frame::{self, RequestHeader};
use klamm::wire::message::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use klamm::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm::wire::message::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tempfile::TempDir;

const PARTITIONS: i32 = 16;
/// Bytes of a frame's length.
const PREFIX: usize = 4;

/// A batch of `count` values of `size` bytes that do not compress to nothing.
fn batch(count: usize, size: usize, compression: Compression) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset::ZERO, compression, None);
    for record in 0..count {
        let word = |at: usize| (record * 7919 + at * 31) as u8 % 26 + b'a';
        let value: Vec<u8> = (0..size).map(word).collect();
        builder.push(Timestamp(record as i64), None, Some(&value), &[]);
    }
    builder.build()
}

/// The frame of a request without its length.
fn framed(request: &Request, version: i16) -> Bytes {
    let header = RequestHeader {
        api_key: request.api_key() as i16,
        api_version: version,
        correlation_id: 1,
        client_id: Some("bench".into()),
    };
    let slices = frame::request_frame(request, &header).unwrap();
    Bytes::from(slices.concat()).slice(PREFIX..)
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let records = batch(64, 1024, Compression::None).bytes().clone();
    let partition = |index| PartitionProduceData {
        index,
        records: Some(records.clone().into()),
        ..Default::default()
    };
    let produce = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "a-topic".into(),
            partition_data: (0..PARTITIONS).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let produce = framed(&produce.into(), 12);
    group.bench_function("decode Produce, 16 partitions", |b| {
        b.iter(|| frame::decode_request(black_box(produce.clone())).unwrap());
    });
    let partition = |partition| FetchPartition {
        partition,
        fetch_offset: 1_000_000,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let fetch = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: "a-topic".into(),
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let fetch = framed(&fetch.into(), 12);
    group.bench_function("decode Fetch, 16 partitions", |b| {
        b.iter(|| frame::decode_request(black_box(fetch.clone())).unwrap());
    });
    let partition = |partition_index| PartitionData {
        partition_index,
        high_watermark: 2_000_000,
        records: Some(records.clone().into()),
        ..Default::default()
    };
    let answer: Response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            topic: "a-topic".into(),
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
    .into();
    group.bench_function("encode an answer to Fetch, 16 partitions", |b| {
        b.iter(|| frame::response_frame(black_box(&answer), 1, 12).unwrap());
    });
    group.finish();
}

/// What a broker does with a batch before it is appended: its CRC, and a walk over its records.
fn validation(c: &mut Criterion) {
    let mut group = c.benchmark_group("validate a batch");
    let kinds = [
        ("64 of 1 KiB", 64, 1024, Compression::None),
        ("640 of 100 B", 640, 100, Compression::None),
        ("64 of 1 KiB, lz4", 64, 1024, Compression::Lz4),
        ("64 of 1 KiB, zstd", 64, 1024, Compression::Zstd),
    ];
    for (name, count, size, compression) in kinds {
        let bytes = batch(count, size, compression).bytes().clone();
        group.throughput(Throughput::Bytes((count * size) as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let batch = RecordBatch::split_first(&mut black_box(bytes.clone())).unwrap();
                batch.check_records(false).unwrap().max_timestamp
            });
        });
    }
    group.finish();
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    env: Env,
    directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let env = runtime.block_on(async { env(Options::default()) }).unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self {
            runtime,
            env,
            directory,
        }
    }

    fn log(&self, name: &str, tail_bytes: usize) -> Log {
        let options = OpenOptions {
            identity: LogIdentity {
                topic_id: TopicId::from_random([9; 16]),
                topic_partition: TopicPartition::new(name, 0),
            },
            config: LogConfig::default(),
            clean: None,
            tail_cache: TailCache::new(tail_bytes),
        };
        let dir: &Path = &self.directory.path().join(name);
        self.runtime.block_on(async {
            self.env.disk.create_dir(dir).await.unwrap();
            Log::create(&self.env, dir, options).await.unwrap()
        })
    }

    /// Appends `batch` `times` times, all under way at once, and waits for all.
    async fn append(&self, log: &mut Log, batch: &RecordBatch, times: usize, sync: bool) {
        let mut under_way = Vec::with_capacity(times);
        for _ in 0..times {
            let appended = log.append(batch, LeaderEpoch(0), self.env.wall(), sync);
            match appended.await.unwrap() {
                Append::New(appended) => under_way.push(appended),
                Append::Duplicate { .. } => unreachable!("it has no producer"),
            }
        }
        for appended in under_way {
            appended.done.await.unwrap();
            log.completed(appended.ticket);
        }
    }
}

fn append(c: &mut Criterion) {
    let bench = Bench::new();
    let mut group = c.benchmark_group("append");
    let batch = batch(64, 1024, Compression::None);
    for (name, times, sync) in [
        ("64 KiB, written", 1, false),
        ("64 KiB, durable", 1, true),
        ("16 of 64 KiB, durable together", 16, true),
    ] {
        let mut log = bench.log(&name.replace([' ', ','], "-"), 1 << 20);
        group.throughput(Throughput::Bytes((times * batch.total_bytes()) as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let appends = bench.append(&mut log, &batch, times, sync);
                bench.runtime.block_on(appends);
            });
        });
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let bench = Bench::new();
    let mut group = c.benchmark_group("read 1 MiB");
    let batch = batch(64, 1024, Compression::None);
    for (name, tail_bytes) in [("from the tail cache", 8 << 20), ("from the page cache", 0)] {
        let mut log = bench.log(&name.replace(' ', "-"), tail_bytes);
        bench
            .runtime
            .block_on(bench.append(&mut log, &batch, 32, true));
        let reader = log.reader();
        let end = reader.log_end_offset();
        group.throughput(Throughput::Bytes(1 << 20));
        group.bench_function(name, |b| {
            b.iter(|| {
                let read = reader.read(Offset::ZERO, end, 1 << 20, true);
                bench.runtime.block_on(read).unwrap().len()
            });
        });
    }
    group.finish();
}

/// Sixteen files, each with a write and its sync: what one round of a loaded broker asks.
fn group_commit(c: &mut Criterion) {
    let bench = Bench::new();
    let mut group = c.benchmark_group("group commit");
    let block = Bytes::from(vec![7; 32 << 10]);
    for (name, files, each) in [
        ("1 file, 1 write", 1, 1),
        ("1 file, 16 writes", 1, 16),
        ("16 files, 1 write each", 16, 1),
        ("16 files, 16 writes each", 16, 16),
    ] {
        let open = |at: usize| {
            let path = bench.directory.path().join(format!("{name} {at}"));
            let opened = bench.env.disk.open(&path, OpenMode::Create);
            bench.runtime.block_on(opened).unwrap()
        };
        let opened: Vec<_> = (0..files).map(open).collect();
        let mut pos = 0;
        group.throughput(Throughput::Bytes((files * each * block.len()) as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut syncs = Vec::with_capacity(files * each);
                for _ in 0..each {
                    for file in &opened {
                        drop(file.write_at(pos, vec![block.clone()]));
                        syncs.push(file.sync());
                    }
                    pos += block.len() as u64;
                }
                bench.runtime.block_on(async {
                    for sync in syncs {
                        sync.await.unwrap();
                    }
                });
                // Files that grow for ever would fill the disk.
                if pos > 64 << 20 {
                    pos = 0;
                }
            });
        });
    }
    group.finish();
}

fn machines(c: &mut Criterion) {
    let mut group = c.benchmark_group("machines");
    let opened = Opened {
        log_start_offset: Offset::ZERO,
        log_end_offset: Offset::ZERO,
        past: Past {
            high_watermark: None,
            is_new: true,
        },
    };
    let assignment = Arc::new(Assignment::alone(BrokerId(1), LeaderEpoch(0)));
    let mut effects = Vec::new();
    let mut partition = Partition::new(&assignment, opened, Instant(0), &mut effects);
    let mut end = Offset::ZERO;
    group.bench_function("partition: an append, durable and acknowledged", |b| {
        b.iter(|| {
            end = end.next();
            let waiter = Some((end.0, WantedAcks::InSync));
            partition.step(Event::Appended { end, waiter }, &mut effects);
            partition.step(Event::Durable { end }, &mut effects);
            black_box(&mut effects).clear();
        });
    });

    let mut effects = Vec::new();
    let mut shard = Shard::load(GroupLedger::new(GroupConfig::default()), &mut effects);
    let at = Moment {
        now: Instant(1_000_000_000),
        wall: Timestamp(1_700_000_000_000),
    };
    let nothing = coordinator::LoadedBatch {
        records: Vec::new(),
        next: Offset::ZERO,
        end: true,
    };
    shard.read(at, Ok(nothing), &mut effects);
    let commit = |offset| {
        let partition = |partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            ..Default::default()
        };
        OffsetCommitRequest {
            group_id: "a-group".into(),
            generation_id_or_member_epoch: -1,
            topics: vec![OffsetCommitRequestTopic {
                name: "a-topic".into(),
                partitions: (0..PARTITIONS).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    };
    let mut number = 0;
    group.bench_function("group: a commit of 16 offsets, stored and answered", |b| {
        b.iter_batched(
            || commit(7),
            |request| {
                let request = GroupRequest::CommitOffsets(request);
                shard.request(at, ReplyTo(number), request, &mut effects);
                shard.appended(Ok(Offset(number as i64)), &mut effects);
                number += 1;
                black_box(&mut effects).clear();
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(
    benches,
    codec,
    validation,
    append,
    read,
    group_commit,
    machines
);
criterion_main!(benches);
