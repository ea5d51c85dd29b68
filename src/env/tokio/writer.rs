//! Threads that write and sync files, for all who ask, in as few system calls as they can.
//!
//! Every open file has a queue of its own, and one thread at a time. Whichever is idle takes the
//! file that has waited longest, with what has gathered for it (at most [`BATCH_JOBS`] or
//! [`BATCH_BYTES`] at once), joins neighbouring writes into one `pwritev`, and answers all syncs by
//! one `fdatasync` (group commit: while one runs, the next round gathers). Files do not wait for
//! each other's syncs unless there are fewer threads than files; the file system joins syncs that
//! run side by side. Writers are told as soon as their bytes are written, before the sync.
//!
//! **Invariant**: a sync succeeds only if every write and truncate called before it on that file
//! was carried out and an `fdatasync` after them succeeded. See [`Doubt`](super::open_file::Doubt).
//!
//! The queues have no bound of their own: a caller that is not waiting for its writes is holding
//! their bytes anyway, so it is the callers (a connection's requests in flight, a fetcher's one
//! fetch) that bound them. [`DiskStats::queued_bytes`] shows how much is waiting.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ::tokio::sync::oneshot;
use bytes::Bytes;

use super::open_file::OpenFile;
use crate::env::DiskStats;

/// Jobs of a file taken at once.
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
    work: Work,
    bytes: u64,
    done: Done,
}

/// The jobs of one file that no thread has taken yet.
#[derive(Default)]
pub(super) struct Jobs {
    queue: VecDeque<Job>,
    /// The file is in line for a thread, or with one: whoever adds a job need not see to it.
    is_seen_to: bool,
    /// Nobody will carry out any more of them.
    is_over: bool,
}

/// Files that have jobs, and wait for a thread.
#[derive(Default)]
struct Line {
    files: VecDeque<Arc<OpenFile>>,
    /// Threads that wait for a file.
    idle: usize,
    /// No further jobs come: the last caller is gone.
    is_closed: bool,
    /// A thread has unwound: nothing is carried out any more.
    is_broken: bool,
}

struct Shared {
    line: Mutex<Line>,
    filled: Condvar,
    stats: Arc<DiskStats>,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `file` in line. False where nothing is carried out any more.
    fn put_in_line(&self, file: Arc<OpenFile>) -> bool {
        let mut line = self.line();
        if line.is_broken {
            return false;
        }
        line.files.push_back(file);
        let wake = line.idle > 0;
        drop(line);
        if wake {
            self.filled.notify_one();
        }
        true
    }

    /// Waits for a file that has jobs. `None` when there will be none.
    fn next_file(&self) -> Option<Arc<OpenFile>> {
        let mut line = self.line();
        loop {
            if line.is_broken {
                return None;
            }
            if let Some(file) = line.files.pop_front() {
                return Some(file);
            }
            if line.is_closed {
                return None;
            }
            line.idle += 1;
            line = self
                .filled
                .wait(line)
                .unwrap_or_else(PoisonError::into_inner);
            line.idle -= 1;
        }
    }

    /// Moves jobs of `file` to `batch`.
    fn take_jobs(&self, file: &OpenFile, batch: &mut Vec<Job>) {
        let jobs = &mut file.state().jobs.queue;
        let mut bytes = 0;
        while batch.len() < BATCH_JOBS && bytes < BATCH_BYTES {
            let Some(job) = jobs.pop_front() else {
                break;
            };
            bytes += job.bytes;
            batch.push(job);
        }
        DiskStats::subtract(&self.stats.queued_bytes, bytes);
    }

    /// Lets go of `file`: back into the line if jobs have gathered.
    fn let_go(&self, file: Arc<OpenFile>) {
        let mut state = file.state();
        if state.jobs.queue.is_empty() {
            state.jobs.is_seen_to = false;
            return;
        }
        drop(state);
        if !self.put_in_line(Arc::clone(&file)) {
            self.give_up(&file);
        }
    }

    /// Ends all that waits for `file`, and all that will.
    fn give_up(&self, file: &OpenFile) {
        let jobs = {
            let mut state = file.state();
            state.jobs.is_over = true;
            std::mem::take(&mut state.jobs.queue)
        };
        let bytes = jobs.iter().map(|job| job.bytes).sum();
        DiskStats::subtract(&self.stats.queued_bytes, bytes);
    }
}

/// The callers' side of the threads. When the last one is dropped they carry out what is queued and
/// end.
pub(super) struct Writers {
    shared: Arc<Shared>,
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.line().is_closed = true;
        self.shared.filled.notify_all();
    }
}

impl Writers {
    pub(super) fn start(threads: NonZeroUsize, stats: Arc<DiskStats>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            line: Mutex::default(),
            filled: Condvar::new(),
            stats,
        });
        // Made first: if a thread cannot be had, those that were end with it.
        let writers = Self { shared };
        for number in 0..threads.get() {
            let theirs = Arc::clone(&writers.shared);
            std::thread::Builder::new()
                .name(format!("disk-writer-{number}"))
                .spawn(move || run(&theirs))?;
        }
        Ok(writers)
    }

    /// Queues `work`. The receiver ends without a value if the threads are gone.
    pub(super) fn call(
        &self,
        file: &Arc<OpenFile>,
        work: Work,
    ) -> oneshot::Receiver<io::Result<()>> {
        let (done, result) = oneshot::channel();
        let bytes = work.bytes();
        // Held while queueing, so that the length foretold follows the order of the queue.
        let mut state = file.state();
        if state.jobs.is_over {
            return result;
        }
        match &work {
            Work::Write { pos, .. } => state.write_called(*pos, bytes),
            Work::Truncate { len } => state.truncate_called(*len),
            Work::Sync => {}
        }
        DiskStats::add(&self.shared.stats.queued_bytes, bytes);
        state.jobs.queue.push_back(Job { work, bytes, done });
        let is_seen_to = std::mem::replace(&mut state.jobs.is_seen_to, true);
        drop(state);
        if !is_seen_to && !self.shared.put_in_line(Arc::clone(file)) {
            self.shared.give_up(file);
        }
        result
    }
}

