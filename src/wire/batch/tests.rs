//! Batches built, read back, damaged and blown up.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use bytes::Bytes;
use proptest::prelude::*;

use super::compress::{compress, decompress};
use super::xxhash::xxhash32;
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

fn sample(codec: Compression) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset(40), codec, None)
        .producer(ProducerId(9), ProducerEpoch(2), Sequence(100))
        .leader_epoch(LeaderEpoch(7));
    let headers = [
        (Str::from("a"), Some(Bytes::from_static(b"1"))),
        (Str::from("b"), None),
        (Str::from("a"), Some(Bytes::new())),
    ];
    builder.push(Timestamp(1000), Some(b"key"), Some(&[b'v'; 200]), &headers);
    builder.push(Timestamp(990), None, None, &[]);
    builder.push(Timestamp(1010), Some(b""), Some(b""), &[]);
    builder.build()
}

/// The same header over other record bytes, with a right CRC.
fn resealed(batch: &RecordBatch, records: &[u8]) -> RecordBatch {
    let sealed = RecordBatch::seal(batch.header, records);
    RecordBatch::split_first(&mut sealed.bytes().clone()).expect("sealed")
}

#[test]
fn a_batch_says_what_its_builder_was_told() {
    let header = sample(Compression::Zstd).header;
    assert_eq!(header.base_offset, Offset(40));
    assert_eq!(header.last_offset(), Offset(42));
    assert_eq!(header.record_count, 3);
    assert_eq!(
        (header.base_timestamp, header.max_timestamp),
        (Timestamp(1000), Timestamp(1010))
    );
    assert_eq!(
        (header.producer_id, header.producer_epoch),
        (ProducerId(9), ProducerEpoch(2))
    );
    assert_eq!(
        (header.base_sequence, header.last_sequence()),
        (Sequence(100), Sequence(102))
    );
    assert_eq!(header.leader_epoch, LeaderEpoch(7));
    assert_eq!(header.attributes.compression(), Ok(Compression::Zstd));
    assert!(!header.attributes.is_transactional() && !header.attributes.is_control());
    let mut marker = BatchBuilder::new(Offset(0), Compression::None, None)
        .transactional()
        .control();
    marker.push(Timestamp(1), Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
    let attributes = marker.build().header.attributes;
    assert!(attributes.is_transactional() && attributes.is_control());
}

#[test]
fn headers_keep_their_order_and_their_repeats() {
    let records = read(&sample(Compression::None)).unwrap();
    let keys: Vec<&str> = records[0]
        .headers
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!(keys, ["a", "b", "a"]);
    assert_eq!(records[0].headers[2].1, Some(Bytes::new()));
    assert_eq!(records[0].headers[1].1, None);
}

#[test]
fn uncompressed_records_are_views_of_the_batch() {
    let batch = sample(Compression::None);
    let value = batch
        .records()
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .value
        .unwrap();
    assert!(batch.bytes().as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn log_append_time_rules_all_records_and_keeps_the_checksum_right() {
    for codec in CODECS {
        let stamped = sample(codec).with_log_append_time(Timestamp(5000));
        let parsed = RecordBatch::split_first(&mut stamped.bytes().clone()).expect("right CRC");
        assert_eq!(parsed, stamped);
        assert_eq!(
            parsed.header.attributes.timestamp_type(),
            TimestampType::LogAppendTime
        );
        assert_eq!(parsed.header.attributes.compression(), Ok(codec));
        let records = read(&parsed).unwrap();
        assert!(
            records
                .iter()
                .all(|record| record.timestamp == Timestamp(5000))
        );
        assert_eq!(
            parsed.check_records(false).unwrap().max_timestamp,
            Timestamp(5000)
        );
    }
}

#[test]
fn a_wrong_maximum_timestamp_is_found_and_can_be_put_right() {
    let lying = sample(Compression::Lz4).with_max_timestamp(Timestamp(1));
    let found = lying.check_records(false).unwrap();
    assert_eq!(
        (found.min_timestamp, found.max_timestamp),
        (Timestamp(990), Timestamp(1010))
    );
    assert_eq!(found.max_timestamp_offset, Offset(42));
    assert_eq!(
        lying.with_max_timestamp(found.max_timestamp),
        sample(Compression::Lz4)
    );
}

#[test]
fn a_delete_horizon_does_not_move_timestamps() {
    let horizon = Timestamp(86_400_000);
    let mut builder = BatchBuilder::new(Offset(3), Compression::None, None).delete_horizon(horizon);
    builder.push_at(Offset(5), Timestamp(17), Some(b"k"), None, &[]);
    builder.extend_to(Offset(9));
    let batch = builder.build();
    assert!(batch.header.attributes.has_delete_horizon());
    assert_eq!(batch.header.base_timestamp, horizon);
    assert_eq!(
        (batch.header.base_offset, batch.header.last_offset()),
        (Offset(3), Offset(9))
    );
    let records = read(&batch).unwrap();
    assert_eq!(
        (records[0].offset, records[0].timestamp),
        (Offset(5), Timestamp(17))
    );
}

#[test]
fn compaction_can_keep_the_span_of_a_batch_without_records() {
    let mut builder = BatchBuilder::new(Offset(3), Compression::Gzip, None);
    builder.extend_to(Offset(12));
    let batch = builder.build();
    assert_eq!(
        (batch.header.end_offset(), batch.header.record_count),
        (Offset(13), 0)
    );
    assert_eq!(read(&batch), Ok(Vec::new()));
    assert_eq!(
        batch.check_records(true).unwrap().max_timestamp,
        Timestamp::NONE
    );
}

#[test]
fn no_prefix_of_a_batch_is_a_batch() {
    for codec in CODECS {
        let whole = sample(codec).bytes().clone();
        for end in 0..whole.len() {
            let mut part = whole.slice(..end);
            let error = RecordBatch::split_first(&mut part).expect_err("cut short");
            assert!(matches!(error, BatchError::Truncated { .. }), "{error}");
            assert_eq!(part.len(), end, "on error nothing is taken");
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_except_where_the_broker_writes() {
    let whole = sample(Compression::Snappy).bytes().clone();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let assigned_by_broker = bit / 8 < 8 || (12..16).contains(&(bit / 8));
        let result = RecordBatch::split_first(&mut Bytes::from(bytes));
        assert_eq!(result.is_ok(), assigned_by_broker, "bit {bit}: {result:?}");
    }
}

#[test]
fn no_prefix_of_compressed_records_passes_for_all_of_them() {
    for codec in CODECS {
        let batch = sample(codec);
        let records = batch.payload();
        for end in 0..records.len() {
            let cut = resealed(&batch, &records[..end]);
            assert!(cut.check_records(false).is_err(), "{codec:?} cut to {end}");
            let read = read(&cut);
            assert!(read.is_err(), "{codec:?} cut to {end}: {read:?}");
        }
    }
}

#[test]
fn flipped_bits_under_a_right_checksum_are_read_or_refused_alike() {
    for codec in CODECS {
        let batch = sample(codec);
        let records = batch.payload();
        for bit in 0..records.len() * 8 {
            let mut flipped = records.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = resealed(&batch, &flipped);
            let checked = flipped.check_records(false).map(|_| ());
            assert_eq!(checked, read(&flipped).map(|_| ()), "{codec:?} bit {bit}");
        }
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let zeros = vec![0; 3 << 20];
    for codec in CODECS {
        let mut bomb = Vec::new();
        compress(codec, None, &zeros, &mut bomb).unwrap();
        let bomb = Bytes::from(bomb);
        let limit = zeros.len() - 1;
        assert_eq!(
            decompress(codec, &bomb, limit),
            Err(BatchError::TooLarge(limit)),
            "{codec:?}"
        );
        assert_eq!(
            decompress(codec, &bomb, zeros.len()).unwrap(),
            zeros,
            "{codec:?}"
        );
    }
}

#[test]
fn a_zstd_bomb_over_the_limit_of_batches_is_too_large() {
    let mut bomb = Vec::new();
    compress(
        Compression::Zstd,
        None,
        &vec![0; UNCOMPRESSED_MAX + 1],
        &mut bomb,
    )
    .unwrap();
    assert!(bomb.len() < 64 << 10);
    let batch = resealed(&sample(Compression::Zstd), &bomb);
    let error = batch.check_records(false).expect_err("a bomb");
    assert_eq!(error, BatchError::TooLarge(UNCOMPRESSED_MAX));
    assert_eq!(error.error_code(), ErrorCode::MessageTooLarge);
}

#[test]
fn a_snappy_block_cannot_claim_more_than_it_can_hold() {
    // Claims 64 MiB in five bytes.
    let liar = Bytes::from_static(&[0x80, 0x80, 0x80, 0x20, 0x00]);
    let error = decompress(Compression::Snappy, &liar, UNCOMPRESSED_MAX).expect_err("a lie");
    assert!(matches!(error, BatchError::Decompress(_)), "{error}");
}

#[test]
fn snappy_is_written_framed_and_read_framed_or_bare() {
    let records: Vec<u8> = (0..100_000_u32)
        .flat_map(|n| (n / 7).to_le_bytes())
        .collect();
    let mut framed = Vec::new();
    compress(Compression::Snappy, None, &records, &mut framed).unwrap();
    assert_eq!(framed[..8], [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0]);
    let bare = snap::raw::Encoder::new().compress_vec(&records).unwrap();
    for form in [framed, bare] {
        let back = decompress(Compression::Snappy, &Bytes::from(form), UNCOMPRESSED_MAX);
        assert_eq!(back.unwrap(), records);
    }
}

#[test]
fn a_gzip_stream_of_several_members_is_read_to_its_end() {
    let mut members = Vec::new();
    compress(Compression::Gzip, Some(1), b"one", &mut members).unwrap();
    compress(Compression::Gzip, Some(9), b"two", &mut members).unwrap();
    let back = decompress(Compression::Gzip, &Bytes::from(members), 100).unwrap();
    assert_eq!(back, "onetwo");
}

#[test]
fn levels_out_of_range_are_clamped() {
    for codec in [Compression::Gzip, Compression::Zstd] {
        for level in [i32::MIN, -1, 0, 1000, i32::MAX] {
            let mut compressed = Vec::new();
            compress(codec, Some(level), b"records", &mut compressed).unwrap();
            assert_eq!(
                decompress(codec, &Bytes::from(compressed), 100).unwrap(),
                "records"
            );
        }
    }
}

#[test]
fn lz4_frames_of_every_shape_are_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;
    let mut records: Vec<u8> = (0..80_000_u32)
        .flat_map(|n| (n / 5).to_le_bytes())
        .collect();
    records.extend((0..90_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8));
    let sizes = [
        BlockSize::Max64KB,
        BlockSize::Max256KB,
        BlockSize::Max1MB,
        BlockSize::Max4MB,
    ];
    for size in sizes {
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for checksums in [false, true] {
                let info = FrameInfo::new()
                    .block_size(size)
                    .block_mode(mode)
                    .block_checksums(checksums)
                    .content_checksum(checksums)
                    .content_size(checksums.then_some(records.len() as u64));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(&records).unwrap();
                let frame = Bytes::from(encoder.finish().unwrap());
                let back = decompress(Compression::Lz4, &frame, UNCOMPRESSED_MAX).unwrap();
                assert!(back == records, "{size:?} {mode:?} {checksums}");
                let limit = records.len() - 1;
                let refused = decompress(Compression::Lz4, &frame, limit);
                assert_eq!(refused, Err(BatchError::TooLarge(limit)));
                if checksums {
                    let mut damaged = frame.to_vec();
                    let at = damaged.len() / 2;
                    damaged[at] ^= 1;
                    assert!(
                        decompress(Compression::Lz4, &damaged.into(), UNCOMPRESSED_MAX).is_err()
                    );
                }
            }
        }
    }
}

#[test]
fn xxhash_gives_its_published_values() {
    assert_eq!(xxhash32(b""), 0x02CC_5D05);
    assert_eq!(xxhash32(b"a"), 0x550D_7456);
    assert_eq!(xxhash32(b"abc"), 0x32D1_53FF);
    assert_eq!(
        xxhash32(b"Nobody inspects the spammish repetition"),
        0xE229_3B2F
    );
}

/// A batch of `count` records up to `last_delta` over hand-made record bytes.
fn crafted(count: i32, last_delta: i32, records: &[u8]) -> RecordBatch {
    let mut header = sample(Compression::None).header;
    header.record_count = count;
    header.last_offset_delta = last_delta;
    resealed(&RecordBatch::seal(header, b""), records)
}

/// A record without key, value and headers: zig-zag length 6, attributes, timestamp delta 0.
const fn record(offset_delta: u8) -> [u8; 7] {
    [12, 0, 0, offset_delta * 2, 1, 1, 0]
}

#[test]
fn records_that_break_a_rule_are_refused_with_the_rule() {
    let two = |a: u8, b: u8| [record(a), record(b)].concat();
    let cases: [(RecordBatch, &str); 15] = [
        (crafted(2, 1, &record(0)), "cut short"),
        (crafted(1, 1, &two(0, 1)), "left over"),
        (crafted(0, 1, &two(0, 1)), "left over"),
        (crafted(2, 1, &two(0, 0)), "offset delta"),
        (crafted(2, 1, &two(1, 0)), "offset delta"),
        (crafted(2, 1, &two(0, 2)), "offset delta"),
        (crafted(1, 0, &[12, 0, 0, 1, 1, 1, 0]), "offset delta"),
        (crafted(1, 0, &[1]), "length is negative"),
        (crafted(1, 0, &[3]), "a length is negative"),
        (
            crafted(1, 0, &[12, 0, 0, 0, 3, 1, 0]),
            "a length is negative",
        ),
        (
            crafted(1, 0, &[12, 0, 0, 0, 1, 1, 1]),
            "number of headers is negative",
        ),
        (crafted(1, 0, &[12, 0, 0, 0, 1, 1, 126]), "more headers"),
        (
            crafted(1, 0, &[16, 0, 0, 0, 1, 1, 2, 1, 1]),
            "a header has no key",
        ),
        (
            crafted(1, 0, &[18, 0, 0, 0, 1, 1, 2, 2, 0xff, 1]),
            "not UTF-8",
        ),
        (
            crafted(1, 0, &[14, 0, 0, 0, 1, 1, 0, 0]),
            "longer than its fields",
        ),
    ];
    for (batch, rule) in cases {
        let error = batch.check_records(false).expect_err(rule);
        assert!(error.to_string().contains(rule), "{error} for {rule}");
        assert_eq!(error.error_code(), ErrorCode::InvalidRecord);
        assert_eq!(read(&batch).expect_err(rule), error);
        let errors = batch.records().unwrap().filter(Result::is_err).count();
        assert_eq!(errors, 1, "the iterator ends after its first error");
    }
    assert!(
        crafted(2, 5, &two(1, 4)).check_records(false).is_ok(),
        "gaps are allowed"
    );
}

#[test]
fn a_record_without_key_is_named_when_keys_are_needed() {
    let error = sample(Compression::Gzip)
        .check_records(true)
        .expect_err("the second has none");
    assert_eq!(error, BatchError::MissingKey { index: 1 });
    assert_eq!(error.error_code(), ErrorCode::InvalidRecord);
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let claims = |count, last_offset_delta| {
        let mut header = sample(Compression::None).header;
        header.record_count = count;
        header.last_offset_delta = last_offset_delta;
        let sealed = RecordBatch::seal(header, b"");
        RecordBatch::split_first(&mut sealed.bytes().clone()).map(|_| ())
    };
    for (count, last_offset_delta) in [(-1, 0), (0, -1), (3, 1), (i32::MAX, i32::MAX - 2)] {
        let refused = Err(BatchError::BadCount {
            count,
            last_offset_delta,
        });
        assert_eq!(claims(count, last_offset_delta), refused);
    }
    assert_eq!(claims(i32::MAX, i32::MAX), Ok(()));
    let mut unknown = sample(Compression::None).header;
    unknown.attributes = Attributes(7);
    let error = RecordBatch::seal(unknown, b"")
        .records()
        .expect_err("no such codec");
    assert_eq!(error, BatchError::UnknownCompression(7));
}

#[test]
fn old_record_formats_are_named_however_short() {
    let mut bytes = sample(Compression::None).bytes()[..20].to_vec();
    for magic in [0, 1, 3] {
        bytes[16] = magic;
        let error = RecordBatch::split_first(&mut Bytes::from(bytes.clone())).expect_err("old");
        assert_eq!(error, BatchError::UnsupportedMagic(magic.cast_signed()));
        assert_eq!(error.error_code(), ErrorCode::InvalidRecord);
    }
}

#[test]
fn a_placed_batch_shares_all_but_its_header() {
    let batch = sample(Compression::Lz4);
    let [head, rest] = batch.placed(Offset(1 << 40), LeaderEpoch(12));
    assert_eq!(rest.as_ptr(), batch.payload().as_ptr());
    let mut whole = Bytes::from([head, rest].concat());
    let placed = RecordBatch::split_first(&mut whole).expect("the CRC covers neither field");
    assert_eq!(placed.header.base_offset, Offset(1 << 40));
    assert_eq!(placed.header.leader_epoch, LeaderEpoch(12));
    assert_eq!(read(&placed).unwrap()[2].offset, Offset((1 << 40) + 2));
}

#[test]
fn the_checksum_is_another_implementations_whatever_length_and_place() {
    use super::header::checksum;
    assert_eq!(checksum(b"123456789"), 0xE306_9283);
    let bytes: Vec<u8> = (0..20_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for len in (0..2100).chain([4095, 4096, 4097, 9999, 19_900]) {
        let from = len % 67;
        let piece = &bytes[from..from + len];
        assert_eq!(checksum(piece), crc32c::crc32c(piece), "{len} from {from}");
    }
}
