//! The part of a history that a violation is about: few enough operations and notes to be drawn.

use std::collections::BTreeSet;

use crate::checker::Violation;
use crate::history::{Answer, Call, History, Note, Operation, Partition};

/// Operations beside those that contradict each other.
const AROUND_MAX: usize = 28;
const OFFENDING_MAX: usize = 24;
const NOTES_MAX: usize = 36;

/// What is shown of a violation.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    /// In the order of their invocations.
    pub operations: Vec<&'a Operation>,
    /// Numbers of those that contradict each other, and of the sends of records that are named.
    pub offending: BTreeSet<u64>,
    /// Records that they are about, if they are few.
    pub records: BTreeSet<u64>,
    pub notes: Vec<(u64, &'a str, &'a Note)>,
}

/// What an operation touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Partition(&'a Partition),
    Group(&'a str),
    Topic(&'a str),
}

impl<'a> Scene<'a> {
    pub fn of(history: &'a History, violation: &'a Violation) -> Self {
        let mut found: Vec<&Operation> = Vec::new();
        for op in &violation.operations {
            let place = history.operations.binary_search_by_key(op, |one| one.op);
            found.extend(place.map(|place| &history.operations[place]));
        }
        found.truncate(OFFENDING_MAX);
        let named = named(&violation.detail);
        let is_named = |one: &&Operation| match &one.call {
            Call::Send { records, .. } => records.iter().any(|record| named.contains(&record.id)),
            _ => false,
        };
        if !named.is_empty() {
            found.extend(history.operations.iter().filter(is_named));
            found.sort_by_key(|one| one.op);
            found.dedup_by_key(|one| one.op);
        }
        let offending: BTreeSet<u64> = found.iter().map(|one| one.op).collect();
        let keys: BTreeSet<Key<'_>> = match &violation.partition {
            Some(of) => [Key::Partition(of)].into(),
            None => found.iter().flat_map(|one| keys(&one.call)).collect(),
        };
        let moments = moments(&found, violation.time);
        let is_near = |one: &&Operation| {
            !offending.contains(&one.op) && keys_meet(&keys, &one.call) && !is_empty(one)
        };
        let mut around: Vec<(u64, &Operation)> = history
            .operations
            .iter()
            .filter(is_near)
            .map(|one| (distance(one, &moments), one))
            .collect();
        around.sort_by_key(|(distance, one)| (*distance, one.op));
        around.truncate(AROUND_MAX);
        found.extend(around.into_iter().map(|(_, one)| one));
        found.sort_by_key(|one| one.op);
        found.dedup_by_key(|one| one.op);
        let records = records(&found, &offending);
        let notes = notes(history, violation, &found, &moments);
        Self {
            operations: found,
            offending,
            records,
            notes,
        }
    }
}

