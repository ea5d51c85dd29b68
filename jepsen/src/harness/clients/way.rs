//! Requests about a group to its coordinator: each is one operation of the history, sent once.

use std::time::Duration;

use klamm::client::{ClientError, Cluster, Connection, Lane};
use klamm::types::ErrorCode;
use klamm::wire::api::ApiRequest;
use klamm::wire::message::describe_groups::DescribeGroupsRequest;
use klamm::wire::message::heartbeat::HeartbeatRequest;
use klamm::wire::message::leave_group::{LeaveGroupRequest, MemberIdentity};
use klamm::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use klamm::wire::{Request, Str};

use super::{NOT_SENT, Shared, TIMEOUT};
use crate::embedded;
use crate::harness::content;
use crate::history::{Answer, Call, Committed, Membership, Partition};

/// The last version of OffsetCommit that names topics by name.
const COMMIT_BY_NAME: i16 = 9;
const CALL_LIMIT: Duration = Duration::from_secs(3);

/// A way to the coordinator of one group.
pub(super) struct Way {
    pub shared: Shared,
    pub name: String,
    group: String,
    cluster: Cluster,
    connection: Option<Connection>,
}

impl Way {
    pub(super) fn new(shared: &Shared, name: &str, group: &str) -> Self {
        Self {
            cluster: cluster(shared, name),
            shared: shared.clone(),
            name: name.to_owned(),
            group: group.to_owned(),
            connection: None,
        }
    }

    /// Hangs up on everybody and forgets what it knew.
    pub(super) fn begin_anew(&mut self) {
        self.cluster = cluster(&self.shared, &self.name);
        self.connection = None;
    }

