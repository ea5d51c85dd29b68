//! Every API in every version, against `kafka-protocol`: what we encode the other must decode and
//! encode back to the same bytes, and we must read the same value from them.
//!
//! The other implementation allocates by untrusted lengths, so it is only shown bytes of ours.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as other;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, StrBytes};

use super::arbitrary::{Arbitrary, Dice};
use crate::wire::api::{Request, Response};
use crate::wire::frame::{RequestHeader, decode_request, read_response_header};
use crate::wire::message::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use crate::wire::{ApiKey, Reader, Str, Version, Wire, Writer};

/// Random values for each API, version and direction.
const ROUNDS: u64 = 24;

/// Decodes with the other implementation and encodes again; `None` where it lacks the version.
fn echo<T: Decodable + Encodable + Message>(version: i16, body: &[u8]) -> Option<Vec<u8>> {
    if version < T::VERSIONS.min || version > T::VERSIONS.max {
        return None;
    }
    let mut rest = Bytes::copy_from_slice(body);
    let value = T::decode(&mut rest, version).expect("our bytes are valid");
    assert!(rest.is_empty(), "they leave {} bytes", rest.len());
    let mut encoded = BytesMut::new();
    value
        .encode(&mut encoded, version)
        .expect("what they read they can write");
    Some(encoded.to_vec())
}

/// What another implementation makes of an API that is only ours.
fn none<T>(key: ApiKey) -> Option<T> {
    assert!(key.is_private(), "{key:?} is to be compared");
    None
}

macro_rules! others {
    ($($name:ident: $request:ident, $response:ident;)*) => {
        fn echo_request(key: ApiKey, version: i16, body: &[u8]) -> Option<Vec<u8>> {
            match key {
                $(ApiKey::$name => echo::<other::$request>(version, body),)*
                private => none(private),
            }
        }

        fn echo_response(key: ApiKey, version: i16, body: &[u8]) -> Option<Vec<u8>> {
            match key {
                $(ApiKey::$name => echo::<other::$response>(version, body),)*
                private => none(private),
            }
        }

        fn header_versions(key: ApiKey, version: i16) -> (i16, i16) {
            match key {
                $(ApiKey::$name => (
                    other::$request::header_version(version),
                    other::$response::header_version(version),
                ),)*
                private => none(private).unwrap_or((2, 1)),
            }
        }
    };
}

others! {
    Produce: ProduceRequest, ProduceResponse;
    Fetch: FetchRequest, FetchResponse;
    ListOffsets: ListOffsetsRequest, ListOffsetsResponse;
    Metadata: MetadataRequest, MetadataResponse;
    OffsetCommit: OffsetCommitRequest, OffsetCommitResponse;
    OffsetFetch: OffsetFetchRequest, OffsetFetchResponse;
    FindCoordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    JoinGroup: JoinGroupRequest, JoinGroupResponse;
    Heartbeat: HeartbeatRequest, HeartbeatResponse;
    LeaveGroup: LeaveGroupRequest, LeaveGroupResponse;
    SyncGroup: SyncGroupRequest, SyncGroupResponse;
    DescribeGroups: DescribeGroupsRequest, DescribeGroupsResponse;
    ListGroups: ListGroupsRequest, ListGroupsResponse;
    ApiVersions: ApiVersionsRequest, ApiVersionsResponse;
    CreateTopics: CreateTopicsRequest, CreateTopicsResponse;
    DeleteTopics: DeleteTopicsRequest, DeleteTopicsResponse;
    DeleteRecords: DeleteRecordsRequest, DeleteRecordsResponse;
    InitProducerId: InitProducerIdRequest, InitProducerIdResponse;
    OffsetForLeaderEpoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    DescribeConfigs: DescribeConfigsRequest, DescribeConfigsResponse;
    AlterConfigs: AlterConfigsRequest, AlterConfigsResponse;
    DescribeLogDirs: DescribeLogDirsRequest, DescribeLogDirsResponse;
    CreatePartitions: CreatePartitionsRequest, CreatePartitionsResponse;
    DeleteGroups: DeleteGroupsRequest, DeleteGroupsResponse;
    IncrementalAlterConfigs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    OffsetDelete: OffsetDeleteRequest, OffsetDeleteResponse;
    DescribeCluster: DescribeClusterRequest, DescribeClusterResponse;
    DescribeTopicPartitions: DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
    ElectLeaders: ElectLeadersRequest, ElectLeadersResponse;
    AlterPartitionReassignments:
        AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    ListPartitionReassignments:
        ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    DescribeQuorum: DescribeQuorumRequest, DescribeQuorumResponse;
    UnregisterBroker: UnregisterBrokerRequest, UnregisterBrokerResponse;
    AddRaftVoter: AddRaftVoterRequest, AddRaftVoterResponse;
    RemoveRaftVoter: RemoveRaftVoterRequest, RemoveRaftVoterResponse;
}

/// Every API and version with seeds of its own.
fn each(mut check: impl FnMut(ApiKey, i16, &mut Dice)) {
    for &key in ApiKey::ALL {
        for version in key.versions() {
            for round in 0..ROUNDS {
                let seed = (u64::from(key as u16) << 32) | (u64::from(version as u16) << 16);
                check(key, version, &mut Dice(seed | round));
            }
        }
    }
}

