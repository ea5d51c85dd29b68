//! The producer's machine against a model of a broker and of a network that loses answers, keeps
//! requests of dead connections in flight, and refuses in every way brokers do.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::accumulator::{Accumulator, Effects, RecordParts, Sendable};
use super::super::model_broker::Broker;
use super::*;
use crate::types::{Offset, Timestamp, TopicPartition};
use crate::wire::batch::Compression;

#[derive(Clone, Copy, Debug)]
enum Step {
    Append,
    Send,
    /// The oldest request on the connection reaches the broker and is answered.
    Serve,
    /// The broker refuses it before writing.
    Refuse(ErrorCode),
    /// The broker writes and then answers with an error.
    WriteAndFail(ErrorCode),
    /// The connection breaks; what was on it may still arrive.
    Break,
    /// A request of a broken connection arrives.
    Late,
    Wait(u64),
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use ErrorCode as E;
    prop_oneof![
        6 => Just(Step::Append),
        6 => Just(Step::Send),
        6 => Just(Step::Serve),
        2 => prop_oneof![
            Just(E::NotEnoughReplicas), Just(E::NotLeaderOrFollower), Just(E::InvalidRecord),
            Just(E::KafkaStorageError), Just(E::UnknownTopicOrPartition),
        ].prop_map(Step::Refuse),
        1 => prop_oneof![Just(E::RequestTimedOut), Just(E::NotEnoughReplicasAfterAppend)]
            .prop_map(Step::WriteAndFail),
        1 => Just(Step::Break),
        1 => Just(Step::Late),
        2 => (1_u64..400).prop_map(Step::Wait),
    ]
}

struct Run {
    machine: Accumulator<Vec<u32>>,
    partition: TopicPartition,
    now: Instant,
    next_value: u32,
    broker: Broker,
    connection: VecDeque<Sendable>,
    floating: VecDeque<RecordBatch>,
    ended: Vec<(Vec<u32>, BatchResult)>,
}

impl Run {
    fn new(idempotent: bool, in_flight: usize) -> Self {
        let rules = Rules {
            idempotent,
            unresolved_max: in_flight,
            retries: u32::MAX,
            retry_pause: Duration::from_millis(20),
            linger: Duration::from_millis(5),
            batch_size: 180,
            delivery_timeout: Duration::from_millis(1000),
        };
        let mut machine = Accumulator::new(rules, 10_000, Compression::None);
        machine.set_identity(Identity {
            id: ProducerId(7),
            epoch: ProducerEpoch(0),
        });
        Self {
            machine,
            partition: TopicPartition::new("t", 0),
            now: Instant(0),
            next_value: 0,
            broker: Broker::default(),
            connection: VecDeque::new(),
            floating: VecDeque::new(),
            ended: Vec::new(),
        }
    }

    fn append(&mut self) {
        let value = self.next_value.to_be_bytes();
        let parts = RecordParts {
            timestamp: Timestamp(1),
            key: None,
            value: Some(&value),
            headers: &[],
            bytes_max: 60,
        };
        let (handle, _, _) = self
            .machine
            .append(self.now, &self.partition, parts, Vec::new);
        handle.push(self.next_value);
        self.next_value += 1;
    }

    fn send(&mut self) {
        let ready = self.machine.ready(self.now);
        self.connection.extend(self.machine.take(&ready));
    }

    fn answer(&mut self, sent: &Sendable, answer: Answer) {
        let mut effects = Effects::default();
        self.machine
            .answered(self.now, &sent.partition, sent.id, answer, &mut effects);
        self.ended.extend(effects.ended);
    }

