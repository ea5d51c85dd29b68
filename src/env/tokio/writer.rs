//! A thread that writes and syncs files, for all who ask, in as few system calls as it can.
//!
//! Every open file belongs to one writer. Jobs queue; the thread takes what has gathered (at most
//! [`BATCH_JOBS`] or [`BATCH_BYTES`] at once), joins neighbouring writes of a file into one
//! `pwritev`, and answers all the file's syncs by one `fdatasync` (group commit: while one runs,
//! the next round gathers). Writers are told as soon as their bytes are written, before the sync.
//!
//! **Invariant**: a sync succeeds only if every write and truncate called before it on that file
//! was carried out and an `fdatasync` after them succeeded. See [`Doubt`].
//!
//! The queue has no bound of its own: a caller that is not waiting for its writes is holding their
//! bytes anyway, so it is the callers (a connection's requests in flight, a fetcher's one fetch)
//! that bound it. [`DiskStats::queued_bytes`] shows how much is waiting.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ::tokio::sync::oneshot;
use bytes::Bytes;

use super::open_file::{Doubt, OpenFile};
use crate::env::DiskStats;

/// Jobs taken from the queue at once.
const BATCH_JOBS: usize = 256;
/// Bytes after which no further job is taken.
const BATCH_BYTES: u64 = 8 << 20;

type Done = oneshot::Sender<io::Result<()>>;

/// What a job does to its file.
pub(super) enum Work {
    Write { pos: u64, slices: Vec<Bytes> },
    Truncate { len: u64 },
    Sync,
}

impl Work {
    fn bytes(&self) -> u64 {
        match self {
            Self::Write { slices, .. } => slices.iter().map(|slice| slice.len() as u64).sum(),
            Self::Truncate { .. } | Self::Sync => 0,
        }
    }
}

struct Job {
    file: Arc<OpenFile>,
    work: Work,
    bytes: u64,
    done: Done,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    stats: Arc<DiskStats>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) -> VecDeque<Job> {
        let mut queue = self.queue();
        queue.closed = true;
        std::mem::take(&mut queue.jobs)
    }
}

/// The callers' side of a writer. When the last one is dropped the thread carries out what is
/// queued and ends.
pub(super) struct Writer {
    shared: Arc<Shared>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.filled.notify_one();
    }
}

impl Writer {
    pub(super) fn start(number: usize, stats: Arc<DiskStats>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            stats,
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(format!("disk-writer-{number}"))
            .spawn(move || run(&theirs))?;
        Ok(Self { shared })
    }

    /// Queues `work`. The receiver ends without a value if the writer is gone.
    pub(super) fn call(
        &self,
        file: &Arc<OpenFile>,
        work: Work,
    ) -> oneshot::Receiver<io::Result<()>> {
        let (done, result) = oneshot::channel();
        let bytes = work.bytes();
        // Held while queueing, so that the length foretold follows the order of the queue.
        let mut state = file.state();
        let mut queue = self.shared.queue();
        if queue.closed {
            return result;
        }
        match &work {
            Work::Write { pos, .. } => state.write_called(*pos, bytes),
            Work::Truncate { len } => state.truncate_called(*len),
            Work::Sync => {}
        }
        DiskStats::add(&self.shared.stats.queued_bytes, bytes);
        queue.jobs.push_back(Job {
            file: Arc::clone(file),
            work,
            bytes,
            done,
        });
        let was_idle = queue.jobs.len() == 1;
        drop(queue);
        drop(state);
        if was_idle {
            self.shared.filled.notify_one();
        }
        result
    }
}

/// Ends all that waits for a writer whose thread is unwinding, instead of letting it hang.
struct CloseAtEnd<'a>(&'a Shared);

impl Drop for CloseAtEnd<'_> {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

fn run(shared: &Shared) {
    let _close = CloseAtEnd(shared);
    let mut batch = Vec::with_capacity(BATCH_JOBS);
    while take_batch(shared, &mut batch) {
        // Stable: within a file the order of the calls stays.
        batch.sort_by_key(|job| job.file.id);
        let mut jobs = batch.drain(..).peekable();
        while let Some(first) = jobs.next() {
            let file = Arc::clone(&first.file);
            let mut round = Round::new(&file, &shared.stats);
            round.add(first);
            while let Some(job) = jobs.next_if(|job| job.file.id == file.id) {
                round.add(job);
            }
            round.finish();
        }
    }
}

/// Waits for jobs and moves some of them to `batch`. False when there will be none.
fn take_batch(shared: &Shared, batch: &mut Vec<Job>) -> bool {
    let mut queue = shared.queue();
    while queue.jobs.is_empty() {
        if queue.closed {
            return false;
        }
        queue = shared
            .filled
            .wait(queue)
            .unwrap_or_else(PoisonError::into_inner);
    }
    let mut bytes = 0;
    while batch.len() < BATCH_JOBS && bytes < BATCH_BYTES {
        let Some(job) = queue.jobs.pop_front() else {
            break;
        };
        bytes += job.bytes;
        batch.push(job);
    }
    drop(queue);
    DiskStats::subtract(&shared.stats.queued_bytes, bytes);
    true
}

/// What one file has to do in one round.
struct Round<'a> {
    file: &'a OpenFile,
    stats: &'a DiskStats,
    /// Writes that follow one another without a gap, and syncs called between them.
    run: Vec<Step>,
    /// Bytes of the run.
    slices: Vec<Bytes>,
    run_end: u64,
    /// Syncs whose writes are all carried out.
    syncs: Vec<Done>,
}

