//! Producers and readers of the log workload over the project's own client library.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use klamm::client::admin::OffsetSpec;
use klamm::client::{Admin, Consumer, Delivery, Isolation, Outcome, Producer, ProducerRecord};
use klamm::types::{Offset, Timestamp, TopicPartition};

use super::{NOT_SENT, Shared, TIMEOUT, attempts};
use crate::harness::content::{fetched, partition, value_of, written};
use crate::history::{Answer, Call, Library, ListedAt, Partition, Position};

/// How long a producer lives before it is left where it is, with what it has in flight.
const PRODUCER_LIFE: Duration = Duration::from_secs(20);
/// How often a reader begins anew.
const READER_LIFE: Duration = Duration::from_secs(15);

/// Between two questions where a partition ends.
const LIST_EVERY: Duration = Duration::from_millis(20);

/// How a producer sends.
#[derive(Debug, Clone, Copy)]
pub struct Producing {
    pub acks: i16,
    pub library: Library,
    /// Records that are not acknowledged yet.
    pub in_flight: usize,
    pub linger_ms: u64,
    pub pause: Duration,
    /// How many partitions it sends to: to few, and several batches of one are under way at once.
    pub partitions: usize,
}

/// A record that the library has.
struct Sending {
    op: u64,
    timestamp: Timestamp,
    delivery: Delivery,
}

/// Sends unique values to partitions drawn at random until the run is ending.
pub async fn produce(shared: Shared, name: String, how: Producing) {
    let mut rng = shared.rng(&name);
    let all: Vec<Partition> = shared.partitions().take(how.partitions).collect();
    let mut life = 0;
    while !shared.is_ending() {
        life += 1;
        // Each life is a client of its own: the order of sends is promised within one.
        let process = format!("{name}.{life}");
        let producer = producer(&shared, &process, how);
        let began = Instant::now();
        let mut under_way: VecDeque<Sending> = VecDeque::new();
        while !shared.is_ending() && began.elapsed() < PRODUCER_LIFE {
            while under_way.len() < how.in_flight {
                let at = usize::try_from(rng.below(all.len() as u64)).unwrap_or(0);
                match send(&shared, &producer, &process, &all[at], how).await {
                    Some(sending) => under_way.push_back(sending),
                    None => break,
                }
            }
            if let Some(sending) = under_way.pop_front() {
                settle(&shared, &process, sending).await;
            }
            tokio::time::sleep(how.pause).await;
        }
        // Sometimes it crashes: nobody learns what became of the rest.
        let crashes = !shared.is_ending() && rng.below(2) == 0;
        for sending in under_way {
            match crashes {
                true => shared
                    .recorder
                    .not_ok(&process, sending.op, true, &[TIMEOUT]),
                false => settle(&shared, &process, sending).await,
            }
        }
    }
}

fn producer(shared: &Shared, name: &str, how: Producing) -> Producer {
    let is_idempotent = how.library == Library::Idempotent;
    let retries = if how.library == Library::Once {
        "0"
    } else {
        "1000"
    };
    let config = shared.config(
        name,
        &[
            ("acks", &how.acks.to_string()),
            ("enable.idempotence", &is_idempotent.to_string()),
            ("retries", retries),
            ("linger.ms", &how.linger_ms.to_string()),
            ("delivery.timeout.ms", "12000"),
            ("max.block.ms", "4000"),
        ],
    );
    Producer::new(&shared.env, config).expect("settings that the harness itself wrote")
}

async fn send(
    shared: &Shared,
    producer: &Producer,
    name: &str,
    to: &Partition,
    how: Producing,
) -> Option<Sending> {
    let recorder = &shared.recorder;
    let id = recorder.next_id();
    let value = value_of(id);
    let timestamp = shared.env.wall();
    let mut record = ProducerRecord::new(to.topic.as_str(), value.clone());
    record = record.with_partition(to.partition);
    record.timestamp = Some(timestamp);
    let call = Call::Send {
        to: to.clone(),
        acks: how.acks,
        records: vec![written(id, &value, timestamp.0)],
        stamp: None,
        library: Some(how.library),
    };
    let op = recorder.invoke(name, call);
    match producer.send(record).await {
        Ok(delivery) => Some(Sending {
            op,
            timestamp,
            delivery,
        }),
        Err(_) => {
            recorder.not_ok(name, op, true, &[NOT_SENT]);
            None
        }
    }
}

async fn settle(shared: &Shared, name: &str, sending: Sending) {
    let recorder = &shared.recorder;
    match sending.delivery.await {
        Ok(metadata) => {
            let answer = Answer::Send {
                base_offset: metadata.offset.map_or(-1, |offset| offset.0),
                log_append_time: match metadata.timestamp {
                    time if time == sending.timestamp => -1,
                    other => other.0,
                },
                log_start_offset: -1,
                attempts: Vec::new(),
            };
            recorder.ok(name, sending.op, answer);
        }
        Err(error) => {
            let known = match error.outcome {
                Outcome::NotAppended => NOT_SENT,
                Outcome::Unknown => TIMEOUT,
            };
            recorder.not_ok(name, sending.op, true, &[known]);
        }
    }
}