    fn serve(&mut self) {
        let Some(sent) = self.connection.pop_front() else {
            return;
        };
        let answer = match self.broker.produce(&sent.batch) {
            Ok(base) => Answer::Acknowledged(Acknowledged {
                base_offset: Some(Offset(base)),
                log_append_time: None,
            }),
            Err(code) => Answer::Refused(code.into()),
        };
        self.answer(&sent, answer);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append => self.append(),
            Step::Send => self.send(),
            Step::Serve => self.serve(),
            Step::Refuse(code) => {
                if let Some(sent) = self.connection.pop_front() {
                    self.answer(&sent, Answer::Refused(code.into()));
                }
            }
            Step::WriteAndFail(code) => {
                if let Some(sent) = self.connection.pop_front() {
                    let code = self.broker.produce(&sent.batch).err().unwrap_or(code);
                    self.answer(&sent, Answer::Refused(code.into()));
                }
            }
            Step::Break => {
                for sent in std::mem::take(&mut self.connection) {
                    self.floating.push_back(sent.batch.clone());
                    let error = ClientError::Closed;
                    self.answer(&sent, Answer::Lost { error, sent: true });
                }
            }
            Step::Late => {
                if let Some(batch) = self.floating.pop_front() {
                    let _ = self.broker.produce(&batch);
                }
            }
            Step::Wait(millis) => {
                self.now = self.now.plus(Duration::from_millis(millis));
                let mut effects = Effects::default();
                self.machine.expire(self.now, &mut effects);
                self.ended.extend(effects.ended);
            }
        }
    }

    /// Heals everything and lets it finish.
    fn finish(&mut self) {
        let until = self.machine.hurry();
        for _ in 0..500 {
            if self.machine.is_done(until) {
                break;
            }
            self.send();
            self.serve();
            self.step(Step::Wait(5));
        }
        assert!(
            self.machine.is_done(until),
            "everything ends once the faults stop"
        );
        while !self.floating.is_empty() {
            self.step(Step::Late);
        }
    }

    fn check(&self) {
        let log = &self.broker.log;
        assert!(
            log.windows(2).all(|pair| pair[0] < pair[1]),
            "order, once each: {log:?}"
        );
        let mut told = 0;
        for (values, result) in &self.ended {
            told += values.len();
            let there = values.iter().filter(|value| log.contains(value)).count();
            match result {
                Ok(done) => {
                    assert_eq!(there, values.len(), "acknowledged {values:?}");
                    let base = done.base_offset.expect("this broker always says").0 as usize;
                    assert_eq!(&log[base..base + values.len()], values.as_slice());
                }
                Err(error) if error.outcome == Outcome::NotAppended => {
                    assert_eq!(there, 0, "told as not written: {values:?}");
                }
                Err(_) => {}
            }
        }
        assert_eq!(told, self.next_value as usize, "every record ends");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn idempotent_records_are_written_at_most_once_in_order_and_truly_told(
        steps in vec(step(), 0..120),
    ) {
        let mut run = Run::new(true, 5);
        for step in steps {
            run.step(step);
        }
        run.finish();
        run.check();
    }
}

#[test]
fn without_faults_five_batches_are_in_flight_after_the_first_is_acknowledged() {
    let mut run = Run::new(true, 5);
    for _ in 0..40 {
        run.append();
    }
    for _ in 0..10 {
        run.send();
    }
    assert_eq!(run.connection.len(), 1);
    run.serve();
    for _ in 0..10 {
        run.send();
    }
    assert_eq!(run.connection.len(), 5);
    run.finish();
    run.check();
    assert!(run.ended.iter().all(|(_, result)| result.is_ok()));
}

#[test]
fn a_lost_answer_is_repeated_with_the_same_sequence_and_told_once() {
    let mut run = Run::new(true, 5);
    run.append();
    run.step(Step::Wait(5));
    run.send();
    let first = run.connection[0].batch.clone();
    run.broker.produce(&first).expect("written");
    run.step(Step::Break);
    run.step(Step::Wait(20));
    run.send();
    assert_eq!(run.connection[0].batch, first);
    run.finish();
    assert_eq!(run.broker.log, [0]);
    assert!(run.ended[0].1.is_ok());
}

#[test]
fn a_batch_that_was_never_sent_expires_as_not_written() {
    let mut run = Run::new(true, 5);
    run.append();
    run.step(Step::Wait(1000));
    let error = run.ended[0].1.clone().expect_err("expired");
    assert_eq!(error.outcome, Outcome::NotAppended);
}

#[test]
fn a_fenced_producer_ends_everything_and_says_so() {
    let mut run = Run::new(true, 5);
    run.append();
    run.step(Step::Wait(5));
    run.send();
    run.append();
    run.step(Step::Refuse(ErrorCode::InvalidProducerEpoch));
    assert_eq!(run.ended.len(), 2);
    assert!(run.machine.fenced().is_some());
}
