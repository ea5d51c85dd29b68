//! `%020d.snapshot`: version (u16, 1), the offset it stands for (i64), number of producers (u32);
//! for each its id (i64), epoch (i16), timestamp of its newest batch (i64), start of its open
//! transaction (i64, -1 for none), number of batches (u8), and for each of those first and last
//! sequence (i32), first and last offset (i64), timestamp (i64).

use std::collections::BTreeMap;
use std::ops::Range;

use super::bytes_reader::BytesReader;
use super::partition::Log;
use super::{Allowance, Directory, Findings, Mode, checkpoint, number_in};

const BATCHES_KEPT: usize = 5;

/// One batch: first and last sequence, first and last offset, timestamp.
type BatchEntry = (i32, i32, i64, i64, i64);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Producer {
    epoch: i16,
    timestamp: i64,
    transaction: Option<i64>,
    batches: Vec<BatchEntry>,
}

pub(super) type Producers = BTreeMap<i64, Producer>;

pub(super) fn check(
    directory: &Directory<'_>,
    log: &Log,
    mode: Mode,
    allowance: &Allowance,
    findings: &mut Findings,
) {
    for (name, content) in &directory.files {
        let Some(offset) = number_in(name, ".snapshot") else {
            continue;
        };
        if allowance.is_damaged(&directory.path.join(name)) {
            continue;
        }
        let mut add =
            |detail| findings.add("R11", Some(&directory.of), format!("{name}: {detail}"));
        let snapshot = checkpoint::body(content, &directory.place(name))
            .and_then(|body| decode(BytesReader(body)));
        let (said, snapshot) = match snapshot {
            Ok(snapshot) => snapshot,
            Err(reason) => {
                add(reason);
                continue;
            }
        };
        if said != offset {
            add(format!("it holds the state at offset {said}"));
            continue;
        }
        if offset > log.end {
            // After a crash it may speak of what was cut; the next start removes it.
            if mode == Mode::Stopped {
                add(format!("it is beyond the log's end, {}", log.end));
            }
            continue;
        }
        if offset < log.first_base() {
            continue;
        }
        let own_from = allowance.own_from(&directory.of, log);
        let since = if offset > own_from { own_from } else { 0 };
        if let Some(detail) = compare(&snapshot, log, since..offset, allowance) {
            add(detail);
        }
    }
    let newest = directory
        .files
        .keys()
        .rev()
        .find_map(|name| number_in(name, ".snapshot"));
    let has_producers = log.batches().any(|batch| batch.header().has_producer());
    if mode == Mode::Stopped
        && has_producers
        && newest != Some(log.end)
        && !allowance.is_damaged(&directory.path.join(format!("{:020}.snapshot", log.end)))
    {
        let detail = format!(
            "the newest snapshot is {newest:?}, the log ends at {}",
            log.end
        );
        findings.add("R11", Some(&directory.of), detail);
    }
}

pub(super) fn decode(mut from: BytesReader) -> Result<(i64, Producers), String> {
    let read = (|| {
        let (version, offset, count) = (from.u16()?, from.i64()?, from.u32()?);
        let mut producers = Producers::new();
        for _ in 0..count {
            let id = from.i64()?;
            let mut producer = Producer {
                epoch: from.i16()?,
                timestamp: from.i64()?,
                transaction: Some(from.i64()?).filter(|start| *start != -1),
                batches: Vec::new(),
            };
            for _ in 0..from.u8()? {
                let sequences = (from.i32()?, from.i32()?);
                let offsets = (from.i64()?, from.i64()?);
                let batch = (sequences.0, sequences.1, offsets.0, offsets.1, from.i64()?);
                producer.batches.push(batch);
            }
            if producer.batches.len() > BATCHES_KEPT || producers.insert(id, producer).is_some() {
                return None;
            }
        }
        (version == 1 && from.is_empty()).then_some((offset, producers))
    })();
    read.ok_or_else(|| "it cannot be read".to_owned())
}

