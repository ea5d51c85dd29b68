//! Every node killed at once under load, again and again: what was acknowledged is there.
//!
//! 2 rounds by default; `KLAMM_ALL_KILLED_ROUNDS` asks for more.

use std::thread;
use std::time::{Duration, Instant};

use super::trouble::Trouble;
use super::{environment, turn};

#[test]
fn all_nodes_killed_at_once_lose_nothing() {
    let rounds: u32 = environment("KLAMM_ALL_KILLED_ROUNDS").unwrap_or(2);
    let _turn = turn();
    let mut trouble = Trouble::start("all-killed");
    for round in 1..=rounds {
        thread::sleep(Duration::from_millis(500 + u64::from(round * 397 % 500)));
        trouble.load.check_alive();
        trouble
            .load
            .note_fault("kill all", format!("round {round}"));
        trouble.load.pulse().begin();
        let killed = Instant::now();
        trouble.cluster.kill9_all();
        trouble.cluster.start_all();
        let ready = killed.elapsed();
        trouble
            .load
            .note_fault("restart all", format!("round {round}"));
        trouble.wait_for_writes(killed);
        trouble.wait_until_whole();
        let silence = trouble.load.pulse().silence().of_a_partition;
        eprintln!(
            "round {round}: all nodes ready after {ready:.1?}, no write for {silence:.1?}, \
             all in sync after {:.1?}",
            killed.elapsed()
        );
    }
    trouble.finish();
}
