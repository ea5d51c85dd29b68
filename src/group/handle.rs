//! The broker's handle on all groups: which partition a group lives on, and the way there.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use super::ledger::{GroupLedger, GroupSnapshot, Reply, Request};
use super::{GroupConfig, join, partition_for, sync};
use crate::coordinator::{ShardLog, ShardTask};
use crate::env::{Env, Rng};
use crate::types::{ErrorCode, LeaderEpoch};
use crate::wire::Str;
use crate::wire::message::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use crate::wire::message::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup,
};
use crate::wire::message::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::message::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::message::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use crate::wire::message::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use crate::wire::message::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::wire::message::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::wire::message::sync_group::{SyncGroupRequest, SyncGroupResponse};

/// First version of OffsetFetch with an error for the whole group.
const GROUP_ERROR_VERSION: i16 = 2;

/// First version of OffsetFetch that asks for several groups (KIP-709).
const MULTI_GROUP_VERSION: i16 = 8;

/// First version of JoinGroup whose protocol name may be null.
const NULL_PROTOCOL_VERSION: i16 = 7;

/// All groups this broker coordinates. Cloning shares it; the tasks end with the last clone.
#[derive(Clone)]
pub struct GroupCoordinator {
    shared: Arc<Shared>,
}

struct Shared {
    tasks: Vec<ShardTask<GroupLedger>>,
    partitions: AtomicI32,
    random: Mutex<Rng>,
}

impl GroupCoordinator {
    /// Starts `tasks` tasks that share the shards of an internal topic of `partitions` partitions.
    #[must_use]
    pub fn start(env: &Env, config: &GroupConfig, partitions: i32, tasks: usize) -> Self {
        let start = |_| {
            let ledger = GroupLedger::new(config.clone());
            ShardTask::start(env, "group-coordinator", ledger)
        };
        Self {
            shared: Arc::new(Shared {
                tasks: (0..tasks.max(1)).map(start).collect(),
                partitions: AtomicI32::new(partitions),
                random: Mutex::new(env.entropy.stream("group-member-id")),
            }),
        }
    }

    /// The internal topic has this many partitions (known once the topic exists).
    pub fn set_partitions(&self, count: i32) {
        self.shared.partitions.store(count, Ordering::Relaxed);
    }

    /// The partition of the internal topic that holds this group.
    #[must_use]
    pub fn partition_of(&self, group_id: &str) -> i32 {
        partition_for(group_id, self.shared.partitions.load(Ordering::Relaxed))
    }

    /// This broker leads `partition` of the internal topic since `leader_epoch`. Returns when the
    /// call is queued; requests are refused with `COORDINATOR_LOAD_IN_PROGRESS` until the log is
    /// replayed. Calls for one partition must be made in the order of the elections; calls of an
    /// epoch older than the latest seen are ignored.
    pub async fn load(&self, partition: i32, leader_epoch: LeaderEpoch, log: Arc<dyn ShardLog>) {
        self.task(partition)
            .load(partition, leader_epoch, log)
            .await;
    }

    /// This broker leads `partition` no more.
    pub async fn unload(&self, partition: i32, leader_epoch: LeaderEpoch) {
        self.task(partition).unload(partition, leader_epoch).await;
    }

    /// JoinGroup. Waits for the next generation, at most the group's rebalance time-out.
    pub async fn join_group(
        &self,
        request: JoinGroupRequest,
        version: i16,
        client_id: Str,
        client_host: Str,
    ) -> JoinGroupResponse {
        let (group_id, member_id) = (request.group_id.clone(), request.member_id.clone());
        let request = Request::Join {
            request,
            version,
            client_id,
            client_host,
            random: self.random(),
        };
        let mut answer = match self.ask(&group_id, request).await {
            Ok(Reply::Join(answer)) => answer,
            other => join::refusal(&member_id, error_of(other)),
        };
        if version < NULL_PROTOCOL_VERSION {
            answer.protocol_name.get_or_insert_default();
        }
        answer
    }

    /// SyncGroup. Waits for the assignment, at most the group's rebalance time-out.
    pub async fn sync_group(&self, request: SyncGroupRequest) -> SyncGroupResponse {
        let group_id = request.group_id.clone();
        match self.ask(&group_id, Request::Sync(request)).await {
            Ok(Reply::Sync(answer)) => answer,
            other => sync::refusal(error_of(other)),
        }
    }

    pub async fn heartbeat(&self, request: HeartbeatRequest) -> HeartbeatResponse {
        let group_id = request.group_id.clone();
        let error = match self.ask(&group_id, Request::Heartbeat(request)).await {
            Ok(Reply::Heartbeat(error)) => error,
            other => error_of(other),
        };
        HeartbeatResponse {
            error_code: error.code(),
            ..HeartbeatResponse::default()
        }
    }

