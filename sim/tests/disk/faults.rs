//! Each fault of a disk does what it says, and only that.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use klamm::env::{Env, File, OpenMode};
use klamm_sim::plan::{CrashOptions, DiskOptions, FileKind, SyncFailure};
use klamm_sim::{SimNode, SimWorld, simulate};

use super::{FILE, node_with_dir, read, without_garbage, write};

const SEGMENT: &str = "/data/00000000000000000000.log";

/// A node with a file that holds `bytes`, durable with its name.
async fn node_with(world: SimWorld, path: &str, bytes: Vec<u8>) -> (SimNode, Env) {
    let (node, env) = node_with_dir(world).await;
    write(&env, path, 0, bytes, true).await;
    env.disk.sync_dir(Path::new("/data")).await.expect("sync");
    (node, env)
}

async fn open(env: &Env, path: &str) -> Arc<dyn File> {
    let opened = env.disk.open(Path::new(path), OpenMode::Existing).await;
    opened.expect("open")
}

fn ones(len: usize) -> Vec<Bytes> {
    vec![Bytes::from(vec![1; len])]
}

/// Losses of power that drop everything not synced.
fn drop_all() -> DiskOptions {
    let crash = CrashOptions {
        drop_percent: 100,
        tear_percent: 0,
        garbage_percent: 0,
        names_percent: 100,
        in_order: false,
    };
    DiskOptions {
        crash,
        ..DiskOptions::default()
    }
}

#[test]
fn pages_of_a_failed_sync_stay_in_the_cache_until_a_restart_and_no_later_sync_writes_them() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 100]).await;
        let (disk, path) = (node.disk(), Path::new(FILE));
        disk.fail_syncs(FileKind::Any, 1, SyncFailure::KeepInCache);
        let file = open(&env, FILE).await;
        file.write_at(50, ones(100)).await.expect("write");
        file.sync().await.expect_err("the sync fails");
        assert_eq!(read(&env, FILE).await.map(|all| all[149]), Some(1));
        file.sync().await.expect_err("the handle does not forget");
        drop(file);
        // The kernel has told its error and knows nothing any more.
        let file = open(&env, FILE).await;
        file.sync().await.expect("a later sync succeeds");
        assert_eq!(disk.durable(path), Some(vec![0; 100].into()));
        node.lose_power();
        let env = node.start();
        assert_eq!(read(&env, FILE).await, Some(vec![0; 100].into()));
        assert_eq!(disk.counts()["failed syncs, pages kept in cache"], 1);
        assert!(!disk.is_damaged(path), "no lie was told");
    });
}

#[test]
fn pages_of_a_failed_sync_revert_at_once_where_the_file_system_does_that() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 100]).await;
        node.disk()
            .fail_syncs(FileKind::Checkpoint, 1, SyncFailure::Revert);
        let file = open(&env, FILE).await;
        file.write_at(50, ones(100)).await.expect("write");
        let sync = file.sync();
        file.write_at(10, ones(1)).await.expect("write");
        sync.await.expect_err("the sync fails");
        let mut expected = vec![0; 100];
        expected[10] = 1;
        assert_eq!(read(&env, FILE).await, Some(expected.clone().into()));
        file.sync().await.expect_err("in doubt");
        file.truncate(50).await.expect("truncate");
        file.write_at(50, ones(50)).await.expect("write");
        file.sync().await.expect("cut to where the doubt began");
        expected[50..].fill(1);
        node.lose_power();
        assert_eq!(read(&node.start(), FILE).await, Some(expected.into()));
    });
}

#[test]
fn a_failed_write_has_written_a_part_and_puts_the_rest_in_doubt() {
    let mut parts = BTreeSet::new();
    for seed in 0..40 {
        let run = simulate(seed, |world| async move {
            let (node, env) = node_with(world, SEGMENT, Vec::new()).await;
            node.disk().fail_writes(FileKind::Segment, 1);
            write(&env, FILE, 0, vec![1; 10], true).await;
            let file = open(&env, SEGMENT).await;
            file.write_at(0, ones(20)).await.expect_err("it fails");
            file.sync().await.expect_err("in doubt");
            let len = file.len().await.expect("len");
            file.truncate(0).await.expect("truncate");
            file.write_at(0, ones(20)).await.expect("the next one");
            file.sync().await.expect("sync");
            len
        });
        parts.insert(run.value);
    }
    assert!(parts.len() > 5 && parts.iter().all(|len| *len <= 20));
}