enum Step {
    Write {
        start: u64,
        end: u64,
        slices: usize,
        done: Done,
    },
    Sync(Done),
}

impl<'a> Round<'a> {
    fn new(file: &'a OpenFile, stats: &'a DiskStats) -> Self {
        Self {
            file,
            stats,
            run: Vec::new(),
            slices: Vec::new(),
            run_end: 0,
            syncs: Vec::new(),
        }
    }

    fn add(&mut self, job: Job) {
        match job.work {
            Work::Write { pos, slices } => {
                if pos != self.run_end {
                    self.write_out();
                }
                self.run_end = pos.saturating_add(job.bytes);
                let before = self.slices.len();
                self.slices
                    .extend(slices.into_iter().filter(|slice| !slice.is_empty()));
                self.run.push(Step::Write {
                    start: pos,
                    end: self.run_end,
                    slices: self.slices.len() - before,
                    done: job.done,
                });
            }
            Work::Truncate { len } => {
                self.write_out();
                let result = retry_interrupted(|| rustix::fs::ftruncate(&self.file.file, len));
                if result.is_ok() {
                    self.file.state().doubt.cut(len);
                }
                self.report(result, len, job.done);
            }
            Work::Sync => self.run.push(Step::Sync(job.done)),
        }
    }

    fn finish(mut self) {
        self.write_out();
        if self.syncs.is_empty() {
            return;
        }
        let began = Instant::now();
        let result = retry_interrupted(|| rustix::fs::fdatasync(&self.file.file));
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        DiskStats::add(&self.stats.sync_nanos, nanos);
        DiskStats::add(&self.stats.sync_calls, 1);
        DiskStats::add(&self.stats.syncs, self.syncs.len() as u64);
        {
            let doubt = &mut self.file.state().doubt;
            if let Err(error) = &result {
                DiskStats::add(&self.stats.sync_failures, 1);
                let from = doubt.unsynced_from;
                doubt.failed(if from == Doubt::CLEAN { 0 } else { from }, error);
            } else {
                doubt.unsynced_from = Doubt::CLEAN;
            }
        }
        for done in self.syncs {
            // Nobody waits for a dropped call.
            let _ = done.send(copy(&result));
        }
    }

    /// Writes the run and answers its writes; its syncs move on or fail.
    fn write_out(&mut self) {
        let steps = std::mem::take(&mut self.run);
        let slices = std::mem::take(&mut self.slices);
        let mut rest = &slices[..];
        // Bytes of the run are written up to here; ends at the first failure.
        let mut outcome = Outcome::NotTried;
        for step in steps {
            match step {
                Step::Sync(done) => match self.file.state().doubt.error() {
                    Some(error) => drop(done.send(Err(error))),
                    None => self.syncs.push(done),
                },
                Step::Write {
                    start,
                    end,
                    slices,
                    done,
                } => {
                    if matches!(outcome, Outcome::NotTried) {
                        outcome = self.write_all(start, rest);
                    }
                    rest = &rest[slices..];
                    let result = match &mut outcome {
                        Outcome::Written { up_to, .. } if end <= *up_to => Ok(()),
                        Outcome::Written { error, .. } => {
                            let error = error.take();
                            // What follows the failed write is tried for itself.
                            outcome = Outcome::NotTried;
                            Err(error.unwrap_or_else(|| io::ErrorKind::WriteZero.into()))
                        }
                        Outcome::NotTried => Err(io::ErrorKind::WriteZero.into()),
                    };
                    DiskStats::add(&self.stats.writes, 1);
                    DiskStats::add(&self.stats.write_bytes, end - start);
                    self.report(result, start, done);
                }
            }
        }
    }

    fn report(&self, result: io::Result<()>, pos: u64, done: Done) {
        if result.is_err() {
            DiskStats::add(&self.stats.write_failures, 1);
        }
        self.file.carried_out(&result, pos);
        // Nobody waits for a dropped call.
        let _ = done.send(result);
    }

    /// Writes `slices` (none empty) one after another from `start`. A call takes as many as the
    /// operating system allows (`IOV_MAX`), and may write less than it was given.
    fn write_all(&self, start: u64, slices: &[Bytes]) -> Outcome {
        let mut slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut slices = &mut slices[..];
        let mut up_to = start;
        while !slices.is_empty() {
            DiskStats::add(&self.stats.write_calls, 1);
            let result = retry_interrupted(|| rustix::io::pwritev(&self.file.file, slices, up_to));
            let error = match result {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(written) => {
                    up_to += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                    continue;
                }
                Err(error) => error,
            };
            return Outcome::Written {
                up_to,
                error: Some(error),
            };
        }
        Outcome::Written { up_to, error: None }
    }
}

/// How far the run's bytes got.
enum Outcome {
    NotTried,
    Written {
        /// Bytes before this offset are written.
        up_to: u64,
        /// Why the next one is not.
        error: Option<io::Error>,
    },
}

pub(super) fn retry_interrupted<T>(
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// The same result once more.
fn copy(result: &io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => Err(error.raw_os_error().map_or_else(
            || io::Error::new(error.kind(), error.to_string()),
            io::Error::from_raw_os_error,
        )),
    }
}
