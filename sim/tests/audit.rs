//! The audit finds nothing wrong with what a broker leaves, and everything that was made wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use klamm::broker::Broker;
use klamm::client::admin::TopicSpec;
use klamm::client::{Admin, ClientConfig, Consumer, Producer, ProducerRecord};
use klamm::config::BrokerConfig;
use klamm::env::Env;
use klamm::types::{Offset, TopicPartition};
use klamm_jepsen::history::{Note, Partition, What};
use klamm_sim::audit::{Finding, Mode, audit, committed_offsets, log_contents};
use klamm_sim::record::Recorder;
use klamm_sim::{SimNode, SimWorld, Trace, probe, simulate};

const TOPIC: &str = "values";
const COMPACTED: &str = "latest";
const PAGE: usize = 4096;

type Files = Vec<(PathBuf, Bytes)>;

/// Values by partition and offset.
type Sent = BTreeMap<(i32, i64), String>;

/// The disk after a power loss, the disk after an orderly stop, and what was sent before.
type Disks = (Files, Files, Sent);

fn settings() -> BrokerConfig {
    let settings = [
        ("log.dirs", "/data"),
        ("klamm.admin.listener", ""),
        ("klamm.worker.threads", "2"),
        ("offsets.topic.num.partitions", "2"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("log.segment.bytes", "4096"),
        ("log.index.interval.bytes", "512"),
        ("log.cleaner.backoff.ms", "200"),
        ("log.cleaner.min.cleanable.ratio", "0.01"),
        ("log.retention.check.interval.ms", "1000"),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let loaded = BrokerConfig::load(None, [], settings).expect("the settings can be used");
    loaded.config
}

/// Starts a broker on the node's disk; it runs until it is stopped or the node ends.
async fn start(node: &SimNode) -> Arc<Broker> {
    let env = node.start();
    let (told, started) = tokio::sync::oneshot::channel();
    let inner = env.clone();
    env.spawn("broker", async move {
        let broker = Broker::start(inner, settings(), None).await;
        let _ = told.send(broker.expect("it starts"));
        std::future::pending::<()>().await;
    })
    .detach();
    started.await.expect("it starts")
}

fn client_config(extra: &[&str]) -> ClientConfig {
    let pairs = [
        "bootstrap.servers=server:9092",
        "linger.ms=2",
        "batch.size=600",
    ];
    let pairs = pairs.iter().chain(extra);
    let pairs = pairs.map(|pair| ClientConfig::split_pair(pair).expect("key=value"));
    ClientConfig::from_pairs(pairs).expect("known settings")
}

async fn create_topics(env: &Env) {
    let admin = Admin::new(env, client_config(&[])).expect("a client");
    let mut plain = TopicSpec::new(TOPIC);
    plain.partitions = Some(2);
    let mut compacted = TopicSpec::new(COMPACTED);
    compacted.partitions = Some(1);
    let policy = ("cleanup.policy".to_owned(), "compact".to_owned());
    compacted.configs.extend([policy]);
    let results = admin.create_topics(&[plain, compacted], false).await;
    let results = results.expect("the broker answers");
    assert!(results.values().all(Result::is_ok), "{results:?}");
}

/// Sends records to both topics; some values by partition and offset.
async fn produce(env: &Env, life: u32) -> Sent {
    let producer = Producer::new(env, client_config(&[])).expect("a client");
    let mut deliveries = Vec::new();
    for count in 0..120_u32 {
        let value = format!("{life}-{count}-{}", "x".repeat(60));
        let partition = i32::try_from(count % 2).expect("small");
        let record = ProducerRecord::new(TOPIC, value.clone()).with_partition(partition);
        deliveries.push((value.clone(), producer.send(record).await.expect("sent")));
        let record = ProducerRecord::new(COMPACTED, value).with_key(format!("key-{}", count % 7));
        producer
            .send(record)
            .await
            .expect("sent")
            .await
            .expect("acknowledged");
    }
    let mut sent = BTreeMap::new();
    for (value, delivery) in deliveries {
        let metadata = delivery.await.expect("acknowledged");
        let offset = metadata.offset.expect("it is told").0;
        sent.insert((metadata.partition.partition, offset), value);
    }
    producer.close(Duration::from_secs(5)).await;
    sent
}

async fn consume(env: &Env) {
    let config = client_config(&["group.id=readers", "auto.offset.reset=earliest"]);
    let mut consumer = Consumer::new(env, config).expect("a client");
    consumer.subscribe(&[TOPIC]).expect("subscribed");
    let mut seen = 0;
    while seen < 60 {
        seen += consumer
            .poll(Duration::from_millis(100))
            .await
            .expect("it reads")
            .len();
    }
    consumer.commit().await.expect("committed");
    drop(consumer.close().await);
}

/// Two lives under load, the first one ended by a power loss; the files after an orderly stop.
async fn scenario(world: SimWorld) -> Disks {
    let server = world.node("server");
    start(&server).await;
    let client = world.node("client").start();
    create_topics(&client).await;
    let mut sent = produce(&client, 0).await;
    consume(&client).await;
    client.sleep(Duration::from_millis(1500)).await;
    server.lose_power();
    let crashed = server.disk().files();
    let broker = start(&server).await;
    sent.extend(produce(&client, 1).await);
    client.sleep(Duration::from_millis(1500)).await;
    broker.stop().await;
    (crashed, server.disk().files(), sent)
}

/// The disk after the scenario, once for all tests.
fn disks() -> &'static Disks {
    static DISKS: std::sync::OnceLock<Disks> = std::sync::OnceLock::new();
    DISKS.get_or_init(|| simulate(11, scenario).value)
}

fn stopped() -> Files {
    disks().1.clone()
}

fn find(files: &Files, ending: &str) -> usize {
    let found = files
        .iter()
        .position(|(path, _)| path.ends_with(Path::new(ending)));
    found.unwrap_or_else(|| panic!("no {ending} among {:?}", names(files)))
}

fn names(files: &Files) -> Vec<String> {
    files
        .iter()
        .map(|(path, _)| path.display().to_string())
        .collect()
}

/// The files of a kind in a partition's directory.
fn of_kind(files: &Files, directory: &str, ending: &str) -> Vec<usize> {
    let is_one = |path: &Path| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        path.parent().is_some_and(|dir| dir.ends_with(directory)) && name.ends_with(ending)
    };
    (0..files.len())
        .filter(|at| is_one(&files[*at].0))
        .collect()
}