#[test]
fn a_failed_read_is_an_error_and_the_next_one_is_not() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, SEGMENT, vec![3; 10]).await;
        node.disk().fail_reads(FileKind::Index, 1);
        node.disk().fail_reads(FileKind::Segment, 2);
        let file = open(&env, SEGMENT).await;
        for _ in 0..2 {
            file.read_at(0, 10).await.expect_err("it fails");
        }
        assert_eq!(file.read_at(0, 10).await.expect("read").len(), 10);
        assert_eq!(node.disk().counts()["failed reads"], 2);
    });
}

#[test]
fn a_full_disk_refuses_growth_and_new_names_and_says_so() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 100]).await;
        let (disk, dir) = (node.disk(), Path::new("/data"));
        disk.set_full(true);
        let space = env.disk.space(dir).await.expect("space");
        assert_eq!(space.usable_bytes, 0);
        let file = open(&env, FILE).await;
        let grown = file.write_at(90, ones(20)).await.expect_err("growth");
        assert_eq!(grown.kind(), ErrorKind::StorageFull);
        file.truncate(90).await.expect("to shrink takes no room");
        file.write_at(0, ones(90)).await.expect("nor what is there");
        file.sync().await.expect("sync");
        let grown = file.truncate(200).await.expect_err("growth");
        assert_eq!(grown.kind(), ErrorKind::StorageFull);
        let new = Path::new("/data/new");
        let opened = env.disk.open(new, OpenMode::Create).await.err();
        assert_eq!(
            opened.map(|error| error.kind()),
            Some(ErrorKind::StorageFull)
        );
        let made = env.disk.create_dir(new).await.expect_err("a name");
        assert_eq!(made.kind(), ErrorKind::StorageFull);
        env.disk.rename(Path::new(FILE), new).await.expect("rename");
        env.disk.remove(new).await.expect("remove");
        disk.heal();
        write(&env, FILE, 0, vec![1; 10], true).await;
        assert_eq!(disk.counts()["refusals for lack of space"], 4);
    });
}

#[test]
fn the_capacity_bounds_what_files_use_and_removal_gives_it_back() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 400]).await;
        node.disk().set_options(DiskOptions {
            capacity_bytes: 1000,
            ..DiskOptions::default()
        });
        let usable = async || {
            let space = env.disk.space(Path::new("/data")).await.expect("space");
            assert_eq!(space.total_bytes, 1000);
            space.usable_bytes
        };
        assert_eq!(usable().await, 600);
        write(&env, "/data/b", 0, vec![0; 500], false).await;
        let file = open(&env, FILE).await;
        let written = file.write_at(350, ones(200)).await;
        let error = written.expect_err("it would grow by 150");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let len = file.len().await.expect("len");
        assert!((400..=500).contains(&len), "grew to {len}");
        file.truncate(300).await.expect("truncate");
        assert_eq!(usable().await, 200);
        env.disk.remove(Path::new(FILE)).await.expect("remove");
        assert_eq!(usable().await, 200, "still open");
        drop(file);
        assert_eq!(usable().await, 500);
        env.disk
            .rename(Path::new("/data/b"), Path::new("/data/c"))
            .await
            .expect("rename");
        write(&env, "/data/b", 0, vec![0; 100], false).await;
        env.disk
            .rename(Path::new("/data/b"), Path::new("/data/c"))
            .await
            .expect("rename over a file");
        assert_eq!(usable().await, 900);
        node.disk().set_options(drop_all());
        node.lose_power();
        let used: usize = node.disk().files().iter().map(|(_, all)| all.len()).sum();
        assert_eq!(used, 400, "nothing of it was synced");
        let env = node.start();
        let space = env.disk.space(Path::new("/data")).await.expect("space");
        assert_eq!(space.total_bytes - space.usable_bytes, 400);
    });
}

