//! A member of a group over the project's own client library: it subscribes, reads, commits, and
//! now and then leaves, vanishes or sleeps too long.
//!
//! The library joins in the background, so a Join of the history begins when this client sees that
//! it lost what it had, or starts, and ends when it sees what it got.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use klamm::client::admin::CommittedOffset;
use klamm::client::{Admin, Consumer, RebalanceEvent};
use klamm::env::Rng;
use klamm::types::{LeaderEpoch, Offset, TopicPartition};

use super::{Shared, TIMEOUT, attempts, attempts_to_change, positions};
use crate::harness::content::{fetched, partition};
use crate::history::{Answer, Call, Committed, Join, Membership, Note, Partition, Position};

const SESSION_MS: u64 = 6000;
const REBALANCE_MS: u64 = 8000;
const COMMIT_EVERY: Duration = Duration::from_millis(400);
const CLOSE_LIMIT: Duration = Duration::from_secs(4);

/// The group and how roughly its member lives.
#[derive(Debug, Clone)]
pub struct Membered {
    pub group: String,
    pub instance: Option<String>,
    /// Of a hundred commits, how many are followed by a leave, a crash, a long sleep.
    pub leave: u64,
    pub vanish: u64,
    pub freeze: u64,
}

/// What is recorded of one consumer's life.
struct Life<'a> {
    shared: &'a Shared,
    process: String,
    how: &'a Membered,
    /// A Join that has not ended.
    joining: Option<u64>,
    /// Positions the history knows of.
    assigned: BTreeMap<Partition, i64>,
    generation: i32,
}

/// Lives until nothing is in flight any more.
pub async fn run(shared: Shared, name: String, how: Membered) {
    let mut rng = shared.rng(&name);
    let mut lives = 0;
    while !shared.is_drained() {
        lives += 1;
        let mut life = Life {
            shared: &shared,
            process: format!("{name}.{lives}"),
            how: &how,
            joining: None,
            assigned: BTreeMap::new(),
            generation: -1,
        };
        life.live(&mut rng).await;
        tokio::time::sleep(Duration::from_millis(200 + rng.below(2000))).await;
    }
}