fn change(files: &mut Files, at: usize, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = files[at].1.to_vec();
    change(&mut content);
    files[at].1 = content.into();
}

/// Changes the body of a checkpoint and makes its checksum right again.
fn change_body(files: &mut Files, at: usize, change_it: impl FnOnce(&mut Vec<u8>)) {
    let path = files[at].0.clone();
    change(files, at, |content| {
        let mut body = content.split_off(16);
        change_it(&mut body);
        content[8..12].copy_from_slice(&u32::try_from(body.len()).expect("small").to_be_bytes());
        let name = |path: Option<&std::path::Path>| {
            let name = path.and_then(std::path::Path::file_name);
            name.unwrap_or_default().to_string_lossy().into_owned()
        };
        let place = format!("{}/{}", name(path.parent()), name(Some(&path)));
        let crc = crc32c::crc32c_append(crc32c::crc32c(&body), place.as_bytes());
        content[12..16].copy_from_slice(&crc.to_be_bytes());
        content.extend(body);
    });
}

fn properties(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|finding| finding.property).collect()
}

fn assert_found(files: &Files, property: &str) {
    let findings = audit(files, Mode::Stopped, &[]);
    assert!(
        properties(&findings).contains(property),
        "{property} is not among {findings:?}"
    );
}

fn shown(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|finding| format!("{finding}\n"))
        .collect()
}

#[test]
fn what_a_broker_leaves_after_an_orderly_stop_is_as_promised() {
    let files = stopped();
    let segments = of_kind(&files, "values-0", ".log").len();
    assert!(segments >= 3, "{:?}", names(&files));
    let findings = audit(&files, Mode::Stopped, &[]);
    assert!(findings.is_empty(), "{}", shown(&findings));
}

/// A few; `KLAMM_SIM_SEEDS=A..B` asks for others.
fn audit_seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("KLAMM_SIM_SEEDS").unwrap_or_default();
    let bounds = asked
        .split_once("..")
        .map(|(from, to)| (from.parse(), to.parse()));
    match bounds {
        Some((Ok(from), Ok(to))) => from..to,
        _ => 20..22,
    }
}