#[test]
fn a_slow_disk_takes_longer_until_it_is_healed() {
    simulate(3, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 100]).await;
        let file = open(&env, FILE).await;
        let ten_writes = async || {
            let began = env.now();
            for _ in 0..10 {
                file.write_at(0, ones(10)).await.expect("write");
            }
            env.now().since(began)
        };
        assert!(ten_writes().await < Duration::from_millis(20));
        node.disk().slow(1000);
        assert!(ten_writes().await > Duration::from_secs(2));
        let began = env.now();
        let sync = file.sync();
        node.disk().heal();
        sync.await.expect("sync");
        assert!(env.now().since(began) < Duration::from_millis(20));
        assert!(ten_writes().await < Duration::from_millis(20));
    });
}

#[test]
fn nothing_answers_or_becomes_durable_while_the_disk_is_stalled() {
    simulate(3, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 10]).await;
        let (disk, path) = (node.disk(), Path::new(FILE));
        let file = open(&env, FILE).await;
        let before = file.write_at(0, ones(5));
        let sync = file.sync();
        disk.stall(true);
        let mut calls = std::pin::pin!(async {
            sync.await.expect("sync");
            file.write_at(5, ones(5)).await.expect("write");
            env.disk.sync_dir(Path::new("/data")).await.expect("sync");
        });
        let waited = env.timeout(Duration::from_secs(60), calls.as_mut()).await;
        waited.expect_err("it answered");
        assert_eq!(disk.durable(path), Some(vec![0; 10].into()));
        disk.stall(false);
        let began = env.now();
        calls.await;
        before.await.expect("write");
        assert!(env.now().since(began) < Duration::from_secs(1));
        assert_eq!(
            disk.durable(path).map(|all| all[..5].to_vec()),
            Some(vec![1; 5])
        );
        assert_eq!(disk.read(path), Some(vec![1; 10].into()));
    });
}

#[test]
fn rot_flips_durable_bits_of_one_file_of_the_kind_and_stays() {
    for seed in 0..20 {
        simulate(seed, |world| async move {
            let (node, env) = node_with(world, SEGMENT, vec![0; 1000]).await;
            write(&env, FILE, 0, vec![0; 1000], true).await;
            let (disk, path) = (node.disk(), Path::new(SEGMENT));
            assert_eq!(disk.rot(FileKind::Index, 1), None);
            assert_eq!(disk.rot(FileKind::Segment, 3).as_deref(), Some(path));
            assert_eq!(disk.damaged(), [path]);
            assert_eq!(disk.truth(path), Some(vec![0; 1000].into()));
            let rotten = read(&env, SEGMENT).await.expect("read");
            let bits: u32 = rotten.iter().map(|byte| byte.count_ones()).sum();
            assert!(bits == 3 || bits == 1, "{bits} bits");
            node.lose_power();
            let env = node.start();
            assert_eq!(read(&env, SEGMENT).await, Some(rotten));
            write(&env, SEGMENT, 1000, vec![1; 10], true).await;
            assert!(disk.is_damaged(path));
            disk.repair();
            assert!(!disk.is_damaged(path));
            let expected = [vec![0; 1000], vec![1; 10]].concat();
            assert_eq!(read(&env, SEGMENT).await, Some(expected.into()));
        });
    }
}

#[test]
fn what_is_written_anew_is_not_damaged_any_more() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 1000]).await;
        let disk = node.disk();
        assert!(disk.rot(FileKind::Any, 9).is_some());
        write(&env, FILE, 0, vec![5; 1000], false).await;
        assert!(disk.is_damaged(Path::new(FILE)), "below the cache");
        write(&env, FILE, 0, vec![5; 1000], true).await;
        assert!(!disk.is_damaged(Path::new(FILE)));
    });
}

