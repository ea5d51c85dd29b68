//! What the history and the disk say about a run.

use std::collections::BTreeMap;
use std::sync::Arc;

use klamm_jepsen::checker::mirror::context::of_target;
use klamm_jepsen::checker::mirror::{self, Clustered};
use klamm_jepsen::checker::{self, Options, Violation};
use klamm_jepsen::history::{Event, History, Note, Partition, of_cluster, summary};

use crate::audit::Finding;
use crate::plan::Plan;
use crate::workload::finals::is_of_mirror_maker;

/// Properties that need a broker that serves: a broker that found damage may refuse to.
const NEEDS_SERVICE: &[&str] = &[
    "V1", "V2", "V3", "V4", "V6", "V10", "CG5", "CG6", "CG8", "K8",
];
/// Operations of a kind that must have worked for a run to prove something.
const OPERATIONS_MIN: u64 = 10;

#[derive(Default)]
pub(super) struct Judged {
    pub(super) violations: Vec<Violation>,
    pub(super) operations: BTreeMap<String, u64>,
    pub(super) vacuous: Option<String>,
}

/// What may follow from an election that lost something, in that partition: records that are gone,
/// and others in their places; followers cut their logs back as far as into compacted segments.
const AFTER_LOSS: &[&str] = &[
    "P1", "P2", "P3", "P4", "P7", "P8", "P9", "P10", "P11b", "P12", "P13", "P14", "P16", "R5",
    "R14", "R16", "R17", "R18", "K2", "K4", "K6",
];
/// The same of the partitions that hold the groups.
const AFTER_LOSS_OF_GROUPS: &[&str] = &["CG1", "CG2", "CG3", "CG4", "CG5", "CG7", "CG9"];
const GROUP_TOPIC: &str = "__consumer_offsets";

/// What a cluster brought out beside its history.
pub(super) struct Seen {
    pub(super) plan: Arc<Plan>,
    pub(super) findings: Vec<Finding>,
    /// Partitions of which a leader was elected who may have lacked what was committed, with the
    /// time: nobody was left who had not ended without an orderly stop, and the topic promises no
    /// more than memory. That it was so is for the watch to judge.
    pub(super) unclean: BTreeMap<Partition, u64>,
}

/// Judges each cluster by its own history.
pub(super) fn judge(events: &[Event], clusters: &[Seen]) -> Judged {
    let mut all = Judged::default();
    for seen in clusters {
        let cluster = seen.plan.cluster.as_deref();
        let mut judged = judge_cluster(seen, of_target(events, cluster));
        if let Some(cluster) = cluster {
            for violation in &mut judged.violations {
                violation.detail = format!("cluster {cluster}: {}", violation.detail);
            }
        }
        all.violations.extend(judged.violations);
        for (kind, count) in judged.operations {
            *all.operations.entry(kind).or_default() += count;
        }
        all.vacuous = all.vacuous.or(judged.vacuous);
    }
    if clusters.len() > 1 {
        all.violations.extend(judge_links(events, clusters));
    }
    all.violations.sort_by_key(|violation| violation.time);
    all
}

fn judge_cluster(seen: &Seen, events: Vec<Event>) -> Judged {
    let plan = &seen.plan;
    let history = match History::from_events(events) {
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
                ..Judged::default()
            };
        }
    };
    let damaged = |(_, _, note): &(u64, String, Note)| matches!(note, Note::Damaged { .. });
    let damaged = history.notes.iter().any(damaged);
    let mut found = checker::found(&history, promises(plan));
    let undecided = found.take_undecided().into_iter().next();
    let mut violations = found.into_sorted();
    violations.extend(seen.findings.iter().map(|finding| Violation {
        property: finding.property,
        time: u64::MAX,
        partition: finding.partition.clone(),
        operations: Vec::new(),
        detail: finding.detail.clone(),
    }));
    if damaged {
        violations.retain(|violation| !NEEDS_SERVICE.contains(&violation.property));
    }
    leave_out_the_lost(plan, &mut violations, &seen.unclean);
    violations.retain(|violation| !is_forgotten(plan, violation));
    let operations = counted(&history);
    Judged {
        vacuous: vacuous(plan, &operations, damaged).or(undecided),
        violations,
        operations,
    }
}

