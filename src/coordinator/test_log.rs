//! A log in memory, and an `Env` whose time passes only when nothing else can happen.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::driver::{LoadedBatch, LoadedRecord, ShardLog};
use super::ledger::KeyValue;
use crate::env::{
    BoxFuture, Clock, DirEntry, Disk, Entropy, Env, File, Listener, LockGuard, Net, OpenMode, Rng,
    Space, Stream, Task, TaskControl, Tasks, Timer,
};
use crate::types::{ErrorCode, Instant, Offset, Timestamp};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds this")
}

#[derive(Default)]
struct LogState {
    records: Vec<KeyValue>,
    /// Results for appends to come; without one an append succeeds.
    fates: VecDeque<Result<(), ErrorCode>>,
    read_errors: VecDeque<ErrorCode>,
    /// Appends resolve only up to this offset.
    safe: Option<usize>,
    appends: usize,
}

/// A partition in memory. Cloning shares it.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<LogState>>);

impl MemoryLog {
    pub fn len(&self) -> usize {
        lock(&self.0).records.len()
    }

    pub fn appends(&self) -> usize {
        lock(&self.0).appends
    }

    /// Appends stay under way until [`MemoryLog::release`].
    pub fn hold(&self) {
        let mut state = lock(&self.0);
        state.safe = Some(state.records.len());
    }

    pub fn release(&self) {
        lock(&self.0).safe = None;
    }

    /// The next append writes its records and fails all the same.
    pub fn fail_next(&self, error: ErrorCode) {
        lock(&self.0).fates.push_back(Err(error));
    }

    pub fn fail_read(&self, error: ErrorCode) {
        lock(&self.0).read_errors.push_back(error);
    }
}

impl ShardLog for MemoryLog {
    fn append(&self, mut records: Vec<KeyValue>) -> BoxFuture<'static, Result<Offset, ErrorCode>> {
        let shared = self.0.clone();
        let mut state = lock(&self.0);
        let base = state.records.len();
        state.records.append(&mut records);
        state.appends += 1;
        let end = state.records.len();
        let fate = state.fates.pop_front().unwrap_or(Ok(()));
        Box::pin(std::future::poll_fn(move |_| {
            if lock(&shared).safe.is_some_and(|safe| end > safe) {
                return Poll::Pending;
            }
            let base = i64::try_from(base).expect("a small log");
            Poll::Ready(fate.map(|()| Offset(base)))
        }))
    }

    fn read(&self, from: Offset) -> BoxFuture<'static, Result<LoadedBatch, ErrorCode>> {
        let mut state = lock(&self.0);
        if let Some(error) = state.read_errors.pop_front() {
            return Box::pin(std::future::ready(Err(error)));
        }
        let start = usize::try_from(from.0).expect("offsets begin at 0");
        let end = state.records.len().min(start + 2);
        let offset = |at: usize| Offset(i64::try_from(at).expect("a small log"));
        let records = state.records[start..end].iter().enumerate();
        let batch = LoadedBatch {
            records: records
                .map(|(at, record)| LoadedRecord {
                    offset: offset(start + at),
                    timestamp: record.timestamp,
                    key: Some(record.key.clone()),
                    value: record.value.clone(),
                })
                .collect(),
            next: offset(end),
            end: end == state.records.len(),
        };
        Box::pin(std::future::ready(Ok(batch)))
    }
}

#[derive(Default)]
struct WorldState {
    now: Instant,
    tasks: BTreeMap<u64, Option<BoxFuture<'static, ()>>>,
    next: u64,
    /// Alarms set, by the timer's number.
    alarms: BTreeMap<u64, Instant>,
    streams: u8,
}

/// Tasks and time of one test. Everything is polled in turn; when that moves nothing any more, the
/// clock jumps to the next alarm.
#[derive(Clone, Default)]
pub struct TestWorld(Arc<Mutex<WorldState>>);

/// Rounds of polling everything after which nothing is taken to move.
const ROUNDS: usize = 40;

impl TestWorld {
    pub fn env(&self) -> Env {
        Env {
            clock: Arc::new(self.clone()),
            net: Arc::new(Absent),
            disk: Arc::new(Absent),
            tasks: Arc::new(self.clone()),
            entropy: Arc::new(self.clone()),
        }
    }

