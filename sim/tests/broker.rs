//! The broker itself on the simulated environment: what it acknowledged survives that the power
//! goes, again and again, in the middle of the load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use klamm::broker::Broker;
use klamm::client::admin::{OffsetSpec, TopicSpec};
use klamm::client::{Admin, ClientConfig, Consumer, Producer, ProducerRecord};
use klamm::config::BrokerConfig;
use klamm::env::Env;
use klamm::types::{Offset, TopicPartition};
use klamm_sim::{SimNode, SimWorld, simulate};

const TOPIC: &str = "values";
const PARTITIONS: i32 = 3;
const LIVES: u32 = 4;

/// Acknowledged values, by partition and offset.
type Acknowledged = Arc<Mutex<BTreeMap<(i32, Offset), String>>>;

/// Starts a broker on the node's disk. It runs until the node ends.
fn start_broker(node: &SimNode) {
    let env = node.start();
    let settings = [
        ("log.dirs", "/data"),
        ("klamm.admin.listener", ""),
        ("klamm.worker.threads", "2"),
        ("offsets.topic.num.partitions", "2"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("log.segment.bytes", "8192"),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let loaded = BrokerConfig::load(None, [], settings).expect("the settings can be used");
    let inner = env.clone();
    let serving = env.spawn("broker", async move {
        let broker = Broker::start(inner, loaded.config, None).await;
        let _broker = broker.expect("it starts on what the power loss left");
        std::future::pending::<()>().await;
    });
    serving.detach();
}

fn client_config() -> ClientConfig {
    let pairs = [
        "bootstrap.servers=server:9092",
        "linger.ms=2",
        "batch.size=600",
    ];
    let pairs = pairs.map(|pair| ClientConfig::split_pair(pair).expect("key=value"));
    ClientConfig::from_pairs(pairs).expect("known settings")
}

async fn create_topic(env: &Env) {
    let admin = Admin::new(env, client_config()).expect("a client");
    let mut topic = TopicSpec::new(TOPIC);
    topic.partitions = Some(PARTITIONS);
    for _ in 0..100 {
        if let Ok(results) = admin
            .create_topics(std::slice::from_ref(&topic), false)
            .await
            && results.values().all(Result::is_ok)
        {
            return;
        }
        env.sleep(Duration::from_millis(100)).await;
    }
    panic!("the topic could not be made");
}

/// Sends values until the task ends; notes those that were acknowledged.
async fn produce(env: Env, life: u32, acknowledged: Acknowledged) {
    let producer = Producer::new(&env, client_config()).expect("a client");
    for count in 0_u32.. {
        let value = format!("{life}-{count}");
        let partition = i32::try_from(count % 3).expect("small");
        let record = ProducerRecord::new(TOPIC, value.clone()).with_partition(partition);
        let Ok(delivery) = producer.send(record).await else {
            return;
        };
        let notes = acknowledged.clone();
        let noting = async move {
            if let Ok(metadata) = delivery.await
                && let Some(offset) = metadata.offset
            {
                let place = (metadata.partition.partition, offset);
                let before = notes.lock().expect("no panic").insert(place, value);
                assert_eq!(before, None, "two values were acknowledged at {place:?}");
            }
        };
        env.spawn("acknowledgement", noting).detach();
        env.sleep(Duration::from_millis(3)).await;
    }
}

/// Everything in the topic, by partition and offset.
async fn read_all(env: &Env, until: &BTreeMap<i32, Offset>) -> BTreeMap<(i32, Offset), String> {
    let mut consumer = Consumer::new(env, client_config()).expect("a client");
    let partitions: Vec<TopicPartition> = (0..PARTITIONS)
        .map(|partition| TopicPartition::new(TOPIC, partition))
        .collect();
    consumer.assign(&partitions).expect("assigned");
    for partition in &partitions {
        consumer
            .seek_to(partition, OffsetSpec::Earliest)
            .expect("assigned");
    }
    let mut found = BTreeMap::new();
    for _ in 0..400 {
        for record in consumer
            .poll(Duration::from_millis(100))
            .await
            .expect("it can be read")
        {
            let value = record.value.expect("every record has a value");
            let value = String::from_utf8(value.to_vec()).expect("as it was sent");
            let place = (record.partition.partition, record.offset);
            assert_eq!(found.insert(place, value), None, "{place:?} came twice");
        }
        let done = until
            .iter()
            .all(|(partition, last)| found.contains_key(&(*partition, *last)));
        if done {
            break;
        }
    }
    found
}

/// With `KLAMM_SIM_LOG` set, shows what the nodes log.
fn show_logs() {
    if std::env::var_os("KLAMM_SIM_LOG").is_some() {
        let lines = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(false);
        let _ = lines.with_target(false).try_init();
    }
}

async fn scenario(world: SimWorld) -> usize {
    let server = world.node("server");
    let acknowledged = Acknowledged::default();
    start_broker(&server);
    let near = world.node("admin");
    create_topic(&near.start()).await;
    for life in 0..LIVES {
        let client = world.node(&format!("client-{life}"));
        let env = client.start();
        let sending = env.clone();
        env.spawn("producer", produce(sending, life, acknowledged.clone()))
            .detach();
        let clock = near.start();
        clock.sleep(Duration::from_millis(900)).await;
        server.lose_power();
        client.kill();
        start_broker(&server);
    }
    let expected = acknowledged.lock().expect("no panic").clone();
    let mut last = BTreeMap::new();
    for (partition, offset) in expected.keys() {
        last.insert(*partition, *offset);
    }
    let found = read_all(&near.start(), &last).await;
    for (place, value) in &expected {
        assert_eq!(found.get(place), Some(value), "acknowledged at {place:?}");
    }
    let values: BTreeSet<&String> = found.values().collect();
    assert_eq!(values.len(), found.len(), "a value is stored twice");
    expected.len()
}

/// With `KLAMM_MUTANT`, and the feature `mutants`, the broker has that bug.
fn plant_mutant() {
    if let Ok(name) = std::env::var("KLAMM_MUTANT") {
        klamm::mutant::choose(&name).expect("a mutant of this build");
    }
}

/// The seeds of this scenario that once found a fault.
fn kept_seeds() -> impl Iterator<Item = u64> {
    let kept = include_str!("../../corpus/seeds.txt").lines();
    kept.filter_map(|line| {
        let seed = line
            .strip_prefix("test:broker-power-loss ")?
            .split(' ')
            .next()?;
        Some(
            seed.parse()
                .expect("a line is: scenario, seed, hash, what it found"),
        )
    })
}

/// The seeds of `corpus/seeds.txt` and a few more; `KLAMM_SIM_SEEDS=A..B` asks for others.
fn seeds() -> Vec<u64> {
    let asked = std::env::var("KLAMM_SIM_SEEDS").unwrap_or_default();
    let bounds = asked
        .split_once("..")
        .map(|(from, to)| (from.parse(), to.parse()));
    match bounds {
        Some((Ok(from), Ok(to))) => (from..to).collect(),
        _ => kept_seeds().chain(100..105).collect(),
    }
}

#[test]
fn what_was_acknowledged_survives_power_losses_under_load() {
    show_logs();
    plant_mutant();
    for seed in seeds() {
        let run = simulate(seed, scenario);
        assert!(
            run.value > 100,
            "seed {seed}: only {} values acknowledged",
            run.value
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let first = simulate(77, scenario);
    let second = simulate(77, scenario);
    assert_eq!(first.trace.len(), second.trace.len());
    assert_eq!(first.fingerprint(), second.fingerprint());
}
