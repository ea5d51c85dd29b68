//! P12: appends are in real-time order. A record that was acknowledged or read before the send of
//! another began is below it.
//!
//! With offsets as given and every value at its own, this, P1, P5 and P6 are what makes the log
//! linearizable. One sweep from the highest offset down that keeps the earliest end so far.
//! Times that are equal are taken to overlap. Silent about records that nobody sent.

use crate::checker::{Fact, Index, Violation, Violations};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for log in &index.logs {
        let mut earliest: Option<&Fact> = None;
        for fact in log.facts.iter().rev().filter(|fact| fact.is_told()) {
            let Some((sent, _)) = index.sent(fact.id) else {
                continue;
            };
            let invoked = sent.operation.invoked;
            if let Some(above) = earliest.filter(|above| above.known() < invoked) {
                found.add(Violation {
                    property: "P12",
                    time: fact.known(),
                    partition: Some(log.of.clone()),
                    operations: vec![above.told_by, sent.operation.op],
                    detail: format!(
                        "record {}, known before record {} was sent, is at offset {}, above {}",
                        above.id, fact.id, above.offset, fact.offset
                    ),
                });
            }
            if earliest.is_none_or(|above| fact.known() < above.known()) {
                earliest = Some(fact);
            }
        }
    }
}
