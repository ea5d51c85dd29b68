//! Rounds of `kill -9` under load: what was acknowledged is there, once, in order, and what a
//! reader saw stays what it was.
//!
//! 8 rounds by default; `KLAMM_KILL_ROUNDS=200 cargo test --release --test integration kill_rounds
//! -- --nocapture` runs more and tells how far it is. `KLAMM_KILL_SEED` repeats the choices of a
//! run (not its timing).

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes and threads"
)]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use klamm::types::{ErrorCode, ProducerEpoch, ProducerId};
use klamm::wire::Str;
use klamm::wire::message::find_coordinator::FindCoordinatorRequest;
use klamm::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm::wire::message::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};

use super::broker_process::BrokerProcess;
use super::wire_client::{
    WireClient, code, connect_patiently, idempotent_batch, plain_batch, values_of,
};

/// Topic and partition; one of them rolls segments all the time.
const PARTITIONS: &[(&str, i32)] = &[
    ("rolling", 0),
    ("rolling", 1),
    ("plain", 0),
    ("plain", 1),
    ("plain", 2),
];
const PRODUCERS: u32 = 3;
const IN_FLIGHT_MAX: usize = 5;
const GROUP: &str = "kill-rounds";
/// Longest a producer may take to get its last acknowledgements.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Small and good enough: choices need not be hard to foresee.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A record of the load: who made it, for which partition, and its number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Mark {
    producer: u32,
    number: u32,
}

fn value(mark: Mark, partition: usize) -> Vec<u8> {
    let Mark { producer, number } = mark;
    let mut value = format!("{producer}:{partition}:{number}:").into_bytes();
    let filler = number.wrapping_mul(2_654_435_761) % 300;
    value.resize(value.len() + filler as usize, b'a' + (number % 26) as u8);
    value
}

fn mark_of(read: &[u8], partition: usize) -> Mark {
    let text = std::str::from_utf8(read).expect("values are text");
    let mut parts = text.split(':');
    let mut part = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let (producer, _, number) = (part(), part(), part());
    let mark = Mark {
        producer: producer.expect("a producer"),
        number: number.expect("a number"),
    };
    assert_eq!(
        read,
        value(mark, partition),
        "a value is whole and where it was sent"
    );
    mark
}

/// Records of one producer for one partition, not acknowledged yet.
struct Batch {
    partition: usize,
    first: u32,
    count: u32,
    bytes: bytes::Bytes,
}

/// That the records from `first` on were acknowledged at `base_offset`.
struct Acknowledged {
    partition: usize,
    first: u32,
    count: u32,
    base_offset: i64,
}

struct Load {
    port: u16,
    producer: u32,
    identity: (ProducerId, ProducerEpoch),
    dice: Dice,
    /// By partition: the number, and so the sequence, of the next record.
    next: Vec<u32>,
    waiting: VecDeque<Batch>,
    acknowledged: Vec<Acknowledged>,
}

impl Load {
    fn new(port: u16, producer: u32, seed: u64) -> Self {
        let identity = connect_patiently(port)
            .init_producer_id()
            .expect("a producer id");
        Self {
            port,
            producer,
            identity,
            dice: Dice::new(seed.wrapping_mul(u64::from(producer) + 3)),
            next: vec![0; PARTITIONS.len()],
            waiting: VecDeque::new(),
            acknowledged: Vec::new(),
        }
    }

