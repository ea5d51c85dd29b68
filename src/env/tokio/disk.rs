//! Files of the operating system.
//!
//! Writes, truncates and syncs go to the writer threads. What is read is copied in place as far as
//! the system has it in memory (that costs less than a hand-over), and a file that is there is
//! opened in place if the system knows its name; the rest of it, very large reads and everything
//! else about directories go to the runtime's blocking threads. Every call is submitted when it is
//! made, not when it is awaited.

use std::fs::{self, OpenOptions};
use std::io::{self, IoSliceMut};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ::tokio::runtime::Handle;
use bytes::Bytes;
use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::open_file::OpenFile;
use super::read_memory::{BLOCK_BYTES, ReadMemory, Target};
use super::writer::{Work, Writers, retry_interrupted};
use crate::env::DiskStats;
use crate::env::{BoxFuture, DirEntry, Disk, File, LockGuard, OpenMode, Space};

/// Larger reads leave the calling thread at once: copying that much holds up all else it runs.
const IN_PLACE_MAX: usize = BLOCK_BYTES;

pub(super) struct FileDisk {
    runtime: Handle,
    writers: Arc<Writers>,
    reads: Arc<ReadMemory>,
    stats: Arc<DiskStats>,
}

impl FileDisk {
    pub(super) fn start(
        runtime: Handle,
        writers: NonZeroUsize,
        stats: Arc<DiskStats>,
    ) -> io::Result<Self> {
        let writers = Writers::start(writers, Arc::clone(&stats))?;
        Ok(Self {
            runtime,
            writers: Arc::new(writers),
            reads: Arc::default(),
            stats,
        })
    }

    /// Makes a file that is open one of this disk's.
    fn handle(&self) -> impl FnOnce(fs::File) -> io::Result<Arc<dyn File>> + Send + 'static {
        let writers = Arc::clone(&self.writers);
        let runtime = self.runtime.clone();
        let (reads, stats) = (Arc::clone(&self.reads), Arc::clone(&self.stats));
        move |file| {
            Ok(Arc::new(SystemFile {
                open: Arc::new(OpenFile::new(file)?),
                writers,
                runtime,
                reads,
                stats,
            }))
        }
    }

    /// Starts `work` on a blocking thread now and gives what it returns when awaited.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, io::Result<T>> {
        blocking(&self.runtime, work)
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
        let handle = self.handle();
        if let Some(opened) = open_known(path, mode) {
            return Box::pin(std::future::ready(opened.and_then(handle)));
        }
        let path = path.to_owned();
        self.blocking(move || {
            let file = OpenOptions::new()
                .read(true)
                .write(mode != OpenMode::Read)
                .create(mode == OpenMode::Create)
                .create_new(mode == OpenMode::CreateNew)
                .truncate(false)
                .open(path)?;
            handle(file)
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

/// Opens what the system can find, or knows not to be there, without asking the device. `None`: it
/// has to be asked, or the system has no such call.
fn open_known(path: &Path, mode: OpenMode) -> Option<io::Result<fs::File>> {
    let access = match mode {
        OpenMode::Read => OFlags::RDONLY,
        OpenMode::Existing => OFlags::RDWR,
        // What is made is not known yet.
        OpenMode::Create | OpenMode::CreateNew => return None,
    };
    let flags = access | OFlags::CLOEXEC;
    let how = ResolveFlags::CACHED;
    match rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), how) {
        Ok(file) => Some(Ok(file.into())),
        Err(Errno::NOENT) => Some(Err(Errno::NOENT.into())),
        Err(_) => None,
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
    writers: Arc<Writers>,
    runtime: Handle,
    reads: Arc<ReadMemory>,
    stats: Arc<DiskStats>,
}

impl SystemFile {
    fn call(&self, work: Work) -> BoxFuture<'static, io::Result<()>> {
        let result = self.writers.call(&self.open, work);
        Box::pin(async {
            result
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the disk writers have ended")))
        })
    }
}

impl File for SystemFile {
    fn len(&self) -> BoxFuture<'_, io::Result<u64>> {
        Box::pin(std::future::ready(self.open.len()))
    }

    fn read_at(&self, pos: u64, len: usize) -> BoxFuture<'static, io::Result<Bytes>> {
        let (open, stats) = (Arc::clone(&self.open), Arc::clone(&self.stats));
        if len > IN_PLACE_MAX {
            let reads = Arc::clone(&self.reads);
            return blocking(&self.runtime, move || {
                let rest = open.file.metadata()?.len().saturating_sub(pos);
                let len = usize::try_from(rest).map_or(len, |rest| rest.min(len));
                read_rest(&open.file, pos, len, reads.take(len), &stats)
            });
        }
        let mut target = self.reads.take(len);
        match read_cached(&open.file, pos, len, &mut target) {
            Ok(true) => Box::pin(std::future::ready(Ok(given(target, &stats)))),
            Ok(false) => blocking(&self.runtime, move || {
                read_rest(&open.file, pos, len, target, &stats)
            }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn write_at(&self, pos: u64, slices: Vec<Bytes>) -> BoxFuture<'static, io::Result<()>> {
        self.call(Work::Write { pos, slices })
    }

    fn sync(&self) -> BoxFuture<'static, io::Result<()>> {
        self.call(Work::Sync)
    }

    fn flush(&self) -> BoxFuture<'static, io::Result<()>> {
        let (open, stats) = (Arc::clone(&self.open), Arc::clone(&self.stats));
        blocking(&self.runtime, move || {
            let began = Instant::now();
            let result = open.sync_data(false);
            DiskStats::add(&stats.sync_nanos, nanos_since(began));
            DiskStats::add(&stats.sync_calls, 1);
            DiskStats::add(&stats.syncs, 1);
            DiskStats::add(&stats.sync_failures, u64::from(result.is_err()));
            result
        })
    }

    fn truncate(&self, len: u64) -> BoxFuture<'static, io::Result<()>> {
        self.call(Work::Truncate { len })
    }
}

/// Reads what needs no device. True when that is all there is: `len` bytes, or up to the end of the
/// file.
fn read_cached(file: &fs::File, pos: u64, len: usize, target: &mut Target) -> io::Result<bool> {
    while target.filled() < len {
        let from = pos.saturating_add(target.filled() as u64);
        let slices = &mut [IoSliceMut::new(target.rest(len))];
        match rustix::io::preadv2(file, slices, from, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Ok(true),
            Ok(more) => target.fill(more),
            Err(Errno::INTR) => {}
            // The next page is not in memory, or the file system cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Reads what is missing of `len` bytes from `pos`, and gives all of them.
fn read_rest(
    file: &fs::File,
    pos: u64,
    len: usize,
    mut target: Target,
    stats: &DiskStats,
) -> io::Result<Bytes> {
    while target.filled() < len {
        let from = pos.saturating_add(target.filled() as u64);
        match retry_interrupted(|| rustix::io::pread(file, target.rest(len), from))? {
            0 => break,
            more => target.fill(more),
        }
    }
    Ok(given(target, stats))
}

fn nanos_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn given(target: Target, stats: &DiskStats) -> Bytes {
    DiskStats::add(&stats.reads, 1);
    DiskStats::add(&stats.read_bytes, target.filled() as u64);
    target.freeze()
}
