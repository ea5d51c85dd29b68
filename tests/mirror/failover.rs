//! Two clusters of three nodes each, the second a mirror of the first, while nodes of both are
//! killed and frozen under load. Then the first is lost: the second's mirrors are promoted, and
//! the members of a group go on where they were. At last the first comes back: what only it has is
//! told, and it becomes a mirror of the second.
//!
//! `KLAMM_MIRROR_ROUNDS=20` troubles them for longer than the 3 rounds by default.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use klamm::client::admin::OffsetSpec;
use klamm::client::{Consumer, Producer, ProducerRecord};
use klamm::types::TopicPartition;
use rustix::process::Signal;
use tokio::runtime::Runtime;

use super::side::{LIMIT, Side, compare as compare_sides, partitions};
use super::{klamm, klamm_at_last};
use crate::cluster::{ClusterProcess, environment, turn};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 6;
const GROUP: &str = "billing";
/// How long a node is frozen: shorter and longer than its session with the controller.
const FREEZES: [Duration; 2] = [Duration::from_millis(700), Duration::from_secs(5)];

/// What was acknowledged, and what members of the group were given.
#[derive(Default)]
struct Seen {
    acknowledged: BTreeMap<(i32, i64), Bytes>,
    consumed: BTreeMap<(i32, i64), Bytes>,
}

struct Load {
    source: Side,
    seen: Mutex<Seen>,
    ending: AtomicBool,
    /// Members of the group end, after they have committed what they were given.
    leaving: AtomicBool,
}

#[test]
fn a_group_goes_on_at_the_mirror_when_its_cluster_is_lost() {
    let _turn = turn();
    let rounds = environment("KLAMM_MIRROR_ROUNDS").unwrap_or(3);
    let mut first = ClusterProcess::start(3, &[]);
    let mut second = ClusterProcess::start(3, &[]);
    let runtime = Runtime::new().expect("a runtime");
    let env = runtime.block_on(async { klamm::env::tokio::env(Default::default()) });
    let env = env.expect("an env");
    let source = Side::new(&env, &first.bootstrap());
    let mirror = Side::new(&env, &second.bootstrap());
    let create = source.create(TOPIC, PARTITIONS, 3, &[("min.insync.replicas", "2")]);
    runtime.block_on(create);
    let load = Arc::new(Load {
        source: source.clone(),
        seen: Mutex::default(),
        ending: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
    });
    let from = source.servers.clone();
    let create = ["link", "create", "east", "--from", &from];
    let what = ["--topics", "orders*", "--groups", "*"];
    klamm(&mirror.servers, &[&create[..], &what[..]].concat());
    let writers: Vec<_> = (0..PARTITIONS)
        .map(|at| runtime.spawn(Arc::clone(&load).write(at)))
        .collect();
    let member = runtime.spawn(Arc::clone(&load).consume());
    for round in 0..rounds {
        trouble(&mut first, &mut second, round);
        assert!(!writers.iter().any(|it| it.is_finished()), "writers go on");
    }
    // The group's last commits are let through, writers go on until all nodes are gone.
    load.leaving.store(true, Ordering::Release);
    runtime.block_on(member).expect("the member leaves");
    let committed = runtime.block_on(source.committed(GROUP));
    let committed = committed.expect("committed offsets");
    assert!(!committed.is_empty(), "the group committed nothing");
    runtime.block_on(mirror.has_committed(GROUP, &committed));
    // What the first takes from here on is not copied any more: it is what a loss costs.
    klamm(&mirror.servers, &["link", "pause", "east"]);
    thread::sleep(Duration::from_millis(500));
    let lost = Instant::now();
    first.kill9_all();
    load.ending.store(true, Ordering::Release);
    for writer in writers {
        writer.abort();
        let _ = runtime.block_on(writer);
    }
    let seen = std::mem::take(&mut *load.lock());
    let ends = promote(&runtime, &mirror, lost);
    judge(&runtime, &mirror, &seen, &committed, &ends);
    fail_back(&runtime, (&source, &mirror), &mut first, &ends);
    first.stop_all();
    second.stop_all();
}

