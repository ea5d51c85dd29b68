//! What a fetcher asks for and takes.

use super::*;
use crate::types::Uuid;
use crate::wire::message::fetch::{EpochEndOffset, FetchableTopicResponse};

const TOPIC: TopicId = Uuid([7; 16]);
const NOW: Instant = Instant(1_000_000_000);

fn limits() -> FetchLimits {
    FetchLimits {
        wait_max: Duration::from_millis(500),
        min_bytes: 1,
        max_bytes: 1 << 20,
        partition_max_bytes: 1 << 16,
        pause_longest: Duration::from_secs(1),
    }
}

fn followed(leader_epoch: i32) -> Followed {
    Followed {
        slot: 3,
        shard: 0,
        leader_epoch: LeaderEpoch(leader_epoch),
    }
}

fn at(offset: i64) -> FollowerPosition {
    FollowerPosition {
        fetch_offset: Offset(offset),
        last_fetched_epoch: LeaderEpoch(4),
        log_start_offset: Offset(0),
        high_watermark: Offset(offset),
    }
}

/// A plan that follows these partitions, each from offset 10 on.
fn plan(partitions: &[i32]) -> FetchPlan {
    let mut plan = FetchPlan::new(BrokerId(2), limits());
    for partition in partitions {
        assert!(plan.follow((TOPIC, *partition), followed(5)));
    }
    place(&mut plan, 10);
    plan
}

fn place(plan: &mut FetchPlan, offset: i64) {
    for task in plan.unplaced(NOW) {
        plan.placed((NOW, 0), (task.key, task.assignment), Ok(at(offset)), false);
    }
}

fn request(plan: &mut FetchPlan) -> (FetchRequest, Round) {
    plan.request(NOW, BrokerEpoch(9))
        .expect("something to ask for")
}

fn data(partition: i32, error: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index: partition,
        error_code: error.code(),
        high_watermark: 12,
        log_start_offset: 0,
        ..Default::default()
    }
}

