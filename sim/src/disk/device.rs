//! One node's disk with what it has yet to answer and what is wrong with it.
//!
//! A call takes effect on what readers see when it is made, and answers at a drawn time; what a
//! sync covers becomes durable at that time, whether or not anybody still waits. Answers come from
//! one task of the world's devices, in order of time and of call. Latencies, faults and power
//! losses draw from streams of their own, so that more of one does not change the others.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use klamm::env::Rng;
use madsim::runtime::NodeHandle;
use tokio::sync::{Notify, oneshot};

use super::counts::{Count, Counts};
use super::faults::{Armable, Faults};
use super::file::Handle;
use super::inode::{Fate, SECTOR};
use super::kind::kind_of;
use super::platter::{Names, Platter};
use crate::alarm::Alarm;
use crate::plan::{DiskOptions, FileKind, SyncFailure};
use crate::trace::Trace;

const MICROS_IN_MILLI: u64 = 1000;
/// No sync is faster, if syncs take time at all.
const SYNC_MIN_MICROS: u64 = 100;

/// A disk, shared by the processes of its node, the task that answers, and who disturbs it.
pub(crate) struct Device {
    state: Mutex<State>,
    /// Told when the power has gone at a call.
    pub(super) went_out: Notify,
    node: String,
    trace: Trace,
}

/// What is behind the lock.
pub(super) struct State {
    pub(super) platter: Platter,
    pub(super) options: DiskOptions,
    pub(super) faults: Faults,
    pub(super) counts: Counts,
    pub(super) power: Power,
    latency: Rng,
    crash: Rng,
    answers: BTreeMap<(Duration, u64), Answer>,
    /// Tells apart answers that come at the same time.
    next: u64,
    alarm: Alarm,
}

/// Whether the disk still takes calls.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    /// It goes at that change from now; 1 is the next.
    GoesIn(u64),
    Out,
}

/// What is to be done at the time of an answer.
pub(super) enum Answer {
    /// The effect has been; somebody may wait.
    Tell(Box<dyn FnOnce() + Send>),
    Sync {
        sync: Sync,
        done: oneshot::Sender<io::Result<()>>,
    },
    SyncDir {
        dir: u64,
        changes: u64,
        done: oneshot::Sender<io::Result<()>>,
    },
}

/// A sync of the first `changes` changes of a file, called as `call` of its handle.
pub(super) struct Sync {
    pub(super) file: u64,
    pub(super) kind: FileKind,
    pub(super) changes: u64,
    pub(super) handle: Arc<Mutex<Handle>>,
    pub(super) call: u64,
}

/// The error of a device that fails.
pub(super) fn failed() -> io::Error {
    io::Error::other("the device failed")
}

/// What a call of a process that has ended gives.
pub(super) fn ended() -> io::Error {
    io::Error::other("the process has ended")
}

