//! A member of a group over the project's own client library.
//!
//! The library joins in the background, so a Join of the history begins when this client sees that
//! it lost what it had, or starts, and ends when it sees what it got.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm::client::admin::CommittedOffset;
use klamm::client::{Consumer, RebalanceEvent};
use klamm::types::{ErrorCode, LeaderEpoch, Offset, TopicPartition};
use klamm_jepsen::history::{Answer, Call, Committed, Join, Membership, Note, Partition, Position};

use super::errors::attempt;
use super::library::{config, fetched, positions};
use super::line::TIMEOUT;
use super::{Client, partition};
use crate::plan::Role;

struct Settings {
    group: String,
    topics: Vec<String>,
    instance: Option<String>,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
    commit_ms: u64,
    leave_percent: u8,
    vanish_percent: u8,
    freeze_percent: u8,
}

/// What is recorded of one consumer's life.
struct Life {
    /// A Join that has not ended.
    joining: Option<u64>,
    /// Positions the history knows of.
    assigned: BTreeMap<Partition, i64>,
    generation: i32,
}

pub(super) async fn run(mut client: Client) {
    let Role::Member {
        group,
        topics,
        instance,
        session_timeout_ms,
        rebalance_timeout_ms,
        commit_ms,
        leave_percent,
        vanish_percent,
        freeze_percent,
        ..
    } = client.plan.role.clone()
    else {
        return;
    };
    let settings = Settings {
        group,
        topics,
        instance,
        session_timeout_ms,
        rebalance_timeout_ms,
        commit_ms,
        leave_percent,
        vanish_percent,
        freeze_percent,
    };
    let mut commits = 0;
    while !client.stop.is_set() {
        if !live(&mut client, &settings, &mut commits).await {
            return;
        }
        let session = u64::try_from(settings.session_timeout_ms).unwrap_or(0);
        client.pause(session * 2).await;
    }
}

fn consumer(client: &Client, settings: &Settings) -> Option<Consumer> {
    let session = settings.session_timeout_ms;
    let config = config(
        client,
        &[
            ("group.id", settings.group.clone()),
            (
                "group.instance.id",
                settings.instance.clone().unwrap_or_default(),
            ),
            ("session.timeout.ms", session.to_string()),
            ("heartbeat.interval.ms", (session / 3).max(1).to_string()),
            (
                "max.poll.interval.ms",
                settings.rebalance_timeout_ms.max(1).to_string(),
            ),
            ("enable.auto.commit", "false".to_owned()),
            ("auto.offset.reset", "earliest".to_owned()),
            ("partition.assignment.strategy", "range".to_owned()),
            ("request.timeout.ms", "4000".to_owned()),
            ("default.api.timeout.ms", "5000".to_owned()),
            ("fetch.max.wait.ms", "300".to_owned()),
        ],
    )?;
    let mut consumer = Consumer::new(&client.env, config).ok()?;
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
    consumer.subscribe(&topics).ok()?;
    Some(consumer)
}

/// One life of a member: until it leaves, vanishes or is to stop. False if it cannot begin.
async fn live(client: &mut Client, settings: &Settings, commits: &mut u64) -> bool {
    let Some(mut consumer) = consumer(client, settings) else {
        return false;
    };
    let mut life = Life {
        joining: None,
        assigned: BTreeMap::new(),
        generation: -1,
    };
    life.begin_join(client, settings, "");
    let every = Duration::from_millis(settings.commit_ms.max(20));
    let mut commit_at = client.env.now().plus(every);
    while !client.stop.is_set() {
        life.poll(client, settings, &mut consumer).await;
        if client.env.now() < commit_at {
            continue;
        }
        commit_at = client.env.now().plus(every);
        *commits += 1;
        life.commit(client, settings, &mut consumer, *commits).await;
        if client.percent(settings.leave_percent) {
            break;
        }
        if client.percent(settings.vanish_percent) {
            life.end_join(client);
            client.recorder.note(&client.plan.name, Note::Gone);
            return true;
        }
        if client.percent(settings.freeze_percent) {
            let session = u64::try_from(settings.session_timeout_ms).unwrap_or(0);
            let longer = session + 200 + client.rng.below(session + 1);
            client.rest(Duration::from_millis(longer)).await;
        }
    }
    life.end_join(client);
    life.leave(client, settings, consumer).await;
    true
}

impl Life {
    fn by(&self, settings: &Settings, consumer: &Consumer) -> Membership {
        Membership {
            group: settings.group.clone(),
            member: consumer.member_id().to_owned(),
            generation: consumer.generation().unwrap_or(self.generation),
            instance: settings.instance.clone(),
        }
    }

