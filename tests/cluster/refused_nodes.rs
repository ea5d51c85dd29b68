//! Nodes that must not be part of a cluster, or not like this: each says why and what to do, ends
//! with 1, and leaves all directories as they are. And clusters that cannot serve, which say so to
//! their clients in time, and serve again once they can.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use klamm::client::admin::TopicSpec;
use klamm::client::{Admin, ClientConfig, Producer, ProducerRecord};
use klamm::env::Env;

use super::super::broker_process::{BrokerProcess, free_port};
use super::eyes::wait;
use super::process::{ClusterProcess, READY_LIMIT};
use super::turn;

/// How long a node may take to refuse.
const REFUSAL_LIMIT: Duration = Duration::from_secs(40);

/// That a node ends with 1 before it serves, and names all of these.
#[track_caller]
fn refuses(node: &mut BrokerProcess, parts: &[&str]) {
    ends_with(node, 1, parts);
}

#[track_caller]
fn ends_with(node: &mut BrokerProcess, code: u8, parts: &[&str]) {
    node.spawn().expect("the binary runs");
    let text = match node.await_ready(REFUSAL_LIMIT) {
        Ok(()) => panic!("it serves:\n{}", node.output()),
        Err(text) => text,
    };
    let status = format!("exit status: {code}");
    for part in [status.as_str()].iter().chain(parts) {
        assert!(text.contains(part), "nothing says {part:?} in:\n{text}");
    }
}

/// That a line of what a node writes names all of these, now or soon.
#[track_caller]
fn tells(node: &BrokerProcess, parts: &[&str]) {
    wait(
        &format!("a line that says {parts:?}"),
        Duration::from_secs(30),
        || {
            let output = node.output();
            let names_all = |line: &str| parts.iter().all(|part| line.contains(part));
            match output.lines().any(names_all) {
                true => Ok(()),
                false => Err(format!("it says:\n{output}")),
            }
        },
    );
}

/// Every file below a directory with what it holds, so that changes show.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("it can be read") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let content = fs::read(&path).expect("a file can be read");
                all.insert(path.display().to_string(), content);
            }
        }
    }
    all
}

fn with_client<T, F: Future<Output = T>>(body: impl FnOnce(Env) -> F) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let env = klamm::env::tokio::env(Default::default()).expect("an env");
        body(env).await
    })
}

/// Settings of a client that gives up after five seconds.
fn impatient(servers: &str) -> ClientConfig {
    let pairs = [
        ("bootstrap.servers", servers),
        ("request.timeout.ms", "2000"),
        ("default.api.timeout.ms", "5000"),
        ("delivery.timeout.ms", "5000"),
        ("max.block.ms", "5000"),
    ];
    ClientConfig::from_pairs(pairs).expect("settings")
}

/// Makes a topic with a replica on every node; the error in words.
fn create_topic(servers: &str, name: &str, replicas: i16) -> Result<(), String> {
    with_client(|env| async move {
        let admin = Admin::new(&env, impatient(servers)).expect("settings");
        let mut topic = TopicSpec::new(name);
        topic.partitions = Some(3);
        topic.replication_factor = Some(replicas);
        let created = admin.create_topics(&[topic], false).await;
        let mut created = created.map_err(|error| error.to_string())?;
        let created = created.remove(name).expect("an answer for it");
        created.map(drop).map_err(|error| error.to_string())
    })
}

/// Writes a record with acks=all; the error in words.
fn write(servers: &str, topic: &str, partition: i32) -> Result<(), String> {
    with_client(|env| async move {
        let producer = Producer::new(&env, impatient(servers)).expect("settings");
        let record = ProducerRecord::new(topic, "a record").with_partition(partition);
        let taken = producer.send(record).await;
        let delivery = taken.map_err(|error| error.to_string())?;
        delivery.await.map(drop).map_err(|error| error.to_string())
    })
}

#[track_caller]
fn serves(cluster: &ClusterProcess, topic: &str) {
    let servers = cluster.bootstrap();
    wait("a topic", READY_LIMIT, || create_topic(&servers, topic, 3));
    for partition in 0..3 {
        wait("a write", READY_LIMIT, || write(&servers, topic, partition));
    }
}

#[test]
fn a_second_node_of_an_id_is_refused_and_the_first_goes_on() {
    let _turn = turn();
    let cluster = ClusterProcess::start(3, &[]);
    let mut voter = node_elsewhere(&cluster, 2, "voter");
    ends_with(&mut voter, 2, &["controller.quorum.voters"]);

    let mut broker = broker_alone(&cluster, 2, "broker");
    refuses(
        &mut broker,
        &["still runs at", "give this node an id of its own"],
    );

    let mut first = broker_alone(&cluster, 4, "first");
    first.spawn().expect("the binary runs");
    first
        .await_ready(READY_LIMIT)
        .unwrap_or_else(|why| panic!("{why}"));
    let mut second = broker_alone(&cluster, 4, "second");
    second.set("initial.broker.registration.timeout.ms", "8000");
    refuses(&mut second, &["node.id", "4"]);
    assert!(first.is_running(), "the first was pushed out");
    serves(&cluster, "after");
}

/// A node as the cluster's own but with a directory and ports of its own.
fn node_elsewhere(cluster: &ClusterProcess, id: i32, directory: &str) -> BrokerProcess {
    let data = cluster.directory().join(directory);
    let mut node = cluster.prepare(id, &data, &[]);
    let (client, controller) = (node.port(), free_port());
    let listeners = format!("PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}");
    node.set("listeners", &listeners);
    node
}

