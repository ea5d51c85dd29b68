//! A producer that speaks the protocol itself.
//!
//! Up to `in_flight` batches are under way over one connection, in the order in which they were
//! invoked. When one fails and is worth another try, nothing new is sent until all that is under
//! way was answered; then what failed goes out again, in the same order and with the same
//! sequences. An idempotent producer that cannot go on without a gap ends what is unresolved and
//! asks for a new identity once nothing older is under way (KIP-360).
//!
//! Some batches are sent more often than need be: again after they were answered, or over a second
//! connection at the same time. Both are idempotent, so that the log holds them once.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use klamm::client::PendingCall;
use klamm::types::{ErrorCode, Instant};
use klamm::wire::message::init_producer_id::InitProducerIdRequest;
use klamm::wire::message::produce::ProduceRequest;
use klamm_jepsen::history::{Answer, Attempt, Call, Partition, Stamp};

use super::Client;
use super::errors::{attempt, error_name};
use super::line::{DISCONNECTED, Line, TIMEOUT};
use super::produce::{Parcel, Shape, Stored, compression, content, pack};
use crate::plan::Role;

/// How long the answer over the second connection is awaited once the first has come.
const TWIN_WAIT: Duration = Duration::from_millis(1500);

/// A batch that was invoked and has not ended.
struct Batch {
    op: u64,
    parcel: Parcel,
    deadline: Instant,
    attempts: Vec<Attempt>,
    /// Whether a request with it waits for its answer.
    is_under_way: bool,
    /// The same over the second connection.
    twin: Option<PendingCall<ProduceRequest>>,
}

/// Batches of a producer that a broker knows when they come again.
const BATCHES_KNOWN: usize = 5;

/// A request that waits for its answer.
struct Flight {
    what: Sent,
    answer: PendingCall<ProduceRequest>,
}

enum Sent {
    /// The batch with this operation.
    Batch(u64),
    /// Once more a batch that was answered with this offset.
    Repeat {
        to: Partition,
        base_offset: i64,
        /// Whether it is among the last five of its producer and partition.
        is_recent: bool,
    },
}

struct Settings {
    topic: String,
    acks: i16,
    idempotent: bool,
    in_flight: usize,
    batch_records: u32,
    shape: Shape,
    pause_ms: u64,
    repeat_percent: u8,
    retries: bool,
    delivery_timeout: Duration,
}

struct Sender {
    client: Client,
    settings: Settings,
    line: Line,
    second: Line,
    identity: Option<(i64, i16)>,
    /// Next sequence by partition.
    sequences: BTreeMap<i32, i32>,
    /// First sequences of the batches made last, by partition.
    recent: BTreeMap<i32, VecDeque<i32>>,
    queue: VecDeque<Batch>,
    flights: VecDeque<Flight>,
    /// Whether the identity cannot be used further.
    is_spent: bool,
}

pub(super) async fn run(mut client: Client) {
    let Some(settings) = settings(&mut client) else {
        return;
    };
    let (line, second) = (client.line(), client.line());
    let sender = Sender {
        client,
        settings,
        line,
        second,
        identity: None,
        sequences: BTreeMap::new(),
        recent: BTreeMap::new(),
        queue: VecDeque::new(),
        flights: VecDeque::new(),
        is_spent: false,
    };
    sender.run().await;
}

fn settings(client: &mut Client) -> Option<Settings> {
    let Role::Producer {
        topic,
        acks,
        idempotent,
        in_flight,
        batch_records,
        value_bytes,
        keys,
        tombstone_percent,
        compression: codec,
        pause_ms,
        repeat_percent,
        retries,
        ..
    } = client.plan.role.clone()
    else {
        return None;
    };
    let idempotent = idempotent && acks != 0;
    Some(Settings {
        topic,
        acks,
        idempotent,
        in_flight: usize::try_from(in_flight.clamp(1, 5)).unwrap_or(1),
        batch_records: batch_records.max(1),
        shape: Shape {
            value_bytes,
            keys,
            tombstone_percent,
            compression: compression(&codec),
        },
        pause_ms,
        repeat_percent: if idempotent { repeat_percent } else { 0 },
        retries,
        delivery_timeout: Duration::from_millis(3000 + client.rng.below(7000)),
    })
}

