//! P14, first half: the bounds of a log that one client is told never go down, and its start
//! moves only where it may.
//!
//! Bounds are the high watermark (of fetches, and as the latest offset), the last stable offset
//! and the log start (of fetches, sends, deletions of records, and as the earliest offset). Each
//! call is compared with those of the same client that ended before it began, crashes and power
//! losses between them included: what is visible is durable. A log start above all that was asked
//! to be deleted is wrong unless the topic deletes by age or size. Where partitions have copies,
//! only latest offsets are compared, and none with that of a later leader (KIP-207: a leader does
//! not tell its latest offset before it has reached its own epoch): what fetches tell of bounds is
//! what their leader knows so far, and who was replaced and does not know it yet tells old bounds.
//! Where logs begin is K6's there. Silent where a deletion of
//! the topic came between, about answers with an error, and for upper bounds of damaged
//! partitions.

use std::collections::BTreeMap;

use crate::checker::index::{Observation, regressions};
use crate::checker::{Index, Violation, Violations};
use crate::history::{Answer, Call, ListedAt, Operation, Partition};

const HIGH_WATERMARK: &str = "high watermark";
const LAST_STABLE: &str = "last stable offset";
const LOG_START: &str = "log start";

/// The client, the log, the bound.
type Told<'a> = BTreeMap<(&'a str, usize, &'static str), Vec<Observation>>;

pub fn check(index: &Index<'_>, found: &mut Violations) {
    let epochs = epochs(index);
    for ((_, log, bound), observations) in told(index) {
        let log = &index.logs[log];
        if bound == LOG_START {
            if !index.is_retained(log.of) {
                for one in &observations {
                    let floor = log.floor(one.returned);
                    if one.value > floor {
                        let detail =
                            format!("log start {} where none above {floor} was asked", one.value);
                        found.add(violation(log.of, one.returned, vec![one.op], detail));
                    }
                }
            }
        } else if log.damaged {
            continue;
        }
        let epoch = |op: u64| epochs.get(&op).copied();
        for wrong in regressions(observations) {
            if index.options.replicated && epoch(wrong.later.op) < epoch(wrong.earlier.op) {
                continue;
            }
            let detail = format!(
                "{bound} went from {} to {}",
                wrong.earlier.value, wrong.later.value
            );
            let operations = vec![wrong.earlier.op, wrong.later.op];
            found.add(violation(log.of, wrong.later.returned, operations, detail));
        }
    }
}

/// The leader epochs that answers to ListOffsets tell, by operation.
fn epochs(index: &Index<'_>) -> BTreeMap<u64, i32> {
    let operations = index.history.operations.iter();
    let told = operations.filter_map(|operation| match operation.answer()? {
        Answer::ListOffsets { leader_epoch, .. } => Some((operation.op, *leader_epoch)),
        _ => None,
    });
    told.collect()
}

fn violation(of: &Partition, time: u64, operations: Vec<u64>, detail: String) -> Violation {
    Violation {
        property: "P14",
        time,
        partition: Some(of.clone()),
        operations,
        detail,
    }
}

fn told<'a>(index: &Index<'a>) -> Told<'a> {
    let mut told = Told::new();
    let mut add = |log: Option<usize>, operation: &'a Operation, bound, value: i64| {
        let is_latest =
            bound == HIGH_WATERMARK && matches!(operation.call, Call::ListOffsets { .. });
        if index.options.replicated && !is_latest {
            return;
        }
        if let (Some(log), true) = (log, value >= 0) {
            let observations = told.entry((operation.process.as_str(), log, bound));
            observations.or_default().push(Observation {
                op: operation.op,
                invoked: operation.invoked,
                returned: operation.returned,
                value,
            });
        }
    };
    for poll in index
        .polls
        .iter()
        .filter(|poll| poll.fetched.error.is_none())
    {
        let (log, operation, fetched) = (poll.log, poll.operation, poll.fetched);
        add(log, operation, HIGH_WATERMARK, fetched.high_watermark);
        add(log, operation, LAST_STABLE, fetched.last_stable_offset);
        add(log, operation, LOG_START, fetched.log_start_offset);
    }
    for operation in &index.history.operations {
        let (of, bound, value) = match (&operation.call, operation.answer()) {
            (Call::ListOffsets { of, at }, Some(Answer::ListOffsets { offset, .. })) => match at {
                ListedAt::Latest => (of, HIGH_WATERMARK, *offset),
                ListedAt::Earliest => (of, LOG_START, *offset),
                ListedAt::Timestamp(_) => continue,
            },
            (
                Call::Send { to, .. },
                Some(Answer::Send {
                    log_start_offset, ..
                }),
            ) => (to, LOG_START, *log_start_offset),
            (Call::DeleteRecords { of, .. }, Some(Answer::DeleteRecords { log_start_offset })) => {
                (of, LOG_START, *log_start_offset)
            }
            _ => continue,
        };
        add(index.log_of(of, operation), operation, bound, value);
    }
    told
}