    /// Produces until told to end, then until everything is acknowledged.
    fn run(mut self, ending: &AtomicBool) -> Self {
        let mut ends_by = None;
        loop {
            if ending.load(Ordering::Acquire) {
                if self.waiting.is_empty() {
                    return self;
                }
                let by = *ends_by.get_or_insert_with(|| Instant::now() + END_LIMIT);
                assert!(
                    Instant::now() < by,
                    "the last records are never acknowledged"
                );
            }
            // A broken connection is what this is about: connect again and send again.
            if self.talk(ending).is_err() {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn talk(&mut self, ending: &AtomicBool) -> io::Result<()> {
        let mut client = WireClient::connect(self.port)?;
        let mut sent = 0;
        loop {
            while sent < self.waiting.len() {
                let batch = &self.waiting[sent];
                let (topic, partition) = PARTITIONS[batch.partition];
                client.send_batch(topic, partition, batch.bytes.clone())?;
                sent += 1;
            }
            if ending.load(Ordering::Acquire) && self.waiting.is_empty() {
                return Ok(());
            }
            if sent < IN_FLIGHT_MAX && !ending.load(Ordering::Acquire) {
                self.invent();
                continue;
            }
            let answer = client.receive_produced()?;
            let batch = self.waiting.pop_front().expect("an answer has a question");
            sent -= 1;
            let outcome = code(answer.error_code);
            assert_eq!(
                outcome,
                ErrorCode::None,
                "producer {} on {:?}, records from {}: {:?}",
                self.producer,
                PARTITIONS[batch.partition],
                batch.first,
                answer.error_message
            );
            self.acknowledged.push(Acknowledged {
                partition: batch.partition,
                first: batch.first,
                count: batch.count,
                base_offset: answer.base_offset,
            });
        }
    }

    fn invent(&mut self) {
        let partition = self.dice.below(PARTITIONS.len() as u64) as usize;
        let count = 1 + self.dice.below(12) as u32;
        let first = self.next[partition];
        let producer = self.producer;
        let values: Vec<Vec<u8>> = (first..first + count)
            .map(|number| value(Mark { producer, number }, partition))
            .collect();
        let sequence = i32::try_from(first).expect("a short test");
        let bytes = idempotent_batch(self.identity, sequence, &values);
        self.next[partition] += count;
        self.waiting.push_back(Batch {
            partition,
            first,
            count,
            bytes,
        });
    }
}

/// Reads along; answers what it saw, by partition, from offset 0 on without a gap.
fn read_along(port: u16, ending: &AtomicBool) -> Vec<Vec<Mark>> {
    let mut seen = vec![Vec::new(); PARTITIONS.len()];
    while !ending.load(Ordering::Acquire) {
        if read_some(port, ending, &mut seen).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    }
    seen
}

fn read_some(port: u16, ending: &AtomicBool, seen: &mut [Vec<Mark>]) -> io::Result<()> {
    let mut client = WireClient::connect(port)?;
    while !ending.load(Ordering::Acquire) {
        for (at, (topic, partition)) in PARTITIONS.iter().enumerate() {
            let next = seen[at].len() as i64;
            let fetched = client.fetch(topic, *partition, next)?;
            let refused = code(fetched.data.error_code);
            assert_eq!(refused, ErrorCode::None, "{topic}-{partition} at {next}");
            for batch in &fetched.batches {
                for (offset, read) in values_of(batch) {
                    if offset >= next {
                        assert_eq!(offset, seen[at].len() as i64, "{topic}-{partition}: a gap");
                        seen[at].push(mark_of(&read, at));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Commits ever higher offsets, and after each broken connection looks what is committed.
fn commit_along(port: u16, ending: &AtomicBool) -> i64 {
    let (mut sent, mut acknowledged) = (0, 0);
    while !ending.load(Ordering::Acquire) {
        if commit_some(port, ending, &mut sent, &mut acknowledged).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    }
    acknowledged
}

fn is_coordinator_late(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
}

fn commit_some(
    port: u16,
    ending: &AtomicBool,
    sent: &mut i64,
    acknowledged: &mut i64,
) -> io::Result<()> {
    let mut client = WireClient::connect(port)?;
    let committed = committed(&mut client)?;
    assert!(
        (*acknowledged..=*sent).contains(&committed),
        "committed {committed}, acknowledged {acknowledged}, sent {sent}"
    );
    while !ending.load(Ordering::Acquire) {
        *sent += 1;
        let request = OffsetCommitRequest {
            group_id: Str::from(GROUP),
            topics: vec![OffsetCommitRequestTopic {
                name: Str::from("plain"),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: *sent,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = client.call(8, request)?;
        match code(answer.topics[0].partitions[0].error_code) {
            ErrorCode::None => *acknowledged = *sent,
            late if is_coordinator_late(late) => thread::sleep(Duration::from_millis(2)),
            other => panic!("a commit was refused: {}", other.name()),
        }
    }
    Ok(())
}

/// What the group has committed; 0 for nothing.
fn committed(client: &mut WireClient) -> io::Result<i64> {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < END_LIMIT, "the coordinator never comes");
        let find = FindCoordinatorRequest {
            coordinator_keys: vec![Str::from(GROUP)],
            ..Default::default()
        };
        let found = client.call(4, find)?;
        let mut outcome = code(found.coordinators[0].error_code);
        if outcome == ErrorCode::None {
            let fetch = OffsetFetchRequest {
                group_id: Str::from(GROUP),
                topics: Some(vec![OffsetFetchRequestTopic {
                    name: Str::from("plain"),
                    partition_indexes: vec![0],
                    ..Default::default()
                }]),
                ..Default::default()
            };
            let answer = client.call(5, fetch)?;
            outcome = code(answer.error_code);
            if outcome == ErrorCode::None {
                return Ok(answer.topics[0].partitions[0].committed_offset.max(0));
            }
        }
        assert!(
            is_coordinator_late(outcome),
            "offsets were refused: {}",
            outcome.name()
        );
        thread::sleep(Duration::from_millis(2));
    }
}

/// Makes, fills, reads and deletes topics of few names; answers how many lives they had.
fn churn_along(port: u16, ending: &AtomicBool) -> u32 {
    let mut lives = 0;
    while !ending.load(Ordering::Acquire) {
        let name = format!("churn-{}", lives % 2);
        persist(port, |client, again| {
            let outcome = client.create_topic(&name, 2, &[("segment.bytes", "4096")])?;
            let exists = again && outcome == ErrorCode::TopicAlreadyExists;
            assert!(
                outcome == ErrorCode::None || exists,
                "creating {name}: {outcome:?}"
            );
            Ok(())
        });
        let tag = format!("life {lives}");
        persist(port, |client, _| {
            let answer = client.produce(&name, 1, plain_batch(&[tag.as_bytes()]))?;
            let outcome = code(answer.error_code);
            assert_eq!(
                outcome,
                ErrorCode::None,
                "{name}: {:?}",
                answer.error_message
            );
            Ok(())
        });
        persist(port, |client, _| {
            let read = client.read_all(&name, 1, 0);
            let values = match read {
                Err(error) if error.kind() == io::ErrorKind::Other => panic!("{error}"),
                read => read?,
            };
            assert!(!values.is_empty(), "{name} lost what was acknowledged");
            for (_, value) in values {
                assert_eq!(value, tag.as_bytes(), "{name} holds another life's record");
            }
            Ok(())
        });
        persist(port, |client, again| {
            let outcome = client.delete_topic(&name)?;
            let gone = again && outcome == ErrorCode::UnknownTopicOrPartition;
            assert!(
                outcome == ErrorCode::None || gone,
                "deleting {name}: {outcome:?}"
            );
            Ok(())
        });
        persist(port, |client, _| {
            let outcome = code(client.describe_topic(&name)?.error_code);
            assert_eq!(
                outcome,
                ErrorCode::UnknownTopicOrPartition,
                "{name} came back"
            );
            Ok(())
        });
        lives += 1;
    }
    lives
}

/// Does something until the connection holds through it. The second argument of `act` says whether
/// an earlier attempt had an unknown end.
fn persist(port: u16, mut act: impl FnMut(&mut WireClient, bool) -> io::Result<()>) {
    let mut again = false;
    loop {
        let mut client = connect_patiently(port);
        if act(&mut client, again).is_ok() {
            return;
        }
        again = true;
        thread::sleep(Duration::from_millis(5));
    }
}

fn newest_segment(dir: &Path) -> std::path::PathBuf {
    let entries = fs::read_dir(dir).expect("the partition's directory is there");
    let logs = entries
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.max().expect("a log has a segment")
}

/// Adds to a log what a write that was under way may leave: bytes that are no batch.
fn tear(broker: &BrokerProcess, dice: &mut Dice) {
    let (topic, partition) = PARTITIONS[dice.below(PARTITIONS.len() as u64) as usize];
    let dir = broker.data_directory().join(format!("{topic}-{partition}"));
    let length = 1 + dice.below(3_000);
    let zeros = dice.below(2) == 0;
    let torn: Vec<u8> = (0..length)
        .map(|_| if zeros { 0 } else { dice.below(256) as u8 })
        .collect();
    let segment = newest_segment(&dir);
    let file = fs::OpenOptions::new().append(true).open(&segment);
    let written = file.and_then(|mut file| file.write_all(&torn));
    written.expect("the segment can be written");
}

/// Everything in the partition now, checked for gaps, repetitions and order by producer.
fn read_back(client: &mut WireClient, at: usize) -> Vec<Mark> {
    let (topic, partition) = PARTITIONS[at];
    let records = client
        .read_all(topic, partition, 0)
        .expect("it can be read");
    let mut marks = Vec::with_capacity(records.len());
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for (offset, read) in records {
        assert_eq!(offset, marks.len() as i64, "{topic}-{partition}: a gap");
        let mark = mark_of(&read, at);
        let expected = next.entry(mark.producer).or_default();
        assert_eq!(
            mark.number, *expected,
            "{topic}-{partition} at {offset}, producer {}: lost, twice or out of order",
            mark.producer
        );
        *expected += 1;
        marks.push(mark);
    }
    marks
}

fn check(port: u16, loads: &[Load], seen: &[Vec<Mark>]) -> usize {
    let mut client = connect_patiently(port);
    let mut records = 0;
    for at in 0..PARTITIONS.len() {
        let name = PARTITIONS[at];
        let marks = read_back(&mut client, at);
        records += marks.len();
        let sent: u32 = loads.iter().map(|load| load.next[at]).sum();
        assert_eq!(
            marks.len(),
            sent as usize,
            "{name:?}: all that was sent is there"
        );
        assert!(
            marks.starts_with(&seen[at]),
            "{name:?}: what a reader saw is not what is there"
        );
        for load in loads {
            for ack in load.acknowledged.iter().filter(|ack| ack.partition == at) {
                for step in 0..ack.count {
                    let offset = ack.base_offset + i64::from(step);
                    let expected = Mark {
                        producer: load.producer,
                        number: ack.first + step,
                    };
                    let found = marks.get(usize::try_from(offset).expect("an offset"));
                    assert_eq!(found, Some(&expected), "{name:?} at {offset}");
                }
            }
        }
    }
    records
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn spawn<T: Send + 'static>(
    ending: &Arc<AtomicBool>,
    body: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> JoinHandle<T> {
    let ending = Arc::clone(ending);
    thread::spawn(move || body(&ending))
}

#[test]
fn kill_rounds_lose_nothing_repeat_nothing_and_reorder_nothing() {
    let rounds = environment("KLAMM_KILL_ROUNDS").unwrap_or(8);
    let seed = environment("KLAMM_KILL_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("kill rounds: {rounds}, KLAMM_KILL_SEED={seed}");
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut broker = BrokerProcess::start_with(&[("offsets.topic.num.partitions", "3")]);
    let port = broker.port();
    let mut client = connect_patiently(port);
    let rolling = client.create_topic("rolling", 2, &[("segment.bytes", "24576")]);
    assert_eq!(rolling.expect("an answer"), ErrorCode::None);
    let plain = client.create_topic("plain", 3, &[]);
    assert_eq!(plain.expect("an answer"), ErrorCode::None);
    drop(client);

    let (ending, others_ending) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
    let loads: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let load = Load::new(port, producer, seed);
            spawn(&ending, move |ending| load.run(ending))
        })
        .collect();
    let reader = spawn(&others_ending, move |ending| read_along(port, ending));
    let committer = spawn(&others_ending, move |ending| commit_along(port, ending));
    let churn = spawn(&others_ending, move |ending| churn_along(port, ending));

    let started = Instant::now();
    for round in 1..=rounds {
        thread::sleep(Duration::from_millis(100 + dice.below(400)));
        let failed = [
            reader.is_finished(),
            committer.is_finished(),
            churn.is_finished(),
        ];
        let failed = failed.contains(&true) || loads.iter().any(JoinHandle::is_finished);
        if failed {
            break;
        }
        broker.kill9();
        if dice.below(3) == 0 {
            tear(&broker, &mut dice);
        }
        broker.restart();
        if round % 10 == 0 {
            let (ready, spent) = (broker.time_to_ready(), started.elapsed());
            eprintln!("round {round} of {rounds}, {spent:.0?}; the last start took {ready:.0?}");
        }
    }
    thread::sleep(Duration::from_millis(100));
    others_ending.store(true, Ordering::Release);
    ending.store(true, Ordering::Release);
    let loads: Vec<Load> = loads
        .into_iter()
        .map(|load| load.join().expect("a producer fails nothing"))
        .collect();
    let seen = reader.join().expect("a reader fails nothing");
    let acknowledged = committer.join().expect("a committer fails nothing");
    let lives = churn.join().expect("topics come and go");

    let records = check(port, &loads, &seen);
    assert!(broker.sigterm().success(), "a drain ends well");
    broker.restart();
    assert_eq!(
        check(port, &loads, &seen),
        records,
        "a clean restart changes nothing"
    );
    let committed = committed(&mut connect_patiently(port)).expect("an answer");
    assert!(committed >= acknowledged, "a committed offset is lost");
    assert!(
        records > 0 && acknowledged > 0 && lives > 0,
        "a load without load"
    );
    let took = started.elapsed();
    eprintln!(
        "{rounds} kills in {took:.1?}: {records} records, {acknowledged} commits, {lives} topics \
         deleted; nothing lost, repeated or reordered"
    );
}