    pub async fn leave_group(
        &self,
        request: LeaveGroupRequest,
        version: i16,
    ) -> LeaveGroupResponse {
        let group_id = request.group_id.clone();
        let request = Request::Leave { request, version };
        match self.ask(&group_id, request).await {
            Ok(Reply::Leave(answer)) => answer,
            other => LeaveGroupResponse {
                error_code: error_of(other).code(),
                ..LeaveGroupResponse::default()
            },
        }
    }

    /// OffsetCommit. Topics must carry their names (in version 10 the caller fills them in from the
    /// ids); the answer repeats names and ids in the order of the request.
    pub async fn commit_offsets(&self, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let group_id = request.group_id.clone();
        let refused = every_partition(&request);
        match self.ask(&group_id, Request::CommitOffsets(request)).await {
            Ok(Reply::CommitOffsets(answer)) => answer,
            other => refused(error_of(other)),
        }
    }

    /// OffsetFetch of any version. Topics must carry their names; answers repeat names and ids. For
    /// "all topics" the answer has the names and the ids that were committed (zero if none was), so
    /// in version 10 the caller fills in the rest. `is_sure` is asked when an answer is there, and
    /// the answer is withheld (NOT_COORDINATOR) if this may not be the coordinator any more.
    pub async fn fetch_offsets(
        &self,
        request: OffsetFetchRequest,
        version: i16,
        is_sure: &(dyn Fn() -> bool + Send + Sync),
    ) -> OffsetFetchResponse {
        if version < MULTI_GROUP_VERSION {
            let request = single_group(request);
            let asked = request.topics.clone().unwrap_or_default();
            let group = self.fetch_group(request, is_sure).await;
            return single_group_answer(group, asked, version);
        }
        let mut answer = OffsetFetchResponse::default();
        for group in request.groups {
            answer.groups.push(self.fetch_group(group, is_sure).await);
        }
        answer
    }

    /// Offsets of one group, as in [`GroupCoordinator::fetch_offsets`].
    async fn fetch_group(
        &self,
        request: OffsetFetchRequestGroup,
        is_sure: &(dyn Fn() -> bool + Send + Sync),
    ) -> OffsetFetchResponseGroup {
        let group_id = request.group_id.clone();
        let error = match self.ask(&group_id, Request::FetchOffsets(request)).await {
            Ok(Reply::FetchOffsets(answer))
                if is_sure() || crate::mutant!("answers-out-of-touch") =>
            {
                return answer;
            }
            Ok(Reply::FetchOffsets(_)) => {
                tracing::trace!(target: "klamm::probe", name = "committed-offset-withheld");
                ErrorCode::NotCoordinator
            }
            other => error_of(other),
        };
        OffsetFetchResponseGroup {
            group_id,
            error_code: error.code(),
            ..OffsetFetchResponseGroup::default()
        }
    }

    pub async fn delete_offsets(&self, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
        let group_id = request.group_id.clone();
        match self.ask(&group_id, Request::DeleteOffsets(request)).await {
            Ok(Reply::DeleteOffsets(answer)) => answer,
            other => OffsetDeleteResponse {
                error_code: error_of(other).code(),
                ..OffsetDeleteResponse::default()
            },
        }
    }

    /// DescribeGroups. Authorized operations are the caller's to fill in.
    pub async fn describe_groups(
        &self,
        request: DescribeGroupsRequest,
        version: i16,
    ) -> DescribeGroupsResponse {
        let mut answer = DescribeGroupsResponse::default();
        for group_id in request.groups {
            answer
                .groups
                .push(self.describe_group(group_id, version).await);
        }
        answer
    }

    /// One group of [`GroupCoordinator::describe_groups`].
    pub async fn describe_group(&self, group_id: Str, version: i16) -> DescribedGroup {
        let request = Request::Describe {
            group_id: group_id.clone(),
            version,
        };
        match self.ask(&group_id, request).await {
            Ok(Reply::Describe(answer)) => answer,
            other => DescribedGroup {
                error_code: error_of(other).code(),
                group_id,
                ..DescribedGroup::default()
            },
        }
    }

    /// ListGroups: those of the partitions this broker leads. `COORDINATOR_LOAD_IN_PROGRESS` when
    /// one of them is not replayed yet.
    pub async fn list_groups(&self, request: ListGroupsRequest) -> ListGroupsResponse {
        let mut answer = ListGroupsResponse::default();
        for partition in self.partitions() {
            let request = Request::List(request.clone());
            match self.task(partition).request(partition, request).await {
                Ok(Reply::List(mut groups)) => answer.groups.append(&mut groups),
                Err(ErrorCode::NotCoordinator) => {}
                other => answer.error_code = error_of(other).code(),
            }
        }
        answer.groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
        answer
    }

    pub async fn delete_groups(&self, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut answer = DeleteGroupsResponse::default();
        for group_id in request.groups_names {
            let error = self.delete_group(&group_id).await;
            answer.results.push(DeletableGroupResult {
                group_id,
                error_code: error.code(),
                ..DeletableGroupResult::default()
            });
        }
        answer
    }

