//! What the history and the disk say about a run.

use std::collections::BTreeMap;

use klamm_jepsen::checker::{self, Options, Violation};
use klamm_jepsen::history::{Event, History, Note, Partition, summary};

use crate::audit::Finding;
use crate::plan::Plan;

/// Properties that need a broker that serves: a broker that found damage may refuse to.
const NEEDS_SERVICE: &[&str] = &[
    "V1", "V2", "V3", "V4", "V6", "V10", "CG5", "CG6", "CG8", "K8",
];
/// Operations of a kind that must have worked for a run to prove something.
const OPERATIONS_MIN: u64 = 10;

pub(super) struct Judged {
    pub(super) violations: Vec<Violation>,
    pub(super) operations: BTreeMap<String, u64>,
    pub(super) vacuous: Option<String>,
}

/// What may follow from an election that lost something, in that partition: records that are gone,
/// and others in their places.
const AFTER_LOSS: &[&str] = &[
    "P1", "P2", "P3", "P4", "P8", "P9", "P10", "P12", "P13", "P14", "P16", "R5", "R14", "R16",
    "R17", "R18", "K6",
];
/// The same of the partitions that hold the groups.
const AFTER_LOSS_OF_GROUPS: &[&str] = &["CG1", "CG2", "CG3", "CG4", "CG5", "CG7", "CG9"];
const GROUP_TOPIC: &str = "__consumer_offsets";

/// `unclean` are the partitions of which a leader was elected who may have lacked what was
/// committed, with the time: nobody was left who had not ended without an orderly stop, and the
/// topic promises no more than memory. That it was so is for the watch to judge.
pub(super) fn judge(
    plan: &Plan,
    events: &[Event],
    findings: &[Finding],
    unclean: &BTreeMap<Partition, u64>,
) -> Judged {
    let history = match History::from_events(events.iter().cloned()) {
        Ok(history) => history,
        Err(error) => {
            let violation = Violation {
                property: "H1",
                time: 0,
                partition: None,
                operations: Vec::new(),
                detail: format!("the history contradicts itself: {error}"),
            };
            return Judged {
                violations: vec![violation],
                operations: BTreeMap::new(),
                vacuous: None,
            };
        }
    };
    let damaged = |(_, _, note): &(u64, String, Note)| matches!(note, Note::Damaged { .. });
    let damaged = history.notes.iter().any(damaged);
    let options = Options {
        replicated: plan.is_cluster(),
        // Its leader alone has it.
        weak_acks_one: plan.is_cluster(),
        ..Options::default()
    };
    let mut found = checker::found(&history, options);
    let undecided = found.take_undecided().into_iter().next();
    let mut violations = found.into_sorted();
    violations.extend(findings.iter().map(|finding| Violation {
        property: finding.property,
        time: u64::MAX,
        partition: finding.partition.clone(),
        operations: Vec::new(),
        detail: finding.detail.clone(),
    }));
    if damaged {
        violations.retain(|violation| !NEEDS_SERVICE.contains(&violation.property));
    }
    let of_groups = unclean.keys().any(|of| of.topic == GROUP_TOPIC);
    violations.retain(|violation| {
        let since = violation.partition.as_ref().and_then(|of| unclean.get(of));
        let is_lost = since.is_some_and(|since| *since <= violation.time)
            && AFTER_LOSS.contains(&violation.property);
        !(is_lost || of_groups && AFTER_LOSS_OF_GROUPS.contains(&violation.property))
    });
    let operations = counted(&history);
    Judged {
        vacuous: vacuous(plan, &operations, damaged).or(undecided),
        violations,
        operations,
    }
}

/// How often each kind of operation ended how: `send ok`.
fn counted(history: &History) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for (kind, counts) in summary(history).operations {
        for (ending, count) in [
            ("ok", counts.ok),
            ("fail", counts.fail),
            ("info", counts.info),
        ] {
            if count > 0 {
                counted.insert(format!("{kind} {ending}"), count);
            }
        }
    }
    counted
}

/// Why a run proves nothing: hardly anything worked.
fn vacuous(plan: &Plan, operations: &BTreeMap<String, u64>, damaged: bool) -> Option<String> {
    if plan.clients.is_empty() {
        return Some("nobody is there".to_owned());
    }
    let worked: u64 = operations
        .iter()
        .filter(|(kind, _)| kind.ends_with(" ok"))
        .map(|(_, count)| count)
        .sum();
    // Damage may keep the broker down from early on.
    if worked < OPERATIONS_MIN && !damaged {
        return Some(format!("only {worked} operations worked"));
    }
    None
}