impl Sender {
    async fn run(mut self) {
        loop {
            if self.is_spent && self.flights.is_empty() {
                self.end_identity();
            }
            if self.client.stop.is_set() && self.queue.is_empty() {
                return;
            }
            if self.line.open().await.is_err() {
                self.lost(&[]);
                continue;
            }
            if self.settings.idempotent && self.identity.is_none() {
                self.identify().await;
                continue;
            }
            if self.settings.acks == 0 {
                self.tell().await;
                // A socket takes what it is given without any time passing.
                self.client.rest(Duration::from_millis(1)).await;
            } else {
                self.fill().await;
                self.take_answer().await;
            }
            self.client.pause(self.settings.pause_ms).await;
        }
    }

    async fn identify(&mut self) {
        let op = self.line.invoke(Call::InitProducer);
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        self.line.anyone();
        let error = match self.line.call(request, 0).await {
            Err(error) => error,
            Ok(answer) => match error_name(answer.error_code) {
                Some(error) => error,
                None => {
                    let (producer_id, producer_epoch) = (answer.producer_id, answer.producer_epoch);
                    self.identity = Some((producer_id, producer_epoch));
                    let answer = Answer::InitProducer {
                        producer_id,
                        producer_epoch,
                    };
                    self.line.ok(op, answer);
                    return;
                }
            },
        };
        self.line.refused(op, error);
        self.line.wait_a_little().await;
    }

    /// Makes the next batch to a drawn partition.
    fn next_parcel(&mut self) -> Parcel {
        let to = self.client.draw_partition(&self.settings.topic);
        let count = 1 + self
            .client
            .rng
            .below(u64::from(self.settings.batch_records));
        let sequence = self.sequences.entry(to.partition).or_insert(0);
        let stamp = self.identity.map(|(producer_id, producer_epoch)| Stamp {
            producer_id,
            producer_epoch,
            sequence: *sequence,
        });
        let recent = self.recent.entry(to.partition).or_default();
        recent.push_back(*sequence);
        if recent.len() > BATCHES_KNOWN {
            recent.pop_front();
        }
        *sequence = sequence.wrapping_add(i32::try_from(count).unwrap_or(0)) & i32::MAX;
        let now = self.client.env.wall();
        let (shape, rng) = (&self.settings.shape, &mut self.client.rng);
        let recorder = &self.client.recorder;
        let contents: Vec<_> = (0..count)
            .map(|_| content(shape, rng, recorder.next_id(), now))
            .collect();
        pack(to, self.settings.acks, shape.compression, stamp, &contents)
    }

    /// Without answers nobody knows what happened.
    async fn tell(&mut self) {
        if self.client.stop.is_set() {
            return;
        }
        let parcel = self.next_parcel();
        let Ok(request) = parcel.request(&mut self.line).await else {
            return;
        };
        let op = self.line.invoke(parcel.call());
        let told = self.line.tell(request, parcel.floor()).await;
        let attempts = told.err().into_iter().map(attempt).collect();
        let process = self.line.process().to_owned();
        self.client.recorder.not_ok(&process, op, true, attempts);
    }

    /// Sends again what has to be, then new batches up to the bound.
    async fn fill(&mut self) {
        if self.is_spent {
            return;
        }
        let again = self.queue.iter().any(|batch| !batch.is_under_way);
        if again {
            if self.flights.is_empty() {
                self.send_again().await;
            }
            return;
        }
        while self.queue.len() < self.settings.in_flight && !self.client.stop.is_set() {
            if !self.line.is_open() && !self.flights.is_empty() {
                return;
            }
            let parcel = self.next_parcel();
            // Learns the topic's id first, which takes a while: the send begins after it.
            let Ok(request) = parcel.request(&mut self.line).await else {
                self.undo(&parcel);
                return self.lost(&[]);
            };
            let op = self.line.invoke(parcel.call());
            let deadline = self.client.env.now().plus(self.settings.delivery_timeout);
            let started = self.line.start(request, parcel.floor());
            let alone = !self.queue.iter().any(|batch| batch.parcel.to == parcel.to);
            self.queue.push_back(Batch {
                op,
                parcel,
                deadline,
                attempts: Vec::new(),
                is_under_way: true,
                twin: None,
            });
            match started {
                Ok(answer) => self.flights.push_back(Flight {
                    what: Sent::Batch(op),
                    answer,
                }),
                Err(error) => return self.lost(&[(op, error)]),
            }
            // With an older one of the partition under way the twin could overtake that.
            if alone && self.client.percent(self.settings.repeat_percent / 2) {
                self.send_twin().await;
            }
        }
    }

