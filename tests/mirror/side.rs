//! One cluster as a client sees it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use klamm::client::admin::{CommittedOffset, OffsetSpec, TopicSpec};
use klamm::client::{
    Admin, ClientConfig, Consumer, ConsumerRecord, Isolation, Producer, ProducerRecord,
};
use klamm::env::Env;
use klamm::types::{Offset, Timestamp, TopicPartition};
use klamm::wire::Str;

/// Nothing is waited for longer.
pub const LIMIT: Duration = Duration::from_secs(300);
/// Records that one producer has on their way.
const IN_FLIGHT_MAX: usize = 20_000;

/// A cluster, Klamm's or another.
#[derive(Clone)]
pub struct Side {
    pub env: Env,
    pub servers: String,
}

impl Side {
    pub fn new(env: &Env, servers: &str) -> Self {
        Self {
            env: env.clone(),
            servers: servers.to_owned(),
        }
    }

    pub fn config(&self, pairs: &[(&str, &str)]) -> ClientConfig {
        let own = [
            ("bootstrap.servers", self.servers.as_str()),
            ("allow.auto.create.topics", "false"),
        ];
        ClientConfig::from_pairs(own.into_iter().chain(pairs.iter().copied())).expect("settings")
    }

    pub fn admin(&self) -> Admin {
        Admin::new(&self.env, self.config(&[])).expect("settings")
    }

    pub async fn create(
        &self,
        name: &str,
        partitions: i32,
        replicas: i16,
        configs: &[(&str, &str)],
    ) {
        let mut topic = TopicSpec::new(name);
        topic.partitions = Some(partitions);
        topic.replication_factor = Some(replicas);
        for (key, value) in configs {
            topic.configs.insert((*key).to_owned(), (*value).to_owned());
        }
        let created = self.admin().create_topics(&[topic], false).await;
        created.expect("an answer")[name].clone().expect("a topic");
    }

    /// Writes `count` records to a partition: with and without keys, values and headers.
    pub async fn fill(&self, of: &TopicPartition, count: u64, codec: &str) {
        let config = self.config(&[("compression.type", codec), ("linger.ms", "5")]);
        let producer = Producer::new(&self.env, config).expect("settings");
        let mut under_way = VecDeque::new();
        for number in 0..count {
            let record = sample(of, number);
            under_way.push_back(producer.send(record).await.expect("it is taken"));
            if under_way.len() >= IN_FLIGHT_MAX
                && let Some(oldest) = under_way.pop_front()
            {
                oldest.await.expect("it is delivered");
            }
        }
        for delivery in under_way {
            delivery.await.expect("it is delivered");
        }
    }

    /// Where partitions begin or end.
    pub async fn offsets(
        &self,
        of: &[TopicPartition],
        spec: OffsetSpec,
    ) -> Result<Vec<i64>, String> {
        let wanted: BTreeMap<_, _> = of.iter().map(|of| (of.clone(), spec)).collect();
        let found = self
            .admin()
            .list_offsets(&wanted, Isolation::ReadUncommitted)
            .await
            .map_err(|error| error.to_string())?;
        let each = of.iter().map(|of| match &found[of] {
            Ok(found) => Ok(found.offset.map_or(-1, |offset| offset.0)),
            Err(error) => Err(format!("{of}: {error}")),
        });
        each.collect()
    }

