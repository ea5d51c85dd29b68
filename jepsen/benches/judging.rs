//! How long it takes to judge a long history: `cargo bench -p klamm-jepsen [-- OPERATIONS]`.
//!
//! Makes a history of a million operations from a fixed seed, writes it to a file, reads it back
//! and judges it, on one core, and prints how long each took and how much memory all needed. Fails
//! if the judgement takes longer than it may, or is not "good".
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures real time with a real file"
)]

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use klamm_jepsen::checker::Options;
use klamm_jepsen::history::{
    Answer, Attempt, Call, Event, Fetched, NodeEvent, Note, Partition, Phase, Position, Seen,
    Stamp, Wanted, What, Written, file,
};
use klamm_jepsen::judge::{Verdict, judge};

/// Of a history of a million operations, once it is in memory.
const JUDGED_WITHIN: Duration = Duration::from_secs(20);

const PARTITIONS: usize = 24;
const CLIENTS: usize = 48;
const READ_RECORDS_MAX: usize = 40;

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap_or(0)
    }
}

/// A record in a log: its number, and its batch with its place there.
#[derive(Clone, Copy)]
struct Kept {
    id: u64,
    stamp: Stamp,
}

/// What a client has under way.
enum Open {
    Send {
        op: u64,
        to: usize,
        ids: Vec<u64>,
        stamp: Stamp,
    },
    Read {
        op: u64,
        of: usize,
    },
}

struct Making<W> {
    to: W,
    draws: Draws,
    time: u64,
    last_op: u64,
    last_id: u64,
    logs: Vec<Vec<Kept>>,
    open: Vec<Option<Open>>,
    /// Next offsets of readers, next sequences of producers by partition.
    positions: Vec<usize>,
    sequences: Vec<Vec<i32>>,
}

fn partition(number: usize) -> Partition {
    Partition {
        topic: format!("topic-{}", number / 8),
        partition: i32::try_from(number % 8).unwrap_or(0),
    }
}

fn offset(place: usize) -> i64 {
    i64::try_from(place).unwrap_or(i64::MAX)
}

fn digest(id: u64) -> u32 {
    u32::try_from(id.wrapping_mul(2_654_435_761) & 0xffff_ffff).unwrap_or(0)
}

fn timestamp(id: u64) -> i64 {
    1_700_000_000_000 + i64::try_from(id / 10).unwrap_or(0)
}

impl<W: std::io::Write> Making<W> {
    fn tell(&mut self, process: String, what: What) {
        self.time += 1 + self.draws.below(20_000) as u64;
        let event = Event {
            time: self.time,
            process,
            cluster: None,
            what,
        };
        file::write(&mut self.to, [&event]).expect("the file takes it");
    }

    fn note(&mut self, process: &str, note: Note) {
        self.tell(process.to_owned(), What::Note { note });
    }

    fn invoke(&mut self, client: usize, call: Call) -> u64 {
        self.last_op += 1;
        let op = self.last_op;
        self.tell(format!("client-{client}"), What::Invoke { op, call });
        op
    }

    fn step(&mut self) {
        let client = self.draws.below(CLIENTS);
        match self.open[client].take() {
            None if client.is_multiple_of(2) => self.begin_send(client),
            None => self.begin_read(client),
            Some(Open::Send { op, to, ids, stamp }) => self.end_send(client, op, to, &ids, stamp),
            Some(Open::Read { op, of }) => {
                let from = self.positions[client];
                self.positions[client] = self.end_read(client, op, of, from, READ_RECORDS_MAX);
            }
        }
    }

    fn begin_send(&mut self, client: usize) {
        let to = self.draws.below(PARTITIONS);
        let count = 1 + self.draws.below(3) as u64;
        let ids: Vec<u64> = (self.last_id + 1..=self.last_id + count).collect();
        self.last_id += count;
        let stamp = Stamp {
            producer_id: offset(client),
            producer_epoch: 0,
            sequence: self.sequences[client][to],
        };
        self.sequences[client][to] += i32::try_from(count).unwrap_or(0);
        let records = ids.iter().map(|id| Written {
            id: *id,
            key: None,
            tombstone: false,
            digest: digest(*id),
            timestamp: timestamp(*id),
        });
        let call = Call::Send {
            to: partition(to),
            acks: -1,
            records: records.collect(),
            stamp: Some(stamp),
            library: None,
        };
        let op = self.invoke(client, call);
        self.open[client] = Some(Open::Send { op, to, ids, stamp });
    }

    fn end_send(&mut self, client: usize, op: u64, to: usize, ids: &[u64], stamp: Stamp) {
        let drawn = self.draws.below(100);
        let base_offset = offset(self.logs[to].len());
        if drawn < 96 {
            for (id, sequence) in ids.iter().zip(stamp.sequence..) {
                let stamp = Stamp { sequence, ..stamp };
                self.logs[to].push(Kept { id: *id, stamp });
            }
        }
        let attempt = |error: &str| Attempt {
            error: error.to_owned(),
        };
        let what = match drawn {
            0..94 => What::Ok {
                op,
                answer: Answer::Send {
                    base_offset,
                    log_append_time: -1,
                    log_start_offset: 0,
                    attempts: Vec::new(),
                },
            },
            94..98 => What::Info {
                op,
                attempts: vec![attempt("TIMEOUT")],
            },
            _ => What::Fail {
                op,
                attempts: vec![attempt("NOT_ENOUGH_REPLICAS")],
            },
        };
        self.tell(format!("client-{client}"), what);
    }

