//! P1: in one era, an offset of a partition has one value for ever, whoever tells it: sends that
//! were acknowledged and reads, of any time.
//!
//! Compaction, retention and damage excuse that a record is gone, not that another is in its
//! place. Silent about records that carry no id (P15 is not), and about what is only implied by
//! other records of a batch.

use crate::checker::{Fact, Index, Violation, Violations};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for log in &index.logs {
        let told: Vec<&Fact> = log.facts.iter().filter(|fact| fact.is_told()).collect();
        let neighbours = told.iter().zip(told.iter().skip(1));
        for (one, other) in neighbours.filter(|(one, other)| one.offset == other.offset) {
            found.add(Violation {
                property: "P1",
                time: one.known().max(other.known()),
                partition: Some(log.of.clone()),
                operations: vec![one.told_by, other.told_by],
                detail: format!(
                    "offset {} has record {} and record {}",
                    one.offset, one.id, other.id
                ),
            });
        }
    }
}
