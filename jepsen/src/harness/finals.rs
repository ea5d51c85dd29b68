//! What the run itself asks before and after the clients: it makes the topics, waits until the
//! cluster is whole, writes to and reads from every partition. All of it is recorded under one
//! process.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use klamm::client::admin::TopicSpec;
use klamm::client::{Admin, Consumer, Producer, ProducerRecord};

use super::clients::{Shared, TIMEOUT, assign, fetch_committed, list, poll, positions};
use super::content::{value_of, written};
use crate::history::{Answer, Call, Library, ListedAt, Note, Partition, Phase, Position, Wanted};

/// The process that all of this is recorded under.
pub const PROCESS: &str = "final";

const CREATE_LIMIT: Duration = Duration::from_secs(60);
const WHOLE_LIMIT: Duration = Duration::from_secs(90);
const SEND_LIMIT: Duration = Duration::from_secs(30);
const READ_LIMIT: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(200);

/// The run's own client.
pub struct Finals<'a> {
    shared: &'a Shared,
    admin: Admin,
}

impl<'a> Finals<'a> {
    #[must_use]
    pub fn new(shared: &'a Shared) -> Self {
        let admin = Admin::new(&shared.env, shared.config(PROCESS, &[]));
        let admin = admin.expect("settings that the harness itself wrote");
        Self { shared, admin }
    }

    /// Makes the topics of the log workload.
    pub async fn create_topics(&self, replicas: i16, min_isr: i16) -> Result<(), String> {
        for (topic, partitions) in &self.shared.topics {
            let config = BTreeMap::from([
                ("min.insync.replicas".to_owned(), min_isr.to_string()),
                // So small that logs roll every few seconds.
                ("segment.bytes".to_owned(), "65536".to_owned()),
            ]);
            let call = Call::CreateTopic {
                topic: topic.clone(),
                partitions: *partitions,
                config: config.clone(),
            };
            let op = self.shared.recorder.invoke(PROCESS, call);
            let mut wanted = TopicSpec::new(topic);
            wanted.partitions = Some(*partitions);
            wanted.replication_factor = Some(replicas);
            wanted.configs = config;
            let began = Instant::now();
            loop {
                let made = self
                    .admin
                    .create_topics(std::slice::from_ref(&wanted), false)
                    .await;
                let error = match made.map(|mut each| each.remove(topic)) {
                    Ok(Some(Ok(_))) => break,
                    Ok(Some(Err(error))) if error.code.name() == "TOPIC_ALREADY_EXISTS" => break,
                    Ok(other) => format!("{other:?}"),
                    Err(error) => error.to_string(),
                };
                if began.elapsed() > CREATE_LIMIT {
                    return Err(format!("topic {topic} cannot be made: {error}"));
                }
                tokio::time::sleep(AGAIN).await;
            }
            self.shared.recorder.ok(PROCESS, op, Answer::CreateTopic);
        }
        Ok(())
    }

