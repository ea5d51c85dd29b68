//! The metadata log: records files and a snapshot, as `docs/metadata-records.md` has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::bytes_reader::BytesReader;
use super::{Allowance, Directory, Findings, METADATA_DIR, Mode, number_in};

const PAGE_BYTES: usize = 4096;
const MAGIC: &[u8] = b"klammmd\n";
const SLOT_AT: [usize; 2] = [512, 1024];
const SLOT_BYTES: usize = 20;
/// Of a file of the quorum's log, whose slots lie in the same places.
const RAFT_SLOT_BYTES: usize = 37;

const TOPIC: u64 = 5;
const TOPIC_REMOVED: u64 = 8;
/// Greater types are unknown.
const TYPE_MAX: u64 = 10;

/// Topics by id.
pub(super) type Topics = BTreeMap<[u8; 16], String>;

/// Replays the log. `None` when there is none, or it cannot be read.
pub(super) fn check(
    files: &[(PathBuf, Bytes)],
    mode: Mode,
    allowance: &Allowance,
    findings: &mut Findings,
) -> Option<Topics> {
    let within: BTreeMap<&str, (&Path, &Bytes)> = files
        .iter()
        .filter(|(path, _)| path.parent().is_some_and(|dir| dir.ends_with(METADATA_DIR)))
        .filter_map(|(path, content)| {
            Some((path.file_name()?.to_str()?, (path.as_path(), content)))
        })
        .collect();
    if within.is_empty() || within.values().any(|(path, _)| allowance.is_damaged(path)) {
        return None;
    }
    match replay(&within, mode) {
        Ok(topics) => Some(topics),
        Err(reason) => {
            findings.add("M6", None, format!("{METADATA_DIR}: {reason}"));
            None
        }
    }
}

fn replay(within: &BTreeMap<&str, (&Path, &Bytes)>, mode: Mode) -> Result<Topics, String> {
    let named = |suffix: &'static str| {
        let files = within.iter();
        files.filter_map(move |(name, (_, content))| Some((number_in(name, suffix)?, *content)))
    };
    let mut topics = Topics::new();
    let mut end = 0;
    if let Some((offset, content)) = named(".snapshot").next_back() {
        let name = format!("snapshot {offset}");
        let slot = page(content, offset).map_err(|reason| format!("{name}: {reason}"))?;
        let found = batches(content, offset, &mut topics);
        let whole = found.wrong.is_none() && found.batches == 1 && slot.is_none();
        if !whole {
            return Err(format!("{name} is not one batch: {:?}", found.wrong));
        }
        end = offset;
    }
    let records: Vec<(i64, &Bytes)> = named(".records")
        .filter(|(first, _)| *first >= end)
        .collect();
    if records.is_empty() {
        return Err(format!("there are no records from {end} on"));
    }
    for (at, (first, content)) in records.iter().enumerate() {
        let name = format!("records {first}");
        if *first != end {
            return Err(format!("{name}: those from {end} on are missing"));
        }
        let slot = page(content, *first).map_err(|reason| format!("{name}: {reason}"))?;
        let found = batches(content, *first, &mut topics);
        let durable = slot.unwrap_or(PAGE_BYTES as u64);
        if found.position < durable {
            let reason = format!("durable to byte {durable}, whole to {}", found.position);
            return Err(format!("{name}: {reason}: {:?}", found.wrong));
        }
        let may_be_torn = mode == Mode::Crashed && at + 1 == records.len();
        if let Some(wrong) = found.wrong.filter(|_| !may_be_torn) {
            return Err(format!("{name}: at byte {}: {wrong}", found.position));
        }
        end = found.end;
    }
    let leftover = within.keys().find(|name| {
        number_in(name, ".records").is_none() && number_in(name, ".snapshot").is_none()
    });
    match leftover {
        Some(name) if mode == Mode::Stopped => Err(format!("{name} is left behind")),
        _ => Ok(topics),
    }
}

/// Up to where a records file that begins at `first` says it is durable. `None` if its page is
/// damaged.
pub(super) fn durable_to(content: &Bytes, first: i64) -> Option<u64> {
    let slot = page(content, first).ok()?;
    Some(slot.unwrap_or(PAGE_BYTES as u64))
}

