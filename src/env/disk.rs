//! Files, and what of them survives.
//!
//! **The contract.** Two ways to stop: a *kill* (the process ends; everything written stays) and a
//! *power loss* (everything not made durable may be lost).
//!
//! | after | survives a power loss |
//! | --- | --- |
//! | `write_at`, `truncate` completed | perhaps, by sectors (see below) |
//! | `File::sync` completed without error | every change of the file *called* before `sync` was |
//! | `File::flush` completed without error | every change of the file that *completed* before was |
//! | either of them failed | nothing is known of what was changed since the last good `sync` |
//! | `open` that created, `rename`, `remove`, `create_dir` completed | perhaps |
//! | `sync_dir(d)` completed | every change *in* `d` that *completed* before it was called |
//!
//! Of a write that is not durable any of the 512-byte sectors it touches may survive, in any order;
//! the others read as before, or as zeros where the file grew, or hold anything within the bytes of
//! the write. A rename is in both its directories, and survives whole or not at all.
//!
//! **Order.** Calls on one [`File`] take effect in the order they were called (not polled, not
//! awaited): a caller may call `write_at` and then `sync` and await only the `sync`, whose success
//! implies that the write was carried out and durable, and whose failure may be the write's.
//! Calls on different files and on directories are unordered until awaited. A path has one handle
//! that writes at a time.
//!
//! **A failure stays.** After a failed write, truncate or sync, the bytes from some offset on are
//! in doubt: of a write its first, of a truncate its length, of a sync the lowest changed since the
//! last good one. Every later `sync` of that handle fails, with the first error's kind, until a
//! `truncate` to that offset or below has succeeded: no caller can mistake a second `sync` for a
//! cure (the kernel forgets an error once told). Opening the file anew begins afresh as well: it is
//! for those who check what they find.
//!
//! **A call happens.** Dropping the returned future cancels nothing.
//!
//! **Errors** are `std::io::Error` with the kinds `NotFound`, `AlreadyExists`, `StorageFull`,
//! `PermissionDenied`, or any other for a device that fails. A failed write may have happened in
//! part. Paths are absolute or relative to the process; tests and simulation use any root.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::BoxFuture;

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// Reading only; it must exist.
    Read,
    /// Reading and writing; it must exist.
    Existing,
    /// Reading and writing; made empty if it does not exist, left as it is if it does.
    Create,
    /// Reading and writing; it must not exist.
    CreateNew,
}

/// One entry of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    /// Bytes, for a file.
    pub len: u64,
}

/// Space of the file system that holds a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pub total_bytes: u64,
    pub usable_bytes: u64,
}

/// Directories and files of a node. A name of more than 255 bytes is `InvalidFilename` to whatever
/// would make it.
pub trait Disk: Send + Sync + 'static {
    fn open<'a>(
        &'a self,
        path: &'a Path,
        mode: OpenMode,
    ) -> BoxFuture<'a, io::Result<Arc<dyn File>>>;

    /// Entries of `dir`, sorted by name.
    fn list<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>>;

    /// Makes `dir` and the missing ones above it. Fine when it exists.
    fn create_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>>;

    /// Renames a file or directory within one file system, replacing a file at `to` at once.
    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>>;

    /// Removes a file. Open handles stay usable.
    fn remove<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>>;

    /// Removes a directory with all that is in it.
    fn remove_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>>;

    /// Makes creations, renames and removals in `dir` durable: those completed before the call.
    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>>;

    /// Takes `path` as this process's own until the guard is dropped or the process ends in any
    /// way. `WouldBlock` when another process has it.
    fn lock<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn LockGuard>>>;

    fn space<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Space>>;
}

/// Holds a lock until dropped.
pub trait LockGuard: Send + Sync {
    fn path(&self) -> PathBuf;
}

/// An open file.
#[allow(
    clippy::len_without_is_empty,
    reason = "`len` is a call that can fail, not the size of a collection"
)]
pub trait File: Send + Sync + 'static {
    /// Current length in bytes, counting every write and truncate called so far on this handle.
    /// After one failed the length is what the file then has.
    fn len(&self) -> BoxFuture<'_, io::Result<u64>>;

    /// Up to `len` bytes from `pos`: fewer only where the file ends. Sees every write that
    /// completed before this call.
    fn read_at(&self, pos: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>>;

    /// Writes the slices one after another from `pos`, growing the file as needed. Completes when
    /// all are written (not durable: see the module's contract).
    fn write_at(&self, pos: u64, slices: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>>;

    /// Makes durable what was called before. Concurrent calls may share one device operation.
    fn sync(&self) -> BoxFuture<'static, io::Result<()>>;

    /// Makes durable what completed before. What is called on this handle meanwhile need not wait
    /// for it, but syncs do. A failure stays as one of [`sync`](Self::sync) does.
    fn flush(&self) -> BoxFuture<'static, io::Result<()>> {
        self.sync()
    }

    /// Cuts or grows (with zeros) to `len` bytes, in order with the writes.
    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>>;
}
