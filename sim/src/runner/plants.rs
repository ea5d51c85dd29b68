//! Faults planted on purpose, to show that the runner reports them. Nothing here tests the broker.
//!
//! The names of these scenarios begin with `planted-`; lists of scenarios leave them out.

use std::collections::HashMap;
use std::time::Duration;

use super::ledger;
use crate::clock::elapsed;
use crate::plan::Plan;
use crate::run::Outcome;
use crate::{SimWorld, simulate};

const PREFIX: &str = "planted-";

/// Scenarios and what is planted in them.
const PLANTS: &[(&str, &str)] = &[
    ("planted-clock", "the real clock is read"),
    (
        "planted-hash-map",
        "a hash map made outside of the run is iterated",
    ),
    ("planted-select", "a select that is not biased"),
    (
        "planted-loss",
        "numbers are acknowledged before they are synced",
    ),
    ("planted-panic", "a loss of power panics"),
    ("planted-hang", "a task never lets go"),
    ("planted-memory", "memory without bound"),
    ("planted-vacuous", "nothing happens"),
    (
        "planted-nothing",
        "nothing is wrong: what the others are compared with",
    ),
];

pub(crate) fn is_planted(scenario: &str) -> bool {
    scenario.starts_with(PREFIX)
}

pub(crate) fn plan(scenario: &str, seed: u64) -> Option<Plan> {
    let known = PLANTS.iter().any(|(name, _)| *name == scenario);
    known.then(|| ledger::plan(scenario, seed))
}

/// Carries out a planted fault.
///
/// # Panics
/// Where a panic is planted.
pub(crate) fn execute(plan: &Plan, keep_trace: bool) -> Outcome {
    match plan.scenario.as_str() {
        "planted-clock" => noisy(plan, keep_trace, |_| real_nanoseconds()),
        "planted-hash-map" => {
            // Its keys are drawn here, where the seed decides nothing.
            let map: HashMap<u64, ()> = (0..32).map(|key| (key, ())).collect();
            let order: Vec<u64> = map.into_keys().collect();
            noisy(plan, keep_trace, move |at| {
                order
                    .get(usize::try_from(at).unwrap_or(0))
                    .copied()
                    .unwrap_or(0)
            })
        }
        "planted-select" => noisy(plan, keep_trace, |_| unbiased_choices(16)),
        "planted-hang" => {
            simulate(plan.seed, |world| async move {
                let env = world.node("server").start();
                env.sleep(Duration::from_millis(5)).await;
                loop {
                    std::hint::spin_loop();
                }
            })
            .value
        }
        "planted-memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
            }
        }
        "planted-vacuous" => Outcome {
            vacuous: Some("nothing was planned".to_owned()),
            ..Outcome::default()
        },
        _ => ledger::execute(plan, keep_trace),
    }
}

/// A run of which every event but the first ten holds a number that `noise` gives.
fn noisy(
    plan: &Plan,
    keep_trace: bool,
    mut noise: impl FnMut(u64) -> u64 + Send + 'static,
) -> Outcome {
    let run = simulate(plan.seed, move |world: SimWorld| async move {
        let env = world.node("server").start();
        for at in 0..30 {
            env.sleep(Duration::from_millis(1)).await;
            let number = if at < 10 { at } else { noise(at) };
            world
                .trace()
                .event("server", format_args!("number {number}"));
        }
        elapsed()
    });
    Outcome {
        trace_hash: run.fingerprint(),
        trace_events: run.trace.len() as u64,
        simulated: run.value,
        trace: if keep_trace { run.trace } else { Vec::new() },
        ..Outcome::default()
    }
}

/// The clock of the machine, by a call that the simulator does not stand in for.
fn real_nanoseconds() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Which of two ready futures is taken, `rounds` times, as the bits of a number.
pub(crate) fn unbiased_choices(rounds: u32) -> u64 {
    let mut choices = 0;
    for _ in 0..rounds {
        // In parentheses, and without the word that the rules of the code demand.
        let choosing = async {
            tokio::select!(
                () = std::future::ready(()) => 0,
                () = std::future::ready(()) => 1,
            )
        };
        let mut waiting = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(choice) = std::pin::pin!(choosing).poll(&mut waiting) {
            choices = choices << 1 | choice;
        }
    }
    choices
}
