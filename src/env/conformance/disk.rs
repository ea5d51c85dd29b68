//! Promises of `Disk`: names, directories, locks.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{fails, ok, soon};
use crate::env::{DirEntry, Env, File, OpenMode};

async fn open(env: &Env, path: &Path, mode: OpenMode) -> Arc<dyn File> {
    ok("open", env.disk.open(path, mode).await)
}

/// Makes a file at `path` that holds `bytes`.
async fn make(env: &Env, path: &Path, bytes: &'static [u8]) -> Arc<dyn File> {
    let file = open(env, path, OpenMode::CreateNew).await;
    let written = file.write_at(0, vec![Bytes::from_static(bytes)]).await;
    ok("write", written);
    file
}

async fn names(env: &Env, dir: &Path) -> Vec<String> {
    let entries = ok("list", env.disk.list(dir).await);
    entries.into_iter().map(|entry| entry.name).collect()
}

pub(super) async fn opening_what_is_missing_is_not_found(env: &Env, dir: &Path) {
    for mode in [OpenMode::Read, OpenMode::Existing] {
        let opened = env.disk.open(&dir.join("missing"), mode).await;
        fails("open", ErrorKind::NotFound, opened);
    }
    let within = env.disk.open(&dir.join("no/file"), OpenMode::Create).await;
    fails("create in a missing directory", ErrorKind::NotFound, within);
    let list = env.disk.list(&dir.join("no")).await;
    fails("list", ErrorKind::NotFound, list);
    assert!(
        names(env, dir).await.is_empty(),
        "a failed open left a file"
    );
}

pub(super) async fn create_keeps_what_is_there(env: &Env, dir: &Path) {
    let path = dir.join("file");
    drop(make(env, &path, b"kept").await);
    for mode in [OpenMode::Create, OpenMode::Existing, OpenMode::Read] {
        let file = open(env, &path, mode).await;
        let read = ok("read", file.read_at(0, 10).await);
        assert_eq!(&read[..], b"kept", "{mode:?}");
    }
}

pub(super) async fn create_new_refuses_what_is_there(env: &Env, dir: &Path) {
    let path = dir.join("file");
    drop(make(env, &path, b"kept").await);
    let again = env.disk.open(&path, OpenMode::CreateNew).await;
    fails("create new", ErrorKind::AlreadyExists, again);
}

pub(super) async fn a_handle_for_reading_cannot_write(env: &Env, dir: &Path) {
    let path = dir.join("file");
    drop(make(env, &path, b"kept").await);
    let file = open(env, &path, OpenMode::Read).await;
    let written = file.write_at(0, vec![Bytes::from_static(b"lost")]).await;
    assert!(written.is_err(), "wrote through a handle for reading");
    assert!(file.truncate(0).await.is_err(), "truncated through it");
    let read = ok("read", file.read_at(0, 10).await);
    assert_eq!(&read[..], b"kept");
}

pub(super) async fn a_rename_replaces_the_file_at_its_target(env: &Env, dir: &Path) {
    let (from, to) = (dir.join("new"), dir.join("old"));
    let old = make(env, &to, b"old").await;
    let new = make(env, &from, b"new!").await;
    ok("rename", env.disk.rename(&from, &to).await);
    assert_eq!(names(env, dir).await, ["old"]);
    let found = open(env, &to, OpenMode::Read).await;
    assert_eq!(ok("len", found.len().await), 4);
    // Handles follow the files, not the names.
    assert_eq!(ok("read", old.read_at(0, 10).await), &b"old"[..]);
    ok(
        "write",
        new.write_at(0, vec![Bytes::from_static(b"NEW")]).await,
    );
    assert_eq!(ok("read", found.read_at(0, 10).await), &b"NEW!"[..]);
    let sub = dir.join("sub");
    ok("create dir", env.disk.create_dir(&sub).await);
    ok("into it", env.disk.rename(&to, &sub.join("moved")).await);
    let renamed = env.disk.rename(&sub, &dir.join("renamed")).await;
    ok("rename a directory", renamed);
    assert_eq!(names(env, &dir.join("renamed")).await, ["moved"]);
    assert_eq!(names(env, dir).await, ["renamed"]);
}

pub(super) async fn a_removed_file_stays_usable_through_its_handle(env: &Env, dir: &Path) {
    let path = dir.join("file");
    let file = make(env, &path, b"here").await;
    ok("remove", env.disk.remove(&path).await);
    assert!(names(env, dir).await.is_empty(), "removed and still listed");
    ok(
        "write",
        file.write_at(4, vec![Bytes::from_static(b"!")]).await,
    );
    ok("sync", soon(env, "a sync", file.sync()).await);
    assert_eq!(ok("read", file.read_at(0, 10).await), &b"here!"[..]);
    drop(make(env, &path, b"other").await);
    assert_eq!(ok("read", file.read_at(0, 10).await), &b"here!"[..]);
}

