//! Random calls and losses of power against a model that says what may be left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use klamm::env::{Env, File, OpenMode, Rng};
use klamm_sim::plan::{CrashOptions, DiskOptions};
use klamm_sim::{SimNode, SimWorld, simulate};

use super::without_garbage;

const FILES: u64 = 3;
const ROUNDS: u32 = 8;

/// What a file may hold: its bytes when it was last synced, and what was done since.
#[derive(Default)]
struct Model {
    synced: Vec<u8>,
    seen: Vec<u8>,
    since: Vec<Change>,
}

enum Change {
    Write { pos: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Model {
    fn apply(&mut self, change: Change) {
        match &change {
            Change::Write { pos, bytes } => {
                let end = pos + bytes.len();
                if self.seen.len() < end {
                    self.seen.resize(end, 0);
                }
                self.seen[*pos..end].copy_from_slice(bytes);
            }
            Change::Truncate(len) => self.seen.resize(*len, 0),
        }
        self.since.push(change);
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.seen);
        self.since.clear();
    }

    /// Panics unless `found` is something a loss of power may leave.
    fn check(&self, found: &[u8]) {
        if self.since.is_empty() {
            assert_eq!(found, self.synced, "nothing was done since the sync");
            return;
        }
        let cut = self.since.iter().filter_map(|change| match change {
            Change::Truncate(len) => Some(*len),
            Change::Write { .. } => None,
        });
        let sure = cut.fold(self.synced.len(), usize::min);
        assert!(found.len() >= sure, "{} of {sure} bytes", found.len());
        for (at, byte) in found.iter().enumerate() {
            let untouched = at < sure;
            let mut allowed = BTreeSet::from([self.synced.get(at).copied().unwrap_or(0)]);
            if !untouched {
                allowed.insert(0);
            }
            for change in &self.since {
                if let Change::Write { pos, bytes } = change
                    && (*pos..pos + bytes.len()).contains(&at)
                {
                    allowed.insert(bytes[at - pos]);
                }
            }
            assert!(allowed.contains(byte), "byte {at} is {byte}: {allowed:?}");
        }
        // A file's length is that of some change or of the sync.
        let ends = self.since.iter().map(|change| match change {
            Change::Write { pos, bytes } => pos + bytes.len(),
            Change::Truncate(len) => *len,
        });
        let sectors = found.len().is_multiple_of(512);
        let known = ends
            .chain([self.synced.len()])
            .any(|end| end == found.len());
        assert!(known || sectors, "a length of {}", found.len());
    }
}

async fn open(env: &Env, number: u64) -> Arc<dyn File> {
    let path = format!("/data/{number}");
    let opened = env.disk.open(Path::new(&path), OpenMode::Create).await;
    opened.expect("open")
}

/// Does some calls on a file, some of them not awaited. The model is told.
async fn disturb(file: &dyn File, model: &mut Model, rng: &mut Rng) {
    for _ in 0..=rng.below(12) {
        let len = model.seen.len() as u64;
        match rng.below(8) {
            0..=4 => {
                let pos = if rng.below(2) == 0 {
                    len
                } else {
                    rng.below(len + 600)
                };
                let byte = u8::try_from(rng.below(255)).expect("small") + 1;
                let count = 1 + rng.below(if rng.below(3) == 0 { 3000 } else { 300 });
                let bytes = vec![byte; usize::try_from(count).expect("small")];
                let write = file.write_at(pos, vec![Bytes::from(bytes.clone())]);
                if rng.below(2) == 0 {
                    write.await.expect("write");
                }
                let pos = usize::try_from(pos).expect("small");
                model.apply(Change::Write { pos, bytes });
            }
            5 => {
                let to = rng.below(len + 100);
                drop(file.truncate(to));
                model.apply(Change::Truncate(usize::try_from(to).expect("small")));
            }
            6 => {
                file.sync().await.expect("sync");
                model.sync();
            }
            // One that nobody waits for promises nothing.
            _ => drop(file.sync()),
        }
        let seen = file.read_at(0, 1 << 20).await.expect("read");
        assert_eq!(seen, model.seen, "what readers see");
    }
}

/// How often a loss of power left everything, and how often not.
async fn rounds(world: SimWorld, seed: u64, options: DiskOptions) -> (u32, u32) {
    let mut rng = Rng::derived([7; 32], "model", seed);
    let node = world.node("node");
    node.disk().set_options(options);
    let mut models: BTreeMap<u64, Model> = BTreeMap::new();
    let (mut whole, mut less) = (0, 0);
    let mut env = node.start();
    let dir = Path::new("/data");
    env.disk.create_dir(dir).await.expect("mkdir");
    env.disk.sync_dir(Path::new("/")).await.expect("sync_dir");
    for number in 0..FILES {
        drop(open(&env, number).await);
        models.insert(number, Model::default());
    }
    env.disk.sync_dir(dir).await.expect("sync_dir");
    for _ in 0..ROUNDS {
        for (number, model) in &mut models {
            let file = open(&env, *number).await;
            disturb(&*file, model, &mut rng).await;
        }
        if rng.below(3) == 0 {
            node.kill();
            env = node.start();
        }
        node.lose_power();
        env = node.start();
        for (number, model) in &mut models {
            let file = open(&env, *number).await;
            let found = file.read_at(0, 1 << 20).await.expect("read");
            model.check(&found);
            *(if found == model.seen {
                &mut whole
            } else {
                &mut less
            }) += 1;
            model.seen = found.to_vec();
            model.sync();
        }
    }
    (whole, less)
}

#[test]
fn what_was_synced_is_exactly_there_and_the_rest_in_one_of_the_allowed_states() {
    let (mut whole, mut less) = (0, 0);
    for seed in 0..60 {
        let run = simulate(seed, move |world| rounds(world, seed, without_garbage()));
        whole += run.value.0;
        less += run.value.1;
    }
    assert!(whole > 100 && less > 100, "{whole} whole, {less} not");
}

/// All files by path: the whole of what processes see.
type Picture = BTreeMap<PathBuf, Bytes>;

fn picture(node: &SimNode) -> Picture {
    node.disk().files().into_iter().collect()
}

/// One random change; `true` when it made everything before it durable.
async fn change(env: &Env, rng: &mut Rng) -> bool {
    let path = |number: u64| PathBuf::from(format!("/data/{number}"));
    let (one, other) = (path(rng.below(4)), path(rng.below(4)));
    match rng.below(10) {
        0 => {
            let _ = env.disk.rename(&one, &other).await;
        }
        1 => {
            let _ = env.disk.remove(&one).await;
        }
        2 => {
            let dir = env.disk.sync_dir(Path::new("/data"));
            dir.await.expect("sync_dir");
        }
        what => {
            let opened = env.disk.open(&one, OpenMode::Create).await;
            let file = opened.expect("open");
            if what == 3 {
                file.sync().await.expect("sync");
                return true;
            }
            let byte = u8::try_from(rng.below(256)).expect("small");
            let pos = rng.below(900);
            let bytes = vec![Bytes::from(vec![byte; 700])];
            file.write_at(pos, bytes).await.expect("write");
        }
    }
    false
}

#[test]
fn in_order_a_loss_of_power_leaves_the_disk_as_it_was_at_an_earlier_moment() {
    let mut ages = BTreeSet::new();
    for seed in 0..80 {
        let run = simulate(seed, move |world| async move {
            let mut rng = Rng::derived([8; 32], "order", seed);
            let node = world.node("node");
            node.disk().set_options(DiskOptions {
                crash: CrashOptions {
                    tear_percent: 0,
                    in_order: true,
                    ..CrashOptions::default()
                },
                ..DiskOptions::default()
            });
            let mut env = node.start();
            let mut ages = Vec::new();
            for _ in 0..4 {
                env.disk
                    .create_dir(Path::new("/data"))
                    .await
                    .expect("mkdir");
                env.disk.sync_dir(Path::new("/")).await.expect("sync_dir");
                let mut pictures = vec![picture(&node)];
                for _ in 0..=rng.below(25) {
                    let before = pictures.last().cloned().expect("one");
                    change(&env, &mut rng).await;
                    // A file that was made for the write was empty first.
                    let after = picture(&node);
                    for (path, _) in after.iter().filter(|(path, _)| !before.contains_key(*path)) {
                        let mut between = before.clone();
                        between.insert(path.clone(), Bytes::new());
                        pictures.push(between);
                    }
                    pictures.push(after);
                }
                node.lose_power();
                let left = picture(&node);
                let at = pictures.iter().rposition(|picture| *picture == left);
                ages.push(pictures.len() - at.expect("a moment that was"));
                env = node.start();
            }
            ages
        });
        ages.extend(run.value);
    }
    assert!(ages.len() > 8, "always the same moments: {ages:?}");
}

#[test]
fn what_a_disk_was_told_to_keep_is_kept_in_order_too() {
    for seed in 0..40 {
        simulate(seed, move |world| async move {
            let node = world.node("node");
            let mut options = without_garbage();
            options.crash.in_order = true;
            node.disk().set_options(options);
            let result = rounds(world, seed, options).await;
            assert!(result.0 + result.1 > 0);
        });
    }
}
