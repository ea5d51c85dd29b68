//! How a broker stops, and what the next start makes of it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use klamm::types::ErrorCode;
use klamm::wire::Str;
use klamm::wire::message::fetch::{FetchPartition, FetchRequest, FetchTopic};
use rustix::process::Signal;

use super::{BrokerProcess, WireClient, code, connect_patiently, plain_batch, with_orders};

const MARKER: &str = ".klamm_cleanshutdown";

fn leader_epochs(client: &mut WireClient) -> Vec<i32> {
    let topic = client.describe_topic("orders").expect("an answer");
    let partitions = topic.partitions.iter();
    partitions.map(|partition| partition.leader_epoch).collect()
}

/// Produces until the connection ends; the acknowledged values.
fn produce_to_the_end(port: u16, producer: u32, going: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut client = connect_patiently(port);
    for number in 0.. {
        let value = format!("{producer}:{number}");
        match client.produce("orders", 0, plain_batch(&[value.as_bytes()])) {
            Ok(answer) if answer.error_code == 0 => {
                acknowledged.push(value);
                going.store(true, Ordering::Release);
            }
            // A broker that stops may still say so.
            Ok(answer) => assert_eq!(code(answer.error_code), ErrorCode::NotLeaderOrFollower),
            Err(_) => break,
        }
    }
    acknowledged
}

#[test]
fn sigterm_under_load_drains_and_the_next_start_need_not_look() {
    let mut broker = BrokerProcess::start();
    let mut client = with_orders(&broker);
    let bulk = vec![b'x'; 900_000];
    for _ in 0..40 {
        let answer = client
            .produce("orders", 1, plain_batch(&[&bulk]))
            .expect("an answer");
        assert_eq!(code(answer.error_code), ErrorCode::None);
    }
    drop(client);
    let port = broker.port();
    let producers: Vec<_> = (0..4)
        .map(|producer| {
            let going = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&going);
            (
                going,
                thread::spawn(move || produce_to_the_end(port, producer, &told)),
            )
        })
        .collect();
    while producers
        .iter()
        .any(|(going, _)| !going.load(Ordering::Acquire))
    {
        thread::sleep(Duration::from_millis(5));
    }
    let status = broker.sigterm();
    assert_eq!(status.code(), Some(0));
    let marker = broker.data_directory().join(MARKER);
    assert!(marker.exists(), "no clean-shutdown marker");
    let mut acknowledged = Vec::new();
    for (_, producer) in producers {
        acknowledged.extend(producer.join().expect("only the broker ends it"));
    }

    broker.restart();
    assert!(!marker.exists(), "the marker is not good for a second time");
    let pid = broker.process_id().as_raw_nonzero();
    let counts = fs::read_to_string(format!("/proc/{pid}/io")).expect("Linux counts");
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
    let read: u64 = read.and_then(|count| count.parse().ok()).expect("a number");
    assert!(
        read < 4 << 20,
        "{read} bytes were read at a start after a clean stop"
    );
    let mut client = connect_patiently(port);
    let found = super::values(&mut client, "orders", 0);
    for value in acknowledged {
        assert_eq!(
            found.iter().filter(|one| **one == value).count(),
            1,
            "{value}"
        );
    }
    assert_eq!(client.read_all("orders", 1, 3).expect("records").len(), 40);
}

#[test]
fn a_clean_stop_keeps_the_leader_epoch_and_a_crash_raises_it() {
    let mut broker = BrokerProcess::start();
    let before = leader_epochs(&mut with_orders(&broker));
    assert!(broker.sigterm().success());
    broker.restart();
    let clean = leader_epochs(&mut connect_patiently(broker.port()));
    assert_eq!(clean, before);
    broker.kill9();
    broker.restart();
    let crashed = leader_epochs(&mut connect_patiently(broker.port()));
    for (crashed, clean) in crashed.iter().zip(&clean) {
        assert!(crashed > clean, "{crashed} after a crash, {clean} before");
    }
    assert!(broker.sigterm().success());
    broker.restart();
    assert_eq!(
        leader_epochs(&mut connect_patiently(broker.port())),
        crashed
    );
}

#[test]
fn sigterm_for_the_second_time_does_not_wait() {
    let mut broker = BrokerProcess::start();
    let mut client = with_orders(&broker);
    let bulk = vec![b'x'; 900_000];
    for _ in 0..10 {
        let answer = client
            .produce("orders", 1, plain_batch(&[&bulk]))
            .expect("an answer");
        assert_eq!(code(answer.error_code), ErrorCode::None);
    }
    // Answers that nobody takes keep the drain waiting.
    for _ in 0..8 {
        let request = FetchRequest {
            topics: vec![FetchTopic {
                topic: Str::from("orders"),
                partitions: vec![FetchPartition {
                    partition: 1,
                    partition_max_bytes: i32::MAX,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        client.send(11, request).expect("it can be sent");
    }
    thread::sleep(Duration::from_millis(300));
    broker.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(500));
    assert!(
        broker.is_running(),
        "the drain did not wait for an answer under way"
    );
    let started = Instant::now();
    assert_eq!(broker.sigterm().code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(5));
    let marker = broker.data_directory().join(MARKER);
    assert!(
        !marker.exists(),
        "a stop that was cut short is no clean one"
    );
    broker.restart();
    let mut client = connect_patiently(broker.port());
    assert_eq!(client.read_all("orders", 1, 3).expect("records").len(), 10);
}
