//! Frames whose bytes are known to be right, of every API and version.

use std::collections::BTreeSet;

use klamm::wire::Reader;
use klamm::wire::api::{ApiKey, Response};
use klamm::wire::frame::{decode_request, read_response_header};

use super::{Direction, golden_frames};

#[test]
fn golden_frames_decode_and_encode_to_the_same_bytes() {
    for golden in golden_frames() {
        let (key, version) = (golden.key, golden.version);
        let again = match golden.direction {
            Direction::Request => {
                let (header, request) = decode_request(golden.frame.clone())
                    .unwrap_or_else(|error| panic!("{key:?} request {version}: {error}"));
                assert_eq!((header.api_key, header.api_version), (key as i16, version));
                request.frame(&header)
            }
            Direction::Response => {
                let mut from = Reader::new(golden.frame.clone());
                let correlation_id = read_response_header(&mut from, key, version).unwrap();
                let response = Response::read(key, &mut from, key.version(version))
                    .unwrap_or_else(|error| panic!("{key:?} response {version}: {error}"));
                assert_eq!(from.finish(), Ok(()), "{key:?} response {version}");
                response.frame(correlation_id, version)
            }
        };
        let again = again.expect("what was decoded can be encoded").concat();
        assert_eq!(
            again[4..],
            golden.frame,
            "{key:?} {:?} {version}",
            golden.direction
        );
    }
}

#[test]
fn no_version_is_without_golden_frames() {
    let have: BTreeSet<(ApiKey, i16, bool)> = golden_frames()
        .iter()
        .map(|golden| {
            (
                golden.key,
                golden.version,
                golden.direction == Direction::Request,
            )
        })
        .collect();
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for request in [true, false] {
                assert!(have.contains(&(key, version, request)), "{key:?} {version}");
            }
        }
    }
}

#[test]
fn a_frame_cut_anywhere_is_an_error_or_ends_where_kafka_would_stop_reading() {
    for golden in golden_frames() {
        if golden.direction == Direction::Response {
            continue;
        }
        for end in 0..golden.frame.len() {
            let cut = golden.frame.slice(..end);
            assert!(
                decode_request(cut).is_err(),
                "{:?} {} cut to {end}",
                golden.key,
                golden.version
            );
        }
    }
}
