//! Batches made by other implementations.

use bytes::Bytes;
use klamm::types::{Offset, ProducerId, Sequence, Timestamp};
use klamm::wire::Str;
use klamm::wire::batch::{Record, RecordBatch};

use super::foreign_batches;

fn some(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn record(offset: i64, millis: i64, key: Option<Bytes>, value: Option<Bytes>) -> Record {
    Record {
        offset: Offset(offset),
        timestamp: Timestamp(1_700_000_000_000 + millis),
        key,
        value,
        headers: Vec::new(),
    }
}

/// Four records with everything that can be null or empty.
fn small() -> Vec<Record> {
    let mut records = vec![
        record(
            0,
            0,
            some("k0"),
            some(&format!("value 0 {}", "x".repeat(600))),
        ),
        record(1, 5, None, some("value 1")),
        record(2, 3, some("k2"), None),
        record(3, 4, some(""), some("")),
    ];
    records[1].headers = vec![
        (Str::from("h"), some("1")),
        (Str::from("h"), None),
        (Str::from("g"), some("")),
    ];
    records
}

/// 400 records over more than 64 KiB, so that blocks end within them.
fn large() -> Vec<Record> {
    (0..400_i64)
        .map(|n| {
            let repeats = usize::try_from(n).unwrap();
            let value = format!("payload {n} {}", "abc".repeat(repeats));
            record(n, n, some(&format!("key-{}", n % 10)), some(&value))
        })
        .collect()
}

#[test]
fn batches_of_other_implementations_are_read() {
    let batches = foreign_batches();
    assert_eq!(batches.len(), 15);
    for (name, mut bytes) in batches {
        let batch =
            RecordBatch::split_first(&mut bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(bytes.is_empty(), "{name}");
        let records: Result<Vec<Record>, _> = batch.records().and_then(Iterator::collect);
        let is_large = name.ends_with("-large") || name.ends_with("-transactional");
        let expected = if is_large { large() } else { small() };
        assert_eq!(records.as_ref(), Ok(&expected), "{name}");
        let checked = batch.check_records(false).expect("just read");
        assert_eq!(checked.max_timestamp, batch.header.max_timestamp, "{name}");
        assert_eq!(batch.check_records(true).is_ok(), is_large, "{name}");
    }
}

#[test]
fn a_transactional_batch_of_another_implementation_says_so() {
    let (_, mut bytes) = foreign_batches()
        .into_iter()
        .find(|(name, _)| name == "kafka-python-lz4-transactional")
        .expect("in the corpus");
    let header = RecordBatch::split_first(&mut bytes).unwrap().header;
    assert!(header.attributes.is_transactional());
    assert_eq!(header.producer_id, ProducerId(4711));
    assert_eq!(header.base_sequence, Sequence(i32::MAX));
    assert_eq!(header.last_sequence(), Sequence(398), "sequences wrap to 0");
}
