//! The production disk, with an account of how to undo what no sync covered.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::tokio::runtime::Handle;

use super::file::{Inode, UndoableFile};
use super::journal::{self, Fact, FileId, Journal};
use super::undo::Pending;
use crate::env::{BoxFuture, DirEntry, Disk, File, LockGuard, OpenMode, Space};

/// See the module.
pub(super) struct UndoableDisk {
    inner: Arc<dyn Disk>,
    account: Arc<Account>,
    runtime: Handle,
}

/// What all files share.
pub(super) struct Account {
    folder: PathBuf,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) journal: Journal,
    pending: Pending,
    /// Numbers of changes that are being made: no sync covers them yet.
    under_way: Vec<u64>,
    /// By inode.
    inodes: BTreeMap<u64, Arc<Inode>>,
    last_file: FileId,
}

impl UndoableDisk {
    pub(super) fn open(inner: Arc<dyn Disk>, folder: &Path, runtime: Handle) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let facts = journal::load(folder)?;
        let journal = Journal::open(folder, facts.len() as u64)?;
        let mut inodes = BTreeMap::new();
        let mut last_file = 0;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix(['f', 'k']).map(str::parse::<FileId>);
            let Some(Ok(id)) = number else { continue };
            // Links and what is kept draw their numbers from one count. A process that was killed
            // may have left a kept file that the account does not know yet.
            last_file = id.max(last_file);
            if name.starts_with('f') {
                let inode = Inode::open(id, &entry.path())?;
                inodes.insert(entry.metadata()?.ino(), Arc::new(inode));
            }
        }
        let pending = Pending::of(facts);
        let state = State {
            journal,
            last_file: last_file.max(pending.last_file),
            pending,
            under_way: Vec::new(),
            inodes,
        };
        let account = Account {
            folder: folder.to_owned(),
            state: Mutex::new(state),
        };
        Ok(Self {
            inner,
            account: Arc::new(account),
            runtime,
        })
    }

    /// Carries out `work` to its end whether or not anyone waits for it.
    fn spawned<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        spawned(&self.runtime, work)
    }
}

pub(super) fn spawned<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = io::Result<T>> + Send + 'static,
) -> BoxFuture<'static, io::Result<T>> {
    let task = runtime.spawn(work);
    Box::pin(async { task.await.map_err(io::Error::other)? })
}

impl Account {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a change that is about to be made.
    fn begin(&self, fact: Fact) -> io::Result<u64> {
        let mut state = self.lock();
        let number = state.journal.enter(&fact)?;
        state.pending.changes.push((number, fact));
        state.under_way.push(number);
        Ok(number)
    }

    fn made(&self, numbers: &[u64]) {
        self.lock().under_way.retain(|one| !numbers.contains(one));
    }

    /// The file at `path`, which has just been opened for writing.
    fn inode(&self, path: &Path) -> io::Result<Arc<Inode>> {
        let mut state = self.lock();
        let number = fs::metadata(path)?.ino();
        if let Some(known) = state.inodes.get(&number) {
            return Ok(Arc::clone(known));
        }
        state.last_file += 1;
        let id = state.last_file;
        let link = journal::link(&self.folder, id);
        fs::hard_link(path, &link)?;
        let inode = Arc::new(Inode::open(id, &link)?);
        state.inodes.insert(number, Arc::clone(&inode));
        Ok(inode)
    }

    /// Changes in `dir` that a sync of it covers if it is called now.
    fn covered(&self, dir: &Path) -> Vec<u64> {
        let state = self.lock();
        let is_in = |path: &Path| path.parent() == Some(dir);
        let of_it = state.pending.changes.iter().filter(|(number, fact)| {
            let is_in = match fact {
                Fact::Made { path, .. } | Fact::Removed { path, .. } => is_in(path),
                Fact::Renamed { from, to, .. } => is_in(from) || is_in(to),
                _ => false,
            };
            is_in && !state.under_way.contains(number)
        });
        of_it.map(|(number, _)| *number).collect()
    }

