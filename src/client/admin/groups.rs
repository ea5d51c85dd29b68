//! Consumer groups: list, describe, delete, and remove members.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Admin, Each};
use crate::client::consumer::protocol;
use crate::client::error::{ApiError, ClientError};
use crate::types::{BrokerId, ErrorCode, TopicPartition};
use crate::wire::Str;
use crate::wire::message::delete_groups::DeleteGroupsRequest;
use crate::wire::message::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use crate::wire::message::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::wire::message::list_groups::ListGroupsRequest;

/// A group in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListing {
    pub group_id: String,
    pub protocol_type: String,
    /// Empty where the broker is too old to say.
    pub state: String,
    /// `classic` or `consumer`; empty where the broker is too old to say.
    pub group_type: String,
    pub coordinator: BrokerId,
}

/// A group with its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    pub group_id: String,
    pub state: String,
    pub protocol_type: String,
    /// The assignor in use.
    pub protocol: String,
    pub coordinator: BrokerId,
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMember {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Partitions assigned to it, where the group is one of consumers.
    pub assignment: Vec<TopicPartition>,
    /// The assignment as bytes, for other protocol types.
    pub raw_assignment: Bytes,
}

impl Admin {
    /// The groups of every broker, by name; `states` (such as `Stable`, `Empty`) narrows it.
    pub async fn list_groups(
        &self,
        states: &[String],
    ) -> Result<BTreeMap<String, GroupListing>, ClientError> {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|s| Str::from(s.as_str())).collect(),
            ..Default::default()
        };
        let mut groups = BTreeMap::new();
        for broker in self.broker_ids().await? {
            let attempt = || async {
                let answer = self.cluster.call(broker, request.clone()).await?;
                ApiError::check(answer.error_code, None)
                    .map_err(|error| ClientError::refused("listing groups", error))?;
                Ok(answer)
            };
            let answer = self.cluster.retry("listing groups", attempt).await?;
            for group in answer.groups {
                let listing = GroupListing {
                    group_id: group.group_id.to_string(),
                    protocol_type: group.protocol_type.to_string(),
                    state: group.group_state.to_string(),
                    group_type: group.group_type.to_string(),
                    coordinator: broker,
                };
                groups.insert(listing.group_id.clone(), listing);
            }
        }
        if !states.is_empty() {
            // Brokers before ListGroups 4 ignore the filter.
            groups.retain(|_, group| {
                group.state.is_empty()
                    || states.iter().any(|s| s.eq_ignore_ascii_case(&group.state))
            });
        }
        Ok(groups)
    }

    /// Groups with their members and assignments.
    pub async fn describe_groups(
        &self,
        groups: &[String],
    ) -> Result<Each<String, GroupDescription>, ClientError> {
        let mut all = Each::new();
        for group in groups {
            let request = DescribeGroupsRequest {
                groups: vec![Str::from(group.as_str())],
                ..Default::default()
            };
            let result = self
                .on_coordinator("describing the group", group, |broker| {
                    let request = request.clone();
                    async move {
                        let answer = self.cluster.call(broker, request).await?;
                        Ok(answer.groups.first().map_or_else(
                            || Err(ErrorCode::GroupIdNotFound.into()),
                            |found| described(found, broker),
                        ))
                    }
                })
                .await?;
            all.insert(group.clone(), result);
        }
        Ok(all)
    }

    /// Deletes groups that have no members, with their offsets.
    pub async fn delete_groups(&self, groups: &[String]) -> Result<Each<String, ()>, ClientError> {
        let mut all = Each::new();
        for group in groups {
            let request = DeleteGroupsRequest {
                groups_names: vec![Str::from(group.as_str())],
                ..Default::default()
            };
            let result = self
                .on_coordinator("deleting the group", group, |broker| {
                    let request = request.clone();
                    async move {
                        let answer = self.cluster.call(broker, request).await?;
                        let code = answer.results.first().map_or(0, |r| r.error_code);
                        Ok(ApiError::check(code, None))
                    }
                })
                .await?;
            all.insert(group.clone(), result);
        }
        Ok(all)
    }

    /// Makes members leave their group. Members are named by member id.
    pub async fn remove_members(
        &self,
        group: &str,
        member_ids: &[String],
    ) -> Result<Each<String, ()>, ClientError> {
        let members = member_ids.iter().map(|id| MemberIdentity {
            member_id: Str::from(id.as_str()),
            reason: Some(Str::from_static("removed by an administrator")),
            ..Default::default()
        });
        let request = LeaveGroupRequest {
            group_id: Str::from(group),
            member_id: Str::from(member_ids.first().map_or("", String::as_str)),
            members: members.collect(),
            ..Default::default()
        };
        let answer = self
            .on_coordinator("removing members", group, |broker| {
                let request = request.clone();
                async move {
                    let answer = self.cluster.call(broker, request).await?;
                    Ok(ApiError::check(answer.error_code, None).map(|()| answer))
                }
            })
            .await?
            .map_err(|error| ClientError::refused("removing members", error))?;
        let each = answer.members.iter().map(|member| {
            let result = ApiError::check(member.error_code, None);
            (member.member_id.to_string(), result)
        });
        Ok(each.collect())
    }

    pub(super) async fn broker_ids(&self) -> Result<Vec<BrokerId>, ClientError> {
        let attempt = || self.cluster.refresh(&crate::client::Topics::None);
        let view = self.cluster.retry("finding the brokers", attempt).await?;
        Ok(view.brokers.keys().copied().collect())
    }

    /// Calls a group's coordinator until its answer is final.
    pub(super) async fn on_coordinator<T, F>(
        &self,
        what: &str,
        group: &str,
        ask: impl Fn(BrokerId) -> F,
    ) -> Result<Result<T, ApiError>, ClientError>
    where
        F: Future<Output = Result<Result<T, ApiError>, ClientError>>,
    {
        let attempt = || async {
            let broker = self.cluster.coordinator(group).await?;
            let answered = ask(broker).await;
            match answered {
                Ok(Err(error)) if error.code.is_retriable() => {
                    self.cluster.forget_coordinator(group);
                    Err(ClientError::refused(what, error))
                }
                Err(error) => {
                    self.cluster.forget_coordinator(group);
                    Err(error)
                }
                done => done,
            }
        };
        self.cluster.retry(what, attempt).await
    }
}

fn described(group: &DescribedGroup, broker: BrokerId) -> Result<GroupDescription, ApiError> {
    ApiError::check(group.error_code, group.error_message.as_deref())?;
    let consumers = group.protocol_type == *protocol::PROTOCOL_TYPE;
    let members = group.members.iter().map(|member| GroupMember {
        member_id: member.member_id.to_string(),
        group_instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        assignment: match consumers {
            true => protocol::read_assignment(&member.member_assignment).unwrap_or_default(),
            false => Vec::new(),
        },
        raw_assignment: member.member_assignment.clone(),
    });
    Ok(GroupDescription {
        group_id: group.group_id.to_string(),
        state: group.group_state.to_string(),
        protocol_type: group.protocol_type.to_string(),
        protocol: group.protocol_data.to_string(),
        coordinator: broker,
        members: members.collect(),
    })
}
