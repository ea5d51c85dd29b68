//! Record bytes travel from socket to log to socket without being copied.

use bytes::Bytes;
use klamm::types::{LeaderEpoch, Offset, Timestamp};
use klamm::wire::Str;
use klamm::wire::api::{Request, Response};
use klamm::wire::batch::{BatchBuilder, Compression, RecordBatch};
use klamm::wire::frame::{RequestHeader, decode_request};
use klamm::wire::message::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
use klamm::wire::message::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use klamm::wire::primitive::Records;

fn batch(value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Offset::ZERO, Compression::None, None);
    builder.push(Timestamp(1), None, Some(&vec![7; value_bytes]), &[]);
    builder.build().bytes().clone()
}

fn within(outer: &Bytes, inner: &Bytes) -> bool {
    let (outer, inner) = (outer.as_ptr_range(), inner.as_ptr_range());
    outer.start <= inner.start && inner.end <= outer.end
}

fn produce_frame(partitions: i32, records: &Bytes) -> Bytes {
    let partition = |index| PartitionProduceData {
        index,
        records: Some(Records::from(records.clone())),
        ..Default::default()
    };
    let request = Request::from(ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData {
            name: Str::from_static("orders"),
            partition_data: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    });
    let header = RequestHeader {
        api_key: 0,
        api_version: 9,
        correlation_id: 1,
        client_id: Some(Str::from_static("producer")),
    };
    Bytes::from(request.frame(&header).unwrap().concat()).slice(4..)
}

#[test]
fn produced_records_are_views_of_the_received_frame() {
    for partitions in [1, 100] {
        let frame = produce_frame(partitions, &batch(4000));
        let Ok((header, Request::Produce(request))) = decode_request(frame.clone()) else {
            panic!("a valid frame");
        };
        assert!(within(
            &frame,
            header.client_id.as_ref().unwrap().as_bytes()
        ));
        let topic = &request.topic_data[0];
        assert!(within(&frame, topic.name.as_bytes()));
        assert_eq!(
            topic.partition_data.len(),
            usize::try_from(partitions).unwrap()
        );
        for partition in &topic.partition_data {
            let records = partition.records.as_ref().expect("not null");
            let mut bytes = records.contiguous();
            assert!(within(&frame, &bytes), "taken from the frame");
            let batch = RecordBatch::split_first(&mut bytes).expect("valid");
            assert!(within(&frame, batch.bytes()), "checked in place");
            let [head, rest] = batch.placed(Offset(500), LeaderEpoch(3));
            assert!(
                !within(&frame, &head) && within(&frame, &rest),
                "placed without a copy"
            );
        }
    }
}

#[test]
fn fetched_records_are_handed_to_the_socket_as_they_came_from_the_log() {
    for partitions in [1, 100] {
        let stored = batch(4000);
        let (head, rest) = (stored.slice(..1024), stored.slice(1024..));
        let partition = |partition_index| PartitionData {
            partition_index,
            records: Some(vec![head.clone(), rest.clone()].into()),
            ..Default::default()
        };
        let response = Response::from(FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic: Str::from_static("orders"),
                partitions: (0..partitions).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        });
        for version in [4, 11, 12, 18] {
            let slices = response.frame(9, version).unwrap();
            let shared = slices.iter().filter(|slice| within(&stored, slice));
            let partitions = usize::try_from(partitions).unwrap();
            assert_eq!(shared.count(), 2 * partitions);
            // Between two partitions' records lies one slice of fields; the last may be followed
            // by tagged fields.
            assert!(
                slices.len() <= 3 * partitions + 1,
                "{} slices",
                slices.len()
            );
            let copied: usize = slices
                .iter()
                .filter(|slice| !within(&stored, slice))
                .map(Bytes::len)
                .sum();
            assert!(
                copied < 64 + 80 * partitions,
                "{copied} bytes besides records"
            );
        }
    }
}

#[test]
fn small_records_are_copied_rather_than_sent_as_slices_of_their_own() {
    let response = Response::from(FetchResponse {
        responses: vec![FetchableTopicResponse {
            partitions: vec![PartitionData {
                records: Some(Records::from(batch(100))),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    });
    assert_eq!(response.frame(1, 12).unwrap().len(), 1);
}