#[test]
fn what_a_broker_leaves_after_power_losses_is_as_promised() {
    for seed in audit_seeds() {
        let run = simulate(seed, |world| async move {
            let server = world.node("server");
            let mut broker = start(&server).await;
            let client = world.node("client").start();
            create_topics(&client).await;
            let mut left = Vec::new();
            for life in 0..3 {
                let loaded = client.clone();
                client
                    .spawn("load", async move { drop(produce(&loaded, life).await) })
                    .detach();
                client
                    .sleep(Duration::from_millis(300 + 211 * u64::from(life)))
                    .await;
                server.lose_power();
                left.push(server.disk().files());
                broker = start(&server).await;
            }
            broker.stop().await;
            (left, server.disk().files())
        });
        let (left, stopped) = run.value;
        let findings = audit(&stopped, Mode::Stopped, &[]);
        assert!(
            findings.is_empty(),
            "seed {seed}, stopped: {}",
            shown(&findings)
        );
        for files in left {
            let findings = audit(&files, Mode::Crashed, &[]);
            assert!(findings.is_empty(), "seed {seed}: {}", shown(&findings));
        }
    }
    let findings = audit(&disks().0, Mode::Crashed, &[]);
    assert!(findings.is_empty(), "{}", shown(&findings));
}

/// Sends to `topic` for as long as the task lives; what becomes of it does not matter.
async fn keep_sending(env: Env, topic: &'static str) {
    let producer = Producer::new(&env, client_config(&[])).expect("a client");
    for count in 0_u32.. {
        let value = format!("{count}-{}", "y".repeat(90));
        let record = ProducerRecord::new(topic, value).with_partition(0);
        if let Ok(delivery) = producer.send(record).await {
            env.spawn("delivery", async move { drop(delivery.await) })
                .detach();
        }
        env.sleep(Duration::from_millis(7)).await;
    }
}

/// Deletes records, and a topic that it makes again, for as long as the task lives.
async fn keep_deleting(env: Env) {
    let admin = Admin::new(&env, client_config(&[])).expect("a client");
    for round in 1_i64.. {
        let mut fleeting = TopicSpec::new("fleeting");
        fleeting.partitions = Some(1);
        let mut short = TopicSpec::new("short");
        short.partitions = Some(1);
        let limit = ("retention.bytes".to_owned(), "9000".to_owned());
        short.configs.extend([limit]);
        drop(admin.create_topics(&[fleeting, short], false).await);
        env.sleep(Duration::from_millis(170)).await;
        let below = BTreeMap::from([(TopicPartition::new(TOPIC, 0), Offset(round * 9))]);
        drop(admin.delete_records(&below).await);
        env.sleep(Duration::from_millis(90)).await;
        if round % 3 == 0 {
            drop(admin.delete_topics(&["fleeting".to_owned()]).await);
        }
    }
}

#[test]
fn what_is_left_while_records_segments_and_topics_are_deleted_is_as_promised() {
    let mut met: BTreeSet<String> = BTreeSet::new();
    for seed in audit_seeds() {
        let run = simulate(seed, |world| async move {
            let probes = probe::install(Recorder::default(), Trace::default());
            let server = world.node("server");
            let mut broker = start(&server).await;
            let client = world.node("client").start();
            create_topics(&client).await;
            for topic in [TOPIC, "short", "fleeting"] {
                let sending = keep_sending(client.clone(), topic);
                client.spawn("sender", sending).detach();
            }
            client
                .spawn("deleter", keep_deleting(client.clone()))
                .detach();
            let mut left = Vec::new();
            for life in 0..4_u64 {
                client.sleep(Duration::from_millis(1300 + 411 * life)).await;
                match life {
                    0 => broker.stop().await,
                    2 => server.kill(),
                    _ => server.lose_power(),
                }
                let mode = match life {
                    0 => Mode::Stopped,
                    _ => Mode::Crashed,
                };
                left.push((mode, server.disk().files()));
                broker = start(&server).await;
            }
            broker.stop().await;
            left.push((Mode::Stopped, server.disk().files()));
            (left, probes.counts())
        });
        let (left, counts) = run.value;
        met.extend(counts.into_keys());
        for (life, (mode, files)) in left.into_iter().enumerate() {
            let findings = audit(&files, mode, &[]);
            assert!(
                findings.is_empty(),
                "seed {seed}, life {life}: {}",
                shown(&findings)
            );
        }
    }
    for name in [
        "clean-start",
        "delete-records-moved-start",
        "retention-removed-segment",
    ] {
        assert!(met.contains(name), "{name} was not met: {met:?}");
    }
}

