//! The handle, the driver and the ledger together over logs in memory.

use std::sync::Arc;
use std::time::Duration;

use super::test_group::{GROUP, join_request, nobody};
use super::*;
use crate::coordinator::test_log::{MemoryLog, TestWorld, both, is_ready};
use crate::types::{ErrorCode, LeaderEpoch};
use crate::wire::Str;
use crate::wire::message::heartbeat::HeartbeatRequest;
use crate::wire::message::list_groups::ListGroupsRequest;
use crate::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::wire::message::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use crate::wire::message::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

const PARTITIONS: i32 = 4;

struct Cluster {
    world: TestWorld,
    groups: GroupCoordinator,
    logs: Vec<MemoryLog>,
}

fn start() -> Cluster {
    let world = TestWorld::default();
    let groups = GroupCoordinator::start(&world.env(), &GroupConfig::default(), PARTITIONS, 2);
    let logs = (0..PARTITIONS).map(|_| MemoryLog::default()).collect();
    Cluster {
        world,
        groups,
        logs,
    }
}

impl Cluster {
    fn load(&self, partition: i32, epoch: i32) {
        let log = self.logs[usize::try_from(partition).expect("it exists")].clone();
        let load = self
            .groups
            .load(partition, LeaderEpoch(epoch), Arc::new(log));
        self.world.run(load);
        self.world.pass(Duration::from_millis(1));
    }

    fn load_all(&self, epoch: i32) {
        (0..PARTITIONS).for_each(|partition| self.load(partition, epoch));
    }

    fn log(&self) -> &MemoryLog {
        let partition = self.groups.partition_of(GROUP);
        &self.logs[usize::try_from(partition).expect("it exists")]
    }

    fn commit(&self, offset: i64) -> ErrorCode {
        let answer = self
            .world
            .run(self.groups.commit_offsets(commit_request(GROUP, offset)));
        let code = answer.topics[0].partitions[0].error_code;
        ErrorCode::from_wire(code).expect("a known code")
    }

    fn committed(&self, version: i16) -> (i64, i16) {
        let request = OffsetFetchRequest {
            group_id: GROUP.into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: "t".into(),
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopic::default()
            }]),
            ..OffsetFetchRequest::default()
        };
        let answer = self
            .world
            .run(self.groups.fetch_offsets(request, version, &|| true));
        let partition = answer.topics.first().map(|topic| &topic.partitions[0]);
        let offset = partition.map_or(-2, |partition| partition.committed_offset);
        let code = partition.map_or(0, |partition| partition.error_code);
        (offset, code.max(answer.error_code))
    }
}

fn commit_request(group: &str, offset: i64) -> OffsetCommitRequest {
    OffsetCommitRequest {
        group_id: group.into(),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: offset,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    }
}

#[test]
fn a_group_of_two_forms_through_the_handle() {
    let cluster = start();
    cluster.load_all(1);
    let join = |version| {
        let groups = cluster.groups.clone();
        let address = Str::from("/127.0.0.1");
        async move {
            let request = join_request(&nobody());
            groups
                .join_group(request, version, "c".into(), address)
                .await
        }
    };
    let (a, b) = cluster.world.run(both(join(3), join(3)));
    assert_eq!((a.error_code, a.generation_id), (0, 1));
    assert_ne!(a.member_id, b.member_id);
    let (leader, follower) = if a.leader == a.member_id {
        (a, b)
    } else {
        (b, a)
    };
    let sync = |member_id: &Str, assignments| {
        cluster.groups.sync_group(SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: 1,
            member_id: member_id.clone(),
            assignments,
            ..SyncGroupRequest::default()
        })
    };
    let assignment = |member_id: &Str, text: &'static str| SyncGroupRequestAssignment {
        member_id: member_id.clone(),
        assignment: text.into(),
        ..SyncGroupRequestAssignment::default()
    };
    let plan = vec![
        assignment(&leader.member_id, "L"),
        assignment(&follower.member_id, "F"),
    ];
    let waiting = sync(&follower.member_id, Vec::new());
    let (f, l) = cluster
        .world
        .run(both(waiting, sync(&leader.member_id, plan)));
    assert_eq!((l.assignment, f.assignment), ("L".into(), "F".into()));
    let beat = |member_id: &Str| HeartbeatRequest {
        group_id: GROUP.into(),
        generation_id: 1,
        member_id: member_id.clone(),
        ..HeartbeatRequest::default()
    };
    let beats = cluster.groups.heartbeat(beat(&leader.member_id));
    assert_eq!(cluster.world.run(beats).error_code, 0);
    let snapshot = cluster.world.run(cluster.groups.snapshot());
    assert_eq!(
        (snapshot[0].state, snapshot[0].members),
        (GroupState::Stable, 2)
    );
    cluster.world.pass(Duration::from_secs(11));
    let beats = cluster.groups.heartbeat(beat(&leader.member_id));
    let gone = cluster.world.run(beats).error_code;
    assert_eq!(
        gone,
        ErrorCode::UnknownMemberId.code(),
        "its session has ended"
    );
}

