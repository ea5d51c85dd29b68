//! One partition's directory: its segments joined to a log, and what lies beside them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::bytes_reader::BytesReader;
use super::segment::{self, Batch, PAGE_BYTES, Page, Walk};
use super::{
    Allowance, Directory, Findings, Mode, checkpoint, epochs, index, number_in, producers,
    recovery_point,
};

/// A segment whose page could be read.
#[derive(Debug)]
pub(super) struct Segment {
    pub base: i64,
    pub bytes: u64,
    pub page: Page,
    pub walk: Walk,
    /// Another segment follows.
    pub is_closed: bool,
}

/// The log of a partition, as far as it is whole.
#[derive(Debug)]
pub(super) struct Log {
    pub segments: Vec<Segment>,
    may_have_gaps: bool,
    pub start: i64,
    /// The offset after the last whole batch.
    pub end: i64,
    /// Up to where it certainly survives.
    pub durable_end: i64,
}

impl Log {
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.segments
            .iter()
            .flat_map(|segment| &segment.walk.batches)
    }

    /// Where the first file begins: nothing is known of what was before.
    pub fn first_base(&self) -> i64 {
        self.segments
            .first()
            .map_or(self.start, |segment| segment.base)
    }

    /// Whether batches between the first file and the end may be missing or may have lost records:
    /// it was compacted, or copied from one that was.
    pub fn is_compacted(&self) -> bool {
        self.may_have_gaps || self.segments.iter().any(|of| of.page.generation > 0)
    }
}

/// What the marker and the metadata are compared with.
#[derive(Debug)]
pub(super) struct Checked {
    pub topic_id: [u8; 16],
    pub end: i64,
    pub file_bytes: u64,
    /// Damaged on purpose: nothing can be said of it.
    pub is_damaged: bool,
}

/// Checks all of a directory. `None` when its log cannot be read at all.
pub(super) fn check(
    directory: &Directory<'_>,
    mode: Mode,
    allowance: &Allowance,
    findings: &mut Findings,
) -> Option<Checked> {
    if mode == Mode::Stopped {
        leftovers(directory, allowance, findings);
    }
    let is_damaged = |name: &str| allowance.is_damaged(&directory.path.join(name));
    let mut files = segments_of(directory);
    let any_segment_damaged = files.values().any(|(name, _)| is_damaged(name));
    let topic_id = identity(directory, mode, &files, allowance, findings)?;
    let start = log_start(directory, allowance, findings)?;
    let is_alone = files.len() == 1;
    if mode == Mode::Crashed {
        drop_those_before(&mut files, start);
    }
    let mut reading = Findings::default();
    let log = join(
        directory,
        mode,
        (&files, is_alone),
        topic_id,
        (
            start,
            allowance.may_have_gaps(&directory.of),
            allowance.mirrors.contains(&directory.of.topic),
        ),
        &mut reading,
    );
    let checked = |end| Checked {
        topic_id,
        end,
        file_bytes: files
            .values()
            .map(|(_, content)| content.len() as u64)
            .sum(),
        is_damaged: any_segment_damaged,
    };
    if any_segment_damaged {
        return Some(checked(0));
    }
    let unreadable = !reading.0.is_empty();
    findings.0.append(&mut reading.0);
    let log = log?;
    if unreadable {
        return Some(checked(log.end));
    }
    bounds(directory, &log, findings);
    sequences(directory, &log, allowance, findings);
    records(directory, &log, findings);
    epochs::check(directory, &log, mode, allowance, findings);
    for segment in &log.segments {
        index::check(directory, segment, allowance, findings);
    }
    producers::check(directory, &log, mode, allowance, findings);
    recovery_point::check(directory, &log, allowance, findings);
    compaction(directory, &log, mode, allowance, findings);
    Some(checked(log.end))
}

pub(super) type SegmentFiles<'a> = BTreeMap<i64, (&'a str, Bytes)>;

