//! Three nodes in one process: what one takes the others have, and go on with when it is gone.

#![allow(
    clippy::disallowed_methods,
    reason = "a log is taken away behind the broker's back"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::client::admin::{OffsetSpec, TopicSpec};
use crate::client::{Admin, ClientConfig, Consumer, Producer, ProducerRecord};
use crate::config::BrokerConfig;
use crate::controller::PartitionState;
use crate::env::Env;
use crate::types::{BrokerId, ErrorCode, Offset, TopicPartition};

const NODES: u16 = 3;

fn config(dir: &Path, ports: &[(u16, u16)], node: u16) -> BrokerConfig {
    let (clients, nodes) = ports[usize::from(node - 1)];
    let voters: Vec<String> = (1..=NODES)
        .map(|id| format!("{id}@127.0.0.1:{}", ports[usize::from(id - 1)].1))
        .collect();
    let listeners = format!("PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{nodes}");
    let log_dir = dir.join(format!("node-{node}"));
    let settings = [
        ("node.id", node.to_string()),
        ("log.dirs", log_dir.display().to_string()),
        ("klamm.admin.listener", String::new()),
        ("listeners", listeners),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("controller.quorum.voters", voters.join(",")),
        ("default.replication.factor", "3".to_owned()),
        ("min.insync.replicas", "2".to_owned()),
        ("offsets.topic.replication.factor", "3".to_owned()),
        ("offsets.topic.num.partitions", "1".to_owned()),
        ("klamm.mirror.discovery.interval.ms", "100".to_owned()),
    ];
    let settings = settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let loaded = BrokerConfig::load(None, Vec::new(), settings);
    loaded.expect("valid settings").config
}

/// Ports that nobody listens on at the moment.
async fn free_ports(env: &Env) -> Vec<(u16, u16)> {
    let mut held = Vec::new();
    for _ in 0..2 * NODES {
        held.push(env.net.listen("127.0.0.1:0").await.expect("a port"));
    }
    let port = |at: usize| {
        let address = held[at].local_address();
        let (_, port) = address.rsplit_once(':').expect("ip:port");
        port.parse().expect("a port")
    };
    (0..usize::from(NODES))
        .map(|node| (port(2 * node), port(2 * node + 1)))
        .collect()
}

pub(super) struct Nodes {
    pub(super) env: Env,
    pub(super) brokers: BTreeMap<BrokerId, Arc<Broker>>,
    ports: Vec<(u16, u16)>,
    pub(super) servers: String,
}

impl Nodes {
    pub(super) async fn start(env: &Env, dir: &Path) -> Self {
        let ports = free_ports(env).await;
        let starting = (1..=NODES).map(|node| {
            let config = config(dir, &ports, node);
            Broker::start(env.clone(), config, None)
        });
        let mut brokers = BTreeMap::new();
        for started in futures_util::future::join_all(starting).await {
            let broker = started.expect("the node starts");
            brokers.insert(broker.config.node_id, broker);
        }
        let servers: Vec<String> = ports
            .iter()
            .map(|(clients, _)| format!("127.0.0.1:{clients}"))
            .collect();
        Self {
            env: env.clone(),
            brokers,
            servers: servers.join(","),
            ports,
        }
    }

    pub(super) async fn stop(&mut self, id: BrokerId) {
        let gone = self.brokers.remove(&id).expect("it runs");
        gone.stop().await;
    }

    pub(super) async fn restart(&mut self, id: BrokerId, dir: &Path) {
        let node = u16::try_from(id.0).expect("a small id");
        let config = config(dir, &self.ports, node);
        let started = Broker::start(self.env.clone(), config, None).await;
        self.brokers.insert(id, started.expect("it starts again"));
    }

    pub(super) fn client(&self, pairs: &[(&str, &str)]) -> ClientConfig {
        let servers = [("bootstrap.servers", self.servers.as_str())];
        let all = servers.into_iter().chain(pairs.iter().copied());
        ClientConfig::from_pairs(all).expect("valid settings")
    }

