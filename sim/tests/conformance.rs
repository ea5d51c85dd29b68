//! The simulated `Env` keeps every promise that code relies on, and a seed means one run.

use std::path::Path;

use klamm::env::conformance;
use klamm_sim::{Run, simulate};

fn conform(seed: u64) -> Run<usize> {
    simulate(seed, |world| async move {
        let env = world.node("node").start();
        for claim in conformance::all() {
            println!("{}", claim.name);
            let dir = Path::new("/data").join(claim.name);
            env.disk.create_dir(&dir).await.expect("a directory");
            (claim.check)(&env, &dir).await;
        }
        conformance::all().len()
    })
}

#[test]
fn the_simulated_env_keeps_every_promise() {
    for seed in 1..=5 {
        assert!(conform(seed).value > 50, "too few promises were checked");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let first = conform(7);
    println!("fingerprint {:016x}", first.fingerprint());
    let (first, second) = (first.trace, conform(7).trace);
    let differs = first.iter().zip(&second).find(|(one, other)| one != other);
    assert_eq!(differs, None, "first line that differs");
    assert_eq!(first.len(), second.len());
    assert!(first.len() > 1000, "only {} lines", first.len());
    assert_ne!(conform(8).trace, first);
}
