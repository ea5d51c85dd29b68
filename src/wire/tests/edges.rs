//! Single values at the edges of what the wire can say.

use bytes::Bytes;
use proptest::prelude::*;

use crate::wire::api::{ApiKey, Request, Response};
use crate::wire::frame::{RequestError, RequestHeader, decode_request};
use crate::wire::message::join_group::JoinGroupResponse;
use crate::wire::message::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::wire::message::produce::ProduceRequest;
use crate::wire::primitive::{Records, Wire};
use crate::wire::reader::ELEMENTS_MAX;
use crate::wire::{DecodeError, EncodeError, Reader, Str, Version, Writer};

const RIGID: Version = Version {
    number: 0,
    flexible: false,
};
const FLEXIBLE: Version = Version {
    number: 0,
    flexible: true,
};

fn written<T: Wire>(value: &T, version: Version) -> Result<Bytes, EncodeError> {
    let mut to = Writer::default();
    value.write(&mut to, version);
    to.finish_contiguous()
}

fn read<T: Wire>(bytes: &[u8], version: Version) -> Result<T, DecodeError> {
    T::read(&mut Reader::new(Bytes::copy_from_slice(bytes)), version)
}

proptest! {
    #[test]
    fn variable_length_integers_survive(
        small in any::<i32>(),
        large in any::<i64>(),
        bits in 0..64,
    ) {
        let large = large >> bits;
        let mut to = Writer::default();
        to.varint(small);
        to.varlong(large);
        to.unsigned_varint(small.cast_unsigned());
        let mut from = Reader::new(to.finish_contiguous().unwrap());
        prop_assert_eq!(from.varint(), Ok(small));
        prop_assert_eq!(from.varlong(), Ok(large));
        prop_assert_eq!(from.unsigned_varint(), Ok(small.cast_unsigned()));
        prop_assert_eq!(from.finish(), Ok(()));
    }
}

#[test]
fn a_variable_length_integer_past_its_width_is_refused() {
    let reader = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes));
    let five = &[0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(reader(five).unsigned_varint(), Ok(u32::MAX));
    let bit_33 = &[0xff, 0xff, 0xff, 0xff, 0x1f];
    assert_eq!(
        reader(bit_33).unsigned_varint(),
        Err(DecodeError::BadVarint)
    );
    let six = &[0x80, 0x80, 0x80, 0x80, 0x80, 0];
    assert_eq!(reader(six).unsigned_varint(), Err(DecodeError::BadVarint));
    let bit_65 = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
    assert_eq!(reader(bit_65).varlong(), Err(DecodeError::BadVarint));
    let cut = DecodeError::Truncated { wanted: 1, left: 0 };
    assert_eq!(reader(&[0x80]).varint(), Err(cut));
}

#[test]
fn an_array_that_claims_more_than_the_bytes_left_is_refused_at_once() {
    let lie = [0x7f, 0xff, 0xff, 0xff, 1];
    let error = DecodeError::Truncated {
        wanted: 0x7fff_ffff,
        left: 1,
    };
    assert_eq!(read::<Vec<i32>>(&lie, RIGID), Err(error));
    let lie = [0xff, 0xff, 0xff, 0xff, 0x07, 1];
    assert!(matches!(
        read::<Vec<Str>>(&lie, FLEXIBLE),
        Err(DecodeError::Truncated { .. })
    ));
}

#[test]
fn the_sum_of_all_arrays_is_bounded() {
    // Arrays of arrays: 1001 arrays of 1000 elements each, every one harmless by itself.
    let mut bytes = 1001_u32.to_be_bytes().to_vec();
    for _ in 0..1001 {
        bytes.extend(1000_u32.to_be_bytes());
        bytes.extend([0; 1000]);
    }
    let result = read::<Vec<Vec<i8>>>(&bytes, RIGID);
    assert_eq!(result, Err(DecodeError::TooManyElements(ELEMENTS_MAX)));
}