#[test]
fn a_lost_write_succeeds_and_is_not_there_after_a_restart() {
    let mut seen_at_once = BTreeSet::new();
    for seed in 0..20 {
        let run = simulate(seed, |world| async move {
            let (node, env) = node_with(world, SEGMENT, vec![7; 1000]).await;
            let (disk, path) = (node.disk(), Path::new(SEGMENT));
            disk.lose_write(FileKind::Segment);
            write(&env, SEGMENT, 900, vec![1; 200], true).await;
            assert!(disk.is_damaged(path));
            let now = read(&env, SEGMENT).await.expect("read");
            assert_eq!(now.len(), 1100);
            let then = [vec![7; 1000], vec![0; 100]].concat();
            node.lose_power();
            let env = node.start();
            assert_eq!(read(&env, SEGMENT).await, Some(then.clone().into()));
            let truth = [vec![7; 900], vec![1; 200]].concat();
            assert_eq!(disk.truth(path), Some(truth.clone().into()));
            disk.repair();
            assert_eq!(read(&env, SEGMENT).await, Some(truth.into()));
            assert!(disk.damaged().is_empty());
            now == then
        });
        seen_at_once.insert(run.value);
    }
    assert_eq!(seen_at_once.len(), 2, "both kinds of losing");
}

#[test]
fn a_misdirected_write_is_missing_where_it_belongs_and_found_in_a_file_of_its_kind() {
    for seed in 0..20 {
        simulate(seed, |world| async move {
            let (node, env) = node_with(world, SEGMENT, vec![7; 3000]).await;
            let other = "/data/00000000000000000009.log";
            write(&env, other, 0, vec![8; 3000], true).await;
            write(&env, FILE, 0, vec![9; 3000], true).await;
            env.disk.sync_dir(Path::new("/data")).await.expect("sync");
            node.disk().misdirect(FileKind::Segment);
            write(&env, SEGMENT, 1034, vec![1; 10], true).await;
            node.lose_power();
            let disk = node.disk();
            let mut places = Vec::new();
            for (path, bytes) in disk.files() {
                let at = bytes.windows(10).position(|window| window == [1; 10]);
                places.extend(at.map(|at| (path, at)));
            }
            assert_eq!(places.len(), 1, "{places:?}");
            let (path, at) = &places[0];
            assert!([Path::new(SEGMENT), Path::new(other)].contains(&path.as_path()));
            assert_eq!(at % 512, 10);
            assert!(path != Path::new(SEGMENT) || *at != 1034);
            let damaged = disk.damaged();
            assert!(damaged.contains(path) && damaged.contains(&SEGMENT.into()));
            disk.repair();
            let whole = disk.read(Path::new(other));
            assert_eq!(whole, Some(vec![8; 3000].into()));
            assert_eq!(disk.damaged(), Vec::<std::path::PathBuf>::new());
        });
    }
}

#[test]
fn a_lost_disk_is_empty_at_the_next_start() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 100]).await;
        node.disk().lose_all();
        assert!(read(&env, FILE).await.is_some(), "not before");
        node.kill();
        let env = node.start();
        assert!(node.disk().files().is_empty());
        let listed = env.disk.list(Path::new("/")).await.expect("list");
        assert!(listed.is_empty());
        node.lose_power();
        let env = node.start();
        assert!(read(&env, FILE).await.is_none(), "it came back");
    });
}

#[test]
fn a_disk_that_is_rolled_back_is_what_was_durable_then() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 100]).await;
        write(&env, FILE, 0, vec![1; 10], false).await;
        let image = node.disk().image();
        write(&env, FILE, 0, vec![1; 10], true).await;
        env.disk.remove(Path::new(FILE)).await.expect("remove");
        write(&env, SEGMENT, 0, vec![1; 10], true).await;
        env.disk.sync_dir(Path::new("/data")).await.expect("sync");
        node.disk().restore(&image);
        let env = node.start();
        let expected = [(FILE.into(), Bytes::from(vec![0; 100]))];
        assert_eq!(node.disk().files(), expected);
        write(&env, SEGMENT, 0, vec![2; 10], true).await;
        assert_eq!(node.disk().files().len(), 2);
    });
}

