//! Two clusters in one process: what one has, the other has at the same offsets.

#![allow(
    clippy::disallowed_methods,
    reason = "a data directory is put back behind the broker's back"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::broker::replication_tests::{Nodes, run_test};
use crate::client::admin::{CommittedOffset, TopicSpec};
use crate::client::{Admin, ClientConfig, Producer, ProducerRecord};
use crate::config::BrokerConfig;
use crate::controller::{
    AlterLink, CreateLink, LinkChange, LinkMode, MirrorFault, MirrorState, NewLink, PROVENANCE,
    PromoteMirrors,
};
use crate::env::Env;
use crate::types::{BrokerId, LeaderEpoch, Offset, Timestamp, TopicPartition, Uuid};
use crate::wire::batch::{BatchHeader, RecordBatch};

mod mirror_maker;

/// A cluster of one.
struct One {
    env: Env,
    dir: PathBuf,
    broker: Arc<Broker>,
}

impl One {
    async fn start(env: &Env, dir: &Path) -> Self {
        let listener = "PLAINTEXT://127.0.0.1:0".to_owned();
        Self::start_at(env, dir, listener).await
    }

    async fn start_at(env: &Env, dir: &Path, listeners: String) -> Self {
        let settings = [
            ("node.id", "1".to_owned()),
            ("log.dirs", dir.display().to_string()),
            ("klamm.admin.listener", String::new()),
            ("listeners", listeners),
            ("offsets.topic.num.partitions", "1".to_owned()),
            ("klamm.mirror.discovery.interval.ms", "100".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        let loaded = BrokerConfig::load(None, Vec::new(), settings);
        let config = loaded.expect("valid settings").config;
        let broker = Broker::start(env.clone(), config, None).await;
        Self {
            env: env.clone(),
            dir: dir.to_owned(),
            broker: broker.expect("it starts"),
        }
    }

    fn address(&self) -> String {
        self.broker.addresses()[0].clone()
    }

    fn client(&self, pairs: &[(&str, &str)]) -> ClientConfig {
        let address = self.address();
        let servers = [("bootstrap.servers", address.as_str())];
        let all = servers.into_iter().chain(pairs.iter().copied());
        ClientConfig::from_pairs(all).expect("valid settings")
    }

    fn admin(&self) -> Admin {
        Admin::new(&self.env, self.client(&[])).expect("settings")
    }

    async fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut spec = TopicSpec::new(topic);
        spec.partitions = Some(partitions);
        for (name, value) in settings {
            spec.configs.insert((*name).to_owned(), (*value).to_owned());
        }
        let created = self.admin().create_topics(&[spec], false).await;
        created.expect("an answer")[topic].clone().expect("created");
    }

    /// Restarts it at the same address; `while_down` may touch its data.
    async fn restart(self, while_down: impl FnOnce(&Path)) -> Self {
        let listener = format!("PLAINTEXT://{}", self.address());
        self.broker.stop().await;
        let Self { env, dir, broker } = self;
        drop(broker);
        while_down(&dir);
        Self::start_at(&env, &dir, listener).await
    }
}

async fn link(target: &Broker, source: &str, topics: &[&str], groups: &[&str]) {
    let all = |patterns: &[&str]| patterns.iter().map(|one| (*one).to_owned()).collect();
    let link = NewLink {
        id: Uuid([7; 16]),
        name: "west".to_owned(),
        bootstrap: vec![source.to_owned()],
        mode: LinkMode::Exact,
        topics: all(topics),
        groups: all(groups),
        bytes_per_second: 0,
        replication_factor: -1,
    };
    let validate_only = false;
    let request = CreateLink {
        link,
        validate_only,
    };
    target
        .controller
        .create_link(request)
        .await
        .expect("a link");
}

async fn alter(target: &Broker, change: LinkChange) {
    let request = AlterLink {
        name: "west".to_owned(),
        change,
        validate_only: false,
    };
    target
        .controller
        .alter_link(request)
        .await
        .expect("changed");
}

/// All batches of a partition as they lie in the log here, and its ends.
async fn batches(
    broker: &Broker,
    topic: &str,
    partition: i32,
) -> (Offset, Offset, Vec<RecordBatch>) {
    let Ok(hosted) = broker
        .partitions
        .table()
        .partition(topic, partition)
        .cloned()
    else {
        return (Offset(-1), Offset(-1), Vec::new());
    };
    let reader = hosted.view.reader();
    let (start, end) = (reader.log_start_offset(), hosted.view.high_watermark());
    let (mut from, mut found) = (start, Vec::new());
    while from < end {
        let read = reader
            .read(from, end, 1 << 20, true)
            .await
            .expect("readable");
        if read.is_empty() {
            break;
        }
        from = read.end;
        let mut bytes = read.concat();
        while !bytes.is_empty() {
            found.push(RecordBatch::split_first(&mut bytes).expect("a batch"));
        }
    }
    (start, end, found)
}

fn but_for_the_epoch(batch: &RecordBatch) -> (BatchHeader, bytes::Bytes) {
    let header = BatchHeader {
        leader_epoch: LeaderEpoch(0),
        ..batch.header
    };
    (header, batch.payload())
}

/// Waits until a partition here is as it is there.
async fn until_same(source: &Broker, target: &Broker, topic: &str, partition: i32) {
    until_copied((source, topic), (target, topic), partition).await;
}

/// Waits until a partition of a mirror is as that of its source.
async fn until_copied(
    (source, topic): (&Broker, &str),
    (target, mirror): (&Broker, &str),
    partition: i32,
) {
    loop {
        let there = batches(source, topic, partition).await;
        let here = batches(target, mirror, partition).await;
        if there.0 == here.0 && there.1 == here.1 {
            let there: Vec<_> = there.2.iter().map(but_for_the_epoch).collect();
            let here: Vec<_> = here.2.iter().map(but_for_the_epoch).collect();
            assert_eq!(here, there);
            return;
        }
        target.env.sleep(Duration::from_millis(20)).await;
    }
}

async fn write(producer: &Producer, topic: &str, partition: i32, values: std::ops::Range<u32>) {
    let mut last = None;
    for value in values {
        let mut record = ProducerRecord::new(topic, format!("value {value}"));
        record = record.with_partition(partition).with_key(value.to_string());
        record.timestamp = Some(Timestamp(1_700_000_000_000 + i64::from(value)));
        record.headers = vec![("n".into(), Some(value.to_string().into()))];
        last = Some(producer.send(record).await.expect("taken in"));
    }
    last.expect("some").await.expect("stored");
}

fn producer(of: &One, pairs: &[(&str, &str)]) -> Producer {
    Producer::new(&of.env, of.client(pairs)).expect("settings")
}

async fn until_fault(target: &Broker, topic: &str) -> MirrorFault {
    loop {
        let image = target.controller.image();
        let mirror = image.topic(topic).and_then(|topic| image.mirror(topic.id));
        let known = mirror.and_then(|mirror| mirror.partition(0));
        if let Some(fault) = known.and_then(|known| known.fault.clone()) {
            return fault;
        }
        target.env.sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_link_copies_topics_batch_by_batch_at_the_same_offsets() {
    run_test(|env, dir| async move {
        let west = One::start(&env, &dir.join("west")).await;
        let east = One::start(&env, &dir.join("east")).await;
        west.create("orders.eu", 2, &[("max.message.bytes", "500000")])
            .await;
        west.create("clicks", 1, &[]).await;
        let plain = producer(&west, &[]);
        write(&plain, "orders.eu", 0, 0..50).await;
        let packed = producer(&west, &[("compression.type", "zstd")]);
        write(&packed, "orders.eu", 1, 0..50).await;
        link(&east.broker, &west.address(), &["orders.*"], &["bill*"]).await;
        for partition in 0..2 {
            until_same(&west.broker, &east.broker, "orders.eu", partition).await;
        }
        let ids = batches(&east.broker, "orders.eu", 0).await.2;
        assert!(ids[0].header.has_producer(), "producers are kept");
        // What comes up later is followed.
        write(&packed, "orders.eu", 0, 50..60).await;
        west.create("orders.us", 1, &[]).await;
        write(&plain, "orders.us", 0, 0..5).await;
        let more = BTreeMap::from([("orders.eu".to_owned(), 3)]);
        west.admin()
            .create_partitions(&more, false)
            .await
            .expect("grown");
        until_same(&west.broker, &east.broker, "orders.eu", 0).await;
        until_same(&west.broker, &east.broker, "orders.us", 0).await;
        until_same(&west.broker, &east.broker, "orders.eu", 2).await;
        let image = east.broker.controller.image();
        assert!(image.topic("clicks").is_none(), "it was not asked for");
        let settings = image.topic_overrides("orders.eu");
        assert_eq!(
            settings.get("max.message.bytes").map(String::as_str),
            Some("500000")
        );
        let from = west
            .broker
            .controller
            .image()
            .cluster_id()
            .expect("founded");
        assert_eq!(settings.get(PROVENANCE), Some(&from.to_string()));
        // Records that go there go here.
        let partition = TopicPartition::new("orders.eu", 1);
        let below = BTreeMap::from([(partition, Offset(20))]);
        west.admin().delete_records(&below).await.expect("deleted");
        until_same(&west.broker, &east.broker, "orders.eu", 1).await;
        groups_follow(&west, &east).await;
        let status = east.broker.mirrors.all();
        assert_eq!(status.len(), 4, "{status:?}");
        assert!(
            status
                .iter()
                .all(|(_, one)| one.lag() == 0 && one.error.is_none())
        );
    });
}

async fn groups_follow(west: &One, east: &One) {
    let partition = TopicPartition::new("orders.eu", 0);
    for offset in [60, 35] {
        let offsets = [(partition.clone(), CommittedOffset::at(Offset(offset)))];
        let set = west
            .admin()
            .set_group_offsets("billing", &offsets.into())
            .await;
        assert_eq!(set.expect("answered")[&partition], Ok(()));
        loop {
            let known = east.admin().group_offsets("billing", None).await;
            let known = known.expect("answered");
            let found = known.get(&partition).and_then(|one| one.as_ref().ok());
            if found.is_some_and(|found| found.offset == Offset(offset)) {
                break;
            }
            east.env.sleep(Duration::from_millis(20)).await;
        }
    }
}

#[test]
fn a_mirror_begins_where_its_source_does_and_waits_while_it_is_paused() {
    run_test(|env, dir| async move {
        let west = One::start(&env, &dir.join("west")).await;
        let east = One::start(&env, &dir.join("east")).await;
        west.create("orders", 2, &[]).await;
        let plain = producer(&west, &[]);
        write(&plain, "orders", 0, 0..30).await;
        write(&plain, "orders", 1, 0..30).await;
        let below = [(0, 17), (1, 30)];
        let below = below.map(|(at, end)| (TopicPartition::new("orders", at), Offset(end)));
        west.admin()
            .delete_records(&below.into())
            .await
            .expect("deleted");
        link(&east.broker, &west.address(), &["*"], &[]).await;
        until_same(&west.broker, &east.broker, "orders", 0).await;
        until_same(&west.broker, &east.broker, "orders", 1).await;
        let (start, end, _) = batches(&east.broker, "orders", 1).await;
        assert_eq!((start, end), (Offset(30), Offset(30)));
        let paused = |paused| LinkChange {
            paused: Some(paused),
            ..LinkChange::default()
        };
        alter(&east.broker, paused(true)).await;
        write(&plain, "orders", 1, 30..40).await;
        env.sleep(Duration::from_millis(700)).await;
        assert_eq!(batches(&east.broker, "orders", 1).await.1, Offset(30));
        alter(&east.broker, paused(false)).await;
        until_same(&west.broker, &east.broker, "orders", 1).await;
    });
}

#[test]
fn a_source_that_is_made_anew_is_not_mixed_with_what_it_was() {
    run_test(|env, dir| async move {
        let west = One::start(&env, &dir.join("west")).await;
        let east = One::start(&env, &dir.join("east")).await;
        west.create("orders", 1, &[]).await;
        let plain = producer(&west, &[]);
        write(&plain, "orders", 0, 0..10).await;
        link(&east.broker, &west.address(), &["*"], &[]).await;
        until_same(&west.broker, &east.broker, "orders", 0).await;
        let names = ["orders".to_owned()];
        west.admin().delete_topics(&names).await.expect("deleted");
        west.create("orders", 1, &[]).await;
        let other = producer(&west, &[]);
        write(&other, "orders", 0, 100..130).await;
        loop {
            let image = east.broker.controller.image();
            let topic = image.topic("orders").expect("it is kept");
            let mirror = image.mirror(topic.id).expect("a mirror");
            if let MirrorState::Failed { reason } = &mirror.topic.state {
                assert!(reason.contains("made anew"), "{reason}");
                break;
            }
            env.sleep(Duration::from_millis(20)).await;
        }
        let (_, end, kept) = batches(&east.broker, "orders", 0).await;
        assert_eq!(end, Offset(10));
        let first = kept[0].records().expect("records").next().expect("one");
        assert_eq!(first.expect("whole").value, Some("value 0".into()));
    });
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().expect("a type").is_dir() {
            true => copy_dir(&from, &to),
            false => drop(std::fs::copy(from, to).expect("copied")),
        }
    }
}

#[test]
fn a_source_that_lost_records_is_told_and_what_was_copied_is_kept() {
    run_test(|env, dir| async move {
        let west = One::start(&env, &dir.join("west")).await;
        let east = One::start(&env, &dir.join("east")).await;
        west.create("orders", 1, &[]).await;
        write(&producer(&west, &[]), "orders", 0, 0..10).await;
        let backup = dir.join("backup");
        let west = west.restart(|data| copy_dir(data, &backup)).await;
        write(&producer(&west, &[]), "orders", 0, 10..20).await;
        link(&east.broker, &west.address(), &["*"], &[]).await;
        until_same(&west.broker, &east.broker, "orders", 0).await;
        let west = west
            .restart(|data| {
                std::fs::remove_dir_all(data).expect("removed");
                copy_dir(&backup, data);
            })
            .await;
        write(&producer(&west, &[]), "orders", 0, 100..105).await;
        let fault = until_fault(&east.broker, "orders").await;
        let MirrorFault::Truncated { at, source_end } = fault else {
            panic!("{fault:?}");
        };
        assert_eq!(at, Offset(20));
        assert!(source_end <= Offset(15), "{source_end}");
        assert_eq!(batches(&east.broker, "orders", 0).await.1, Offset(20));
    });
}

#[test]
fn a_promoted_mirror_is_written_to_and_knows_no_producers_of_its_source() {
    run_test(|env, dir| async move {
        let west = One::start(&env, &dir.join("west")).await;
        let east = One::start(&env, &dir.join("east")).await;
        west.create("orders", 1, &[]).await;
        write(&producer(&west, &[]), "orders", 0, 0..10).await;
        link(&east.broker, &west.address(), &["*"], &[]).await;
        until_same(&west.broker, &east.broker, "orders", 0).await;
        let record = || ProducerRecord::new("orders", "too early").with_partition(0);
        let early = producer(&east, &[("enable.idempotence", "false"), ("retries", "0")]);
        let refused = early.send(record()).await.expect("taken in").await;
        assert!(refused.is_err(), "clients only read a mirror");
        let wanted = PromoteMirrors {
            topics: Some(vec!["orders".to_owned()]),
            ..PromoteMirrors::default()
        };
        let promoted = east.broker.controller.promote_mirrors(wanted).await;
        promoted.expect("answered")[0].1.clone().expect("promoted");
        write(&producer(&east, &[]), "orders", 0, 0..10).await;
        let (_, end, found) = batches(&east.broker, "orders", 0).await;
        assert_eq!(end, Offset(20), "nothing was taken for a duplicate");
        let first = |batch: &RecordBatch| (batch.header.producer_id, batch.header.base_sequence);
        let mine = found
            .iter()
            .find(|batch| batch.header.base_offset == Offset(10));
        let mine = first(mine.expect("a batch begins there"));
        assert_eq!(mine, first(&found[0]), "else the claim is idle");
        write(&producer(&west, &[]), "orders", 0, 10..20).await;
        env.sleep(Duration::from_millis(700)).await;
        assert_eq!(batches(&east.broker, "orders", 0).await.1, Offset(20));
    });
}

#[test]
fn copying_goes_on_under_another_leader_and_another_leader_of_the_source() {
    run_test(|env, dir| async move {
        let mut west = Nodes::start(&env, &dir.join("west")).await;
        let mut east = Nodes::start(&env, &dir.join("east")).await;
        let admin = Admin::new(&env, west.client(&[])).expect("settings");
        let mut spec = TopicSpec::new("orders");
        spec.partitions = Some(1);
        admin.create_topics(&[spec], false).await.expect("created");
        let plain = Producer::new(&env, west.client(&[("acks", "all")])).expect("settings");
        write(&plain, "orders", 0, 0..20).await;
        let source = west.servers.split(',').next().expect("one");
        let any = east.brokers.values().next().expect("a node");
        link(any, source, &["orders"], &[]).await;
        let leader = until_mirrored(&west, &east).await;
        east.stop(leader).await;
        write(&plain, "orders", 0, 20..40).await;
        until_mirrored(&west, &east).await;
        let source = west.until_in_sync("orders", 3).await;
        west.stop(source).await;
        write(&plain, "orders", 0, 40..60).await;
        until_mirrored(&west, &east).await;
        east.restart(leader, &dir.join("east")).await;
        write(&plain, "orders", 0, 60..80).await;
        until_mirrored(&west, &east).await;
        let image = east.brokers[&leader].controller.image();
        let topic = image.topic("orders").expect("a topic");
        let mirror = image.mirror(topic.id).expect("a mirror");
        let known = mirror.partition(0).expect("a lineage");
        assert!(known.lineage.len() > 1, "{known:?}");
        assert_eq!(known.fault, None);
    });
}

/// Waits until the leader of the mirror has what the leader of the source has; the former.
async fn until_mirrored(west: &Nodes, east: &Nodes) -> BrokerId {
    let leader = |nodes: &Nodes| {
        let any = nodes.brokers.values().next()?;
        let image = any.controller.image();
        let leader = image.partition("orders", 0)?.leader?;
        Some((leader, nodes.brokers.get(&leader)?.clone()))
    };
    loop {
        if let (Some((_, source)), Some((id, target))) = (leader(west), leader(east)) {
            let there = batches(&source, "orders", 0).await;
            let here = batches(&target, "orders", 0).await;
            if there.1 == here.1 && there.1 > Offset::ZERO {
                let there: Vec<_> = there.2.iter().map(but_for_the_epoch).collect();
                let here: Vec<_> = here.2.iter().map(but_for_the_epoch).collect();
                assert_eq!(here, there);
                return id;
            }
        }
        west.env.sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_source_that_is_this_very_cluster_is_refused() {
    run_test(|env, dir| async move {
        let east = One::start(&env, &dir.join("east")).await;
        east.create("orders", 1, &[]).await;
        link(&east.broker, &east.address(), &["*"], &[]).await;
        loop {
            let status = east.broker.mirrors.link(Uuid([7; 16]));
            if let Some(error) = status.and_then(|status| status.error) {
                assert!(error.contains("this very cluster"), "{error}");
                return;
            }
            env.sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn a_link_keeps_to_its_bandwidth() {
    run_test(|env, dir| async move {
        let west = One::start(&env, &dir.join("west")).await;
        let east = One::start(&env, &dir.join("east")).await;
        west.create("orders", 1, &[]).await;
        let plain = producer(&west, &[("linger.ms", "0")]);
        let value = "x".repeat(20_000);
        for _ in 0..30 {
            let record = ProducerRecord::new("orders", value.clone()).with_partition(0);
            let stored = plain.send(record).await.expect("taken in").await;
            stored.expect("stored");
        }
        let began = env.now();
        link(&east.broker, &west.address(), &["none"], &[]).await;
        let change = LinkChange {
            topics: Some(vec!["orders".to_owned()]),
            bytes_per_second: Some(200_000),
            ..LinkChange::default()
        };
        alter(&east.broker, change).await;
        until_same(&west.broker, &east.broker, "orders", 0).await;
        let took = env.now().since(began);
        // 600 kB, of which a second's worth may come at once.
        assert!(took >= Duration::from_millis(1500), "{took:?}");
    });
}
