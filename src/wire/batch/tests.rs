//! Batches built, read back, damaged and blown up.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::types::{
    ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};
use crate::wire::primitive::Str;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn bytes_of(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

fn build(base: Offset, compression: Compression, records: &[Record]) -> RecordBatch {
    let mut builder = BatchBuilder::new(base, compression, None);
    for record in records {
        builder.push_at(
            record.offset,
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        );
    }
    builder.build()
}

fn read(batch: &RecordBatch) -> Result<Vec<Record>, BatchError> {
    batch.records()?.collect()
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    let short = proptest::collection::vec(any::<u8>(), 0..40);
    let repeated = (any::<u8>(), 0_usize..70_000).prop_map(|(byte, n)| vec![byte; n]);
    proptest::option::of(prop_oneof![8 => short, 1 => repeated].prop_map(Bytes::from))
}

fn any_record() -> impl Strategy<Value = (i64, i64, Record)> {
    let headers = proptest::collection::vec(("\\PC{0,6}".prop_map(Str::from), any_bytes()), 0..4);
    (1_i64..4, any::<i64>(), any_bytes(), any_bytes(), headers).prop_map(
        |(step, timestamp, key, value, headers)| {
            let record = Record {
                offset: Offset::ZERO,
                timestamp: Timestamp(timestamp),
                key,
                value,
                headers,
            };
            (step, timestamp, record)
        },
    )
}

/// A base offset and records at growing offsets from it, with gaps.
fn any_records() -> impl Strategy<Value = (Offset, Vec<Record>)> {
    let records = proptest::collection::vec(any_record(), 0..12);
    (0..i64::MAX / 2, records).prop_map(|(base, records)| {
        let mut next = base - 1;
        let records = records
            .into_iter()
            .map(|(step, _, mut record)| {
                next += step;
                record.offset = Offset(next);
                record
            })
            .collect();
        (Offset(base), records)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_survive_every_codec((base, records) in any_records()) {
        for codec in CODECS {
            let batch = build(base, codec, &records);
            let mut bytes = batch.bytes().clone();
            let parsed = RecordBatch::split_first(&mut bytes).expect("a built batch is valid");
            prop_assert!(bytes.is_empty());
            prop_assert_eq!(&parsed, &batch);
            prop_assert_eq!(&read(&parsed), &Ok(records.clone()), "{:?}", codec);
            let checked = parsed.check_records(false).expect("readable records are valid");
            let latest = records.iter().map(|record| record.timestamp).max();
            prop_assert_eq!(checked.max_timestamp, latest.unwrap_or(Timestamp::NONE));
            prop_assert_eq!(checked.max_timestamp, batch.header.max_timestamp);
            let with_nulls = records.iter().any(|record| record.key.is_none());
            prop_assert_eq!(parsed.check_records(true).is_err(), with_nulls);
        }
    }
}

#[test]
fn the_estimate_is_the_size_of_an_uncompressed_batch() {
    let mut builder = BatchBuilder::new(Offset(5), Compression::None, None);
    builder.push(
        Timestamp(1),
        None,
        Some(&[7; 300]),
        &[(Str::from("h"), None)],
    );
    let estimate = builder.estimated_bytes();
    assert_eq!(
        (builder.len(), estimate),
        (1, builder.build().total_bytes())
    );
}
