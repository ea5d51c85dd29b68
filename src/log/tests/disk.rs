//! A disk in memory that loses power as the contract of [`crate::env::Disk`] allows, and an `Env`
//! around it. Calls are carried out when they are made; their futures are ready.

use std::collections::BTreeMap;
use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::env::{
    BoxFuture, Clock, DirEntry, Disk, Entropy, Env, File, Listener, LockGuard, Net, OpenMode, Rng,
    Space, Stream, Task, Tasks, Timer,
};
use crate::types::{Instant, Timestamp};

const SECTOR: u64 = 512;

/// A change that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Write { pos: u64, bytes: Bytes },
    Truncate { len: u64 },
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

impl Inode {
    fn apply(content: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write { pos, bytes } => {
                let end = *pos as usize + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*pos as usize..end].copy_from_slice(bytes);
            }
            Change::Truncate { len } => content.resize(*len as usize, 0),
        }
    }
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Set(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    now: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<NameChange>,
    /// Calls that may still be made before everything fails.
    calls_left: Option<u64>,
    fail_next_sync: bool,
    /// Calls until one that fails for want of space; those after it are good again.
    full_in: Option<u64>,
    bytes_read: u64,
    wall: i64,
}

impl State {
    fn called(&mut self) -> io::Result<()> {
        self.full_in = match self.full_in {
            Some(0) => {
                self.full_in = None;
                return Err(io::ErrorKind::StorageFull.into());
            }
            left => left.map(|left| left - 1),
        };
        match &mut self.calls_left {
            Some(0) => Err(io::Error::other("the node has stopped")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

#[allow(clippy::large_enum_variant)]
/// Which of the changes that are not durable survive a power loss.
pub enum Survive {
    None,
    All,
    /// By choice, per sector and name; a sector that does not may be left as garbage.
    Some(Rng),
}

impl Survive {
    fn chooses(&mut self) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(random) => random.below(2) == 0,
        }
    }

    fn spoils(&mut self) -> bool {
        match self {
            Self::None | Self::All => false,
            Self::Some(random) => random.below(4) == 0,
        }
    }
}

/// See the module. Clones share the disk.
#[derive(Clone, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

impl MemDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn env(&self) -> Env {
        Env {
            clock: Arc::new(self.clone()),
            net: Arc::new(Nothing),
            disk: Arc::new(self.clone()),
            tasks: Arc::new(Nothing),
            entropy: Arc::new(Nothing),
        }
    }

    pub fn set_wall(&self, wall: i64) {
        self.state().wall = wall;
    }

    pub fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    /// Lets `calls` more calls through and fails all after them.
    pub fn stop_after(&self, calls: u64) {
        self.state().calls_left = Some(calls);
    }

    /// Lets `calls` more calls through and fails the one after them, and no other.
    /// The process that met its end by [`stop_after`](Self::stop_after) was killed: all that it
    /// wrote is in the cache.
    pub fn go_on(&self) {
        self.state().calls_left = None;
    }

    pub fn full_once_after(&self, calls: u64) {
        self.state().full_in = Some(calls);
    }

    /// The next sync fails, and what it covered never reaches the disk.
    pub fn fail_next_sync(&self) {
        self.state().fail_next_sync = true;
    }

    /// Everything that is not durable is at the mercy of `survive`.
    pub fn lose_power(&self, mut survive: Survive) {
        let mut state = self.state();
        state.calls_left = None;
        state.fail_next_sync = false;
        let mut names = state.durable.clone();
        for change in std::mem::take(&mut state.pending) {
            if survive.chooses() {
                change.apply(&mut names);
            }
        }
        state.durable = names.clone();
        state.now = names;
        for inode in &mut state.inodes {
            let mut content = std::mem::take(&mut inode.durable);
            for change in std::mem::take(&mut inode.pending) {
                match change {
                    Change::Write { pos, bytes } => {
                        let mut at = 0;
                        while at < bytes.len() {
                            let left = SECTOR - (pos + at as u64) % SECTOR;
                            let end = bytes.len().min(at + left as usize);
                            let mut bytes = bytes.slice(at..end);
                            let survives = survive.chooses();
                            if survives || survive.spoils() {
                                if !survives {
                                    bytes = bytes.iter().map(|byte| byte ^ 0xa5).collect();
                                }
                                let pos = pos + at as u64;
                                Inode::apply(&mut content, &Change::Write { pos, bytes });
                            }
                            at = end;
                        }
                    }
                    truncate @ Change::Truncate { .. } => {
                        if survive.chooses() {
                            Inode::apply(&mut content, &truncate);
                        }
                    }
                }
            }
            inode.now = content.clone();
            inode.durable = content;
        }
    }

    /// Another disk with the same content.
    pub fn copy(&self) -> Self {
        let state = self.state();
        let copy = State {
            inodes: state.inodes.clone(),
            now: state.now.clone(),
            durable: state.durable.clone(),
            pending: state.pending.clone(),
            wall: state.wall,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(copy)),
        }
    }

    pub fn names(&self) -> Vec<String> {
        let state = self.state();
        let names = state.now.keys();
        names
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    pub fn content(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.inodes[state.now[path]].now.clone()
    }

    /// Changes bytes behind everybody's back.
    pub fn damage(&self, path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.now[path];
        let inode = &mut state.inodes[inode];
        with(&mut inode.now);
        inode.durable = inode.now.clone();
        inode.pending.clear();
    }

    pub fn remove_now(&self, path: &Path) {
        let mut state = self.state();
        state.now.remove(path);
        state.durable.remove(path);
    }
}

fn done<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(ready(value))
}

