//! P8 and P9: what a consumer is given continues what it was given before.
//!
//! A consumer's place in a partition is where [`Call::Assign`] put it, and then after the last
//! record it was given. An `Assign` forgets all places of its process.
//!
//! - P8, gap: the next record given is above the place, and an offset between is known to have a
//!   record. Silent for compacted topics and below the log start.
//! - P9, back: the next record given is below the place.
//!
//! Both are silent where a deletion of the topic came between, and about answers with an error.

use std::collections::HashMap;

use crate::checker::{Index, Poll, Violation, Violations};
use crate::history::{Call, Operation, Partition};

#[derive(Clone, Copy)]
struct Place {
    log: usize,
    next: i64,
    /// The operation that put it there.
    op: u64,
}

type Places<'a> = HashMap<&'a Partition, Place>;

pub fn check(index: &Index<'_>, found: &mut Violations) {
    let mut consumers: HashMap<&str, Places<'_>> = HashMap::new();
    let mut polls = index.polls.iter().peekable();
    for operation in &index.history.operations {
        match &operation.call {
            Call::Assign { positions } => {
                let places = consumers.entry(&operation.process).or_default();
                places.clear();
                for position in positions.iter().filter(|position| position.offset >= 0) {
                    if let Some(log) = index.log_of(&position.of, operation) {
                        let place = Place {
                            log,
                            next: position.offset,
                            op: operation.op,
                        };
                        places.insert(&position.of, place);
                    }
                }
            }
            Call::Read { .. } => {
                let places = consumers.entry(&operation.process).or_default();
                while let Some(poll) = polls.next_if(|poll| poll.operation.op == operation.op) {
                    advance(index, places, poll, found);
                }
            }
            _ => {}
        }
    }
}

fn advance<'a>(
    index: &Index<'_>,
    places: &mut Places<'a>,
    poll: &Poll<'a>,
    found: &mut Violations,
) {
    let of = &poll.fetched.of;
    let Some(log) = poll.log else {
        places.remove(of);
        return;
    };
    let ends = poll
        .fetched
        .records
        .first()
        .zip(poll.fetched.records.last());
    let Some((first, last)) = ends.filter(|_| poll.fetched.error.is_none()) else {
        return;
    };
    if let Some(place) = places.get(of).filter(|place| place.log == log) {
        judge(index, *place, poll.operation, of, first.offset, found);
    }
    let place = Place {
        log,
        next: last.offset.saturating_add(1),
        op: poll.operation.op,
    };
    places.insert(of, place);
}

fn judge(
    index: &Index<'_>,
    place: Place,
    operation: &Operation,
    of: &Partition,
    first: i64,
    found: &mut Violations,
) {
    let mut add = |property, operations, detail| {
        found.add(Violation {
            property,
            time: operation.returned,
            partition: Some(of.clone()),
            operations,
            detail,
        });
    };
    if first < place.next {
        let detail = format!("offset {first} after all below {} was given", place.next);
        add("P9", vec![place.op, operation.op], detail);
        return;
    }
    let log = &index.logs[place.log];
    if let Some(missing) = log.passed_over(place.next..first, operation.returned) {
        let detail = format!(
            "offset {first} where {} is next, and record {} is at offset {}",
            place.next, missing.id, missing.offset
        );
        add("P8", vec![missing.told_by, place.op, operation.op], detail);
    }
}
