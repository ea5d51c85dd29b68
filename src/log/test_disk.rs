//! A disk in memory for this layer's unit tests: it keeps exactly what the contract of
//! [`Disk`] promises to keep and loses the rest by coin toss.
//!
//! Directories are durable at once; files, their names and their bytes are not.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::env::{BoxFuture, DirEntry, Disk, File, LockGuard, OpenMode, Space};

const SECTOR_BYTES: usize = 512;

/// Cloning shares it.
#[derive(Clone, Default)]
pub struct TestDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    /// Changing operations so far.
    operations: u64,
    /// The operation at which power goes.
    power_off_at: Option<u64>,
}

#[derive(Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, usize),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Create(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }

    fn is_in(&self, dir: &Path) -> bool {
        let (Self::Create(path, _) | Self::Remove(path) | Self::Rename(_, path, _)) = self;
        path.parent() == Some(dir)
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write(pos, bytes) => {
                let end = pos + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*pos..end].copy_from_slice(bytes);
            }
            Self::Truncate(len) => to.resize(*len, 0),
        }
    }

    /// What is left where power went while it was carried out.
    fn spoilt(&self) -> Change {
        match self {
            Self::Truncate(len) => Self::Truncate(*len),
            Self::Write(pos, bytes) => {
                Self::Write(*pos, bytes.iter().map(|byte| byte ^ 0xa5).collect())
            }
        }
    }

    /// The parts of which each survives or not by itself.
    fn pieces(&self) -> Vec<Change> {
        match self {
            Self::Truncate(len) => vec![Self::Truncate(*len)],
            Self::Write(pos, bytes) => {
                let mut pieces = Vec::new();
                let mut at = 0;
                while at < bytes.len() {
                    let room = SECTOR_BYTES - (pos + at) % SECTOR_BYTES;
                    let end = (at + room).min(bytes.len());
                    pieces.push(Self::Write(pos + at, bytes[at..end].to_vec()));
                    at = end;
                }
                pieces
            }
        }
    }
}

impl State {
    /// Whether the operation that begins now may still report success.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.power_off_at {
            Some(at) if self.operations >= at => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }

    fn is_off(&self) -> bool {
        self.power_off_at.is_some_and(|at| self.operations > at)
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }

    fn found(&self, path: &Path) -> io::Result<usize> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, path.display().to_string());
        self.names.get(path).copied().ok_or_else(missing)
    }
}

impl TestDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while holding it")
    }

    /// The `count`th changing operation from now fails and those after it, as if power went during
    /// it: it may have happened in part.
    pub fn power_off_after(&self, count: u64) {
        let mut state = self.state();
        state.power_off_at = Some(state.operations + count);
    }

    /// Power goes and comes back: what was not made durable stays, goes or leaves bytes that
    /// nobody wrote, by `coin`.
    pub fn power_loss(&self, mut coin: impl FnMut() -> bool) {
        let mut state = self.state();
        state.power_off_at = None;
        for change in std::mem::take(&mut state.name_changes) {
            if coin() {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        for file in &mut state.files {
            let changes = std::mem::take(&mut file.changes);
            for piece in changes.iter().flat_map(Change::pieces) {
                if coin() {
                    piece.apply(&mut file.durable);
                } else if coin() && coin() {
                    piece.spoilt().apply(&mut file.durable);
                }
            }
            file.current = file.durable.clone();
        }
    }

    /// Changes bytes on the platter, durably, as a failing device does.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.found(path).expect("a file to damage");
        let content = &mut state.files[file];
        change(&mut content.current);
        content.durable = content.current.clone();
        content.changes.clear();
    }
}

/// A coin for [`TestDisk::power_loss`] that falls the same way for the same seed.
pub fn coin(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed;
    move || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) & 1 == 0
    }
}

fn ready<'a, T: Send + 'a>(result: io::Result<T>) -> BoxFuture<'a, io::Result<T>> {
    Box::pin(std::future::ready(result))
}

