//! Committing, reading, deleting and expiring offsets, one rule a test.

use bytes::Bytes;

use super::ledger::{Reply, Request};
use super::test_group::*;
use super::*;
use crate::types::{ErrorCode, Uuid};
use crate::wire::Str;
use crate::wire::message::join_group::JoinGroupRequest;
use crate::wire::message::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::wire::message::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};

const DAY: u64 = 24 * 60 * 60;

fn delete(bench: &mut Bench, topics: &[&str]) -> Result<Vec<i16>, i16> {
    let partition = OffsetDeleteRequestPartition::default();
    let topic = |name: &&str| OffsetDeleteRequestTopic {
        name: Str::from(*name),
        partitions: vec![partition.clone()],
        ..OffsetDeleteRequestTopic::default()
    };
    let request = OffsetDeleteRequest {
        group_id: GROUP.into(),
        topics: topics.iter().map(topic).collect(),
        ..OffsetDeleteRequest::default()
    };
    match bench.reply_to(Request::DeleteOffsets(request)) {
        Reply::DeleteOffsets(answer) if answer.error_code != 0 => Err(answer.error_code),
        Reply::DeleteOffsets(answer) => {
            let topics = answer.topics.iter();
            Ok(topics.map(|topic| topic.partitions[0].error_code).collect())
        }
        other => panic!("not a deletion: {other:?}"),
    }
}

fn commit_topic(bench: &mut Bench, generation: i32, member_id: &Str, topic: &str) {
    let mut request = Bench::commit_request(generation, member_id, 1);
    request.topics[0].name = topic.into();
    assert_eq!(bench.commit_with(request), ErrorCode::None);
}

fn offsets(bench: &mut Bench) -> Vec<String> {
    let request = OffsetFetchRequestGroup {
        group_id: GROUP.into(),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    match bench.reply_to(Request::FetchOffsets(request)) {
        Reply::FetchOffsets(answer) => answer.topics.iter().map(|t| t.name.to_string()).collect(),
        other => panic!("not a fetch: {other:?}"),
    }
}

#[test]
fn a_consumer_without_a_group_commits_and_reads_back() {
    let mut bench = Bench::new();
    assert_eq!(bench.committed(), -1);
    assert_eq!(bench.commit(-1, &nobody(), 5), ErrorCode::None);
    assert_eq!(bench.commit(-1, &nobody(), 3), ErrorCode::None);
    assert_eq!(
        bench.committed(),
        3,
        "the last commit counts, not the greatest"
    );
    assert_eq!(bench.state(), GroupState::Empty);
    bench.fail_over(bench.log.len());
    assert_eq!(bench.committed(), 3);
}

#[test]
fn outsiders_do_not_commit_for_a_group_with_members() {
    let mut bench = Bench::undelayed();
    assert_eq!(
        bench.commit(1, &Str::from("m"), 1),
        ErrorCode::IllegalGeneration
    );
    let (ids, generation) = bench.stable(1);
    assert_eq!(bench.commit(-1, &nobody(), 1), ErrorCode::UnknownMemberId);
    assert_eq!(bench.commit(generation, &ids[0], 2), ErrorCode::None);
    let mut fenced = Bench::commit_request(generation, &ids[0], 9);
    fenced.group_instance_id = Some("x".into());
    assert_eq!(bench.commit_with(fenced), ErrorCode::UnknownMemberId);
    bench.leave(&[(&ids[0], None)]);
    assert_eq!(
        bench.commit(generation, &ids[0], 9),
        ErrorCode::UnknownMemberId
    );
    assert_eq!(bench.commit(-1, &nobody(), 4), ErrorCode::None);
    assert_eq!(bench.committed(), 4);
}

#[test]
fn offsets_are_taken_while_members_join_but_not_while_the_assignment_is_open() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    let newcomer = bench.member_id();
    bench.join(&newcomer);
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert_eq!(bench.commit(generation, &ids[0], 2), ErrorCode::None);
    bench.join(&ids[0]);
    assert_eq!(bench.state(), GroupState::CompletingRebalance);
    let error = bench.commit(generation + 1, &ids[0], 3);
    assert_eq!(error, ErrorCode::RebalanceInProgress);
    assert_eq!(
        bench.commit(generation, &ids[0], 3),
        ErrorCode::IllegalGeneration
    );
    assert_eq!(bench.committed(), 2);
}

