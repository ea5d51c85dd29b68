//! The files of a node: restarts, kills at every step, torn writes, damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::Oneshot as _;
use openraft::storage::{IOFlushed, RaftLogStorage as _};

use super::harness::{config, memory_env, peer, run};
use crate::controller::local::LocalQuorum;
use crate::controller::local::memory_disk::MemoryDisk;
use crate::controller::raft::channel::EnvOneshot;
use crate::controller::raft::codec::log_id;
use crate::controller::raft::kept::Kept;
use crate::controller::raft::log_file::{Owner, PAGE_BYTES};
use crate::controller::raft::opening;
use crate::controller::raft::snapshot::{KeptSnapshot, SnapshotFiles};
use crate::controller::raft::store::LogStore;
use crate::controller::raft::types::{
    Batch, Entry, Membership, Payload, SnapshotMeta, StoredMembership, Vote,
};
use crate::env::{Disk as _, Env};
use crate::types::{BrokerId, Uuid};

const DIRECTORY: &str = "/data/__cluster_metadata-0";
const FIRST: &str = "1.raft";

fn owner() -> Owner {
    Owner {
        node: BrokerId(1),
        directory_id: Uuid([3; 16]),
    }
}

fn vote(term: u64) -> Vote {
    Vote::new(term, BrokerId(2))
}

fn entry(term: u64, index: u64) -> Entry {
    let payload = match index % 3 {
        0 => Payload::Blank,
        1 => Payload::Normal(Batch::encode(&[config(usize::try_from(index).unwrap())]).unwrap()),
        _ => Payload::Membership(membership()),
    };
    Entry {
        log_id: log_id(term, index),
        payload,
    }
}

fn membership() -> Membership {
    let nodes: std::collections::BTreeMap<_, _> =
        (1..=3).map(|id| (BrokerId(id), peer(id))).collect();
    Membership::from(nodes)
}

fn snapshot(term: u64, index: u64) -> KeptSnapshot {
    KeptSnapshot {
        meta: SnapshotMeta {
            last_log_id: Some(log_id(term, index)),
            last_membership: StoredMembership::new(Some(log_id(term, 2)), membership()),
        },
        records: Batch::encode(&[config(1)]).unwrap().0,
    }
}

/// What is done to a store.
#[derive(Clone, Debug)]
enum Step {
    Vote(u64),
    Append(u64, u64),
    Truncate(u64),
    Snapshot(u64, u64),
    Purge(u64, u64),
}

fn steps() -> Vec<Step> {
    use Step::{Append, Purge, Snapshot, Truncate, Vote};
    vec![
        Vote(1),
        Append(1, 0),
        Append(1, 1),
        Append(1, 2),
        Vote(2),
        Truncate(2),
        Append(2, 2),
        Append(2, 3),
        Snapshot(1, 1),
        Purge(1, 1),
        Append(2, 4),
        Vote(5),
        Append(5, 5),
        Snapshot(2, 3),
        Purge(2, 3),
        Append(5, 6),
    ]
}

fn model(kept: &mut Kept, step: &Step) {
    match step {
        Step::Vote(term) => kept.vote = Some(vote(*term)),
        Step::Append(term, index) => kept.append(entry(*term, *index)).unwrap(),
        Step::Truncate(from) => kept.truncate(*from),
        Step::Snapshot(..) => {}
        Step::Purge(term, index) => kept.purge(log_id(*term, *index)),
    }
}

async fn carry_out(
    env: &Env,
    store: &mut LogStore,
    before: &mut Option<KeptSnapshot>,
    step: &Step,
) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    match step {
        Step::Vote(term) => store.save_vote(&vote(*term)).await.map_err(text),
        Step::Append(term, index) => {
            let (done, outcome) = EnvOneshot::channel();
            let callback = IOFlushed::signal(done);
            let appended = store.append([entry(*term, *index)], callback).await;
            appended.map_err(text)?;
            outcome
                .await
                .map_err(|error| error.to_string())?
                .map_err(text)
        }
        Step::Truncate(from) => {
            let last = store.kept().entries[&(from - 1)].log_id;
            store.truncate_after(Some(last)).await.map_err(text)
        }
        Step::Snapshot(term, index) => {
            let files = SnapshotFiles {
                disk: env.disk.clone(),
                directory: PathBuf::from(DIRECTORY),
            };
            let made = snapshot(*term, *index);
            let end = before.as_ref().map(KeptSnapshot::end);
            files
                .write(&made, end)
                .await
                .map_err(|error| error.to_string())?;
            *before = Some(made);
            Ok(())
        }
        Step::Purge(term, index) => store.purge(log_id(*term, *index)).await.map_err(text),
    }
}