/// Up to where a file of the quorum's log says it is durable; `None` if both of its slots are
/// damaged.
pub(super) fn raft_durable_to(content: &Bytes) -> Option<u64> {
    let slots = SLOT_AT.iter().filter_map(|at| {
        let slot = content.get(*at..*at + RAFT_SLOT_BYTES)?;
        let mut from = BytesReader(Bytes::copy_from_slice(slot));
        let (turn, position) = (from.u64()?, from.u64()?);
        let body = RAFT_SLOT_BYTES - 4;
        let sum = u32::from_be_bytes(slot[body..].try_into().ok()?);
        (sum == crc32c::crc32c(&slot[..body]) && turn > 0).then_some((turn, position))
    });
    slots.max().map(|(_, position)| position)
}

/// The position in the newest slot of a file that begins at `first`.
fn page(content: &Bytes, first: i64) -> Result<Option<u64>, String> {
    let page = content.get(..PAGE_BYTES).ok_or("its page is cut off")?;
    let mut from = BytesReader(Bytes::copy_from_slice(page));
    let said = (|| Some((from.take(8)?, from.u32()?, from.i64()?, from.u32()?)))();
    let crc = crc32c::crc32c(&page[..20]);
    match said {
        Some((magic, 1, offset, sum)) if magic == MAGIC && offset == first && sum == crc => {}
        _ => return Err("its page is not that of this file".to_owned()),
    }
    let slots = SLOT_AT.iter().filter_map(|at| {
        let slot = &page[*at..*at + SLOT_BYTES];
        let mut from = BytesReader(Bytes::copy_from_slice(slot));
        let slot_said = (from.u64()?, from.u64()?);
        let is_whole = from.u32()? == crc32c::crc32c(&slot[..16]);
        (is_whole && slot_said.0 > 0).then_some(slot_said)
    });
    Ok(slots.max().map(|(_, position)| position))
}

struct Found {
    batches: usize,
    position: u64,
    end: i64,
    wrong: Option<String>,
}

/// Walks the batches after the page and applies their records.
fn batches(content: &Bytes, first: i64, topics: &mut Topics) -> Found {
    let mut found = Found {
        batches: 0,
        position: PAGE_BYTES as u64,
        end: first,
        wrong: None,
    };
    let mut from = BytesReader(content.slice(PAGE_BYTES..));
    while !from.is_empty() {
        match batch(&mut from, found.end, topics) {
            Ok(count) => found.end += count,
            Err(reason) => {
                found.wrong = Some(reason);
                return found;
            }
        }
        found.batches += 1;
        found.position = (content.len() - from.0.len()) as u64;
    }
    found
}

/// Takes one batch off; the number of its records.
fn batch(from: &mut BytesReader, first: i64, topics: &mut Topics) -> Result<i64, String> {
    let head = (|| Some((from.u32()?, from.u32()?, from.i64()?)))();
    let (length, sum, offset) = head.ok_or("a batch's head is cut off")?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let body = from.take(length).ok_or("a batch is cut off")?;
    let computed = crc32c::crc32c_append(crc32c::crc32c(&offset.to_be_bytes()), &body);
    if offset != first || sum != computed {
        return Err(format!(
            "a batch of offset {offset} where {first} is due, or damaged"
        ));
    }
    let mut from = BytesReader(body);
    let count = from.u32().ok_or("a batch without a count")?;
    for _ in 0..count {
        let record = (|| {
            let length = from.u32()?;
            from.take(usize::try_from(length).ok()?)
        })();
        let record = record.ok_or("a record is cut off")?;
        apply(BytesReader(record), topics).ok_or("a record that is unknown or cannot be read")?;
    }
    match from.is_empty() {
        true => Ok(i64::from(count)),
        false => Err("bytes after the last record of a batch".to_owned()),
    }
}

fn apply(mut from: BytesReader, topics: &mut Topics) -> Option<()> {
    let (kind, version) = (from.varint()?, from.varint()?);
    // Brokers and partitions.
    let newest = u64::from(matches!(kind, 2 | 6 | 7));
    if kind > TYPE_MAX || version > newest {
        return None;
    }
    match kind {
        TOPIC => {
            let id = from.take(16)?[..].try_into().ok()?;
            topics.insert(id, from.compact_text()??);
        }
        TOPIC_REMOVED => {
            let id: [u8; 16] = from.take(16)?[..].try_into().ok()?;
            topics.remove(&id)?;
        }
        _ => {}
    }
    Some(())
}

/// A directory under the name of a topic holds that topic's log.
pub(super) fn check_identity(
    topics: &Topics,
    directory: &Directory<'_>,
    topic_id: [u8; 16],
    findings: &mut Findings,
) {
    let known = topics.get(&topic_id);
    if known != Some(&directory.of.topic) {
        let detail = format!("its topic id is that of {known:?}");
        findings.add("M6", Some(&directory.of), detail);
    }
}
