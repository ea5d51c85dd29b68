//! A broker and its clients in a few lines: what they do is right, so every history of theirs is
//! legal.
//!
//! The log is durable and visible up to the high watermark, and a crash takes any part of what is
//! above. Requests are queued, may be served after their client gave up, and lose their answers.

use std::collections::BTreeMap;

use super::tell::{Tell, attempts, fetched, reading, seen, t0, timestamp, written};
use crate::history::{
    Answer, Call, Fetched, ListedAt, LogState, NodeEvent, Note, Position, Stamp, Wanted,
};

const PLAIN: &[&str] = &["plain-1", "plain-2"];
const IDEMPOTENT: &str = "idempotent";
const CONSUMERS: &[&str] = &["consumer-1", "consumer-2"];

/// A way in which the model's broker is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It acknowledges what a crash can take.
    AcknowledgesEarly,
    /// It shows what a crash can take.
    ShowsEarly,
    /// It does not know a batch again.
    ForgetsBatches,
    /// It appends, and then refuses.
    RefusesLate,
    /// A crash takes something that was durable.
    LosesDurable,
    /// A deleted topic's records are in the next topic of the name.
    KeepsDeleted,
    /// The end it tells is that of some time ago, every now and then.
    ForgetsEnd,
    /// Its look-up by time finds the last record.
    LooksUpLast,
    /// A batch is split by another that comes at the same time.
    SplitsBatches,
}

/// Random numbers from a seed (splitmix64).
pub struct Draws(pub u64);

impl Draws {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bound = u64::try_from(bound.max(1)).expect("fits");
        usize::try_from((mixed ^ (mixed >> 31)) % bound).expect("fits")
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// An operation of a producer that has not ended.
struct Sending {
    op: u64,
    producer: &'static str,
    ids: Vec<u64>,
    stamp: Option<Stamp>,
    /// Errors of the attempts before this one.
    errors: Vec<&'static str>,
    attempt: usize,
}

/// A request on its way to the broker, or in it.
#[derive(Clone)]
struct Request {
    op: u64,
    attempt: usize,
    ids: Vec<u64>,
    stamp: Option<Stamp>,
    /// Where it was appended.
    base: Option<usize>,
}

/// An operation of a client that has at most one.
enum Waiting {
    Read {
        op: u64,
        answer: Option<Fetched>,
    },
    List {
        op: u64,
        at: ListedAt,
        answer: Option<Answer>,
    },
}

pub struct Model {
    pub tell: Tell,
    draws: Draws,
    log: Vec<(u64, Option<Stamp>)>,
    start: usize,
    high_watermark: usize,
    last_id: u64,
    sending: Vec<Sending>,
    requests: Vec<Request>,
    /// The producer's next sequence and its number.
    sequence: i32,
    producer_id: i64,
    refused: usize,
    positions: BTreeMap<&'static str, i64>,
    waiting: BTreeMap<&'static str, Waiting>,
    /// Whether the admin has an operation under way, and which.
    admin: Option<(u64, Call, bool)>,
    topics: bool,
    fault: Option<Fault>,
}

/// A run of `steps`, which deletes topics if `topics`.
pub fn run(seed: u64, steps: usize, topics: bool) -> Tell {
    run_with(seed, steps, topics, None)
}

/// As [`run`], of a broker that may be wrong.
pub fn run_with(seed: u64, steps: usize, topics: bool, fault: Option<Fault>) -> Tell {
    let mut model = Model {
        tell: Tell::new(),
        draws: Draws(seed),
        log: Vec::new(),
        start: 0,
        high_watermark: 0,
        last_id: 0,
        sending: Vec::new(),
        requests: Vec::new(),
        sequence: 0,
        producer_id: 1,
        refused: 0,
        positions: BTreeMap::new(),
        waiting: BTreeMap::new(),
        admin: None,
        topics,
        fault,
    };
    model.tell.create(&[]);
    model.note();
    for _ in 0..steps {
        model.step();
    }
    model.finish();
    model.tell
}

fn int(value: usize) -> i64 {
    i64::try_from(value).expect("small")
}

impl Model {
    fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn step(&mut self) {
        match self.draws.below(20) {
            0..=3 => self.invoke_send(),
            4..=6 => self.serve_send(),
            7..=8 => self.sync(),
            9..=11 => self.reply(),
            12 => self.time_out(),
            13..=17 => {
                let consumer = CONSUMERS[self.draws.below(CONSUMERS.len())];
                self.consume(consumer);
            }
            18 => self.administer(),
            _ if self.draws.one_in(3) => self.crash(),
            _ => {}
        }
    }

