//! The smallest part of a history that is still wrong.

use super::{Budget, Call, Model, Outcome, Stuck, search};

/// Calls of a part that a search for a smaller one is worth its time.
const CALLS_MAX: usize = 4_000;

/// The ids of operations that cannot all have happened as they did, few of them, given all others.
///
/// `stuck` is what [`search`] found of `calls`. What was not finished by its horizon cannot be
/// missed; of the rest as many as possible are taken for operations that may never have happened.
/// If what remains still has no order, then it is about those that were kept.
pub fn explain<M: Model>(
    model: &M,
    calls: &[Call<M::Operation>],
    stuck: &Stuck,
    budget: Budget,
) -> Vec<u64> {
    let mut calls: Vec<Call<M::Operation>> = calls
        .iter()
        .filter(|call| call.invoked <= stuck.horizon)
        .cloned()
        .collect();
    for call in &mut calls {
        call.returned = call.returned.filter(|time| *time <= stuck.horizon);
    }
    calls.sort_by_key(|call| (call.returned, call.id));
    let mut kept: Vec<usize> = (0..calls.len())
        .filter(|at| calls[*at].returned.is_some())
        .collect();
    let mut size = kept.len().div_ceil(2);
    while size > 0 && calls.len() <= CALLS_MAX {
        let mut at = 0;
        while at < kept.len() {
            let end = kept.len().min(at + size);
            let without = [&kept[..at], &kept[end..]].concat();
            if is_wrong(model, &calls, &without, budget) {
                kept = without;
            } else {
                at = end;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    let mut ids: Vec<u64> = kept.into_iter().map(|at| calls[at].id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Whether there is no order even if only the calls at `certain` must have happened.
fn is_wrong<M: Model>(
    model: &M,
    calls: &[Call<M::Operation>],
    certain: &[usize],
    budget: Budget,
) -> bool {
    let mut relaxed: Vec<Call<M::Operation>> = calls.to_vec();
    for (at, call) in relaxed.iter_mut().enumerate() {
        if certain.binary_search(&at).is_err() {
            call.returned = None;
        }
    }
    let budget = Budget {
        steps: budget.steps / 20,
        bytes: budget.bytes / 4,
    };
    matches!(search(model, &relaxed, budget), Outcome::Violated(_))
}
