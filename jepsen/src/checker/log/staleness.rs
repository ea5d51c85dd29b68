//! P13: in the final phase reads are fresh.
//!
//! A record that was acknowledged or read before a call of the final phase began is within the
//! bounds the call tells: the high watermark of a fetch, and the latest offset, are above it. A
//! fetch that returns nothing at all, and no error, has no such record at or above its position.
//!
//! Before the final phase staleness is legal (a leader that was replaced and does not know it yet
//! may serve old, never wrong, data) and only measured: see [`crate::checker::metrics`]. Silent
//! for damaged partitions; about empty answers also for compacted topics and below the log start.

use crate::checker::{Index, Poll, Violation, Violations};
use crate::history::{Answer, Call, ListedAt, Operation, Partition};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    let finals = |operation: &Operation| index.is_final(operation);
    for poll in index.polls.iter().filter(|poll| finals(poll.operation)) {
        if poll.fetched.error.is_none() {
            let end = poll.fetched.high_watermark;
            bound(index, poll.operation, &poll.fetched.of, end, found);
        }
    }
    for answer in index
        .polls
        .chunk_by(|one, next| one.operation.op == next.operation.op)
    {
        let is_empty =
            |poll: &Poll<'_>| poll.fetched.error.is_none() && poll.fetched.records.is_empty();
        if finals(answer[0].operation) && answer.iter().all(is_empty) {
            answer.iter().for_each(|poll| empty(index, poll, found));
        }
    }
    for operation in index.history.operations.iter().filter(|one| finals(one)) {
        if let (Call::ListOffsets { of, at }, Some(Answer::ListOffsets { offset, .. })) =
            (&operation.call, operation.answer())
            && *at == ListedAt::Latest
        {
            bound(index, operation, of, *offset, found);
        }
    }
}

fn bound(
    index: &Index<'_>,
    operation: &Operation,
    of: &Partition,
    end: i64,
    found: &mut Violations,
) {
    let Some(log) = index.log_of(of, operation).map(|log| &index.logs[log]) else {
        return;
    };
    let known = log.last_known(operation.invoked);
    let Some(known) = known.filter(|known| !log.damaged && (0..=*known).contains(&end)) else {
        return;
    };
    found.add(Violation {
        property: "P13",
        time: operation.returned,
        partition: Some(of.clone()),
        operations: vec![operation.op],
        detail: format!("the log is said to end at {end}, and offset {known} was known"),
    });
}

fn empty(index: &Index<'_>, poll: &Poll<'_>, found: &mut Violations) {
    let Some(log) = poll.log.map(|log| &index.logs[log]) else {
        return;
    };
    let operation = poll.operation;
    let least = poll.fetched.from.max(log.floor(operation.returned));
    let known = log.last_known(operation.invoked);
    let is_silent = log.damaged || log.compacted;
    let Some(known) = known.filter(|known| !is_silent && least <= *known) else {
        return;
    };
    found.add(Violation {
        property: "P13",
        time: operation.returned,
        partition: Some(poll.fetched.of.clone()),
        operations: vec![operation.op],
        detail: format!(
            "nothing was read from {}, and offset {known} was known",
            poll.fetched.from
        ),
    });
}
