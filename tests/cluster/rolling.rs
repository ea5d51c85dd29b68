//! Nodes restarted in order, one after the other, under load: a controlled shutdown hands its
//! leaders over first, so writes hardly stop, and nothing is lost.
//!
//! 1 round over all nodes by default; `KLAMM_ROLLING_ROUNDS` asks for more.

use std::thread;
use std::time::{Duration, Instant};

use super::pulse::Distribution;
use super::trouble::Trouble;
use super::{environment, turn};

#[test]
fn nodes_restarted_in_turn_lose_nothing() {
    let rounds: u32 = environment("KLAMM_ROLLING_ROUNDS").unwrap_or(1);
    let _turn = turn();
    let mut trouble = Trouble::start("rolling");
    let mut silences = Vec::new();
    let nodes: Vec<i32> = trouble.cluster.ids().collect();
    for id in (0..rounds).flat_map(|_| nodes.clone()) {
        thread::sleep(Duration::from_millis(300));
        trouble.load.check_alive();
        trouble.load.note_fault("stop", format!("node {id}"));
        trouble.load.pulse().begin();
        let began = Instant::now();
        let status = trouble.cluster.node_mut(id).sigterm();
        assert!(status.success(), "a drain ended with {status}");
        let stopped = began.elapsed();
        trouble.cluster.node_mut(id).restart();
        trouble.load.note_fault("restart", format!("node {id}"));
        trouble.wait_until_whole();
        let whole = began.elapsed();
        trouble.wait_for_writes(Instant::now());
        let silence = trouble.load.pulse().silence().of_a_partition;
        eprintln!(
            "node {id}: stopped in {stopped:.0?}, no write for {silence:.0?} (worst partition), \
             all in sync after {whole:.1?}"
        );
        silences.push(silence);
    }
    let silences = Distribution::new(silences);
    eprintln!("longest time without a write, worst partition: {silences}");
    trouble.finish();
}