#[test]
fn the_contents_of_a_log_are_what_was_sent() {
    let (_, files, sent) = disks();
    for partition in 0..2 {
        let stored: BTreeMap<_, _> = log_contents(files, TOPIC, partition)
            .into_iter()
            .map(|record| ((partition, record.offset), record.value.expect("a value")))
            .collect();
        let expected = sent.iter().filter(|(place, _)| place.0 == partition);
        for (place, value) in expected {
            assert_eq!(
                stored.get(place).map(|value| &value[..]),
                Some(value.as_bytes())
            );
        }
    }
    let readers = committed_offsets(files);
    let total: i64 = readers.values().map(|committed| committed.offset).sum();
    assert!(total >= 60, "{readers:?}");
    assert!(
        readers
            .keys()
            .all(|(group, of)| group == "readers" && of.topic == TOPIC)
    );
}

#[test]
fn a_flipped_bit_in_any_batch_or_its_head_is_found() {
    let files = stopped();
    for at in of_kind(&files, "values-0", ".log") {
        let length = files[at].1.len();
        for byte in (PAGE..length)
            .step_by(211)
            .chain(PAGE..(PAGE + 61).min(length))
        {
            let mut files = files.clone();
            change(&mut files, at, |content| content[byte] ^= 4);
            let findings = audit(&files, Mode::Stopped, &[]);
            let found = properties(&findings);
            assert!(
                !found.is_disjoint(&["P15", "R12", "R8", "K9"].into()),
                "{findings:?}"
            );
            let excused = audit(&files, Mode::Stopped, &[files[at].0.clone()]);
            assert!(excused.is_empty(), "{}", shown(&excused));
            // What was durable must be whole after a crash too.
            assert!(!audit(&files, Mode::Crashed, &[]).is_empty());
        }
    }
}

#[test]
fn a_page_of_another_segment_is_found() {
    let mut files = stopped();
    let logs = of_kind(&files, "values-0", ".log");
    let page = files[logs[1]].1.slice(..PAGE);
    change(&mut files, logs[0], |content| {
        content[..PAGE].copy_from_slice(&page)
    });
    assert_found(&files, "R12");
}

/// Positions and lengths of a segment's batches.
fn batches(content: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut found) = (PAGE, Vec::new());
    while at < content.len() {
        let length = content[at + 8..at + 12].try_into().expect("four bytes");
        let length = usize::try_from(i32::from_be_bytes(length)).expect("a length") + 12;
        found.push((at, length));
        at += length;
    }
    found
}

/// Takes batches apart with `change`, puts them together, and makes the slots right.
fn rewrite(files: &mut Files, at: usize, change_it: impl FnOnce(&mut Vec<Vec<u8>>)) {
    change(files, at, |content| {
        let places = batches(content);
        let mut apart: Vec<Vec<u8>> = places
            .iter()
            .map(|(at, length)| content[*at..at + length].to_vec())
            .collect();
        change_it(&mut apart);
        content.truncate(PAGE);
        let mut chain = 0;
        for batch in &apart {
            chain = crc32c::crc32c_append(chain, &batch[..21]);
            content.extend(batch);
        }
        let length = content.len() as u64;
        let id = crc32c::crc32c(&content[..64]);
        for slot in [512, 1024] {
            content[slot + 8..slot + 16].copy_from_slice(&length.to_be_bytes());
            content[slot + 24..slot + 28].copy_from_slice(&chain.to_be_bytes());
            let crc = crc32c::crc32c_append(id, &content[slot..slot + 60]);
            content[slot + 60..slot + 64].copy_from_slice(&crc.to_be_bytes());
        }
    });
}

#[test]
fn batches_out_of_order_missing_or_repeated_are_found() {
    let files = stopped();
    let at = of_kind(&files, "values-0", ".log")[0];
    let mut same = files.clone();
    rewrite(&mut same, at, |_| {});
    let findings = audit(&same, Mode::Stopped, &[]);
    assert!(
        properties(&findings).is_disjoint(&["P15", "R16", "R11", "R8"].into()),
        "{findings:?}"
    );
    let mut swapped = files.clone();
    rewrite(&mut swapped, at, |batches| batches.swap(1, 2));
    assert_found(&swapped, "R12");
    let mut missing = files.clone();
    rewrite(&mut missing, at, |batches| drop(batches.remove(1)));
    assert_found(&missing, "R12");
    let mut repeated = files;
    rewrite(&mut repeated, at, |batches| {
        batches.insert(1, batches[1].clone())
    });
    assert_found(&repeated, "R12");
}