/// A node that is no controller and finds the controllers by their addresses.
fn broker_alone(cluster: &ClusterProcess, id: i32, directory: &str) -> BrokerProcess {
    let mut node = node_elsewhere(cluster, id, directory);
    let servers: Vec<String> = cluster
        .voters()
        .split(',')
        .filter_map(|voter| Some(voter.split_once('@')?.1.to_owned()))
        .collect();
    node.set("process.roles", "broker");
    node.set("controller.quorum.voters", "");
    node.set("controller.quorum.bootstrap.servers", &servers.join(","));
    node
}

#[test]
fn a_node_of_another_cluster_is_refused_and_its_directory_left_as_it_is() {
    let _turn = turn();
    let mut other = ClusterProcess::start(3, &[]);
    serves(&other, "others");
    other.stop_all();
    let mut cluster = ClusterProcess::start(3, &[]);
    assert!(cluster.node_mut(3).sigterm().success());
    let data = other.node(3).data_directory().to_path_buf();
    let before = contents(&data);
    let mut stranger = cluster.prepare(3, &data, &[]);
    refuses(&mut stranger, &["cluster", &data.display().to_string()]);
    let after = contents(&data);
    for (path, content) in before {
        let same = after.get(&path) == Some(&content);
        assert!(same, "{path} was changed");
    }
    cluster.start_all();
    serves(&cluster, "after");
}

#[test]
fn nodes_that_do_not_agree_on_the_voters_found_no_cluster_and_say_so() {
    let _turn = turn();
    let mut cluster = ClusterProcess::new(3, &[]);
    let data = cluster.directory().join("node-3");
    let voters = format!("{},4@127.0.0.1:{}", cluster.voters(), free_port());
    let mut odd = cluster.prepare(3, &data, &[("controller.quorum.voters", &voters)]);
    cluster.node_mut(1).spawn().expect("the binary runs");
    cluster.node_mut(2).spawn().expect("the binary runs");
    refuses(&mut odd, &["controller.quorum.voters"]);
    for id in [1, 2] {
        let founded = cluster.node(id).data_directory().join("meta.properties");
        assert!(
            !founded.exists(),
            "node {id} has founded a cluster without node 3"
        );
    }
    // Whoever heard of node 3's voters before it ended has refused too.
    cluster.kill9_all();
    cluster.start_all();
    serves(&cluster, "after");
}

#[test]
fn a_cluster_without_a_majority_tells_its_clients_in_time_and_serves_again() {
    let _turn = turn();
    let mut cluster = ClusterProcess::start(3, &[]);
    serves(&cluster, "before");
    cluster.node_mut(1).kill9();
    cluster.node_mut(2).kill9();
    let servers = cluster.node(3).bootstrap();
    let asked = Instant::now();
    let refused = create_topic(&servers, "without", 1).expect_err("there is no majority");
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "it took {:?}",
        asked.elapsed()
    );
    eprintln!("creating a topic without a majority: {refused}");
    let asked = Instant::now();
    let refused = write(&servers, "before", 0).expect_err("no majority of the replicas runs");
    assert!(
        asked.elapsed() < Duration::from_secs(12),
        "it took {:?}",
        asked.elapsed()
    );
    eprintln!("writing without a majority: {refused}");
    tells(cluster.node(3), &["controller", "majority"]);
    cluster.start_all();
    serves(&cluster, "after");
    let eyes = cluster.eyes();
    eyes.wait_until_whole(cluster.ids(), READY_LIMIT);
}

#[test]
fn an_advertised_address_that_nobody_can_reach_is_named_by_those_who_try() {
    let _turn = turn();
    let mut cluster = ClusterProcess::new(3, &[]);
    let nowhere = format!("127.0.0.1:{}", free_port());
    let advertised = format!("PLAINTEXT://{nowhere}");
    cluster.node_mut(3).set("advertised.listeners", &advertised);
    cluster.start_all();
    tells(cluster.node(3), &["advertised.listeners", &nowhere]);
    let servers = cluster.bootstrap();
    wait("a topic", READY_LIMIT, || {
        create_topic(&servers, "orders", 3)
    });
    tells(cluster.node(1), &["advertised.listeners", &nowhere, "3"]);
}

#[test]
fn a_voter_whose_directory_was_wiped_does_not_start_as_if_it_were_new() {
    let _turn = turn();
    let mut cluster = ClusterProcess::start(3, &[]);
    serves(&cluster, "before");
    cluster.node_mut(2).kill9();
    let data = cluster.node(2).data_directory().to_path_buf();
    let aside = data.with_file_name("aside");
    fs::rename(&data, &aside).expect("it can be moved");
    let parts = [
        "directory",
        "voter 2 is gone",
        "Restore it",
        "remove the voter",
    ];
    refuses(cluster.node_mut(2), &parts);
    let made = data.join("meta.properties");
    assert!(!made.exists(), "the directory was made anew");
    serves(&cluster, "meanwhile");
    let _ = fs::remove_dir_all(&data);
    fs::rename(&aside, &data).expect("it can be moved");
    cluster.start_all();
    let eyes = cluster.eyes();
    eyes.wait_until_whole(cluster.ids(), READY_LIMIT);
}

#[test]
fn two_nodes_on_one_directory_are_told_apart() {
    let _turn = turn();
    let mut cluster = ClusterProcess::start(3, &[]);
    let data = cluster.node(1).data_directory().to_path_buf();
    let directory = data.display().to_string();
    assert!(cluster.node_mut(2).sigterm().success());
    let mut second = cluster.prepare(2, &data, &[]);
    refuses(&mut second, &["in use by another broker", &directory]);
    assert!(cluster.node_mut(1).sigterm().success());
    refuses(&mut second, &["belongs to node 1", &directory, "node.id"]);
    cluster.start_all();
    serves(&cluster, "after");
}
