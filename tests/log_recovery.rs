//! A log on a real file system, through the production `Env`.
#![allow(
    clippy::disallowed_methods,
    reason = "a test spoils files behind the log's back"
)]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use klamm::env::Env;
use klamm::env::tokio::{Options, env};
use klamm::log::{Append, CleanEnd, Log, LogConfig, LogIdentity, OpenOptions, TailCache};
use klamm::types::{LeaderEpoch, Offset, Timestamp, TopicId, TopicPartition};
use klamm::wire::batch::{BatchBuilder, Compression, RecordBatch};

fn options(clean: Option<CleanEnd>) -> OpenOptions {
    OpenOptions {
        identity: LogIdentity {
            topic_id: TopicId::from_random([9; 16]),
            topic_partition: TopicPartition::new("real", 0),
        },
        config: LogConfig {
            segment_bytes: 64 << 10,
            ..LogConfig::default()
        },
        clean,
        tail_cache: TailCache::new(16 << 10),
    }
}

fn batch(number: usize) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset::ZERO, Compression::None, None);
    for record in 0..10 {
        let value = format!("{number} {record} {:x<200}", number * record);
        let timestamp = Timestamp((number * 10 + record) as i64);
        builder.push(timestamp, None, Some(value.as_bytes()), &[]);
    }
    builder.build()
}

/// Appends `count` batches, all in flight at once.
async fn append(log: &mut Log, env: &Env, from: usize, count: usize) {
    let mut outstanding = Vec::new();
    for number in from..from + count {
        let batch = batch(number);
        let appended = log.append(&batch, LeaderEpoch(0), env.wall(), true);
        match appended.await.expect("appended") {
            Append::New(appended) => outstanding.push(appended),
            Append::Duplicate { .. } => panic!("no producer id"),
        }
    }
    for appended in outstanding {
        appended.done.await.expect("durable");
        log.completed(appended.ticket);
    }
}

async fn check(log: &Log, count: usize) {
    let reader = log.reader();
    let mut from = Offset::ZERO;
    let mut number = 0;
    while from < reader.log_end_offset() {
        let read = reader.read(from, reader.log_end_offset(), 30_000, true);
        let read = read.await.expect("read");
        assert!(read.end > from);
        from = read.end;
        let mut bytes = read.concat();
        while !bytes.is_empty() {
            let found = RecordBatch::split_first(&mut bytes).expect("whole");
            assert_eq!(found.payload(), batch(number).payload());
            number += 1;
        }
    }
    assert_eq!(number, count);
}

async fn scenario(env: &Env, dir: &Path) {
    let mut log = Log::create(env, dir, options(None)).await.expect("made");
    append(&mut log, env, 0, 300).await;
    assert_eq!(log.durable_end(), Offset(3000));
    assert!(log.reader().segment_count() > 3);
    check(&log, 300).await;
    let clean = log.close().await.expect("closed");

    let opened = Log::open(env, dir, options(Some(clean))).await;
    let (mut log, recovery) = opened.expect("opened");
    assert!(recovery.clean, "{recovery:?}");
    check(&log, 300).await;
    append(&mut log, env, 300, 5).await;
    drop(log);

    // As a kill in the middle of a write leaves it.
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .expect("listed")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    names.sort();
    let last = names.last().expect("segments");
    let mut file = std::fs::OpenOptions::new().append(true).open(last);
    let file = file.as_mut().expect("opened");
    file.write_all(&batch(7).bytes()[..100]).expect("written");
    let opened = Log::open(env, dir, options(None)).await;
    let (mut log, recovery) = opened.expect("opened");
    assert_eq!(recovery.cut.map(|cut| cut.bytes), Some(100));
    check(&log, 305).await;
    log.truncate_to(Offset(1234)).await.expect("cut");
    check(&log, 123).await;
    append(&mut log, env, 123, 50).await;
    let reader = log.reader();
    let found = reader.offset_for_timestamp(Timestamp(777), Offset(1730));
    let found = found.await.expect("read").expect("found");
    assert_eq!((found.0, found.1), (Timestamp(777), Offset(777)));
    drop(log);
    let (log, recovery) = Log::open(env, dir, options(None)).await.expect("opened");
    assert_eq!(recovery.cut, None);
    check(&log, 173).await;
}

#[test]
fn a_log_on_real_files_survives_close_kill_and_truncation() {
    let root = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = root.path().join("real-0");
    runtime.block_on(async {
        let env = env(Options::default()).expect("an env");
        scenario(&env, &dir).await;
    });
}

/// Set in the process that measures.
const ALONE: &str = "KLAMM_TEST_ALONE";

#[test]
fn an_idle_log_takes_little_memory() {
    // In a process of its own: the other tests' memory is none of this one's.
    if std::env::var_os(ALONE).is_none() {
        let this = std::env::current_exe().expect("the test binary");
        let name = "log_recovery::an_idle_log_takes_little_memory";
        let mut alone = std::process::Command::new(this);
        let status = alone.args(["--exact", name]).env(ALONE, "1").status();
        assert!(status.expect("it runs").success(), "see the output above");
        return;
    }
    const LOGS: usize = 2_000;
    let root = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let env = env(Options::default()).expect("an env");
        let dir = root.path().join("real-0");
        let log = Log::create(&env, &dir, options(None)).await.expect("made");
        let clean = log.close().await.expect("closed");
        let mut logs = Vec::with_capacity(LOGS);
        let shared = options(Some(clean));
        let before = resident_kib();
        for _ in 0..LOGS {
            let opened = Log::open(&env, &dir, shared.clone()).await;
            let (log, recovery) = opened.expect("opened");
            assert!(recovery.clean);
            logs.push(Arc::new(log));
        }
        let each = (resident_kib().saturating_sub(before)) * 1024 / LOGS;
        println!("{each} bytes per idle log");
        assert!(each < 20 << 10, "{each} bytes per idle log");
    });
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    kib.unwrap_or(0)
}
