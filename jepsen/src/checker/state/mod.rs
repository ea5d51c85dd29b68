//! What nodes and the run itself noted: states of logs, broken rules, and progress at the end.

mod broken;
mod log_state;
mod progress;
#[cfg(test)]
mod tests;

use super::Violations;
use crate::history::History;

/// R5, R8 and R10 by notes, K8, V2, V10, and whatever the run saw broken.
pub fn check(history: &History, violations: &mut Violations) {
    log_state::check(history, violations);
    broken::check(history, violations);
    progress::check(history, violations);
}
