//! Requests that wait for a replica which says nothing.

use std::thread;
use std::time::{Duration, Instant};

use klamm::types::ErrorCode;
use rustix::process::Signal;

use super::{ClusterProcess, turn};
use crate::wire_client::{code, connect_patiently, plain_batch};

const REQUESTS: usize = 160;
const VALUE_BYTES: usize = 900_000;

/// What is written is in the files and, some of it, in the tail cache. A request that waits for a
/// replica holds what its answer needs, and not what it brought.
#[test]
fn requests_that_wait_for_a_replica_hold_little_memory() {
    let _turn = turn();
    // Longer than this takes: nobody gives the silent replica up.
    let cluster = ClusterProcess::start(
        3,
        &[
            ("broker.session.timeout.ms", "120000"),
            ("replica.lag.time.max.ms", "120000"),
            ("offsets.topic.replication.factor", "1"),
            ("default.replication.factor", "3"),
        ],
    );
    let eyes = cluster.eyes();
    let controller = eyes.active_controller();
    let mut client = connect_patiently(cluster.node(controller).port());
    let created = client.create_topic("orders", 1, &[]);
    assert_eq!(created.expect("an answer"), ErrorCode::None);
    eyes.wait_until_whole(cluster.ids(), Duration::from_secs(30));
    let leader = eyes.leader("orders", 0);
    let silent = cluster.ids().find(|id| ![leader, controller].contains(id));
    let silent = cluster.node(silent.expect("a third node"));

    let mut client = connect_patiently(cluster.node(leader).port());
    let value = vec![7; VALUE_BYTES];
    let warm = client.produce("orders", 0, plain_batch(&[&value]));
    assert_eq!(code(warm.expect("an answer").error_code), ErrorCode::None);
    let before = cluster.node(leader).resident_bytes();
    silent.signal(Signal::STOP);
    for _ in 0..REQUESTS {
        let sent = client.send_batch("orders", 0, plain_batch(&[&value]));
        sent.expect("it is sent");
    }
    let all = (REQUESTS * VALUE_BYTES) as u64;
    // Nothing can be read before all replicas have it, so the leader's file says what it took.
    let log = cluster
        .node(leader)
        .data_directory()
        .join("orders-0/00000000000000000000.log");
    let began = Instant::now();
    while log.metadata().expect("the leader's file").len() < all {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it is not written"
        );
        thread::sleep(Duration::from_millis(50));
    }
    let held = cluster.node(leader).resident_bytes().saturating_sub(before);
    silent.signal(Signal::CONT);
    for _ in 0..REQUESTS {
        let produced = client.receive_produced().expect("an answer");
        assert_eq!(code(produced.error_code), ErrorCode::None);
    }
    assert!(
        held < all / 2,
        "{} MiB held of {} MiB",
        held >> 20,
        all >> 20
    );
}
