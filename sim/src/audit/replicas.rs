//! What the replicas of a partition hold, one against another.
//!
//! R2, R13: where two nodes hold the same offset they hold the same: the same batch, byte for byte
//! with its leader epoch, where neither log was compacted (each compacts by itself, and may copy
//! what another compacted), and the same record otherwise. Both up to the end of the shorter: what
//! only one has may be gone by the next election. R8: a leader epoch begins at the same offset in
//! both, where both have that offset.
//!
//! A log that is damaged says nothing, and one of another topic of that name is another log.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use klamm_jepsen::history::Partition;

use super::segment::{self, Batch};
use super::{Allowance, Directory, Finding, Findings, directories, partition};

/// A node's disk after its end.
#[derive(Debug)]
pub struct Replica {
    pub node: String,
    pub files: Vec<(PathBuf, Bytes)>,
    /// Files that were damaged on purpose.
    pub damaged: Vec<PathBuf>,
}

/// A copy of a partition.
struct Copy<'a> {
    node: &'a str,
    topic_id: [u8; 16],
    is_compacted: bool,
    /// By base offset.
    batches: BTreeMap<i64, Batch>,
}

/// What differs between the nodes, below the offsets that `settled` gives for the partition on
/// both: what lies from there on may still have been on its way. Everything where that is `None`.
#[must_use]
pub fn compare_replicas(
    replicas: &[Replica],
    settled: &dyn Fn(&str, &Partition) -> Option<i64>,
) -> Vec<Finding> {
    let mut copies: BTreeMap<Partition, Vec<Copy<'_>>> = BTreeMap::new();
    for replica in replicas {
        let allowance = Allowance {
            damaged: replica.damaged.clone(),
            ..Allowance::default()
        };
        for directory in directories(&replica.files) {
            if let Some(copy) = copy(replica, &directory, &allowance) {
                copies.entry(directory.of.clone()).or_default().push(copy);
            }
        }
    }
    let mut findings = Findings::default();
    for (of, copies) in &copies {
        let settled = |copy: &Copy<'_>| settled(copy.node, of).unwrap_or(i64::MAX);
        for (at, one) in copies.iter().enumerate() {
            let others = copies[at + 1..].iter();
            for other in others.filter(|other| other.topic_id == one.topic_id) {
                let below = settled(one).min(settled(other));
                if let Some((property, detail)) = differ(one, other, below) {
                    findings.add(property, Some(of), detail);
                }
            }
        }
    }
    findings.0
}

fn copy<'a>(
    replica: &'a Replica,
    directory: &Directory<'_>,
    allowance: &Allowance,
) -> Option<Copy<'a>> {
    let mut found = Copy {
        node: &replica.node,
        topic_id: [0; 16],
        is_compacted: false,
        batches: BTreeMap::new(),
    };
    for (name, content) in partition::segments_of(directory).values() {
        if allowance.is_damaged(&directory.path.join(name)) {
            return None;
        }
        let page = segment::page(content).ok()?;
        found.topic_id = page.topic_id;
        let walk = segment::walk(content, &page, true);
        found.is_compacted |= page.generation > 0 || walk.has_gaps;
        let batches = walk.batches.into_iter();
        found
            .batches
            .extend(batches.map(|batch| (batch.base(), batch)));
    }
    Some(found)
}

fn differ(one: &Copy<'_>, other: &Copy<'_>, below: i64) -> Option<(&'static str, String)> {
    let first = |of: &Copy<'_>| of.batches.keys().next().copied();
    let end = |of: &Copy<'_>| of.batches.values().next_back().map(Batch::end);
    let from = first(one)?.max(first(other)?);
    let until = end(one)?.min(end(other)?).min(below);
    let names = (one.node, other.node);
    if one.is_compacted || other.is_compacted {
        let mut records = one
            .batches
            .range(..until)
            .flat_map(|(_, batch)| records(batch));
        let kept: BTreeMap<i64, u32> = other
            .batches
            .range(..until)
            .flat_map(|(_, batch)| self::records(batch))
            .collect();
        let differing = records.find(|(offset, digest)| {
            *offset < until && kept.get(offset).is_some_and(|other| other != digest)
        });
        return differing.map(|(offset, _)| {
            let detail = format!(
                "{} and {} hold different records at {offset}",
                names.0, names.1
            );
            ("R2", detail)
        });
    }
    // A batch that goes beyond what both have may have been sent in part.
    let within = |of: &Copy<'_>| -> BTreeMap<i64, (i64, i32, u32)> {
        let batches = of.batches.range(from..).map(|(_, batch)| batch);
        let whole = batches.filter(|batch| batch.end() <= until);
        whole.map(|batch| (batch.base(), shape(batch))).collect()
    };
    let (mine, theirs) = (within(one), within(other));
    let bases = mine.keys().chain(theirs.keys());
    let differing = bases
        .filter(|base| mine.get(base) != theirs.get(base))
        .min()?;
    let shown = |batches: &BTreeMap<i64, (i64, i32, u32)>| match batches.get(differing) {
        Some((end, epoch, crc)) => format!("[{differing}, {end}) of epoch {epoch}, CRC {crc:x}"),
        None => "no such batch".to_owned(),
    };
    let detail = format!(
        "at offset {differing} {} has {} and {} has {}",
        names.0,
        shown(&mine),
        names.1,
        shown(&theirs)
    );
    Some(("R13", detail))
}

fn shape(batch: &Batch) -> (i64, i32, u32) {
    let header = batch.header();
    (
        batch.end(),
        header.leader_epoch.0,
        crc32c::crc32c(batch.batch.bytes()),
    )
}

fn records(batch: &Batch) -> Vec<(i64, u32)> {
    let records = batch.batch.records().into_iter().flatten().flatten();
    let digest = |part: Option<&Bytes>, so_far| {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        let so_far = crc32c::crc32c_append(so_far, &length.to_be_bytes());
        part.map_or(so_far, |part| crc32c::crc32c_append(so_far, part))
    };
    records
        .map(|record| {
            let key = digest(record.key.as_ref(), 0);
            (record.offset.0, digest(record.value.as_ref(), key))
        })
        .collect()
}
