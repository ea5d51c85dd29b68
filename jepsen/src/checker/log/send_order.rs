//! P10: records that one producer sent later have higher offsets.
//!
//! Demanded of acknowledged sends of one process to one partition, of which the first ended before
//! the second began, or which an idempotent producer wrote to its connection one after the other:
//! the broker takes its batches in the order of their sequences only. Silent about pipelined
//! sends without idempotence, whose retries may overtake each other, about sends that overlap a
//! deletion of the topic, and about those acknowledged without an offset unless a read tells
//! where they are.
//!
//! A violation is there once both are answered, also where one was to come before the other because
//! it was written first.

use std::collections::{BTreeMap, BTreeSet};

use crate::checker::index::{Observation, regressions};
use crate::checker::{Index, Sent, Violation, Violations};

/// Process and log; then the producer, for those that were pipelined in order.
type Stream<'a> = (&'a str, usize, Option<(i64, i16)>);

pub fn check(index: &Index<'_>, found: &mut Violations) {
    let mut streams: BTreeMap<Stream<'_>, Vec<Observation>> = BTreeMap::new();
    let mut answered: BTreeMap<u64, u64> = BTreeMap::new();
    for sent in &index.sends {
        let (Some(log), Some(offset)) = (sent.log, offset(index, sent)) else {
            continue;
        };
        let seen = Observation {
            op: sent.operation.op,
            invoked: sent.operation.invoked,
            returned: sent.operation.returned,
            value: offset,
        };
        answered.insert(seen.op, seen.returned);
        let process = sent.operation.process.as_str();
        streams.entry((process, log, None)).or_default().push(seen);
        if let Some(stamp) = sent.stamp {
            // One after the other, as if each ended when it began.
            let producer = Some((stamp.producer_id, stamp.producer_epoch));
            let written = Observation {
                returned: seen.invoked,
                ..seen
            };
            let stream = streams.entry((process, log, producer)).or_default();
            stream.push(written);
        }
    }
    let mut known = BTreeSet::new();
    for ((_, log, _), observations) in streams {
        for wrong in regressions(observations) {
            let operations = vec![wrong.earlier.op, wrong.later.op];
            if !known.insert(operations.clone()) {
                continue;
            }
            let times = operations.iter().filter_map(|op| answered.get(op));
            found.add(Violation {
                property: "P10",
                time: times.copied().max().unwrap_or_default(),
                partition: Some(index.logs[log].of.clone()),
                operations,
                detail: format!(
                    "the later send is at offset {}, the earlier at {}",
                    wrong.later.value, wrong.earlier.value
                ),
            });
        }
    }
}

/// Of the first record.
fn offset(index: &Index<'_>, sent: &Sent<'_>) -> Option<i64> {
    let read = || {
        let record = sent.records.first()?;
        index.logs[sent.log?].only_place(record.id)
    };
    let promised = sent.is_promised(index.options);
    promised.then(|| sent.base_offset.or_else(read)).flatten()
}
