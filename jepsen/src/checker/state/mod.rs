//! What nodes noted: states of logs, starts, and progress at the end.

mod log_state;
mod progress;
mod startable;
#[cfg(test)]
mod tests;

use super::Violations;
use crate::history::History;

/// R5, R8 and R10 by notes, K8, V2 and V10.
pub fn check(history: &History, violations: &mut Violations) {
    log_state::check(history, violations);
    startable::check(history, violations);
    progress::check(history, violations);
}