    /// Waits until these partitions end where they shall, or beyond.
    pub async fn reaches(&self, of: &[TopicPartition], ends: &[i64]) {
        let began = Instant::now();
        loop {
            let now = self.offsets(of, OffsetSpec::Latest).await;
            if let Ok(now) = &now
                && now.iter().zip(ends).all(|(now, end)| now >= end)
            {
                return;
            }
            assert!(
                began.elapsed() < LIMIT,
                "after {LIMIT:?} {} ends at {now:?}, not at {ends:?}",
                self.servers
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn commit(&self, group: &str, offsets: &BTreeMap<TopicPartition, i64>) {
        let offsets = offsets
            .iter()
            .map(|(of, offset)| (of.clone(), CommittedOffset::at(Offset(*offset))))
            .collect();
        let set = self.admin().set_group_offsets(group, &offsets).await;
        for (of, outcome) in set.expect("an answer") {
            outcome.unwrap_or_else(|error| panic!("{of}: {error}"));
        }
    }

    pub async fn committed(&self, group: &str) -> Result<BTreeMap<TopicPartition, i64>, String> {
        let found = self.admin().group_offsets(group, None).await;
        let found = found.map_err(|error| error.to_string())?;
        let each = found.into_iter().map(|(of, found)| {
            let found = found.map_err(|error| error.to_string())?;
            Ok((of, found.offset.0))
        });
        each.collect()
    }

    /// Waits until a group has committed exactly this.
    pub async fn has_committed(&self, group: &str, wanted: &BTreeMap<TopicPartition, i64>) {
        let began = Instant::now();
        loop {
            let now = self.committed(group).await;
            if now.as_ref() == Ok(wanted) {
                return;
            }
            assert!(
                began.elapsed() < LIMIT,
                "after {LIMIT:?} the offsets of {group} at {} are {now:?}, not {wanted:?}",
                self.servers
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A reader of one partition from `start` on.
    pub fn reader(&self, of: &TopicPartition, start: i64) -> Reader {
        let config = self.config(&[("auto.offset.reset", "none")]);
        let mut consumer = Consumer::new(&self.env, config).expect("settings");
        consumer
            .assign(std::slice::from_ref(of))
            .expect("a partition to read");
        consumer.seek(of, Offset(start)).expect("it is assigned");
        Reader {
            consumer,
            waiting: VecDeque::new(),
        }
    }
}

/// Reads a partition record by record.
pub struct Reader {
    consumer: Consumer,
    waiting: VecDeque<ConsumerRecord>,
}

impl Reader {
    pub async fn next(&mut self) -> ConsumerRecord {
        let began = Instant::now();
        loop {
            if let Some(record) = self.waiting.pop_front() {
                return record;
            }
            let polled = self.consumer.poll(Duration::from_millis(500)).await;
            match polled {
                Ok(records) => self.waiting.extend(records),
                Err(error) => eprintln!("a reader goes on: {error}"),
            }
            assert!(began.elapsed() < LIMIT, "nothing to read for {LIMIT:?}");
        }
    }
}

/// The record with this number of a partition: a function of both.
fn sample(of: &TopicPartition, number: u64) -> ProducerRecord {
    let text = format!("{of} {number} {:0>1$}", "", (number % 97) as usize);
    let mut record = ProducerRecord::new(Arc::clone(&of.topic), text).with_partition(of.partition);
    record.timestamp = Some(Timestamp(
        1_700_000_000_000 + i64::try_from(number).expect("few"),
    ));
    if !number.is_multiple_of(3) {
        record = record.with_key(format!("key {}", number % 1009));
        // A null value without a key would mean nothing to anybody.
        if number.is_multiple_of(50) {
            record.value = None;
        }
    }
    if number.is_multiple_of(5) {
        let header = |name: &str, value: Option<&str>| {
            (
                Str::from(name),
                value.map(|value| Bytes::from(value.to_owned())),
            )
        };
        record.headers = vec![
            header("a", Some("1")),
            header("a", Some("")),
            header("empty", None),
        ];
    }
    record
}

pub fn partitions(topic: &str, count: i32) -> Vec<TopicPartition> {
    (0..count)
        .map(|number| TopicPartition::new(topic, number))
        .collect()
}

/// Reads a partition from both sides up to `end` and compares record with record: offset, key,
/// value, headers, timestamp and its type. Says how many there were.
pub async fn compare(source: &Side, mirror: &Side, of: &TopicPartition, end: i64) -> u64 {
    let here = std::slice::from_ref(of);
    let start = source.offsets(here, OffsetSpec::Earliest).await;
    let start = start.expect("an offset")[0];
    let (mut left, mut right) = (source.reader(of, start), mirror.reader(of, start));
    let (mut next, mut count) = (start, 0);
    while next < end {
        let (expected, found) = (left.next().await, right.next().await);
        let same = expected.offset == found.offset
            && expected.key == found.key
            && expected.value == found.value
            && expected.headers == found.headers
            && expected.timestamp == found.timestamp
            && expected.timestamp_type == found.timestamp_type;
        assert!(same, "the source has {expected:?}, the mirror {found:?}");
        next = expected.offset.0 + 1;
        count += 1;
    }
    count
}

/// The topics of a cluster.
pub async fn topics(side: &Side) -> Result<BTreeSet<String>, String> {
    let found = side.admin().list_topics().await;
    let found = found.map_err(|error| error.to_string())?;
    Ok(found.keys().map(|name| name.to_string()).collect())
}
