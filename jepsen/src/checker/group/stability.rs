//! CG8: when nothing disturbs a group any more, it becomes stable and stays so.
//!
//! A **disturbance** is what may rightly make a group rebalance: a join without a member id or of
//! unknown end, one by a member that was not told to join again (none of its requests was refused
//! since its last join), a leave, a client that is gone, a start or stop of a node, a change of
//! topics. From the last of them in the phase of liveness or before, or from that
//! phase's beginning, a group has twice its longest session and rebalance time-outs and ten seconds
//! more. After that no join gives a generation higher than those before, and no DescribeGroup shows
//! a rebalance under way. Silent if the history ends before.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Group, Groups};
use super::violation;
use crate::checker::Violations;
use crate::history::{Answer, Call, Ending, NodeEvent, Note, Operation, Phase};

const SETTLE: u64 = 10_000_000_000;

pub(super) fn check(name: &str, group: &Group, groups: &Groups, violations: &mut Violations) {
    let Some(begun) = groups.notes.iter().find_map(|(time, _, note)| match note {
        Note::Phase {
            phase: Phase::Liveness,
        } => Some(*time),
        _ => None,
    }) else {
        return;
    };
    let mut disturbed = begun.max(disturbed_by_notes(groups));
    let topics: BTreeSet<&str> = group
        .asked
        .iter()
        .flat_map(|(_, join)| join.topics.iter().map(String::as_str))
        .collect();
    for topic in topics.iter().filter_map(|name| groups.topics.get(name)) {
        let all = topic.creates.iter().chain(&topic.grows).chain(&topic.deletes);
        disturbed = all.fold(disturbed, |last, op| last.max(op.effect_until()));
    }
    let leaves = group.leaves.iter().map(|leave| leave.op.effect_until());
    disturbed = leaves.fold(disturbed, u64::max);
    let joins = disturbing_joins(group, groups).into_iter();
    disturbed = joins.map(Operation::effect_until).fold(disturbed, u64::max);
    let spans = group.asked.iter().map(|(_, join)| {
        let both = i64::from(join.session_timeout_ms) + i64::from(join.rebalance_timeout_ms);
        u64::try_from(both).unwrap_or(0) * 2_000_000
    });
    let settle = spans.max().unwrap_or(0) + SETTLE;
    let settled = disturbed.saturating_add(settle);
    rising(name, group, settled, violations);
    for op in &group.describes {
        if let Some(Answer::DescribeGroup { state, .. }) = op.answer()
            && op.invoked > settled
            && state.ends_with("Rebalance")
        {
            let detail = format!("{name} is still {state}");
            violations.add(violation("CG8", op.returned, None, &[op.op], detail));
        }
    }
}

fn disturbed_by_notes(groups: &Groups) -> u64 {
    let disturbs = |note: &Note| match note {
        Note::Gone => true,
        Note::Node { event } => !matches!(event, NodeEvent::Ready),
        _ => false,
    };
    let times = groups.notes.iter().filter(|(_, _, note)| disturbs(note));
    times.map(|(time, _, _)| *time).max().unwrap_or(0)
}

/// Joins that may begin a rebalance on their own.
fn disturbing_joins<'a>(group: &Group<'a>, groups: &Groups<'a>) -> Vec<&'a Operation> {
    let mut disturbing = Vec::new();
    for (op, join) in &group.asked {
        let is_known = !matches!(op.ending, Ending::Unknown(_)) && !join.member.is_empty();
        if !is_known || !groups.was_told_to_join(op) {
            disturbing.push(*op);
        }
    }
    disturbing
}

fn rising(name: &str, group: &Group, settled: u64, violations: &mut Violations) {
    let after = group
        .joins
        .partition_point(|joined| joined.op.returned <= settled);
    let (before, after) = group.joins.split_at(after);
    let Some(highest) = before.iter().map(|joined| joined.generation).max() else {
        return;
    };
    for joined in after.iter().filter(|joined| joined.generation > highest) {
        let generation = joined.generation;
        let detail = format!("{name} went to generation {generation} though nothing disturbed it");
        let time = joined.op.returned;
        violations.add(violation("CG8", time, None, &[joined.op.op], detail));
    }
}

impl Groups<'_> {
    /// Whether the last this process heard before `op` was a refusal, not that it had joined.
    fn was_told_to_join(&self, op: &Operation) -> bool {
        self.refused
            .get(op.process.as_str())
            .and_then(|refused| {
                let before = refused.partition_point(|(at, _)| *at < op.invoked);
                refused[..before].last()
            })
            .is_some_and(|(_, is_refusal)| *is_refusal)
    }
}

/// For each process, the ends of its joins (false) and refused requests (true), by time.
pub(super) fn refusals(operations: &[Operation]) -> BTreeMap<&str, Vec<(u64, bool)>> {
    let mut refused: BTreeMap<&str, Vec<(u64, bool)>> = BTreeMap::new();
    for op in operations {
        let is_refusal = match (&op.call, &op.ending) {
            (Call::Join(_), Ending::Ok(_)) => false,
            (Call::Join(_) | Call::Heartbeat(_) | Call::Commit { .. }, Ending::Fail(_)) => true,
            (Call::Commit { .. }, Ending::Ok(Answer::Commit { refused })) => !refused.is_empty(),
            _ => continue,
        };
        if !matches!((&op.call, is_refusal), (Call::Commit { .. }, false)) {
            let of = refused.entry(op.process.as_str()).or_default();
            of.push((op.returned, is_refusal));
        }
    }
    for of in refused.values_mut() {
        of.sort_unstable();
    }
    refused
}