#[test]
fn a_batch_of_a_producer_that_is_there_twice_is_found() {
    let mut files = stopped();
    let logs = of_kind(&files, "values-0", ".log");
    let at = logs[0];
    rewrite(&mut files, at, |batches| {
        // The next batch is overwritten by a copy of the one before, at its place.
        let place = batches[2][..8].to_vec();
        batches[2] = batches[1].clone();
        batches[2][..8].copy_from_slice(&place);
    });
    let found = properties(&audit(&files, Mode::Stopped, &[]));
    assert!(found.contains("R16") || found.contains("R12"), "{found:?}");
    assert!(found.contains("R16"), "{found:?}");
}

#[test]
fn a_missing_or_overlapping_segment_is_found() {
    let files = stopped();
    let logs = of_kind(&files, "values-0", ".log");
    let mut missing = files.clone();
    missing.remove(logs[1]);
    assert_found(&missing, "R12");
    let mut overlapping = files.clone();
    let renamed = overlapping[logs[1]]
        .0
        .with_file_name(format!("{:020}.log", 1));
    let copy = overlapping[logs[1]].1.clone();
    overlapping.push((renamed, copy));
    assert_found(&overlapping, "R12");
    let mut none = files;
    none.retain(|(path, _)| {
        !(path.extension().is_some_and(|extension| extension == "log")
            && path.parent().is_some_and(|dir| dir.ends_with("values-0")))
    });
    assert_found(&none, "R12");
}

#[test]
fn a_wrong_index_is_found() {
    let files = stopped();
    let at = of_kind(&files, "values-0", ".index")[0];
    const HEAD: usize = 67;
    let entry = |body: &[u8]| {
        let count = body[HEAD - 8..HEAD - 4].try_into().expect("four bytes");
        usize::try_from(u32::from_be_bytes(count)).expect("small")
    };
    let mut swapped = files.clone();
    change_body(&mut swapped, at, |body| {
        assert!(entry(body) >= 2);
        let (first, second) = (
            body[HEAD..HEAD + 8].to_vec(),
            body[HEAD + 8..HEAD + 16].to_vec(),
        );
        body[HEAD..HEAD + 8].copy_from_slice(&second);
        body[HEAD + 8..HEAD + 16].copy_from_slice(&first);
    });
    assert_found(&swapped, "R12");
    let mut shifted = files.clone();
    change_body(&mut shifted, at, |body| body[HEAD + 8 + 7] ^= 1);
    assert_found(&shifted, "R12");
    let mut times = files.clone();
    change_body(&mut times, at, |body| {
        let times = HEAD + 8 * entry(body);
        body[times + 7] ^= 1;
    });
    assert_found(&times, "K10");
    let mut torn = files;
    change(&mut torn, at, |content| content[20] ^= 1);
    assert_found(&torn, "R12");
}

#[test]
fn a_wrong_producer_snapshot_is_found() {
    let files = stopped();
    for at in of_kind(&files, "values-0", ".snapshot") {
        // Version, offset, count; id, epoch, timestamp, transaction, count; a batch.
        const PRODUCER: usize = 14;
        const BATCH: usize = PRODUCER + 27;
        for byte in [
            PRODUCER + 7,
            PRODUCER + 9,
            PRODUCER + 17,
            BATCH + 3,
            BATCH + 15,
            9,
        ] {
            let mut wrong = files.clone();
            change_body(&mut wrong, at, |body| body[byte] ^= 1);
            assert_found(&wrong, "R11");
        }
        let mut empty = files.clone();
        change_body(&mut empty, at, |body| {
            body.truncate(PRODUCER);
            body[PRODUCER - 4..].fill(0);
        });
        assert_found(&empty, "R11");
    }
}

#[test]
fn a_wrong_epoch_checkpoint_is_found() {
    let files = stopped();
    let at = find(&files, "values-0/leader-epoch-checkpoint");
    for byte in [6 + 3, 6 + 11] {
        let mut wrong = files.clone();
        change_body(&mut wrong, at, |body| body[byte] += 1);
        assert_found(&wrong, "R8");
    }
    let mut none = files;
    none.remove(at);
    assert_found(&none, "R8");
}

