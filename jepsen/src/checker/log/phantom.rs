//! P5: every value read was sent to that partition, before the read ended, by a send that did not
//! certainly fail, and belongs to the era it is read in.
//!
//! A value read in two eras, or acknowledged in one and read in another, is a mix of two topics,
//! unless some attempt of its send had no known end: that one may have been appended to the other
//! topic of the name. Silent about records without an id, which are P15's, and about the era of
//! reads that overlap a deletion.

use std::collections::HashMap;

use crate::checker::{Index, Poll, Sent, Violation, Violations};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    // The log each record was first read from.
    let mut first: HashMap<u64, usize> = HashMap::new();
    for poll in &index.polls {
        for seen in &poll.fetched.records {
            let Some(id) = seen.id else { continue };
            let Some((sent, _)) = index.sent(id) else {
                add(poll, None, seen.offset, id, "was never sent", found);
                continue;
            };
            if let Some(why) = origin(sent, poll) {
                add(poll, Some(sent), seen.offset, id, why, found);
            }
            let Some(log) = poll.log else { continue };
            let home = *first.entry(id).or_insert(log);
            if mixes(index, sent, poll, home) {
                let why = "belongs to another topic of the same name";
                add(poll, Some(sent), seen.offset, id, why, found);
            }
        }
    }
}

fn origin(sent: &Sent<'_>, poll: &Poll<'_>) -> Option<&'static str> {
    if *sent.to != poll.fetched.of {
        Some("was sent to another partition")
    } else if sent.operation.failed() {
        Some("was refused")
    } else if poll.operation.returned < sent.operation.invoked {
        Some("was sent later")
    } else {
        None
    }
}

fn mixes(index: &Index<'_>, sent: &Sent<'_>, poll: &Poll<'_>, home: usize) -> bool {
    let Some(log) = poll.log.filter(|_| *sent.to == poll.fetched.of) else {
        return false;
    };
    let acknowledged_elsewhere = sent.log.is_some_and(|of| of != log) && !sent.late;
    let read_elsewhere =
        home != log && index.logs[home].of == index.logs[log].of && sent.appends <= 1;
    acknowledged_elsewhere || read_elsewhere
}

fn add(
    poll: &Poll<'_>,
    sent: Option<&Sent<'_>>,
    offset: i64,
    id: u64,
    why: &str,
    found: &mut Violations,
) {
    let sender = sent.map(|sent| sent.operation.op);
    found.add(Violation {
        property: "P5",
        time: poll.operation.returned,
        partition: Some(poll.fetched.of.clone()),
        operations: sender.into_iter().chain([poll.operation.op]).collect(),
        detail: format!("record {id}, read at offset {offset}, {why}"),
    });
}
