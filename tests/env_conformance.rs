//! The production `Env` keeps every promise that code relies on, and groups its syncs.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use klamm::env::DiskStats;
use klamm::env::tokio::{Options, env, raise_file_limit};
use klamm::env::{OpenMode, conformance};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn the_production_env_keeps_every_promise() {
    let root = tempfile::tempdir().expect("a directory");
    let checked = runtime().block_on(async {
        let env = env(Options::default()).expect("an env");
        for claim in conformance::all() {
            println!("{}", claim.name);
            let dir = root.path().join(claim.name);
            env.disk.create_dir(&dir).await.expect("a directory");
            (claim.check)(&env, &dir).await;
        }
        conformance::all().len()
    });
    assert!(checked > 50, "only {checked} promises were checked");
}

#[test]
fn concurrent_appenders_share_syncs_and_writes() {
    const APPENDERS: u64 = 64;
    const APPENDS: u64 = 20;
    let root = tempfile::tempdir().expect("a directory");
    let stats = Arc::new(DiskStats::default());
    let options = Options {
        disk_stats: Arc::clone(&stats),
        ..Options::default()
    };
    runtime().block_on(async {
        let env = env(options).expect("an env");
        let path = root.path().join("log");
        let file = env.disk.open(&path, OpenMode::CreateNew).await;
        let file = file.expect("a file");
        let end = Arc::new(std::sync::Mutex::new(0));
        let tasks: Vec<_> = (0..APPENDERS)
            .map(|_| {
                let (file, end) = (Arc::clone(&file), Arc::clone(&end));
                env.spawn("appender", async move {
                    for _ in 0..APPENDS {
                        let durable = {
                            let mut end = end.lock().expect("no appender panics");
                            drop(file.write_at(*end, vec![Bytes::from(vec![7; 1024])]));
                            *end += 1024;
                            file.sync()
                        };
                        durable.await.expect("a sync");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.join().await;
        }
        let len = file.len().await.expect("a length");
        assert_eq!(len, APPENDERS * APPENDS * 1024);
    });
    let get = DiskStats::get;
    println!("{stats:?}");
    assert_eq!(get(&stats.writes), APPENDERS * APPENDS);
    assert_eq!(get(&stats.syncs), APPENDERS * APPENDS);
    assert_eq!(get(&stats.queued_bytes), 0);
    assert!(get(&stats.sync_calls) * 4 < get(&stats.syncs), "{stats:?}");
    assert!(
        get(&stats.write_calls) * 4 < get(&stats.writes),
        "{stats:?}"
    );
}

#[test]
fn a_full_device_fails_the_write_and_every_sync_after_it() {
    runtime().block_on(async {
        let env = env(Options::default()).expect("an env");
        let device = Path::new("/dev/full");
        let file = env.disk.open(device, OpenMode::Existing).await;
        let file = file.expect("the device that is always full");
        let write = file.write_at(0, vec![Bytes::from_static(b"lost")]);
        let (sync, later) = (
            file.sync(),
            file.write_at(4, vec![Bytes::from_static(b"too")]),
        );
        let kinds = [write.await, sync.await, later.await, file.sync().await]
            .map(|result| result.map_err(|error| error.kind()));
        assert_eq!(kinds, [Err(ErrorKind::StorageFull); 4]);
    });
}

#[test]
fn a_failed_device_sync_fails_all_that_share_it_and_all_later_ones() {
    // A character device cannot be synced: an error as good as a broken disk's.
    let stats = Arc::new(DiskStats::default());
    let options = Options {
        disk_stats: Arc::clone(&stats),
        ..Options::default()
    };
    runtime().block_on(async {
        let env = env(options).expect("an env");
        let device = Path::new("/dev/null");
        let file = env.disk.open(device, OpenMode::Existing).await;
        let file = file.expect("a device");
        let write = file.write_at(0, vec![Bytes::from_static(b"gone")]);
        let syncs = [file.sync(), file.sync(), file.sync()];
        write.await.expect("a write");
        for sync in syncs {
            sync.await.expect_err("a device that cannot be synced");
        }
        let tried = DiskStats::get(&stats.sync_calls);
        let later = file.sync().await.expect_err("a sync after a failed one");
        assert!(later.to_string().contains("an earlier failure"), "{later}");
        assert_eq!(DiskStats::get(&stats.sync_calls), tried, "tried again");
        assert_eq!(DiskStats::get(&stats.sync_failures), tried);
    });
}

#[test]
fn a_fixed_seed_fixes_every_stream() {
    let draws = || {
        runtime().block_on(async {
            let options = Options {
                entropy_seed: Some([3; 32]),
                ..Options::default()
            };
            let env = env(options).expect("an env");
            ["a", "b", "a"].map(|purpose| env.entropy.stream(purpose).u64())
        })
    };
    assert_eq!(draws(), draws());
}

#[test]
fn the_file_limit_is_raised_to_the_most_allowed() {
    let first = raise_file_limit().expect("a limit");
    assert_eq!(raise_file_limit().expect("a limit"), first);
    assert!(first.is_none_or(|limit| limit > 0));
}

#[test]
fn dropping_the_env_ends_its_writers_after_their_work() {
    let root = tempfile::tempdir().expect("a directory");
    let path = root.path().join("log");
    runtime().block_on(async {
        let env = env(Options::default()).expect("an env");
        let file = env
            .disk
            .open(&path, OpenMode::Create)
            .await
            .expect("a file");
        let mut writes = Vec::new();
        for pos in 0..500 {
            writes.push(file.write_at(pos, vec![Bytes::from_static(b"x")]));
        }
        drop((file, env));
        for write in writes {
            write.await.expect("a write called before the end");
        }
    });
    let len = std::fs::metadata(&path).expect("the file").len();
    assert_eq!(len, 500);
}
