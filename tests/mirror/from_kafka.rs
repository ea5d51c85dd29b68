//! A link from a real Apache Kafka: every record and every committed offset arrives as it was, at
//! no less than a part of what a plain consumer of that Kafka reaches.
//!
//! Needs Java and Maven's registry, so it runs with `KLAMM_KAFKA=1` alone;
//! `KLAMM_MIRROR_RECORDS=5000004` makes it more records than 240,000, and from a million on the
//! rate is held against the promise (of a release build). `KLAMM_MIRROR_NODES` says how many nodes
//! copy (3).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use klamm::client::admin::OffsetSpec;
use klamm::types::TopicPartition;

use super::klamm;
use super::side::{LIMIT, Side, compare, partitions, topics};
use crate::broker_process::free_port;
use crate::cluster::{ClusterProcess, environment, turn};

const TOPICS: [(&str, &str); 3] = [
    ("orders.created", "none"),
    ("orders.paid", "lz4"),
    ("clicks", "zstd"),
];
const PARTITIONS: i32 = 4;
const RECORDS: u64 = 240_000;
/// A link copies at no less than this part of what a plain consumer of the same source reaches.
const RATE_PROMISED: f64 = 0.7;
/// So many records are enough to hold the promise against.
const RECORDS_TO_JUDGE: u64 = 1_000_000;

/// An Apache Kafka of one node; it ends when this is dropped.
struct Kafka {
    port: u16,
}

impl Kafka {
    fn start() -> Self {
        let kafka = Self { port: free_port() };
        let output = kafka.script("start").output().expect("a shell");
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "Apache Kafka: {complained}");
        kafka
    }

    fn script(&self, verb: &str) -> Command {
        let script: PathBuf =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/apache-kafka.sh");
        let mut command = Command::new(script);
        command
            .arg(verb)
            .env("KAFKA_PORT", self.port.to_string())
            .env("KAFKA_HEAP_SIZE", "1g");
        command
    }

    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let _ = self.script("stop").status();
    }
}

#[test]
fn every_record_and_committed_offset_of_an_apache_kafka_arrives() {
    if environment::<u8>("KLAMM_KAFKA") != Some(1) {
        eprintln!("skipped: KLAMM_KAFKA=1 runs it");
        return;
    }
    let _turn = turn();
    let records = environment("KLAMM_MIRROR_RECORDS").unwrap_or(RECORDS);
    let kafka = Kafka::start();
    let nodes = environment("KLAMM_MIRROR_NODES").unwrap_or(3);
    let cluster = ClusterProcess::start(nodes, &[]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let env = klamm::env::tokio::env(Default::default()).expect("an env");
        let source = Side::new(&env, &kafka.bootstrap());
        let mirror = Side::new(&env, &cluster.bootstrap());
        copied(&source, &mirror, records).await;
    });
}

async fn copied(source: &Side, mirror: &Side, records: u64) {
    let (ends, committed) = fill(source, records).await;
    let all: Vec<TopicPartition> = TOPICS
        .iter()
        .flat_map(|(topic, _)| partitions(topic, PARTITIONS))
        .collect();
    source.create("other", 1, 1, &[]).await;
    let consumed = consume(source, records).await;
    let began = Instant::now();
    let create = [
        "link",
        "create",
        "east",
        "--from",
        &source.servers,
        "--topics",
        "orders.*,clicks",
        "--groups",
        "billing*",
    ];
    klamm(&mirror.servers, &create);
    wait_for_topics(mirror).await;
    mirror.reaches(&all, &ends).await;
    let copied = began.elapsed();
    mirror.has_committed("billing", &committed).await;
    eprintln!(
        "{records} records copied in {copied:.1?} ({:.0} records/s), a plain \
         consumer of the same source took {consumed:.1?}: {:.0} % of its rate",
        records as f64 / copied.as_secs_f64(),
        100.0 * consumed.as_secs_f64() / copied.as_secs_f64(),
    );
    let mut compared = 0;
    for (of, end) in all.iter().zip(&ends) {
        compared += compare(source, mirror, of, *end).await;
    }
    assert_eq!(compared, records, "records were compared");
    let there = topics(mirror).await.expect("an answer");
    assert!(!there.contains("other"), "it matches no pattern: {there:?}");
    if records >= RECORDS_TO_JUDGE {
        assert!(
            consumed.as_secs_f64() >= RATE_PROMISED * copied.as_secs_f64(),
            "copied in {copied:?}, consumed in {consumed:?}"
        );
    }
}

/// Writes the records and commits offsets of a group; the ends, and what was committed.
async fn fill(source: &Side, records: u64) -> (Vec<i64>, BTreeMap<TopicPartition, i64>) {
    let places = TOPICS.len() as u64 * PARTITIONS as u64;
    let each = records / places;
    assert_eq!(
        each * places,
        records,
        "the records can be dealt out evenly"
    );
    let (mut ends, mut committed) = (Vec::new(), BTreeMap::new());
    for (topic, codec) in TOPICS {
        source
            .create(topic, PARTITIONS, 1, &[("retention.ms", "-1")])
            .await;
        for of in partitions(topic, PARTITIONS) {
            source.fill(&of, each, codec).await;
            ends.push(i64::try_from(each).expect("few"));
            if of.partition != 3 {
                let share = i64::try_from(each).expect("few") / 4;
                committed.insert(of.clone(), share * i64::from(of.partition));
            }
        }
    }
    source.commit("billing", &committed).await;
    source.commit("unwanted", &committed).await;
    (ends, committed)
}

/// How long one consumer takes to read all of it.
async fn consume(source: &Side, records: u64) -> Duration {
    let mut consumer =
        klamm::client::Consumer::new(&source.env, source.config(&[])).expect("settings");
    let all: Vec<TopicPartition> = TOPICS
        .iter()
        .flat_map(|(topic, _)| partitions(topic, PARTITIONS))
        .collect();
    consumer.assign(&all).expect("partitions");
    for of in &all {
        let earliest = consumer.seek_to(of, OffsetSpec::Earliest);
        earliest.expect("it is assigned");
    }
    let (began, mut count) = (Instant::now(), 0);
    while count < records {
        let polled = consumer.poll(Duration::from_millis(500)).await;
        count += polled.expect("records").len() as u64;
        assert!(began.elapsed() < LIMIT, "read {count} of {records}");
    }
    began.elapsed()
}

async fn wait_for_topics(mirror: &Side) {
    let began = Instant::now();
    loop {
        let there = topics(mirror).await;
        if let Ok(there) = &there
            && TOPICS.iter().all(|(topic, _)| there.contains(*topic))
        {
            return;
        }
        assert!(began.elapsed() < LIMIT, "the mirror has {there:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