impl Device {
    /// An empty disk of `node`, which draws from streams derived from `root` and answers from
    /// `devices`.
    pub(crate) fn new(root: [u8; 32], node: &str, devices: &NodeHandle, trace: Trace) -> Arc<Self> {
        let options = DiskOptions::default();
        let device = Arc::new(Self {
            state: Mutex::new(State {
                platter: Platter::new(options.capacity_bytes),
                options,
                faults: Faults::new(Rng::derived(root, "faults", 0)),
                counts: Counts::default(),
                power: Power::On,
                latency: Rng::derived(root, "latency", 0),
                crash: Rng::derived(root, "crash", 0),
                answers: BTreeMap::new(),
                next: 0,
                alarm: Alarm::new(),
            }),
            went_out: Notify::new(),
            node: node.to_owned(),
            trace,
        });
        let driven = Arc::clone(&device);
        devices.spawn(poll_fn(move |cx| driven.drive(cx)));
        device
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn event(&self, what: fmt::Arguments<'_>) {
        self.trace.event(&self.node, what);
    }

    /// Gives the answers whose time has come.
    fn drive(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut tell: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        let mut state = self.state();
        state.alarm.listen(cx.waker());
        let now = state.alarm.now();
        while state.answers_now()
            && let Some(first) = state.answers.first_entry()
        {
            if first.key().0 > now {
                break;
            }
            match first.remove() {
                Answer::Tell(told) => tell.push(told),
                Answer::Sync { sync, done } => {
                    let result = state.finish_sync(&sync);
                    if let Err(error) = &result {
                        self.event(format_args!("sync {} failed: {error}", sync.file));
                    }
                    tell.push(Box::new(move || {
                        // Nobody waits for a dropped call.
                        let _ = done.send(result);
                    }));
                }
                Answer::SyncDir { dir, changes, done } => {
                    state.platter.settle_dir(dir, changes);
                    tell.push(Box::new(move || {
                        let _ = done.send(Ok(()));
                    }));
                }
            }
        }
        state.arm();
        drop(state);
        // Without the lock: what is told may drop files, and they take it.
        for told in tell {
            told();
        }
        Poll::Pending
    }

    /// The process that used the disk has ended: what it called and was not done is not done.
    pub(crate) fn end_process(&self) {
        let mut state = self.state();
        state.platter.let_go();
        let answers = std::mem::take(&mut state.answers);
        drop(state);
        drop(answers);
    }

    /// Keeps of what is not durable what the draws say, and has power again. No process uses it.
    pub(crate) fn lose_power(&self) {
        self.end_process();
        let mut state = self.state();
        let state = &mut *state;
        state.power = Power::On;
        let crash = state.options.crash;
        let (rng, counts) = (&mut state.crash, &mut state.counts);
        state.platter.lose_power(crash, rng, counts);
    }

    /// To be called before a process uses it.
    pub(crate) fn begin_process(&self) {
        if self.state().power == Power::Out {
            self.lose_power();
        }
        let mut state = self.state();
        if std::mem::take(&mut state.faults.lose_all) {
            state.platter.wipe();
            state.counts.add(Count::LostDisks, 1);
            drop(state);
            self.event(format_args!("lost disk"));
        }
    }
}

impl State {
    fn answers_now(&self) -> bool {
        !self.faults.stalled && self.power != Power::Out
    }

    fn arm(&mut self) {
        if self.answers_now()
            && let Some(((at, _), _)) = self.answers.first_key_value()
        {
            let at = *at;
            self.alarm.set(at);
        }
    }

    /// Looks at the answers again, after what held them back may have gone.
    pub(super) fn wake(&self) {
        self.alarm.ring();
    }

    /// One of the calls that change the disk is being made.
    pub(super) fn count_change(&mut self) {
        self.power = match self.power {
            Power::GoesIn(0 | 1) => Power::Out,
            Power::GoesIn(left) => Power::GoesIn(left - 1),
            unchanged => unchanged,
        };
    }

    fn slowness(&mut self) -> u64 {
        if self.faults.slow_max_ms == 0 {
            return 0;
        }
        self.counts.add(Count::SlowCalls, 1);
        let bound = self.faults.slow_max_ms.saturating_mul(MICROS_IN_MILLI);
        self.latency.below(bound) + 1
    }

    /// When a call made now answers; none for at once.
    pub(super) fn answer_time(&mut self) -> Option<Duration> {
        let draw = self.latency.u64();
        let mut micros = self.slowness();
        if draw.is_multiple_of(4) {
            let bound = self.options.latency_max_ms.saturating_mul(MICROS_IN_MILLI);
            // Drawn twice, so that most are fast.
            let most = self.latency.below(bound.saturating_add(1));
            micros = micros.saturating_add(self.latency.below(most + 1));
        }
        if micros == 0 && !self.faults.stalled {
            return None;
        }
        Some(self.alarm.now() + Duration::from_micros(micros))
    }

    /// When a sync called now completes.
    pub(super) fn sync_time(&mut self) -> Duration {
        let bound = self.options.sync_max_ms.saturating_mul(MICROS_IN_MILLI);
        let drawn = self
            .latency
            .below(bound + 1)
            .max(SYNC_MIN_MICROS.min(bound));
        let micros = drawn.saturating_add(self.slowness());
        self.alarm.now() + Duration::from_micros(micros)
    }