#[test]
fn elements_may_not_take_many_times_the_bytes_they_come_from() {
    // 40000 topics with empty names, two bytes each, would take 36 times as much as values.
    let version = ApiKey::Metadata.version(9);
    let topics = |count: usize, name: &str| MetadataRequest {
        topics: Some(vec![
            MetadataRequestTopic {
                name: Some(Str::from(name)),
                ..Default::default()
            };
            count
        ]),
        ..Default::default()
    };
    let read_back = |request: &MetadataRequest| {
        read::<MetadataRequest>(&written(request, version).unwrap(), version)
    };
    let empty = read_back(&topics(40_000, ""));
    assert_eq!(empty, Err(DecodeError::TooSmallElements));
    let named = topics(40_000, "orders");
    assert_eq!(read_back(&named), Ok(named));
}

#[test]
fn lengths_below_minus_one_are_refused() {
    assert_eq!(read::<Option<Str>>(&[0xff, 0xff], RIGID), Ok(None));
    assert_eq!(
        read::<Option<Str>>(&[0xff, 0xfe], RIGID),
        Err(DecodeError::BadLength(-2))
    );
    let minus_two = (-2_i32).to_be_bytes();
    assert_eq!(
        read::<Option<Bytes>>(&minus_two, RIGID),
        Err(DecodeError::BadLength(-2))
    );
}

#[test]
fn strings_have_one_bound_in_all_versions() {
    let longest = Str::from("x".repeat(0x7fff));
    let longer = Str::from("x".repeat(0x8000));
    for version in [RIGID, FLEXIBLE] {
        let bytes = written(&longest, version).unwrap();
        assert_eq!(read::<Str>(&bytes, version).as_ref(), Ok(&longest));
        assert_eq!(written(&longer, version), Err(EncodeError::TooLong(0x8000)));
    }
    let mut bytes = vec![0x81, 0x80, 0x02];
    bytes.resize(0x8003, b'x');
    assert_eq!(
        read::<Str>(&bytes, FLEXIBLE),
        Err(DecodeError::BadLength(0x8000))
    );
}

#[test]
fn a_string_must_be_utf8() {
    assert_eq!(
        read::<Str>(&[0, 2, 0xc3, 0x28], RIGID),
        Err(DecodeError::BadUtf8)
    );
}

#[test]
fn null_is_refused_where_a_version_has_none() {
    let key = ApiKey::Metadata;
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(
        written(&all, key.version(0)),
        Err(EncodeError::UnexpectedNull)
    );
    assert!(written(&all, key.version(1)).is_ok());
    assert_eq!(
        read::<MetadataRequest>(&[0xff; 4], key.version(0)),
        Err(DecodeError::UnexpectedNull)
    );
    assert_eq!(read::<MetadataRequest>(&[0xff; 4], key.version(1)), Ok(all));
    let nameless = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: None,
            ..Default::default()
        }]),
        ..Default::default()
    };
    assert_eq!(
        written(&nameless, key.version(9)),
        Err(EncodeError::UnexpectedNull)
    );
    assert!(written(&nameless, key.version(10)).is_ok());
    let no_protocol = JoinGroupResponse {
        protocol_name: None,
        ..Default::default()
    };
    let join = ApiKey::JoinGroup;
    assert_eq!(
        written(&no_protocol, join.version(6)),
        Err(EncodeError::UnexpectedNull)
    );
    assert!(written(&no_protocol, join.version(7)).is_ok());
}

#[test]
fn a_tagged_field_must_fill_its_size() {
    // FetchRequest v12: field 0 (cluster id, null) is one byte long but says two.
    let version = ApiKey::Fetch.version(12);
    let mut bytes = written(
        &crate::wire::message::fetch::FetchRequest::default(),
        version,
    )
    .unwrap()
    .to_vec();
    assert_eq!(bytes.pop(), Some(0), "no tagged fields");
    bytes.extend([1, 0, 2, 0, 0]);
    let result = read::<crate::wire::message::fetch::FetchRequest>(&bytes, version);
    assert_eq!(result, Err(DecodeError::BadTaggedField(0)));
}

#[test]
fn tagged_fields_out_of_order_are_read_and_put_in_order() {
    let version = ApiKey::Heartbeat.version(4);
    let value = crate::wire::message::heartbeat::HeartbeatResponse::default();
    let mut bytes = written(&value, version).unwrap().to_vec();
    assert_eq!(bytes.pop(), Some(0), "no tagged fields");
    let (before, seven, five) = (bytes.clone(), [7, 1, b'7'], [5, 1, b'5']);
    bytes.extend([&[2][..], &seven, &five].concat());
    let read = read::<crate::wire::message::heartbeat::HeartbeatResponse>(&bytes, version).unwrap();
    let ordered = [&before[..], &[2], &five, &seven].concat();
    assert_eq!(written(&read, version), Ok(Bytes::from(ordered)));
}

