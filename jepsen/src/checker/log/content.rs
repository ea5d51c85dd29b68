//! P15: a record is read as it was sent: key, null value, digest of it all, timestamp, and the
//! producer id, epoch and sequence of its batch, or without them, where neither its sender nor its
//! reader is a client library, which tells none.
//!
//! A record without an id is damage that the broker served. On topics where the broker sets
//! timestamps they are not negative, and as the acknowledgement told; where that setting changed,
//! any timestamp is legal. Silent about records that nobody sent, which are P5's.

use crate::checker::{Index, Poll, Sent, Timestamps, Violation, Violations};
use crate::history::{Answer, Call, Operation, Seen, Stamp};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for poll in &index.polls {
        for seen in &poll.fetched.records {
            let Some(id) = seen.id else {
                let what = "cannot be read".to_owned();
                found.add(violation(poll, seen, None, &what));
                continue;
            };
            let Some((sent, position)) = index.sent(id) else {
                continue;
            };
            if let Some(what) = difference(index, sent, position, poll, seen) {
                found.add(violation(poll, seen, Some(sent), &what));
            }
        }
    }
}

fn violation(poll: &Poll<'_>, seen: &Seen, sent: Option<&Sent<'_>>, what: &str) -> Violation {
    let sender = sent.map(|sent| sent.operation.op);
    let id = seen.id.map_or_else(String::new, |id| format!(" {id}"));
    Violation {
        property: "P15",
        time: poll.operation.returned,
        partition: Some(poll.fetched.of.clone()),
        operations: sender.into_iter().chain([poll.operation.op]).collect(),
        detail: format!("record{id} at offset {} {what}", seen.offset),
    }
}

fn difference(
    index: &Index<'_>,
    sent: &Sent<'_>,
    position: usize,
    poll: &Poll<'_>,
    seen: &Seen,
) -> Option<String> {
    let written = &sent.records[position];
    if seen.key != written.key {
        return Some(format!("has key {:?}, not {:?}", seen.key, written.key));
    }
    if seen.tombstone != written.tombstone {
        return Some("is a tombstone in one place and not the other".to_owned());
    }
    if seen.digest != written.digest {
        let (one, other) = (seen.digest, written.digest);
        return Some(format!("has digest {one:08x}, not {other:08x}"));
    }
    let stamp = sent.stamp.map(|stamp| stamp_of(stamp, position));
    let is_known = sent.library.is_none() && !is_of_library(poll.operation);
    if is_known && seen.stamp != stamp {
        return Some(format!("has stamp {:?}, not {stamp:?}", seen.stamp));
    }
    let (is_legal, legal) = match index.topic(&poll.fetched.of.topic).timestamps {
        Timestamps::Create => (seen.timestamp == written.timestamp, written.timestamp),
        Timestamps::LogAppend => {
            let told = told_time(sent, position, poll, seen);
            let is_told = told.is_none_or(|told| told == seen.timestamp);
            (seen.timestamp >= 0 && is_told, told.unwrap_or(0))
        }
        Timestamps::Unsure => (true, 0),
    };
    (!is_legal).then(|| format!("has timestamp {}, not {legal}", seen.timestamp))
}

fn is_of_library(read: &Operation) -> bool {
    matches!(read.call, Call::Read { library: true, .. })
}

/// Sequences go from the highest `i32` on to 0 (KIP-98).
fn stamp_of(stamp: Stamp, position: usize) -> Stamp {
    let next = i64::from(stamp.sequence).saturating_add_unsigned(position as u64);
    let sequence = next & i64::from(i32::MAX);
    Stamp {
        sequence: i32::try_from(sequence).unwrap_or(i32::MAX),
        ..stamp
    }
}

/// The time the acknowledgement told for this copy of the record.
fn told_time(sent: &Sent<'_>, position: usize, poll: &Poll<'_>, seen: &Seen) -> Option<i64> {
    let Some(Answer::Send {
        log_append_time, ..
    }) = sent.operation.answer()
    else {
        return None;
    };
    let offset = sent.base_offset?.checked_add_unsigned(position as u64)?;
    let is_this = offset == seen.offset && sent.log.is_some() && sent.log == poll.log;
    let told = match (*log_append_time, sent.library) {
        (-1, Some(_)) => sent.records[position].timestamp,
        (told, _) => told,
    };
    (is_this && told >= 0).then_some(told)
}
