//! `recovery-point`: version (u16, 1); the first 64 bytes of the segment it speaks of; the leader
//! epoch of the last batch before it (i32); bytes since the last entry of the index (u64); lengths
//! of index and epochs (two u32); an index, epochs and producers as in their own files, whose
//! lengths and ends are the place in the segment.
//!
//! It speaks of what is durable. So whatever the process came to, in a segment that is still there
//! the batches are those that it was made from.

use super::bytes_reader::BytesReader;
use super::partition::{Log, Segment};
use super::{Allowance, Directory, Findings, checkpoint, epochs, index, producers, segment};

const NAME: &str = "recovery-point";

const ID_BYTES: usize = 64;

struct Point {
    leader_epoch: i32,
    index: index::Index,
    epochs: Vec<epochs::Entry>,
    producers_end: i64,
    producers: producers::Producers,
}

pub(super) fn check(
    directory: &Directory<'_>,
    log: &Log,
    allowance: &Allowance,
    findings: &mut Findings,
) {
    let Some(content) = directory.files.get(NAME) else {
        return;
    };
    if allowance.is_damaged(&directory.path.join(NAME)) {
        return;
    }
    let of = Some(&directory.of);
    let read = checkpoint::body(content, &directory.place(NAME))
        .and_then(|body| decode(BytesReader(body)));
    let (page, point) = match read {
        Ok(read) => read,
        Err(reason) => return findings.add("R12", of, format!("{NAME}: {reason}")),
    };
    let is_same = |segment: &&Segment| {
        let (is, told) = (&segment.page, &page);
        (is.topic_id, is.partition, is.base_offset, is.generation)
            == (
                told.topic_id,
                told.partition,
                told.base_offset,
                told.generation,
            )
    };
    let Some(segment) = log.segments.iter().find(is_same) else {
        return;
    };
    for (property, reason) in judge(&point, log, segment) {
        findings.add(property, of, format!("{NAME}: {reason}"));
    }
    let own_from = allowance.own_from(&directory.of, log);
    let end = point.producers_end;
    let since = if end > own_from { own_from } else { 0 };
    if end >= log.first_base()
        && let Some(reason) = producers::compare(&point.producers, log, since..end, allowance)
    {
        findings.add("R11", of, format!("{NAME}: {reason}"));
    }
}

fn decode(mut from: BytesReader) -> Result<(segment::Page, Point), String> {
    let head = (|| {
        let version = from.u16()?;
        let id = from.take(ID_BYTES)?;
        let leader_epoch = from.i32()?;
        from.take(8)?;
        let lengths = (from.u32()?, from.u32()?);
        (version == 1).then_some((id, leader_epoch, lengths))
    })();
    let (id, leader_epoch, lengths) = head.ok_or("its head cannot be read")?;
    let mut part = |bytes: u32| {
        let bytes = usize::try_from(bytes).ok();
        let part = bytes.and_then(|bytes| from.take(bytes));
        part.ok_or("its parts are cut short")
    };
    let (index, epochs) = (part(lengths.0)?, part(lengths.1)?);
    let (producers_end, producers) = producers::decode(from)?;
    let point = Point {
        leader_epoch,
        index: index::decode(BytesReader(index))?,
        epochs: epochs::decode(BytesReader(epochs))?,
        producers_end,
        producers,
    };
    Ok((segment::identity(&id)?, point))
}

fn judge(point: &Point, log: &Log, segment: &Segment) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let (to, end, told) = (
        point.index.file_bytes,
        point.index.end_offset,
        point.index.chain,
    );
    let batches = segment.walk.batches.iter();
    let before = batches.filter(|batch| batch.position < to);
    let before: Vec<_> = before.cloned().collect();
    let is_at = before.iter().fold((4096, segment.base, 0), |at, batch| {
        let bytes = batch.batch.bytes();
        let chain = crc32c::crc32c_append(at.2, &bytes[..bytes.len().min(21)]);
        (batch.position + bytes.len() as u64, batch.end(), chain)
    });
    if is_at != (to, end, told) || point.producers_end != end {
        let producers = point.producers_end;
        let reason = format!(
            "it says {:?} (producers {producers}), the batches say {is_at:?}",
            (to, end, told)
        );
        return vec![("R12", reason)];
    }
    let last = before.last().map(|batch| batch.header().leader_epoch.0);
    if last != Some(point.leader_epoch) {
        let said = point.leader_epoch;
        wrong.push(("R8", format!("it says leader epoch {said}, not {last:?}")));
    }
    let of_log = log.batches().filter(|batch| batch.end() > log.start);
    for batch in of_log.filter(|batch| batch.base() < end) {
        let is = batch.header().leader_epoch.0;
        let said = epochs::epoch_of(&point.epochs, batch.base());
        if said.is_some_and(|said| said != is)
            || (said.is_none() && batch.base() >= log.start.max(segment.base))
        {
            let base = batch.base();
            wrong.push(("R8", format!("{base} is of epoch {is}, it says {said:?}")));
            break;
        }
    }
    wrong.extend(index::judge(&point.index, segment, &before));
    wrong
}
