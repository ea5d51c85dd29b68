//! What nodes noted: states of logs, starts, and progress at the end.

mod log_state;
mod progress;
mod startable;
#[cfg(test)]
mod tests;

use super::{Options, Violations};
use crate::history::History;

/// R5, R8 and R10 by notes, K8, V2 and V10, of brokers that have no copies of each other's logs.
#[cfg(test)]
pub fn check(history: &History, violations: &mut Violations) {
    check_with(history, Options::default(), violations);
}

/// R5, R8 and R10 by notes, K8, V2 and V10.
pub fn check_with(history: &History, options: Options, violations: &mut Violations) {
    log_state::check(history, options, violations);
    startable::check(history, violations);
    progress::check(history, violations);
}
