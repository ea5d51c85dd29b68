//! Plans as functions of a scenario's name and a seed.

use crate::plan::Plan;

/// A family of plans.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
}

/// Every scenario; the first is the one meant when none is named.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "ledger",
    about: "numbers written to files and synced, under losses of power",
}];

/// The plan of a seed: the same on every machine. None if there is no such scenario.
#[must_use]
pub fn plan(scenario: &str, seed: u64) -> Option<Plan> {
    (scenario == "ledger").then(|| crate::runner::ledger_plan(scenario, seed))
}
