//! Histories told by hand.

use crate::checker::{Options, Violation, check, check_with};
use crate::history::{
    Answer, Attempt, Call, Event, Fetched, History, Library, ListedAt, Note, Partition, Phase,
    Position, Seen, Stamp, Wanted, What, Written,
};

/// A history while it is told. Every event is a step later than the one before.
#[derive(Debug, Clone, Default)]
pub struct Tell {
    pub events: Vec<Event>,
    pub time: u64,
    last_op: u64,
    callers: Vec<String>,
}

const STEP: u64 = 10;

/// The partition that everything is about unless said otherwise.
pub fn t0() -> Partition {
    of("t", 0)
}

pub fn of(topic: &str, partition: i32) -> Partition {
    Partition {
        topic: topic.to_owned(),
        partition,
    }
}

pub fn written(id: u64) -> Written {
    Written {
        id,
        key: None,
        tombstone: false,
        digest: u32::try_from(id).expect("small") * 7,
        timestamp: timestamp(id),
    }
}

/// The one the record is sent with.
pub fn timestamp(id: u64) -> i64 {
    1000 + i64::try_from(id).expect("small")
}

pub fn seen(offset: i64, id: u64) -> Seen {
    let Written {
        key,
        tombstone,
        digest,
        timestamp,
        ..
    } = written(id);
    Seen {
        offset,
        id: Some(id),
        key,
        tombstone,
        digest,
        timestamp,
        stamp: None,
    }
}

pub fn stamp(sequence: i32) -> Stamp {
    Stamp {
        producer_id: 4,
        producer_epoch: 0,
        sequence,
    }
}

pub fn batch(ids: &[u64]) -> Call {
    Call::Send {
        to: t0(),
        acks: -1,
        records: ids.iter().map(|id| written(*id)).collect(),
        stamp: None,
        library: None,
    }
}

pub fn stamped(ids: &[u64], sequence: i32) -> Call {
    Call::Send {
        to: t0(),
        acks: -1,
        records: ids.iter().map(|id| written(*id)).collect(),
        stamp: Some(stamp(sequence)),
        library: None,
    }
}

/// As [`batch`], by a client library.
pub fn by_library(ids: &[u64], library: Library) -> Call {
    Call::Send {
        to: t0(),
        acks: -1,
        records: ids.iter().map(|id| written(*id)).collect(),
        stamp: None,
        library: Some(library),
    }
}

pub fn appended(base_offset: i64) -> Answer {
    retried(base_offset, &[])
}

pub fn retried(base_offset: i64, errors: &[&str]) -> Answer {
    Answer::Send {
        base_offset,
        log_append_time: -1,
        log_start_offset: 0,
        attempts: attempts(errors),
    }
}

pub fn attempts(errors: &[&str]) -> Vec<Attempt> {
    let attempt = |error: &&str| Attempt {
        error: (*error).to_owned(),
    };
    errors.iter().map(attempt).collect()
}

pub fn fetched(from: i64, records: &[(i64, u64)]) -> Fetched {
    Fetched {
        of: t0(),
        from,
        error: None,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: records.iter().map(|(at, id)| seen(*at, *id)).collect(),
    }
}

pub fn reading() -> Call {
    Call::Read {
        from: Vec::new(),
        committed: false,
        library: false,
    }
}