/// The segment files by base offset; a compacted one that is complete stands in for its sources.
pub(super) fn segments_of<'a>(directory: &Directory<'a>) -> SegmentFiles<'a> {
    let named = |suffix: &'static str| {
        let files = directory.files.iter();
        files.filter_map(move |(name, content)| {
            Some((number_in(name, suffix)?, (*name, Bytes::clone(content))))
        })
    };
    let mut files: SegmentFiles<'a> = named(".log").collect();
    for (base, (name, content)) in named(".log.swap") {
        let slot = segment::page(&content).ok().and_then(|page| page.slot);
        let end = slot.map_or(base, |slot| slot.end_offset);
        files.retain(|other, _| *other <= base || *other >= end);
        files.insert(base, (name, content));
    }
    files
}

/// The next start removes files that end before the log begins, so holes between them mean nothing.
fn drop_those_before(files: &mut SegmentFiles<'_>, start: i64) {
    let bases: Vec<i64> = files.keys().copied().collect();
    for pair in bases.windows(2) {
        if pair[1] <= start {
            files.remove(&pair[0]);
        }
    }
}

fn leftovers(directory: &Directory<'_>, allowance: &Allowance, findings: &mut Findings) {
    const KNOWN: [&str; 6] = [
        "partition.metadata",
        "leader-epoch-checkpoint",
        "log-start-offset",
        "cleaner-offset-checkpoint",
        "recovery-point",
        "restart-offset",
    ];
    // A stop cuts a round of compaction short; what it was writing goes at the next start.
    const NUMBERED: [&str; 5] = [
        ".log",
        ".index",
        ".snapshot",
        ".log.deleted",
        ".log.cleaned",
    ];
    for name in directory.files.keys() {
        let is_numbered = NUMBERED
            .iter()
            .any(|suffix| number_in(name, suffix).is_some());
        let is_damaged = allowance.is_damaged(&directory.path.join(name));
        if !KNOWN.contains(name) && !is_numbered && !is_damaged {
            findings.add("K8", Some(&directory.of), format!("{name} is left behind"));
        }
    }
}

/// The topic id in `partition.metadata`. `None` for a directory that never held a record.
fn identity(
    directory: &Directory<'_>,
    mode: Mode,
    files: &SegmentFiles<'_>,
    allowance: &Allowance,
    findings: &mut Findings,
) -> Option<[u8; 16]> {
    const NAME: &str = "partition.metadata";
    if allowance.is_damaged(&directory.path.join(NAME)) {
        // It may look like another's.
        return None;
    }
    let found = directory.files.get(NAME).and_then(|text| {
        let text = std::str::from_utf8(text).ok()?;
        let id = text
            .strip_prefix("version: 0\ntopic_id: ")?
            .strip_suffix('\n')?;
        id.parse::<klamm::types::TopicId>().ok()
    });
    let holds_data = files
        .values()
        .any(|(_, content)| content.len() > PAGE_BYTES);
    let excused = mode == Mode::Crashed && !holds_data;
    if found.is_none() && !excused {
        let detail = format!("{NAME} is missing or not the identity of a partition");
        findings.add("R12", Some(&directory.of), detail);
    }
    Some(found?.0)
}

fn log_start(
    directory: &Directory<'_>,
    allowance: &Allowance,
    findings: &mut Findings,
) -> Option<i64> {
    const NAME: &str = "log-start-offset";
    let Some(content) = directory.files.get(NAME) else {
        return Some(0);
    };
    let body = checkpoint::body(content, &directory.place(NAME)).and_then(|body| {
        let mut from = BytesReader(body);
        let start = from.i64().filter(|_| from.is_empty());
        start.ok_or_else(|| "it holds no offset".to_owned())
    });
    match body {
        Ok(start) => Some(start),
        Err(reason) => {
            if !allowance.is_damaged(&directory.path.join(NAME)) {
                findings.add("R10", Some(&directory.of), format!("{NAME}: {reason}"));
            }
            None
        }
    }
}