#[test]
fn what_is_left_behind_is_found() {
    for name in [
        "00000000000000000000.index.cleaned",
        "00000000000000000000.log.swap",
        "00000000000000000000.index.tmp",
        "surprise",
    ] {
        let mut files = stopped();
        let path = files[find(&files, "values-0/partition.metadata")]
            .0
            .with_file_name(name);
        let content = files[of_kind(&files, "values-0", ".log")[0]].1.clone();
        files.push((path, content));
        assert_found(&files, "K8");
    }
}

#[test]
fn the_output_of_a_compaction_that_a_stop_cut_short_may_be_there() {
    let mut files = stopped();
    let path = files[find(&files, "values-0/partition.metadata")]
        .0
        .with_file_name("00000000000000000000.log.cleaned");
    files.push((path, Bytes::from_static(b"half")));
    let findings = audit(&files, Mode::Stopped, &[]);
    assert!(findings.is_empty(), "{}", shown(&findings));
}

#[test]
fn damage_of_the_metadata_and_of_the_marker_is_found() {
    let files = stopped();
    let at = of_kind(&files, "__cluster_metadata-0", ".records")[0];
    let mut damaged = files.clone();
    change(&mut damaged, at, |content| content[PAGE + 30] ^= 1);
    assert_found(&damaged, "M6");
    let marker = find(&files, ".klamm_cleanshutdown");
    let mut none = files.clone();
    none.remove(marker);
    assert_found(&none, "R15");
    let mut wrong = files.clone();
    change_body(&mut wrong, marker, |body| {
        let last = body.len() - 1;
        body[last] ^= 1;
    });
    assert_found(&wrong, "R15");
    let mut foreign = files;
    let identity = find(&foreign, "values-0/partition.metadata");
    let other = foreign[find(&foreign, "latest-0/partition.metadata")]
        .1
        .clone();
    foreign[identity].1 = other;
    assert_found(&foreign, "R12");
}

#[test]
fn a_compacted_log_that_is_not_clean_and_a_group_on_two_partitions_are_found() {
    let files = stopped();
    let clean = find(&files, "latest-0/cleaner-offset-checkpoint");
    let mut dirty = files.clone();
    change_body(&mut dirty, clean, |body| {
        body[2..10].copy_from_slice(&i64::MAX.to_be_bytes())
    });
    assert_found(&dirty, "K1");
    let mut compacted = files.clone();
    compacted.retain(|(path, _)| {
        !path.ends_with(Path::new("latest-0/00000000000000000000.log"))
            && path.parent().is_some_and(|dir| !dir.ends_with("values-0"))
    });
    assert_found(&compacted, "R10");
    let mut two_homes = files;
    let homes: Vec<usize> = (0..2)
        .map(|at| of_kind(&two_homes, &format!("__consumer_offsets-{at}"), ".log")[0])
        .collect();
    let longer = homes
        .iter()
        .max_by_key(|at| two_homes[**at].1.len())
        .copied()
        .expect("two");
    for at in homes {
        two_homes[at].1 = two_homes[longer].1.clone();
    }
    assert_found(&two_homes, "CG7");
}

#[test]
fn log_states_and_probes_of_a_run_are_noted_and_keep_their_bounds() {
    let run = simulate(12, |world| async move {
        let recorder = Recorder::new(Trace::default());
        let probes = probe::install(recorder.clone(), Trace::default());
        scenario(world).await;
        (probes.counts(), recorder.events())
    });
    let (counts, events) = run.value;
    for name in [
        "segment-rolled",
        "compaction-swapped",
        "log-scanned-at-start",
    ] {
        assert!(counts.contains_key(name), "{name}: {counts:?}");
    }
    assert!(
        counts
            .keys()
            .all(|name| probe::NAMES.contains(&name.as_str())),
        "{counts:?}"
    );
    let mut highest: BTreeMap<Partition, i64> = BTreeMap::new();
    for event in events {
        assert_eq!(event.process, "server");
        let What::Note {
            note: Note::Log { of, state },
        } = event.what
        else {
            panic!("{event:?}");
        };
        assert!(state.start <= state.high_watermark, "{state:?}");
        assert!(state.high_watermark <= state.end, "{state:?}");
        assert!(state.recovery_point <= state.end, "{state:?}");
        let before = highest.insert(of, state.high_watermark);
        assert!(before.is_none_or(|before| before <= state.high_watermark));
    }
    assert!(highest.len() >= 3, "{highest:?}");
}