fn whole(slices: &[Bytes]) -> Bytes {
    let frame = slices.concat();
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
    assert_eq!(length as usize, frame.len() - 4);
    Bytes::from(frame).slice(4..)
}

fn request_header(key: ApiKey, version: i16, dice: &mut Dice) -> RequestHeader {
    RequestHeader {
        api_key: key as i16,
        api_version: version,
        correlation_id: i32::try_from(dice.below(1 << 31)).unwrap(),
        client_id: (!dice.one_in(3)).then(|| Str::from("client-ü")),
    }
}

fn other_request_header(ours: &RequestHeader) -> other::RequestHeader {
    other::RequestHeader::default()
        .with_request_api_key(ours.api_key)
        .with_request_api_version(ours.api_version)
        .with_correlation_id(ours.correlation_id)
        .with_client_id(
            ours.client_id
                .as_ref()
                .map(|id| StrBytes::from_string(id.to_string())),
        )
}

#[test]
fn requests_of_every_version_agree_with_another_implementation() {
    let mut compared = 0;
    each(|key, version, dice| {
        let request = Request::arbitrary(key, dice, key.version(version));
        let header = request_header(key, version, dice);
        let frame = whole(&request.frame(&header).expect("an arbitrary value is valid"));
        let decoded = decode_request(frame.clone()).expect("our own bytes");
        assert_eq!(decoded, (header.clone(), request), "{key:?} {version}");
        let mut theirs = BytesMut::new();
        other_request_header(&header)
            .encode(&mut theirs, header_versions(key, version).0)
            .unwrap();
        assert_eq!(frame[..theirs.len()], theirs, "header of {key:?} {version}");
        let body = &frame[theirs.len()..];
        if let Some(echo) = echo_request(key, version, body) {
            assert_eq!(echo, body, "{key:?} {version}");
            compared += 1;
        }
    });
    assert!(compared > 2500, "only {compared} compared");
}

#[test]
fn responses_of_every_version_agree_with_another_implementation() {
    let mut compared = 0;
    each(|key, version, dice| {
        let response = Response::arbitrary(key, dice, key.version(version));
        let correlation_id = i32::try_from(dice.below(1 << 31)).unwrap();
        let frame = whole(&response.frame(correlation_id, version).expect("valid"));
        let mut from = Reader::new(frame.clone());
        assert_eq!(
            read_response_header(&mut from, key, version),
            Ok(correlation_id)
        );
        let decoded = Response::read(key, &mut from, key.version(version));
        assert_eq!(decoded, Ok(response), "{key:?} {version}");
        assert_eq!(from.finish(), Ok(()));
        let mut theirs = BytesMut::new();
        other::ResponseHeader::default()
            .with_correlation_id(correlation_id)
            .encode(&mut theirs, header_versions(key, version).1)
            .unwrap();
        assert_eq!(frame[..theirs.len()], theirs, "header of {key:?} {version}");
        let body = &frame[theirs.len()..];
        if let Some(echo) = echo_response(key, version, body) {
            assert_eq!(echo, body, "{key:?} {version}");
            compared += 1;
        }
    });
    assert!(compared > 2500, "only {compared} compared");
}

/// The values inside JoinGroup and SyncGroup, whose versions stand before them.
#[test]
fn subscriptions_and_assignments_agree_with_another_implementation() {
    fn agree<Ours, Theirs>()
    where
        Ours: Wire + Arbitrary + PartialEq + std::fmt::Debug,
        Theirs: Decodable + Encodable + Message,
    {
        for number in 0..=3 {
            let version = Version {
                number,
                flexible: false,
            };
            for seed in 0..200 {
                let value = Ours::arbitrary(&mut Dice(seed), version);
                let mut to = Writer::default();
                value.write(&mut to, version);
                let bytes = to.finish_contiguous().expect("valid");
                assert_eq!(
                    echo::<Theirs>(number, &bytes).as_deref(),
                    Some(bytes.as_ref())
                );
                assert_eq!(Ours::read(&mut Reader::new(bytes), version), Ok(value));
            }
        }
    }
    agree::<ConsumerProtocolSubscription, other::ConsumerProtocolSubscription>();
    agree::<ConsumerProtocolAssignment, other::ConsumerProtocolAssignment>();
}

/// Prints golden frames; `corpus/wire/README.md` says how the files are made from them.
#[test]
#[ignore = "prints the corpus"]
fn print_golden_frames() {
    each(|key, version, dice| {
        // Two frames a version are enough to keep.
        if dice.0 & 0xffff > 1 {
            return;
        }
        let request = Request::arbitrary(key, dice, key.version(version));
        let frame = whole(&request.frame(&request_header(key, version, dice)).unwrap());
        println!("{} request {version} {}", key.name(), hex(&frame));
        let response = Response::arbitrary(key, dice, key.version(version));
        let frame = whole(&response.frame(77, version).unwrap());
        println!("{} response {version} {}", key.name(), hex(&frame));
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