    /// The parcel was not sent: its sequence is free again.
    fn undo(&mut self, parcel: &Parcel) {
        if let Some(stamp) = parcel.stamp {
            self.sequences.insert(parcel.to.partition, stamp.sequence);
        }
    }

    async fn send_twin(&mut self) {
        let Some(parcel) = self.queue.back().map(|batch| batch.parcel.clone()) else {
            return;
        };
        let Ok(request) = parcel.request(&mut self.second).await else {
            return;
        };
        let started = self.second.start(request, parcel.floor());
        if let (Ok(answer), Some(batch)) = (started, self.queue.back_mut()) {
            batch.twin = Some(answer);
        }
    }

    async fn send_again(&mut self) {
        let now = self.client.env.now();
        let late = self.queue.iter().position(|batch| batch.deadline <= now);
        if let Some(at) = late {
            if let Some(batch) = self.queue.remove(at) {
                self.give_up(batch);
            }
            return;
        }
        self.line.wait_a_little().await;
        for at in 0..self.queue.len() {
            let parcel = self.queue[at].parcel.clone();
            let Ok(request) = parcel.request(&mut self.line).await else {
                return self.lost(&[]);
            };
            let batch = &mut self.queue[at];
            batch.is_under_way = true;
            let op = batch.op;
            match self.line.start(request, parcel.floor()) {
                Ok(answer) => self.flights.push_back(Flight {
                    what: Sent::Batch(op),
                    answer,
                }),
                Err(error) => return self.lost(&[(op, error)]),
            }
        }
    }

    async fn take_answer(&mut self) {
        let Some(flight) = self.flights.pop_front() else {
            return;
        };
        let within = self.line.call_timeout();
        let answer = flight.answer.answer_within(within).await;
        let stored = match answer {
            Ok(answer) => {
                let stored = Stored::read(&mut self.line, answer);
                stored.ok_or_else(|| DISCONNECTED.to_owned())
            }
            Err(error) => Err(self.line.failed(&error)),
        };
        match (flight.what, stored) {
            (Sent::Batch(op), Ok(stored)) => self.settle(op, stored).await,
            (Sent::Batch(op), Err(error)) => {
                self.line.close();
                self.lost(&[(op, error)]);
            }
            (
                Sent::Repeat {
                    to,
                    base_offset,
                    is_recent,
                },
                Ok(stored),
            ) => {
                self.compare(&to, base_offset, &stored, "a repeated batch");
                if is_recent && stored.error == Some(ErrorCode::OutOfOrderSequenceNumber) {
                    // It is known, or its producer is unknown and may begin anywhere.
                    let text = format!("the batch at {base_offset} came again and was refused");
                    self.line.broken_in(&to, "R11", text);
                }
            }
            (Sent::Repeat { .. }, Err(_)) => self.lost(&[]),
        }
    }

    /// The connection is gone. Of what was under way nobody knows; `known` says why for some.
    fn lost(&mut self, known: &[(u64, String)]) {
        self.flights.clear();
        for batch in self.queue.iter_mut().filter(|batch| batch.is_under_way) {
            batch.is_under_way = false;
            let why = known.iter().find(|(op, _)| *op == batch.op);
            let why = why.map_or(DISCONNECTED, |(_, error)| error);
            batch.attempts.push(attempt(why));
        }
        let now = self.client.env.now();
        let retries = self.settings.retries;
        while let Some(at) = self
            .queue
            .iter()
            .position(|batch| !retries || batch.deadline <= now)
        {
            if let Some(batch) = self.queue.remove(at) {
                self.give_up(batch);
            }
        }
    }

    /// Ends a batch that was not stored as far as is known.
    fn give_up(&mut self, batch: Batch) {
        let mut attempts = batch.attempts;
        if batch.is_under_way || batch.twin.is_some() {
            attempts.push(attempt(TIMEOUT));
        }
        let process = self.line.process().to_owned();
        let recorder = &self.client.recorder;
        recorder.not_ok(&process, batch.op, true, attempts);
        // What follows would leave a gap.
        self.is_spent |= self.settings.idempotent;
    }

