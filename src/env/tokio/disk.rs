//! Files of the operating system.
//!
//! Writes, truncates and syncs go to the writer threads. Small reads are done in place (a read of
//! cached pages costs less than a hand-over), large ones and everything about directories on the
//! runtime's blocking threads. Every call is submitted when it is made, not when it is awaited.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::tokio::runtime::Handle;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::FlockOperation;

use super::open_file::OpenFile;
use super::writer::{Work, Writer, retry_interrupted};
use crate::env::DiskStats;
use crate::env::{BoxFuture, DirEntry, Disk, File, LockGuard, OpenMode, Space};

/// Reads from this size on leave the calling thread.
const LARGE_READ: usize = 256 << 10;

pub(super) struct FileDisk {
    runtime: Handle,
    writers: Vec<Arc<Writer>>,
    next_id: AtomicU64,
    stats: Arc<DiskStats>,
}

impl FileDisk {
    pub(super) fn start(
        runtime: Handle,
        writers: NonZeroUsize,
        stats: Arc<DiskStats>,
    ) -> io::Result<Self> {
        let writers = (0..writers.get())
            .map(|number| Writer::start(number, Arc::clone(&stats)).map(Arc::new))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            runtime,
            writers,
            next_id: AtomicU64::new(0),
            stats,
        })
    }

    /// Starts `work` on a blocking thread now and gives what it returns when awaited.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        blocking(&self.runtime, work)
    }

    /// The writer of the file at `path`: always the same, and spread evenly.
    fn writer(&self, path: &Path) -> Arc<Writer> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let number = hasher.finish() % self.writers.len() as u64;
        Arc::clone(&self.writers[usize::try_from(number).unwrap_or_default()])
    }
}

fn blocking<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> BoxFuture<'static, io::Result<T>> {
    let task = runtime.spawn_blocking(work);
    Box::pin(async {
        task.await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    })
}

impl Disk for FileDisk {
    fn open<'a>(
        &'a self,
        path: &'a Path,
        mode: OpenMode,
    ) -> BoxFuture<'a, io::Result<Arc<dyn File>>> {
        let writer = self.writer(path);
        let runtime = self.runtime.clone();
        let stats = Arc::clone(&self.stats);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let path = path.to_owned();
        self.blocking(move || {
            let file = OpenOptions::new()
                .read(true)
                .write(mode != OpenMode::Read)
                .create(mode == OpenMode::Create)
                .create_new(mode == OpenMode::CreateNew)
                .truncate(false)
                .open(path)?;
            Ok(Arc::new(SystemFile {
                open: Arc::new(OpenFile::new(id, file)?),
                writer,
                runtime,
                stats,
            }) as Arc<dyn File>)
        })
    }

    fn list<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        let dir = dir.to_owned();
        self.blocking(move || list(&dir))
    }

    fn create_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let dir = dir.to_owned();
        self.blocking(move || fs::create_dir_all(dir))
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.blocking(move || fs::rename(from, to))
    }

    fn remove<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let path = path.to_owned();
        self.blocking(move || fs::remove_file(path))
    }

    fn remove_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let dir = dir.to_owned();
        self.blocking(move || fs::remove_dir_all(dir))
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let dir = dir.to_owned();
        self.blocking(move || fs::File::open(dir)?.sync_all())
    }

    fn lock<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn LockGuard>>> {
        let path = path.to_owned();
        self.blocking(move || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            retry_interrupted(|| {
                rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            })?;
            Ok(Box::new(FileLock { path, _file: file }) as Box<dyn LockGuard>)
        })
    }

    fn space<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Space>> {
        let path = path.to_owned();
        self.blocking(move || {
            let found = rustix::fs::statvfs(&path)?;
            Ok(Space {
                total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
                usable_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            })
        })
    }
}

fn list(dir: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata,
            // Removed since, or a link that leads nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        entries.push(DirEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_dir: metadata.is_dir(),
            len: if metadata.is_dir() { 0 } else { metadata.len() },
        });
    }
    entries.sort();
    Ok(entries)
}

/// Holds the lock as long as the file is open; the system lets go of it with the process.
struct FileLock {
    path: PathBuf,
    _file: fs::File,
}

impl LockGuard for FileLock {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

struct SystemFile {
    open: Arc<OpenFile>,
    writer: Arc<Writer>,
    runtime: Handle,
    stats: Arc<DiskStats>,
}

impl SystemFile {
    fn call(&self, work: Work) -> BoxFuture<'static, io::Result<()>> {
        let result = self.writer.call(&self.open, work);
        Box::pin(async {
            result
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the disk writer has ended")))
        })
    }
}

impl File for SystemFile {
    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        Box::pin(std::future::ready(self.open.len()))
    }

    fn read_at(&self, pos: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        if len < LARGE_READ {
            let result = read_at(&self.open.file, pos, len, &self.stats);
            return Box::pin(std::future::ready(result));
        }
        let (open, stats) = (Arc::clone(&self.open), Arc::clone(&self.stats));
        blocking(&self.runtime, move || {
            let rest = open.file.metadata()?.len().saturating_sub(pos);
            let len = usize::try_from(rest).map_or(len, |rest| rest.min(len));
            read_at(&open.file, pos, len, &stats)
        })
    }

    fn write_at(&self, pos: u64, slices: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        self.call(Work::Write { pos, slices })
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        self.call(Work::Sync)
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.call(Work::Truncate { len })
    }
}

/// Up to `len` bytes from `pos`, into memory that is not zeroed first.
fn read_at(file: &fs::File, pos: u64, len: usize, stats: &DiskStats) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let from = pos.saturating_add(bytes.len() as u64);
        if retry_interrupted(|| rustix::io::pread(file, spare_capacity(&mut bytes), from))? == 0 {
            break;
        }
    }
    // The allocator may have given more room than asked for.
    bytes.truncate(len);
    DiskStats::add(&stats.reads, 1);
    DiskStats::add(&stats.read_bytes, bytes.len() as u64);
    Ok(Bytes::from(bytes))
}
