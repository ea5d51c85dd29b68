//! A loss of power takes what no sync covered, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::tokio::runtime::Handle;
use bytes::Bytes;

use super::disk::UndoableDisk;
use super::undo::undo;
use crate::env::{Disk, File, OpenMode};

fn disk(root: &Path) -> UndoableDisk {
    let options = crate::env::tokio::Options::default();
    let writers = std::num::NonZeroUsize::MIN;
    let inner =
        crate::env::tokio::disk::FileDisk::start(Handle::current(), writers, options.disk_stats);
    let inner = Arc::new(inner.expect("a disk"));
    UndoableDisk::open(inner, &root.join("undo"), Handle::current()).expect("an account")
}

async fn create(disk: &UndoableDisk, path: &Path) -> Arc<dyn File> {
    disk.open(path, OpenMode::Create).await.expect("a file")
}

async fn write(file: &Arc<dyn File>, pos: u64, bytes: &'static [u8]) {
    let written = file.write_at(pos, vec![Bytes::from_static(bytes)]).await;
    written.expect("a write");
}

/// The root of a test's files, with a directory `d` that is durable.
async fn prepared() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("d");
    let disk = disk(root.path());
    disk.create_dir(&dir).await.expect("a directory");
    disk.sync_dir(root.path()).await.expect("a sync");
    (root, dir)
}

/// Loses power.
fn lose(root: &Path, seed: u64) {
    undo(&root.join("undo"), seed).expect("what was not synced can be undone");
}

#[tokio::test]
async fn what_was_synced_stays_and_what_was_not_may_go() {
    let mut gone = 0;
    for seed in 0..20 {
        let (root, dir) = prepared().await;
        let disk = disk(root.path());
        let path = dir.join("a");
        let file = create(&disk, &path).await;
        write(&file, 0, b"synced").await;
        file.sync().await.expect("a sync");
        disk.sync_dir(&dir).await.expect("a sync");
        write(&file, 6, b" and not").await;
        write(&file, 0, b"S").await;
        lose(root.path(), seed);
        let left = std::fs::read(&path).expect("the file is durable");
        assert!(left.len() >= 6, "{left:?}");
        assert_eq!(&left[1..6], b"ynced");
        gone += u32::from(left == b"synced");
    }
    assert!(gone > 4, "{gone}");
}

#[tokio::test]
async fn a_file_whose_directory_was_not_synced_may_be_gone() {
    let mut gone = 0;
    for seed in 0..20 {
        let (root, dir) = prepared().await;
        let disk = disk(root.path());
        let file = create(&disk, &dir.join("a")).await;
        write(&file, 0, b"synced").await;
        file.sync().await.expect("a sync");
        lose(root.path(), seed);
        gone += u32::from(!dir.join("a").exists());
    }
    assert!(gone > 10, "{gone}");
}

#[tokio::test]
async fn a_removed_and_a_replaced_file_may_be_back() {
    let mut back = 0;
    for seed in 0..20 {
        let (root, dir) = prepared().await;
        let disk = disk(root.path());
        for name in ["old", "new", "other"] {
            let file = create(&disk, &dir.join(name)).await;
            write(&file, 0, name.as_bytes()).await;
            file.sync().await.expect("a sync");
        }
        disk.sync_dir(&dir).await.expect("a sync");
        let (old, new, other) = (dir.join("old"), dir.join("new"), dir.join("other"));
        disk.rename(&new, &old).await.expect("a rename");
        disk.remove(&other).await.expect("a removal");
        lose(root.path(), seed);
        let text = std::fs::read_to_string(&old).expect("one or the other is there");
        assert_eq!(text == "old", new.exists(), "a rename survives whole");
        if other.exists() {
            back += 1;
            assert_eq!(std::fs::read(&other).expect("it is whole"), b"other");
        }
    }
    assert!(back > 10, "{back}");
}

#[tokio::test]
async fn what_an_earlier_life_did_not_sync_is_still_to_lose() {
    let mut gone = 0;
    for seed in 0..10 {
        let (root, dir) = prepared().await;
        let path = dir.join("a");
        let first = disk(root.path());
        let file = create(&first, &path).await;
        first.sync_dir(&dir).await.expect("a sync");
        write(&file, 0, b"never synced").await;
        drop((file, first));
        let second = disk(root.path());
        let file = create(&second, &path).await;
        assert_eq!(file.len().await.expect("a length"), 12);
        drop((file, second));
        lose(root.path(), seed);
        gone += u32::from(std::fs::read(&path).expect("it is durable").is_empty());
    }
    assert!(gone > 2, "{gone}");
}

#[tokio::test]
async fn a_sync_in_a_later_life_covers_what_an_earlier_wrote() {
    let (root, dir) = prepared().await;
    let path = dir.join("a");
    let first = disk(root.path());
    let file = create(&first, &path).await;
    write(&file, 0, b"synced later").await;
    drop((file, first));
    let second = disk(root.path());
    let file = create(&second, &path).await;
    file.sync().await.expect("a sync");
    second.sync_dir(&dir).await.expect("a sync");
    drop((file, second));
    lose(root.path(), 1);
    assert_eq!(
        std::fs::read(&path).expect("it is durable"),
        b"synced later"
    );
}

#[tokio::test]
async fn what_lies_in_a_renamed_directory_is_undone_where_it_is() {
    // Of this seed nothing survives.
    let (root, dir) = prepared().await;
    let disk = disk(root.path());
    let moved = root.path().join("moved");
    let kept = create(&disk, &dir.join("kept")).await;
    kept.sync().await.expect("a sync");
    disk.sync_dir(&dir).await.expect("a sync");
    drop(create(&disk, &dir.join("lost")).await);
    disk.rename(&dir, &moved).await.expect("a rename");
    disk.sync_dir(root.path()).await.expect("a sync");
    lose(root.path(), 1);
    assert!(moved.join("kept").exists());
    assert!(!moved.join("lost").exists());
}

#[tokio::test]
async fn the_next_process_keeps_what_it_removes_beside_what_the_last_one_kept() {
    let (root, dir) = prepared().await;
    let before = disk(root.path());
    for name in ["a", "b"] {
        let file = create(&before, &dir.join(name)).await;
        file.sync().await.expect("a sync");
    }
    before.remove(&dir.join("b")).await.expect("a removal");
    // Killed before it could sync the directory, or even enter what it keeps.
    drop(before);
    let after = disk(root.path());
    after.remove(&dir.join("a")).await.expect("a removal");
    let file = create(&after, &dir.join("c")).await;
    file.sync().await.expect("a sync");
    drop(after);
    std::fs::write(root.path().join("undo").join("k9"), b"not entered").expect("a file");
    let last = disk(root.path());
    for name in ["d", "e", "f", "g"] {
        let file = create(&last, &dir.join(name)).await;
        file.sync().await.expect("a sync");
        last.remove(&dir.join(name)).await.expect("a removal");
    }
}
