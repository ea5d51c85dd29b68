//! Every decoder on bytes nobody meant. Each target checks more than survival: what decodes must
//! encode, and decode to the same again.
//!
//! Random bytes alone rarely get past a header, so most inputs are taken as edits of golden
//! frames.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use klamm::types::Offset;
use klamm::wire::Reader;
use klamm::wire::api::{ApiKey, Request, Response};
use klamm::wire::batch::{BatchBuilder, BatchHeader, Compression, HEADER_BYTES, RecordBatch};
use klamm::wire::frame::{RequestHeader, decode_request, read_response_header};

use super::{Direction, Golden, foreign_batches, golden_frames};

const TIME: Duration = Duration::from_secs(1);
const ITERATIONS: usize = 20_000;
const INPUT_BYTES_MAX: usize = 512;

/// Applies `edits`: of each four bytes, two say where, one what, and the last is the byte put.
fn edited(original: &[u8], edits: &[u8]) -> Bytes {
    let mut bytes = original.to_vec();
    for edit in edits.chunks_exact(4).take(8) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
        match edit[2] % 8 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, edit[3]),
            2 => bytes.extend_from_slice(&edits[..usize::from(edit[3]).min(edits.len())]),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 if at < bytes.len() => bytes[at] ^= 1 << (edit[3] % 8),
            _ if at < bytes.len() => bytes[at] = edit[3],
            _ => {}
        }
    }
    Bytes::from(bytes)
}

fn check_request(frame: Bytes) {
    let Ok((header, request)) = decode_request(frame) else {
        return;
    };
    let again = request
        .frame(&header)
        .expect("what was decoded can be encoded")
        .concat();
    let decoded = decode_request(Bytes::from(again).slice(4..));
    assert_eq!(decoded, Ok((header, request)));
}

fn check_response(key: ApiKey, version: i16, frame: Bytes) {
    let mut from = Reader::new(frame);
    if read_response_header(&mut from, key, version).is_err() {
        return;
    }
    let Ok(response) = Response::read(key, &mut from, key.version(version)) else {
        return;
    };
    let again = response
        .frame(1, version)
        .expect("what was decoded can be encoded")
        .concat();
    let mut from = Reader::new(Bytes::from(again).slice(4..));
    assert_eq!(read_response_header(&mut from, key, version), Ok(1));
    assert_eq!(
        Response::read(key, &mut from, key.version(version)),
        Ok(response)
    );
}

fn fuzz(target: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    bolero::check!()
        .with_test_time(TIME)
        .with_iterations(ITERATIONS)
        .with_max_len(INPUT_BYTES_MAX)
        .for_each(|input: &[u8]| target(input));
}

fn pick<'a, T>(from: &'a [T], input: &'a [u8]) -> Option<(&'a T, &'a [u8])> {
    let (choice, rest) = input.split_first_chunk::<2>()?;
    Some((
        &from[usize::from(u16::from_be_bytes(*choice)) % from.len()],
        rest,
    ))
}

fn golden(direction: Direction) -> Vec<Golden> {
    let mut frames = golden_frames();
    frames.retain(|golden| golden.direction == direction);
    frames
}

#[test]
fn edited_requests_are_refused_or_mean_what_they_say() {
    let frames = golden(Direction::Request);
    fuzz(|input| {
        if let Some((golden, edits)) = pick(&frames, input) {
            check_request(edited(&golden.frame, edits));
        }
    });
}

#[test]
fn edited_responses_are_refused_or_mean_what_they_say() {
    let frames = golden(Direction::Response);
    fuzz(|input| {
        if let Some((golden, edits)) = pick(&frames, input) {
            check_response(golden.key, golden.version, edited(&golden.frame, edits));
        }
    });
}

fn versions() -> Vec<(ApiKey, i16)> {
    let each = |&key: &ApiKey| key.versions().map(move |version| (key, version));
    ApiKey::ALL.iter().flat_map(each).collect()
}

#[test]
fn any_bytes_as_a_request_are_refused_or_mean_what_they_say() {
    let versions = versions();
    fuzz(|input| {
        let Some((&(key, version), body)) = pick(&versions, input) else {
            return;
        };
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&(key as i16).to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 1, 0xff, 0xff]);
        if key.version(version).flexible {
            frame.extend_from_slice(&[0]);
        }
        frame.extend_from_slice(body);
        check_request(frame.freeze());
    });
}

