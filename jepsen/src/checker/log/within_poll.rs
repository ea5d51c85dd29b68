//! P6 and P7: what one answer gives of a partition is a piece of the log, from the position asked
//! for on.
//!
//! - P6, gap: between the position and the first record, or between two records that follow each
//!   other in the answer, there is an offset that is known to have a record. Gaps that nobody
//!   knows a record for are legal. When it became known does not matter: a log grows at its end
//!   only, so a record below one that is visible is visible. Silent for compacted topics, below
//!   the log start, and for reads that overlap a deletion of the topic.
//! - P7, order: offsets do not rise, or are below the position. Never silent.

use crate::checker::{Index, Poll, Violation, Violations};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for poll in &index.polls {
        let mut next = poll.fetched.from;
        for seen in &poll.fetched.records {
            if seen.offset < next {
                let detail = format!("offset {} where {next} or more had to be", seen.offset);
                found.add(violation("P7", poll, Vec::new(), detail));
                break;
            }
            gap(index, poll, next, seen.offset, found);
            next = seen.offset.saturating_add(1);
        }
    }
}

fn gap(index: &Index<'_>, poll: &Poll<'_>, from: i64, to: i64, found: &mut Violations) {
    let Some(log) = poll.log.map(|log| &index.logs[log]) else {
        return;
    };
    if let Some(missing) = log.passed_over(from..to, poll.operation.returned) {
        let detail = format!(
            "offset {to} follows position {from}, and record {} is at offset {}",
            missing.id, missing.offset
        );
        found.add(violation("P6", poll, vec![missing.told_by], detail));
    }
}

fn violation(
    property: &'static str,
    poll: &Poll<'_>,
    mut operations: Vec<u64>,
    detail: String,
) -> Violation {
    operations.push(poll.operation.op);
    Violation {
        property,
        time: poll.operation.returned,
        partition: Some(poll.fetched.of.clone()),
        operations,
        detail,
    }
}
