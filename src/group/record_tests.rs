//! Records against the bytes Kafka writes, and against damage.

use proptest::prelude::*;

use super::*;
use crate::types::Uuid;

fn bytes(hex: &str) -> Bytes {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let text = std::str::from_utf8(pair).expect("ascii");
            u8::from_str_radix(text, 16).expect("hex digits")
        })
        .collect()
}

fn offset_value() -> CommittedOffset {
    CommittedOffset {
        offset: Offset(42),
        leader_epoch: LeaderEpoch(5),
        metadata: "m".into(),
        commit_timestamp: Timestamp(1000),
        expire_timestamp: None,
        topic_id: Uuid::ZERO,
    }
}

fn group_value() -> GroupMetadata {
    let member = RecordedMember {
        group_instance_id: Some("i".into()),
        client_id: "c".into(),
        client_host: "/h".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: Bytes::from_static(&[1, 2]),
        assignment: Bytes::from_static(&[3]),
    };
    GroupMetadata {
        protocol_type: "consumer".into(),
        generation: 3,
        protocol: Some("range".into()),
        leader: Some("a".into()),
        current_state_timestamp: Timestamp(1000),
        members: BTreeMap::from([("a".into(), member)]),
    }
}

const OFFSET_KEY: &str = "0001000167000174000000 07";
const GROUP_KEY: &str = "0002000167";
// Values as Kafka 4.3 writes them, by version.
const OFFSET_VALUES: [&str; 5] = [
    "0000000000000000002a00016d00000000000003e8",
    "0001000000000000002a00016d00000000000003e800000000000007d0",
    "0002000000000000002a00016d00000000000003e8",
    "0003000000000000002a0000000500016d00000000000003e8",
    "0004000000000000002a00000005026d00000000000003e8010010000000000000000100000000\
     00000002",
];
const GROUP_VALUES: [&str; 5] = [
    "00000008636f6e73756d657200000003000572616e676500016100000001000161000163\
     00022f68000027100000000201020000000103",
    "00010008636f6e73756d657200000003000572616e676500016100000001000161000163\
     00022f680000ea60000027100000000201020000000103",
    "00020008636f6e73756d657200000003000572616e676500016100000000000003e800000001\
     00016100016300022f680000ea60000027100000000201020000000103",
    "00030008636f6e73756d657200000003000572616e676500016100000000000003e800000001\
     00016100016900016300022f680000ea60000027100000000201020000000103",
    "000409636f6e73756d6572000000030672616e6765026100000000000003e802026102690263\
     032f680000ea600000271003010202030000",
];

fn offset_record(value: Option<CommittedOffset>) -> GroupRecord {
    GroupRecord::OffsetCommit {
        group: "g".into(),
        topic: "t".into(),
        partition: 7,
        value,
    }
}

fn group_record(value: Option<GroupMetadata>) -> GroupRecord {
    GroupRecord::GroupMetadata {
        group: "g".into(),
        value,
    }
}

#[test]
fn records_are_byte_for_byte_those_of_kafka() {
    let encoded = |record: GroupRecord| {
        let record = record.encode(Timestamp(9));
        (record.key, record.value)
    };
    let offset_key = bytes(&OFFSET_KEY.replace(' ', ""));
    let offset = |version: usize| Some(bytes(OFFSET_VALUES[version]));
    let expiring = CommittedOffset {
        expire_timestamp: Some(Timestamp(2000)),
        ..offset_value()
    };
    let mut id = [0; 16];
    (id[7], id[15]) = (1, 2);
    let with_id = CommittedOffset {
        topic_id: Uuid(id),
        ..offset_value()
    };
    let cases = [
        (offset_record(Some(offset_value())), offset(3)),
        (offset_record(Some(expiring)), offset(1)),
        (offset_record(Some(with_id)), offset(4)),
        (offset_record(None), None),
    ];
    for (record, value) in cases {
        assert_eq!(encoded(record), (offset_key.clone(), value));
    }
    let group = group_record(Some(group_value()));
    assert_eq!(
        encoded(group),
        (bytes(GROUP_KEY), Some(bytes(GROUP_VALUES[3])))
    );
    assert_eq!(encoded(group_record(None)), (bytes(GROUP_KEY), None));
}

#[test]
fn values_of_every_version_of_kafka_are_read() {
    let key = bytes(&OFFSET_KEY.replace(' ', ""));
    for (version, value) in OFFSET_VALUES.iter().enumerate() {
        let read = GroupRecord::decode(&key, Some(&bytes(value))).expect("a known version");
        let Some(GroupRecord::OffsetCommit {
            value: Some(value), ..
        }) = read
        else {
            panic!("not an offset: {read:?}");
        };
        assert_eq!((value.offset, value.metadata.as_str()), (Offset(42), "m"));
        assert_eq!(value.leader_epoch.0, if version >= 3 { 5 } else { -1 });
        let expires = (version == 1).then_some(Timestamp(2000));
        assert_eq!(value.expire_timestamp, expires);
        assert_eq!(value.topic_id.is_zero(), version != 4);
    }
    for (version, value) in GROUP_VALUES.iter().enumerate() {
        let read = GroupRecord::decode(&bytes(GROUP_KEY), Some(&bytes(value)));
        let mut expected = group_value();
        let member = expected
            .members
            .get_mut(&Str::from("a"))
            .expect("it is there");
        if version < 3 {
            member.group_instance_id = None;
        }
        if version < 2 {
            expected.current_state_timestamp = Timestamp::NONE;
        }
        if version < 1 {
            member.rebalance_timeout_ms = member.session_timeout_ms;
        }
        assert_eq!(
            read,
            Ok(Some(group_record(Some(expected)))),
            "version {version}"
        );
    }
}

#[test]
fn offset_keys_of_the_oldest_type_are_read() {
    let key = bytes("000000016700017400000007");
    let read = GroupRecord::decode(&key, None);
    assert_eq!(read, Ok(Some(offset_record(None))));
}

#[test]
fn record_types_of_other_protocols_are_not_errors() {
    for kind in [3_i16, 8, 21, -1] {
        let mut key = kind.to_be_bytes().to_vec();
        key.extend_from_slice(b"\0\x01g");
        assert_eq!(GroupRecord::decode(&Bytes::from(key), None), Ok(None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_records_are_refused_not_trusted(
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::collection::vec(any::<u8>(), 0..120),
        kind in 0_i16..3,
        version in 0_i16..5,
        cut in 0_usize..120,
    ) {
        let prefixed = |number: i16, rest: &[u8]| -> Bytes {
            number.to_be_bytes().iter().chain(rest).copied().collect()
        };
        let _ = GroupRecord::decode(&Bytes::from(key.clone()), Some(&Bytes::from(value.clone())));
        let _ = GroupRecord::decode(&prefixed(kind, &key), Some(&prefixed(version, &value)));
        let whole = bytes(GROUP_VALUES[usize::from(version.unsigned_abs())]);
        if cut < whole.len() {
            let read = GroupRecord::decode(&bytes(GROUP_KEY), Some(&whole.slice(..cut)));
            prop_assert!(read.is_err());
        }
    }
}