/// Reads all segments and puts them together. What is wrong with them goes to `findings`.
fn join(
    directory: &Directory<'_>,
    mode: Mode,
    (files, is_alone): (&SegmentFiles<'_>, bool),
    topic_id: [u8; 16],
    (start, gaps, is_mirror): (i64, bool, bool),
    findings: &mut Findings,
) -> Option<Log> {
    let of = &directory.of;
    if files.is_empty() {
        findings.add("R12", Some(of), "its segments are missing".to_owned());
        return None;
    }
    let mut log = Log {
        segments: Vec::new(),
        may_have_gaps: gaps,
        start,
        end: start,
        durable_end: start,
    };
    let last = files.keys().next_back().copied();
    for (base, (name, content)) in files {
        let is_last = Some(*base) == last;
        let page = match segment::page(content) {
            Ok(page) => page,
            // It was being made: it has its name because the one before it ends there.
            Err(_) if unfinished(mode, content, is_last && !is_alone) => break,
            Err(reason) => {
                findings.add("R12", Some(of), format!("{name}: {reason}"));
                continue;
            }
        };
        let expected = (topic_id, of.partition, *base);
        if (page.topic_id, page.partition, page.base_offset) != expected {
            let detail = format!("{name} says it is another segment: {page:?}");
            findings.add("R12", Some(of), detail);
            continue;
        }
        let segment = Segment {
            base: *base,
            bytes: content.len() as u64,
            walk: segment::walk(content, &page, gaps),
            page,
            is_closed: !is_last,
        };
        let next = files.range(base + 1..).next().map(|(next, _)| *next);
        if unfinished(mode, content, is_last && !is_alone) && segment.page.slot.is_none() {
            break;
        }
        // Without a record it was on its way to where its source begins.
        let begins = is_mirror && mode == Mode::Crashed && segment.walk.end == 0;
        for (property, reason) in judge(&segment, mode, next, gaps || begins) {
            findings.add(property, Some(of), format!("{name}: {reason}"));
        }
        log.end = segment.walk.end;
        log.durable_end = segment.page.slot.map_or(*base, |slot| slot.end_offset);
        log.segments.push(segment);
    }
    Some(log)
}

/// Whether the next start makes a segment anew. `follows`: it is the last, and not the only one
/// that a start finds, be those before it below the log's start.
fn unfinished(mode: Mode, content: &Bytes, follows: bool) -> bool {
    mode == Mode::Crashed && follows && content.len() <= PAGE_BYTES
}

/// What is wrong with one segment; `next` is the base offset of the one after it.
fn judge(
    segment: &Segment,
    mode: Mode,
    next: Option<i64>,
    may_have_gaps: bool,
) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let (walk, bytes) = (&segment.walk, segment.bytes);
    let Some(slot) = segment.page.slot else {
        return vec![("R12", "it has no valid durable slot".to_owned())];
    };
    let may_be_torn = mode == Mode::Crashed && next.is_none() && walk.position >= slot.position;
    if let Some(found) = &walk.wrong
        && !may_be_torn
    {
        let reason = format!("at byte {}: {}", walk.position, found.reason);
        wrong.push((found.property, reason));
        return wrong;
    }
    match walk.at_slot {
        None => {
            let position = slot.position;
            let reason = format!("no batch ends at byte {position}, where it is durable to");
            wrong.push(("R12", reason));
        }
        Some((_, chain)) if chain != slot.chain => {
            let reason = "the heads of its batches are not those written".to_owned();
            wrong.push(("P15", reason));
        }
        Some((end, _)) if slot.end_offset < end => {
            let reason = format!("its slot says offset {} where {end} is", slot.end_offset);
            wrong.push(("R12", reason));
        }
        Some(_) => {}
    }
    let expected_end = next.unwrap_or(walk.end);
    let is_at_end = slot.position == bytes && slot.end_offset == expected_end;
    let must_be = next.is_some() || mode == Mode::Stopped;
    if must_be && !is_at_end {
        let (position, end) = (slot.position, slot.end_offset);
        let reason = format!(
            "its slot says {position} bytes and offset {end}, and it has {bytes} and {expected_end}"
        );
        wrong.push(("R12", reason));
    }
    if let Some(next) = next {
        let overlaps = walk.end > next;
        let may_have_gap = may_have_gaps || segment.page.generation > 0;
        if overlaps || (walk.end < next && !may_have_gap) {
            let reason = format!("it ends at offset {}, the next begins at {next}", walk.end);
            wrong.push(("R12", reason));
        }
    }
    wrong
}

fn bounds(directory: &Directory<'_>, log: &Log, findings: &mut Findings) {
    let first = log.first_base();
    if first > log.start || log.start > log.end {
        let detail = format!(
            "the log starts at {} and holds [{first}, {})",
            log.start, log.end
        );
        findings.add("R10", Some(&directory.of), detail);
    }
}