#[test]
fn old_joins_get_a_protocol_name_even_when_refused() {
    let cluster = start();
    for (version, name) in [(5, Some("".into())), (7, None)] {
        let join =
            cluster
                .groups
                .join_group(join_request(&nobody()), version, "c".into(), "/h".into());
        let answer = cluster.world.run(join);
        assert_eq!(answer.error_code, ErrorCode::NotCoordinator.code());
        assert_eq!(answer.protocol_name, name);
    }
}

#[test]
fn partitions_led_elsewhere_are_refused_and_left_out() {
    let cluster = start();
    assert_eq!(cluster.commit(1), ErrorCode::NotCoordinator);
    let wrong = ErrorCode::NotCoordinator.code();
    assert_eq!(
        cluster.committed(1),
        (-1, wrong),
        "version 1 has errors only inside"
    );
    assert_eq!(cluster.committed(5), (-2, wrong));
    let own = cluster.groups.partition_of(GROUP);
    cluster.load(own, 1);
    assert_eq!(cluster.commit(1), ErrorCode::None);
    let list = cluster.groups.list_groups(ListGroupsRequest::default());
    let list = cluster.world.run(list);
    assert_eq!((list.error_code, list.groups.len()), (0, 1));
}

#[test]
fn committed_offsets_move_with_the_partition() {
    let cluster = start();
    cluster.load_all(1);
    for offset in [3, 5] {
        assert_eq!(cluster.commit(offset), ErrorCode::None);
    }
    let own = cluster.groups.partition_of(GROUP);
    cluster
        .world
        .run(cluster.groups.unload(own, LeaderEpoch(2)));
    assert_eq!(cluster.commit(9), ErrorCode::NotCoordinator);
    cluster.load(own, 3);
    assert_eq!(cluster.committed(5), (5, 0));
}

#[test]
fn loads_and_unloads_of_past_epochs_are_ignored() {
    let cluster = start();
    let own = cluster.groups.partition_of(GROUP);
    cluster.load(own, 5);
    cluster
        .world
        .run(cluster.groups.unload(own, LeaderEpoch(4)));
    assert_eq!(
        cluster.commit(1),
        ErrorCode::None,
        "an old unload came late"
    );
    cluster
        .world
        .run(cluster.groups.unload(own, LeaderEpoch(6)));
    cluster.load(own, 5);
    assert_eq!(
        cluster.commit(2),
        ErrorCode::NotCoordinator,
        "an old load came late"
    );
}

#[test]
fn commits_are_pipelined_and_answered_when_they_are_safe() {
    let cluster = start();
    cluster.load_all(1);
    cluster.log().hold();
    let first = cluster.groups.commit_offsets(commit_request(GROUP, 1));
    let second = cluster.groups.commit_offsets(commit_request(GROUP, 2));
    let mut commits = std::pin::pin!(both(first, second));
    assert!(is_ready(commits.as_mut()).is_none());
    cluster.world.pass(Duration::from_millis(1));
    assert!(is_ready(commits.as_mut()).is_none());
    assert_eq!((cluster.log().len(), cluster.log().appends()), (2, 2));
    cluster.log().release();
    let (first, second) = cluster.world.run(commits);
    assert_eq!(first.topics[0].partitions[0].error_code, 0);
    assert_eq!(second.topics[0].partitions[0].error_code, 0);
    assert_eq!(cluster.committed(5), (2, 0));
}

#[test]
fn a_failed_append_is_an_unknown_outcome_and_the_log_tells() {
    let cluster = start();
    cluster.load_all(1);
    assert_eq!(cluster.commit(1), ErrorCode::None);
    cluster
        .log()
        .fail_next(ErrorCode::NotEnoughReplicasAfterAppend);
    assert_eq!(cluster.commit(2), ErrorCode::CoordinatorNotAvailable);
    cluster.world.pass(Duration::from_millis(1));
    assert_eq!(cluster.committed(5), (2, 0), "it had reached the log");
}

#[test]
fn a_shard_that_cannot_read_its_log_says_so_and_tries_again() {
    let cluster = start();
    cluster.log().fail_read(ErrorCode::KafkaStorageError);
    let own = cluster.groups.partition_of(GROUP);
    cluster.load(own, 1);
    assert_eq!(cluster.commit(1), ErrorCode::CoordinatorLoadInProgress);
    let list = cluster.groups.list_groups(ListGroupsRequest::default());
    let list = cluster.world.run(list);
    assert_eq!(list.error_code, ErrorCode::CoordinatorLoadInProgress.code());
    cluster.world.pass(Duration::from_secs(1));
    assert_eq!(cluster.commit(1), ErrorCode::None);
}

#[test]
fn deleting_a_topic_forgets_its_offsets_on_every_partition() {
    let cluster = start();
    cluster.load_all(1);
    for group in ["a", "b", "c", "d", "e"] {
        let commit = cluster.groups.commit_offsets(commit_request(group, 1));
        let answer = cluster.world.run(commit);
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }
    let count = |cluster: &Cluster| {
        let snapshot = cluster.world.run(cluster.groups.snapshot());
        snapshot
            .iter()
            .map(|group| group.offsets.len())
            .sum::<usize>()
    };
    assert_eq!(count(&cluster), 5);
    let deleted = cluster.groups.topics_deleted(vec!["t".into()]);
    assert_eq!(cluster.world.run(deleted), Ok(()));
    assert_eq!(count(&cluster), 0);
}
