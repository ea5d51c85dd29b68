//! Requests that ask for what cannot be: each gets Kafka's error, stores nothing, and leaves the
//! connection usable.

use bytes::Bytes;
use klamm::types::ErrorCode;
use klamm::wire::batch::Compression;

use super::super::wire_client::{PRODUCE_VERSION, keyed_batch, produce_request};
use super::{BrokerProcess, WireClient, code, connect_patiently, plain_batch, produce, values};

/// Where the fields of a batch are.
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;

fn outcome(client: &mut WireClient, topic: &str, records: Bytes) -> ErrorCode {
    let answer = client.produce(topic, 0, records).expect("an answer");
    if answer.error_code != 0 {
        assert_eq!(answer.base_offset, -1, "an error has no offset");
    }
    code(answer.error_code)
}

/// A batch with another byte at `position` and a CRC that fits.
fn altered(position: usize, byte: u8) -> Bytes {
    let mut batch = plain_batch(&[b"a value"]).to_vec();
    batch[position] = byte;
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

#[test]
fn batches_that_cannot_be_stored_are_refused_with_kafkas_errors() {
    let broker = BrokerProcess::start();
    let mut client = connect_patiently(broker.port());
    let small = client.create_topic("small", 1, &[("max.message.bytes", "1000")]);
    assert_eq!(small.expect("an answer"), ErrorCode::None);
    let keyed = client.create_topic("keyed", 1, &[("cleanup.policy", "compact")]);
    assert_eq!(keyed.expect("an answer"), ErrorCode::None);

    let large = plain_batch(&[&[b'x'; 2_000]]);
    assert_eq!(
        outcome(&mut client, "small", large),
        ErrorCode::MessageTooLarge
    );
    let without_key = keyed_batch(&[b"v"], None, Compression::None);
    assert_eq!(
        outcome(&mut client, "keyed", without_key),
        ErrorCode::InvalidRecord
    );
    let packed = keyed_batch(&[b"v"], None, Compression::Zstd);
    assert_eq!(
        outcome(&mut client, "keyed", packed),
        ErrorCode::InvalidRecord
    );

    let mut wrong = plain_batch(&[b"a value"]).to_vec();
    wrong[CRC_AT] ^= 1;
    assert_eq!(
        outcome(&mut client, "small", wrong.into()),
        ErrorCode::CorruptMessage
    );
    for magic in [0, 1, 3] {
        let old = altered(MAGIC_AT, magic);
        assert_eq!(outcome(&mut client, "small", old), ErrorCode::InvalidRecord);
    }
    for codec in [5, 6, 7] {
        let unknown = altered(ATTRIBUTES_AT + 1, codec);
        assert_eq!(
            outcome(&mut client, "small", unknown),
            ErrorCode::InvalidRecord
        );
    }
    let cut = plain_batch(&[b"a value"]).slice(..50);
    assert_eq!(
        outcome(&mut client, "small", cut),
        ErrorCode::CorruptMessage
    );
    assert_eq!(
        outcome(&mut client, "small", Bytes::new()),
        ErrorCode::InvalidRecord
    );

    assert_eq!(produce(&mut client, "small", 0, b"good"), ErrorCode::None);
    assert_eq!(values(&mut client, "small", 0), ["good"]);
    assert!(values(&mut client, "keyed", 0).is_empty());
}

#[test]
fn acks_have_three_meanings_only() {
    let broker = BrokerProcess::start();
    let mut client = connect_patiently(broker.port());
    assert_eq!(
        client.create_topic("t", 1, &[]).expect("an answer"),
        ErrorCode::None
    );
    for acks in [2, -2, i16::MAX] {
        let request = produce_request("t", 0, plain_batch(&[b"v"]), acks);
        client
            .send(PRODUCE_VERSION, request)
            .expect("it can be sent");
        let answer = client.receive_produced().expect("an answer");
        assert_eq!(
            code(answer.error_code),
            ErrorCode::InvalidRequiredAcks,
            "acks={acks}"
        );
    }
    assert!(values(&mut client, "t", 0).is_empty());
    let unanswered = produce_request("t", 0, plain_batch(&[b"unanswered"]), 0);
    let request: klamm::wire::api::Request = unanswered.into();
    let header = klamm::wire::frame::RequestHeader {
        api_key: request.api_key() as i16,
        api_version: PRODUCE_VERSION,
        ..Default::default()
    };
    let frame = request.frame(&header).expect("it has a binary form");
    client.send_bytes(&frame.concat()).expect("it can be sent");
    // The next answer is to the next request: none was sent for the one with acks=0.
    assert_eq!(produce(&mut client, "t", 0, b"answered"), ErrorCode::None);
    assert_eq!(values(&mut client, "t", 0), ["unanswered", "answered"]);
}

#[test]
fn topic_names_that_cannot_be_are_refused() {
    let broker = BrokerProcess::start();
    let mut client = connect_patiently(broker.port());
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "../up", "ä", "a\0b", &long] {
        let created = client.create_topic(name, 1, &[]).expect("an answer");
        assert_eq!(created, ErrorCode::InvalidTopicException, "{name:?}");
        let found = client.describe_topic(name).expect("an answer");
        assert_eq!(
            code(found.error_code),
            ErrorCode::InvalidTopicException,
            "{name:?}"
        );
    }
    let longest = "x".repeat(249);
    assert_eq!(
        client.create_topic(&longest, 1, &[]).expect("an answer"),
        ErrorCode::None
    );
    assert_eq!(produce(&mut client, &longest, 0, b"v"), ErrorCode::None);
    for (partitions, expected) in [
        (0, ErrorCode::InvalidPartitions),
        (-2, ErrorCode::InvalidPartitions),
    ] {
        assert_eq!(
            client
                .create_topic("t", partitions, &[])
                .expect("an answer"),
            expected
        );
    }
    let config = client.create_topic("t", 1, &[("retention.ms", "soon")]);
    assert_eq!(config.expect("an answer"), ErrorCode::InvalidConfig);
    let config = client.create_topic("t", 1, &[("no.such.setting", "1")]);
    assert_eq!(config.expect("an answer"), ErrorCode::InvalidConfig);
}