    /// The partition's leader and in-sync replicas, as every node that runs says.
    pub(super) async fn until_in_sync(&self, topic: &str, count: usize) -> BrokerId {
        loop {
            let agreed = self.brokers.values().all(|broker| {
                let image = broker.controller.image();
                let state = image.partition(topic, 0);
                state.is_some_and(|state| state.isr.len() == count && state.leader.is_some())
            });
            if agreed {
                let any = self.brokers.values().next().expect("a node");
                let image = any.controller.image();
                let state = image.partition(topic, 0).expect("it was there");
                return state.leader.expect("it was there");
            }
            self.env.sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn write(producer: &Producer, topic: &str, values: std::ops::Range<u32>) {
    for value in values {
        let record = ProducerRecord::new(topic, value.to_string()).with_partition(0);
        let delivery = producer.send(record).await.expect("taken in");
        delivery.await.expect("stored");
    }
}

/// Runs a test on three directories of its own.
pub(super) fn run_test<T: Future<Output = ()>>(body: impl FnOnce(Env, std::path::PathBuf) -> T) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    runtime.block_on(async {
        let env = crate::env::tokio::env(Default::default()).expect("an env");
        let body = body(env.clone(), dir.path().to_owned());
        let ended = env.timeout(Duration::from_secs(120), body).await;
        ended.expect("the test ends in time");
    });
}

#[test]
fn what_was_acknowledged_outlives_its_leader_and_groups_move_with_their_partition() {
    run_test(|env, dir| async move { run(env, &dir).await });
}

#[test]
fn deleted_records_are_gone_from_every_replica_when_the_deletion_is_answered() {
    run_test(|env, dir| async move {
        let mut nodes = Nodes::start(&env, &dir).await;
        let admin = Admin::new(&env, nodes.client(&[])).expect("settings");
        let mut spec = TopicSpec::new("t");
        spec.partitions = Some(1);
        admin.create_topics(&[spec], false).await.expect("created");
        let producer = Producer::new(&env, nodes.client(&[("acks", "all")])).expect("settings");
        write(&producer, "t", 0..20).await;
        let leader = nodes.until_in_sync("t", 3).await;
        let partition = TopicPartition::new("t", 0);
        let below = BTreeMap::from([(partition.clone(), Offset(13))]);
        let answers = admin.delete_records(&below).await.expect("answered");
        assert_eq!(answers[&partition], Ok(Offset(13)));
        for broker in nodes.brokers.values() {
            let hosted = broker.partitions.table().partition("t", 0).cloned();
            let start = hosted.expect("hosted").view.reader().log_start_offset();
            assert_eq!(start, Offset(13), "on {}", broker.config.node_id);
        }
        nodes.stop(leader).await;
        let settings = [("group.id", "g"), ("auto.offset.reset", "earliest")];
        let mut consumer = Consumer::new(&env, nodes.client(&settings)).expect("settings");
        consumer.subscribe(&["t"]).expect("subscribed");
        read(&mut consumer, 13..20).await;
    });
}

/// The state of partition 0 of topic `t` at one node, once it is as wanted.
async fn until_state(
    nodes: &Nodes,
    at: BrokerId,
    is_wanted: impl Fn(&PartitionState) -> bool,
) -> PartitionState {
    loop {
        let image = nodes.brokers[&at].controller.image();
        if let Some(state) = image.partition("t", 0).filter(|state| is_wanted(state)) {
            return PartitionState::clone(state);
        }
        nodes.env.sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_leader_without_its_log_gives_way_when_an_eligible_replica_comes_back() {
    run_test(|env, dir| async move {
        let (one, two, three) = (BrokerId(1), BrokerId(2), BrokerId(3));
        let mut nodes = Nodes::start(&env, &dir).await;
        let admin = Admin::new(&env, nodes.client(&[])).expect("settings");
        let mut spec = TopicSpec::new("t");
        spec.assignments.insert(0, vec![one, two]);
        admin.create_topics(&[spec], false).await.expect("created");
        let producer = Producer::new(&env, nodes.client(&[("acks", "all")])).expect("settings");
        write(&producer, "t", 0..20).await;
        until_state(&nodes, three, |state| state.isr == [one, two]).await;
        nodes.stop(two).await;
        // One replica is fewer than `min.insync.replicas`: the other has all that was committed.
        until_state(&nodes, three, |state| {
            state.isr == [one] && state.elr.contains(&two)
        })
        .await;
        nodes.stop(one).await;
        std::fs::remove_dir_all(dir.join("node-1/t-0")).expect("its log was there");
        nodes.restart(one, &dir).await;
        until_state(&nodes, three, |state| state.leader == Some(one)).await;
        let table = nodes.brokers[&one].partitions.table();
        let missed = table.partition("t", 0).err();
        assert_eq!(missed, Some(ErrorCode::KafkaStorageError));
        nodes.restart(two, &dir).await;
        until_state(&nodes, three, |state| state.leader == Some(two)).await;
        let settings = [("group.id", "g")];
        let mut consumer = Consumer::new(&env, nodes.client(&settings)).expect("settings");
        let partition = TopicPartition::new("t", 0);
        consumer
            .assign(std::slice::from_ref(&partition))
            .expect("assigned");
        consumer
            .seek_to(&partition, OffsetSpec::Earliest)
            .expect("assigned");
        read(&mut consumer, 0..20).await;
    });
}

async fn read(consumer: &mut Consumer, values: std::ops::Range<u32>) {
    let mut read = Vec::new();
    while read.len() < values.len() {
        for record in consumer.poll(Duration::from_secs(1)).await.expect("read") {
            let value = record.value.expect("a value");
            read.push(std::str::from_utf8(&value).expect("text").to_owned());
        }
    }
    let expected: Vec<String> = values.map(|value| value.to_string()).collect();
    assert_eq!(read, expected);
    consumer.commit().await.expect("committed");
}

async fn run(env: Env, dir: &Path) {
    let mut nodes = Nodes::start(&env, dir).await;
    let admin = Admin::new(&env, nodes.client(&[])).expect("settings");
    let mut spec = TopicSpec::new("t");
    spec.partitions = Some(1);
    admin.create_topics(&[spec], false).await.expect("created");
    let producer = Producer::new(&env, nodes.client(&[("acks", "all")])).expect("settings");
    let settings = [("group.id", "g"), ("auto.offset.reset", "earliest")];
    let mut consumer = Consumer::new(&env, nodes.client(&settings)).expect("settings");
    consumer.subscribe(&["t"]).expect("subscribed");
    write(&producer, "t", 0..20).await;
    read(&mut consumer, 0..20).await;
    let leader = nodes.until_in_sync("t", 3).await;
    nodes.stop(leader).await;
    write(&producer, "t", 20..40).await;
    read(&mut consumer, 20..40).await;
    nodes.restart(leader, dir).await;
    nodes.until_in_sync("t", 3).await;
    let coordinator = nodes.until_in_sync(crate::group::TOPIC, 3).await;
    nodes.stop(coordinator).await;
    let partition = TopicPartition::new("t", 0);
    let committed = consumer.committed(std::slice::from_ref(&partition)).await;
    assert_eq!(committed.expect("found")[&partition].offset.0, 40);
}