fn header(key: i16, version: i16) -> RequestHeader {
    RequestHeader {
        api_key: key,
        api_version: version,
        correlation_id: 5,
        client_id: Some(Str::from("me")),
    }
}

fn body_of(slices: &[Bytes]) -> Bytes {
    Bytes::from(slices.concat()).slice(4..)
}

#[test]
fn an_unserved_version_keeps_the_header_for_the_answer() {
    let frame = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff]);
    let Err(RequestError::UnsupportedVersion { key, header }) = decode_request(frame) else {
        panic!("version 99 is not served");
    };
    assert_eq!(
        (key, header.api_version, header.correlation_id),
        (ApiKey::ApiVersions, 99, 5)
    );
    let unknown = Bytes::from_static(&[0x7f, 0, 0, 0, 0, 0, 0, 5, 0xff, 0xff]);
    assert_eq!(
        decode_request(unknown),
        Err(RequestError::UnknownApi(0x7f00))
    );
    let cut = decode_request(Bytes::from_static(&[0, 18, 0]));
    assert!(matches!(
        cut,
        Err(RequestError::Header(DecodeError::Truncated { .. }))
    ));
}

#[test]
fn bytes_after_the_last_field_are_ignored() {
    let request = Request::from(MetadataRequest::default());
    for version in [1, 9] {
        let frame = body_of(&request.frame(&header(3, version)).unwrap());
        let padded = Bytes::from([frame.as_ref(), b"padding"].concat());
        assert_eq!(decode_request(padded), decode_request(frame));
    }
}

#[test]
fn a_frame_of_many_slices_says_the_length_of_all() {
    let large = Bytes::from(vec![1; 5000]);
    let mut to = Writer::framed();
    to.u8(9);
    to.put_shared(&large);
    to.u8(8);
    to.put_shared(&large);
    let slices = to.finish().unwrap();
    assert_eq!(
        slices.iter().map(Bytes::len).collect::<Vec<_>>(),
        [5, 5000, 1, 5000]
    );
    assert_eq!(slices[0], Bytes::from_static(&[0, 0, 0x27, 0x12, 9]));
    assert_eq!(slices[1].as_ptr(), large.as_ptr());
    let small = Writer::framed().finish().unwrap();
    assert_eq!(small, [Bytes::from_static(&[0; 4])]);
}

#[test]
fn an_error_in_a_part_is_an_error_of_the_frame() {
    let mut response = crate::wire::message::list_groups::ListGroupsResponse::default();
    response.groups.push(Default::default());
    response.groups[0].group_id = Str::from("g".repeat(40_000));
    let frame = Response::from(response).frame(1, 4);
    assert_eq!(frame, Err(EncodeError::TooLong(40_000)));
}

#[test]
fn several_slices_of_records_are_one_field() {
    let records = Records::from(vec![
        Bytes::from_static(b"ab"),
        Bytes::new(),
        Bytes::from_static(b"c"),
    ]);
    assert_eq!((records.len(), records.is_empty()), (3, false));
    assert_eq!(
        written(&records, RIGID).unwrap(),
        Bytes::from_static(&[0, 0, 0, 3, 97, 98, 99])
    );
    assert_eq!(records.contiguous(), "abc");
    assert_eq!(
        written(&Records::default(), FLEXIBLE).unwrap(),
        Bytes::from_static(&[1])
    );
}

#[test]
fn a_value_says_nothing_of_fields_its_version_lacks() {
    let request = ProduceRequest {
        acks: -1,
        ..Default::default()
    };
    let mut with_extra = request.clone();
    with_extra
        .unknown_fields
        .push(crate::wire::primitive::UnknownField {
            tag: 77,
            content: Bytes::from_static(b"x"),
        });
    let rigid = ApiKey::Produce.version(8);
    assert_eq!(written(&request, rigid), written(&with_extra, rigid));
    let flexible = ApiKey::Produce.version(9);
    let bytes = written(&with_extra, flexible).unwrap();
    assert_eq!(read::<ProduceRequest>(&bytes, flexible), Ok(with_extra));
}
