//! Where the clients of a run write what they saw.
//!
//! Times are nanoseconds of the machine's monotonic clock since the recorder was made: clients in
//! other processes of the machine read the same clock and stamp their events themselves. Events
//! may come late here; [`Recorder::finish`] puts all in the order of their times and numbers the
//! operations anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::time::{ClockId, clock_gettime};

use crate::history::{Answer, Attempt, Call, Event, Fetched, Note, What, file, outcome};

/// Ids below this are given out by [`Recorder::next_id`]; those above belong to processes.
const OWN_IDS: u64 = 1 << 40;

/// A history while it is written.
#[derive(Debug)]
pub struct Recorder {
    origin: u64,
    state: Mutex<State>,
    last_id: AtomicU64,
    /// Counted for people who watch.
    pub counts: Counts,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    last_op: u64,
}

/// Operations so far.
#[derive(Debug, Default)]
pub struct Counts {
    pub ok: AtomicU64,
    pub fail: AtomicU64,
    pub info: AtomicU64,
    /// Records acknowledged.
    pub acked: AtomicU64,
    /// Records read.
    pub read: AtomicU64,
}

/// Nanoseconds of the machine's monotonic clock.
#[must_use]
pub fn machine_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    #[must_use]
    pub fn new() -> Self {
        Self {
            origin: machine_nanos(),
            state: Mutex::default(),
            last_id: AtomicU64::new(0),
            counts: Counts::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the monotonic clock showed when this was made.
    #[must_use]
    pub fn origin(&self) -> u64 {
        self.origin
    }

    #[must_use]
    pub fn now(&self) -> u64 {
        machine_nanos().saturating_sub(self.origin)
    }

    /// An id that no other record has.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The first of the ids that belong to process `number`, which counts from 0.
    #[must_use]
    pub fn ids_of_process(number: u64) -> u64 {
        OWN_IDS * (number + 1)
    }

    /// `process` asks for `call` now. The number names the operation when it ends.
    pub fn invoke(&self, process: &str, call: Call) -> u64 {
        self.invoke_at(self.now(), process, call)
    }

    /// As [`Recorder::invoke`], at a time that has passed.
    pub fn invoke_at(&self, time: u64, process: &str, call: Call) -> u64 {
        let mut state = self.lock();
        state.last_op += 1;
        let op = state.last_op;
        state
            .events
            .push(event(time, process, What::Invoke { op, call }));
        op
    }

    pub fn ok(&self, process: &str, op: u64, answer: Answer) {
        self.ok_at(self.now(), process, op, answer);
    }

    pub fn ok_at(&self, time: u64, process: &str, op: u64, answer: Answer) {
        self.counts.ok.fetch_add(1, Ordering::Relaxed);
        match &answer {
            // The workloads send one record an operation.
            Answer::Send { .. } => drop(self.counts.acked.fetch_add(1, Ordering::Relaxed)),
            Answer::Read { partitions } => {
                let read: usize = partitions.iter().map(|of: &Fetched| of.records.len()).sum();
                self.counts.read.fetch_add(read as u64, Ordering::Relaxed);
            }
            _ => {}
        }
        self.push(time, process, What::Ok { op, answer });
    }

    /// The operation did not work: `fail` when every attempt proves that nothing happened, by the
    /// rules of [`outcome`], else `info`.
    pub fn not_ok(&self, process: &str, op: u64, is_send: bool, errors: &[&str]) {
        self.not_ok_at(self.now(), process, op, is_send, errors);
    }

    pub fn not_ok_at(&self, time: u64, process: &str, op: u64, is_send: bool, errors: &[&str]) {
        let class = if is_send {
            outcome::of_send
        } else {
            outcome::of_other
        };
        let is_fail = |error: &&str| class(error) == outcome::Class::Fail;
        let failed = !errors.is_empty() && errors.iter().all(is_fail);
        let attempts = errors.iter().map(|error| Attempt {
            error: (*error).to_owned(),
        });
        let attempts = attempts.collect();
        let what = if failed {
            self.counts.fail.fetch_add(1, Ordering::Relaxed);
            What::Fail { op, attempts }
        } else {
            self.counts.info.fetch_add(1, Ordering::Relaxed);
            What::Info { op, attempts }
        };
        self.push(time, process, what);
    }

    /// Something that is no operation.
    pub fn note(&self, process: &str, note: Note) {
        self.push(self.now(), process, What::Note { note });
    }

    /// A rule that the run itself saw broken.
    pub fn broken(&self, process: &str, property: &str, detail: impl Into<String>) {
        let note = Note::Broken {
            property: property.to_owned(),
            detail: detail.into(),
            of: None,
        };
        self.note(process, note);
    }

    /// What the nemesis did.
    pub fn fault(&self, kind: &str, detail: impl Into<String>) {
        let note = Note::Fault {
            kind: kind.to_owned(),
            detail: detail.into(),
        };
        self.note("nemesis", note);
    }

    fn push(&self, time: u64, process: &str, what: What) {
        self.lock().events.push(event(time, process, what));
    }

    /// Everything so far, in the order of the times, operations numbered in that order.
    #[must_use]
    pub fn finish(&self) -> Vec<Event> {
        let mut events = self.lock().events.clone();
        events.sort_by_key(|event| event.time);
        let mut numbers = BTreeMap::new();
        for event in &events {
            if let What::Invoke { op, .. } = &event.what {
                let number = numbers.len() as u64 + 1;
                numbers.insert(*op, number);
            }
        }
        for event in &mut events {
            match &mut event.what {
                What::Invoke { op, .. }
                | What::Ok { op, .. }
                | What::Fail { op, .. }
                | What::Info { op, .. } => *op = numbers.get(op).copied().unwrap_or(*op),
                What::Note { .. } => {}
            }
        }
        events
    }
}

/// Writes `events` to a file.
pub fn write_file(path: &Path, events: &[Event]) -> io::Result<()> {
    let mut to = BufWriter::new(File::create(path)?);
    file::write(&mut to, events)?;
    to.flush()
}

fn event(time: u64, process: &str, what: What) -> Event {
    Event {
        time,
        process: process.to_owned(),
        cluster: None,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::Recorder;
    use crate::history::{Call, History, What};

    #[test]
    fn what_comes_late_is_put_in_its_place() {
        let recorder = Recorder::new();
        let late = recorder.invoke_at(20, "a", Call::InitProducer);
        let early = recorder.invoke_at(10, "b", Call::InitProducer);
        recorder.not_ok_at(30, "a", late, false, &["INVALID_REQUEST"]);
        recorder.not_ok_at(40, "b", early, false, &["TIMEOUT"]);
        let events = recorder.finish();
        let times: Vec<u64> = events.iter().map(|event| event.time).collect();
        assert_eq!(times, [10, 20, 30, 40]);
        assert!(matches!(events[0].what, What::Invoke { op: 1, .. }));
        assert!(matches!(events[2].what, What::Fail { op: 2, .. }));
        assert!(matches!(events[3].what, What::Info { op: 1, .. }));
        History::from_events(events).expect("a sound history");
    }
}
