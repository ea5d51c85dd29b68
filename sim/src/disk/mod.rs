//! A node's disk: the `Disk` seam over a [`Platter`].
//!
//! A call takes effect on what readers see when it is made, and answers after a drawn delay; what
//! it makes durable becomes so at the end of that delay, whether or not anybody still waits.

mod inode;
mod platter;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use klamm::env::{BoxFuture, DirEntry, Disk, File, LockGuard, OpenMode, Rng, Space};
use madsim::runtime::NodeHandle;
use tokio::sync::oneshot;

pub(crate) use platter::Platter;

use crate::world::Life;

#[derive(Clone)]
pub(crate) struct SimDisk {
    pub(crate) platter: Arc<Mutex<Platter>>,
    pub(crate) rng: Arc<Mutex<Rng>>,
    pub(crate) devices: NodeHandle,
    pub(crate) life: Arc<Life>,
}

impl SimDisk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, bound: u64) -> u64 {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        rng.below(bound)
    }

    /// Does `work` now and answers now or a little later.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Platter) -> io::Result<T>,
    ) -> BoxFuture<'static, io::Result<T>> {
        let result = self.life.check().and_then(|()| work(&mut self.platter()));
        if self.draw(4) > 0 {
            return Box::pin(std::future::ready(result));
        }
        let delay = Duration::from_millis(1 + self.draw(2));
        Box::pin(async move {
            madsim::time::sleep(delay).await;
            result
        })
    }

    /// Does `work` after a while, whoever still waits, unless the process ends before.
    fn settle(
        &self,
        work: impl FnOnce(&mut Platter) + Send + 'static,
    ) -> BoxFuture<'static, io::Result<()>> {
        if let Err(error) = self.life.check() {
            return Box::pin(std::future::ready(Err(error)));
        }
        let (done, result) = oneshot::channel();
        let delay = Duration::from_millis(1 + self.draw(5));
        let disk = self.clone();
        self.devices.spawn(async move {
            madsim::time::sleep(delay).await;
            if disk.life.is_alive() {
                work(&mut disk.platter());
                // Nobody waits for a dropped call.
                let _ = done.send(());
            }
        });
        Box::pin(async {
            result
                .await
                .map_err(|_| io::Error::other("the process has ended"))
        })
    }
}

impl Disk for SimDisk {
    fn open<'a>(
        &'a self,
        path: &'a Path,
        mode: OpenMode,
    ) -> BoxFuture<'a, io::Result<Arc<dyn File>>> {
        self.life
            .event(format_args!("open {} {mode:?}", path.display()));
        let disk = self.clone();
        self.call(|platter| {
            let id = platter.open(path, mode)?;
            Ok(Arc::new(SimFile {
                disk,
                id,
                name: path.display().to_string(),
                writable: mode != OpenMode::Read,
                doubt: Mutex::new(None),
            }) as Arc<dyn File>)
        })
    }

    fn list<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        self.call(|platter| platter.list(dir))
    }

    fn create_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.life
            .event(format_args!("create_dir {}", dir.display()));
        self.call(|platter| platter.create_dir(dir))
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let (old, new) = (from.display(), to.display());
        self.life.event(format_args!("rename {old} {new}"));
        self.call(|platter| platter.rename(from, to))
    }

    fn remove<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.life.event(format_args!("remove {}", path.display()));
        self.call(|platter| platter.remove(path))
    }

    fn remove_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.life
            .event(format_args!("remove_dir {}", dir.display()));
        self.call(|platter| platter.remove_dir(dir))
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        self.life.event(format_args!("sync_dir {}", dir.display()));
        let found = {
            let platter = self.platter();
            platter.find_dir(dir).map(|id| (id, platter.changes()))
        };
        match found {
            Ok((id, changes)) => self.settle(move |platter| platter.settle_dir(id, changes)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn lock<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn LockGuard>>> {
        self.life.event(format_args!("lock {}", path.display()));
        let disk = self.clone();
        self.call(|platter| {
            let id = platter.open(path, OpenMode::Create)?;
            platter.lock(id)?;
            Ok(Box::new(SimLock {
                path: path.to_owned(),
                id,
                disk,
            }) as Box<dyn LockGuard>)
        })
    }

    fn space<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Space>> {
        self.call(|platter| platter.space(path))
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
            self.disk.platter().unlock(self.id);
        }
    }
}

/// A handle on an inode.
struct SimFile {
    disk: SimDisk,
    id: u64,
    name: String,
    writable: bool,
    /// Lowest offset in doubt after a failure, and its kind.
    doubt: Mutex<Option<(u64, io::ErrorKind)>>,
}

impl SimFile {
    fn doubt(&self) -> MutexGuard<'_, Option<(u64, io::ErrorKind)>> {
        self.doubt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the file now; a failure puts the bytes from `pos` on in doubt.
    fn change(
        &self,
        pos: u64,
        work: impl FnOnce(&mut inode::Inode) -> io::Result<()>,
    ) -> BoxFuture<'static, io::Result<()>> {
        if !self.writable {
            let error = io::Error::from(io::ErrorKind::PermissionDenied);
            return Box::pin(std::future::ready(Err(error)));
        }
        self.disk.call(|platter| {
            let result = work(platter.inode(self.id)?);
            if let Err(error) = &result {
                let doubt = &mut *self.doubt();
                *doubt = match *doubt {
                    Some((from, kind)) => Some((from.min(pos), kind)),
                    None => Some((pos, error.kind())),
                };
            }
            result
        })
    }
}

impl File for SimFile {
    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        let mut platter = self.disk.platter();
        let len = platter.inode(self.id).map(|inode| inode.len());
        Box::pin(std::future::ready(len))
    }

    fn read_at(&self, pos: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let id = self.id;
        self.disk
            .call(|platter| Ok(platter.inode(id)?.read(pos, len)))
    }

    fn write_at(&self, pos: u64, slices: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        let bytes = slices.concat();
        let len = bytes.len();
        self.disk
            .life
            .event(format_args!("write {} {pos} {len}", self.name));
        self.change(pos, |inode| inode.write(pos, bytes))
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        self.disk.life.event(format_args!("sync {}", self.name));
        if let Some((_, kind)) = *self.doubt() {
            return Box::pin(std::future::ready(Err(kind.into())));
        }
        let id = self.id;
        let changes = self.disk.platter().inode(id).map(|inode| inode.changes());
        match changes {
            Ok(changes) => self.disk.settle(move |platter| {
                if let Ok(inode) = platter.inode(id) {
                    inode.settle(changes);
                }
            }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.disk
            .life
            .event(format_args!("truncate {} {len}", self.name));
        self.change(len, |inode| {
            inode.truncate(len)?;
            let mut doubt = self.doubt();
            if doubt.is_some_and(|(from, _)| len <= from) {
                *doubt = None;
            }
            Ok(())
        })
    }
}
