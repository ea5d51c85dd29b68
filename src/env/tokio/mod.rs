//! The production `Env`: tokio, the operating system's sockets and files, and a pool of threads
//! that write logs.
//!
//! The only place in the library that touches the operating system.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this module is what the other modules call instead"
)]

mod clock;
mod disk;
mod entropy;
// The library's own tests have it too: so every test run compiles and tests it.
#[cfg(any(test, feature = "faults"))]
mod faults;
mod net;
mod open_file;
mod read_memory;
mod task;
mod writer;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use ::tokio::runtime::Handle;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Clock, Disk, DiskStats, Env};

/// A thread waits for the disk, not for a core, and what one file waits for is a sync of another
/// where threads are few.
const DISK_WRITERS: NonZeroUsize = NonZeroUsize::new(16).expect("not zero");

/// How to build the production `Env`. The default suits a broker.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads that write and sync files; `None`: [`DISK_WRITERS`].
    pub disk_writers: Option<NonZeroUsize>,
    /// Where randomness comes from; `None`: the operating system. Fixed only in tests.
    pub entropy_seed: Option<[u8; 32]>,
    /// Counters the disk keeps: hold a clone to read them.
    pub disk_stats: Arc<DiskStats>,
}

/// Builds an `Env` on the tokio runtime this is called in, with its timers and sockets enabled.
///
/// # Errors
/// The operating system gives no thread or no randomness.
///
/// # Panics
/// Outside a tokio runtime.
pub fn env(options: Options) -> io::Result<Env> {
    let runtime = Handle::current();
    let writers = options.disk_writers.unwrap_or(DISK_WRITERS);
    let clock = Arc::new(clock::SystemClock::start());
    let disk = disk::FileDisk::start(runtime.clone(), writers, options.disk_stats)?;
    let (clock, disk) = given_faults(clock, Arc::new(disk), &runtime)?;
    Ok(Env {
        clock,
        net: Arc::new(net::TcpNet),
        disk,
        tasks: Arc::new(task::RuntimeTasks::new(runtime)),
        entropy: Arc::new(entropy::SeededEntropy::new(options.entropy_seed)?),
    })
}

/// The clock and the disk as they are.
#[cfg(not(any(test, feature = "faults")))]
fn given_faults(
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    _: &Handle,
) -> io::Result<(Arc<dyn Clock>, Arc<dyn Disk>)> {
    Ok((clock, disk))
}

/// The clock and the disk, with the faults that this process may be given.
#[cfg(any(test, feature = "faults"))]
fn given_faults(
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
    runtime: &Handle,
) -> io::Result<(Arc<dyn Clock>, Arc<dyn Disk>)> {
    let Some(folder) = faults::folder()? else {
        return Ok((clock, disk));
    };
    let disk = faults::disk(disk, &folder, runtime.clone())?;
    let clock = faults::clock(clock, &folder)?;
    Ok((Arc::new(clock), Arc::new(disk)))
}

/// Raises this process's limit of open files as far as it may, and gives the limit that then
/// holds (`None`: no limit). A broker holds a few files per partition and one socket per client.
///
/// # Errors
/// The operating system refuses.
pub fn raise_file_limit() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )?;
    }
    Ok(limit.maximum)
}