/// Reads all partitions, from their starts again now and then, until nothing is in flight.
pub async fn read(shared: Shared, name: String) {
    let config = shared.config(&name, &[("auto.offset.reset", "none")]);
    let admin = Admin::new(&shared.env, shared.config(&name, &[]));
    let admin = admin.expect("settings that the harness itself wrote");
    while !shared.is_drained() {
        let consumer = Consumer::new(&shared.env, config.clone());
        let mut consumer = consumer.expect("settings that the harness itself wrote");
        let starts = shared.partitions().map(|of| Position { of, offset: 0 });
        assign(&shared, &name, &mut consumer, starts.collect());
        let began = Instant::now();
        while !shared.is_drained() && began.elapsed() < READER_LIFE {
            if poll(&shared, &name, &mut consumer).await.is_err() {
                break;
            }
        }
        for of in shared.partitions() {
            // An answer that never came is in the history all the same.
            let _ = list(&shared, &name, &admin, of, ListedAt::Latest).await;
        }
    }
}

/// Asks over and over where partitions end, until nothing is in flight: who leads an epoch may not
/// tell less than who led before, nor more than stays.
pub async fn list_ends(shared: Shared, name: String) {
    let admin = Admin::new(&shared.env, shared.config(&name, &[]));
    let admin = admin.expect("settings that the harness itself wrote");
    while !shared.is_drained() {
        for of in shared.partitions() {
            // An answer that never came is in the history all the same.
            let _ = list(&shared, &name, &admin, of, ListedAt::Latest).await;
            tokio::time::sleep(LIST_EVERY).await;
        }
    }
}

/// The offset of a partition, if it was told.
pub async fn list(
    shared: &Shared,
    name: &str,
    admin: &Admin,
    of: Partition,
    at: ListedAt,
) -> Option<i64> {
    let key = TopicPartition::new(of.topic.as_str(), of.partition);
    let spec = match at {
        ListedAt::Earliest => OffsetSpec::Earliest,
        ListedAt::Latest => OffsetSpec::Latest,
        ListedAt::Timestamp(time) => OffsetSpec::At(Timestamp(time)),
    };
    let op = shared.recorder.invoke(name, Call::ListOffsets { of, at });
    let wanted = [(key.clone(), spec)].into_iter().collect();
    let found = admin
        .list_offsets(&wanted, Isolation::ReadUncommitted)
        .await;
    let errors = match found.map(|mut found| found.remove(&key)) {
        Ok(Some(Ok(found))) => {
            let offset = found.offset.map_or(-1, |offset| offset.0);
            let answer = Answer::ListOffsets {
                offset,
                timestamp: found.timestamp.0,
                leader_epoch: found.leader_epoch.0,
            };
            shared.recorder.ok(name, op, answer);
            return Some(offset);
        }
        Ok(Some(Err(error))) => vec![error.code.name()],
        Ok(None) => vec![TIMEOUT],
        Err(error) => attempts(&error),
    };
    shared.recorder.not_ok(name, op, false, &errors);
    None
}

/// `consumer` reads from these positions now.
pub fn assign(shared: &Shared, name: &str, consumer: &mut Consumer, positions: Vec<Position>) {
    let of = |p: &Position| TopicPartition::new(p.of.topic.as_str(), p.of.partition);
    let assigned: Vec<TopicPartition> = positions.iter().map(of).collect();
    consumer.assign(&assigned).expect("partitions to read");
    for position in &positions {
        let sought = consumer.seek(&of(position), Offset(position.offset));
        sought.expect("it is assigned");
    }
    let op = shared.recorder.invoke(name, Call::Assign { positions });
    shared.recorder.ok(name, op, Answer::Assign);
}

/// One poll: how many records it gave. After an error positions are to be set anew.
pub async fn poll(shared: &Shared, name: &str, consumer: &mut Consumer) -> Result<usize, ()> {
    let from = positions(consumer);
    let call = Call::Read {
        from: from.clone(),
        committed: false,
        library: true,
    };
    let op = shared.recorder.invoke(name, call);
    match consumer.poll(Duration::from_millis(500)).await {
        Ok(records) => {
            let partitions = fetched(&from, &records);
            shared.recorder.ok(name, op, Answer::Read { partitions });
            Ok(records.len())
        }
        Err(error) => {
            shared.recorder.not_ok(name, op, false, &attempts(&error));
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(())
        }
    }
}

/// Where a consumer reads next, as far as it knows.
#[must_use]
pub fn positions(consumer: &Consumer) -> Vec<Position> {
    let assigned = consumer.assignment();
    let known = assigned.iter().filter_map(|of| {
        Some(Position {
            of: partition(&of.topic, of.partition),
            offset: consumer.position(of)?.0,
        })
    });
    known.collect()
}