    fn note(&mut self) {
        let state = LogState {
            start: int(self.start),
            high_watermark: int(self.high_watermark),
            end: int(self.log.len()),
            recovery_point: int(self.high_watermark),
            leader_epoch: 0,
        };
        self.tell.note(Note::Log { of: t0(), state });
    }

    fn invoke_send(&mut self) {
        let producers = [PLAIN[0], PLAIN[1], IDEMPOTENT, IDEMPOTENT];
        let producer = producers[self.draws.below(producers.len())];
        let under_way = self.sending.iter().filter(|one| one.producer == producer);
        let allowed = if producer == IDEMPOTENT { 3 } else { 1 };
        if under_way.count() >= allowed {
            return;
        }
        let count = 1 + self.draws.below(3);
        let ids: Vec<u64> = (0..count).map(|_| self.next_id()).collect();
        let stamp = (producer == IDEMPOTENT).then_some(Stamp {
            producer_id: self.producer_id,
            producer_epoch: 0,
            sequence: self.sequence,
        });
        if stamp.is_some() {
            self.sequence += i32::try_from(count).expect("small");
        }
        let call = Call::Send {
            to: t0(),
            acks: if self.draws.one_in(3) { 1 } else { -1 },
            records: ids.iter().map(|id| written(*id)).collect(),
            stamp,
            library: None,
        };
        let op = self.tell.invoke(producer, call);
        self.requests.push(Request {
            op,
            attempt: 0,
            ids: ids.clone(),
            stamp,
            base: None,
        });
        self.sending.push(Sending {
            op,
            producer,
            ids,
            stamp,
            errors: Vec::new(),
            attempt: 0,
        });
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The broker takes a request that is on its way, in any order.
    fn serve_send(&mut self) {
        let queued: Vec<usize> = (0..self.requests.len())
            .filter(|at| self.requests[*at].base.is_none())
            .collect();
        if queued.is_empty() {
            return;
        }
        let at = queued[self.draws.below(queued.len())];
        let request = self.requests[at].clone();
        let stamp = request.stamp;
        if let Some(stamp) = stamp.filter(|_| !self.is(Fault::ForgetsBatches)) {
            let of_producer = |known: &Option<Stamp>| {
                known.filter(|known| known.producer_id == stamp.producer_id)
            };
            let mine = self.log.iter().map(|(_, known)| of_producer(known));
            let known: Vec<(usize, i32)> = mine
                .enumerate()
                .filter_map(|(at, known)| Some((at, known?.sequence)))
                .collect();
            if let Some((base, _)) = known.iter().find(|(_, known)| *known == stamp.sequence) {
                self.requests[at].base = Some(*base);
                return;
            }
            let next = known.last().map(|(_, last)| last + 1);
            if next.is_some_and(|next| next != stamp.sequence)
                || (next.is_none() && self.is_new(stamp))
            {
                self.requests.remove(at);
                self.refuse(&request, "OUT_OF_ORDER_SEQUENCE_NUMBER");
                return;
            }
        }
        if self.draws.one_in(12) {
            self.requests.remove(at);
            self.refuse(&request, "NOT_ENOUGH_REPLICAS");
            if self.is(Fault::RefusesLate) {
                self.append(&request);
            }
            return;
        }
        self.requests[at].base = Some(self.log.len());
        self.append(&request);
    }

    fn append(&mut self, request: &Request) {
        for (id, place) in request.ids.iter().zip(0..) {
            let stamp = request.stamp.map(|stamp| Stamp {
                sequence: stamp.sequence + place,
                ..stamp
            });
            let is_split = self.is(Fault::SplitsBatches) && place > 0;
            if is_split && self.log.len() > self.high_watermark + 1 {
                // It goes before what came last.
                let before = self.log.len() - 1;
                self.log.insert(before, (*id, stamp));
            } else {
                self.log.push((*id, stamp));
            }
        }
    }

    /// Where nothing of a producer is known its first batch has to come first, but for producers
    /// that are older than the topic.
    fn is_new(&self, stamp: Stamp) -> bool {
        stamp.sequence != 0 && !self.topics
    }

    /// The client learns that the attempt did not work, if it still waits for it.
    fn refuse(&mut self, request: &Request, error: &'static str) {
        let waits = |one: &Sending| one.op == request.op && one.attempt == request.attempt;
        if let Some(at) = self.sending.iter().position(waits) {
            self.again(at, error);
        }
    }

    fn again(&mut self, at: usize, error: &'static str) {
        self.sending[at].errors.push(error);
        if self.draws.one_in(3) {
            let sending = self.sending.remove(at);
            let is_sure = |error: &&str| !matches!(*error, "TIMEOUT" | "DISCONNECTED");
            if sending.errors.iter().all(is_sure) {
                self.tell.fail(sending.op, &sending.errors);
            } else {
                self.tell.info(sending.op, &sending.errors);
            }
            if sending.stamp.is_some() {
                self.refused += 1;
            }
            // A producer that left a gap in its sequences begins anew.
            if self.refused > 0 && !self.sending.iter().any(|one| one.stamp.is_some()) {
                self.refused = 0;
                self.producer_id += 1;
                self.sequence = 0;
            }
            return;
        }
        let sending = &mut self.sending[at];
        sending.attempt += 1;
        self.requests.push(Request {
            op: sending.op,
            attempt: sending.attempt,
            ids: sending.ids.clone(),
            stamp: sending.stamp,
            base: None,
        });
    }

    fn sync(&mut self) {
        self.high_watermark = self.log.len();
        self.note();
    }

    /// An answer goes out for what is durable; it may be lost.
    fn reply(&mut self) {
        let is_durable = |one: &Request| {
            let durable = if self.is(Fault::AcknowledgesEarly) {
                self.log.len()
            } else {
                self.high_watermark
            };
            one.base.is_some_and(|base| base + one.ids.len() <= durable)
        };
        let Some(at) = self.requests.iter().position(is_durable) else {
            return;
        };
        let request = self.requests.remove(at);
        let waits = |one: &Sending| one.op == request.op && one.attempt == request.attempt;
        let Some(at) = self.sending.iter().position(waits) else {
            return;
        };
        if self.draws.one_in(6) {
            return;
        }
        let sending = self.sending.remove(at);
        let is_repeated = sending.stamp.is_some() && sending.errors.contains(&"TIMEOUT");
        let base_offset = if is_repeated && self.draws.one_in(4) {
            -1
        } else {
            int(request.base.expect("appended"))
        };
        let answer = Answer::Send {
            base_offset,
            log_append_time: -1,
            log_start_offset: int(self.start),
            attempts: attempts(&sending.errors),
        };
        self.tell.ok(sending.op, answer);
    }

    fn time_out(&mut self) {
        if !self.sending.is_empty() {
            let at = self.draws.below(self.sending.len());
            self.again(at, "TIMEOUT");
        }
    }

    fn crash(&mut self) {
        let lost = self.log.len() - self.high_watermark;
        let kept = self.high_watermark + self.draws.below(lost + 1);
        // A batch stays whole or goes.
        let is_torn = |one: &Request| one.base.is_some_and(|base| base + one.ids.len() > kept);
        let first_torn = self.requests.iter().filter(|one| is_torn(one));
        let kept = first_torn
            .filter_map(|one| one.base)
            .min()
            .unwrap_or(kept)
            .min(kept);
        self.log.truncate(kept.max(self.high_watermark));
        if self.is(Fault::LosesDurable) && self.high_watermark > self.start {
            self.log.truncate(self.high_watermark - 1);
        }
        self.requests.retain(|one| one.base.is_none());
        self.tell.note(Note::Node {
            event: NodeEvent::Start,
        });
        self.sync();
    }

    fn consume(&mut self, consumer: &'static str) {
        match self.waiting.remove(consumer) {
            None if self.draws.one_in(4) => self.invoke_list(consumer),
            None => self.invoke_read(consumer),
            Some(Waiting::Read { op, answer: None }) => {
                let from = self.positions.get(consumer).copied().unwrap_or(0);
                let answer = Some(self.fetch(from));
                let waiting = Waiting::Read { op, answer };
                self.waiting.insert(consumer, waiting);
            }
            Some(Waiting::Read {
                op,
                answer: Some(answer),
            }) => {
                let last = answer.records.last().map(|last| last.offset + 1);
                let is_lost = answer.error.is_some();
                if let Some(next) = last {
                    self.positions.insert(consumer, next);
                }
                let partitions = vec![answer];
                self.tell.ok(op, Answer::Read { partitions });
                if is_lost || self.draws.one_in(10) {
                    self.assign(consumer);
                }
            }
            Some(Waiting::List {
                op,
                at,
                answer: None,
            }) => {
                let answer = Some(self.list(at));
                let waiting = Waiting::List { op, at, answer };
                self.waiting.insert(consumer, waiting);
            }
            Some(Waiting::List {
                op,
                answer: Some(answer),
                ..
            }) => self.tell.ok(op, answer),
        }
    }

    fn invoke_read(&mut self, consumer: &'static str) {
        let op = self.tell.invoke(consumer, reading());
        let waiting = Waiting::Read { op, answer: None };
        self.waiting.insert(consumer, waiting);
    }

    fn invoke_list(&mut self, consumer: &'static str) {
        let at = match self.draws.below(4) {
            0 => ListedAt::Earliest,
            1 => ListedAt::Latest,
            _ => {
                let around = self
                    .draws
                    .below(usize::try_from(self.last_id).expect("small") + 3);
                ListedAt::Timestamp(1000 + int(around))
            }
        };
        let op = self
            .tell
            .invoke(consumer, Call::ListOffsets { of: t0(), at });
        let waiting = Waiting::List {
            op,
            at,
            answer: None,
        };
        self.waiting.insert(consumer, waiting);
    }

    fn list(&self, at: ListedAt) -> Answer {
        let (offset, timestamp) = match at {
            ListedAt::Earliest => (int(self.start), -1),
            ListedAt::Latest => (int(self.high_watermark), -1),
            ListedAt::Timestamp(time) => {
                let visible = self.log.iter().take(self.high_watermark).enumerate();
                let visible = visible.skip(self.start);
                let mut late = visible.filter(|(_, (id, _))| timestamp(*id) >= time);
                let found = if self.is(Fault::LooksUpLast) {
                    late.next_back()
                } else {
                    late.next()
                };
                found.map_or((-1, -1), |(at, (id, _))| (int(at), timestamp(*id)))
            }
        };
        Answer::ListOffsets {
            offset,
            timestamp,
            leader_epoch: 0,
        }
    }

    fn assign(&mut self, consumer: &'static str) {
        let visible = self.high_watermark - self.start;
        let offset = int(self.start + self.draws.below(visible + 1));
        self.positions.insert(consumer, offset);
        self.tell.assign(consumer, offset);
    }

    fn fetch(&mut self, from: i64) -> Fetched {
        let mut answer = fetched(from, &[]);
        answer.high_watermark = int(self.high_watermark);
        if self.is(Fault::ForgetsEnd) && self.draws.one_in(3) {
            answer.high_watermark = from.max(answer.high_watermark - 1);
        }
        answer.last_stable_offset = answer.high_watermark;
        answer.log_start_offset = int(self.start);
        if !(answer.log_start_offset..=answer.high_watermark).contains(&from) {
            answer.error = Some("OFFSET_OUT_OF_RANGE".to_owned());
            return answer;
        }
        let from = usize::try_from(from).expect("not negative");
        let most = 1 + self.draws.below(6);
        let end = if self.is(Fault::ShowsEarly) {
            self.log.len()
        } else {
            self.high_watermark
        };
        let visible = self.log.iter().take(end).enumerate();
        for (at, (id, stamp)) in visible.skip(from).take(most) {
            let mut record = seen(int(at), *id);
            record.stamp = *stamp;
            answer.records.push(record);
        }
        answer
    }

    fn administer(&mut self) {
        match self.admin.take() {
            None => {
                let call = if self.topics && self.draws.one_in(4) {
                    let topic = "t".to_owned();
                    Call::DeleteTopic { topic }
                } else if self.draws.one_in(3) {
                    let before = int(self.draws.below(self.high_watermark + 1));
                    Call::DeleteRecords { of: t0(), before }
                } else {
                    return;
                };
                let op = self.tell.invoke("admin", call.clone());
                self.admin = Some((op, call, false));
            }
            Some((op, call, false)) => {
                self.apply(&call);
                self.admin = Some((op, call, true));
            }
            Some((op, call, true)) => self.end(op, &call),
        }
    }

    fn apply(&mut self, call: &Call) {
        match call {
            Call::DeleteRecords { before, .. } => {
                let before = usize::try_from(*before).expect("not negative");
                self.start = self.start.max(before);
            }
            _ if self.is(Fault::KeepsDeleted) => {}
            _ => {
                self.log.clear();
                self.start = 0;
                self.high_watermark = 0;
                self.requests.retain(|one| one.base.is_none());
            }
        }
        self.note();
    }

    fn end(&mut self, op: u64, call: &Call) {
        if let Call::DeleteRecords { .. } = call {
            if self.draws.one_in(5) {
                self.tell.info(op, &["TIMEOUT"]);
                return;
            }
            let log_start_offset = int(self.start);
            self.tell.ok(op, Answer::DeleteRecords { log_start_offset });
        } else if self.draws.one_in(6) {
            self.tell.info(op, &["TIMEOUT"]);
            // The model deletes at once or never: whoever asked it does not know.
        } else {
            self.tell.ok(op, Answer::DeleteTopic);
            self.tell.create(&[]);
        }
    }

    /// Nobody hears of what is under way. Then all is read.
    fn finish(&mut self) {
        if let Some((op, call, false)) = self.admin.take() {
            self.apply(&call);
            self.end(op, &call);
        }
        self.sync();
        self.tell.final_phase();
        let mut next = int(self.start);
        let positions = vec![Position {
            of: t0(),
            offset: next,
        }];
        let call = Call::Assign { positions };
        self.tell.call("reader", call, Answer::Assign);
        while next < int(self.high_watermark) {
            let op = self.tell.invoke("reader", reading());
            let answer = self.fetch(next);
            next = answer.records.last().expect("more").offset + 1;
            let partitions = vec![answer];
            self.tell.ok(op, Answer::Read { partitions });
        }
        let ends = Wanted {
            of: t0(),
            log_start_offset: int(self.start),
            log_end_offset: next,
        };
        self.tell.note(Note::Ends { ends });
    }
}