    fn begin_read(&mut self, client: usize) {
        let of = client / 2;
        let from = self.positions[client];
        let op = self.read(client, of, from);
        self.open[client] = Some(Open::Read { op, of });
    }

    fn read(&mut self, client: usize, of: usize, from: usize) -> u64 {
        let position = Position {
            of: partition(of),
            offset: offset(from),
        };
        let call = Call::Read {
            from: vec![position],
            committed: false,
            library: false,
        };
        self.invoke(client, call)
    }

    /// Where the next read begins.
    fn end_read(&mut self, client: usize, op: u64, of: usize, from: usize, most: usize) -> usize {
        let log = &self.logs[of];
        let end = log.len().min(from + most);
        let records = log[from..end].iter().zip(from..).map(|(kept, at)| Seen {
            offset: offset(at),
            id: Some(kept.id),
            key: None,
            tombstone: false,
            digest: digest(kept.id),
            timestamp: timestamp(kept.id),
            stamp: Some(kept.stamp),
        });
        let fetched = Fetched {
            of: partition(of),
            from: offset(from),
            error: None,
            high_watermark: offset(log.len()),
            last_stable_offset: offset(log.len()),
            log_start_offset: 0,
            records: records.collect(),
        };
        let answer = Answer::Read {
            partitions: vec![fetched],
        };
        self.tell(format!("client-{client}"), What::Ok { op, answer });
        end
    }

    fn read_all(&mut self) {
        let phase = Phase::Final;
        self.note("run", Note::Phase { phase });
        for of in 0..PARTITIONS {
            let mut from = 0;
            while from < self.logs[of].len() {
                let op = self.read(CLIENTS, of, from);
                from = self.end_read(CLIENTS, op, of, from, 500);
            }
            let ends = Wanted {
                of: partition(of),
                log_start_offset: 0,
                log_end_offset: offset(from),
            };
            self.note("run", Note::Ends { ends });
        }
    }
}

fn make(to: &File, operations: u64) {
    let mut making = Making {
        to: BufWriter::new(to),
        draws: Draws(17),
        time: 0,
        last_op: 0,
        last_id: 0,
        logs: vec![Vec::new(); PARTITIONS],
        open: (0..CLIENTS).map(|_| None).collect(),
        positions: vec![0; CLIENTS],
        sequences: vec![vec![0; PARTITIONS]; CLIENTS],
    };
    for (number, event) in [
        (1, NodeEvent::Ready),
        (2, NodeEvent::Ready),
        (3, NodeEvent::Ready),
    ] {
        making.note(&format!("node-{number}"), Note::Node { event });
    }
    while making.last_op < operations {
        making.step();
    }
    making.read_all();
    making.to.flush().expect("the file takes it");
}

/// The most memory this process had, in MiB, where the kernel tells.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.split_whitespace().next());
    peak.and_then(|kilobytes| kilobytes.parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

/// Time this process has had a core for, where the kernel tells; else that of the clock.
fn cpu() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let begun = *BEGUN.get_or_init(Instant::now);
    let told = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanoseconds = told.split_whitespace().next();
    let nanoseconds = nanoseconds.and_then(|text| text.parse().ok());
    nanoseconds.map_or_else(|| begun.elapsed(), Duration::from_nanos)
}

fn main() -> ExitCode {
    let asked = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let operations = asked.unwrap_or(1_000_000);
    let name = format!("klamm-jepsen-bench-{}.jsonl", std::process::id());
    let path = std::env::temp_dir().join(name);
    make(&File::create(&path).expect("a temporary file"), operations);
    let bytes = std::fs::metadata(&path).map_or(0, |known| known.len());
    told(&format!("made {} MiB", bytes >> 20), cpu());
    let begun = cpu();
    let source = BufReader::with_capacity(1 << 20, File::open(&path).expect("just written"));
    let history = file::read_history(source).expect("just written");
    std::fs::remove_file(&path).expect("just written");
    let count = history.operations.len();
    told(
        &format!("read {count} operations"),
        cpu().saturating_sub(begun),
    );
    let begun = cpu();
    let options = Options {
        replicated: true,
        weak_acks_one: true,
        retention: false,
        sources_may_lose: false,
    };
    let judgement = judge(&history, options);
    let took = cpu().saturating_sub(begun);
    told(&format!("judged: {}", judgement.verdict().name()), took);
    let is_fast = operations > 1_000_000 || took <= JUDGED_WITHIN;
    if judgement.verdict() == Verdict::Good && is_fast {
        return ExitCode::SUCCESS;
    }
    for violation in judgement.violations.iter().take(5) {
        println!("  {violation}");
    }
    ExitCode::FAILURE
}

fn told(what: &str, took: Duration) {
    let memory = memory();
    println!("{what} in {took:.1?} of a core; the most memory so far: {memory} MiB");
}