impl Life<'_> {
    fn consumer(&self) -> Consumer {
        let config = self.shared.config(
            &self.process,
            &[
                ("group.id", &self.how.group),
                (
                    "group.instance.id",
                    self.how.instance.as_deref().unwrap_or_default(),
                ),
                ("session.timeout.ms", &SESSION_MS.to_string()),
                ("heartbeat.interval.ms", "1000"),
                ("max.poll.interval.ms", &REBALANCE_MS.to_string()),
                ("enable.auto.commit", "false"),
                ("auto.offset.reset", "earliest"),
                ("partition.assignment.strategy", "range"),
                ("fetch.max.wait.ms", "300"),
            ],
        );
        let consumer = Consumer::new(&self.shared.env, config);
        let mut consumer = consumer.expect("settings that the harness itself wrote");
        let topics = self.topics();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).expect("topics to subscribe to");
        consumer
    }

    fn topics(&self) -> Vec<String> {
        self.shared
            .topics
            .iter()
            .map(|(topic, _)| topic.clone())
            .collect()
    }

    async fn live(&mut self, rng: &mut Rng) {
        let recorder = &self.shared.recorder;
        let mut consumer = self.consumer();
        self.begin_join("");
        let mut committed = Instant::now();
        let mut commits = 0;
        while !self.shared.is_drained() {
            self.poll(&mut consumer).await;
            if committed.elapsed() < COMMIT_EVERY {
                continue;
            }
            committed = Instant::now();
            commits += 1;
            self.commit(&mut consumer, commits).await;
            let drawn = rng.below(100);
            let how = self.how;
            if drawn < how.leave {
                break;
            } else if drawn < how.leave + how.vanish {
                self.end_join();
                recorder.note(&self.process, Note::Gone);
                return;
            } else if drawn < how.leave + how.vanish + how.freeze {
                // The library's heartbeats go on; what it does not do is poll.
                let longer = REBALANCE_MS + 200 + rng.below(2000);
                tokio::time::sleep(Duration::from_millis(longer)).await;
            }
        }
        self.end_join();
        self.leave(consumer).await;
    }

    fn by(&self, consumer: &Consumer) -> Membership {
        Membership {
            group: self.how.group.clone(),
            member: consumer.member_id().to_owned(),
            generation: consumer.generation().unwrap_or(self.generation),
            instance: self.how.instance.clone(),
        }
    }

    fn begin_join(&mut self, member: &str) {
        if self.joining.is_some() {
            return;
        }
        let call = Call::Join(Join {
            group: self.how.group.clone(),
            member: member.to_owned(),
            instance: self.how.instance.clone(),
            topics: self.topics(),
            session_timeout_ms: i32::try_from(SESSION_MS).unwrap_or(0),
            rebalance_timeout_ms: i32::try_from(REBALANCE_MS).unwrap_or(0),
        });
        self.joining = Some(self.shared.recorder.invoke(&self.process, call));
    }

    /// Nobody will know how the join under way ended.
    fn end_join(&mut self) {
        if let Some(op) = self.joining.take() {
            self.shared.recorder.not_ok(&self.process, op, false, &[]);
        }
    }

    fn take_events(&mut self, consumer: &mut Consumer) {
        for event in consumer.take_rebalance_events() {
            let member = consumer.member_id().to_owned();
            self.begin_join(&member);
            self.assigned.clear();
            if let RebalanceEvent::Assigned { generation, .. } = event {
                self.generation = generation;
                let assigned = consumer.assignment();
                let assigned = assigned.iter().map(|p| partition(&p.topic, p.partition));
                let answer = Answer::Join {
                    member,
                    generation,
                    leader: false,
                    assigned: assigned.collect(),
                };
                if let Some(op) = self.joining.take() {
                    self.shared.recorder.ok(&self.process, op, answer);
                }
            }
        }
    }

    /// One poll. What it gave is recorded as a Read once it is known where each partition begins.
    async fn poll(&mut self, consumer: &mut Consumer) {
        let polled = consumer.poll(Duration::from_millis(200)).await;
        self.take_events(consumer);
        let Ok(records) = polled else {
            return tokio::time::sleep(Duration::from_millis(50)).await;
        };
        if records.is_empty() {
            return;
        }
        let recorder = &self.shared.recorder;
        let known = self.positions();
        let partitions = fetched(&known, &records);
        let is_new = partitions
            .iter()
            .any(|part| !self.assigned.contains_key(&part.of));
        for part in &partitions {
            self.assigned.entry(part.of.clone()).or_insert(part.from);
        }
        if is_new {
            let positions = self.positions();
            let op = recorder.invoke(&self.process, Call::Assign { positions });
            recorder.ok(&self.process, op, Answer::Assign);
        }
        let call = Call::Read {
            from: self.positions(),
            committed: false,
            library: true,
        };
        let op = recorder.invoke(&self.process, call);
        recorder.ok(&self.process, op, Answer::Read { partitions });
        for Position { of, offset } in positions(consumer) {
            if let Some(known) = self.assigned.get_mut(&of) {
                *known = offset;
            }
        }
    }

    fn positions(&self) -> Vec<Position> {
        let each = self.assigned.iter();
        each.map(|(of, offset)| Position {
            of: of.clone(),
            offset: *offset,
        })
        .collect()
    }

    async fn commit(&self, consumer: &mut Consumer, count: u64) {
        if self.assigned.is_empty() {
            return;
        }
        let metadata = format!("{}:{count}", self.process);
        let each = self.positions().into_iter();
        let offsets: Vec<Committed> = each
            .map(|Position { of, offset }| Committed {
                of,
                offset,
                metadata: metadata.clone(),
            })
            .collect();
        let asked = offsets.iter().map(|committed| {
            let of = TopicPartition::new(committed.of.topic.as_str(), committed.of.partition);
            let offset = CommittedOffset {
                offset: Offset(committed.offset),
                leader_epoch: LeaderEpoch::NONE,
                metadata: metadata.clone(),
            };
            (of, offset)
        });
        let asked = asked.collect();
        let by = self.by(consumer);
        let recorder = &self.shared.recorder;
        let op = recorder.invoke(&self.process, Call::Commit { by, offsets });
        match consumer.commit_offsets(&asked).await {
            Ok(()) => {
                let refused = Vec::new();
                recorder.ok(&self.process, op, Answer::Commit { refused });
            }
            Err(error) => {
                let errors = attempts_to_change(&error);
                recorder.not_ok(&self.process, op, false, &errors);
            }
        }
    }

    async fn leave(&self, consumer: Consumer) {
        let recorder = &self.shared.recorder;
        if !consumer.member_id().is_empty() {
            let by = self.by(&consumer);
            let op = recorder.invoke(&self.process, Call::Leave(by));
            let closed = tokio::time::timeout(CLOSE_LIMIT, consumer.close()).await;
            // The library does not say whether the group heard of it.
            let errors: &[&str] = if closed.is_err() { &[TIMEOUT] } else { &[] };
            recorder.not_ok(&self.process, op, false, errors);
        }
        recorder.note(&self.process, Note::Gone);
    }
}

/// Asks over and over what `group` has committed, until nothing is in flight any more.
pub async fn observe(shared: Shared, name: String, group: String) {
    let admin = Admin::new(&shared.env, shared.config(&name, &[]));
    let admin = admin.expect("settings that the harness itself wrote");
    while !shared.is_drained() {
        fetch_committed(&shared, &name, &admin, &group).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Asks what a group has committed for every partition.
pub async fn fetch_committed(shared: &Shared, name: &str, admin: &Admin, group: &str) {
    let recorder = &shared.recorder;
    let of: Vec<Partition> = shared.partitions().collect();
    let call = Call::FetchCommitted {
        group: group.to_owned(),
        of: of.clone(),
    };
    let op = recorder.invoke(name, call);
    let key = |of: &Partition| TopicPartition::new(of.topic.as_str(), of.partition);
    let keys: Vec<TopicPartition> = of.iter().map(key).collect();
    match admin.group_offsets(group, Some(&keys)).await {
        Ok(found) => {
            // Nothing is told of a partition that has an error: that is no answer of none.
            if let Some(error) = found.values().find_map(|found| found.as_ref().err()) {
                return recorder.not_ok(name, op, false, &[error.code.name()]);
            }
            let told = of.iter().map(|of| {
                let found = found.get(&key(of)).and_then(|found| found.as_ref().ok());
                Committed {
                    of: of.clone(),
                    offset: found.map_or(-1, |found| found.offset.0),
                    metadata: found.map_or_else(String::new, |found| found.metadata.clone()),
                }
            });
            let offsets = told.collect();
            recorder.ok(name, op, Answer::FetchCommitted { offsets });
        }
        Err(error) => recorder.not_ok(name, op, false, &attempts(&error)),
    }
}
