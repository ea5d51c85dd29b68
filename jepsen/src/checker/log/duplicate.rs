//! P4: a value is at one offset of a log.
//!
//! An idempotent producer's batch is there at most once, however often it was tried; without
//! idempotence, at most once for each attempt that may have been appended. Silent about clients
//! that vanished while they sent without idempotence: nobody knows how often they tried. Records
//! that nobody sent are P5's.

use crate::checker::index::NEVER;
use crate::checker::{Index, Violation, Violations};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for log in &index.logs {
        for places in log.records() {
            let facts = places.iter().map(|at| &log.facts[*at]);
            let seen: Vec<_> = facts.filter(|fact| fact.seen != NEVER).collect();
            let [first, .., last] = seen.as_slice() else {
                continue;
            };
            let Some((sent, _)) = index.sent(first.id) else {
                continue;
            };
            let copies = usize::try_from(sent.copies().max(1)).unwrap_or(usize::MAX);
            if seen.len() <= copies {
                continue;
            }
            found.add(Violation {
                property: "P4",
                time: seen.iter().map(|fact| fact.seen).max().unwrap_or_default(),
                partition: Some(log.of.clone()),
                operations: vec![sent.operation.op, first.told_by, last.told_by],
                detail: format!(
                    "record {} is at {} offsets, among them {} and {}; at most {copies} may be",
                    first.id,
                    seen.len(),
                    first.offset,
                    last.offset
                ),
            });
        }
    }
}
