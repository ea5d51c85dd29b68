//! A disk in memory for tests: carries operations out when called, and stops after a number of
//! them, as a process does that is killed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::env::{BoxFuture, DirEntry, Disk, File, LockGuard, OpenMode, Space};

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Vec<u8>>>>,
    dirs: Vec<PathBuf>,
    /// Changes that are still carried out; later ones fail.
    changes_left: Option<usize>,
    changes: usize,
    /// No file may grow.
    is_full: bool,
}

#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

impl MemoryDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets `count` more changes happen; `None`: any number.
    pub fn stop_after(&self, count: Option<usize>) {
        self.state().changes_left = count;
    }

    pub fn fill(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// Changes carried out so far.
    pub fn changes(&self) -> usize {
        self.state().changes
    }

    pub fn names(&self) -> Vec<String> {
        let state = self.state();
        let names = state.files.keys().map(|path| path.display().to_string());
        names.collect()
    }

    /// Changes the bytes of the file whose path ends in `ending`.
    pub fn edit(&self, ending: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let state = self.state();
        let found = state
            .files
            .iter()
            .find(|(path, _)| path.to_string_lossy().ends_with(ending));
        edit(&mut found.expect("a file with this ending").1.lock().unwrap());
    }

    pub fn forget(&self, ending: &str) {
        self.state()
            .files
            .retain(|path, _| !path.to_string_lossy().ends_with(ending));
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        match &mut state.changes_left {
            Some(0) => return Err(io::Error::other("stopped")),
            Some(left) => *left -= 1,
            None => {}
        }
        state.changes += 1;
        change(&mut state)
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, T> {
    Box::pin(std::future::ready(value))
}

struct MemoryFile {
    disk: MemoryDisk,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Disk for MemoryDisk {
    fn open<'a>(
        &'a self,
        path: &'a Path,
        mode: OpenMode,
    ) -> BoxFuture<'a, io::Result<Arc<dyn File>>> {
        let known = self.state().files.get(path).cloned();
        let bytes = match (known, mode) {
            (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(bytes), _) => Ok(bytes),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                self.change(|state| Ok(state.files.entry(path.to_owned()).or_default().clone()))
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        };
        let disk = self.clone();
        ready(bytes.map(|bytes| Arc::new(MemoryFile { disk, bytes }) as Arc<dyn File>))
    }

    fn list<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        let state = self.state();
        let is_child = |path: &&PathBuf| path.parent() == Some(dir);
        let entry = |path: &PathBuf, is_dir| DirEntry {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            is_dir,
            len: 0,
        };
        let files = state
            .files
            .keys()
            .filter(is_child)
            .map(|path| entry(path, false));
        let dirs = state
            .dirs
            .iter()
            .filter(is_child)
            .map(|path| entry(path, true));
        let entries: Vec<_> = files.chain(dirs).collect();
        let exists = state.dirs.iter().any(|one| one == dir);
        ready(if exists {
            Ok(entries)
        } else {
            Err(io::ErrorKind::NotFound.into())
        })
    }

    fn create_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        ready(self.change(|state| {
            for dir in dir.ancestors() {
                if !state.dirs.iter().any(|known| known == dir) {
                    state.dirs.push(dir.to_owned());
                }
            }
            Ok(())
        }))
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        ready(self.change(|state| {
            let bytes = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.files.insert(to.to_owned(), bytes);
            Ok(())
        }))
    }

    fn remove<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        ready(self.change(|state| {
            let removed = state.files.remove(path);
            removed
                .map(|_| ())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        }))
    }

    fn remove_dir<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn sync_dir<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        ready(self.change(|_| Ok(())))
    }

    fn lock<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn LockGuard>>> {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn space<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<Space>> {
        ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

impl File for MemoryFile {
    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        ready(Ok(self.bytes.lock().unwrap().len() as u64))
    }

    fn read_at(&self, pos: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let bytes = self.bytes.lock().unwrap();
        let from = usize::try_from(pos).unwrap().min(bytes.len());
        let to = from.saturating_add(len).min(bytes.len());
        ready(Ok(Bytes::copy_from_slice(&bytes[from..to])))
    }

    fn write_at(&self, pos: u64, slices: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let content = slices.concat();
        let from = usize::try_from(pos).unwrap();
        ready(self.disk.change(|state| {
            let mut bytes = self.bytes.lock().unwrap();
            let end = bytes.len().max(from + content.len());
            if state.is_full && end > bytes.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            bytes.resize(end, 0);
            bytes[from..from + content.len()].copy_from_slice(&content);
            Ok(())
        }))
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        ready(self.disk.change(|_| Ok(())))
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        ready(self.disk.change(|_| {
            self.bytes
                .lock()
                .unwrap()
                .resize(usize::try_from(len).unwrap(), 0);
            Ok(())
        }))
    }
}