fn response(session_id: i32, partitions: Vec<PartitionData>) -> FetchResponse {
    FetchResponse {
        session_id,
        responses: vec![FetchableTopicResponse {
            topic_id: TOPIC,
            partitions,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn asked(request: &FetchRequest) -> Vec<i32> {
    let topics = request.topics.iter();
    topics
        .flat_map(|topic| topic.partitions.iter().map(|fetch| fetch.partition))
        .collect()
}

#[test]
fn a_request_names_the_broker_its_epoch_and_where_each_log_ends() {
    let mut plan = plan(&[0]);
    let (request, _) = request(&mut plan);
    assert_eq!(request.replica_state.replica_id, 2);
    assert_eq!(request.replica_state.replica_epoch, 9);
    let fetch = &request.topics[0].partitions[0];
    assert_eq!(fetch.current_leader_epoch, 5);
    assert_eq!(fetch.fetch_offset, 10);
    assert_eq!(fetch.last_fetched_epoch, 4);
    assert_eq!(fetch.high_watermark, 10);
}

#[test]
fn in_a_session_only_what_changed_is_named() {
    let mut plan = plan(&[0, 1]);
    let (first, round) = request(&mut plan);
    assert_eq!((first.session_epoch, asked(&first)), (0, vec![0, 1]));
    let work = plan.answered(
        (NOW, 0),
        round,
        response(77, vec![data(1, ErrorCode::None)]),
    );
    assert_eq!(work.expect("an answer").appends.len(), 1);
    place(&mut plan, 15);
    let (second, round) = request(&mut plan);
    assert_eq!((second.session_id, second.session_epoch), (77, 1));
    assert_eq!(asked(&second), vec![1]);
    assert_eq!(second.topics[0].partitions[0].fetch_offset, 15);
    plan.answered((NOW, 0), round, response(77, vec![]))
        .expect("an answer");
    plan.leave((TOPIC, 0));
    let (third, _) = request(&mut plan);
    assert_eq!(asked(&third), Vec::<i32>::new());
    assert_eq!(third.forgotten_topics_data[0].partitions, vec![0]);
}

#[test]
fn a_new_leader_epoch_is_told_within_a_session() {
    let mut plan = plan(&[0, 1]);
    let (_, round) = request(&mut plan);
    plan.answered((NOW, 0), round, response(77, vec![]))
        .expect("an answer");
    assert!(plan.follow((TOPIC, 1), followed(6)));
    place(&mut plan, 10);
    let (next, _) = request(&mut plan);
    assert_eq!(asked(&next), vec![1]);
    assert_eq!(next.topics[0].partitions[0].current_leader_epoch, 6);
}

#[test]
fn an_abandoned_session_is_ended_by_the_next_request() {
    let mut plan = plan(&[0]);
    let (_, round) = request(&mut plan);
    plan.answered((NOW, 0), round, response(77, vec![]))
        .expect("an answer");
    plan.abandon_session();
    let (next, _) = request(&mut plan);
    assert_eq!((next.session_id, next.session_epoch), (77, 0));
    assert_eq!(asked(&next), vec![0]);
}

#[test]
fn an_answer_for_what_was_taken_away_or_follows_another_leader_is_dropped() {
    let mut plan = plan(&[0, 1, 2]);
    let (_, round) = request(&mut plan);
    plan.leave((TOPIC, 0));
    assert!(plan.follow((TOPIC, 1), followed(6)));
    let mut diverging = data(0, ErrorCode::None);
    diverging.diverging_epoch = EpochEndOffset {
        epoch: 4,
        end_offset: 8,
        ..Default::default()
    };
    let answer = response(
        0,
        vec![
            diverging,
            data(1, ErrorCode::None),
            data(2, ErrorCode::None),
        ],
    );
    let work = plan.answered((NOW, 0), round, answer).expect("an answer");
    assert!(work.truncations.is_empty());
    let appended: Vec<Key> = work.appends.iter().map(|task| task.key).collect();
    assert_eq!(appended, vec![(TOPIC, 2)]);
}

#[test]
fn a_position_asked_for_under_an_older_assignment_is_dropped() {
    let mut plan = FetchPlan::new(BrokerId(2), limits());
    plan.follow((TOPIC, 0), followed(5));
    let asked = plan.unplaced(NOW);
    plan.follow((TOPIC, 0), followed(6));
    let of = (asked[0].key, asked[0].assignment);
    plan.placed((NOW, 0), of, Ok(at(3)), false);
    assert!(plan.request(NOW, BrokerEpoch(9)).is_none());
}

#[test]
fn diverging_logs_are_truncated_before_anything_is_fetched() {
    let mut plan = plan(&[0]);
    let (_, round) = request(&mut plan);
    let mut diverging = data(0, ErrorCode::None);
    diverging.diverging_epoch = EpochEndOffset {
        epoch: 3,
        end_offset: 8,
        ..Default::default()
    };
    let work = plan
        .answered((NOW, 0), round, response(0, vec![diverging]))
        .expect("an answer");
    assert_eq!(
        work.truncations[0].work.diverging,
        (LeaderEpoch(3), Offset(8))
    );
    assert!(work.appends.is_empty());
    assert!(plan.request(NOW, BrokerEpoch(9)).is_none());
}

#[test]
fn a_partition_that_fails_pauses_longer_each_time_and_the_rest_goes_on() {
    let mut plan = plan(&[0, 1]);
    let mut now = NOW;
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let (fetch, round) = plan
            .request(now, BrokerEpoch(9))
            .expect("something to ask for");
        assert_eq!(asked(&fetch), vec![0, 1]);
        let answer = response(0, vec![data(0, ErrorCode::NotLeaderOrFollower)]);
        plan.answered((now, 200), round, answer).expect("an answer");
        let (fetch, _) = plan
            .request(now, BrokerEpoch(9))
            .expect("the other partition");
        assert_eq!(asked(&fetch), vec![1]);
        let until = plan.wakes_at().expect("a pause");
        // The wait at the leader ends in time for the partition that is left out.
        assert_eq!(
            fetch.max_wait_ms,
            i32::try_from(until.since(now).as_millis()).expect("short")
        );
        pauses.push(until.since(now).as_millis());
        now = until;
        for task in plan.unplaced(now) {
            plan.placed((now, 0), (task.key, task.assignment), Ok(at(10)), false);
        }
    }
    assert_eq!(pauses, vec![10, 20, 40]);
}

#[test]
fn a_follower_behind_the_leaders_log_start_is_told_to_begin_there() {
    let mut plan = plan(&[0]);
    let (_, round) = request(&mut plan);
    let mut behind = data(0, ErrorCode::OffsetOutOfRange);
    behind.log_start_offset = 100;
    let work = plan
        .answered((NOW, 0), round, response(0, vec![behind]))
        .expect("an answer");
    assert_eq!(work.appends[0].work.leader_log_start_offset, Offset(100));
    assert!(work.appends[0].work.records.is_empty());
}

#[test]
fn a_session_that_the_leader_lost_begins_anew() {
    let mut plan = plan(&[0]);
    let (_, round) = request(&mut plan);
    plan.answered((NOW, 0), round, response(77, vec![]))
        .expect("an answer");
    let (_, round) = request(&mut plan);
    let lost = FetchResponse {
        error_code: ErrorCode::FetchSessionIdNotFound.code(),
        ..Default::default()
    };
    let refused = plan
        .answered((NOW, 0), round, lost)
        .expect_err("no session");
    assert_eq!(refused, ErrorCode::FetchSessionIdNotFound);
    let (next, _) = request(&mut plan);
    assert_eq!((next.session_id, next.session_epoch), (0, 0));
    assert_eq!(asked(&next), vec![0]);
}
