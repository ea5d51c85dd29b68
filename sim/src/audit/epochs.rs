//! `leader-epoch-checkpoint`: version (u16, 1), count (u32), and for each epoch (i32) the offset of
//! its first record (i64).

use super::bytes_reader::BytesReader;
use super::partition::Log;
use super::{Allowance, Directory, Findings, Mode, checkpoint};

const NAME: &str = "leader-epoch-checkpoint";

/// Epoch and first offset.
pub(super) type Entry = (i32, i64);

pub(super) fn check(
    directory: &Directory<'_>,
    log: &Log,
    mode: Mode,
    allowance: &Allowance,
    findings: &mut Findings,
) {
    let of = Some(&directory.of);
    if let Some((before, batch)) = log
        .batches()
        .zip(log.batches().skip(1))
        .find(|(before, batch)| batch.header().leader_epoch < before.header().leader_epoch)
    {
        let detail = format!(
            "the epoch goes back between {} and {}",
            before.base(),
            batch.base()
        );
        findings.add("R8", of, detail);
    }
    if allowance.is_damaged(&directory.path.join(NAME)) {
        return;
    }
    let entries = match directory.files.get(NAME) {
        None => Vec::new(),
        Some(content) => match checkpoint::body(content, &directory.place(NAME))
            .and_then(|body| decode(BytesReader(body)))
        {
            Ok(entries) => entries,
            Err(reason) => return findings.add("R8", of, format!("{NAME}: {reason}")),
        },
    };
    let ordered = |pair: &[Entry]| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1;
    if !entries.windows(2).all(ordered) {
        return findings.add("R8", of, format!("{NAME} is not in order: {entries:?}"));
    }
    if mode == Mode::Crashed {
        return contradictions(directory, log, &entries, findings);
    }
    let implied = implied(log);
    let told: Vec<Entry> = entries
        .iter()
        .copied()
        // What is left of an epoch all of whose records are gone.
        .filter(|(_, start)| !(log.start == log.end && *start == log.start))
        // One in which a leader was elected and nothing written.
        .filter(|(_, start)| *start != log.end)
        .collect();
    let agrees = match log.is_compacted() {
        true => implied
            .iter()
            .all(|(epoch, start)| epoch_of(&told, *start) == Some(*epoch)),
        false => told == implied,
    };
    if !agrees {
        let detail = format!("{NAME} says {told:?}, the batches say {implied:?}");
        findings.add("R8", of, detail);
    }
}

pub(super) fn decode(mut from: BytesReader) -> Result<Vec<Entry>, String> {
    let read = (|| {
        let (version, count) = (from.u16()?, from.u32()?);
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push((from.i32()?, from.i64()?));
        }
        (version == 1 && from.is_empty()).then_some(entries)
    })();
    read.ok_or_else(|| "it cannot be read".to_owned())
}

/// Where each epoch begins, by the batches from the log's start on.
fn implied(log: &Log) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for batch in log.batches().filter(|batch| batch.end() > log.start) {
        let epoch = batch.header().leader_epoch.0;
        if entries.last().is_none_or(|last| last.0 != epoch) {
            entries.push((epoch, batch.base().max(log.start)));
        }
    }
    entries
}

/// The epoch that the record at `offset` is of by these entries.
pub(super) fn epoch_of(entries: &[Entry], offset: i64) -> Option<i32> {
    let at = entries.partition_point(|(_, start)| *start <= offset);
    Some(entries[at.checked_sub(1)?].0)
}

/// After a crash the file may lag behind the log, and speak of what was cut; of what is durable it
/// says nothing wrong.
fn contradictions(
    directory: &Directory<'_>,
    log: &Log,
    entries: &[Entry],
    findings: &mut Findings,
) {
    for (epoch, start) in entries.iter().filter(|entry| entry.1 < log.durable_end) {
        let wrong = log
            .batches()
            .filter(|batch| batch.end() > log.start)
            .find(|batch| {
                let of = batch.header().leader_epoch.0;
                (batch.base() >= *start && of < *epoch) || (batch.end() <= *start && of >= *epoch)
            });
        if let Some(batch) = wrong {
            let (base, of) = (batch.base(), batch.header().leader_epoch.0);
            let detail =
                format!("{NAME}: epoch {epoch} begins at {start}, and {base} is of epoch {of}");
            findings.add("R8", Some(&directory.of), detail);
        }
    }
}