/// The state that the batches between these offsets make, with all of each producer's epoch.
fn model(log: &Log, within: &Range<i64>) -> Producers {
    let mut producers = Producers::new();
    let batches = log.batches();
    for batch in batches.filter(|of| within.start <= of.base() && of.end() <= within.end) {
        let header = batch.header();
        let is_marker = header.attributes.is_control();
        if !header.has_producer() || (is_marker && header.record_count == 0) {
            continue;
        }
        let producer = producers.entry(header.producer_id.0).or_default();
        if producer.epoch != header.producer_epoch.0 {
            producer.epoch = header.producer_epoch.0;
            producer.batches.clear();
        }
        producer.timestamp = header.max_timestamp.0;
        if is_marker {
            producer.transaction = None;
            continue;
        }
        if header.base_sequence.0 >= 0 {
            producer.batches.push((
                header.base_sequence.0,
                header.last_sequence().0,
                batch.base(),
                batch.end() - 1,
                header.max_timestamp.0,
            ));
        }
        if header.attributes.is_transactional() && producer.transaction.is_none() {
            producer.transaction = Some(batch.base());
        }
    }
    producers
}

/// What a snapshot says that the log between these offsets does not, or the other way round.
pub(super) fn compare(
    snapshot: &Producers,
    log: &Log,
    within: Range<i64>,
    allowance: &Allowance,
) -> Option<String> {
    let first = log.first_base();
    let modelled = model(log, &within);
    let offset = within.end;
    for (id, producer) in snapshot {
        if !producer
            .batches
            .windows(2)
            .all(|pair| pair[0].3 < pair[1].2)
        {
            return Some(format!(
                "the batches of producer {id} overlap: {producer:?}"
            ));
        }
        let known = modelled.get(id);
        if log.is_compacted() {
            if let Some(known) = known
                && let Some(wrong) = contradiction(producer, known, offset == log.end)
            {
                return Some(format!("producer {id} is {producer:?}, and {wrong}"));
            }
            continue;
        }
        // Files that are gone may have held what the snapshot knows.
        let in_files = producer.batches.iter().filter(|batch| batch.2 >= first);
        let in_files: Vec<&BatchEntry> = in_files.collect();
        let Some(known) = known else {
            match first == 0 || !in_files.is_empty() {
                true => {
                    return Some(format!(
                        "the log has nothing of producer {id}: {producer:?}"
                    ));
                }
                false => continue,
            }
        };
        let tail = known.batches.len().checked_sub(in_files.len());
        let same = tail.is_some_and(|at| known.batches[at..].iter().eq(in_files.iter().copied()));
        let kept = producer.batches.len();
        let enough = kept >= known.batches.len().min(BATCHES_KEPT) || allowance.producers_expire;
        let state = |of: &Producer| (of.epoch, of.timestamp, of.transaction);
        if !same || !enough || state(known) != state(producer) {
            return Some(format!(
                "producer {id} is {producer:?}, the log says {known:?}"
            ));
        }
    }
    let missing = modelled.keys().find(|id| !snapshot.contains_key(id));
    match missing {
        Some(id) if !allowance.producers_expire => {
            Some(format!("producer {id} is missing: {:?}", modelled.get(id)))
        }
        _ => None,
    }
}

/// How a producer in a snapshot contradicts what a compacted log still holds. `is_newest`: of the
/// state at the log's end, the last batch must be there.
fn contradiction(producer: &Producer, known: &Producer, is_newest: bool) -> Option<String> {
    let without_time = |batch: &BatchEntry| (batch.0, batch.1, batch.2, batch.3);
    let oldest = producer.batches.first().map_or(i64::MAX, |batch| batch.2);
    if known.epoch > producer.epoch {
        return Some(format!("the log has epoch {}", known.epoch));
    }
    if known.epoch < producer.epoch {
        return None;
    }
    let remembered: Vec<_> = producer.batches.iter().map(without_time).collect();
    let recent = known
        .batches
        .iter()
        .filter(|batch| batch.2 >= oldest)
        .map(without_time);
    for batch in recent {
        if !remembered.contains(&batch) {
            return Some(format!("the log has {batch:?}"));
        }
    }
    let last = known.batches.last().map(without_time);
    (is_newest && remembered.last() != last.as_ref()).then(|| format!("the log's last is {last:?}"))
}