/// The records that a violation's text names, as `record 17`.
fn named(detail: &str) -> BTreeSet<u64> {
    let mut named = BTreeSet::new();
    for rest in detail.split("record ").skip(1) {
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next();
        named.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    named
}

/// When something of interest happened.
fn moments(offending: &[&Operation], time: u64) -> Vec<u64> {
    let ends = offending.iter().flat_map(|one| [one.invoked, one.returned]);
    let mut moments: Vec<u64> = ends.chain([time]).filter(|at| *at != u64::MAX).collect();
    moments.sort_unstable();
    moments.dedup();
    moments
}

fn distance(operation: &Operation, moments: &[u64]) -> u64 {
    let nearest = moments.iter().map(|moment| {
        let from_end = match operation.returned {
            u64::MAX => u64::MAX,
            end => end.abs_diff(*moment),
        };
        operation.invoked.abs_diff(*moment).min(from_end)
    });
    nearest.min().unwrap_or(u64::MAX)
}

/// Reads that came back with nothing: there are many, and they show nothing.
fn is_empty(operation: &Operation) -> bool {
    match operation.answer() {
        Some(Answer::Read { partitions }) => {
            let is_nothing =
                |one: &crate::history::Fetched| one.records.is_empty() && one.error.is_none();
            partitions.iter().all(is_nothing)
        }
        _ => false,
    }
}

fn keys(call: &Call) -> Vec<Key<'_>> {
    match call {
        Call::Send { to: of, .. }
        | Call::ListOffsets { of, .. }
        | Call::DeleteRecords { of, .. } => vec![Key::Partition(of)],
        Call::Read { from, .. } | Call::Assign { positions: from } => {
            from.iter().map(|one| Key::Partition(&one.of)).collect()
        }
        Call::Join(join) => vec![Key::Group(&join.group)],
        Call::Heartbeat(by) | Call::Leave(by) => vec![Key::Group(&by.group)],
        Call::Commit { by, offsets } => {
            let of = offsets.iter().map(|one| Key::Partition(&one.of));
            of.chain([Key::Group(&by.group)]).collect()
        }
        Call::FetchCommitted { group, of } | Call::DeleteOffsets { group, of } => {
            let of = of.iter().map(Key::Partition);
            of.chain([Key::Group(group)]).collect()
        }
        Call::DescribeGroup { group } | Call::DeleteGroup { group } => vec![Key::Group(group)],
        Call::CreateTopic { topic, .. }
        | Call::DeleteTopic { topic }
        | Call::CreatePartitions { topic, .. }
        | Call::DescribeTopic { topic }
        | Call::AlterConfig { topic, .. }
        | Call::DescribeConfig { topic, .. } => vec![Key::Topic(topic)],
        Call::InitProducer
        | Call::CreateLink { .. }
        | Call::Promote { .. }
        | Call::DescribeLink { .. } => Vec::new(),
    }
}

fn keys_meet(wanted: &BTreeSet<Key<'_>>, call: &Call) -> bool {
    keys(call).into_iter().any(|key| {
        wanted.contains(&key)
            || match key {
                // What is done to a topic is done to its partitions.
                Key::Topic(topic) => wanted
                    .iter()
                    .any(|one| matches!(one, Key::Partition(of) if of.topic == topic)),
                _ => false,
            }
    })
}

/// The records that offending sends carry.
fn records(found: &[&Operation], offending: &BTreeSet<u64>) -> BTreeSet<u64> {
    let offending = found.iter().filter(|one| offending.contains(&one.op));
    let sent = offending.filter_map(|one| match &one.call {
        Call::Send { records, .. } => Some(records.iter().map(|record| record.id)),
        _ => None,
    });
    sent.flatten().take(64).collect()
}

/// What happened to nodes between the first and the last of these, the nearest.
fn notes<'a>(
    history: &'a History,
    violation: &Violation,
    found: &[&Operation],
    moments: &[u64],
) -> Vec<(u64, &'a str, &'a Note)> {
    let first = found.iter().map(|one| one.invoked).min().unwrap_or(0);
    let is_of_other = |note: &Note| match (note, &violation.partition) {
        (Note::Leading { of, .. } | Note::Damaged { of }, Some(wanted)) => of != wanted,
        (Note::Ends { ends }, Some(wanted)) => ends.of != *wanted,
        (Note::Leading { .. } | Note::Ends { .. }, None) => true,
        (Note::Gone, _) => true,
        _ => false,
    };
    let mut notes: Vec<(u64, u64, &str, &Note)> = history
        .notes
        .iter()
        .filter(|(_, _, note)| super::words::note(note).is_some() && !is_of_other(note))
        .map(|(time, process, note)| {
            let nearest = moments.iter().map(|moment| time.abs_diff(*moment)).min();
            // What was so when it began counts too: the last before.
            let early = if *time < first { first - time } else { 0 };
            let far = nearest.unwrap_or(0).saturating_add(early);
            (far, *time, process.as_str(), note)
        })
        .collect();
    notes.sort_by_key(|(far, time, process, _)| (*far, *time, *process));
    notes.truncate(NOTES_MAX);
    let mut notes: Vec<_> = notes
        .into_iter()
        .map(|(_, time, process, note)| (time, process, note))
        .collect();
    notes.sort_by_key(|(time, process, _)| (*time, *process));
    notes
}
