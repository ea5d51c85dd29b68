//! Clients of the project's own library that load a cluster while it suffers: producers with
//! several records in flight, a reader, and a committer of offsets. All they see is recorded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use klamm::client::admin::{CommittedOffset, OffsetSpec, TopicSpec};
use klamm::client::{
    Admin, ClientConfig, Consumer, Delivery, Isolation, Outcome, Producer, ProducerRecord,
};
use klamm::env::Env;
use klamm::types::{ErrorCode, Offset, Timestamp, TopicPartition};
use klamm_jepsen::history::{
    Answer, Call, Committed, Library, ListedAt, Membership, Note, Phase, Position, Wanted,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::history::{Recorder, fetched, partition, value_of, written};
use super::pulse::Pulse;

pub const TOPIC: &str = "load";
pub const PARTITIONS: i32 = 6;
const PRODUCERS: u32 = 3;
/// Records of one producer for one partition that are not acknowledged yet.
const IN_FLIGHT_MAX: usize = 4;
const GROUP: &str = "load-group";
/// How long the clients may take to get their last answers, and the final reads.
const END_LIMIT: Duration = Duration::from_secs(120);

/// What all clients share.
struct Shared {
    env: Env,
    servers: String,
    recorder: Recorder,
    pulse: Pulse,
    ending: AtomicBool,
    /// Producers have nothing in flight any more; readers end.
    drained: AtomicBool,
}

/// Clients at work.
pub struct Load {
    runtime: Runtime,
    shared: Arc<Shared>,
    producers: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Load {
    /// Makes the topic, with as many replicas, and puts the clients to work.
    pub fn start(servers: &str, replication_factor: i16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let env = runtime.block_on(async { klamm::env::tokio::env(Default::default()) });
        let shared = Arc::new(Shared {
            env: env.expect("an env"),
            servers: servers.to_owned(),
            recorder: Recorder::new(),
            pulse: Pulse::new(usize::try_from(PARTITIONS).expect("a few")),
            ending: AtomicBool::new(false),
            drained: AtomicBool::new(false),
        });
        let mut load = Self {
            runtime,
            shared,
            producers: Vec::new(),
            others: Vec::new(),
        };
        load.runtime
            .block_on(load.shared.create_topic(replication_factor));
        load.spawn_clients();
        load
    }

    fn spawn_clients(&mut self) {
        for number in 1..=PRODUCERS {
            let producer = self.runtime.block_on(self.shared.producer(number));
            for at in 0..PARTITIONS {
                let name = format!("producer-{number}-{at}");
                let shared = Arc::clone(&self.shared);
                let producer = producer.clone();
                let task = async move { shared.produce(&producer, &name, at).await };
                self.producers.push(self.runtime.spawn(task));
            }
        }
        let shared = Arc::clone(&self.shared);
        let reader = self.runtime.spawn(async move { shared.read_along().await });
        let shared = Arc::clone(&self.shared);
        let committer = self
            .runtime
            .spawn(async move { shared.commit_along().await });
        self.others = vec![reader, committer];
    }

    pub fn pulse(&self) -> &Pulse {
        &self.shared.pulse
    }

    /// Tells the history what was done to the cluster, for people.
    pub fn note_fault(&self, kind: &str, detail: String) {
        let kind = kind.to_owned();
        let note = Note::Fault { kind, detail };
        self.shared.recorder.note("nemesis", note);
    }

    /// A client that failed a check of its own has ended.
    pub fn check_alive(&mut self) {
        let clients = self.producers.iter().chain(&self.others);
        if clients.into_iter().any(JoinHandle::is_finished) {
            for client in self.producers.drain(..).chain(self.others.drain(..)) {
                if client.is_finished() {
                    self.runtime.block_on(client).expect("a client goes on");
                }
            }
            panic!("a client ended before its time");
        }
    }

    /// Ends the clients once all their records are acknowledged or have failed, reads everything
    /// back, and judges the whole history. Says how much it was.
    pub fn finish(self, name: &str) -> String {
        let Self {
            runtime,
            shared,
            producers,
            others,
        } = self;
        let joined = |clients: Vec<JoinHandle<()>>| {
            for client in clients {
                let ended =
                    runtime.block_on(async { tokio::time::timeout(END_LIMIT, client).await });
                let ended = ended.expect("a client gets its last answers");
                ended.expect("a client sees nothing wrong");
            }
        };
        shared.ending.store(true, Ordering::Release);
        joined(producers);
        shared.drained.store(true, Ordering::Release);
        joined(others);
        let phase = Phase::Final;
        shared.recorder.note("run", Note::Phase { phase });
        runtime.block_on(async {
            let all = tokio::time::timeout(END_LIMIT, shared.read_back());
            all.await.expect("everything can be read");
        });
        drop(runtime);
        let shared = Arc::into_inner(shared).expect("all clients ended");
        let told = shared.recorder.check(name);
        let all = told.all();
        assert!(told.records_acknowledged > 0, "a load without load");
        format!(
            "{} records acknowledged, {} read; operations: {} ok, {} failed, {} unknown",
            told.records_acknowledged, told.records_read, all.ok, all.fail, all.info
        )
    }
}

/// A record that the library has.
struct Sending {
    op: u64,
    timestamp: Timestamp,
    delivery: Delivery,
}

impl Shared {
    fn config(&self, name: &str, pairs: &[(&str, &str)]) -> ClientConfig {
        let own = [
            ("bootstrap.servers", self.servers.as_str()),
            ("client.id", name),
        ];
        ClientConfig::from_pairs(own.into_iter().chain(pairs.iter().copied())).expect("settings")
    }

    async fn create_topic(&self, replication_factor: i16) {
        let admin = Admin::new(&self.env, self.config("admin", &[])).expect("settings");
        let mut topic = TopicSpec::new(TOPIC);
        topic.partitions = Some(PARTITIONS);
        topic.replication_factor = Some(replication_factor);
        let min_isr = (replication_factor / 2 + 1).to_string();
        topic
            .configs
            .insert("min.insync.replicas".to_owned(), min_isr);
        let created = admin.create_topics(&[topic], false).await;
        created.expect("an answer")[TOPIC].clone().expect("a topic");
    }

    async fn producer(&self, number: u32) -> Producer {
        // One of them fills batches, the others send what they have.
        let linger = if number == 1 { "5" } else { "0" };
        let config = self.config(&format!("producer-{number}"), &[("linger.ms", linger)]);
        Producer::new(&self.env, config).expect("settings")
    }

    async fn produce(&self, producer: &Producer, name: &str, at: i32) {
        let mut under_way: VecDeque<Sending> = VecDeque::new();
        loop {
            let ending = self.ending.load(Ordering::Acquire);
            if ending && under_way.is_empty() {
                return;
            }
            while !ending && under_way.len() < IN_FLIGHT_MAX {
                match self.send(producer, name, at).await {
                    Some(sending) => under_way.push_back(sending),
                    None => break,
                }
            }
            if let Some(sending) = under_way.pop_front() {
                self.settle(name, at, sending).await;
            }
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
    }

    async fn send(&self, producer: &Producer, name: &str, at: i32) -> Option<Sending> {
        let id = self.recorder.next_id();
        let value = value_of(id);
        let timestamp = self.env.wall();
        let mut record = ProducerRecord::new(TOPIC, value.clone()).with_partition(at);
        record.timestamp = Some(timestamp);
        let call = Call::Send {
            to: partition(TOPIC, at),
            acks: -1,
            records: vec![written(id, &value, timestamp)],
            stamp: None,
            library: Some(Library::Idempotent),
        };
        let op = self.recorder.invoke(name, call);
        match producer.send(record).await {
            Ok(delivery) => Some(Sending {
                op,
                timestamp,
                delivery,
            }),
            Err(error) => {
                eprintln!("{name}: a record was not taken: {error}");
                self.recorder.failed_send(name, op, "NOT_SENT");
                None
            }
        }
    }

    async fn settle(&self, name: &str, at: i32, sending: Sending) {
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
                self.recorder.ok(name, sending.op, answer);
                self.pulse.beat(usize::try_from(at).expect("a partition"));
            }
            Err(error) => {
                eprintln!("{name}: a record was not delivered: {error}");
                let known = match error.outcome {
                    Outcome::NotAppended => "NOT_SENT",
                    Outcome::Unknown => "TIMEOUT",
                };
                self.recorder.failed_send(name, sending.op, known);
            }
        }
    }

    /// A consumer of all partitions, at these positions.
    fn consumer(&self, name: &str, from: &[Position]) -> Consumer {
        let config = self.config(name, &[("auto.offset.reset", "none")]);
        let mut consumer = Consumer::new(&self.env, config).expect("settings");
        let each = from.iter().map(|position| {
            let of = &position.of;
            (
                TopicPartition::new(of.topic.as_str(), of.partition),
                position.offset,
            )
        });
        let each: Vec<_> = each.collect();
        let all: Vec<TopicPartition> = each.iter().map(|(of, _)| of.clone()).collect();
        consumer.assign(&all).expect("partitions to read");
        for (of, offset) in each {
            consumer.seek(&of, Offset(offset)).expect("it is assigned");
        }
        let positions = from.to_vec();
        let op = self.recorder.invoke(name, Call::Assign { positions });
        self.recorder.ok(name, op, Answer::Assign);
        consumer
    }

    /// One poll; the positions after it.
    async fn poll(&self, name: &str, consumer: &mut Consumer) -> Vec<Position> {
        let from = positions(consumer);
        let call = Call::Read {
            from: from.clone(),
            committed: false,
            library: true,
        };
        let op = self.recorder.invoke(name, call);
        match consumer.poll(Duration::from_millis(500)).await {
            Ok(records) => self.recorder.ok(name, op, fetched(&from, &records)),
            Err(error) => {
                eprintln!("{name}: {error}");
                let known = error.code().map_or("TIMEOUT", ErrorCode::name);
                self.recorder.failed_other(name, op, known);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        positions(consumer)
    }

    async fn read_along(&self) {
        let name = "reader";
        let starts = all_partitions().map(|of| Position { of, offset: 0 });
        let mut consumer = self.consumer(name, &starts.collect::<Vec<_>>());
        while !self.drained.load(Ordering::Acquire) {
            self.poll(name, &mut consumer).await;
        }
    }

    /// Commits ever higher offsets of a group, and looks now and then what is committed.
    async fn commit_along(&self) {
        let name = "committer";
        let config = self.config(name, &[("group.id", GROUP)]);
        let mut consumer = Consumer::new(&self.env, config).expect("settings");
        let admin = Admin::on(consumer.cluster().clone());
        let of = TopicPartition::new(TOPIC, 0);
        consumer
            .assign(std::slice::from_ref(&of))
            .expect("a partition");
        let mut offset = 0;
        while !self.drained.load(Ordering::Acquire) {
            offset += 1;
            self.commit(name, &mut consumer, &of, offset).await;
            if offset % 10 == 0 {
                self.fetch_committed(name, &admin, &of).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn commit(&self, name: &str, by: &mut Consumer, of: &TopicPartition, offset: i64) {
        let metadata = format!("m{offset}");
        let call = Call::Commit {
            by: Membership {
                group: GROUP.to_owned(),
                member: String::new(),
                generation: -1,
                instance: None,
            },
            offsets: vec![Committed {
                of: partition(TOPIC, of.partition),
                offset,
                metadata: metadata.clone(),
            }],
        };
        let op = self.recorder.invoke(name, call);
        let mut committed = CommittedOffset::at(Offset(offset));
        committed.metadata = metadata;
        let offsets = BTreeMap::from([(of.clone(), committed)]);
        match by.commit_offsets(&offsets).await {
            Ok(()) => {
                let refused = Vec::new();
                self.recorder.ok(name, op, Answer::Commit { refused });
            }
            // The library may have tried more than once: whether one of them took effect is not
            // known.
            Err(error) => {
                eprintln!("{name}: {error}");
                self.recorder.failed_other(name, op, "TIMEOUT");
            }
        }
    }

    async fn fetch_committed(&self, name: &str, admin: &Admin, of: &TopicPartition) {
        let call = Call::FetchCommitted {
            group: GROUP.to_owned(),
            of: vec![partition(TOPIC, of.partition)],
        };
        let op = self.recorder.invoke(name, call);
        let found = admin.group_offsets(GROUP, Some(std::slice::from_ref(of)));
        match found.await {
            Ok(found) => {
                let found = found.get(of).map(|found| found.clone().expect("an offset"));
                let found = found.as_ref();
                let offsets = vec![Committed {
                    of: partition(TOPIC, of.partition),
                    offset: found.map_or(-1, |found| found.offset.0),
                    metadata: found.map_or_else(String::new, |found| found.metadata.clone()),
                }];
                self.recorder
                    .ok(name, op, Answer::FetchCommitted { offsets });
            }
            Err(error) => {
                eprintln!("{name}: {error}");
                self.recorder.failed_other(name, op, "TIMEOUT");
            }
        }
    }

    /// Reads every partition from its start to its end.
    async fn read_back(&self) {
        let name = "final";
        let starts = self
            .list(name, OffsetSpec::Earliest, ListedAt::Earliest)
            .await;
        let ends = self.list(name, OffsetSpec::Latest, ListedAt::Latest).await;
        let mut consumer = self.consumer(name, &starts);
        let began = Instant::now();
        let mut reached = starts.clone();
        while reached
            .iter()
            .zip(&ends)
            .any(|(next, end)| next.offset < end.offset)
        {
            assert!(
                began.elapsed() < END_LIMIT,
                "read up to {reached:?} of {ends:?}"
            );
            reached = self.poll(name, &mut consumer).await;
        }
        for (start, end) in starts.into_iter().zip(ends) {
            let ends = Wanted {
                of: start.of,
                log_start_offset: start.offset,
                log_end_offset: end.offset,
            };
            self.recorder.note(name, Note::Ends { ends });
        }
        let admin = Admin::new(&self.env, self.config(name, &[])).expect("settings");
        self.fetch_committed(name, &admin, &TopicPartition::new(TOPIC, 0))
            .await;
    }

    /// The earliest or latest offset of every partition, in the order of their numbers.
    async fn list(&self, name: &str, spec: OffsetSpec, at: ListedAt) -> Vec<Position> {
        let admin = Admin::new(&self.env, self.config(name, &[])).expect("settings");
        let mut listed = Vec::new();
        for of in all_partitions() {
            let key = TopicPartition::new(TOPIC, of.partition);
            let call = Call::ListOffsets { of: of.clone(), at };
            let op = self.recorder.invoke(name, call);
            let wanted = BTreeMap::from([(key.clone(), spec)]);
            let found = admin
                .list_offsets(&wanted, Isolation::ReadUncommitted)
                .await;
            let found = found.expect("an answer")[&key].clone().expect("an offset");
            let offset = found.offset.map_or(-1, |offset| offset.0);
            let answer = Answer::ListOffsets {
                offset,
                timestamp: found.timestamp.0,
                leader_epoch: found.leader_epoch.0,
            };
            self.recorder.ok(name, op, answer);
            listed.push(Position { of, offset });
        }
        listed
    }
}

fn all_partitions() -> impl Iterator<Item = klamm_jepsen::history::Partition> {
    (0..PARTITIONS).map(|number| partition(TOPIC, number))
}

/// Where a consumer reads next, in the order of the partitions.
fn positions(consumer: &Consumer) -> Vec<Position> {
    let assigned = consumer.assignment();
    let known = assigned.iter().filter_map(|of| {
        Some(Position {
            of: partition(&of.topic, of.partition),
            offset: consumer.position(of)?.0,
        })
    });
    known.collect()
}
