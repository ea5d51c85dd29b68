//! M14: what clients were told of topics and their settings is what one copy of the metadata could
//! have told them.
//!
//! A topic's existence and number of partitions is one register, each of its settings another
//! ([`topics`], [`configs`]). **Changes** are linearizable: the controller decides on each of them,
//! once, and a change that was acknowledged is there whoever decides next. **Answers** of a cluster
//! may be old: a broker tells what it has replayed, and nobody tells it when it is cut off. So an
//! answer must have been true at some time before it was given, and be true at that moment only
//! where one node is all there is, and in the final phase, when all have caught up.
//!
//! Names that a client library sent to or read from are left out of the first: by asking it may
//! have made the topic. So is everything of a history with damage: nothing is promised then but
//! that it is told.

mod configs;
#[cfg(test)]
mod tests;
mod topics;

use std::fmt::Debug;

use super::linear::{Budget, Call, Model, Outcome, explain, search};
use super::{Index, Violation, Violations};
use crate::history::{Note, Operation};

/// M14.
pub(super) fn check(index: &Index<'_>, violations: &mut Violations) {
    let is_damage = |note: &Note| matches!(note, Note::Damaged { .. });
    let mut notes = index.history.notes.iter();
    if notes.any(|(_, _, note)| is_damage(note)) {
        return;
    }
    topics::check(index, violations);
    configs::check(index, violations);
}

/// A change that worked or may have.
fn change<O>(operation: &Operation, change: O) -> Call<O> {
    let is_known = operation.answer().is_some();
    Call {
        id: operation.op,
        invoked: operation.invoked,
        returned: is_known.then_some(operation.returned),
        operation: change,
    }
}

/// An answer that tells the state, now or of some time before.
fn answer<O>(index: &Index<'_>, operation: &Operation, told: O) -> Call<O> {
    let is_fresh = !index.options.replicated || index.is_final(operation);
    Call {
        id: operation.op,
        invoked: if is_fresh { operation.invoked } else { 0 },
        returned: Some(operation.returned),
        operation: told,
    }
}

/// Judges one register; `what` names it.
pub(super) fn judge<M: Model>(
    property: &'static str,
    what: &str,
    model: &M,
    calls: &[Call<M::Operation>],
    violations: &mut Violations,
) where
    M::State: Debug,
{
    match search(model, calls, Budget::default()) {
        Outcome::Linearizable(_) => {}
        Outcome::Unknown => violations.undecided(format!(
            "{property}: {what}: no order was found of its {} operations, nor that there is none",
            calls.len()
        )),
        Outcome::Violated(stuck) => {
            let operations = explain(model, calls, &stuck, Budget::default());
            let wrong = calls.iter().filter(|call| operations.contains(&call.id));
            let wrong: Vec<String> = wrong
                .map(|call| format!("{}: {:?}", call.id, call.operation))
                .collect();
            violations.add(Violation {
                property,
                time: stuck.horizon,
                partition: None,
                detail: format!(
                    "{what}: these have no order that one copy could have gone through: {}",
                    wrong.join("; ")
                ),
                operations,
            });
        }
    }
}
