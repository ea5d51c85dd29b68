//! What is answered about the quorum.

use super::*;
use crate::types::{Offset, Uuid};
use crate::wire::message::describe_quorum::{PartitionRequest, TopicRequest};

fn request(topic: &str, partition_index: i32) -> DescribeQuorumRequest {
    let partition = PartitionRequest {
        partition_index,
        ..Default::default()
    };
    let topic = TopicRequest {
        topic_name: topic.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    DescribeQuorumRequest {
        topics: vec![topic],
        ..Default::default()
    }
}

#[test]
fn only_the_metadata_partition_has_a_quorum() {
    assert!(is_about_metadata(&request("__cluster_metadata", 0)));
    for other in [request("__cluster_metadata", 1), request("orders", 0)] {
        assert!(!is_about_metadata(&other));
        let answer = unknown(&other);
        let partition = &answer.topics[0].partitions[0];
        let code = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!((answer.error_code, partition.error_code), (0, code));
    }
    assert!(!is_about_metadata(&DescribeQuorumRequest::default()));
}

#[test]
fn a_member_nobody_has_heard_of_has_minus_one_for_every_figure() {
    let peer = Peer {
        id: BrokerId(2),
        directory_id: Uuid::from_random([2; 16]),
        host: "node-2".to_owned(),
        port: 9093,
    };
    let member = |end| MemberStatus {
        peer: peer.clone(),
        end,
        last_fetch_ms: None,
        last_caught_up_ms: None,
    };
    let status = QuorumStatus {
        leader: None,
        leader_epoch: 4,
        high_watermark: Offset(9),
        voters: vec![member(None)],
        observers: vec![member(Some(Offset(8)))],
    };
    let answer = described(&status, "CONTROLLER");
    let partition = &answer.topics[0].partitions[0];
    assert_eq!((partition.leader_id, partition.high_watermark), (-1, 9));
    let voter = &partition.current_voters[0];
    assert_eq!((voter.log_end_offset, voter.last_fetch_timestamp), (-1, -1));
    assert_eq!(voter.last_caught_up_timestamp, -1);
    assert_eq!(partition.observers[0].log_end_offset, 8);
    let listener = &answer.nodes[0].listeners[0];
    assert_eq!((listener.host.as_str(), listener.port), ("node-2", 9093));
    // One of the voter, one of the observer.
    assert_eq!(answer.nodes.len(), 2);
}

#[test]
fn a_new_voter_must_say_where_it_is_reached() {
    let listener = |name: &str, host: &str, port| add_raft_voter::Listener {
        name: name.into(),
        host: host.into(),
        port,
        ..Default::default()
    };
    let request = |listeners| AddRaftVoterRequest {
        voter_id: 4,
        voter_directory_id: Uuid::from_random([4; 16]),
        listeners,
        ..Default::default()
    };
    let good = request(vec![
        listener("OTHER", "x", 1),
        listener("CONTROLLER", "node-4", 9093),
    ]);
    let peer = new_voter(&good, "CONTROLLER").unwrap();
    assert_eq!(
        (peer.id, peer.host.as_str(), peer.port),
        (BrokerId(4), "node-4", 9093)
    );
    let bad = [
        request(vec![]),
        request(vec![listener("OTHER", "x", 1)]),
        request(vec![listener("CONTROLLER", "", 1)]),
        request(vec![listener("CONTROLLER", "x", 0)]),
        AddRaftVoterRequest {
            voter_id: -1,
            ..good.clone()
        },
        AddRaftVoterRequest {
            voter_directory_id: Uuid::ZERO,
            ..good
        },
    ];
    for one in bad {
        let refusal = new_voter(&one, "CONTROLLER").unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidRequest, "{one:?}");
    }
}