#[test]
fn metadata_over_the_limit_is_refused_for_its_partition_only() {
    let mut bench = Bench::new();
    let mut request = Bench::commit_request(-1, &nobody(), 1);
    let mut second = request.topics[0].partitions[0].clone();
    second.partition_index = 1;
    second.committed_metadata = None;
    request.topics[0].partitions[0].committed_metadata = Some("m".repeat(4097).into());
    request.topics[0].partitions.push(second);
    match bench.reply_to(Request::CommitOffsets(request)) {
        Reply::CommitOffsets(answer) => {
            let codes: Vec<i16> = answer.topics[0]
                .partitions
                .iter()
                .map(|p| p.error_code)
                .collect();
            assert_eq!(codes, [ErrorCode::OffsetMetadataTooLarge.code(), 0]);
        }
        other => panic!("not a commit: {other:?}"),
    }
    assert_eq!(bench.committed(), -1);
    assert_eq!(bench.log.len(), 1);
}

#[test]
fn offsets_of_a_topic_of_the_same_name_are_not_shown() {
    let mut bench = Bench::new();
    let mut request = Bench::commit_request(-1, &nobody(), 7);
    request.topics[0].topic_id = Uuid([1; 16]);
    assert_eq!(bench.commit_with(request), ErrorCode::None);
    let mut fetch = |topic_id| {
        let request = OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                topic_id,
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        };
        match bench.reply_to(Request::FetchOffsets(request)) {
            Reply::FetchOffsets(answer) => answer.topics[0].partitions[0].committed_offset,
            other => panic!("not a fetch: {other:?}"),
        }
    };
    assert_eq!(fetch(Uuid([1; 16])), 7);
    assert_eq!(fetch(Uuid([2; 16])), -1);
    assert_eq!(fetch(Uuid::ZERO), 7);
}

#[test]
fn offsets_outlive_members_by_the_retention_time() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    assert_eq!(bench.commit(generation, &ids[0], 1), ErrorCode::None);
    for _ in 0..(20 * DAY / 8) {
        bench.seconds(8);
        bench.heartbeat(generation, &ids[0]);
    }
    assert_eq!(bench.committed(), 1, "a member subscribes to the topic");
    bench.leave(&[(&ids[0], None)]);
    bench.seconds(7 * DAY - 1200);
    assert_eq!(bench.committed(), 1, "counted from when the group emptied");
    bench.fail_over(bench.log.len());
    bench.seconds(2400);
    assert_eq!(bench.committed(), -1);
    assert_eq!(
        bench.state(),
        GroupState::Dead,
        "nothing is left of the group"
    );
}

#[test]
fn offsets_do_not_expire_while_the_group_rebalances() {
    let mut bench = Bench::with(GroupConfig {
        initial_rebalance_delay: std::time::Duration::ZERO,
        offsets_retention: std::time::Duration::from_secs(60),
        offsets_retention_check_interval: std::time::Duration::from_secs(10),
        ..GroupConfig::default()
    });
    let (ids, generation) = bench.stable(1);
    assert_eq!(bench.commit(generation, &ids[0], 1), ErrorCode::None);
    commit_topic(&mut bench, generation, &ids[0], "other");
    bench.join_as(
        JoinGroupRequest {
            rebalance_timeout_ms: 300_000,
            ..join_request(&nobody())
        },
        3,
    );
    for _ in 0..20 {
        bench.seconds(5);
        bench.heartbeat(generation, &ids[0]);
    }
    assert_eq!(bench.state(), GroupState::PreparingRebalance);
    assert_eq!(offsets(&mut bench), ["other", "t"]);
}

