//! The groups' log: records of `__consumer_offsets` in Kafka's formats, folded.
//!
//! A key begins with its type (i16): 0 and 1 are followed by group, topic (text) and partition
//! (i32), and hold a committed offset; 2 by the group, and hold the group. Values begin with their
//! version (i16).

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use klamm_jepsen::history::Partition;

use super::bytes_reader::BytesReader;
use super::{Findings, GROUP_TOPIC, contents, directories};

/// An offset as a group's log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedAt {
    pub offset: i64,
    pub metadata: String,
}

/// What one record says.
enum Entry {
    Offset {
        group: String,
        of: Partition,
        value: Option<CommittedAt>,
    },
    /// The group's generation.
    Group { group: String, value: Option<i32> },
}

/// The committed offsets of all groups, by group and partition: the fold of the groups' log.
/// Records that cannot be read are left out.
#[must_use]
pub fn committed_offsets(files: &[(PathBuf, Bytes)]) -> BTreeMap<(String, Partition), CommittedAt> {
    let mut committed = BTreeMap::new();
    for of in partitions(files) {
        for stored in contents::log_contents(files, GROUP_TOPIC, of.partition) {
            if let Ok(Entry::Offset { group, of, value }) = decode(stored.key, stored.value) {
                match value {
                    Some(value) => committed.insert((group, of), value),
                    None => committed.remove(&(group, of)),
                };
            }
        }
    }
    committed
}

fn partitions(files: &[(PathBuf, Bytes)]) -> Vec<Partition> {
    let directories = directories(files).into_iter();
    let partitions = directories.map(|directory| directory.of);
    partitions.filter(|of| of.topic == GROUP_TOPIC).collect()
}

pub(super) fn check(files: &[(PathBuf, Bytes)], findings: &mut Findings) {
    let mut home: BTreeMap<String, i32> = BTreeMap::new();
    for of in partitions(files) {
        let mut generations: BTreeMap<String, i32> = BTreeMap::new();
        for stored in contents::log_contents(files, GROUP_TOPIC, of.partition) {
            let offset = stored.offset;
            let entry = match decode(stored.key, stored.value) {
                Ok(entry) => entry,
                Err(reason) => {
                    findings.add("CG7", Some(&of), format!("offset {offset}: {reason}"));
                    continue;
                }
            };
            let group = match &entry {
                Entry::Offset { group, .. } | Entry::Group { group, .. } => group,
            };
            let other = *home.entry(group.clone()).or_insert(of.partition);
            if other != of.partition {
                let detail = format!("offset {offset}: group {group} also lives on {other}");
                findings.add("CG7", Some(&of), detail);
            }
            match entry {
                Entry::Group { group, value: None } => {
                    generations.remove(&group);
                }
                Entry::Group {
                    group,
                    value: Some(generation),
                } => {
                    let before = generations.insert(group.clone(), generation);
                    if before.is_some_and(|before| before > generation) {
                        let detail = format!(
                            "offset {offset}: {group} goes from {before:?} to {generation}"
                        );
                        findings.add("CG2", Some(&of), detail);
                    }
                }
                Entry::Offset { .. } => {}
            }
        }
    }
}

fn decode(key: Option<Bytes>, value: Option<Bytes>) -> Result<Entry, String> {
    let mut from = BytesReader(key.ok_or("a record without a key")?);
    let read = (|| {
        let entry = match from.i16()? {
            0 | 1 => Entry::Offset {
                group: from.text()??,
                of: Partition {
                    topic: from.text()??,
                    partition: from.i32()?,
                },
                value: None,
            },
            2 => Entry::Group {
                group: from.text()??,
                value: None,
            },
            _ => return None,
        };
        from.is_empty().then_some(entry)
    })();
    let entry = read.ok_or("a key that cannot be read")?;
    let Some(value) = value else {
        return Ok(entry);
    };
    let mut from = BytesReader(value);
    let entry = match entry {
        Entry::Offset { group, of, .. } => Entry::Offset {
            value: Some(offset(&mut from).ok_or("an offset that cannot be read")?),
            group,
            of,
        },
        Entry::Group { group, .. } => Entry::Group {
            value: Some(generation(&mut from).ok_or("a group that cannot be read")?),
            group,
        },
    };
    match from.is_empty() {
        true => Ok(entry),
        false => Err(format!("{} bytes too many", from.0.len())),
    }
}

fn offset(from: &mut BytesReader) -> Option<CommittedAt> {
    let version = from.i16()?;
    if !(0..=4).contains(&version) {
        return None;
    }
    let offset = from.i64()?;
    if version >= 3 {
        from.i32()?;
    }
    let metadata = match version {
        4 => from.compact_text()??,
        _ => from.text()??,
    };
    // When it was committed and, in version 1, when it ends.
    from.i64()?;
    if version == 1 {
        from.i64()?;
    }
    if version == 4 {
        for _ in 0..from.varint()? {
            from.varint()?;
            let length = from.varint()?;
            from.take(usize::try_from(length).ok()?)?;
        }
    }
    Some(CommittedAt { offset, metadata })
}

/// The generation of a group, of whose value all is read.
fn generation(from: &mut BytesReader) -> Option<i32> {
    if from.i16()? != 3 {
        return None;
    }
    from.text()??;
    let generation = from.i32()?;
    from.text()?;
    from.text()?;
    from.i64()?;
    for _ in 0..from.i32()? {
        from.text()??;
        from.text()?;
        from.text()??;
        from.text()??;
        from.i32()?;
        from.i32()?;
        from.blob()?;
        from.blob()?;
    }
    Some(generation)
}
