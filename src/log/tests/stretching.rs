//! Reading in two parts, a piece now and the rest as it is wanted.

use super::compacting::compact;
use super::*;
use crate::log::{ReadError, Stretch};
use crate::wire::batch::HEADER_BYTES;

/// All that is left of a stretch, and how it ends.
fn rest(stretch: &mut Stretch, piece_bytes: usize) -> (Bytes, Result<(), ReadError>) {
    let mut all = Vec::new();
    loop {
        match run(stretch.next()) {
            Ok(Some(piece)) => {
                assert!(!piece.is_empty() && piece.len() <= piece_bytes.max(HEADER_BYTES));
                all.extend_from_slice(&piece);
            }
            Ok(None) => return (all.into(), Ok(())),
            Err(error) => return (all.into(), Err(error)),
        }
    }
}

/// What lies from `from` on, where a batch that the index knows begins, in small pieces.
fn begun(log: &Log, from: Offset) -> Stretch {
    let reader = log.reader();
    let read = reader.read_beginning(from, reader.log_end_offset(), (usize::MAX, 1), true);
    let (read, stretch) = run(read).unwrap();
    assert!(read.is_empty());
    stretch.expect("there is more than a piece")
}

fn joined(batches: &[RecordBatch]) -> Vec<u8> {
    let mut all = Vec::new();
    for batch in batches {
        all.extend_from_slice(batch.bytes());
    }
    all
}

#[test]
fn both_parts_are_what_a_read_in_one_gives_and_as_long_as_was_said() {
    let mut bench = Bench::new();
    bench.config.segment_bytes = 3000;
    let mut log = bench.create();
    fill(&mut log, 50);
    let reader = log.reader();
    let all = read_all(&reader, Offset(0), 9999);
    let end = reader.log_end_offset();
    let (mut stretches, mut alone) = (0, 0);
    for first in 0..all.len() {
        let from = all[first].header.base_offset;
        for up_to in [end, Offset(97), Offset(from.0 + 30)] {
            for (max_bytes, piece_bytes) in [(700, 1), (1500, 200), (99_999, 1), (99_999, 600)] {
                let sizes = (max_bytes, piece_bytes);
                let read = reader.read_beginning(from, up_to, sizes, false);
                let (read, stretch) = run(read).unwrap();
                let told = read.len() + stretch.as_ref().map_or(0, Stretch::len);
                assert!(told <= max_bytes);
                let mut bytes = read.clone().concat().to_vec();
                match stretch {
                    Some(mut stretch) => {
                        stretches += 1;
                        let (more, end) = rest(&mut stretch, piece_bytes);
                        bytes.extend_from_slice(&more);
                        end.unwrap();
                    }
                    None => alone += 1,
                }
                assert_eq!(bytes.len(), told);
                let batches = split(bytes.into());
                assert_eq!(batches, all[first..first + batches.len()]);
                let next = batches
                    .last()
                    .map_or(from, |batch| batch.header.end_offset());
                assert!(next <= up_to || batches.is_empty());
                let whole = run(reader.read(from, up_to, max_bytes, false)).unwrap();
                assert_eq!(
                    batches.is_empty(),
                    whole.is_empty(),
                    "{from} {up_to} {sizes:?}"
                );
            }
        }
    }
    assert!(stretches > 100 && alone > 50, "{stretches} and {alone}");
}