    /// Waits until every partition has a leader and all of its replicas in sync. Those that have
    /// not in time are broken promises.
    pub async fn wait_until_whole(&self) {
        let began = Instant::now();
        loop {
            let lacking = self.lacking().await;
            if lacking.is_empty() {
                return;
            }
            if began.elapsed() > WHOLE_LIMIT {
                for (property, detail) in lacking {
                    self.shared.recorder.broken(PROCESS, property, detail);
                }
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What is not as it should be, with the property that demands it.
    async fn lacking(&self) -> Vec<(&'static str, String)> {
        let found = match self.admin.list_topics().await {
            Ok(found) => found,
            Err(error) => return vec![("V1", format!("nobody tells of the topics: {error}"))],
        };
        let mut lacking = Vec::new();
        for (topic, count) in &self.shared.topics {
            let known = found.get(topic.as_str());
            if known
                .is_none_or(|known| known.partitions.len() < usize::try_from(*count).unwrap_or(0))
            {
                lacking.push(("V1", format!("{topic} is not known as it was made")));
            }
        }
        let all = found.iter();
        let all = all.flat_map(|(topic, view)| view.partitions.values().map(move |p| (topic, p)));
        for (topic, view) in all {
            let property = match view.leader {
                None => "V1",
                Some(_) if view.isr.len() < view.replicas.len() => "V3",
                Some(_) => continue,
            };
            let detail = format!(
                "{topic}-{} has leader {:?} and {:?} in sync of {:?} after {WHOLE_LIMIT:?}",
                view.partition, view.leader, view.isr, view.replicas
            );
            lacking.push((property, detail));
        }
        lacking
    }

    /// Sends one record to each partition with acks=all, until that worked or its time is over.
    pub async fn send_everywhere(&self) {
        let pairs = [("delivery.timeout.ms", "8000"), ("linger.ms", "0")];
        let config = self.shared.config(PROCESS, &pairs);
        let producer = Producer::new(&self.shared.env, config);
        let producer = producer.expect("settings that the harness itself wrote");
        let began = Instant::now();
        for to in self.shared.partitions() {
            while !self.send(&producer, &to).await && began.elapsed() < SEND_LIMIT {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    async fn send(&self, producer: &Producer, to: &Partition) -> bool {
        let recorder = &self.shared.recorder;
        let id = recorder.next_id();
        let value = value_of(id);
        let timestamp = self.shared.env.wall();
        let mut record = ProducerRecord::new(to.topic.as_str(), value.clone());
        record = record.with_partition(to.partition);
        record.timestamp = Some(timestamp);
        let call = Call::Send {
            to: to.clone(),
            acks: -1,
            records: vec![written(id, &value, timestamp.0)],
            stamp: None,
            library: Some(Library::Idempotent),
        };
        let op = recorder.invoke(PROCESS, call);
        let sent = match producer.send(record).await {
            Ok(delivery) => delivery.await.ok(),
            Err(_) => None,
        };
        let Some(metadata) = sent else {
            recorder.not_ok(PROCESS, op, true, &[TIMEOUT]);
            return false;
        };
        let answer = Answer::Send {
            base_offset: metadata.offset.map_or(-1, |offset| offset.0),
            log_append_time: -1,
            log_start_offset: -1,
            attempts: Vec::new(),
        };
        recorder.ok(PROCESS, op, answer);
        true
    }

    /// Begins the final phase and reads every partition from its start to its end.
    pub async fn read_back(&self) {
        let phase = Phase::Final;
        self.shared.recorder.note("run", Note::Phase { phase });
        let read = tokio::time::timeout(READ_LIMIT, self.read_all()).await;
        if read.is_err() {
            let detail = format!("what was acknowledged cannot be read within {READ_LIMIT:?}");
            self.shared.recorder.broken(PROCESS, "V4", detail);
        }
    }

    async fn read_all(&self) {
        let (starts, ends) = loop {
            let starts = self.list_all(ListedAt::Earliest).await;
            let ends = self.list_all(ListedAt::Latest).await;
            if let (Some(starts), Some(ends)) = (starts, ends) {
                break (starts, ends);
            }
            tokio::time::sleep(AGAIN).await;
        };
        let config = self
            .shared
            .config(PROCESS, &[("auto.offset.reset", "none")]);
        let consumer = Consumer::new(&self.shared.env, config);
        let mut consumer = consumer.expect("settings that the harness itself wrote");
        assign(self.shared, PROCESS, &mut consumer, starts.clone());
        loop {
            let next = positions(&consumer);
            let is_read = |end: &Position| {
                let reached = next.iter().find(|next| next.of == end.of);
                reached.is_some_and(|next| next.offset >= end.offset)
            };
            if ends.iter().all(is_read) {
                break;
            }
            // What failed is in the history; the consumer goes on from where it is.
            let _ = poll(self.shared, PROCESS, &mut consumer).await;
        }
        for (start, end) in starts.into_iter().zip(ends) {
            let ends = Wanted {
                of: start.of,
                log_start_offset: start.offset,
                log_end_offset: end.offset,
            };
            self.shared.recorder.note(PROCESS, Note::Ends { ends });
        }
    }

    async fn list_all(&self, at: ListedAt) -> Option<Vec<Position>> {
        let mut all = Vec::new();
        for of in self.shared.partitions() {
            let offset = list(self.shared, PROCESS, &self.admin, of.clone(), at).await?;
            all.push(Position { of, offset });
        }
        Some(all)
    }

    /// Asks what these groups have committed.
    pub async fn fetch_committed(&self, groups: &[String]) {
        for group in groups {
            fetch_committed(self.shared, PROCESS, &self.admin, group).await;
        }
    }
}
