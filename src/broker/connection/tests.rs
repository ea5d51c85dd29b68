//! Claims about frames: what is taken for one, and how large it may be.

use super::*;

/// Few bytes, of a server that is short of memory.
const REQUEST_MAX: usize = 1000;

/// What has arrived of a frame of `length` bytes, of this API.
fn arrived(length: usize, key: ApiKey, bytes: usize) -> BytesMut {
    let announced = i32::try_from(length).expect("a frame's length");
    let mut received = BytesMut::from(&announced.to_be_bytes()[..]);
    let mut frame = (key as i16).to_be_bytes().to_vec();
    frame.resize(bytes.max(KEY_BYTES), 0);
    received.extend_from_slice(&frame[..bytes]);
    received
}

/// The length of the frame taken; `None` while bytes are missing.
fn taken(mut received: BytesMut) -> Result<Option<usize>, Ended> {
    let frame = take_frame(&mut received, REQUEST_MAX)?;
    Ok(frame.map(|frame| frame.len()))
}

fn is_refused(received: BytesMut) -> bool {
    matches!(taken(received), Err(Ended::FrameTooLarge(..)))
}

#[test]
fn a_question_of_a_node_may_be_longer_than_any_request_of_a_client() {
    for length in [REQUEST_MAX + 1, 50 * REQUEST_MAX] {
        let question = arrived(length, ApiKey::AskPeer, length);
        assert_eq!(taken(question).expect("a question"), Some(length));
    }
    let begun = arrived(NODES_FRAME_MAX, ApiKey::AskPeer, 5000);
    assert_eq!(taken(begun).expect("the rest may come"), None);
}

#[test]
fn the_questions_of_nodes_have_a_bound_as_well() {
    let length = NODES_FRAME_MAX + 1;
    assert!(is_refused(arrived(length, ApiKey::AskPeer, 2)));
    // Before anything but the length is there.
    assert!(is_refused(arrived(length, ApiKey::AskPeer, 0)));
}

#[test]
fn the_largest_question_of_a_quorum_fits_a_frame() {
    let question = crate::wire::message::ask_peer::AskPeerRequest {
        question: vec![0; crate::controller::QUESTION_BYTES_MAX].into(),
        ..Default::default()
    };
    let header = frame::RequestHeader {
        api_key: ApiKey::AskPeer as i16,
        api_version: 0,
        correlation_id: 0,
        client_id: Some("klamm-node-2147483647".into()),
    };
    let slices = frame::request_frame(&question.into(), &header).expect("it can be encoded");
    let bytes: usize = slices.iter().map(Bytes::len).sum();
    assert!(bytes - LENGTH_BYTES <= NODES_FRAME_MAX, "{bytes}");
}

#[test]
fn a_request_of_a_client_is_refused_as_soon_as_its_kind_is_known() {
    let length = REQUEST_MAX + 1;
    assert!(is_refused(arrived(length, ApiKey::Produce, 2)));
    assert!(is_refused(arrived(length, ApiKey::Metadata, length)));
    let unknown = arrived(length, ApiKey::Produce, 1);
    assert_eq!(taken(unknown).expect("its kind is not known"), None);
}

#[test]
fn requests_come_one_after_another() {
    let mut received = arrived(REQUEST_MAX, ApiKey::Produce, REQUEST_MAX);
    received.extend_from_slice(&arrived(12, ApiKey::Metadata, 7));
    let first = take_frame(&mut received, REQUEST_MAX).expect("a frame");
    assert_eq!(first.expect("whole").len(), REQUEST_MAX);
    assert_eq!(received.len(), LENGTH_BYTES + 7);
    let second = take_frame(&mut received, REQUEST_MAX).expect("a frame");
    assert!(second.is_none());
}

#[test]
fn a_negative_length_is_refused() {
    assert!(is_refused(BytesMut::from(&(-1_i32).to_be_bytes()[..])));
}

#[test]
fn room_is_made_for_what_arrived_or_was_sent_before_and_not_for_what_is_announced() {
    const MIB: usize = 1 << 20;
    assert_eq!(room(READ_AHEAD_BYTES, 0, 0), READ_AHEAD_BYTES);
    assert_eq!(room(100 * MIB, 0, 0), RESERVE_ON_TRUST_BYTES);
    assert_eq!(room(100 * MIB, 3 * MIB, 0), 3 * MIB);
    assert_eq!(room(100 * MIB, 0, MIB), MIB);
    assert_eq!(room(700 << 10, 100, MIB), 700 << 10);
    assert_eq!(room(5000, 90_000, 95_000), RESERVE_ON_TRUST_BYTES);
}