    /// Runs `main` to its end; panics when nothing can wake it.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = std::pin::pin!(main);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..10_000 {
            for _ in 0..ROUNDS {
                if let Poll::Ready(value) = main.as_mut().poll(&mut context) {
                    return value;
                }
                self.poll_tasks();
            }
            let mut state = lock(&self.0);
            let next = state.alarms.values().copied().min();
            let next = next.expect("nothing is left that could go on");
            state.now = state.now.max(next);
        }
        panic!("time passes and nothing happens");
    }

    /// Lets `span` pass.
    pub fn pass(&self, span: Duration) {
        let env = self.env();
        self.run(env.sleep(span));
    }

    fn poll_tasks(&self) {
        let mut context = Context::from_waker(Waker::noop());
        let numbers: Vec<u64> = lock(&self.0).tasks.keys().copied().collect();
        for number in numbers {
            let body = lock(&self.0).tasks.get_mut(&number).and_then(Option::take);
            if let Some(mut body) = body {
                let is_done = body.as_mut().poll(&mut context).is_ready();
                let mut state = lock(&self.0);
                if is_done {
                    state.tasks.remove(&number);
                } else if let Some(place) = state.tasks.get_mut(&number) {
                    *place = Some(body);
                }
            }
        }
    }
}

struct TestTimer {
    world: TestWorld,
    number: u64,
    at: Option<Instant>,
}

impl Timer for TestTimer {
    fn reset(&mut self, at: Instant) {
        self.at = Some(at);
        lock(&self.world.0).alarms.insert(self.number, at);
    }

    fn clear(&mut self) {
        self.at = None;
        lock(&self.world.0).alarms.remove(&self.number);
    }

    fn poll_fired(&mut self, _: &mut Context<'_>) -> Poll<()> {
        match self.at {
            Some(at) if at <= lock(&self.world.0).now => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl Drop for TestTimer {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Clock for TestWorld {
    fn now(&self) -> Instant {
        lock(&self.0).now
    }

    fn wall(&self) -> Timestamp {
        let passed = lock(&self.0).now.since(Instant(0)).as_millis();
        Timestamp(1_700_000_000_000 + i64::try_from(passed).expect("a short test"))
    }

    fn timer(&self) -> Box<dyn Timer> {
        let mut state = lock(&self.0);
        state.next += 1;
        Box::new(TestTimer {
            world: self.clone(),
            number: state.next,
            at: None,
        })
    }
}

impl Tasks for TestWorld {
    fn spawn(&self, _: &'static str, body: BoxFuture<'static, ()>) -> Task {
        let mut state = lock(&self.0);
        state.next += 1;
        let number = state.next;
        state.tasks.insert(number, Some(body));
        Task::new(Box::new(TestTask {
            world: self.clone(),
            number,
        }))
    }
}

struct TestTask {
    world: TestWorld,
    number: u64,
}

impl TaskControl for TestTask {
    fn abort(&self) {
        let body = lock(&self.world.0).tasks.remove(&self.number);
        drop(body);
    }

    fn ended(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::poll_fn(|_| match self.is_finished() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }))
    }

    fn is_finished(&self) -> bool {
        !lock(&self.world.0).tasks.contains_key(&self.number)
    }
}

impl Entropy for TestWorld {
    fn stream(&self, _: &'static str) -> Rng {
        let mut state = lock(&self.0);
        state.streams += 1;
        Rng::from_seed([state.streams; 32])
    }
}

/// A seam these tests do not use.
struct Absent;

fn absent<'a, T: Send + 'a>() -> BoxFuture<'a, io::Result<T>> {
    Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
}

impl Net for Absent {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        absent()
    }

    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        absent()
    }

    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<String>>> {
        absent()
    }
}

impl Disk for Absent {
    fn open<'a>(&'a self, _: &'a Path, _: OpenMode) -> BoxFuture<'a, io::Result<Arc<dyn File>>> {
        absent()
    }

    fn list<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<Vec<DirEntry>>> {
        absent()
    }

    fn create_dir<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        absent()
    }

    fn rename<'a>(&'a self, _: &'a Path, _: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        absent()
    }

    fn remove<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        absent()
    }

    fn remove_dir<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        absent()
    }

    fn sync_dir<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        absent()
    }

    fn lock<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<Box<dyn LockGuard>>> {
        absent()
    }

    fn space<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<Space>> {
        absent()
    }
}

/// Polls two futures until both are done.
pub async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    futures_util::future::join(a, b).await
}

/// Whether a future is done now.
pub fn is_ready<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
