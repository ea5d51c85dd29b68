//! P11: the records of one batch are beside each other in the log, in the order they were sent.
//!
//! - P11a, order: a record was read at a lower offset than one before it in its batch.
//! - P11b, gap: two records of a batch were read at offsets that differ by more or less than
//!   their places in it. (Records of one *call* may be apart; here a send is one batch.)
//!
//! Nothing else is in the midst of a batch: P11b also if another record is known where one of it
//! belongs. A batch that may legally be in the log more than once is so as a whole each time: P11b
//! also if its records, all together, are where more copies than that would have to be.
//!
//! Holds for compacted topics too: compaction keeps offsets. Silent about how many copies there are
//! of a batch of which nobody knows how often it was tried, and about those of which one record was
//! read at too many offsets, which are P4's.

use crate::checker::index::NEVER;
use crate::checker::{Fact, Index, Log, Violation, Violations};

/// A record of a batch that was read: place of the send, place in the batch, offset, read at, by.
type Member = (usize, usize, i64, u64, u64);

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for log in &index.logs {
        for batch in members(index, log).chunk_by(|one, next| one.0 == next.0) {
            let before = found.count();
            match index.sends[batch[0].0].copies() {
                0 | 1 => whole(index, log, batch, found),
                u32::MAX => {}
                copies => copied(index, log, batch, copies, found),
            }
            if found.count() == before && index.sends[batch[0].0].records.len() > 1 {
                alone(index, log, batch, found);
            }
        }
    }
}

/// Nothing else is where another record of the batch belongs.
fn alone(index: &Index<'_>, log: &Log<'_>, batch: &[Member], found: &mut Violations) {
    let sent = &index.sends[batch[0].0];
    let length = i64::try_from(sent.records.len()).unwrap_or(i64::MAX);
    for member in batch {
        let base = begins(member);
        let facts = log.within(base..base.saturating_add(length));
        // Two records at one offset are P1's.
        for at_one in facts.chunk_by(|one, next| one.offset == next.offset) {
            let place = usize::try_from(at_one[0].offset.saturating_sub(base)).unwrap_or(0);
            let is_it = |fact: &Fact| fact.id == sent.records[place].id || !fact.is_told();
            if at_one.iter().any(is_it) {
                continue;
            }
            found.add(Violation {
                property: "P11b",
                time: member.3.max(at_one[0].known()),
                partition: Some(log.of.clone()),
                operations: vec![sent.operation.op, member.4, at_one[0].told_by],
                detail: format!(
                    "record {} of a batch is at offset {}, and at {}, where record {place} of it \
                     belongs, is record {}",
                    member.1, member.2, at_one[0].offset, at_one[0].id
                ),
            });
            return;
        }
    }
}

/// Where the batch begins that this is a record of.
fn begins(member: &Member) -> i64 {
    member
        .2
        .saturating_sub(i64::try_from(member.1).unwrap_or(i64::MAX))
}

/// Of a batch that is in the log once.
fn whole(index: &Index<'_>, log: &Log<'_>, batch: &[Member], found: &mut Violations) {
    let mut pairs = batch.iter().zip(batch.iter().skip(1));
    if pairs.clone().any(|(one, next)| one.1 == next.1) {
        return;
    }
    let apart = |one: &Member, next: &Member| {
        let places = i64::try_from(next.1 - one.1).unwrap_or(i64::MAX);
        next.2.saturating_sub(one.2) != places
    };
    let Some((one, next)) = pairs.find(|(one, next)| apart(one, next)) else {
        return;
    };
    found.add(Violation {
        property: if next.2 < one.2 { "P11a" } else { "P11b" },
        time: one.3.max(next.3),
        partition: Some(log.of.clone()),
        operations: vec![index.sends[one.0].operation.op, one.4, next.4],
        detail: format!(
            "records {} and {} of one batch are at offsets {} and {}",
            one.1, next.1, one.2, next.2
        ),
    });
}

/// Of a batch that may be in the log so many times.
fn copied(index: &Index<'_>, log: &Log<'_>, batch: &[Member], copies: u32, found: &mut Violations) {
    let copies = usize::try_from(copies).unwrap_or(usize::MAX);
    let sent = &index.sends[batch[0].0];
    let of_one = batch.chunk_by(|one, next| one.1 == next.1);
    if of_one.map(<[Member]>::len).max() > Some(copies) {
        return;
    }
    let acknowledged = sent.base_offset.filter(|_| sent.log.is_some());
    let mut bases: Vec<i64> = batch.iter().map(begins).chain(acknowledged).collect();
    bases.sort_unstable();
    bases.dedup();
    let length = i64::try_from(sent.records.len()).unwrap_or(i64::MAX);
    let are_apart = bases
        .windows(2)
        .all(|pair| pair[1].saturating_sub(pair[0]) >= length);
    if bases.len() <= copies && are_apart {
        return;
    }
    let mut operations: Vec<u64> = batch.iter().map(|member| member.4).collect();
    operations.push(sent.operation.op);
    operations.sort_unstable();
    operations.dedup();
    found.add(Violation {
        property: "P11b",
        time: batch
            .iter()
            .map(|member| member.3)
            .max()
            .unwrap_or_default(),
        partition: Some(log.of.clone()),
        operations,
        detail: format!(
            "records of one batch are where it would begin at {bases:?}, and it can be in the log \
             {copies} times"
        ),
    });
}

fn members(index: &Index<'_>, log: &Log<'_>) -> Vec<Member> {
    let seen = log.facts.iter().filter(|fact| fact.seen != NEVER);
    let mut members: Vec<Member> = seen
        .filter_map(|fact| {
            let (send, position) = index.place_of(fact.id)?;
            Some((send, position, fact.offset, fact.seen, fact.told_by))
        })
        .collect();
    members.sort_unstable();
    members
}