#[test]
fn the_power_goes_at_the_change_that_was_named_and_nothing_happens_after_it() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..60 {
        let run = simulate(seed, |world| async move {
            let (node, env) = node_with(world, FILE, vec![0; 10]).await;
            let disk = node.disk();
            disk.set_options(without_garbage());
            // Two files' creations, a write and a sync come before.
            disk.power_loss_at(5);
            let inner = env.clone();
            let task = env.spawn("writer", async move {
                write(&inner, "/data/a", 0, vec![1; 10], true).await;
                write(&inner, "/data/b", 0, vec![1; 10], false).await;
                panic!("the power was to go at that write");
            });
            let patience = Duration::from_secs(10);
            let out = env.timeout(patience, disk.power_out()).await;
            out.expect("the power goes");
            let late = env.disk.rename(Path::new(FILE), Path::new("/data/c"));
            env.timeout(patience, late).await.expect_err("it answered");
            assert!(disk.read(Path::new(FILE)).is_some(), "and had its effect");
            node.lose_power();
            assert!(!disk.is_power_out());
            task.join().await;
            let env = node.start();
            assert_eq!(read(&env, FILE).await, Some(vec![0; 10].into()));
            let (a, b) = (read(&env, "/data/a").await, read(&env, "/data/b").await);
            write(&env, FILE, 0, vec![1; 10], true).await;
            (a.map(|all| all.to_vec()), b.map(|all| all.to_vec()))
        });
        outcomes.insert(run.value);
    }
    let (one, none) = (Some(vec![1; 10]), Some(Vec::new()));
    for (a, b) in &outcomes {
        assert!(a.is_none() || *a == one, "synced before: {a:?}");
        let zeros = Some(vec![0; 10]);
        assert!(b.is_none() || [&one, &none, &zeros].contains(&b), "{b:?}");
    }
    assert!(outcomes.contains(&(one.clone(), one.clone())), "never kept");
    assert!(outcomes.contains(&(one, none)), "never dropped");
}

#[test]
fn a_sync_at_which_the_power_goes_promises_nothing() {
    let mut kept = BTreeSet::new();
    for seed in 0..40 {
        let run = simulate(seed, |world| async move {
            let (node, env) = node_with(world, FILE, vec![0; 10]).await;
            let file = open(&env, FILE).await;
            file.write_at(0, ones(10)).await.expect("write");
            node.disk().power_loss_at(1);
            let sync = env.timeout(Duration::from_secs(1), file.sync()).await;
            sync.expect_err("it answered");
            // Without the loss of power that goes with it, the start makes up for it.
            let env = node.start();
            read(&env, FILE).await.expect("durable")[0]
        });
        kept.insert(run.value);
    }
    assert!(kept.contains(&0) && kept.contains(&1), "{kept:?}");
}

#[test]
fn healing_takes_back_what_was_armed() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 10]).await;
        let disk = node.disk();
        disk.fail_syncs(FileKind::Any, 1, SyncFailure::Revert);
        disk.fail_writes(FileKind::Any, 1);
        disk.fail_reads(FileKind::Any, 1);
        disk.misdirect(FileKind::Any);
        disk.lose_write(FileKind::Any);
        disk.set_full(true);
        disk.slow(100_000);
        disk.stall(true);
        disk.power_loss_at(3);
        disk.heal();
        let began = env.now();
        write(&env, FILE, 0, vec![1; 20], true).await;
        write(&env, "/data/new", 0, vec![1; 20], true).await;
        assert_eq!(read(&env, FILE).await, Some(vec![1; 20].into()));
        assert!(env.now().since(began) < Duration::from_secs(1));
        node.kill();
        let env = node.start();
        assert_eq!(read(&env, FILE).await, Some(vec![1; 20].into()));
        assert!(disk.damaged().is_empty());
    });
}