    /// Ends all that is unresolved, so that a new identity can begin.
    fn end_identity(&mut self) {
        while let Some(batch) = self.queue.pop_front() {
            self.give_up(batch);
        }
        self.identity = None;
        self.sequences.clear();
        self.recent.clear();
        self.is_spent = false;
    }

    fn compare(&mut self, of: &Partition, base_offset: i64, stored: &Stored, what: &str) {
        let differs = stored.error.is_none() && stored.base_offset != base_offset;
        if differs && base_offset >= 0 && stored.base_offset >= 0 {
            let text = format!(
                "{what} is at offset {} now and was at {base_offset}",
                stored.base_offset
            );
            self.line.broken_in(of, "P16", text);
        }
    }

    async fn settle(&mut self, op: u64, mut stored: Stored) {
        let Some(at) = self.queue.iter().position(|batch| batch.op == op) else {
            return;
        };
        self.queue[at].is_under_way = false;
        if let Some(twin) = self.queue[at].twin.take() {
            stored = self.settle_twin(at, twin, stored).await;
        }
        if stored.is_stored() {
            return self.finish(at, &stored);
        }
        let code = stored.error.unwrap_or_default();
        let to = &self.queue[at].parcel.to;
        let before = self.queue.iter().take(at);
        let follows_a_failed = before
            .filter(|older| !older.is_under_way)
            .any(|older| older.parcel.to == *to);
        let is_unknown = matches!(
            code,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
        );
        // A mirror that no link has made yet may never be made: who is to stop waits for none.
        let may_work = code.is_retriable() && !(is_unknown && self.client.stop.is_set())
            || (code == ErrorCode::OutOfOrderSequenceNumber && follows_a_failed);
        self.queue[at].attempts.push(attempt(code.name()));
        if !(may_work && self.settings.retries)
            && let Some(batch) = self.queue.remove(at)
        {
            self.give_up(batch);
        }
    }

    /// The answer that counts of the two that a batch gets.
    async fn settle_twin(
        &mut self,
        at: usize,
        twin: PendingCall<ProduceRequest>,
        stored: Stored,
    ) -> Stored {
        let other = match twin.answer_within(TWIN_WAIT).await {
            Ok(answer) => Stored::read(&mut self.second, answer),
            Err(error) => {
                self.second.failed(&error);
                None
            }
        };
        let Some(other) = other else {
            self.queue[at].attempts.push(attempt(TIMEOUT));
            return stored;
        };
        if stored.error.is_none() {
            let to = self.queue[at].parcel.to.clone();
            self.compare(
                &to,
                stored.base_offset,
                &other,
                "a batch sent twice at once",
            );
            return stored;
        }
        match other.error {
            None => other,
            Some(code) => {
                if !other.is_stored() {
                    self.queue[at].attempts.push(attempt(code.name()));
                    return stored;
                }
                other
            }
        }
    }

    /// The batch is stored.
    fn finish(&mut self, at: usize, stored: &Stored) {
        let Some(batch) = self.queue.remove(at) else {
            return;
        };
        self.line.ok(batch.op, stored.answer(batch.attempts));
        if stored.error.is_none() && self.client.percent(self.settings.repeat_percent) {
            self.repeat(&batch.parcel, stored.base_offset);
        }
    }

    /// Sends again what was answered, in the version and with the topic's id that are known.
    fn repeat(&mut self, parcel: &Parcel, base_offset: i64) {
        if !self.line.turn_to(&parcel.to) {
            return;
        }
        let request = parcel.known_request(&self.line);
        let recent = self.recent.get(&parcel.to.partition);
        let is_recent = parcel
            .stamp
            .is_none_or(|stamp| recent.is_some_and(|recent| recent.contains(&stamp.sequence)));
        if let Ok(answer) = self.line.start(request, parcel.floor()) {
            let what = Sent::Repeat {
                to: parcel.to.clone(),
                base_offset,
                is_recent,
            };
            self.flights.push_back(Flight { what, answer });
        }
    }
}
