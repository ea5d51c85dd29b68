//! Rounds of `kill -9` of one node under load: of the leader of the busiest partition and of the
//! active controller, in turn. What was acknowledged stays; writes stop for less than a second.
//!
//! 3 rounds by default. `KLAMM_FAILOVER_ROUNDS=100 cargo test --test integration failover --
//! --nocapture` runs more and, from 100 on, holds the 99th percentile against the promise. Each
//! round goes on until all replicas are in sync again, so that the next one may kill any node.

use std::thread;
use std::time::{Duration, Instant};

use super::load::TOPIC;
use super::pulse::{Distribution, Silence};
use super::trouble::Trouble;
use super::{environment, turn};

/// Within this time writes go on after the death of any node, in 99 of 100 cases.
const PROMISE: Duration = Duration::from_secs(1);
/// Acknowledgements that a node sent before its death may be taken in for so long after.
const ANSWERS_UNDER_WAY: Duration = Duration::from_millis(100);
/// So many rounds are enough to hold the promise against.
const ROUNDS_TO_JUDGE: u32 = 100;

#[test]
fn a_killed_leader_or_controller_loses_nothing_and_stops_writes_for_a_moment() {
    let rounds = environment("KLAMM_FAILOVER_ROUNDS").unwrap_or(3);
    let _turn = turn();
    let mut trouble = Trouble::start("failover");
    let mut silences = Vec::new();
    for round in 1..=rounds {
        // Not always at the same moment of the nodes' own rhythms.
        thread::sleep(Duration::from_millis(200 + u64::from(round * 397 % 500)));
        trouble.load.check_alive();
        let silence = kill_one(&mut trouble, round);
        silences.push(silence);
    }
    let of = |span: fn(&Silence) -> Duration| Distribution::new(silences.iter().map(span));
    let (worst, all) = (of(|one| one.of_a_partition), of(|one| one.of_all));
    eprintln!("longest time without a write, worst partition: {worst}");
    eprintln!("longest time without a write, all partitions together: {all}");
    trouble.finish();
    if rounds >= ROUNDS_TO_JUDGE {
        assert!(
            worst.percentile(99) < PROMISE,
            "writes stop for too long: {worst}"
        );
    }
}

fn kill_one(trouble: &mut Trouble, round: u32) -> Silence {
    let eyes = trouble.cluster.eyes();
    let busiest = i32::try_from(trouble.load.pulse().busiest()).expect("a few partitions");
    let (leader, controller) = (eyes.leader(TOPIC, busiest), eyes.active_controller());
    let kills_leader = round % 2 == 1;
    let victim = if kills_leader { leader } else { controller };
    let what = match (leader == controller, kills_leader) {
        (true, _) => format!("leader of {TOPIC}-{busiest} and active controller"),
        (false, true) => format!("leader of {TOPIC}-{busiest}"),
        (false, false) => "active controller".to_owned(),
    };
    let detail = format!("round {round}: node {victim}, {what}");
    trouble.load.note_fault("kill", detail.clone());
    trouble.load.pulse().begin();
    let killed = Instant::now();
    trouble.cluster.node_mut(victim).kill9();
    // In every third round the node is back before the others may have noticed.
    if !round.is_multiple_of(3) {
        trouble.wait_for_writes(killed + ANSWERS_UNDER_WAY);
    }
    let (back, written) = (killed.elapsed(), trouble.load.pulse().silence());
    trouble.cluster.node_mut(victim).restart();
    trouble.load.note_fault("restart", format!("node {victim}"));
    let ready = trouble.cluster.node(victim).time_to_ready();
    trouble.wait_for_writes(killed);
    trouble.wait_until_whole();
    let whole = killed.elapsed();
    trouble.wait_for_writes(Instant::now());
    let silence = trouble.load.pulse().silence();
    eprintln!(
        "{detail}: no write for {:.0?} (worst partition, {:.0?} before the restart), {:.0?} (all); \
         restarted after {back:.0?}, ready in {ready:.0?}, all in sync after {whole:.1?}",
        silence.of_a_partition, written.of_a_partition, silence.of_all
    );
    silence
}
