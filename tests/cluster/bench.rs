//! Figures of a cluster with many partitions: `tests/bench/cluster.sh` runs this and tells what it
//! means. Without `KLAMM_CLUSTER_BENCH=1` it says so and passes.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use klamm::types::ErrorCode;
use klamm::wire::Str;
use klamm::wire::message::create_topics::{CreatableTopic, CreateTopicsRequest};
use klamm::wire::message::metadata::MetadataRequest;

use super::super::wire_client::{WireClient, code};
use super::eyes::wait;
use super::process::ClusterProcess;
use super::pulse::Distribution;
use super::{environment, turn};

const NODES: usize = 3;
const PARTITIONS: i32 = 10;
/// Topics of one request.
const TOGETHER: usize = 20;
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn many_partitions_in_figures() {
    if environment::<u8>("KLAMM_CLUSTER_BENCH") != Some(1) {
        eprintln!("skipped: KLAMM_CLUSTER_BENCH=1 runs it");
        return;
    }
    let _turn = turn();
    let topics: usize = environment("KLAMM_CLUSTER_TOPICS").unwrap_or(1_000);
    let mut cluster = ClusterProcess::start(NODES, &[]);
    memory(&cluster, "empty");
    create(&cluster, topics);
    memory(&cluster, "with all topics");
    controlled_restart(&mut cluster, topics);
    kill(&mut cluster, topics);
    memory(&cluster, "after all");
    let stopping = Instant::now();
    cluster.stop_all();
    figure("all nodes stop", stopping.elapsed());
}

fn figure(what: &str, took: Duration) {
    eprintln!("{what:<58} {:>9.0} ms", took.as_secs_f64() * 1e3);
}

fn memory(cluster: &ClusterProcess, when: &str) {
    for id in cluster.ids() {
        let node = cluster.node(id);
        let cpu = node.cpu_time();
        thread::sleep(Duration::from_secs(1));
        let idle = node.cpu_time() - cpu;
        let mebibytes = node.resident_bytes() as f64 / f64::from(1 << 20);
        eprintln!("node {id}, {when}: {mebibytes:.1} MiB resident, {idle:?} of CPU a second");
    }
}

fn create(cluster: &ClusterProcess, topics: usize) {
    let port = cluster.node(1).port();
    let mut client = WireClient::connect(port).expect("a connection");
    let names: Vec<String> = (0..topics).map(|number| format!("many-{number}")).collect();
    let began = Instant::now();
    let mut spans = Vec::new();
    for names in names.chunks(TOGETHER) {
        let topics = names.iter().map(|name| CreatableTopic {
            name: Str::from(name.as_str()),
            num_partitions: PARTITIONS,
            replication_factor: 3,
            ..Default::default()
        });
        let request = CreateTopicsRequest {
            topics: topics.collect(),
            timeout_ms: 60_000,
            ..Default::default()
        };
        let asked = Instant::now();
        let answer = client.call(7, request).expect("an answer");
        spans.push(asked.elapsed());
        for topic in answer.topics {
            let text = topic.error_message;
            assert_eq!(code(topic.error_code), ErrorCode::None, "{text:?}");
        }
    }
    figure(
        &format!("{topics} topics of {PARTITIONS} partitions created"),
        began.elapsed(),
    );
    let requests = Distribution::new(spans);
    eprintln!("  each request for {TOGETHER} topics: {requests}");
    cluster.eyes().wait_until_whole(cluster.ids(), LIMIT);
    figure(
        "  until all replicas are in sync on every node",
        began.elapsed(),
    );
}