/// The cluster that was lost comes back and becomes a mirror of the other.
fn fail_back(
    runtime: &Runtime,
    (old, new): (&Side, &Side),
    first: &mut ClusterProcess,
    ends: &[i64],
) {
    first.start_all();
    first.eyes().wait_until_whole(first.ids(), LIMIT);
    klamm(&new.servers, &["link", "delete", "east"]);
    let create = ["link", "create", "back", "--from", &new.servers];
    klamm_at_last(
        &old.servers,
        &[&create[..], &["--topics", "orders*"]].concat(),
    );
    let compare = ["link", "compare", "back", "--format", "json", "--show", "2"];
    let told = klamm_at_last(&old.servers, &compare);
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let told = told["partitions"].as_array().expect("a list");
    assert_eq!(told.len(), ends.len());
    for (one, end) in told.iter().zip(ends) {
        // The new cluster has a record more; the old one may have some that were not copied.
        assert_eq!(one["same_to"], *end, "{one}");
        assert_eq!(one["only_there"], 1, "{one}");
        let lost = one["here_end"].as_i64().expect("a number") - end;
        assert_eq!(one["only_here"], lost, "{one}");
        let shown = one["records_only_here"].as_array().map(Vec::len);
        assert_eq!(shown, usize::try_from(lost.min(2)).ok(), "{one}");
    }
    klamm(&old.servers, &["topic", "delete", TOPIC]);
    let all = partitions(TOPIC, PARTITIONS);
    let wanted: Vec<i64> = ends.iter().map(|end| end + 1).collect();
    let began = Instant::now();
    runtime.block_on(old.reaches(&all, &wanted));
    let within = ["link", "wait", "back", "--within", "60"];
    eprint!("{}", klamm(&old.servers, &within));
    for (of, end) in all.iter().zip(&wanted) {
        runtime.block_on(compare_sides(new, old, of, *end));
    }
    eprintln!(
        "the first cluster is a mirror of the second after {:.1?}",
        began.elapsed()
    );
}

/// Kills or freezes a node of each cluster, and lets it come back.
fn trouble(first: &mut ClusterProcess, second: &mut ClusterProcess, round: u32) {
    let one = i32::try_from(round % 3).expect("few") + 1;
    let other = i32::try_from((round + round / 3) % 3).expect("few") + 1;
    first.node_mut(one).kill9();
    second.node_mut(other).kill9();
    thread::sleep(Duration::from_millis(1500));
    first.node_mut(one).restart();
    second.node_mut(other).restart();
    thread::sleep(Duration::from_secs(1));
    // Nothing of the source comes through for a while.
    let freeze = FREEZES[usize::try_from(round).expect("few") % FREEZES.len()];
    first
        .ids()
        .for_each(|id| first.node(id).signal(Signal::STOP));
    thread::sleep(freeze);
    first
        .ids()
        .for_each(|id| first.node(id).signal(Signal::CONT));
    thread::sleep(Duration::from_secs(1));
}

/// Makes the mirrors writable and writes to them; where each ended when it was promoted.
fn promote(runtime: &Runtime, mirror: &Side, lost: Instant) -> Vec<i64> {
    let all = partitions(TOPIC, PARTITIONS);
    let dry = ["link", "promote", "--all", "--dry-run"];
    eprintln!("{}", klamm_at_last(&mirror.servers, &dry));
    let read_only = runtime.block_on(write_one(mirror, 0));
    let refused = read_only.expect_err("a mirror takes no writes before");
    assert!(refused.contains("POLICY_VIOLATION"), "{refused}");
    let promote = ["link", "promote", "--all"];
    eprintln!("{}", klamm_at_last(&mirror.servers, &promote));
    let ends = runtime.block_on(mirror.offsets(&all, OffsetSpec::Latest));
    let ends = ends.expect("the mirrors' ends");
    for at in 0..PARTITIONS {
        let began = Instant::now();
        while let Err(why) = runtime.block_on(write_one(mirror, at)) {
            assert!(began.elapsed() < LIMIT, "a promoted mirror: {why}");
        }
    }
    eprintln!(
        "the first cluster was lost; after {:.1?} every partition of the second took writes",
        lost.elapsed()
    );
    ends
}

async fn write_one(side: &Side, at: i32) -> Result<(), String> {
    let config = side.config(&[
        ("delivery.timeout.ms", "5000"),
        ("request.timeout.ms", "2000"),
    ]);
    let producer = Producer::new(&side.env, config).expect("settings");
    let record = ProducerRecord::new(TOPIC, "after").with_partition(at);
    let sent = producer.send(record).await;
    let sent = sent.map_err(|error| error.to_string())?;
    sent.await.map_err(|error| error.to_string())?;
    Ok(())
}