pub(super) async fn what_is_missing_cannot_be_removed_or_renamed(env: &Env, dir: &Path) {
    let missing = dir.join("missing");
    let disk = &env.disk;
    fails("remove", ErrorKind::NotFound, disk.remove(&missing).await);
    let removed = disk.remove_dir(&missing).await;
    fails("remove_dir", ErrorKind::NotFound, removed);
    let renamed = disk.rename(&missing, &dir.join("x")).await;
    fails("rename", ErrorKind::NotFound, renamed);
}

pub(super) async fn a_name_of_more_than_255_bytes_is_invalid(env: &Env, dir: &Path) {
    let (longest, longer) = (dir.join("n".repeat(255)), dir.join("n".repeat(256)));
    let opened = env.disk.open(&longer, OpenMode::Create).await;
    fails("create", ErrorKind::InvalidFilename, opened);
    let made = env.disk.create_dir(&longer).await;
    fails("create a directory", ErrorKind::InvalidFilename, made);
    drop(make(env, &longest, b"kept").await);
    let renamed = env.disk.rename(&longest, &longer).await;
    fails("rename", ErrorKind::InvalidFilename, renamed);
    assert_eq!(names(env, dir).await, ["n".repeat(255)]);
}

pub(super) async fn a_listing_is_sorted_and_tells_lengths(env: &Env, dir: &Path) {
    for name in ["b", "a", "10", "9", "C"] {
        drop(make(env, &dir.join(name), b"12345").await);
    }
    ok("create dir", env.disk.create_dir(&dir.join("ab")).await);
    drop(make(env, &dir.join("ab/within"), b"").await);
    let entries = ok("list", env.disk.list(dir).await);
    let expected: Vec<DirEntry> = ["10", "9", "C", "a", "ab", "b"]
        .into_iter()
        .map(|name| DirEntry {
            name: name.to_owned(),
            is_dir: name == "ab",
            len: if name == "ab" { 0 } else { 5 },
        })
        .collect();
    assert_eq!(entries, expected);
}

pub(super) async fn create_dir_makes_those_above_and_is_repeatable(env: &Env, dir: &Path) {
    let deep = dir.join("one/two/three");
    ok("create dir", env.disk.create_dir(&deep).await);
    ok("create dir again", env.disk.create_dir(&deep).await);
    drop(make(env, &deep.join("file"), b"").await);
    assert_eq!(names(env, &dir.join("one/two")).await, ["three"]);
    let over_file = env.disk.create_dir(&deep.join("file")).await;
    assert!(over_file.is_err(), "made a directory over a file");
}

pub(super) async fn remove_dir_removes_all_within(env: &Env, dir: &Path) {
    let deep = dir.join("one/two");
    ok("create dir", env.disk.create_dir(&deep).await);
    drop(make(env, &deep.join("file"), b"x").await);
    drop(make(env, &dir.join("one-not"), b"x").await);
    ok("remove dir", env.disk.remove_dir(&dir.join("one")).await);
    assert_eq!(names(env, dir).await, ["one-not"]);
}

pub(super) async fn sync_dir_accepts_a_directory_and_misses_a_missing_one(env: &Env, dir: &Path) {
    drop(make(env, &dir.join("file"), b"x").await);
    ok("sync dir", env.disk.sync_dir(dir).await);
    let missing = env.disk.sync_dir(&dir.join("missing")).await;
    fails("sync a missing directory", ErrorKind::NotFound, missing);
}

pub(super) async fn a_lock_excludes_others_until_dropped(env: &Env, dir: &Path) {
    let path = dir.join(".lock");
    let guard = ok("lock", env.disk.lock(&path).await);
    assert_eq!(guard.path(), path);
    let second = env.disk.lock(&path).await;
    fails("a second lock", ErrorKind::WouldBlock, second);
    drop(ok("another lock", env.disk.lock(&dir.join(".other")).await));
    drop(guard);
    drop(ok("lock again", env.disk.lock(&path).await));
}

pub(super) async fn space_is_told(env: &Env, dir: &Path) {
    let space = ok("space", env.disk.space(dir).await);
    assert!(space.total_bytes > 0, "{space:?}");
    assert!(space.usable_bytes <= space.total_bytes, "{space:?}");
}
