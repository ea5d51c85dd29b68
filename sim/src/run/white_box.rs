//! What clients were told at the end, against what lies on the disk after the stop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use klamm_jepsen::history::{Answer, Call, Event, Partition, What};

use crate::audit::{Finding, committed_offsets, log_contents};
use crate::workload::finals::PROCESS;

/// The header that carries a record's id: 8 bytes, big end first.
const ID_HEADER: &str = "id";

/// R14: the records that the final reads returned lie on the disk as they were returned, unless
/// cleaning took them since.
pub(super) fn records(events: &[Event], files: &[(PathBuf, Bytes)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut stored: BTreeMap<Partition, BTreeMap<i64, Option<u64>>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.process == PROCESS) {
        if let What::Ok {
            answer: Answer::Read { partitions },
            ..
        } = &event.what
        {
            for fetched in partitions {
                let on_disk = stored
                    .entry(fetched.of.clone())
                    .or_insert_with(|| ids(files, &fetched.of));
                let seen = fetched.records.iter().map(|seen| (seen.offset, seen.id));
                findings.extend(differing(&fetched.of, on_disk, seen));
            }
        }
    }
    findings
}

/// CG7: the committed offsets that were answered are those of the group log. A change whose outcome
/// its client never learnt may have come after the answer.
pub(super) fn offsets(events: &[Event], files: &[(PathBuf, Bytes)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let committed = committed_offsets(files);
    let late = late_changes(events);
    let mut groups: BTreeMap<u64, &str> = BTreeMap::new();
    for event in events.iter().filter(|event| event.process == PROCESS) {
        match &event.what {
            What::Invoke {
                op,
                call: Call::FetchCommitted { group, .. },
            } => {
                groups.insert(*op, group);
            }
            What::Ok {
                op,
                answer: Answer::FetchCommitted { offsets },
            } => {
                let Some(group) = groups.get(op) else {
                    continue;
                };
                for told in offsets {
                    let kept = committed.get(&((*group).to_owned(), told.of.clone()));
                    let kept = kept.map_or((-1, ""), |at| (at.offset, at.metadata.as_str()));
                    let may_be_late = late.contains(&(*group, &told.of, kept.0, kept.1));
                    if kept != (told.offset, told.metadata.as_str()) && !may_be_late {
                        let (offset, metadata) = (told.offset, &told.metadata);
                        findings.push(Finding {
                            property: "CG7",
                            partition: Some(told.of.clone()),
                            detail: format!(
                                "group {group} was told {offset} `{metadata}`, its log says \
                                 {kept:?}"
                            ),
                        });
                    }
                }
            }
            _ => {}
        }
    }
    findings
}

/// A group, a partition, and the committed offset and metadata that a change leaves.
type Committing<'a> = (&'a str, &'a Partition, i64, &'a str);

/// The changes of committed offsets whose outcome is not known: what was asked may come any time.
fn late_changes(events: &[Event]) -> BTreeSet<Committing<'_>> {
    let known: BTreeSet<u64> = events
        .iter()
        .filter_map(|event| match &event.what {
            What::Ok { op, .. } | What::Fail { op, .. } => Some(*op),
            _ => None,
        })
        .collect();
    let mut late = BTreeSet::new();
    for event in events {
        match &event.what {
            What::Invoke { op, call } if !known.contains(op) => match call {
                Call::Commit { by, offsets } => late.extend(
                    offsets
                        .iter()
                        .map(|at| (by.group.as_str(), &at.of, at.offset, at.metadata.as_str())),
                ),
                Call::DeleteOffsets { group, of } => {
                    late.extend(of.iter().map(|of| (group.as_str(), of, -1, "")));
                }
                _ => {}
            },
            _ => {}
        }
    }
    late
}

/// Ids of a partition's records by offset; none where a record has no id that can be read.
fn ids(files: &[(PathBuf, Bytes)], of: &Partition) -> BTreeMap<i64, Option<u64>> {
    let stored = log_contents(files, &of.topic, of.partition).into_iter();
    let id = |bytes: &Bytes| {
        <[u8; 8]>::try_from(bytes.as_ref())
            .map(u64::from_be_bytes)
            .ok()
    };
    stored
        .map(|stored| (stored.offset, stored.header(ID_HEADER).and_then(id)))
        .collect()
}

fn differing(
    of: &Partition,
    on_disk: &BTreeMap<i64, Option<u64>>,
    seen: impl Iterator<Item = (i64, Option<u64>)>,
) -> Vec<Finding> {
    let finding = |offset: i64, seen: Option<u64>, kept: Option<u64>| Finding {
        property: "R14",
        partition: Some(of.clone()),
        detail: format!("offset {offset} was read as record {seen:?} and is stored as {kept:?}"),
    };
    seen.filter_map(|(offset, seen)| {
        let kept = *on_disk.get(&offset)?;
        (kept != seen).then(|| finding(offset, seen, kept))
    })
    .collect()
}