    pub(super) fn answer_at(&mut self, at: Duration, answer: Answer) {
        let number = self.next;
        self.next += 1;
        self.answers.insert((at, number), answer);
        if self.answers_now() {
            self.alarm.set(at);
        }
    }

    fn finish_sync(&mut self, sync: &Sync) -> io::Result<()> {
        let mut handle = sync.handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle.check(sync.call)?;
        let Some(how) = self.faults.at_sync(sync.kind) else {
            self.platter.settle(sync.file, sync.changes);
            return Ok(());
        };
        self.counts.add(
            match how {
                SyncFailure::KeepInCache => Count::FailedSyncsKept,
                SyncFailure::Revert => Count::FailedSyncsReverted,
            },
            1,
        );
        let error = failed();
        if let Some(from) = self.platter.lose_sync(sync.file, sync.changes, how) {
            handle.doubt(from, error.kind(), sync.call);
        }
        Err(error)
    }

    /// A write to a file of `kind`, with what may befall it.
    pub(super) fn write(
        &mut self,
        file: u64,
        kind: FileKind,
        pos: u64,
        bytes: Bytes,
    ) -> io::Result<()> {
        let len = bytes.len() as u64;
        if len == 0 {
            return Ok(());
        }
        self.count_change();
        self.counts.add(Count::Writes, 1);
        let end = pos.saturating_add(len);
        super::inode::bounded(end)?;
        let growth = end.saturating_sub(self.platter.inode(file)?.len());
        let room = self.platter.room();
        if growth > room {
            self.counts.add(Count::NoSpace, 1);
            let fits = len - (growth - room).min(len);
            self.write_part(file, pos, &bytes, fits)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.counts.add(Count::WrittenBytes, len);
        match self.faults.at_write(kind) {
            None => self.platter.write(file, pos, bytes, Fate::Written),
            Some(Armable::Lose) => {
                self.counts.add(Count::LostWrites, 1);
                self.lose(file, pos, bytes)
            }
            Some(Armable::Misdirect) => {
                self.counts.add(Count::MisdirectedWrites, 1);
                self.misdirect(file, kind, pos, &bytes);
                self.lose(file, pos, bytes)
            }
            Some(_) => {
                self.counts.add(Count::FailedWrites, 1);
                self.write_part(file, pos, &bytes, len)?;
                Err(failed())
            }
        }
    }

    /// Writes up to `most` of the bytes.
    fn write_part(&mut self, file: u64, pos: u64, bytes: &Bytes, most: u64) -> io::Result<()> {
        let drawn = self.faults.rng.below(most + 1);
        let part = bytes.slice(..usize::try_from(drawn).unwrap_or(0));
        self.platter.write(file, pos, part, Fate::Written)
    }

    /// The device says that it has written, and has not.
    fn lose(&mut self, file: u64, pos: u64, bytes: Bytes) -> io::Result<()> {
        let cached = self.faults.rng.below(2) == 0;
        self.platter.write(file, pos, bytes, Fate::Lost { cached })
    }

    /// Writes the bytes to another place in the same file or another of its kind, if there is one:
    /// as far from the beginning of a sector as where they belong.
    fn misdirect(&mut self, file: u64, kind: FileKind, pos: u64, bytes: &[u8]) {
        let own = usize::try_from(pos).unwrap_or(0);
        let walk = self.platter.walk(Names::Live).into_iter();
        let others = walk.filter(|(path, _)| kind_of(path) == kind);
        let mut places = Vec::new();
        for (_, id) in others {
            let len = self
                .platter
                .file(id)
                .map_or(0, |inode| inode.durable().len());
            let starts = (own % SECTOR..len).step_by(SECTOR);
            places.extend(
                starts
                    .filter(|start| id != file || *start != own)
                    .map(|at| (id, at)),
            );
        }
        let drawn = self.faults.rng.below(places.len() as u64);
        let place = usize::try_from(drawn).ok().and_then(|at| places.get(at));
        if let Some((id, at)) = place
            && let Ok(inode) = self.platter.inode(*id)
        {
            inode.scribble(*at, bytes);
        }
    }
}