/// Opens and carries steps out until the disk stops: how many, and the disk operations used.
async fn history(disk: &MemoryDisk, stop: Option<usize>) -> (usize, usize) {
    disk.stop_after(stop);
    let env = Arc::new(memory_env(disk));
    let mut done = 0;
    if let Ok(opened) = opening::open(&env, Path::new(DIRECTORY), owner()).await {
        let mut before = opened.snapshot;
        let mut store = LogStore::start(&env, opened.kept, opened.writer);
        for step in steps() {
            if carry_out(&env, &mut store, &mut before, &step)
                .await
                .is_err()
            {
                break;
            }
            done += 1;
        }
        drop(store);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (done, disk.changes())
}

async fn reopened(disk: &MemoryDisk) -> Result<(Kept, Option<KeptSnapshot>), String> {
    let env = Arc::new(memory_env(disk));
    let opened = opening::open(&env, Path::new(DIRECTORY), owner()).await;
    let opened = opened.map_err(|error| error.to_string())?;
    Ok((opened.kept, opened.snapshot))
}

/// What of `kept` is not in a snapshot up to `purged`.
fn beyond(kept: &Kept, purged: &Kept) -> (Option<Vote>, Vec<Entry>) {
    let from = purged.purged.map_or(0, |purged| purged.index + 1);
    let entries = kept.entries.range(from..).map(|(_, entry)| entry.clone());
    (kept.vote, entries.collect())
}

/// Stops the process after every possible number of disk operations.
#[test]
fn a_process_killed_at_any_step_keeps_what_it_answered() {
    run(async {
        let total = history(&MemoryDisk::default(), None).await.1;
        assert!(total > 50, "{total}");
        for stop in 0..total {
            let disk = MemoryDisk::default();
            let (done, _) = history(&disk, Some(stop)).await;
            disk.stop_after(None);
            let (kept, snapshot) = reopened(&disk).await.unwrap();
            let mut expected = Kept::default();
            steps()[..done]
                .iter()
                .for_each(|step| model(&mut expected, step));
            let answered = beyond(&kept, &expected) == beyond(&expected, &expected);
            let mut next = expected.clone();
            steps()[done..]
                .iter()
                .take(1)
                .for_each(|step| model(&mut next, step));
            let under_way = beyond(&kept, &next) == beyond(&next, &next);
            assert!(
                answered || under_way,
                "stopped at {stop}, after {done} steps: {kept:?}"
            );
            let purged = kept.purged.map(|purged| purged.index);
            let covered = snapshot.and_then(|snapshot| snapshot.meta.last_log_id);
            assert!(
                covered.map(|covered| covered.index) >= purged,
                "stopped at {stop}"
            );
            let unfinished = |name: &String| name.ends_with(".new");
            assert!(!disk.names().iter().any(unfinished), "stopped at {stop}");
            assert_eq!(reopened(&disk).await.unwrap().0, kept);
        }
    });
}

/// A store with a few entries, at rest.
async fn at_rest(disk: &MemoryDisk) -> Kept {
    let env = Arc::new(memory_env(disk));
    let opened = opening::open(&env, Path::new(DIRECTORY), owner())
        .await
        .unwrap();
    let mut store = LogStore::start(&env, opened.kept, opened.writer);
    for step in &steps()[..8] {
        carry_out(&env, &mut store, &mut None, step).await.unwrap();
    }
    store.save_committed(Some(log_id(2, 2))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    store.kept().clone()
}

#[test]
fn a_node_at_rest_finds_everything_and_writes_nothing() {
    run(async {
        let disk = MemoryDisk::default();
        let kept = at_rest(&disk).await;
        let changes = disk.changes();
        let (found, _) = reopened(&disk).await.unwrap();
        assert_eq!(found, kept);
        assert_eq!(found.committed, Some(log_id(2, 2)));
        assert_eq!(disk.changes(), changes);
    });
}

#[test]
fn damage_is_refused_and_changes_nothing() {
    run(async {
        let disk = MemoryDisk::default();
        at_rest(&disk).await;
        let mut whole = Vec::new();
        disk.edit(FIRST, |bytes| whole.clone_from(bytes));
        let cut: Vec<u8> = whole[..whole.len() - 1].to_vec();
        let damaged = |at: usize| {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            damaged
        };
        let mut both_slots = damaged(512);
        both_slots[1024] ^= 1;
        let frames = (PAGE_BYTES..whole.len()).map(damaged);
        let identity = (0..44).map(damaged);
        for content in frames.chain(identity).chain([cut, both_slots, Vec::new()]) {
            disk.edit(FIRST, |bytes| bytes.clone_from(&content));
            let Err(error) = reopened(&disk).await else {
                panic!("damage is not noticed");
            };
            assert!(
                error.contains("damaged") && error.contains(FIRST),
                "{error}"
            );
            disk.edit(FIRST, |bytes| assert_eq!(*bytes, content));
        }
    });
}

#[test]
fn a_torn_last_write_is_cut_off() {
    run(async {
        let disk = MemoryDisk::default();
        let env = Arc::new(memory_env(&disk));
        let opened = opening::open(&env, Path::new(DIRECTORY), owner())
            .await
            .unwrap();
        let mut store = LogStore::start(&env, opened.kept, opened.writer);
        for step in &steps()[..3] {
            carry_out(&env, &mut store, &mut None, step).await.unwrap();
        }
        let kept = store.kept().clone();
        let (mut before, mut whole) = (Vec::new(), Vec::new());
        disk.edit(FIRST, |bytes| before.clone_from(bytes));
        carry_out(&env, &mut store, &mut None, &steps()[3])
            .await
            .unwrap();
        disk.edit(FIRST, |bytes| whole.clone_from(bytes));
        drop(store);
        for length in before.len()..whole.len() {
            for zeroed in [false, true] {
                let torn = MemoryDisk::default();
                torn.create_dir(Path::new(DIRECTORY)).await.unwrap();
                let path = Path::new(DIRECTORY).join("00000000000000000001.raft");
                let file = torn
                    .open(&path, crate::env::OpenMode::Create)
                    .await
                    .unwrap();
                let mut content = whole.clone();
                match zeroed {
                    true => content[length..].fill(0),
                    false => content.truncate(length),
                }
                content[..PAGE_BYTES].copy_from_slice(&before[..PAGE_BYTES]);
                file.write_at(0, vec![content.into()]).await.unwrap();
                let (found, _) = reopened(&torn).await.unwrap();
                assert_eq!(found, kept, "{length} bytes kept");
            }
        }
    });
}

#[test]
fn a_damaged_or_lost_snapshot_is_refused() {
    run(async {
        let disk = MemoryDisk::default();
        history(&disk, None).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let (_, found) = reopened(&disk).await.unwrap();
        assert_eq!(found.unwrap().meta, snapshot(2, 3).meta);
        let mut whole = Vec::new();
        disk.edit(".snapshot", |bytes| whole.clone_from(bytes));
        for at in 0..whole.len() {
            disk.edit(".snapshot", |bytes| {
                bytes.clone_from(&whole);
                bytes[at] ^= 1;
            });
            assert!(reopened(&disk).await.is_err(), "byte {at}");
        }
        disk.edit(".snapshot", Vec::clear);
        assert!(reopened(&disk).await.is_err());
        disk.forget(".snapshot");
        let Err(error) = reopened(&disk).await else {
            panic!("the gap is not noticed");
        };
        assert!(error.contains("missing"), "{error}");
    });
}

#[test]
fn what_was_ever_there_is_never_begun_anew() {
    run(async {
        let disk = MemoryDisk::default();
        history(&disk, None).await;
        disk.forget(".raft");
        assert!(
            reopened(&disk)
                .await
                .unwrap_err()
                .contains("log is missing")
        );

        let disk = MemoryDisk::default();
        disk.create_dir(Path::new("/data/orders-0")).await.unwrap();
        assert!(reopened(&disk).await.unwrap_err().contains("orders-0"));

        let disk = MemoryDisk::default();
        at_rest(&disk).await;
        let env = Arc::new(memory_env(&disk));
        let other = Owner {
            directory_id: Uuid([4; 16]),
            ..owner()
        };
        let opened = opening::open(&env, Path::new(DIRECTORY), other).await;
        assert!(
            opened
                .err()
                .unwrap()
                .to_string()
                .contains("not that of node 1")
        );

        let disk = MemoryDisk::default();
        let dirs = [PathBuf::from("/data")];
        let open = LocalQuorum::open(Arc::new(disk.clone()), &dirs, BrokerId(1), 100).await;
        drop(open.unwrap());
        assert!(reopened(&disk).await.unwrap_err().contains("by itself"));
    });
}

#[test]
fn nothing_is_written_after_a_failure() {
    run(async {
        let disk = MemoryDisk::default();
        let env = Arc::new(memory_env(&disk));
        let opened = opening::open(&env, Path::new(DIRECTORY), owner())
            .await
            .unwrap();
        let mut store = LogStore::start(&env, opened.kept, opened.writer);
        store.save_vote(&vote(1)).await.unwrap();
        disk.stop_after(Some(1));
        assert!(store.save_vote(&vote(2)).await.is_err());
        disk.stop_after(None);
        let changes = disk.changes();
        assert!(store.save_vote(&vote(3)).await.is_err());
        tokio::time::sleep(Duration::from_millis(120)).await;
        assert_eq!(disk.changes(), changes);
    });
}

#[test]
fn a_log_that_cannot_be_shortened_for_lack_of_room_is_written_on() {
    run(async {
        let disk = MemoryDisk::default();
        let env = Arc::new(memory_env(&disk));
        let opened = opening::open(&env, Path::new(DIRECTORY), owner())
            .await
            .unwrap();
        let mut store = LogStore::start(&env, opened.kept, opened.writer);
        for index in 0..4 {
            let step = Step::Append(1, index);
            carry_out(&env, &mut store, &mut None, &step).await.unwrap();
        }
        disk.fill(true);
        store.purge(log_id(1, 1)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        disk.fill(false);
        store.save_vote(&vote(7)).await.unwrap();
        drop(store);
        tokio::time::sleep(Duration::from_millis(120)).await;
        let (kept, _) = reopened(&disk).await.unwrap();
        assert_eq!(kept.vote, Some(vote(7)));
        assert_eq!(kept.last(), Some(log_id(1, 3)));
    });
}
