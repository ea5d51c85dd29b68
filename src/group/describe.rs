//! DescribeGroups, ListGroups, DeleteGroups, and what metrics show.

use super::ledger::{GroupLedger, GroupSnapshot, GroupSoft, Reply};
use super::record::GroupRecord;
use super::state::GroupState;
use crate::coordinator::Outcome;
use crate::types::ErrorCode;
use crate::wire::Str;
use crate::wire::message::describe_groups::{DescribedGroup, DescribedGroupMember};
use crate::wire::message::list_groups::{ListGroupsRequest, ListedGroup};

/// First version of DescribeGroups that says so when a group does not exist (KIP-1043).
const NOT_FOUND_VERSION: i16 = 6;

/// The type of all groups that are served here.
const GROUP_TYPE: &str = "classic";

fn state_name(state: GroupState) -> Str {
    Str::from(state.to_string())
}

impl GroupLedger {
    pub(super) fn describe(
        &self,
        soft: &GroupSoft,
        group_id: &Str,
        version: i16,
    ) -> DescribedGroup {
        let state = self.state(soft, group_id);
        let mut described = DescribedGroup {
            group_id: group_id.clone(),
            group_state: state_name(state),
            ..DescribedGroup::default()
        };
        if state == GroupState::Dead {
            if version >= NOT_FOUND_VERSION {
                described.error_code = ErrorCode::GroupIdNotFound.code();
                described.error_message = Some(format!("Group {group_id} not found.").into());
            }
            return described;
        }
        described.protocol_type = self.protocol_type(soft, group_id);
        let recorded = self.groups.get(group_id);
        let metadata = recorded.and_then(|group| group.metadata.as_ref());
        let stable = metadata.filter(|_| state == GroupState::Stable);
        if let Some(metadata) = stable {
            described.protocol_data = metadata.protocol.clone().unwrap_or_default();
        }
        let Some(live) = soft.live.get(group_id) else {
            return described;
        };
        for (member_id, member) in &live.members {
            let entry = stable.and_then(|metadata| metadata.members.get(member_id));
            described.members.push(DescribedGroupMember {
                member_id: member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                member_metadata: entry.map(|e| e.subscription.clone()).unwrap_or_default(),
                member_assignment: entry.map(|e| e.assignment.clone()).unwrap_or_default(),
                ..DescribedGroupMember::default()
            });
        }
        described
    }

    fn protocol_type(&self, soft: &GroupSoft, group_id: &Str) -> Str {
        let live = soft.live.get(group_id);
        let recorded = self.groups.get(group_id);
        let metadata = recorded.and_then(|group| group.metadata.as_ref());
        live.and_then(|live| live.protocol_type.clone())
            .or_else(|| metadata.map(|metadata| metadata.protocol_type.clone()))
            .unwrap_or_default()
    }

    /// Every group that exists, recorded or about to be, by id.
    fn group_ids(&self, soft: &GroupSoft) -> Vec<Str> {
        let mut ids: Vec<Str> = self
            .groups
            .keys()
            .chain(soft.live.keys())
            .cloned()
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    pub(super) fn list(&self, soft: &GroupSoft, request: &ListGroupsRequest) -> Vec<ListedGroup> {
        let passes = |filter: &[Str], name: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        if !passes(&request.types_filter, GROUP_TYPE) {
            return Vec::new();
        }
        let mut listed = Vec::new();
        for group_id in self.group_ids(soft) {
            let state = state_name(self.state(soft, &group_id));
            if passes(&request.states_filter, &state) {
                listed.push(ListedGroup {
                    protocol_type: self.protocol_type(soft, &group_id),
                    group_state: state,
                    group_type: Str::from_static(GROUP_TYPE),
                    group_id,
                    ..ListedGroup::default()
                });
            }
        }
        listed
    }

    pub(super) fn delete(
        &self,
        soft: &mut GroupSoft,
        out: &mut Outcome<GroupRecord, Reply>,
        group_id: &Str,
    ) -> ErrorCode {
        match self.state(soft, group_id) {
            GroupState::Dead => return ErrorCode::GroupIdNotFound,
            GroupState::Empty => {}
            _ => return ErrorCode::NonEmptyGroup,
        }
        soft.live.remove(group_id);
        let Some(group) = self.groups.get(group_id) else {
            return ErrorCode::None;
        };
        for (topic, partitions) in &group.offsets {
            for partition in partitions.keys() {
                out.record(GroupRecord::OffsetCommit {
                    group: group_id.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                    value: None,
                });
            }
        }
        out.record(GroupRecord::GroupMetadata {
            group: group_id.clone(),
            value: None,
        });
        ErrorCode::None
    }

    pub(super) fn snapshot(&self, soft: &GroupSoft) -> Vec<GroupSnapshot> {
        let mut snapshots = Vec::new();
        for group_id in self.group_ids(soft) {
            let group = self.groups.get(&group_id);
            let metadata = group.and_then(|group| group.metadata.as_ref());
            let mut offsets = Vec::new();
            for (topic, partitions) in group.iter().flat_map(|group| &group.offsets) {
                for (partition, committed) in partitions {
                    offsets.push((topic.clone(), *partition, committed.offset));
                }
            }
            snapshots.push(GroupSnapshot {
                state: self.state(soft, &group_id),
                protocol_type: self.protocol_type(soft, &group_id),
                generation: metadata.map_or(0, |metadata| metadata.generation),
                members: soft
                    .live
                    .get(&group_id)
                    .map_or(0, |live| live.members.len()),
                offsets,
                group_id,
            });
        }
        snapshots
    }
}