    /// One group of [`GroupCoordinator::delete_groups`].
    pub async fn delete_group(&self, group_id: &Str) -> ErrorCode {
        match self.ask(group_id, Request::Delete(group_id.clone())).await {
            Ok(Reply::Delete(error)) => error,
            other => error_of(other),
        }
    }

    /// Forgets what any group of this broker's partitions committed for these topics. Returns when
    /// that is durable; an error means that some may be left, so call again.
    pub async fn topics_deleted(&self, names: Vec<Str>) -> Result<(), ErrorCode> {
        let mut result = Ok(());
        for partition in self.partitions() {
            let request = Request::TopicsDeleted(names.clone());
            match self.task(partition).request(partition, request).await {
                Ok(_) | Err(ErrorCode::NotCoordinator) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// What metrics show of the groups of this broker's partitions; partitions that cannot answer
    /// now are left out.
    pub async fn snapshot(&self) -> Vec<GroupSnapshot> {
        let mut all = Vec::new();
        for partition in self.partitions() {
            let answer = self.task(partition).request(partition, Request::Snapshot);
            if let Ok(Reply::Snapshot(mut groups)) = answer.await {
                all.append(&mut groups);
            }
        }
        all
    }

    async fn ask(&self, group_id: &Str, request: Request) -> Result<Reply, ErrorCode> {
        let partition = self.partition_of(group_id);
        self.task(partition).request(partition, request).await
    }

    fn partitions(&self) -> std::ops::Range<i32> {
        0..self.shared.partitions.load(Ordering::Relaxed)
    }

    fn task(&self, partition: i32) -> &ShardTask<GroupLedger> {
        let tasks = &self.shared.tasks;
        let number = usize::try_from(partition).unwrap_or(0);
        &tasks[number % tasks.len()]
    }

    fn random(&self) -> [u8; 16] {
        let mut random = self.shared.random.lock().unwrap_or_else(|e| e.into_inner());
        random.bytes()
    }
}

/// The error in an answer that is not of the request's kind.
fn error_of(answer: Result<Reply, ErrorCode>) -> ErrorCode {
    answer.err().unwrap_or(ErrorCode::UnknownServerError)
}

/// An answer that gives one error to all partitions of a request.
fn every_partition(
    request: &OffsetCommitRequest,
) -> impl FnOnce(ErrorCode) -> OffsetCommitResponse + use<> {
    let topics: Vec<_> = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|p| p.partition_index);
            (
                topic.name.clone(),
                topic.topic_id,
                partitions.collect::<Vec<_>>(),
            )
        })
        .collect();
    move |error| {
        let mut answer = OffsetCommitResponse::default();
        for (name, topic_id, partitions) in topics {
            let refused = |partition_index| OffsetCommitResponsePartition {
                partition_index,
                error_code: error.code(),
                ..OffsetCommitResponsePartition::default()
            };
            answer.topics.push(OffsetCommitResponseTopic {
                name,
                topic_id,
                partitions: partitions.into_iter().map(refused).collect(),
                ..OffsetCommitResponseTopic::default()
            });
        }
        answer
    }
}

fn single_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let widened = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        widened.collect()
    });
    OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..OffsetFetchRequestGroup::default()
    }
}

/// The answer about one group in the form of versions 1 to 7. Version 1 has no field for an error
/// of the whole group, so each partition asked for gets it.
fn single_group_answer(
    mut group: OffsetFetchResponseGroup,
    asked: Vec<OffsetFetchRequestTopics>,
    version: i16,
) -> OffsetFetchResponse {
    if group.error_code != 0 && version < GROUP_ERROR_VERSION {
        let refused = |partition_index| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: -1,
            error_code: group.error_code,
            ..OffsetFetchResponsePartitions::default()
        };
        let topics = asked.into_iter().map(|topic| OffsetFetchResponseTopics {
            name: topic.name,
            partitions: topic.partition_indexes.into_iter().map(refused).collect(),
            ..OffsetFetchResponseTopics::default()
        });
        group.topics = topics.collect();
    }
    let mut answer = OffsetFetchResponse {
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    };
    for topic in group.topics {
        let partitions = topic.partitions.into_iter();
        let narrowed = partitions.map(|partition| OffsetFetchResponsePartition {
            partition_index: partition.partition_index,
            committed_offset: partition.committed_offset,
            committed_leader_epoch: partition.committed_leader_epoch,
            metadata: partition.metadata,
            error_code: partition.error_code,
            ..OffsetFetchResponsePartition::default()
        });
        answer.topics.push(OffsetFetchResponseTopic {
            name: topic.name,
            partitions: narrowed.collect(),
            ..OffsetFetchResponseTopic::default()
        });
    }
    answer
}
