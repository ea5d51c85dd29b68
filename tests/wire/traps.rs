//! The traps of the protocol that a codec can fall into, each of which has broken a real client or
//! broker. Numbers are those of the table in `docs/protocol.md`.

use bytes::Bytes;
use klamm::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, Uuid};
use klamm::wire::Str;
use klamm::wire::api::{ApiKey, Request, Response};
use klamm::wire::batch::{
    BatchBuilder, BatchError, Compression, HEADER_BYTES, RecordBatch, TimestampType,
};
use klamm::wire::frame::{RequestError, RequestHeader, decode_request};
use klamm::wire::message::api_versions::{ApiVersion, ApiVersionsResponse, SupportedFeatureKey};
use klamm::wire::message::describe_topic_partitions::{
    CursorRequest, CursorResponse, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
};
use klamm::wire::message::fetch::{
    AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use klamm::wire::message::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use klamm::wire::message::metadata::{MetadataRequest, MetadataRequestTopic};
use klamm::wire::message::offset_commit::OffsetCommitRequest;
use klamm::wire::primitive::{Records, Wire};
use klamm::wire::{DecodeError, Reader};

fn header(key: ApiKey, version: i16) -> RequestHeader {
    RequestHeader {
        api_key: key as i16,
        api_version: version,
        correlation_id: 0x0102_0304,
        client_id: Some(Str::from("ab")),
    }
}

fn frame(slices: Vec<Bytes>) -> Bytes {
    Bytes::from(slices.concat()).slice(4..)
}

/// Sends a request through its bytes in `version`.
fn carried(request: impl Into<Request>, version: i16) -> Request {
    let request = request.into();
    let header = header(request.api_key(), version);
    let sent = frame(request.frame(&header).expect("valid"));
    decode_request(sent).expect("valid").1
}

fn fetch_response(version: i16, partition: PartitionData) -> Bytes {
    let response = FetchResponse {
        responses: vec![FetchableTopicResponse {
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    frame(Response::from(response).frame(1, version).unwrap())
}

fn read_partition(version: i16, bytes: Bytes) -> PartitionData {
    let key = ApiKey::Fetch;
    let mut from = Reader::new(bytes);
    klamm::wire::frame::read_response_header(&mut from, key, version).unwrap();
    let mut response = FetchResponse::read(&mut from, key.version(version)).unwrap();
    response.responses.remove(0).partitions.remove(0)
}

#[test]
fn trap_01_the_answer_to_api_versions_never_has_a_flexible_header() {
    for version in ApiKey::ApiVersions.versions() {
        let response = Response::from(ApiVersionsResponse {
            error_code: 0x1122,
            ..Default::default()
        });
        let bytes = frame(response.frame(7, version).unwrap());
        assert_eq!(
            bytes[..6],
            [0, 0, 0, 7, 0x11, 0x22],
            "the error follows the correlation id"
        );
    }
    let other = Response::from(FetchResponse::default())
        .frame(7, 12)
        .unwrap();
    assert_eq!(
        frame(other)[4],
        0,
        "other flexible responses have tagged fields there"
    );
}

#[test]
fn trap_02_the_client_id_keeps_its_two_byte_length_in_flexible_headers() {
    let request = Request::from(MetadataRequest::default());
    let bytes = frame(request.frame(&header(ApiKey::Metadata, 9)).unwrap());
    assert_eq!(
        bytes[8..13],
        [0, 2, b'a', b'b', 0],
        "length, text, no tagged fields"
    );
}

#[test]
fn trap_03_an_unknown_api_versions_version_is_answered_in_version_0() {
    // As Java 4.4 opens: version 5, whose body this build has never seen.
    let hello = [
        &[0, 18, 0, 5, 0, 0, 0, 9, 0, 1, b'j', 0][..],
        &[0xde, 0xad, 0xbe],
    ]
    .concat();
    let Err(RequestError::UnsupportedVersion { key, header }) = decode_request(hello.into()) else {
        panic!("version 5 is not served");
    };
    assert_eq!((key, header.correlation_id), (ApiKey::ApiVersions, 9));
    let range = ApiKey::ApiVersions.versions();
    let answer = Response::from(ApiVersionsResponse {
        error_code: 35,
        api_keys: vec![ApiVersion {
            api_key: 18,
            min_version: *range.start(),
            max_version: *range.end(),
            ..Default::default()
        }],
        ..Default::default()
    });
    let bytes = frame(answer.frame(header.correlation_id, 0).unwrap());
    let expected = [0, 0, 0, 9, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
    assert_eq!(
        bytes,
        Bytes::copy_from_slice(&expected),
        "nothing a version 0 client trips over"
    );
}

#[test]
fn trap_04_other_unserved_keys_and_versions_are_told_apart() {
    let send = |key: i16, version: i16| {
        let [k, v] = [key.to_be_bytes(), version.to_be_bytes()];
        decode_request([&k[..], &v, &[0, 0, 0, 1, 0xff, 0xff]].concat().into())
    };
    assert_eq!(send(4, 0), Err(RequestError::UnknownApi(4)));
    for version in [-1, 0, 2, 14] {
        let refused = send(0, version);
        assert!(matches!(
            refused,
            Err(RequestError::UnsupportedVersion {
                key: ApiKey::Produce,
                ..
            })
        ));
    }
}

#[test]
fn trap_05_produce_is_announced_from_version_0_and_served_from_3() {
    assert_eq!(ApiKey::Produce.announced_min(), 0);
    assert_eq!(*ApiKey::Produce.versions().start(), 3);
    for &key in ApiKey::ALL.iter().filter(|&&key| key != ApiKey::Produce) {
        assert_eq!(key.announced_min(), *key.versions().start(), "{key:?}");
    }
}

#[test]
fn trap_06_group_apis_are_announced_from_version_0() {
    for key in [
        ApiKey::JoinGroup,
        ApiKey::FindCoordinator,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
    ] {
        assert_eq!(key.announced_min(), 0, "{key:?}");
    }
}

#[test]
fn traps_07_and_08_versions_that_clients_insist_on_are_served() {
    let insisted_on = [
        (ApiKey::OffsetForLeaderEpoch, 2),
        (ApiKey::LeaveGroup, 0),
        (ApiKey::LeaveGroup, 1),
        (ApiKey::FindCoordinator, 0),
        (ApiKey::FindCoordinator, 2),
        (ApiKey::Heartbeat, 0),
        (ApiKey::SyncGroup, 0),
        (ApiKey::OffsetFetch, 1),
        (ApiKey::OffsetCommit, 2),
        (ApiKey::ListGroups, 1),
        (ApiKey::Metadata, 0),
        (ApiKey::Metadata, 1),
        (ApiKey::Metadata, 6),
        (ApiKey::Produce, 3),
        (ApiKey::Produce, 7),
        (ApiKey::Fetch, 5),
        (ApiKey::ListOffsets, 1),
        (ApiKey::JoinGroup, 1),
        (ApiKey::ApiVersions, 0),
    ];
    for (key, version) in insisted_on {
        assert!(key.versions().contains(&version), "{key:?} {version}");
    }
}

#[test]
fn trap_10_topic_ids_take_the_place_of_names_and_are_never_served_without_metadata() {
    assert!(
        ApiKey::Metadata.versions().contains(&12),
        "ids can be looked up"
    );
    let id = Uuid([9; 16]);
    let topic = klamm::wire::message::produce::TopicProduceData {
        name: Str::from("orders"),
        topic_id: id,
        ..Default::default()
    };
    let request = klamm::wire::message::produce::ProduceRequest {
        topic_data: vec![topic],
        ..Default::default()
    };
    for (version, name, topic_id) in [(12, "orders", Uuid::ZERO), (13, "", id)] {
        let Request::Produce(got) = carried(request.clone(), version) else {
            panic!("the same API");
        };
        assert_eq!(
            (got.topic_data[0].name.as_str(), got.topic_data[0].topic_id),
            (name, topic_id)
        );
    }
}

#[test]
fn trap_12_an_unknown_features_epoch_is_minus_one_and_left_out() {
    let response = ApiVersionsResponse::default();
    assert_eq!(response.finalized_features_epoch, -1);
    let bytes = frame(Response::from(response).frame(1, 3).unwrap());
    assert_eq!(bytes.last(), Some(&0), "no tagged fields");
    let with_features = ApiVersionsResponse {
        supported_features: vec![SupportedFeatureKey::default()],
        finalized_features_epoch: 0,
        ..Default::default()
    };
    let rigid = frame(Response::from(with_features.clone()).frame(1, 2).unwrap());
    assert_eq!(
        rigid.len(),
        4 + 2 + 4 + 4,
        "versions below 3 have no features at all"
    );
    let flexible = frame(Response::from(with_features).frame(1, 3).unwrap());
    assert!(
        flexible.ends_with(&[1, 8, 0, 0, 0, 0, 0, 0, 0, 0]),
        "epoch 0 is an epoch"
    );
}

#[test]
fn trap_13_metadata_below_version_4_means_create_missing_topics() {
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic::default()]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    for version in ApiKey::Metadata.versions() {
        let Request::Metadata(got) = carried(request.clone(), version) else {
            panic!("the same API");
        };
        assert_eq!(
            got.allow_auto_topic_creation,
            version < 4,
            "version {version}"
        );
    }
}

#[test]
fn trap_15_records_of_an_empty_partition_are_empty_and_not_null() {
    assert_eq!(PartitionData::default().records, Some(Records::default()));
    for version in ApiKey::Fetch.versions() {
        let bytes = fetch_response(version, PartitionData::default());
        let got = read_partition(version, bytes.clone());
        assert!(
            got.records.is_some_and(|records| records.is_empty()),
            "version {version}"
        );
        assert_eq!(got.preferred_read_replica, -1);
        if version == 11 {
            let end = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
            assert!(
                bytes.ends_with(&end),
                "no preferred replica, then zero bytes of records"
            );
        }
    }
}

#[test]
fn trap_16_a_request_without_session_fields_asks_for_no_session() {
    let Request::Fetch(got) = carried(FetchRequest::default(), 6) else {
        panic!("the same API");
    };
    assert_eq!((got.session_id, got.session_epoch), (0, -1));
}

#[test]
fn trap_17_aborted_transactions_keep_their_order() {
    let aborted = |first_offset| AbortedTransaction {
        producer_id: 100 - first_offset,
        first_offset,
        ..Default::default()
    };
    let sorted: Vec<_> = [3, 8, 21].into_iter().map(aborted).collect();
    let partition = PartitionData {
        aborted_transactions: Some(sorted.clone()),
        ..Default::default()
    };
    let got = read_partition(12, fetch_response(12, partition));
    assert_eq!(got.aborted_transactions, Some(sorted));
}

#[test]
fn trap_20_offset_delete_is_never_flexible() {
    assert_eq!(ApiKey::OffsetDelete.flexible_since(), None);
    for version in [0, 1, i16::MAX] {
        assert!(!ApiKey::OffsetDelete.version(version).flexible);
    }
}

#[test]
fn trap_22_group_metadata_passes_untouched() {
    let opaque = Bytes::from((0..=255).collect::<Vec<u8>>());
    let request = JoinGroupRequest {
        protocol_type: Str::from("connect"),
        protocols: vec![JoinGroupRequestProtocol {
            name: Str::from("sessioned"),
            metadata: opaque.clone(),
            ..Default::default()
        }],
        ..Default::default()
    };
    for version in ApiKey::JoinGroup.versions() {
        let Request::JoinGroup(got) = carried(request.clone(), version) else {
            panic!("the same API");
        };
        assert_eq!(got.protocol_type, "connect");
        assert_eq!(got.protocols[0].metadata, opaque, "version {version}");
    }
}

#[test]
fn trap_23_old_offset_commits_carry_a_retention_time_and_simple_consumers_no_member() {
    let request = OffsetCommitRequest {
        retention_time_ms: 9000,
        ..Default::default()
    };
    assert_eq!(
        (
            request.generation_id_or_member_epoch,
            request.member_id.as_str()
        ),
        (-1, "")
    );
    for version in ApiKey::OffsetCommit.versions() {
        let Request::OffsetCommit(got) = carried(request.clone(), version) else {
            panic!("the same API");
        };
        let expected = if version <= 4 { 9000 } else { -1 };
        assert_eq!(got.retention_time_ms, expected, "version {version}");
    }
}

#[test]
fn trap_28_a_page_of_topic_partitions_is_continued_by_a_cursor() {
    let request = DescribeTopicPartitionsRequest::default();
    assert_eq!(request.response_partition_limit, 2000);
    assert_eq!(request.cursor, None);
    let cursor = CursorRequest {
        topic_name: Str::from("orders"),
        partition_index: 2000,
        ..Default::default()
    };
    let next = DescribeTopicPartitionsRequest {
        cursor: Some(Box::new(cursor)),
        ..request
    };
    assert_eq!(carried(next.clone(), 0), Request::from(next));
    let last = Response::from(DescribeTopicPartitionsResponse::default());
    assert!(
        frame(last.frame(1, 0).unwrap()).ends_with(&[0xff, 0]),
        "null is -1, one byte"
    );
    let more = Response::from(DescribeTopicPartitionsResponse {
        next_cursor: Some(Box::new(CursorResponse::default())),
        ..Default::default()
    });
    assert!(frame(more.frame(1, 0).unwrap()).ends_with(&[1, 1, 0, 0, 0, 0, 0, 0]));
}

fn sample(compression: Compression, key: Option<&[u8]>) -> RecordBatch {
    let mut builder = BatchBuilder::new(Offset::ZERO, compression, None).producer(
        ProducerId(1),
        ProducerEpoch(0),
        Sequence(0),
    );
    builder.push(Timestamp(7), key, Some(b"value"), &[]);
    builder.build()
}

#[test]
fn trap_31_the_broker_assigns_outside_the_checksum_and_stamps_inside_it() {
    let batch = sample(Compression::Snappy, None);
    let placed = Bytes::from(batch.placed(Offset(77), LeaderEpoch(5)).concat());
    let placed = RecordBatch::split_first(&mut placed.clone()).expect("the CRC still holds");
    assert_eq!(placed.header.crc, batch.header.crc);
    assert_eq!(
        (placed.header.base_offset, placed.header.leader_epoch),
        (Offset(77), LeaderEpoch(5))
    );
    let stamped = batch.with_log_append_time(Timestamp(99));
    assert_ne!(stamped.header.crc, batch.header.crc);
    let read = RecordBatch::split_first(&mut stamped.bytes().clone()).expect("a new CRC");
    assert_eq!(
        read.header.attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    let xerial = [
        0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1,
    ];
    assert!(
        batch.bytes()[HEADER_BYTES..].starts_with(&xerial),
        "as Java reads it"
    );
}

#[test]
fn trap_32_null_keys_are_found_and_delete_horizons_kept() {
    for compression in [Compression::None, Compression::Lz4] {
        let keyless = sample(compression, None).check_records(true);
        assert_eq!(keyless, Err(BatchError::MissingKey { index: 0 }));
        assert!(
            sample(compression, Some(b"")).check_records(true).is_ok(),
            "empty is a key"
        );
    }
    let mut marker = BatchBuilder::new(Offset(4), Compression::None, None)
        .control()
        .transactional()
        .delete_horizon(Timestamp(1234));
    marker.push(Timestamp(9), Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
    let marker = marker.build();
    assert!(marker.header.attributes.is_control() && marker.header.attributes.has_delete_horizon());
    assert_eq!(marker.header.base_timestamp, Timestamp(1234));
    let record = marker.records().unwrap().next().unwrap().unwrap();
    assert_eq!(record.timestamp, Timestamp(9));
}

#[test]
fn trap_33_telemetry_is_not_announced() {
    for key in [71, 72] {
        assert_eq!(ApiKey::from_wire(key), None);
    }
}

#[test]
fn trap_35_array_lengths_are_bounded_before_anything_is_allocated() {
    for &key in ApiKey::ALL {
        for version in key.versions() {
            let coded = key.version(version);
            let lie: &[u8] = match coded.flexible {
                true => &[0xff, 0xff, 0xff, 0xff, 0x07],
                false => &[0x7f, 0xff, 0xff, 0xff],
            };
            // The lie at every place of a request of zeros: wherever an array length is read, it
            // must be refused, and never be believed.
            for zeros in 0..40 {
                let bytes = [&vec![0; zeros][..], lie].concat();
                let _ = Request::read(key, &mut Reader::new(bytes.into()), coded);
            }
        }
    }
    let lie = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    let refused = MetadataRequest::read(&mut Reader::new(lie), ApiKey::Metadata.version(1));
    assert_eq!(
        refused,
        Err(DecodeError::Truncated {
            wanted: 0x7fff_ffff,
            left: 0
        })
    );
}
