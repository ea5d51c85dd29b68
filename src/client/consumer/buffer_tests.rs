//! Fetched batches: what is handed out, skipped and refused.

use super::*;
use crate::types::{ProducerEpoch, Sequence, Timestamp};
use crate::wire::batch::{BatchBuilder, Compression, TimestampType};

fn batch(base: i64, values: &[&str]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Offset(base), Compression::None, None);
    for value in values {
        builder.push(Timestamp(base), None, Some(value.as_bytes()), &[]);
    }
    builder
}

fn marker(base: i64, producer: i64, kind: u8) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(base), Compression::None, None)
        .producer(ProducerId(producer), ProducerEpoch(0), Sequence(-1))
        .transactional()
        .control();
    builder.push(Timestamp(0), Some(&[0, 0, 0, kind]), Some(&[]), &[]);
    builder.build().bytes().clone()
}

fn in_transaction(base: i64, producer: i64, values: &[&str]) -> Bytes {
    let builder = batch(base, values)
        .producer(ProducerId(producer), ProducerEpoch(0), Sequence(0))
        .transactional();
    builder.build().bytes().clone()
}

fn buffer(position: i64, parts: &[Bytes], aborted: Option<Vec<Aborted>>) -> PartitionBuffer {
    let bytes = Bytes::from(parts.concat());
    PartitionBuffer::new(
        TopicPartition::new("t", 0),
        Offset(position),
        bytes,
        aborted,
    )
}

fn offsets(buffer: &mut PartitionBuffer) -> Vec<i64> {
    let mut offsets = Vec::new();
    while let Some(record) = buffer.next_record().expect("valid batches") {
        offsets.push(record.offset.0);
    }
    offsets
}

#[test]
fn records_before_the_position_do_not_come_out() {
    let parts = [
        batch(0, &["a", "b"]).build().bytes().clone(),
        batch(2, &["c", "d", "e"]).build().bytes().clone(),
    ];
    let mut buffer = buffer(3, &parts, None);
    assert_eq!(offsets(&mut buffer), [3, 4]);
    assert_eq!(buffer.position(), Offset(5));
}

#[test]
fn a_batch_that_is_cut_off_ends_the_buffer_without_error() {
    let whole = batch(0, &["a"]).build().bytes().clone();
    let cut = batch(1, &["b"]).build().bytes().slice(..40);
    let mut buffer = buffer(0, &[whole, cut], None);
    assert_eq!(offsets(&mut buffer), [0]);
    assert_eq!(buffer.position(), Offset(1));
}

#[test]
fn a_damaged_batch_is_an_error_and_the_position_stays() {
    let mut bytes = batch(0, &["abc"]).build().bytes().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut buffer = buffer(0, &[Bytes::from(bytes)], None);
    assert!(matches!(
        buffer.next_record(),
        Err(BatchError::BadCrc { .. })
    ));
    assert_eq!(buffer.position(), Offset(0));
}

#[test]
fn the_position_moves_over_compacted_ends_and_markers() {
    let mut compacted = batch(0, &["a"]);
    compacted.extend_to(Offset(9));
    let parts = [compacted.build().bytes().clone(), marker(10, 7, 1)];
    let mut buffer = buffer(0, &parts, None);
    assert_eq!(offsets(&mut buffer), [0]);
    assert_eq!(buffer.position(), Offset(11));
}

#[test]
fn aborted_records_come_out_only_for_readers_of_everything() {
    let parts = [
        in_transaction(0, 7, &["aborted"]),
        in_transaction(1, 8, &["committed"]),
        marker(2, 7, 0),
        in_transaction(3, 7, &["next transaction"]),
        marker(4, 7, 1),
        marker(5, 8, 1),
    ];
    let aborted = vec![Aborted {
        first_offset: Offset(0),
        producer_id: ProducerId(7),
    }];
    assert_eq!(offsets(&mut buffer(0, &parts, Some(aborted))), [1, 3]);
    assert_eq!(offsets(&mut buffer(0, &parts, None)), [0, 1, 3]);
}

#[test]
fn log_append_time_is_every_records_time() {
    let mut builder = batch(0, &["a"]).timestamp_type(TimestampType::LogAppendTime);
    builder.push(Timestamp(50), None, None, &[]);
    let mut buffer = buffer(0, &[builder.build().bytes().clone()], None);
    for _ in 0..2 {
        let record = buffer.next_record().expect("valid").expect("a record");
        assert_eq!(record.timestamp, Timestamp(50));
        assert_eq!(record.timestamp_type, TimestampType::LogAppendTime);
    }
}

#[test]
fn the_end_is_known_before_anything_is_handed_out() {
    let mut compacted = batch(3, &["a"]);
    compacted.extend_to(Offset(9));
    let parts = [
        compacted.build().bytes().clone(),
        batch(10, &["b"]).build().bytes().slice(..65),
    ];
    let mut whole = buffer(3, &parts[..1], None);
    assert_eq!(whole.end(), Offset(10));
    offsets(&mut whole);
    assert_eq!(whole.position(), whole.end());
    assert_eq!(buffer(3, &parts, None).end(), Offset(10));
    assert_eq!(buffer(5, &[], None).end(), Offset(5));
}

#[test]
fn a_first_batch_that_is_not_whole_is_an_error() {
    let cut = batch(0, &["a"]).build().bytes().slice(..65);
    let mut buffer = buffer(0, &[cut], None);
    assert!(matches!(
        buffer.next_record(),
        Err(BatchError::Truncated { .. })
    ));
}