/// What a cluster promises.
fn promises(plan: &Plan) -> Options {
    Options {
        replicated: plan.is_cluster(),
        // Its leader alone has it.
        weak_acks_one: plan.is_cluster(),
        sources_may_lose: plan.all_topics().any(|topic| {
            let durability = topic.config.get("klamm.durability");
            durability.is_some_and(|durability| durability == "replicated")
        }),
        ..Options::default()
    }
}

/// Judges what is copied between clusters.
fn judge_links(events: &[Event], clusters: &[Seen]) -> Vec<Violation> {
    let histories = clusters.iter().map(|seen| {
        let own = of_cluster(events, seen.plan.cluster.as_deref());
        History::from_events(own.cloned())
    });
    // One that contradicts itself is told of already.
    let histories: Vec<History> = histories.map(Result::unwrap_or_default).collect();
    let sides = clusters
        .iter()
        .zip(&histories)
        .map(|(seen, history)| Clustered {
            name: seen.plan.cluster.clone(),
            history,
            options: promises(&seen.plan),
            lost: seen.unclean.keys().cloned().collect(),
        });
    mirror::found(&sides.collect::<Vec<_>>()).into_sorted()
}

/// A mirror that was promoted has forgotten the producers of its source, whose batches its log
/// still has: that is no state of producers gone wrong (R11).
fn is_forgotten(plan: &Plan, violation: &Violation) -> bool {
    let of = violation.partition.as_ref();
    let is_mirror = of.is_some_and(|of| {
        let mut planned = plan.mirrored.iter();
        planned.any(|topic| topic.name == of.topic) || is_of_mirror_maker(&of.topic)
    });
    let is_promoted = plan.links.iter().any(|link| link.promote_ms.is_some());
    violation.property == "R11"
        && is_mirror
        && is_promoted
        && violation.detail.contains(" is missing: ")
}

/// Leaves out what follows from elections that lost something.
fn leave_out_the_lost(
    plan: &Plan,
    violations: &mut Vec<Violation>,
    unclean: &BTreeMap<Partition, u64>,
) {
    let of_groups = unclean.keys().any(|of| of.topic == GROUP_TOPIC);
    violations.retain(|violation| {
        let since = violation.partition.as_ref().and_then(|of| unclean.get(of));
        let is_lost = since.is_some_and(|since| *since <= violation.time)
            && (AFTER_LOSS.contains(&violation.property)
                || is_sent_again(violation)
                || is_compacted_away(plan, violation));
        !(is_lost || of_groups && AFTER_LOSS_OF_GROUPS.contains(&violation.property))
    });
}

/// A record that was lost and sent again has the broker's time of both; a batch that is sent again
/// after others before it were lost leaves a gap.
fn is_sent_again(violation: &Violation) -> bool {
    match violation.property {
        "P15" => violation.detail.contains(" has timestamp "),
        "R11" => violation.detail.contains(" came again and was refused"),
        _ => false,
    }
}

/// Compaction may have taken a producer's batches for later ones, which were lost then.
fn is_compacted_away(plan: &Plan, violation: &Violation) -> bool {
    let of = violation.partition.as_ref();
    let mut planned = plan.all_topics();
    let is_compacted = planned.any(|topic| {
        let policy = topic.config.get("cleanup.policy");
        of.is_some_and(|of| of.topic == topic.name)
            && policy.is_some_and(|policy| policy.contains("compact"))
    });
    violation.property == "R11"
        && is_compacted
        && violation.detail.contains(", and the log's last is Some(")
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
    if plan.clients.is_empty() && plan.cluster.is_none() {
        return Some("nobody is there".to_owned());
    }
    let worked: u64 = operations
        .iter()
        .filter(|(kind, _)| kind.ends_with(" ok"))
        .map(|(_, count)| count)
        .sum();
    // Damage may keep the broker down from early on.
    if worked < OPERATIONS_MIN && !damaged && plan.cluster.is_none() {
        return Some(format!("only {worked} operations worked"));
    }
    None
}