fn judge(
    runtime: &Runtime,
    mirror: &Side,
    seen: &Seen,
    committed: &BTreeMap<TopicPartition, i64>,
    ends: &[i64],
) {
    let (mut kept, mut all_lacking) = (0, 0);
    for (of, end) in partitions(TOPIC, PARTITIONS).iter().zip(ends) {
        let mut reader = mirror.reader(of, 0);
        let mut next = 0;
        while next < *end {
            let record = runtime.block_on(reader.next());
            assert_eq!(record.offset.0, next, "{of}: an offset is missing");
            let place = (of.partition, next);
            for known in [seen.acknowledged.get(&place), seen.consumed.get(&place)] {
                let same = known.is_none_or(|known| Some(known) == record.value.as_ref());
                assert!(same, "{of} at {next}: {known:?} became {:?}", record.value);
            }
            next += 1;
        }
        let lacking = seen
            .acknowledged
            .range((of.partition, *end)..(of.partition, i64::MAX))
            .count();
        all_lacking += lacking;
        kept += seen
            .acknowledged
            .range((of.partition, 0)..(of.partition, *end))
            .count();
        eprintln!("{of}: promoted at {end}, {lacking} acknowledged records were not copied yet");
    }
    assert!(kept > 0, "nothing was copied");
    assert!(
        all_lacking > 0,
        "the loss cost nothing, so nothing was shown"
    );
    eprintln!("{kept} acknowledged records are where they were");
    goes_on(runtime, mirror, seen, committed, ends);
}

/// The group at the mirror reads all it had not committed, and nothing else.
fn goes_on(
    runtime: &Runtime,
    mirror: &Side,
    seen: &Seen,
    committed: &BTreeMap<TopicPartition, i64>,
    ends: &[i64],
) {
    let config = mirror.config(&[("group.id", GROUP), ("auto.offset.reset", "none")]);
    let mut member = Consumer::new(&mirror.env, config).expect("settings");
    member.subscribe(&[TOPIC]).expect("a topic");
    let of = |at: usize| TopicPartition::new(TOPIC, i32::try_from(at).expect("few"));
    let start = |at: usize| committed.get(&of(at)).copied().unwrap_or(0);
    let mut wanted: BTreeSet<(i32, i64)> = BTreeSet::new();
    for (at, end) in ends.iter().enumerate() {
        // What was written after the promotion is one more.
        wanted.extend((start(at)..=*end).map(|offset| (of(at).partition, offset)));
    }
    let (began, mut given) = (Instant::now(), 0);
    while !wanted.is_empty() {
        let polled = runtime.block_on(member.poll(Duration::from_millis(500)));
        for record in polled.unwrap_or_default() {
            let place = (record.partition.partition, record.offset.0);
            assert!(
                wanted.remove(&place),
                "{place:?} was committed, or comes twice"
            );
            given += 1;
        }
        assert!(began.elapsed() < LIMIT, "not given: {:?}", wanted.first());
    }
    for (at, end) in (0..).zip(ends) {
        let before = seen.consumed.range((at, 0)..(at, *end)).count();
        let committed = committed.get(&TopicPartition::new(TOPIC, at)).copied();
        let committed = usize::try_from(committed.unwrap_or(0)).expect("it is positive");
        assert!(
            before >= committed,
            "{TOPIC}-{at}: a record was committed unread"
        );
    }
    eprintln!("the group was given {given} records at the mirror, all it had not committed");
}

impl Load {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to one partition, one record after another.
    async fn write(self: Arc<Self>, at: i32) {
        let producer = Producer::new(&self.source.env, self.source.config(&[]));
        let producer = producer.expect("settings");
        for number in 0_u64.. {
            if self.ending.load(Ordering::Acquire) {
                return;
            }
            let value = Bytes::from(format!("{at} {number}"));
            let record = ProducerRecord::new(TOPIC, value.clone()).with_partition(at);
            let Ok(sent) = producer.send(record).await else {
                continue;
            };
            if let Ok(metadata) = sent.await
                && let Some(offset) = metadata.offset
            {
                self.lock().acknowledged.insert((at, offset.0), value);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The member of the group at the source.
    async fn consume(self: Arc<Self>) {
        let config = self.source.config(&[
            ("group.id", GROUP),
            ("auto.offset.reset", "earliest"),
            ("auto.commit.interval.ms", "300"),
        ]);
        let mut member = Consumer::new(&self.source.env, config).expect("settings");
        member.subscribe(&[TOPIC]).expect("a topic");
        while !self.leaving.load(Ordering::Acquire) {
            match member.poll(Duration::from_millis(200)).await {
                Ok(records) => {
                    let mut seen = self.lock();
                    for record in records {
                        let place = (record.partition.partition, record.offset.0);
                        let value = record.value.unwrap_or_default();
                        seen.consumed.insert(place, value);
                    }
                }
                Err(error) => eprintln!("the member goes on: {error}"),
            }
        }
        let began = Instant::now();
        while let Err(error) = member.commit().await {
            assert!(began.elapsed() < LIMIT, "the last commit: {error}");
        }
        member.close().await.expect("it leaves");
    }
}
