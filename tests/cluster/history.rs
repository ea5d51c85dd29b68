//! The history of a run as its clients see it, in the form that the checkers judge.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use klamm::client::ConsumerRecord;
use klamm::types::Timestamp;
use klamm_jepsen::checker;
use klamm_jepsen::history::outcome::{self, Class};
use klamm_jepsen::history::{
    Answer, Attempt, Call, Event, Fetched, History, Library, Note, Partition, Phase, Position,
    Seen, Summary, What, Written, file, summary,
};

/// A history while it is written. Threads share it.
pub struct Recorder {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    last_op: u64,
    last_id: u64,
}

impl Recorder {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics here")
    }

    fn push(&self, state: &mut State, process: &str, what: What) {
        let time = self.began.elapsed().as_nanos();
        state.events.push(Event {
            time: u64::try_from(time).expect("a run of less than centuries"),
            process: process.to_owned(),
            cluster: None,
            what,
        });
    }

    /// An id that no other record has.
    pub fn next_id(&self) -> u64 {
        let mut state = self.lock();
        state.last_id += 1;
        state.last_id
    }

    pub fn invoke(&self, process: &str, call: Call) -> u64 {
        let mut state = self.lock();
        state.last_op += 1;
        let op = state.last_op;
        self.push(&mut state, process, What::Invoke { op, call });
        op
    }

    pub fn ok(&self, process: &str, op: u64, answer: Answer) {
        self.push(&mut self.lock(), process, What::Ok { op, answer });
    }

    /// The operation failed with `error`, which says whether it may have happened.
    pub fn failed_send(&self, process: &str, op: u64, error: &str) {
        self.failed(process, op, error, outcome::of_send(error));
    }

    pub fn failed_other(&self, process: &str, op: u64, error: &str) {
        self.failed(process, op, error, outcome::of_other(error));
    }

    fn failed(&self, process: &str, op: u64, error: &str, class: Class) {
        let attempts = vec![Attempt {
            error: error.to_owned(),
        }];
        let what = match class {
            Class::Fail => What::Fail { op, attempts },
            Class::Unknown => What::Info { op, attempts },
        };
        self.push(&mut self.lock(), process, what);
    }

    pub fn note(&self, process: &str, note: Note) {
        self.push(&mut self.lock(), process, What::Note { note });
    }

    /// Judges all that was recorded; says how much it was. A history that breaks a property is
    /// kept in a file.
    #[track_caller]
    pub fn check(self, name: &str) -> Summary {
        let events = self.state.into_inner().expect("nobody panics here").events;
        let history = History::from_events(events.iter().cloned()).expect("a sound history");
        let violations = checker::check(&history);
        if !violations.is_empty() {
            let first: Vec<String> = violations.iter().take(20).map(|v| format!("{v}")).collect();
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.history"));
            let kept = keep(&path, &events);
            panic!(
                "{} violations:\n{}\nthe history is in {}: {kept:?}",
                violations.len(),
                first.join("\n"),
                path.display()
            );
        }
        summary(&history)
    }
}

fn keep(path: &Path, events: &[Event]) -> io::Result<()> {
    let mut to = BufWriter::new(File::create(path)?);
    file::write(&mut to, events)?;
    to.flush()
}

pub fn partition(topic: &str, partition: i32) -> Partition {
    Partition {
        topic: topic.to_owned(),
        partition,
    }
}

/// A value that names its record and is of any length from 20 to 420 bytes.
pub fn value_of(id: u64) -> Bytes {
    let mut value = format!("{id:019}:").into_bytes();
    let filler = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let filler = usize::try_from(filler % 401).expect("a small number");
    value.resize(value.len() + filler, b'a' + (id % 26) as u8);
    value.into()
}

pub fn written(id: u64, value: &Bytes, timestamp: Timestamp) -> Written {
    Written {
        id,
        key: None,
        tombstone: false,
        digest: crc32c::crc32c(value),
        timestamp: timestamp.0,
    }
}

fn seen(record: &ConsumerRecord) -> Seen {
    let value = record.value.clone().unwrap_or_default();
    let id = value.get(..19).and_then(|id| std::str::from_utf8(id).ok());
    Seen {
        offset: record.offset.0,
        id: id.and_then(|id| id.parse().ok()),
        key: None,
        tombstone: record.value.is_none(),
        digest: crc32c::crc32c(&value),
        timestamp: record.timestamp.0,
        stamp: None,
    }
}

/// The answer to a poll from `positions`: the partitions that gave any records.
pub fn fetched(positions: &[Position], records: &[ConsumerRecord]) -> Answer {
    let mut partitions: Vec<Fetched> = Vec::new();
    for record in records {
        let of = partition(&record.partition.topic, record.partition.partition);
        let place = partitions.iter().position(|fetched| fetched.of == of);
        let place = place.unwrap_or_else(|| {
            let known = positions.iter().find(|position| position.of == of);
            partitions.push(Fetched {
                of,
                from: known.map_or(record.offset.0, |position| position.offset),
                error: None,
                high_watermark: -1,
                last_stable_offset: -1,
                log_start_offset: -1,
                records: Vec::new(),
            });
            partitions.len() - 1
        });
        partitions[place].records.push(seen(record));
    }
    Answer::Read { partitions }
}

/// Three records are acknowledged at offsets 0 to 2; then those of `left` are read.
fn of_three_records(left: &[i64]) -> Recorder {
    let recorder = Recorder::new();
    let to = partition("t", 0);
    let mut all = Vec::new();
    for offset in 0..3 {
        let id = recorder.next_id();
        let value = value_of(id);
        let record = written(id, &value, Timestamp(1));
        all.push(Seen {
            offset,
            id: Some(id),
            key: None,
            tombstone: false,
            digest: record.digest,
            timestamp: 1,
            stamp: None,
        });
        let call = Call::Send {
            to: to.clone(),
            acks: -1,
            records: vec![record],
            stamp: None,
            library: Some(Library::Idempotent),
        };
        let op = recorder.invoke("producer", call);
        let answer = Answer::Send {
            base_offset: offset,
            log_append_time: -1,
            log_start_offset: -1,
            attempts: Vec::new(),
        };
        recorder.ok("producer", op, answer);
    }
    let phase = Phase::Final;
    recorder.note("run", Note::Phase { phase });
    all.retain(|seen| left.contains(&seen.offset));
    let (of, from) = (to.clone(), vec![Position { of: to, offset: 0 }]);
    let call = Call::Read {
        from,
        committed: false,
        library: true,
    };
    let op = recorder.invoke("final", call);
    let read = Fetched {
        of,
        from: 0,
        error: None,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: all,
    };
    let partitions = vec![read];
    recorder.ok("final", op, Answer::Read { partitions });
    recorder
}

#[test]
fn a_history_of_what_was_sent_breaks_nothing() {
    let told = of_three_records(&[0, 1, 2]).check("sound");
    assert_eq!((told.records_acknowledged, told.records_read), (3, 3));
}

#[test]
#[should_panic(expected = "P2")]
fn a_record_that_is_lost_is_found_missing() {
    of_three_records(&[0, 2]).check("lossy");
}