#[test]
fn a_disk_that_is_lost_stays_lost_when_all_is_healed() {
    simulate(1, |world| async move {
        let (node, env) = node_with(world, FILE, vec![0; 10]).await;
        node.disk().lose_all();
        node.disk().heal();
        assert!(read(&env, FILE).await.is_some(), "until the next start");
        node.kill();
        assert_eq!(read(&node.start(), FILE).await, None);
    });
}

#[test]
fn garbage_is_only_within_what_was_not_synced() {
    let mut garbage = 0;
    for seed in 0..30 {
        let run = simulate(seed, |world| async move {
            let (node, env) = node_with(world, FILE, vec![1; 1000]).await;
            let mut options = without_garbage();
            options.crash.garbage_percent = 100;
            options.crash.drop_percent = 0;
            options.crash.tear_percent = 100;
            node.disk().set_options(options);
            write(&env, FILE, 200, vec![2; 600], false).await;
            node.lose_power();
            let all = read(&node.start(), FILE).await.expect("durable");
            assert_eq!(all.len(), 1000);
            assert!(all[..200].iter().chain(&all[800..]).all(|byte| *byte == 1));
            all[200..800].iter().filter(|byte| **byte > 2).count()
        });
        garbage += run.value;
    }
    assert!(garbage > 1000, "{garbage} bytes of garbage");
}

#[test]
fn a_rename_survives_in_both_directories_or_in_neither() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..40 {
        let run = simulate(seed, |world| async move {
            let (node, env) = node_with(world, FILE, vec![1; 10]).await;
            let below = Path::new("/data/below");
            env.disk.create_dir(below).await.expect("mkdir");
            env.disk.sync_dir(Path::new("/data")).await.expect("sync");
            let to = Path::new("/data/below/file");
            env.disk.rename(Path::new(FILE), to).await.expect("rename");
            node.lose_power();
            let disk = node.disk();
            (
                disk.read(Path::new(FILE)).is_some(),
                disk.read(to).is_some(),
            )
        });
        outcomes.insert(run.value);
    }
    assert_eq!(outcomes, BTreeSet::from([(true, false), (false, true)]));
}

#[test]
fn no_call_of_a_dead_process_touches_the_disk() {
    for seed in 0..20 {
        simulate(seed, |world| async move {
            let (node, env) = node_with(world, FILE, vec![0; 10]).await;
            let (disk, path) = (node.disk(), Path::new(FILE));
            let file = open(&env, FILE).await;
            file.write_at(0, ones(1)).await.expect("write");
            let early = file.sync();
            let early_dir = env.disk.sync_dir(Path::new("/data"));
            node.kill();
            let next = node.start();
            // Called before the end, looked at after it.
            assert!(early.await.is_err() && early_dir.await.is_err());
            let before = disk.files();
            assert_eq!(disk.durable(path), Some(vec![0; 10].into()));
            // Called after it.
            let (a, b) = (Path::new("/data/a"), Path::new("/data/b"));
            assert!(file.write_at(0, ones(5)).await.is_err());
            assert!(file.truncate(0).await.is_err());
            assert!(file.sync().await.is_err());
            assert!(file.len().await.is_err());
            assert!(file.read_at(0, 1).await.is_err());
            assert!(env.disk.open(a, OpenMode::Create).await.is_err());
            assert!(env.disk.create_dir(a).await.is_err());
            assert!(env.disk.rename(path, b).await.is_err());
            assert!(env.disk.remove(path).await.is_err());
            assert!(env.disk.remove_dir(Path::new("/data")).await.is_err());
            assert!(env.disk.sync_dir(Path::new("/data")).await.is_err());
            assert!(env.disk.list(Path::new("/data")).await.is_err());
            assert!(env.disk.lock(a).await.is_err());
            assert!(env.disk.space(Path::new("/data")).await.is_err());
            drop(file);
            next.sleep(Duration::from_secs(1)).await;
            assert_eq!(disk.files(), before);
            assert_eq!(disk.durable(path), Some(vec![0; 10].into()));
        });
    }
}