#[test]
fn a_reader_comes_to_the_end_by_what_it_was_given_over_gaps_too() {
    let mut bench = Bench::new();
    bench.config.segment_bytes = 3000;
    bench.config.cleanup.compact = true;
    bench.config.cleanup.delete = false;
    let mut log = bench.create();
    for at in 0..90 {
        let key = match at % 3 {
            0 => "the same".to_owned(),
            _ => format!("{at}"),
        };
        let mut builder = BatchBuilder::new(Offset::ZERO, Compression::None, None);
        builder.push(Timestamp(1000), Some(key.as_bytes()), Some(b"value"), &[]);
        put(&mut log, &builder.build());
    }
    compact(&mut log).unwrap();
    let reader = log.reader();
    let all = read_all(&reader, Offset(0), 9999);
    assert!(all.len() < 80, "{}", all.len());
    let (mut from, end) = (Offset(0), reader.log_end_offset());
    let (mut got, mut stretches) = (Vec::new(), 0);
    while from < end {
        let (read, stretch) = run(reader.read_beginning(from, end, (800, 100), true)).unwrap();
        let mut batches = split(read.concat());
        if let Some(mut stretch) = stretch {
            stretches += 1;
            let (more, end) = rest(&mut stretch, 100);
            end.unwrap();
            batches.extend(split(more));
        }
        from = batches.last().expect("there is more").header.end_offset();
        got.extend(batches);
    }
    assert_eq!(got, all);
    assert!(stretches > 3, "{stretches}");
}

#[test]
fn damage_behind_the_first_piece_ends_it_with_an_error_after_what_is_good() {
    let mut bench = Bench::new();
    bench.config.segment_bytes = 99_999;
    let mut log = bench.create();
    fill(&mut log, 20);
    run(log.stamp()).unwrap();
    let all = read_all(&log.reader(), Offset(0), 99_999);
    let before: usize = all[..12].iter().map(|batch| batch.bytes().len()).sum();
    bench.disk.damage(&bench.segment(0), |content| {
        content[4096 + before + 100] ^= 1;
    });
    let mut stretch = begun(&log, Offset(0));
    let (got, end) = rest(&mut stretch, 1);
    let error = end.unwrap_err();
    assert!(matches!(error, ReadError::Corrupt(_)), "{error}");
    assert!(joined(&all).starts_with(&got[..before]));
    let damaged = before..before + 130;
    assert!(damaged.contains(&got.len()), "{} of {damaged:?}", got.len());
    assert!(!stretch.has_log_changed(), "it is what is stored");

    let reader = log.reader();
    let again = reader.read_beginning(Offset(0), log.log_end_offset(), (usize::MAX, 1), true);
    let (again, stretch) = run(again).unwrap();
    assert!(stretch.is_none() && again.len() == before);
    let after = reader.read_beginning(again.end, log.log_end_offset(), (usize::MAX, 1), true);
    assert!(matches!(run(after), Err(ReadError::Corrupt(_))));
}

#[test]
fn a_removal_does_not_reach_it_and_a_cut_ends_it_with_an_error() {
    let mut bench = Bench::new();
    bench.config.segment_bytes = 3000;
    let mut log = bench.create();
    fill(&mut log, 40);
    let all = read_all(&log.reader(), Offset(0), 99_999);
    let mut stretch = begun(&log, Offset(0));
    let second = bench.disk.names().into_iter().filter_map(|name| {
        let base = name.strip_suffix(".log")?.parse().ok()?;
        (base > 0).then_some(Offset(base))
    });
    let second = second.min().expect("two segments");
    run(log.delete_records_before(second)).unwrap();
    let (got, end) = rest(&mut stretch, 1);
    end.unwrap();
    assert_eq!(got.len(), stretch.len());
    assert!(joined(&all).starts_with(&got));

    let mut bases = all.iter().map(|batch| batch.header.base_offset);
    let first = bases.position(|base| base == second).expect("a batch");
    let mut stretch = begun(&log, second);
    let kept = joined(&all[first..first + 3]);
    run(log.truncate_to(all[first + 3].header.base_offset)).unwrap();
    // Something else takes the place of what was cut.
    let other = put(&mut log, &batch(&["another"], 5000));
    let (got, end) = rest(&mut stretch, 1);
    let error = end.expect_err("it is shorter than was said");
    assert!(stretch.has_log_changed(), "{error}");
    assert!(got.starts_with(&kept));
    let other = run(log.reader().read(other, log.log_end_offset(), 9999, true)).unwrap();
    assert!(
        other.concat().starts_with(&got[kept.len()..]),
        "only what is there now"
    );
}
