//! A plan carried out.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm_jepsen::checker::Violation;
use klamm_jepsen::history::Event;

use crate::plan::Plan;

/// What a run gave.
#[derive(Debug, Default)]
pub struct Outcome {
    pub events: Vec<Event>,
    /// Of checkers, audit and liveness.
    pub violations: Vec<Violation>,
    pub trace_hash: u64,
    pub trace_events: u64,
    /// The whole trace if it was asked for.
    pub trace: Vec<String>,
    pub simulated: Duration,
    /// How often each kind of operation ended how: `send ok`.
    pub operations: BTreeMap<String, u64>,
    /// How often each kind of fault took effect.
    pub faults: BTreeMap<String, u64>,
    /// How often each rare situation was reached, those never reached too.
    pub probes: BTreeMap<String, u64>,
    /// Why this run proves nothing.
    pub vacuous: Option<String>,
}

/// Carries out `plan` on a thread of its own.
///
/// # Panics
/// When anything in the run does.
#[must_use]
pub fn execute(plan: &Plan, keep_trace: bool) -> Outcome {
    crate::runner::ledger_run(plan, keep_trace)
}