/// Batches of a producer follow each other without gap or repetition, in each of its epochs. Those
/// before a replica's start were deleted, and may be left in files: another leader, which began
/// behind them, has not heard of the producer.
fn sequences(directory: &Directory<'_>, log: &Log, allowance: &Allowance, findings: &mut Findings) {
    if allowance.producers_expire {
        return;
    }
    let mut last: BTreeMap<i64, (i16, i32, &Batch)> = BTreeMap::new();
    let (own_from, mut is_own) = (allowance.own_from(&directory.of, log), false);
    for batch in log.batches() {
        let header = batch.header();
        if !header.has_producer() || header.attributes.is_control() || header.base_sequence.0 < 0 {
            continue;
        }
        let (id, epoch) = (header.producer_id.0, header.producer_epoch.0);
        let (first, end) = (header.base_sequence.0, header.last_sequence().0);
        let (base, is_compacted) = (batch.base(), log.is_compacted());
        if base >= own_from && !std::mem::replace(&mut is_own, true) {
            last.clear();
        }
        if let Some((was, before, earlier)) = last.insert(id, (epoch, end, batch)) {
            let is_anew = allowance.is_replica
                && earlier.base() < log.start
                && earlier.header().leader_epoch < header.leader_epoch;
            let expected = before.checked_add(1).unwrap_or(0);
            let is_next = first == expected || (is_compacted && first > expected);
            let is_good = match epoch == was {
                true => is_next,
                false => epoch > was && (first == 0 || is_compacted),
            };
            if !is_good && !is_anew {
                let detail = format!(
                    "producer {id} has sequence {first} of epoch {epoch} at offset {base}, after \
                     {before} of epoch {was}"
                );
                findings.add("R16", Some(&directory.of), detail);
            }
        }
    }
}

/// Every record can be read, and lies where its batch says.
fn records(directory: &Directory<'_>, log: &Log, findings: &mut Findings) {
    for batch in log.batches() {
        let (base, header) = (batch.base(), batch.header());
        let checked = match batch.batch.check_records(false) {
            Ok(checked) => checked,
            Err(error) => {
                let detail = format!("the records of the batch at offset {base}: {error}");
                findings.add("P15", Some(&directory.of), detail);
                continue;
            }
        };
        if header.record_count > 0 && checked.max_timestamp != header.max_timestamp {
            let (said, is) = (header.max_timestamp.0, checked.max_timestamp.0);
            let detail = format!("the batch at offset {base} says timestamp {said}, has {is}");
            findings.add("K10", Some(&directory.of), detail);
        }
    }
}

fn compaction(
    directory: &Directory<'_>,
    log: &Log,
    mode: Mode,
    allowance: &Allowance,
    findings: &mut Findings,
) {
    const NAME: &str = "cleaner-offset-checkpoint";
    let of = Some(&directory.of);
    if let Some(last) = log.segments.last()
        && last.page.generation > 0
        && !last.is_closed
    {
        findings.add("K4", of, "its active segment was compacted".to_owned());
    }
    let Some(content) = directory.files.get(NAME) else {
        return;
    };
    let clean = checkpoint::body(content, &directory.place(NAME)).and_then(|body| {
        let mut from = BytesReader(body);
        let known = from.u16() == Some(1);
        let clean = from.i64().filter(|_| known && from.is_empty());
        clean.ok_or_else(|| "it holds no offset".to_owned())
    });
    let clean = match clean {
        Ok(clean) => clean,
        Err(_) if allowance.is_damaged(&directory.path.join(NAME)) => return,
        Err(reason) => return findings.add("K8", of, format!("{NAME}: {reason}")),
    };
    if mode == Mode::Crashed {
        return;
    }
    let mut seen = BTreeMap::new();
    for batch in log.batches().filter(|batch| batch.base() >= log.start) {
        let records = batch.batch.records().into_iter().flatten().flatten();
        for record in records.filter(|record| record.offset.0 < clean) {
            if let Some(key) = record
                .key
                .filter(|_| !batch.header().attributes.is_control())
                && let Some(before) = seen.insert(key.clone(), record.offset)
            {
                let detail = format!(
                    "key {key:?} is there at {before} and {}, below {clean}, the clean point",
                    record.offset
                );
                findings.add("K1", of, detail);
            }
        }
    }
}