/// Ends all that waits for a file whose thread is unwinding, and all else with it, instead of
/// letting it hang.
struct Unwinding<'a> {
    shared: &'a Shared,
    file: &'a OpenFile,
}

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.shared.give_up(self.file);
        let files = {
            let mut line = self.shared.line();
            line.is_broken = true;
            std::mem::take(&mut line.files)
        };
        for file in files {
            self.shared.give_up(&file);
        }
        self.shared.filled.notify_all();
    }
}

fn run(shared: &Shared) {
    let mut batch = Vec::with_capacity(BATCH_JOBS);
    while let Some(file) = shared.next_file() {
        let unwinding = Unwinding {
            shared,
            file: &file,
        };
        shared.take_jobs(&file, &mut batch);
        let mut round = Round::new(&file, &shared.stats);
        for job in batch.drain(..) {
            round.add(job);
        }
        round.finish();
        drop(unwinding);
        shared.let_go(file);
    }
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
        let result = self.file.sync_data(true);
        let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        DiskStats::add(&self.stats.sync_nanos, nanos);
        DiskStats::add(&self.stats.sync_calls, 1);
        DiskStats::add(&self.stats.syncs, self.syncs.len() as u64);
        if result.is_err() {
            DiskStats::add(&self.stats.sync_failures, 1);
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    const FILES: u64 = 24;
    const STEPS: u64 = 300;

    type Call = oneshot::Receiver<io::Result<()>>;

    fn writers(threads: usize) -> (Writers, Arc<DiskStats>) {
        let stats = Arc::<DiskStats>::default();
        let threads = NonZeroUsize::new(threads).expect("threads");
        let writers = Writers::start(threads, stats.clone()).expect("started");
        (writers, stats)
    }

    fn empty_file() -> Arc<OpenFile> {
        let file = tempfile::tempfile().expect("a file");
        Arc::new(OpenFile::new(file).expect("its length"))
    }

    fn outcome(call: Call) -> io::Result<()> {
        call.blocking_recv().expect("an answer")
    }

    fn write(writers: &Writers, file: &Arc<OpenFile>, pos: u64, bytes: Vec<u8>) -> Call {
        let slices = vec![bytes.into()];
        writers.call(file, Work::Write { pos, slices })
    }

    /// Writes at the end, over the beginning, cuts, and syncs; what the file then must hold.
    fn torment(writers: &Writers, file: &Arc<OpenFile>, number: u64) {
        let mut wanted = Vec::new();
        let mut calls = Vec::new();
        for step in 0..STEPS {
            let byte = u8::try_from((step * 7 + number) % 256).expect("a byte");
            let bytes = vec![byte; usize::try_from(1 + step * 37 % 900).expect("small")];
            calls.push(write(writers, file, wanted.len() as u64, bytes.clone()));
            wanted.extend(bytes);
            if step % 5 == 0 {
                calls.push(writers.call(file, Work::Sync));
            }
            if step % 7 == 0 {
                calls.push(write(writers, file, 0, vec![byte]));
                wanted[0] = byte;
            }
            if step % 50 == 49 {
                wanted.truncate(wanted.len() - 1);
                let len = wanted.len() as u64;
                calls.push(writers.call(file, Work::Truncate { len }));
            }
            assert_eq!(file.len().expect("a length"), wanted.len() as u64);
        }
        outcome(writers.call(file, Work::Sync)).expect("synced");
        for call in calls {
            outcome(call).expect("carried out");
        }
        let mut found = vec![0; wanted.len()];
        file.file.read_exact_at(&mut found, 0).expect("read");
        assert!(found == wanted, "file {number} differs");
    }

    #[test]
    fn each_file_changes_in_the_order_of_its_calls_however_many_threads_there_are() {
        for threads in [1, 3, 16] {
            let (writers, stats) = writers(threads);
            let writers = &writers;
            std::thread::scope(|scope| {
                for number in 0..FILES {
                    scope.spawn(move || torment(writers, &empty_file(), number));
                }
            });
            assert_eq!(DiskStats::get(&stats.queued_bytes), 0);
            assert_eq!(DiskStats::get(&stats.syncs), FILES * (STEPS / 5 + 1));
        }
    }

    #[test]
    fn what_is_queued_is_carried_out_when_the_last_caller_is_gone() {
        let (writers, _) = writers(4);
        let file = empty_file();
        let step = |at: u64| write(&writers, &file, at * 10, vec![1; 10]);
        let calls: Vec<Call> = (0..2000).map(step).collect();
        drop(writers);
        for call in calls {
            outcome(call).expect("carried out");
        }
        assert_eq!(file.len().expect("a length"), 20_000);
    }

    #[test]
    fn calls_end_without_an_outcome_once_a_thread_has_unwound() {
        let (writers, stats) = writers(2);
        let file = empty_file();
        let unwound = std::thread::scope(|scope| {
            let shared = &writers.shared;
            let file = &file;
            let thread = scope.spawn(move || {
                let _unwinding = Unwinding { shared, file };
                panic!("as a fault of a round would");
            });
            thread.join().is_err()
        });
        assert!(unwound);
        for file in [file, empty_file()] {
            let call = write(&writers, &file, 0, vec![1]);
            assert!(call.blocking_recv().is_err());
        }
        assert_eq!(DiskStats::get(&stats.queued_bytes), 0);
    }
}
