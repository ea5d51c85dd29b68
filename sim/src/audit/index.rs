//! `%020d.index`: version (u16, 1); of the segment it was made from the generation (u64), length
//! (u64), end offset (i64) and chain (u32); whether offsets are missing (u8); largest timestamp
//! (i64), the relative offset of its batch (u32), timestamp of the first batch (i64), time of the
//! last append (i64); numbers of entries (two u32); relative offset and position (two u32) of
//! batches; timestamp (i64) and relative offset (u32) of batches.
//!
//! One made from something else than the segment is never used, and says nothing.

use std::collections::BTreeMap;

use super::bytes_reader::BytesReader;
use super::partition::Segment;
use super::segment::Batch;
use super::{Allowance, Directory, Findings, checkpoint};

pub(super) struct Index {
    generation: u64,
    pub file_bytes: u64,
    pub end_offset: i64,
    pub chain: u32,
    has_gaps: bool,
    max_timestamp: i64,
    max_timestamp_at: u32,
    first_timestamp: i64,
    /// Relative offset and position.
    offsets: Vec<(u32, u32)>,
    /// Timestamp and relative offset.
    times: Vec<(i64, u32)>,
}

pub(super) fn check(
    directory: &Directory<'_>,
    segment: &Segment,
    allowance: &Allowance,
    findings: &mut Findings,
) {
    let name = format!("{:020}.index", segment.base);
    if allowance.is_damaged(&directory.path.join(&name)) {
        return;
    }
    let Some(content) = directory.files.get(name.as_str()) else {
        return;
    };
    let of = Some(&directory.of);
    let index = match checkpoint::body(content, &directory.place(&name))
        .and_then(|body| decode(BytesReader(body)))
    {
        Ok(index) => index,
        Err(reason) => return findings.add("R12", of, format!("{name}: {reason}")),
    };
    let walk = &segment.walk;
    let made_from = (index.generation, index.file_bytes, index.chain);
    if made_from != (segment.page.generation, walk.position, walk.chain) {
        return;
    }
    for (property, reason) in judge(&index, segment, &walk.batches) {
        findings.add(property, of, format!("{name}: {reason}"));
    }
}

pub(super) fn decode(mut from: BytesReader) -> Result<Index, String> {
    let read = (|| {
        let version = from.u16()?;
        let mut index = Index {
            generation: from.u64()?,
            file_bytes: from.u64()?,
            end_offset: from.i64()?,
            chain: from.u32()?,
            has_gaps: from.u8()? != 0,
            max_timestamp: from.i64()?,
            max_timestamp_at: from.u32()?,
            first_timestamp: from.i64()?,
            offsets: Vec::new(),
            times: Vec::new(),
        };
        from.i64()?;
        let (offsets, times) = (from.u32()?, from.u32()?);
        for _ in 0..offsets {
            index.offsets.push((from.u32()?, from.u32()?));
        }
        for _ in 0..times {
            index.times.push((from.i64()?, from.u32()?));
        }
        (version == 1 && from.is_empty()).then_some(index)
    })();
    read.ok_or_else(|| "it cannot be read".to_owned())
}

/// A batch with what precedes it.
struct Place {
    relative: i64,
    position: u64,
    /// The largest timestamp up to it.
    largest: i64,
}

/// What is wrong with an index of these batches, the first of the segment.
pub(super) fn judge(
    index: &Index,
    segment: &Segment,
    batches: &[Batch],
) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let mut add = |property, reason: String| wrong.push((property, reason));
    let mut places = BTreeMap::new();
    let (mut end, mut has_gaps) = (segment.base, false);
    let (mut largest, mut largest_at) = (i64::MIN, 0);
    for batch in batches {
        has_gaps |= batch.base() != end;
        end = batch.end();
        let (relative, timestamp) = (batch.base() - segment.base, batch.header().max_timestamp.0);
        if timestamp > largest {
            (largest, largest_at) = (timestamp, relative);
        }
        let position = batch.position;
        places.insert(
            relative,
            Place {
                relative,
                position,
                largest,
            },
        );
    }
    // One may have been closed beyond its last record: where the next was to begin, or where a log
    // with gaps was cut; and beyond that once more when what followed was empty.
    let closed_at = segment.page.slot.map_or(end, |slot| slot.end_offset);
    let ends_there = index.end_offset == end || (end..=closed_at).contains(&index.end_offset);
    if !ends_there || (has_gaps && !index.has_gaps) {
        let (said, gaps) = (index.end_offset, index.has_gaps);
        add(
            "R12",
            format!("it says end {said} and gaps {gaps}, not {end} to {closed_at} and {has_gaps}"),
        );
    }
    check_offsets(index, &places, &mut add);
    check_times(index, &places, &mut add);
    let first = batches.first();
    if let Some(first) = first {
        let told = (
            index.first_timestamp,
            index.max_timestamp,
            i64::from(index.max_timestamp_at),
        );
        let is = (first.header().max_timestamp.0, largest, largest_at);
        if told != is {
            add(
                "K10",
                format!("first and largest timestamp are {is:?}, it says {told:?}"),
            );
        }
        let has_first = index.offsets.first().map(|entry| i64::from(entry.0));
        if has_first != places.values().next().map(|place| place.relative) {
            add("R12", "its first entry is not the first batch".to_owned());
        }
    }
    wrong
}

type Places = BTreeMap<i64, Place>;

/// What says that a property is broken, and how.
type Add<'a> = dyn FnMut(&'static str, String) + 'a;

fn check_offsets(index: &Index, places: &Places, add: &mut Add<'_>) {
    if !index
        .offsets
        .windows(2)
        .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
    {
        add("R12", "its offsets or positions do not grow".to_owned());
    }
    for (relative, position) in &index.offsets {
        let place = places.get(&i64::from(*relative));
        if place.is_none_or(|place| place.position != u64::from(*position)) {
            add(
                "R12",
                format!("no batch of offset +{relative} begins at byte {position}"),
            );
        }
    }
}

fn check_times(index: &Index, places: &Places, add: &mut Add<'_>) {
    if !index
        .times
        .windows(2)
        .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1)
    {
        add(
            "K10",
            "its timestamps or their offsets do not grow".to_owned(),
        );
    }
    for (timestamp, relative) in &index.times {
        let place = places.get(&i64::from(*relative));
        if place.is_none_or(|place| place.largest != *timestamp) {
            add(
                "K10",
                format!("{timestamp} is not the largest timestamp up to +{relative}"),
            );
        }
    }
}