#[test]
fn any_bytes_as_a_response_are_refused_or_mean_what_they_say() {
    let versions = versions();
    fuzz(|input| {
        if let Some((&(key, version), body)) = pick(&versions, input) {
            check_response(key, version, Bytes::copy_from_slice(body));
        }
    });
}

#[test]
fn any_bytes_as_a_frame_are_refused_or_mean_what_they_say() {
    fuzz(|input| check_request(Bytes::copy_from_slice(input)));
}

#[test]
fn a_request_in_a_version_it_was_not_made_for_never_panics() {
    let frames = golden(Direction::Request);
    fuzz(|input| {
        let Some((golden, rest)) = pick(&frames, input) else {
            return;
        };
        let Ok((header, request)) = decode_request(golden.frame.clone()) else {
            panic!("golden frames decode");
        };
        let version = i16::from(rest.first().copied().unwrap_or(0) % 20);
        let header = RequestHeader {
            api_version: version,
            ..header
        };
        // Fields the version lacks are dropped; null where it has none is an error.
        if request.api_key().versions().contains(&version)
            && let Ok(frame) = Request::frame(&request, &header)
        {
            assert!(decode_request(Bytes::from(frame.concat()).slice(4..)).is_ok());
        }
    });
}

/// Both ways of reading agree, and what was read can be written and read back.
fn check_batch(batch: &RecordBatch) {
    let checked = batch.check_records(false);
    let records: Result<Vec<_>, _> = batch.records().and_then(Iterator::collect);
    let (checked, records) = match (checked, records) {
        (Ok(checked), Ok(records)) => (checked, records),
        (checked, records) => {
            assert_eq!(checked.err(), records.err());
            return;
        }
    };
    let latest = records.iter().map(|record| record.timestamp).max();
    assert_eq!(
        checked.max_timestamp,
        latest.unwrap_or(klamm::types::Timestamp::NONE)
    );
    if batch.header.base_offset < Offset::ZERO || batch.header.base_offset > Offset(i64::MAX / 2) {
        return;
    }
    let mut builder = BatchBuilder::new(batch.header.base_offset, Compression::None, None);
    for record in &records {
        builder.push_at(
            record.offset,
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        );
    }
    let again: Result<Vec<_>, _> = builder.build().records().and_then(Iterator::collect);
    assert_eq!(again, Ok(records));
}

#[test]
fn edited_batches_are_refused_or_read_alike_both_ways() {
    let batches = foreign_batches();
    fuzz(|input| {
        let Some(((_, batch), edits)) = pick(&batches, input) else {
            return;
        };
        let mut bytes = edited(batch, edits);
        let before = bytes.len();
        match RecordBatch::split_first(&mut bytes) {
            Ok(batch) => {
                assert_eq!(before - bytes.len(), batch.total_bytes());
                check_batch(&batch);
            }
            Err(_) => assert_eq!(bytes.len(), before, "on error nothing is taken"),
        }
    });
}

#[test]
fn edited_records_under_a_right_checksum_are_refused_or_read_alike_both_ways() {
    let batches = foreign_batches();
    fuzz(|input| {
        let Some(((_, original), edits)) = pick(&batches, input) else {
            return;
        };
        let header = BatchHeader::parse(original).expect("a batch of the corpus");
        let records = edited(&original[HEADER_BYTES..], edits);
        check_batch(&RecordBatch::seal(header, &records));
    });
}

#[test]
fn any_bytes_as_compressed_records_are_refused_or_read_alike_both_ways() {
    let batches = foreign_batches();
    fuzz(|input| {
        let Some(((_, original), records)) = pick(&batches, input) else {
            return;
        };
        let header = BatchHeader::parse(original).expect("a batch of the corpus");
        check_batch(&RecordBatch::seal(header, records));
    });
}

#[test]
fn any_bytes_as_a_batch_header_never_panic() {
    fuzz(|input| {
        if let Ok(header) = BatchHeader::parse(input) {
            let mut written = BytesMut::new();
            header.write(&mut written);
            assert_eq!(written, input[..HEADER_BYTES]);
            let _ = (
                header.total_bytes(),
                header.end_offset(),
                header.last_sequence(),
            );
        }
    });
}
