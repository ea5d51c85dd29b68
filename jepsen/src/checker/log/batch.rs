//! P11: the records of one batch are beside each other in the log, in the order they were sent.
//!
//! - P11a, order: a record was read at a lower offset than one before it in its batch.
//! - P11b, gap: two records of a batch were read at offsets that differ by more or less than
//!   their places in it. (Records of one *call* may be apart; here a send is one batch.)
//!
//! Holds for compacted topics too: compaction keeps offsets. Silent about batches that
//! may legally be in the log more than once, and those of which a record was read at several
//! offsets, which are P4's.

use crate::checker::index::NEVER;
use crate::checker::{Index, Log, Violation, Violations};

/// A record of a batch that was read: place of the send, place in the batch, offset, read by.
type Member = (usize, usize, i64, u64, u64);

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for log in &index.logs {
        for batch in members(index, log).chunk_by(|one, next| one.0 == next.0) {
            let mut pairs = batch.iter().zip(batch.iter().skip(1));
            if pairs.clone().any(|(one, next)| one.1 == next.1) {
                continue;
            }
            let apart = |one: &Member, next: &Member| {
                let places = i64::try_from(next.1 - one.1).unwrap_or(i64::MAX);
                next.2.saturating_sub(one.2) != places
            };
            let Some((one, next)) = pairs.find(|(one, next)| apart(one, next)) else {
                continue;
            };
            let property = if next.2 < one.2 { "P11a" } else { "P11b" };
            let operation = index.sends[one.0].operation;
            found.add(Violation {
                property,
                time: one.3.max(next.3),
                partition: Some(log.of.clone()),
                operations: vec![operation.op, one.4, next.4],
                detail: format!(
                    "records {} and {} of one batch are at offsets {} and {}",
                    one.1, next.1, one.2, next.2
                ),
            });
        }
    }
}

fn members(index: &Index<'_>, log: &Log<'_>) -> Vec<Member> {
    let seen = log.facts.iter().filter(|fact| fact.seen != NEVER);
    let mut members: Vec<Member> = seen
        .filter_map(|fact| {
            let (send, position) = index.place_of(fact.id)?;
            let is_single = index.sends[send].copies() <= 1;
            is_single.then_some((send, position, fact.offset, fact.seen, fact.told_by))
        })
        .collect();
    members.sort_unstable();
    members
}
