//! Producers and readers over the project's own client library: what it reports is recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use klamm::client::{
    ClientConfig, Consumer, ConsumerRecord, Delivery, Outcome, Producer, ProducerRecord,
};
use klamm::types::{Offset, Timestamp, TopicPartition};
use klamm_jepsen::history::{Answer, Call, Fetched, Library, Partition, Position};

use super::content::{Content, seen};
use super::errors::attempt;
use super::line::{Line, NOT_SENT, TIMEOUT};
use super::produce::{Shape, compression, content};
use super::{Client, offsets, partition};
use crate::plan::Role;

/// Settings for the library; `None` if they contradict each other.
pub(super) fn config(client: &Client, pairs: &[(&str, String)]) -> Option<ClientConfig> {
    let first = [
        ("bootstrap.servers", client.broker.clone()),
        ("client.id", client.plan.name.clone()),
        ("reconnect.backoff.ms", "50".to_owned()),
        ("reconnect.backoff.max.ms", "500".to_owned()),
        ("retry.backoff.ms", "50".to_owned()),
        ("retry.backoff.max.ms", "500".to_owned()),
        ("socket.connection.setup.timeout.ms", "3000".to_owned()),
        ("allow.auto.create.topics", "false".to_owned()),
    ];
    let pairs = first.iter().chain(pairs);
    let config = ClientConfig::from_pairs(pairs.map(|(key, value)| (*key, value.as_str())));
    match config {
        Ok(config) => Some(config),
        Err(error) => {
            tracing::error!(client = %client.plan.name, %error, "settings cannot be used");
            None
        }
    }
}

pub(super) async fn produce(mut client: Client) {
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
        retries,
        ..
    } = client.plan.role.clone()
    else {
        return;
    };
    let shape = Shape {
        value_bytes,
        keys,
        tombstone_percent,
        compression: compression(&codec),
    };
    let delivery_ms = 3500 + client.rng.below(6500);
    let batch_bytes = 200 + u64::from(batch_records) * u64::from(value_bytes + 60);
    let is_idempotent = idempotent && acks == -1 && retries;
    let config = config(
        &client,
        &[
            ("acks", acks.to_string()),
            ("enable.idempotence", is_idempotent.to_string()),
            (
                "max.in.flight.requests.per.connection",
                in_flight.to_string(),
            ),
            ("retries", if retries { "1000" } else { "0" }.to_owned()),
            ("linger.ms", "2".to_owned()),
            ("batch.size", batch_bytes.to_string()),
            ("compression.type", codec),
            ("request.timeout.ms", "2500".to_owned()),
            ("delivery.timeout.ms", delivery_ms.to_string()),
            ("max.block.ms", "3000".to_owned()),
        ],
    );
    let producer = config.and_then(|config| Producer::new(&client.env, config).ok());
    let Some(producer) = producer else {
        return;
    };
    let library = promised(is_idempotent, retries);
    let burst = u64::from(batch_records.max(in_flight));
    while !client.stop.is_set() {
        let mut under_way = Vec::new();
        for _ in 0..=client.rng.below(burst + 1) {
            // Each waits for its topic, which a mirror's may not be there to the end.
            if client.stop.is_set() {
                break;
            }
            let to = client.draw_partition(&topic);
            let now = client.env.wall();
            let id = client.recorder.next_id();
            let content = content(&shape, &mut client.rng, id, now);
            under_way.extend(send(&client, &producer, to, acks, library, content).await);
        }
        for sending in under_way {
            settle(&client, acks, sending).await;
        }
        client.pause(pause_ms.max(1)).await;
    }
}

/// What a library with these settings promises.
fn promised(is_idempotent: bool, retries: bool) -> Library {
    match (is_idempotent, retries) {
        (true, _) => Library::Idempotent,
        (false, true) => Library::Repeats,
        (false, false) => Library::Once,
    }
}

/// A record that the library has.
struct Sending {
    op: u64,
    timestamp: Timestamp,
    delivery: Delivery,
}

/// Hands a record to the library; `None` if it was not taken.
async fn send(
    client: &Client,
    producer: &Producer,
    to: Partition,
    acks: i16,
    library: Library,
    content: Content,
) -> Option<Sending> {
    let timestamp = content.timestamp;
    let record = ProducerRecord {
        topic: Arc::from(to.topic.as_str()),
        partition: Some(to.partition),
        key: content.key.clone().map(Into::into),
        value: content.value.clone(),
        headers: content.headers(),
        timestamp: Some(timestamp),
    };
    let (recorder, process) = (&client.recorder, &client.plan.name);
    let call = Call::Send {
        to,
        acks,
        records: vec![content.written()],
        stamp: None,
        library: Some(library),
    };
    let op = recorder.invoke(process, call);
    match producer.send(record).await {
        Ok(delivery) => Some(Sending {
            op,
            timestamp,
            delivery,
        }),
        Err(_) => {
            recorder.not_ok(process, op, true, vec![attempt(NOT_SENT)]);
            None
        }
    }
}

