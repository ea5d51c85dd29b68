//! The edges: what the broker refuses, and how it says so.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes, files and sockets"
)]

mod bad_requests;
mod damage;
mod disk_full;
mod refused_starts;
mod removal;
mod slow_readers;
mod stopping;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use klamm::types::ErrorCode;

use super::broker_process::BrokerProcess;
use super::wire_client::{WireClient, code, connect_patiently, plain_batch};

/// A client of a broker with one topic, `orders`, of two partitions with three records each.
fn with_orders(broker: &BrokerProcess) -> WireClient {
    let mut client = connect_patiently(broker.port());
    let created = client.create_topic("orders", 2, &[]);
    assert_eq!(created.expect("an answer"), ErrorCode::None);
    for partition in 0..2 {
        for value in [&b"one"[..], b"two", b"three"] {
            assert_eq!(
                produce(&mut client, "orders", partition, value),
                ErrorCode::None
            );
        }
    }
    client
}

fn produce(client: &mut WireClient, topic: &str, partition: i32, value: &[u8]) -> ErrorCode {
    let answer = client.produce(topic, partition, plain_batch(&[value]));
    code(answer.expect("an answer").error_code)
}

fn fetch(client: &mut WireClient, topic: &str, partition: i32) -> ErrorCode {
    let fetched = client.fetch(topic, partition, 0).expect("an answer");
    code(fetched.data.error_code)
}

fn values(client: &mut WireClient, topic: &str, partition: i32) -> Vec<String> {
    let read = client
        .read_all(topic, partition, 0)
        .expect("it can be read");
    read.into_iter()
        .map(|(_, value)| String::from_utf8_lossy(&value).into_owned())
        .collect()
}

/// The files of a directory with this ending, in order of their names.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    found
}

/// Turns one bit of the byte at `position`; from the end where it is negative.
fn flip(path: &Path, position: i64) {
    let mut content = fs::read(path).expect("the file can be read");
    let length = i64::try_from(content.len()).expect("a length");
    let at = if position < 0 {
        length + position
    } else {
        position
    };
    content[usize::try_from(at).expect("within the file")] ^= 0x10;
    fs::write(path, content).expect("the file can be written");
}

/// That a line of what a broker logs names all of these, now or soon: its output arrives on its
/// own time.
#[track_caller]
fn logs(broker: &BrokerProcess, parts: &[&str]) {
    let started = Instant::now();
    loop {
        let output = broker.output();
        let names_all = |line: &str| parts.iter().all(|part| line.contains(part));
        if output.lines().any(names_all) {
            return;
        }
        let late = started.elapsed() > Duration::from_secs(10);
        assert!(!late, "no line says {parts:?} in:\n{output}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// That what a process wrote names all of these.
#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "nothing says {part:?} in:\n{text}");
    }
}
