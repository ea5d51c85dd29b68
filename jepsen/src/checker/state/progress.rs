//! V2 and V10: once all is healed, the broker serves.
//!
//! - V2: by the end of the phase of liveness every partition has acknowledged a send with acks=all
//!   that was invoked in that phase. These are the partitions of the topics that the process of the
//!   history's first operation, which sets the stage, made before that phase and nobody may have
//!   deleted; damaged ones excepted. Silent if that phase never ended.
//! - V10: every operation invoked in that phase or after has an end, unless its client was gone
//!   before one came, and none invoked in the final phase ends for want of an answer.

use std::collections::BTreeSet;

use crate::checker::cleaning::Topics;
use crate::checker::{Violation, Violations};
use crate::history::{Call, Ending, History, Note, Operation, Partition, Phase};

pub(super) fn check(history: &History, violations: &mut Violations) {
    let begins = |wanted: Phase| {
        let mut notes = history.notes.iter();
        notes.find_map(|(time, _, note)| match note {
            Note::Phase { phase } if *phase == wanted => Some(*time),
            _ => None,
        })
    };
    let Some(liveness) = begins(Phase::Liveness) else {
        return;
    };
    let ends = begins(Phase::Final);
    if let Some(ends) = ends {
        writable(history, liveness, ends, violations);
    }
    for op in history
        .operations
        .iter()
        .filter(|op| op.invoked >= liveness)
    {
        let is_final = ends.is_some_and(|ends| op.invoked >= ends);
        if op.returned == u64::MAX {
            if !went_after(history, op) {
                add(violations, op, "it was never answered");
            }
        } else if is_final && ran_out(op) {
            add(
                violations,
                op,
                "no answer came in time though all was healed",
            );
        }
    }
}

/// Whether the client of `op` was gone at some time after it asked.
fn went_after(history: &History, op: &Operation) -> bool {
    let mut notes = history.notes.iter();
    notes.any(|(time, process, note)| {
        matches!(note, Note::Gone) && *process == op.process && *time >= op.invoked
    })
}

fn ran_out(op: &Operation) -> bool {
    match &op.ending {
        Ending::Unknown(attempts) => attempts.last().is_some_and(|last| last.error == "TIMEOUT"),
        _ => false,
    }
}

fn add(violations: &mut Violations, op: &Operation, detail: &str) {
    violations.add(Violation {
        property: "V10",
        time: op.invoked,
        partition: None,
        operations: vec![op.op],
        detail: format!("{} asked and {detail}", op.process),
    });
}

fn writable(history: &History, from: u64, until: u64, violations: &mut Violations) {
    let topics = Topics::of(history);
    let mut written: BTreeSet<&Partition> = BTreeSet::new();
    for op in &history.operations {
        if let Call::Send { to, acks: -1, .. } = &op.call
            && op.answer().is_some()
            && op.invoked >= from
            && op.returned <= until
        {
            written.insert(to);
        }
    }
    let first = history.operations.first().map(|op| op.process.as_str());
    for (name, topic) in topics.names() {
        let made = topic.creates.iter().find(|op| {
            Some(op.process.as_str()) == first && op.answer().is_some() && op.returned < from
        });
        let (Some(made), true) = (made, topic.deletes.is_empty()) else {
            continue;
        };
        let grown = topic
            .grows
            .iter()
            .filter(|op| op.answer().is_some() && op.returned < from);
        let counts = grown.chain([made]).map(|op| match op.call {
            Call::CreateTopic { partitions, .. } | Call::CreatePartitions { partitions, .. } => {
                partitions
            }
            _ => 0,
        });
        for partition in 0..counts.max().unwrap_or(0) {
            let of = Partition {
                topic: name.to_owned(),
                partition,
            };
            if !written.contains(&of) && !topics.is_damaged(&of) {
                violations.add(Violation {
                    property: "V2",
                    time: until,
                    partition: Some(of),
                    operations: Vec::new(),
                    detail: "nothing could be written though all was healed".to_owned(),
                });
            }
        }
    }
}
