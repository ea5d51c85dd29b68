//! A node's disk: the `Disk` seam over a [`Device`].

mod control;
mod counts;
mod crash;
mod device;
mod faults;
mod file;
mod inode;
mod kind;
mod platter;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use klamm::env::{BoxFuture, DirEntry, Disk, File, LockGuard, OpenMode, Space};
use tokio::sync::oneshot;

use counts::Count;
use device::{Answer, Power, State, ended};
use file::SimFile;
use kind::kind_of;

pub use control::DiskControl;
pub(crate) use device::Device;

use crate::world::Life;

/// A process's view of its node's disk.
#[derive(Clone)]
pub(crate) struct SimDisk {
    pub(crate) device: Arc<Device>,
    pub(crate) life: Arc<Life>,
}

/// An answer that is there.
fn now<T: Send + 'static>(result: io::Result<T>) -> BoxFuture<'static, io::Result<T>> {
    Box::pin(std::future::ready(result))
}

/// An answer that comes, unless the process or the power ends before.
fn answer_of<T: Send + 'static>(
    result: oneshot::Receiver<io::Result<T>>,
) -> BoxFuture<'static, io::Result<T>> {
    Box::pin(async { result.await.unwrap_or_else(|_| Err(ended())) })
}

impl SimDisk {
    /// Begins a call, which gives its own answer or an error at once. With the power out nothing
    /// answers; if it goes at this call, the call has its effect and no answer.
    fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> io::Result<BoxFuture<'static, io::Result<T>>>,
    ) -> BoxFuture<'static, io::Result<T>> {
        if let Err(error) = self.life.check() {
            return now(Err(error));
        }
        let mut state = self.device.state();
        if state.power == Power::Out {
            return Box::pin(std::future::pending());
        }
        let answer = work(&mut state);
        let out = state.power == Power::Out;
        drop(state);
        if out {
            self.life.event(format_args!("power out"));
            self.device.went_out.notify_waiters();
            return Box::pin(std::future::pending());
        }
        answer.unwrap_or_else(|error| now(Err(error)))
    }

    /// Does `work` now and answers now or later.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> BoxFuture<'static, io::Result<T>> {
        self.begin(|state| {
            let result = work(state);
            let Some(at) = state.answer_time() else {
                return Ok(now(result));
            };
            let (done, answer) = oneshot::channel();
            let tell = Box::new(move || {
                // Nobody waits for a dropped call.
                let _ = done.send(result);
            });
            state.answer_at(at, Answer::Tell(tell));
            Ok(answer_of(answer))
        })
    }

    /// A call that changes names.
    fn change_names(
        &self,
        work: impl FnOnce(&mut State) -> io::Result<()>,
    ) -> BoxFuture<'static, io::Result<()>> {
        self.call(|state| {
            state.count_change();
            state.counts.add(Count::NameChanges, 1);
            let result = work(state);
            state.count_refusal(&result);
            result
        })
    }
}

impl State {
    fn count_refusal<T>(&mut self, result: &io::Result<T>) {
        if let Err(error) = result
            && error.kind() == io::ErrorKind::StorageFull
        {
            self.counts.add(Count::NoSpace, 1);
        }
    }

    /// Opens a file, which is a change if it makes one.
    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<u64> {
        let changes = self.platter.changes();
        let result = self.platter.open(path, mode);
        self.count_refusal(&result);
        if self.platter.changes() > changes {
            self.count_change();
            self.counts.add(Count::NameChanges, 1);
        }
        result
    }
}

impl Disk for SimDisk {
    fn open<'a>(
        &'a self,
        path: &'a Path,
        mode: OpenMode,
    ) -> BoxFuture<'a, io::Result<Arc<dyn File>>> {
        self.call(|state| {
            let opened = state.open(path, mode);
            let name = path.display();
            let id = match opened {
                Ok(id) => id,
                Err(error) => {
                    let kind = error.kind();
                    self.life
                        .event(format_args!("open {name} {mode:?} {kind:?}"));
                    return Err(error);
                }
            };
            self.life
                .event(format_args!("open {name} {mode:?} is {id}"));
            state.platter.hold(id);
            Ok(Arc::new(SimFile {
                disk: self.clone(),
                id,
                kind: kind_of(path),
                writable: mode != OpenMode::Read,
                handle: Arc::default(),
            }) as Arc<dyn File>)
        })
    }

    fn list<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        self.call(|state| state.platter.list(dir))
    }

    fn create_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.life
            .event(format_args!("create_dir {}", dir.display()));
        self.change_names(|state| state.platter.create_dir(dir))
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let (old, new) = (from.display(), to.display());
        self.life.event(format_args!("rename {old} {new}"));
        self.change_names(|state| state.platter.rename(from, to))
    }

    fn remove<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.life.event(format_args!("remove {}", path.display()));
        self.change_names(|state| state.platter.remove(path))
    }

    fn remove_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.life
            .event(format_args!("remove_dir {}", dir.display()));
        self.change_names(|state| state.platter.remove_dir(dir))
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.life.event(format_args!("sync_dir {}", dir.display()));
        self.begin(|state| {
            let id = state.platter.find_dir(dir)?;
            state.count_change();
            state.counts.add(Count::DirectorySyncs, 1);
            let at = state.sync_time();
            let (done, result) = oneshot::channel();
            let answer = Answer::SyncDir {
                dir: id,
                changes: state.platter.changes(),
                done,
            };
            state.answer_at(at, answer);
            Ok(answer_of(result))
        })
    }

    fn lock<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn LockGuard>>> {
        self.life.event(format_args!("lock {}", path.display()));
        self.call(|state| {
            let id = state.open(path, OpenMode::Create)?;
            state.platter.lock(id)?;
            Ok(Box::new(SimLock {
                path: path.to_owned(),
                id,
                disk: self.clone(),
            }) as Box<dyn LockGuard>)
        })
    }

    fn space<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Space>> {
        self.call(|state| state.platter.space(path))
    }
}

struct SimLock {
    path: PathBuf,
    id: u64,
    disk: SimDisk,
}

impl LockGuard for SimLock {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        // A process that has ended let go of it then, and another may have it by now.
        if self.disk.life.is_alive() {
            self.disk.device.state().platter.unlock(self.id);
        }
    }
}
