//! What is answered about replicas that move.

use super::*;
use crate::controller::{Cause, MetadataRecord, PartitionRecord, Refusal};
use crate::types::{ErrorCode, LeaderEpoch, Offset, Timestamp, Uuid};
use crate::wire::message::list_partition_reassignments::ListPartitionReassignmentsTopics;

fn brokers(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

/// Topic `orders`: partition 0 moves from broker 1 to 3, partition 1 stays.
fn image() -> ClusterImage {
    let topic_id = Uuid::from_random([7; 16]);
    let partition = |partition, replicas: &[i32], adding: &[i32], removing: &[i32]| {
        let state = PartitionState {
            replicas: brokers(replicas),
            isr: brokers(&[1, 2]),
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            removing: brokers(removing),
            adding: brokers(adding),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            recovering: false,
            cause: Cause::Reassignment,
        };
        MetadataRecord::Partition(PartitionRecord {
            topic_id,
            partition,
            state,
            at: Timestamp(-1),
            by: None,
            history: Vec::new(),
        })
    };
    let records = [
        MetadataRecord::Topic {
            id: topic_id,
            name: "orders".to_owned(),
        },
        partition(0, &[3, 2, 1], &[3], &[1]),
        partition(1, &[1, 2], &[], &[]),
    ];
    ClusterImage::from_snapshot(Offset(3), &records).unwrap()
}

fn listed(topics: Option<&[(&str, &[i32])]>) -> Vec<OngoingTopicReassignment> {
    let topics = topics.map(|topics| {
        let topic = |(name, partitions): &(&str, &[i32])| ListPartitionReassignmentsTopics {
            name: (*name).into(),
            partition_indexes: partitions.to_vec(),
            ..Default::default()
        };
        topics.iter().map(topic).collect()
    });
    let request = ListPartitionReassignmentsRequest {
        topics,
        ..Default::default()
    };
    under_way(&image(), &request)
}

#[test]
fn only_partitions_on_the_move_are_listed() {
    for topics in [None, Some(&[("orders", &[0, 1, 5][..])][..])] {
        let found = listed(topics);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "orders");
        let [moving] = &found[0].partitions[..] else {
            panic!("{found:?}");
        };
        assert_eq!(moving.partition_index, 0);
        assert_eq!(moving.replicas, [3, 2, 1]);
        assert_eq!(moving.adding_replicas, [3]);
        assert_eq!(moving.removing_replicas, [1]);
    }
}

#[test]
fn what_does_not_exist_or_does_not_move_is_left_out() {
    assert_eq!(listed(Some(&[("nowhere", &[0])])), []);
    assert_eq!(listed(Some(&[("orders", &[1])])), []);
    assert_eq!(listed(Some(&[])), []);
}

#[test]
fn outcomes_are_told_by_topic_with_their_texts() {
    let text = "broker 9 is not registered";
    let refusal = Refusal::new(ErrorCode::InvalidReplicaAssignment, text);
    let topics = by_topic(vec![
        ("b".to_owned(), 0, Ok(())),
        ("a".to_owned(), 0, Ok(())),
        ("b".to_owned(), 1, Err(refusal)),
    ]);
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let told: Vec<_> = topics[1]
        .partitions
        .iter()
        .map(|one| {
            (
                one.partition_index,
                one.error_code,
                one.error_message.as_deref(),
            )
        })
        .collect();
    let code = ErrorCode::InvalidReplicaAssignment.code();
    assert_eq!(told, [(0, 0, None), (1, code, Some(text))]);
}