    /// A sync covered these. What was kept to undo them goes.
    fn retire(&self, numbers: Vec<u64>) -> io::Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        let gone = state.pending.retire(&numbers);
        state.journal.enter(&Fact::SyncedDir { facts: numbers })?;
        for fact in gone {
            let kept = match fact {
                Fact::Removed { kept, .. } => kept,
                Fact::Renamed {
                    replaced: Some(kept),
                    ..
                } => kept,
                _ => continue,
            };
            self.forget(&mut state, &self.folder.join(kept))?;
        }
        Ok(())
    }

    /// What is at `path`, beside the account, is gone for good.
    fn forget(&self, state: &mut State, path: &Path) -> io::Result<()> {
        let Ok(found) = fs::metadata(path) else {
            return Ok(());
        };
        if found.is_dir() {
            for entry in fs::read_dir(path)? {
                self.forget(state, &entry?.path())?;
            }
            return fs::remove_dir(path);
        }
        fs::remove_file(path)?;
        // Another name of it may be in use: then two links are left, that one and ours.
        if found.nlink() <= 2
            && let Some(inode) = state.inodes.remove(&found.ino())
        {
            state.journal.enter(&Fact::Forgot { file: inode.id })?;
            fs::remove_file(journal::link(&self.folder, inode.id))?;
        }
        Ok(())
    }

    /// A name beside the account for what the next change takes away.
    fn kept_name(&self) -> String {
        let mut state = self.lock();
        state.last_file += 1;
        format!("k{}", state.last_file)
    }
}

impl Disk for UndoableDisk {
    fn open<'a>(
        &'a self,
        path: &'a Path,
        mode: OpenMode,
    ) -> BoxFuture<'a, io::Result<Arc<dyn File>>> {
        if mode == OpenMode::Read {
            return self.inner.open(path, mode);
        }
        let (inner, account) = (Arc::clone(&self.inner), Arc::clone(&self.account));
        let runtime = self.runtime.clone();
        let path = path.to_owned();
        self.spawned(async move {
            let mut numbers = Vec::new();
            if mode != OpenMode::Existing && !path.exists() {
                numbers.push(account.begin(Fact::Made {
                    path: path.clone(),
                    is_dir: false,
                })?);
            }
            let opened = inner.open(&path, mode).await;
            account.made(&numbers);
            let inode = account.inode(&path);
            let file = UndoableFile {
                inner: opened?,
                inode: inode?,
                account,
                runtime,
            };
            Ok(Arc::new(file) as Arc<dyn File>)
        })
    }

    fn list<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        self.inner.list(dir)
    }

    fn create_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let (inner, account) = (Arc::clone(&self.inner), Arc::clone(&self.account));
        let dir = dir.to_owned();
        self.spawned(async move {
            let mut missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
            missing.reverse();
            let mut numbers = Vec::new();
            for path in missing
                .into_iter()
                .filter(|path| !path.as_os_str().is_empty())
            {
                let path = path.to_owned();
                numbers.push(account.begin(Fact::Made { path, is_dir: true })?);
            }
            let done = inner.create_dir(&dir).await;
            account.made(&numbers);
            done
        })
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let (inner, account) = (Arc::clone(&self.inner), Arc::clone(&self.account));
        let (from, to) = (from.to_owned(), to.to_owned());
        self.spawned(async move {
            let found = fs::metadata(&from)?;
            let replaced = match fs::metadata(&to) {
                Ok(there) if there.is_file() => {
                    let kept = account.kept_name();
                    fs::hard_link(&to, account.folder.join(&kept))?;
                    Some(kept)
                }
                _ => None,
            };
            let number = account.begin(Fact::Renamed {
                from: from.clone(),
                to: to.clone(),
                is_dir: found.is_dir(),
                inode: found.ino(),
                replaced,
            })?;
            let done = inner.rename(&from, &to).await;
            account.made(&[number]);
            done
        })
    }

    fn remove<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let (inner, account) = (Arc::clone(&self.inner), Arc::clone(&self.account));
        let path = path.to_owned();
        self.spawned(async move {
            let kept = account.kept_name();
            fs::hard_link(&path, account.folder.join(&kept))?;
            let number = account.begin(Fact::Removed {
                path: path.clone(),
                is_dir: false,
                kept,
            })?;
            let done = inner.remove(&path).await;
            account.made(&[number]);
            done
        })
    }

    fn remove_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let account = Arc::clone(&self.account);
        let dir = dir.to_owned();
        self.spawned(async move {
            fs::metadata(&dir)?;
            let kept = account.kept_name();
            let number = account.begin(Fact::Removed {
                path: dir.clone(),
                is_dir: true,
                kept: kept.clone(),
            })?;
            let done = fs::rename(&dir, account.folder.join(kept));
            account.made(&[number]);
            done
        })
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let (inner, account) = (Arc::clone(&self.inner), Arc::clone(&self.account));
        let covered = account.covered(dir);
        let dir = dir.to_owned();
        self.spawned(async move {
            inner.sync_dir(&dir).await?;
            account.retire(covered)
        })
    }

    fn lock<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn LockGuard>>> {
        self.inner.lock(path)
    }

    fn space<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Space>> {
        self.inner.space(path)
    }
}