impl Tell {
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, process: &str, what: What) {
        self.time += STEP;
        self.events.push(Event {
            time: self.time,
            process: process.to_owned(),
            cluster: None,
            what,
        });
    }

    pub fn invoke(&mut self, process: &str, call: Call) -> u64 {
        self.last_op += 1;
        let op = self.last_op;
        self.callers.push(process.to_owned());
        self.push(process, What::Invoke { op, call });
        op
    }

    fn caller(&self, op: u64) -> String {
        let at = usize::try_from(op).expect("small") - 1;
        self.callers[at].clone()
    }

    pub fn ok(&mut self, op: u64, answer: Answer) {
        self.push(&self.caller(op), What::Ok { op, answer });
    }

    pub fn fail(&mut self, op: u64, errors: &[&str]) {
        let attempts = attempts(errors);
        self.push(&self.caller(op), What::Fail { op, attempts });
    }

    pub fn info(&mut self, op: u64, errors: &[&str]) {
        let attempts = attempts(errors);
        self.push(&self.caller(op), What::Info { op, attempts });
    }

    pub fn note(&mut self, note: Note) {
        self.note_by("nemesis", note);
    }

    pub fn note_by(&mut self, node: &str, note: Note) {
        self.push(node, What::Note { note });
    }

    pub fn call(&mut self, process: &str, call: Call, answer: Answer) {
        let op = self.invoke(process, call);
        self.ok(op, answer);
    }

    /// `ids` in one batch, acknowledged at `base_offset`.
    pub fn send(&mut self, process: &str, ids: &[u64], base_offset: i64) {
        self.call(process, batch(ids), appended(base_offset));
    }

    pub fn read(&mut self, process: &str, from: i64, records: &[(i64, u64)]) {
        self.answer(process, fetched(from, records));
    }

    pub fn answer(&mut self, process: &str, fetched: Fetched) {
        let partitions = vec![fetched];
        self.call(process, reading(), Answer::Read { partitions });
    }

    pub fn assign(&mut self, process: &str, offset: i64) {
        let positions = vec![Position { of: t0(), offset }];
        self.call(process, Call::Assign { positions }, Answer::Assign);
    }

    pub fn list(&mut self, process: &str, at: ListedAt, offset: i64, timestamp: i64) {
        let answer = Answer::ListOffsets {
            offset,
            timestamp,
            leader_epoch: 0,
        };
        self.call(process, Call::ListOffsets { of: t0(), at }, answer);
    }

    pub fn create(&mut self, config: &[(&str, &str)]) {
        let config = config
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        let call = Call::CreateTopic {
            topic: "t".to_owned(),
            partitions: 1,
            config: config.collect(),
        };
        self.call("admin", call, Answer::CreateTopic);
    }

    pub fn delete_topic(&mut self) {
        let topic = "t".to_owned();
        self.call("admin", Call::DeleteTopic { topic }, Answer::DeleteTopic);
    }

    pub fn delete_records(&mut self, before: i64) {
        let call = Call::DeleteRecords { of: t0(), before };
        let log_start_offset = before;
        self.call("admin", call, Answer::DeleteRecords { log_start_offset });
    }

    pub fn final_phase(&mut self) {
        let phase = Phase::Final;
        self.note(Note::Phase { phase });
    }

    pub fn ends(&mut self, log_start_offset: i64, log_end_offset: i64) {
        let ends = Wanted {
            of: t0(),
            log_start_offset,
            log_end_offset,
        };
        self.note(Note::Ends { ends });
    }

    /// The final phase, in which `records` are all there are.
    pub fn read_all(&mut self, records: &[(i64, u64)]) {
        self.final_phase();
        self.read("reader", 0, records);
        self.ends(0, records.last().map_or(0, |last| last.0 + 1));
    }

    pub fn history(&self) -> History {
        History::from_events(self.events.clone()).expect("well formed")
    }

    #[track_caller]
    pub fn is_legal(&self) {
        assert_eq!(check(&self.history()), Vec::<Violation>::new());
    }

    #[track_caller]
    pub fn is_legal_with(&self, options: Options) {
        let found = check_with(&self.history(), options);
        assert_eq!(found, Vec::<Violation>::new());
    }

    /// Breaks exactly these properties.
    #[track_caller]
    pub fn breaks(&self, properties: &[&str]) {
        let found = check(&self.history());
        // What cleaning and nodes' notes break as well is judged by tests of their own.
        let all = found.iter().map(|one| one.property);
        let mut broken: Vec<&str> = all.filter(|one| !one.starts_with(['K', 'R'])).collect();
        broken.sort_unstable();
        broken.dedup();
        let mut expected = properties.to_vec();
        expected.sort_unstable();
        assert_eq!(broken, expected, "{found:#?}");
    }
}