    /// Finds the coordinator and connects to it: nothing of the history.
    pub(super) async fn reach(&mut self) -> Result<(), &'static str> {
        let asked = async {
            let coordinator = self.cluster.coordinator(&self.group).await?;
            self.cluster.connection(coordinator, Lane::Group).await
        };
        match tokio::time::timeout(CALL_LIMIT, asked).await {
            Ok(Ok(connection)) => {
                self.connection = Some(connection);
                Ok(())
            }
            _ => {
                self.cluster.forget_coordinator(&self.group);
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(NOT_SENT)
            }
        }
    }

    /// One request to whom [`Way::reach`] found, sent once, or the name of what went wrong.
    pub(super) async fn ask<R>(
        &mut self,
        request: R,
        within: Duration,
    ) -> Result<R::Response, &'static str>
    where
        R: ApiRequest + Into<Request>,
    {
        let Some(connection) = &self.connection else {
            return Err(NOT_SENT);
        };
        let answer = connection.call_capped(request, i16::MAX, within).await;
        answer.map_err(|error| self.failed(&error))
    }

    fn failed(&mut self, error: &ClientError) -> &'static str {
        self.cluster.forget_coordinator(&self.group);
        match error {
            ClientError::UnsupportedVersion { .. } | ClientError::Encode(_) => NOT_SENT,
            _ => TIMEOUT,
        }
    }

    pub(super) fn invoke(&self, call: Call) -> u64 {
        self.shared.recorder.invoke(&self.name, call)
    }

    pub(super) fn ok(&self, op: u64, answer: Answer) {
        self.shared.recorder.ok(&self.name, op, answer);
    }

    /// The operation ended with `error`, which is given back.
    pub(super) fn refused(&mut self, op: u64, error: &'static str) -> &'static str {
        if matches!(error, "NOT_COORDINATOR" | "COORDINATOR_NOT_AVAILABLE") {
            self.cluster.forget_coordinator(&self.group);
        }
        self.shared.recorder.not_ok(&self.name, op, false, &[error]);
        error
    }

    pub(super) async fn heartbeat(&mut self, by: &Membership) -> Result<(), &'static str> {
        self.reach().await?;
        let request = HeartbeatRequest {
            group_id: by.group.as_str().into(),
            generation_id: by.generation,
            member_id: by.member.as_str().into(),
            group_instance_id: instance(by),
            ..Default::default()
        };
        let op = self.invoke(Call::Heartbeat(by.clone()));
        let answer = self.ask(request, CALL_LIMIT).await;
        match answer.and_then(|answer| check(answer.error_code)) {
            Ok(()) => {
                self.ok(op, Answer::Heartbeat);
                Ok(())
            }
            Err(error) => Err(self.refused(op, error)),
        }
    }

    pub(super) async fn leave(&mut self, by: &Membership) -> Result<(), &'static str> {
        self.reach().await?;
        let request = LeaveGroupRequest {
            group_id: by.group.as_str().into(),
            member_id: by.member.as_str().into(),
            members: vec![MemberIdentity {
                member_id: by.member.as_str().into(),
                group_instance_id: instance(by),
                ..Default::default()
            }],
            ..Default::default()
        };
        let op = self.invoke(Call::Leave(by.clone()));
        let answer = self.ask(request, CALL_LIMIT).await;
        let checked = answer.and_then(|answer| {
            let single = answer.members.first().map_or(0, |member| member.error_code);
            check(answer.error_code).and_then(|()| check(single))
        });
        match checked {
            Ok(()) => {
                self.ok(op, Answer::Leave);
                Ok(())
            }
            Err(error) => Err(self.refused(op, error)),
        }
    }

    pub(super) async fn commit(
        &mut self,
        by: &Membership,
        offsets: Vec<Committed>,
    ) -> Result<(), &'static str> {
        self.reach().await?;
        let request = OffsetCommitRequest {
            group_id: by.group.as_str().into(),
            generation_id_or_member_epoch: by.generation,
            member_id: by.member.as_str().into(),
            group_instance_id: instance(by),
            topics: by_topic(&offsets),
            ..Default::default()
        };
        let (by, asked) = (by.clone(), offsets.len());
        let connection = self.connection.clone().ok_or(NOT_SENT)?;
        let op = self.invoke(Call::Commit { by, offsets });
        let answer = connection
            .call_capped(request, COMMIT_BY_NAME, CALL_LIMIT)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let error = self.failed(&error);
                return Err(self.refused(op, error));
            }
        };
        let refused = refused_commits(&answer);
        match refused.first().map(|(_, error)| *error) {
            // One error for all is one for the request.
            Some(first)
                if refused.len() == asked && refused.iter().all(|(_, error)| *error == first) =>
            {
                Err(self.refused(op, first))
            }
            first => {
                let refused = refused.into_iter();
                let refused = refused.map(|(of, error)| (of, error.to_owned())).collect();
                self.ok(op, Answer::Commit { refused });
                first.map_or(Ok(()), Err)
            }
        }
    }

    /// The group's state, as the protocol spells it.
    pub(super) async fn describe(&mut self) -> Result<String, &'static str> {
        self.reach().await?;
        let group = self.group.clone();
        let request = DescribeGroupsRequest {
            groups: vec![group.as_str().into()],
            ..Default::default()
        };
        let op = self.invoke(Call::DescribeGroup { group });
        let found = match self.ask(request, CALL_LIMIT).await {
            Ok(answer) => answer.groups.into_iter().next().ok_or(TIMEOUT),
            Err(error) => Err(error),
        };
        match found.and_then(|found| check(found.error_code).map(|()| found)) {
            Ok(found) => {
                let members = found.members.iter().map(|member| {
                    let assigned = embedded::read_assignment(&member.member_assignment);
                    (member.member_id.as_str().to_owned(), assigned)
                });
                let state = found.group_state.as_str().to_owned();
                let answer = Answer::DescribeGroup {
                    state: state.clone(),
                    members: members.collect(),
                };
                self.ok(op, answer);
                Ok(state)
            }
            Err(error) => Err(self.refused(op, error)),
        }
    }
}

pub(super) fn cluster(shared: &Shared, name: &str) -> Cluster {
    let made = Cluster::new(&shared.env, shared.config(name, &[]));
    made.expect("settings that the harness itself wrote")
}

fn instance(by: &Membership) -> Option<Str> {
    by.instance.as_deref().map(Str::from)
}

/// An error by its name in the protocol.
pub(super) fn check(code: i16) -> Result<(), &'static str> {
    match ErrorCode::from_wire(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(code.name()),
        None => Err("UNKNOWN_SERVER_ERROR"),
    }
}

fn by_topic(offsets: &[Committed]) -> Vec<OffsetCommitRequestTopic> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for one in offsets {
        if topics.last().is_none_or(|last| *last.name != *one.of.topic) {
            topics.push(OffsetCommitRequestTopic {
                name: one.of.topic.as_str().into(),
                ..Default::default()
            });
        }
        let partition = OffsetCommitRequestPartition {
            partition_index: one.of.partition,
            committed_offset: one.offset,
            committed_metadata: Some(one.metadata.as_str().into()),
            ..Default::default()
        };
        if let Some(last) = topics.last_mut() {
            last.partitions.push(partition);
        }
    }
    topics
}

fn refused_commits(answer: &OffsetCommitResponse) -> Vec<(Partition, &'static str)> {
    let mut refused = Vec::new();
    for topic in &answer.topics {
        for found in &topic.partitions {
            if let Err(error) = check(found.error_code) {
                let of = content::partition(&topic.name, found.partition_index);
                refused.push((of, error));
            }
        }
    }
    refused
}
