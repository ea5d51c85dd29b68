//! Histories for tests, told event by event.

use std::collections::BTreeMap;

use super::{Violation, Violations};
use crate::history::{
    Answer, Attempt, Call, Committed, Event, Fetched, History, Join, Membership, NodeEvent, Note,
    Partition, Phase, Seen, What, Written,
};

pub(crate) const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

/// A checker that needs the history alone.
pub(crate) type Check = fn(&History, &mut Violations);

/// A history while it is told. Each event is a millisecond after the one before.
#[derive(Default)]
pub(crate) struct Story {
    events: Vec<Event>,
    now: u64,
    last_op: u64,
}

impl Story {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn wait(&mut self, seconds: u64) {
        self.now += seconds * SECOND;
    }

    fn push(&mut self, process: &str, what: What) {
        self.now += MILLI;
        self.events.push(Event {
            time: self.now,
            process: process.to_owned(),
            cluster: None,
            what,
        });
    }

    pub fn invoke(&mut self, call: Call) -> u64 {
        self.invoke_as("client", call)
    }

    pub fn invoke_as(&mut self, process: &str, call: Call) -> u64 {
        self.last_op += 1;
        let op = self.last_op;
        self.push(process, What::Invoke { op, call });
        op
    }

    pub fn ok(&mut self, op: u64, answer: Answer) {
        self.push("client", What::Ok { op, answer });
    }

    pub fn fail(&mut self, op: u64, error: &str) {
        let attempts = vec![attempt(error)];
        self.push("client", What::Fail { op, attempts });
    }

    pub fn info(&mut self, op: u64, error: &str) {
        let attempts = vec![attempt(error)];
        self.push("client", What::Info { op, attempts });
    }

    /// An operation that works at once.
    pub fn done(&mut self, call: Call, answer: Answer) -> u64 {
        let op = self.invoke(call);
        self.ok(op, answer);
        op
    }

    /// An operation that nobody knows the end of.
    pub fn lost(&mut self, call: Call) -> u64 {
        let op = self.invoke(call);
        self.info(op, "TIMEOUT");
        op
    }

    pub fn refused(&mut self, call: Call, error: &str) -> u64 {
        let op = self.invoke(call);
        self.fail(op, error);
        op
    }

    pub fn note(&mut self, process: &str, note: Note) {
        self.push(process, What::Note { note });
    }

    pub fn phase(&mut self, phase: Phase) {
        self.note("run", Note::Phase { phase });
    }

    pub fn node(&mut self, event: NodeEvent) {
        self.note("server", Note::Node { event });
    }

    pub fn topic(&mut self, topic: &str, partitions: i32, config: &[(&str, &str)]) -> u64 {
        self.done(create(topic, partitions, config), Answer::CreateTopic)
    }

    /// The properties that `check` finds broken, in order, each once.
    pub fn broken(&self, check: Check) -> Vec<&'static str> {
        let mut found: Vec<_> = self.found(check).iter().map(|one| one.property).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    pub fn history(&self) -> History {
        History::from_events(self.events.clone()).expect("well formed")
    }

    pub fn found(&self, check: Check) -> Vec<Violation> {
        let history = self.history();
        let mut violations = Violations::default();
        check(&history, &mut violations);
        violations.into_sorted()
    }
}

fn attempt(error: &str) -> Attempt {
    Attempt {
        error: error.to_owned(),
    }
}

pub(crate) fn partition(partition: i32) -> Partition {
    Partition {
        topic: "t".to_owned(),
        partition,
    }
}

pub(crate) fn create(topic: &str, partitions: i32, config: &[(&str, &str)]) -> Call {
    let config = config
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Call::CreateTopic {
        topic: topic.to_owned(),
        partitions,
        config: config.collect::<BTreeMap<_, _>>(),
    }
}

/// Sessions of 10 s, rebalances of 5 s.
pub(crate) fn join(member: &str, instance: Option<&str>) -> Call {
    Call::Join(Join {
        group: "g".to_owned(),
        member: member.to_owned(),
        instance: instance.map(str::to_owned),
        topics: vec!["t".to_owned()],
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 5_000,
    })
}

pub(crate) fn joined(member: &str, generation: i32, assigned: &[i32]) -> Answer {
    Answer::Join {
        member: member.to_owned(),
        generation,
        leader: false,
        assigned: assigned.iter().map(|number| partition(*number)).collect(),
    }
}

pub(crate) fn by(member: &str, generation: i32) -> Membership {
    Membership {
        group: "g".to_owned(),
        member: member.to_owned(),
        generation,
        instance: None,
    }
}

pub(crate) fn committed(offset: i64, metadata: &str) -> Committed {
    Committed {
        of: partition(0),
        offset,
        metadata: metadata.to_owned(),
    }
}

/// A commit without membership; the metadata is made of the offset.
pub(crate) fn commit(by: Membership, offset: i64) -> Call {
    Call::Commit {
        by,
        offsets: vec![committed(offset, &format!("m{offset}"))],
    }
}

pub(crate) fn accepted() -> Answer {
    Answer::Commit {
        refused: Vec::new(),
    }
}

pub(crate) fn fetch_committed() -> Call {
    Call::FetchCommitted {
        group: "g".to_owned(),
        of: vec![partition(0)],
    }
}

/// -1 for nothing.
pub(crate) fn fetched_committed(offset: i64) -> Answer {
    let metadata = if offset < 0 {
        String::new()
    } else {
        format!("m{offset}")
    };
    Answer::FetchCommitted {
        offsets: vec![committed(offset, &metadata)],
    }
}

/// A record whose digest is its id and whose timestamp is `timestamp`.
pub(crate) fn written(id: u64, key: &str, tombstone: bool, timestamp: i64) -> Written {
    Written {
        id,
        key: Some(key.to_owned()),
        tombstone,
        digest: u32::try_from(id).expect("small"),
        timestamp,
    }
}

pub(crate) fn send(record: Written) -> Call {
    Call::Send {
        to: partition(0),
        acks: -1,
        records: vec![record],
        stamp: None,
        library: None,
    }
}

pub(crate) fn sent(base_offset: i64) -> Answer {
    Answer::Send {
        base_offset,
        log_append_time: -1,
        log_start_offset: -1,
        attempts: Vec::new(),
    }
}

pub(crate) fn seen(offset: i64, record: &Written) -> Seen {
    Seen {
        offset,
        id: Some(record.id),
        key: record.key.clone(),
        tombstone: record.tombstone,
        digest: record.digest,
        timestamp: record.timestamp,
        stamp: None,
    }
}

pub(crate) fn read(from: i64) -> Call {
    let of = partition(0);
    Call::Read {
        from: vec![crate::history::Position { of, offset: from }],
        committed: false,
        library: false,
    }
}

pub(crate) fn fetched(from: i64, log_start_offset: i64, records: Vec<Seen>) -> Answer {
    Answer::Read {
        partitions: vec![Fetched {
            of: partition(0),
            from,
            error: None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset,
            records,
        }],
    }
}
