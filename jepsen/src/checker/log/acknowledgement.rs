//! P16: acknowledgements tell the truth.
//!
//! - A record that was read is where its acknowledgement said.
//! - That the broker has the batch already is no answer to a batch of which only one attempt can
//!   have reached it; nor is a base offset below -1 ever.
//! - The log append time is one where the topic says so, and -1 where not.
//! - The log start is not above all that was asked to be deleted, unless the topic deletes by age
//!   or size.
//!
//! Silent about `acks=0`, about where records are whose batch may legally be in the log more than
//! once, and about sends that overlap a deletion of the topic.

use crate::checker::index::NEVER;
use crate::checker::{Index, Log, Sent, Timestamps, Violation, Violations};
use crate::history::{Answer, Partition};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for sent in index.sends.iter().filter(|sent| sent.acks != 0) {
        if let Some(detail) = falsehood(index, sent) {
            let to = sent.to.clone();
            found.add(violation(
                to,
                sent.operation.returned,
                vec![sent.operation.op],
                detail,
            ));
        }
    }
    for log in &index.logs {
        elsewhere(index, log, found);
    }
}

fn violation(of: Partition, time: u64, operations: Vec<u64>, detail: String) -> Violation {
    Violation {
        property: "P16",
        time,
        partition: Some(of),
        operations,
        detail,
    }
}

fn falsehood(index: &Index<'_>, sent: &Sent<'_>) -> Option<String> {
    let Some(Answer::Send {
        base_offset,
        log_append_time,
        log_start_offset,
        ..
    }) = sent.operation.answer()
    else {
        return None;
    };
    if *base_offset < -1 {
        return Some(format!("base offset {base_offset}"));
    }
    if *base_offset < 0 {
        let is_first = sent.appends <= 1;
        return is_first.then(|| "a batch that was sent once is called a duplicate".to_owned());
    }
    let is_legal = match index.topic(&sent.to.topic).timestamps {
        Timestamps::Create => *log_append_time == -1,
        // A library tells none that is the record's own timestamp.
        Timestamps::LogAppend => *log_append_time >= 0 || sent.library.is_some(),
        Timestamps::Unsure => true,
    };
    if !is_legal {
        return Some(format!("log append time {log_append_time}"));
    }
    let floor = index.logs[sent.log?].floor(sent.operation.returned);
    let is_legal = *log_start_offset <= floor || index.is_retained(sent.to);
    (!is_legal).then(|| format!("log start {log_start_offset} where none above {floor} was asked"))
}

fn elsewhere(index: &Index<'_>, log: &Log<'_>, found: &mut Violations) {
    for places in log.records() {
        let facts = || places.iter().map(|at| &log.facts[*at]);
        let acked = facts().find(|fact| fact.acked != NEVER && fact.seen == NEVER);
        let seen = facts().find(|fact| fact.seen != NEVER);
        let (Some(acked), Some(seen)) = (acked, seen) else {
            continue;
        };
        let sent = index.sent(acked.id).map(|(sent, _)| sent);
        let Some(sent) = sent.filter(|sent| sent.copies() <= 1) else {
            continue;
        };
        let detail = format!(
            "record {} was acknowledged at offset {} and read at {}",
            acked.id, acked.offset, seen.offset
        );
        let operations = vec![sent.operation.op, seen.told_by];
        let time = acked.acked.max(seen.seen);
        found.add(violation(log.of.clone(), time, operations, detail));
    }
}
