//! What a power loss and a kill leave on a disk.

mod faults;
mod model;

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use klamm::env::{Env, OpenMode};
use klamm_sim::plan::{CrashOptions, DiskOptions};
use klamm_sim::{SimNode, simulate};

const SEEDS: std::ops::Range<u64> = 0..60;
const FILE: &str = "/data/file";

async fn node_with_dir(world: klamm_sim::SimWorld) -> (SimNode, Env) {
    let node = world.node("node");
    let env = node.start();
    env.disk
        .create_dir(Path::new("/data"))
        .await
        .expect("mkdir");
    env.disk.sync_dir(Path::new("/")).await.expect("sync_dir");
    (node, env)
}

/// Losses of power that leave no garbage.
fn without_garbage() -> DiskOptions {
    let crash = CrashOptions {
        garbage_percent: 0,
        ..CrashOptions::default()
    };
    DiskOptions {
        crash,
        ..DiskOptions::default()
    }
}

async fn write(env: &Env, path: &str, pos: u64, bytes: Vec<u8>, sync: bool) {
    let file = env.disk.open(Path::new(path), OpenMode::Create).await;
    let file = file.expect("open");
    let written = file.write_at(pos, vec![Bytes::from(bytes)]).await;
    written.expect("write");
    if sync {
        file.sync().await.expect("sync");
    }
}

/// The bytes at `path`; none when it does not exist.
async fn read(env: &Env, path: &str) -> Option<Bytes> {
    let file = env.disk.open(Path::new(path), OpenMode::Read).await.ok()?;
    let len = file.len().await.expect("len");
    let len = usize::try_from(len).expect("small");
    Some(file.read_at(0, len).await.expect("read"))
}

#[test]
fn what_was_synced_survives_a_power_loss_and_the_rest_is_lost_in_parts() {
    let mut tails = BTreeSet::new();
    for seed in SEEDS {
        let run = simulate(seed, |world| async move {
            let (node, env) = node_with_dir(world).await;
            node.disk().set_options(without_garbage());
            write(&env, FILE, 0, vec![1; 3000], true).await;
            env.disk.sync_dir(Path::new("/data")).await.expect("sync");
            write(&env, FILE, 3000, vec![2; 1500], false).await;
            node.lose_power();
            read(&node.start(), FILE).await
        });
        let content = run.value.expect("a synced file in a synced directory");
        assert!(content.len() >= 3000, "seed {seed}: lost synced bytes");
        assert_eq!(content[..3000], vec![1; 3000], "seed {seed}");
        let tail = &content[3000..];
        assert!(tail.iter().all(|byte| [0, 2].contains(byte)), "seed {seed}");
        // Sectors begin at multiples of 512 of the file, whatever the write's offset.
        for sector in [
            &tail[..tail.len().min(72)],
            tail.get(72..584).unwrap_or(&[]),
        ] {
            assert!(
                sector.windows(2).all(|pair| pair[0] == pair[1]),
                "seed {seed}"
            );
        }
        tails.insert(tail.to_vec());
    }
    assert!(tails.contains(&vec![]), "never lost whole");
    assert!(tails.contains(&vec![2; 1500]), "never kept whole");
    assert!(tails.len() > 5, "only {} outcomes", tails.len());
}

#[test]
fn a_new_file_is_sure_to_be_found_only_after_its_directory_was_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in SEEDS {
        let sync_dir = seed % 2 == 0;
        let run = simulate(seed, move |world| async move {
            let (node, env) = node_with_dir(world).await;
            write(&env, FILE, 0, vec![1; 10], true).await;
            if sync_dir {
                env.disk.sync_dir(Path::new("/data")).await.expect("sync");
            }
            node.lose_power();
            read(&node.start(), FILE).await
        });
        let found = run.value;
        assert!(found.as_ref().is_none_or(|content| content[..] == [1; 10]));
        outcomes.insert((sync_dir, found.is_some()));
    }
    let expected = BTreeSet::from([(true, true), (false, true), (false, false)]);
    assert_eq!(outcomes, expected);
}

#[test]
fn a_rename_over_a_file_leaves_the_old_or_the_new_one_whole() {
    let mut outcomes = BTreeSet::new();
    for seed in SEEDS {
        let run = simulate(seed, |world| async move {
            let (node, env) = node_with_dir(world).await;
            write(&env, FILE, 0, b"old".to_vec(), true).await;
            env.disk.sync_dir(Path::new("/data")).await.expect("sync");
            write(&env, "/data/new", 0, b"new".to_vec(), true).await;
            let (from, to) = (Path::new("/data/new"), Path::new(FILE));
            env.disk.rename(from, to).await.expect("rename");
            node.lose_power();
            read(&node.start(), FILE).await
        });
        outcomes.insert(run.value.expect("one of them"));
    }
    let expected = [Bytes::from_static(b"new"), Bytes::from_static(b"old")];
    assert_eq!(outcomes, BTreeSet::from(expected));
}

#[test]
fn a_sync_that_had_not_answered_promises_nothing() {
    let mut lost = 0;
    for seed in SEEDS {
        let run = simulate(seed, |world| async move {
            let (node, env) = node_with_dir(world).await;
            write(&env, FILE, 0, vec![1; 100], true).await;
            env.disk.sync_dir(Path::new("/data")).await.expect("sync");
            let path = Path::new(FILE);
            let file = env.disk.open(path, OpenMode::Existing).await.expect("open");
            drop(file.write_at(0, vec![Bytes::from(vec![2; 100])]));
            let sync = file.sync();
            node.lose_power();
            assert!(sync.await.is_err(), "a sync outlived its process");
            read(&node.start(), FILE).await
        });
        lost += u64::from(run.value.is_some_and(|content| content[0] == 1));
    }
    assert!(lost > 0, "every unanswered sync took effect");
}

#[test]
fn a_kill_keeps_what_was_written_and_lets_go_of_locks() {
    for seed in SEEDS {
        simulate(seed, |world| async move {
            let (node, env) = node_with_dir(world).await;
            let lock = Path::new("/data/.lock");
            let held = env.disk.lock(lock).await.expect("lock");
            write(&env, FILE, 0, vec![1; 1000], false).await;
            node.kill();
            let late = env.disk.list(Path::new("/data")).await;
            assert!(late.is_err(), "a dead process used its disk");
            let env = node.start();
            assert_eq!(read(&env, FILE).await, Some(vec![1; 1000].into()));
            let _again = env.disk.lock(lock).await.expect("lock again");
            drop(held);
            let third = env.disk.lock(lock).await;
            assert!(third.is_err(), "the dead process's guard freed the lock");
        });
    }
}
