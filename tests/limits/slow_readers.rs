//! Consumers that ask for much and take nothing.

use std::time::Duration;

use klamm::types::ErrorCode;
use klamm::wire::Str;
use klamm::wire::message::fetch::{FetchPartition, FetchRequest, FetchTopic};

use super::{BrokerProcess, connect_patiently, produce};
use crate::wire_client::WireClient;

const VERSION: i16 = 11;
const VALUES: usize = 30;
const VALUE_BYTES: usize = 700_000;

fn all_of_it() -> FetchRequest {
    FetchRequest {
        max_wait_ms: 20,
        min_bytes: 1,
        max_bytes: i32::MAX,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: Str::from("orders"),
            partitions: vec![FetchPartition {
                partition: 0,
                partition_max_bytes: i32::MAX,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn answers_that_nobody_takes_hold_little_memory() {
    const READERS: u64 = 24;
    let broker = BrokerProcess::start_with(&[("klamm.tail.cache.bytes", "0")]);
    let mut client = connect_patiently(broker.port());
    let created = client.create_topic("orders", 1, &[]);
    assert_eq!(created.expect("an answer"), ErrorCode::None);
    for number in 0..VALUES {
        let value = vec![number as u8; VALUE_BYTES];
        assert_eq!(produce(&mut client, "orders", 0, &value), ErrorCode::None);
    }
    let before = broker.resident_bytes();
    let mut readers: Vec<WireClient> = Vec::new();
    for _ in 0..READERS {
        let mut reader = WireClient::connect(broker.port()).expect("a connection");
        reader.send(VERSION, all_of_it()).expect("it is sent");
        readers.push(reader);
    }
    std::thread::sleep(Duration::from_secs(2));
    let held = broker.resident_bytes().saturating_sub(before);
    let wanted = READERS * (VALUES * VALUE_BYTES) as u64;
    assert!(
        held < wanted / 8,
        "{} MiB held, {} MiB asked for",
        held >> 20,
        wanted >> 20
    );
    // Each gets all of it all the same, when it takes it.
    for reader in readers.iter_mut().take(3) {
        let mut answer = reader.receive::<FetchRequest>(VERSION).expect("an answer");
        let data = answer.responses.remove(0).partitions.remove(0);
        let records = data.records.expect("records");
        assert!(records.len() > VALUES * VALUE_BYTES, "{}", records.len());
    }
}