    fn begin_join(&mut self, client: &Client, settings: &Settings, member: &str) {
        if self.joining.is_some() {
            return;
        }
        let call = Call::Join(Join {
            group: settings.group.clone(),
            member: member.to_owned(),
            instance: settings.instance.clone(),
            topics: settings.topics.clone(),
            session_timeout_ms: settings.session_timeout_ms,
            rebalance_timeout_ms: settings.rebalance_timeout_ms,
        });
        self.joining = Some(client.recorder.invoke(&client.plan.name, call));
    }

    /// Nobody will know how the join under way ended.
    fn end_join(&mut self, client: &Client) {
        if let Some(op) = self.joining.take() {
            let (recorder, process) = (&client.recorder, &client.plan.name);
            recorder.not_ok(process, op, false, Vec::new());
        }
    }

    fn take_events(&mut self, client: &Client, settings: &Settings, consumer: &mut Consumer) {
        for event in consumer.take_rebalance_events() {
            let member = consumer.member_id().to_owned();
            match event {
                RebalanceEvent::Assigned { generation, .. } => {
                    self.begin_join(client, settings, &member);
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
                        client.recorder.ok(&client.plan.name, op, answer);
                    }
                    self.assigned.clear();
                }
                RebalanceEvent::Revoked(_) | RebalanceEvent::Lost(_) => {
                    self.begin_join(client, settings, &member);
                    self.assigned.clear();
                }
            }
        }
    }

    /// One poll. What it gave is recorded as a Read once it is known where each partition begins.
    async fn poll(&mut self, client: &Client, settings: &Settings, consumer: &mut Consumer) {
        let polled = consumer.poll(Duration::from_millis(200)).await;
        self.take_events(client, settings, consumer);
        let Ok(records) = polled else {
            return client.env.sleep(Duration::from_millis(50)).await;
        };
        if records.is_empty() {
            return;
        }
        let (recorder, process) = (&client.recorder, &client.plan.name);
        let known: Vec<Position> = self.positions();
        let partitions = fetched(&known, &records);
        let is_new = partitions
            .iter()
            .any(|part| !self.assigned.contains_key(&part.of));
        for part in &partitions {
            self.assigned.entry(part.of.clone()).or_insert(part.from);
        }
        if is_new {
            let positions = self.positions();
            let op = recorder.invoke(process, Call::Assign { positions });
            recorder.ok(process, op, Answer::Assign);
        }
        let call = Call::Read {
            from: self.positions(),
            committed: false,
            library: true,
        };
        let op = recorder.invoke(process, call);
        recorder.ok(process, op, Answer::Read { partitions });
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

    async fn commit(
        &self,
        client: &Client,
        settings: &Settings,
        consumer: &mut Consumer,
        count: u64,
    ) {
        if self.assigned.is_empty() {
            return;
        }
        let process = &client.plan.name;
        let metadata = format!("{process}:{count}");
        let offsets: Vec<Committed> = self
            .positions()
            .into_iter()
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
        let by = self.by(settings, consumer);
        let op = client
            .recorder
            .invoke(process, Call::Commit { by, offsets });
        match consumer.commit_offsets(&asked).await {
            Ok(()) => {
                let refused = Vec::new();
                client.recorder.ok(process, op, Answer::Commit { refused });
            }
            Err(error) => {
                // A refusal of the last attempt says nothing about one whose answer was lost.
                let name = match error.outcome_unknown() {
                    true => TIMEOUT,
                    false => error.code().map_or(TIMEOUT, ErrorCode::name),
                };
                let attempts = vec![attempt(TIMEOUT), attempt(name)];
                client.recorder.not_ok(process, op, false, attempts);
            }
        }
    }

    async fn leave(&self, client: &Client, settings: &Settings, consumer: Consumer) {
        if consumer.member_id().is_empty() {
            client.recorder.note(&client.plan.name, Note::Gone);
            return;
        }
        let (recorder, process) = (&client.recorder, &client.plan.name);
        let by = self.by(settings, &consumer);
        let op = recorder.invoke(process, Call::Leave(by));
        let within = Duration::from_secs(4);
        let closed = client.env.timeout(within, consumer.close()).await;
        // The library does not say whether the group heard of it.
        let attempts = closed.is_err().then(|| attempt(TIMEOUT));
        recorder.not_ok(process, op, false, attempts.into_iter().collect());
        recorder.note(process, Note::Gone);
    }
}