impl Disk for MemDisk {
    fn open<'a>(
        &'a self,
        path: &'a Path,
        mode: OpenMode,
    ) -> BoxFuture<'a, io::Result<Arc<dyn File>>> {
        let mut state = self.state();
        if let Err(error) = state.called() {
            return done(Err(error));
        }
        let found = state.now.get(path).copied();
        let inode = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => {
                return done(Err(io::ErrorKind::AlreadyExists.into()));
            }
            (Some(inode), _) => inode,
            (None, OpenMode::Read | OpenMode::Existing) => {
                return done(Err(io::ErrorKind::NotFound.into()));
            }
            (None, _) => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.now.insert(path.to_owned(), inode);
                state.pending.push(NameChange::Set(path.to_owned(), inode));
                inode
            }
        };
        let file: Arc<dyn File> = Arc::new(MemFile {
            disk: self.clone(),
            inode,
            doubt: Mutex::new(None),
        });
        done(Ok(file))
    }

    fn list<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        let mut state = self.state();
        let called = state.called();
        let entries = state.now.iter();
        let entries = entries
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(path, inode)| DirEntry {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                is_dir: false,
                len: state.inodes[*inode].now.len() as u64,
            })
            .collect();
        done(called.map(|()| entries))
    }

    fn create_dir<'a>(&'a self, _dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        done(self.state().called())
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let mut state = self.state();
        if let Err(error) = state.called() {
            return done(Err(error));
        }
        if !state.now.contains_key(from) {
            return done(Err(io::ErrorKind::NotFound.into()));
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        change.apply(&mut state.now);
        state.pending.push(change);
        done(Ok(()))
    }

    fn remove<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let mut state = self.state();
        if let Err(error) = state.called() {
            return done(Err(error));
        }
        if !state.now.contains_key(path) {
            return done(Err(io::ErrorKind::NotFound.into()));
        }
        let change = NameChange::Remove(path.to_owned());
        change.apply(&mut state.now);
        state.pending.push(change);
        done(Ok(()))
    }

    fn remove_dir<'a>(&'a self, _dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        panic!("no test needs it")
    }

    fn sync_dir<'a>(&'a self, _dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let mut state = self.state();
        if let Err(error) = state.called() {
            return done(Err(error));
        }
        state.durable = state.now.clone();
        state.pending.clear();
        done(Ok(()))
    }

    fn lock<'a>(&'a self, _path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn LockGuard>>> {
        panic!("no test needs it")
    }

    fn space<'a>(&'a self, _path: &'a Path) -> BoxFuture<'a, io::Result<Space>> {
        panic!("no test needs it")
    }
}

struct MemFile {
    disk: MemDisk,
    inode: usize,
    /// Bytes from here on are in doubt after a failure.
    doubt: Mutex<Option<u64>>,
}

impl MemFile {
    fn change(&self, change: Change) -> BoxFuture<'static, io::Result<()>> {
        let mut state = self.disk.state();
        if let Err(error) = state.called() {
            if let Change::Write { pos, .. } = change {
                let mut doubt = self.doubt.lock().unwrap();
                *doubt = Some(doubt.map_or(pos, |from| from.min(pos)));
            }
            return done(Err(error));
        }
        if let Change::Truncate { len } = change {
            let mut doubt = self.doubt.lock().unwrap();
            *doubt = doubt.filter(|from| *from < len);
        }
        let inode = &mut state.inodes[self.inode];
        Inode::apply(&mut inode.now, &change);
        inode.pending.push(change);
        done(Ok(()))
    }
}

impl File for MemFile {
    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        let mut state = self.disk.state();
        let called = state.called();
        done(called.map(|()| state.inodes[self.inode].now.len() as u64))
    }

    fn read_at(&self, pos: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let mut state = self.disk.state();
        if let Err(error) = state.called() {
            return done(Err(error));
        }
        let content = &state.inodes[self.inode].now;
        let start = content.len().min(pos as usize);
        let end = content.len().min(start + len);
        let bytes = Bytes::copy_from_slice(&content[start..end]);
        state.bytes_read += bytes.len() as u64;
        done(Ok(bytes))
    }

    fn write_at(&self, pos: u64, slices: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let bytes = slices.concat().into();
        self.change(Change::Write { pos, bytes })
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        let mut state = self.disk.state();
        let called = state.called();
        let mut doubt = self.doubt.lock().unwrap();
        if let Err(error) = called {
            *doubt = Some(0);
            return done(Err(error));
        }
        if std::mem::take(&mut state.fail_next_sync) {
            let inode = &mut state.inodes[self.inode];
            // The pages count as clean from now on, and never reach the disk.
            inode.pending.clear();
            *doubt = Some(0);
        }
        if doubt.is_some() {
            return done(Err(io::Error::other("the device failed")));
        }
        let inode = &mut state.inodes[self.inode];
        for change in std::mem::take(&mut inode.pending) {
            Inode::apply(&mut inode.durable, &change);
        }
        done(Ok(()))
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.change(Change::Truncate { len })
    }
}

impl Clock for MemDisk {
    fn now(&self) -> Instant {
        Instant(0)
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.state().wall)
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(Nothing)
    }
}

/// The parts of an `Env` that a log does not use.
struct Nothing;

impl Timer for Nothing {
    fn reset(&mut self, _at: Instant) {}
    fn clear(&mut self) {}
    fn poll_fired(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Net for Nothing {
    fn listen<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        panic!("a log has no network")
    }
    fn connect<'a>(&'a self, _address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        panic!("a log has no network")
    }
    fn resolve<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        panic!("a log has no network")
    }
}

impl Tasks for Nothing {
    fn spawn(&self, _name: &'static str, _body: BoxFuture<'static, ()>) -> Task {
        panic!("a log starts no tasks")
    }
}

impl Entropy for Nothing {
    fn stream(&self, _purpose: &'static str) -> Rng {
        Rng::from_seed([1; 32])
    }
}