#[test]
fn a_stable_group_forgets_topics_it_does_not_subscribe_to() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    commit_topic(&mut bench, generation, &ids[0], "t");
    commit_topic(&mut bench, generation, &ids[0], "other");
    for _ in 0..(8 * DAY / 8) {
        bench.seconds(8);
        bench.heartbeat(generation, &ids[0]);
    }
    assert_eq!(offsets(&mut bench), ["t"]);
}

#[test]
fn offsets_without_members_expire_from_their_last_commit() {
    let mut bench = Bench::new();
    bench.commit(-1, &nobody(), 1);
    bench.seconds(6 * DAY);
    bench.commit(-1, &nobody(), 2);
    bench.seconds(6 * DAY);
    assert_eq!(bench.committed(), 2);
    bench.seconds(2 * DAY);
    assert_eq!(bench.committed(), -1);
    assert_eq!(bench.state(), GroupState::Dead);
}

#[test]
fn a_retention_time_in_the_request_is_honoured() {
    let mut bench = Bench::new();
    let mut request = Bench::commit_request(-1, &nobody(), 1);
    request.retention_time_ms = 3_600_000;
    assert_eq!(bench.commit_with(request), ErrorCode::None);
    bench.seconds(3500);
    assert_eq!(bench.committed(), 1);
    bench.fail_over(bench.log.len());
    bench.seconds(1300);
    assert_eq!(bench.committed(), -1);
}

#[test]
fn offsets_of_topics_in_use_are_not_deleted() {
    let mut bench = Bench::undelayed();
    assert_eq!(
        delete(&mut bench, &["t"]),
        Err(ErrorCode::GroupIdNotFound.code())
    );
    let (ids, generation) = bench.stable(1);
    commit_topic(&mut bench, generation, &ids[0], "t");
    commit_topic(&mut bench, generation, &ids[0], "other");
    let in_use = ErrorCode::GroupSubscribedToTopic.code();
    assert_eq!(
        delete(&mut bench, &["t", "other", "never"]),
        Ok(vec![in_use, 0, 0])
    );
    assert_eq!(offsets(&mut bench), ["t"]);
    bench.leave(&[(&ids[0], None)]);
    assert_eq!(delete(&mut bench, &["t"]), Ok(vec![0]));
    assert!(offsets(&mut bench).is_empty());
}

#[test]
fn offsets_of_a_live_group_of_another_type_are_not_deleted() {
    let mut bench = Bench::undelayed();
    bench.commit(-1, &nobody(), 1);
    let request = JoinGroupRequest {
        protocol_type: "connect".into(),
        protocols: vec![protocol("p", Bytes::new())],
        ..join_request(&nobody())
    };
    bench.join_as(request, 3);
    bench.seconds(1);
    assert_eq!(
        delete(&mut bench, &["t"]),
        Err(ErrorCode::NonEmptyGroup.code())
    );
}

#[test]
fn the_offsets_of_a_deleted_topic_go_with_it() {
    let mut bench = Bench::undelayed();
    let (ids, generation) = bench.stable(1);
    commit_topic(&mut bench, generation, &ids[0], "t");
    commit_topic(&mut bench, generation, &ids[0], "other");
    bench.reply_to(Request::TopicsDeleted(vec!["t".into(), "unknown".into()]));
    assert_eq!(offsets(&mut bench), ["other"]);
    bench.fail_over(bench.log.len());
    assert_eq!(offsets(&mut bench), ["other"]);
}

#[test]
fn old_offsets_do_not_rise_again_when_a_group_comes_back() {
    let mut bench = Bench::new();
    bench.commit(-1, &nobody(), 9);
    bench.reply_to(Request::Delete(GROUP.into()));
    bench.commit(-1, &nobody(), 2);
    bench.fail_over(bench.log.len());
    assert_eq!(bench.committed(), 2);
}