fn controlled_restart(cluster: &mut ClusterProcess, topics: usize) {
    let eyes = cluster.eyes();
    let began = Instant::now();
    let stopping = thread::scope(|scope| {
        let watch = scope.spawn(|| led_by_others(eyes.port(1), 3, topics, began));
        assert!(cluster.node_mut(3).sigterm().success());
        let stopped = began.elapsed();
        let moved = watch.join().expect("leaders are seen");
        figure(
            "controlled stop of a node: all partitions led by others",
            moved,
        );
        stopped
    });
    figure("controlled stop of a node: it has ended", stopping);
    cluster.node_mut(3).restart();
    figure("start of that node: ready", cluster.node(3).time_to_ready());
    eyes.wait_until_whole(cluster.ids(), LIMIT);
    figure(
        "controlled restart as a whole, all in sync again",
        began.elapsed(),
    );
}

fn kill(cluster: &mut ClusterProcess, topics: usize) {
    let eyes = cluster.eyes();
    let victim = busiest(cluster);
    let witness = if victim == 1 { 2 } else { 1 };
    let controls = eyes.active_controller() == victim;
    let began = Instant::now();
    cluster.node_mut(victim).kill9();
    let moved = led_by_others(eyes.port(witness), victim, topics, began);
    let what = if controls {
        ", the active controller"
    } else {
        ""
    };
    figure(
        &format!("kill -9 of node {victim}{what}: all partitions have leaders"),
        moved,
    );
    cluster.node_mut(victim).restart();
    let ready = cluster.node(victim).time_to_ready();
    figure("start of that node: ready", ready);
    let restarted = Instant::now();
    eyes.wait_until_whole(cluster.ids(), LIMIT);
    figure("from then until all in sync", restarted.elapsed());
}

/// The node that leads most partitions.
fn busiest(cluster: &ClusterProcess) -> i32 {
    let all = cluster.eyes().partitions_of(1).expect("an answer");
    let mut led: BTreeMap<i32, usize> = BTreeMap::new();
    for state in all.values() {
        *led.entry(state.leader).or_default() += 1;
    }
    eprintln!("partitions led: {led:?}");
    let busiest = led.iter().max_by_key(|(_, count)| **count);
    *busiest.expect("a leader").0
}

/// Waits until every partition has a leader that is not `gone`; says how long after `began`.
fn led_by_others(port: u16, gone: i32, topics: usize, began: Instant) -> Duration {
    let mut client = WireClient::connect(port).expect("a connection");
    wait("leaders", LIMIT, || {
        let request = MetadataRequest {
            topics: None,
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let asked = began.elapsed();
        let answer = client
            .call(12, request)
            .map_err(|error| error.to_string())?;
        let known = answer
            .topics
            .iter()
            .filter(|topic| !topic.is_internal)
            .count();
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let lost = partitions
            .filter(|it| it.leader_id == gone || it.leader_id < 0)
            .count();
        match (known == topics, lost) {
            (true, 0) => Ok(asked),
            _ => Err(format!(
                "{known} topics, {lost} partitions without a leader that lives"
            )),
        }
    })
}

/// What a load generator gets through: `KLOAD` is its binary, which takes kload's arguments.
#[test]
fn throughput_in_figures() {
    let Ok(generator) = std::env::var("KLOAD") else {
        eprintln!("skipped: KLOAD names no load generator");
        return;
    };
    let _turn = turn();
    let cluster = ClusterProcess::start(NODES, &[]);
    for (what, more) in [
        ("1 producer", &["--producers", "1"][..]),
        (
            "3 producers, idempotent",
            &["--producers", "3", "--idempotent"],
        ),
    ] {
        let mut command = Command::new(&generator);
        command.args(["produce", "--brokers", &cluster.bootstrap()]);
        command.args([
            "--acks",
            "all",
            "--replication-factor",
            "3",
            "--partitions",
            "6",
        ]);
        command.args(["--topic-config", "min.insync.replicas=2", "--size", "1024"]);
        command
            .args(["--duration", "10", "--warmup", "3", "--delete"])
            .args(more);
        let output = command.output().expect("the load generator runs");
        let (out, told) = (output.stdout, output.stderr);
        let (out, told) = (
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&told),
        );
        assert!(output.status.success(), "{}\n{told}", output.status);
        eprintln!("{what}: {}\n{}", told.trim(), out.trim());
    }
    memory(&cluster, "after the load");
}