async fn settle(client: &Client, acks: i16, sending: Sending) {
    let Sending {
        op,
        timestamp,
        delivery,
    } = sending;
    let (recorder, process) = (&client.recorder, &client.plan.name);
    match delivery.await {
        Ok(_) if acks == 0 => recorder.not_ok(process, op, true, Vec::new()),
        Ok(metadata) => {
            let answer = Answer::Send {
                base_offset: metadata.offset.map_or(-1, |offset| offset.0),
                log_append_time: match metadata.timestamp {
                    time if time == timestamp => -1,
                    other => other.0,
                },
                log_start_offset: -1,
                attempts: Vec::new(),
            };
            recorder.ok(process, op, answer);
        }
        Err(error) => {
            let name = match error.outcome {
                Outcome::NotAppended => NOT_SENT,
                Outcome::Unknown => TIMEOUT,
            };
            recorder.not_ok(process, op, true, vec![attempt(name)]);
        }
    }
}

pub(super) async fn read(mut client: Client) {
    let Role::Reader {
        topic,
        max_bytes,
        partition_max_bytes,
        max_wait_ms,
        committed,
        pause_ms,
        restart_percent,
        ..
    } = client.plan.role.clone()
    else {
        return;
    };
    let isolation = if committed {
        "read_committed"
    } else {
        "read_uncommitted"
    };
    let config = config(
        &client,
        &[
            ("fetch.max.bytes", max_bytes.to_string()),
            ("max.partition.fetch.bytes", partition_max_bytes.to_string()),
            ("fetch.max.wait.ms", max_wait_ms.to_string()),
            ("isolation.level", isolation.to_owned()),
            ("auto.offset.reset", "none".to_owned()),
            ("request.timeout.ms", "4000".to_owned()),
        ],
    );
    let consumer = config.and_then(|config| Consumer::new(&client.env, config).ok());
    let Some(mut consumer) = consumer else {
        return;
    };
    let mut line = client.line();
    let partitions = client.partitions(&topic);
    let mut begins = true;
    while !client.stop.is_set() {
        begins |= client.percent(restart_percent);
        if begins && begin(&mut line, &mut consumer, &partitions).await.is_err() {
            line.wait_a_little().await;
            continue;
        }
        begins = poll(&client, &mut consumer, committed).await.is_err();
        client.pause(pause_ms.max(1)).await;
    }
}

/// Reads all partitions from their starts.
async fn begin(
    line: &mut Line,
    consumer: &mut Consumer,
    partitions: &[Partition],
) -> Result<(), String> {
    let positions = offsets::starts(line, partitions).await?;
    let of = |p: &Position| TopicPartition::new(p.of.topic.as_str(), p.of.partition);
    let assigned: Vec<TopicPartition> = positions.iter().map(of).collect();
    consumer
        .assign(&assigned)
        .map_err(|error| error.to_string())?;
    for position in &positions {
        let sought = consumer.seek(&of(position), Offset(position.offset));
        sought.map_err(|error| error.to_string())?;
    }
    offsets::assign(line, positions);
    Ok(())
}

/// One poll, a Read of the history. After an error positions are to be set anew.
async fn poll(client: &Client, consumer: &mut Consumer, committed: bool) -> Result<(), ()> {
    let (recorder, process) = (&client.recorder, &client.plan.name);
    let from = positions(consumer);
    let op = recorder.invoke(
        process,
        Call::Read {
            from: from.clone(),
            committed,
            library: true,
        },
    );
    match consumer.poll(Duration::from_millis(500)).await {
        Ok(records) => {
            let partitions = fetched(&from, &records);
            recorder.ok(process, op, Answer::Read { partitions });
            Ok(())
        }
        Err(error) => {
            let name = error.code().map_or(TIMEOUT, klamm::types::ErrorCode::name);
            recorder.not_ok(process, op, false, vec![attempt(name)]);
            Err(())
        }
    }
}

/// Where a consumer reads next, as far as it knows.
pub(super) fn positions(consumer: &Consumer) -> Vec<Position> {
    let assigned = consumer.assignment();
    let known = assigned.iter().filter_map(|of| {
        Some(Position {
            of: partition(&of.topic, of.partition),
            offset: consumer.position(of)?.0,
        })
    });
    known.collect()
}

/// Records by partition, for those partitions that gave any.
pub(super) fn fetched(from: &[Position], records: &[ConsumerRecord]) -> Vec<Fetched> {
    let mut by_partition: BTreeMap<Partition, Vec<_>> = BTreeMap::new();
    for record in records {
        let of = partition(&record.partition.topic, record.partition.partition);
        by_partition.entry(of).or_default().push(seen(
            record.offset.0,
            record.timestamp.0,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        ));
    }
    let each = by_partition.into_iter().map(|(of, records)| {
        let known = from.iter().find(|position| position.of == of);
        let first = records.first().map_or(0, |record| record.offset);
        Fetched {
            of,
            from: known.map_or(first, |position| position.offset),
            error: None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            records,
        }
    });
    each.collect()
}