impl Disk for TestDisk {
    fn open<'a>(
        &'a self,
        path: &'a Path,
        mode: OpenMode,
    ) -> BoxFuture<'a, io::Result<Arc<dyn File>>> {
        let mut state = self.state();
        let known = state.found(path);
        let opened = match (mode, known) {
            (OpenMode::CreateNew, Ok(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Create | OpenMode::CreateNew, Err(_)) => {
                let file = state.files.len();
                state.files.push(Content::default());
                let done = state.operate();
                if !state.is_off() {
                    state.rename(NameChange::Create(path.to_owned(), file));
                }
                done.map(|()| file)
            }
            (_, known) => known,
        };
        ready(opened.map(|file| -> Arc<dyn File> {
            Arc::new(TestFile {
                disk: self.clone(),
                file,
            })
        }))
    }

    fn list<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        let state = self.state();
        let named = |path: &Path| {
            let name = path.file_name()?.to_str()?.to_owned();
            (path.parent() == Some(dir)).then_some(name)
        };
        let mut entries: Vec<DirEntry> = Vec::new();
        for (path, file) in &state.names {
            entries.extend(named(path).map(|name| DirEntry {
                name,
                is_dir: false,
                len: state.files[*file].current.len() as u64,
            }));
        }
        for path in &state.dirs {
            entries.extend(named(path).map(|name| DirEntry {
                name,
                is_dir: true,
                len: 0,
            }));
        }
        entries.sort();
        if entries.is_empty() && !state.dirs.contains(dir) {
            return ready(Err(io::ErrorKind::NotFound.into()));
        }
        ready(Ok(entries))
    }

    fn create_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let mut state = self.state();
        for path in dir.ancestors() {
            state.dirs.insert(path.to_owned());
        }
        ready(Ok(()))
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let mut state = self.state();
        if state.dirs.contains(from) {
            return ready(Err(io::Error::other(
                "renaming directories is not modelled",
            )));
        }
        let file = match state.found(from) {
            Ok(file) => file,
            Err(error) => return ready(Err(error)),
        };
        let done = state.operate();
        if !state.is_off() {
            state.rename(NameChange::Rename(from.to_owned(), to.to_owned(), file));
        }
        ready(done)
    }

    fn remove<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let mut state = self.state();
        if let Err(error) = state.found(path) {
            return ready(Err(error));
        }
        let done = state.operate();
        if !state.is_off() {
            state.rename(NameChange::Remove(path.to_owned()));
        }
        ready(done)
    }

    fn remove_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let mut state = self.state();
        state.names.retain(|path, _| !path.starts_with(dir));
        state.durable_names.retain(|path, _| !path.starts_with(dir));
        state.dirs.retain(|path| !path.starts_with(dir));
        ready(Ok(()))
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let mut state = self.state();
        let done = state.operate();
        if done.is_ok() {
            let (here, elsewhere) = std::mem::take(&mut state.name_changes)
                .into_iter()
                .partition::<Vec<_>, _>(|change| change.is_in(dir));
            state.name_changes = elsewhere;
            for change in here {
                change.apply(&mut state.durable_names);
            }
        }
        ready(done)
    }

    fn lock<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn LockGuard>>> {
        ready(Ok(Box::new(TestLock(path.to_owned())) as Box<dyn LockGuard>))
    }

    fn space<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<Space>> {
        ready(Ok(Space {
            total_bytes: 1 << 40,
            usable_bytes: 1 << 39,
        }))
    }
}

struct TestLock(PathBuf);

impl LockGuard for TestLock {
    fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

struct TestFile {
    disk: TestDisk,
    file: usize,
}

impl TestFile {
    fn change(&self, change: Change) -> BoxFuture<'static, io::Result<()>> {
        let mut state = self.disk.state();
        let done = state.operate();
        if !state.is_off() {
            let content = &mut state.files[self.file];
            change.apply(&mut content.current);
            content.changes.push(change);
        }
        ready(done)
    }
}

impl File for TestFile {
    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        let state = self.disk.state();
        ready(Ok(state.files[self.file].current.len() as u64))
    }

    fn read_at(&self, pos: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let state = self.disk.state();
        let content = &state.files[self.file].current;
        let from = usize::try_from(pos)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let end = from.saturating_add(len).min(content.len());
        ready(Ok(Bytes::copy_from_slice(&content[from..end])))
    }

    fn write_at(&self, pos: u64, slices: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let pos = usize::try_from(pos).expect("test files are small");
        self.change(Change::Write(pos, slices.concat()))
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let mut state = self.disk.state();
        let done = state.operate();
        if done.is_ok() {
            let content = &mut state.files[self.file];
            content.durable = content.current.clone();
            content.changes.clear();
        }
        ready(done)
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.change(Change::Truncate(
            usize::try_from(len).expect("test files are small"),
        ))
    }
}
