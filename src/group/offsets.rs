//! Committed offsets: a register for each group and partition, and when it is forgotten.
//!
//! An offset is forgotten by itself only when nobody uses it: the whole group has been empty for
//! the retention time, or the group is stable and does not subscribe to the topic, or the offset
//! belongs to no membership at all and was not renewed.

use std::collections::BTreeSet;

use super::carried::Carried;
use super::ledger::{GroupLedger, GroupSoft, NAME_BYTES_MAX, Reply};
use super::record::GroupRecord;
use super::state::{CommittedOffset, Group, GroupState};
use super::subscription::{self, CONSUMER};
use crate::coordinator::{Moment, Outcome};
use crate::types::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use crate::wire::Str;
use crate::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::wire::message::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use crate::wire::message::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};

type Out = Outcome<GroupRecord, Reply>;

fn tombstone(group: &Str, topic: &Str, partition: i32) -> GroupRecord {
    GroupRecord::OffsetCommit {
        group: group.detached(),
        topic: topic.detached(),
        partition,
        value: None,
    }
}

fn fetched(
    partition_index: i32,
    committed: Option<&CommittedOffset>,
) -> OffsetFetchResponsePartitions {
    let none = OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        ..OffsetFetchResponsePartitions::default()
    };
    match committed {
        None => none,
        Some(committed) => OffsetFetchResponsePartitions {
            committed_offset: committed.offset.0,
            committed_leader_epoch: committed.leader_epoch.0,
            metadata: Some(committed.metadata.clone()),
            ..none
        },
    }
}

impl GroupLedger {
    pub(super) fn commit_offsets(
        &self,
        soft: &mut GroupSoft,
        at: Moment,
        out: &mut Out,
        request: &OffsetCommitRequest,
    ) -> OffsetCommitResponse {
        let refusal = self.check_commit(soft, at, request).err();
        if refusal.is_some() {
            tracing::trace!(target: "klamm::probe", name = "commit-refused");
        }
        let expire_timestamp = u64::try_from(request.retention_time_ms)
            .ok()
            .map(|_| Timestamp(at.wall.0.saturating_add(request.retention_time_ms)));
        let mut answer = OffsetCommitResponse::default();
        for topic in &request.topics {
            let mut answered = OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                ..OffsetCommitResponseTopic::default()
            };
            for partition in &topic.partitions {
                let metadata = partition.committed_metadata.as_ref();
                let of = (&request.group_id, &topic.name, partition.partition_index);
                let error = refusal
                    .or_else(|| self.check_partition(&topic.name, partition))
                    .or_else(|| self.check_carried(of, metadata));
                if error.is_none() {
                    out.record(GroupRecord::OffsetCommit {
                        group: request.group_id.detached(),
                        topic: topic.name.detached(),
                        partition: partition.partition_index,
                        value: Some(CommittedOffset {
                            offset: Offset(partition.committed_offset),
                            leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                            metadata: metadata.map(Str::detached).unwrap_or_default(),
                            commit_timestamp: at.wall,
                            expire_timestamp,
                            topic_id: topic.topic_id,
                        }),
                    });
                }
                answered.partitions.push(OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.unwrap_or(ErrorCode::None).code(),
                    ..OffsetCommitResponsePartition::default()
                });
            }
            answer.topics.push(answered);
        }
        answer
    }

    fn check_partition(
        &self,
        topic: &Str,
        partition: &OffsetCommitRequestPartition,
    ) -> Option<ErrorCode> {
        let metadata = partition.committed_metadata.as_ref();
        // A link's metadata are not anybody's to save on.
        let own = metadata.filter(|metadata| Carried::of(metadata).is_none());
        let bytes = own.map_or(0, |metadata| metadata.len());
        if bytes > self.config.offset_metadata_bytes_max.min(NAME_BYTES_MAX) {
            return Some(ErrorCode::OffsetMetadataTooLarge);
        }
        (topic.len() > NAME_BYTES_MAX).then_some(ErrorCode::InvalidTopicException)
    }

    /// Whether the sender may commit offsets now. A member proves its id and generation, and shows
    /// by the way that it is alive; anybody may commit for a group without members.
    fn check_commit(
        &self,
        soft: &mut GroupSoft,
        at: Moment,
        request: &OffsetCommitRequest,
    ) -> Result<(), ErrorCode> {
        if request.group_id.len() > NAME_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        let generation = request.generation_id_or_member_epoch;
        let instance = request.group_instance_id.as_ref();
        let state = self.state(soft, &request.group_id);
        match state {
            GroupState::Dead | GroupState::Empty if generation < 0 => return Ok(()),
            GroupState::Dead => return Err(ErrorCode::IllegalGeneration),
            _ if generation < 0 && request.member_id.is_empty() && instance.is_none() => {
                return Err(ErrorCode::UnknownMemberId);
            }
            _ => {}
        }
        let live = soft.live.get_mut(&request.group_id);
        let live = live.ok_or(ErrorCode::UnknownMemberId)?;
        if crate::mutant!("fenced-commit-accepted") {
            return Ok(());
        }
        live.validate_member(&request.member_id, instance)?;
        let recorded = self.groups.get(&request.group_id);
        let metadata = recorded.and_then(|group| group.metadata.as_ref());
        if generation != metadata.map_or(0, |metadata| metadata.generation) {
            return Err(ErrorCode::IllegalGeneration);
        }
        if state == GroupState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        if let Some(member) = live.members.get_mut(&request.member_id)
            && !member.is_new
        {
            member.renew_session(at.now);
        }
        Ok(())
    }

    pub(super) fn fetch_offsets(
        &self,
        request: &OffsetFetchRequestGroup,
    ) -> OffsetFetchResponseGroup {
        let group = self.groups.get(&request.group_id);
        let topics = match &request.topics {
            Some(topics) => topics
                .iter()
                .map(|topic| fetch_topic(group, topic))
                .collect(),
            None => group.map(fetch_all).unwrap_or_default(),
        };
        OffsetFetchResponseGroup {
            group_id: request.group_id.clone(),
            topics,
            ..OffsetFetchResponseGroup::default()
        }
    }

    pub(super) fn delete_offsets(
        &self,
        soft: &GroupSoft,
        out: &mut Out,
        request: &OffsetDeleteRequest,
    ) -> OffsetDeleteResponse {
        let mut answer = OffsetDeleteResponse::default();
        let group = self.groups.get(&request.group_id);
        let in_use = match (self.state(soft, &request.group_id), group) {
            (GroupState::Dead, _) => Err(ErrorCode::GroupIdNotFound),
            (GroupState::Empty, _) => Ok(Some(BTreeSet::new())),
            (state, group) => subscribed_topics(soft, state, &request.group_id, group),
        };
        let in_use = match in_use {
            Ok(in_use) => in_use,
            Err(error) => {
                answer.error_code = error.code();
                return answer;
            }
        };
        for topic in &request.topics {
            let is_in_use = in_use
                .as_ref()
                .is_none_or(|used| used.contains(&topic.name));
            let committed = group.and_then(|group| group.offsets.get(&topic.name));
            let mut answered = OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                ..OffsetDeleteResponseTopic::default()
            };
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let exists = committed.is_some_and(|partitions| partitions.contains_key(&index));
                if exists && !is_in_use {
                    out.record(tombstone(&request.group_id, &topic.name, index));
                }
                let error = match is_in_use {
                    true => ErrorCode::GroupSubscribedToTopic,
                    false => ErrorCode::None,
                };
                answered.partitions.push(OffsetDeleteResponsePartition {
                    partition_index: index,
                    error_code: error.code(),
                    ..OffsetDeleteResponsePartition::default()
                });
            }
            answer.topics.push(answered);
        }
        answer
    }

    pub(super) fn topics_deleted(&self, out: &mut Out, topics: &[Str]) {
        for (group_id, group) in &self.groups {
            for topic in topics {
                for partition in group.offsets.get(topic).into_iter().flat_map(|p| p.keys()) {
                    out.record(tombstone(group_id, topic, *partition));
                }
            }
        }
    }

    /// Forgets offsets whose time has come, and empty groups without offsets.
    pub(super) fn expire_offsets(&self, soft: &GroupSoft, at: Moment, out: &mut Out) {
        for (group_id, group) in &self.groups {
            let state = self.state(soft, group_id);
            let Some(expiry) = Expiry::of(group, state) else {
                continue;
            };
            let mut left = 0;
            for (topic, partitions) in &group.offsets {
                for (partition, committed) in partitions {
                    match expiry.is_due(&self.config, at.wall, topic, committed) {
                        true => {
                            tracing::trace!(target: "klamm::probe", name = "offset-expired");
                            out.record(tombstone(group_id, topic, *partition));
                        }
                        false => left += 1,
                    }
                }
            }
            let is_idle = state == GroupState::Empty && !soft.live.contains_key(group_id);
            if left == 0 && is_idle && group.metadata.is_some() {
                out.record(GroupRecord::GroupMetadata {
                    group: group_id.clone(),
                    value: None,
                });
            }
        }
    }
}

fn fetch_topic(
    group: Option<&Group>,
    topic: &OffsetFetchRequestTopics,
) -> OffsetFetchResponseTopics {
    let committed = group.and_then(|group| group.offsets.get(&topic.name));
    // What was committed for another topic of the same name says nothing about this one.
    let is_same = |offset: &&CommittedOffset| {
        offset.topic_id.is_zero() || topic.topic_id.is_zero() || offset.topic_id == topic.topic_id
    };
    let partitions = topic.partition_indexes.iter().map(|index| {
        let offset = committed.and_then(|partitions| partitions.get(index));
        fetched(*index, offset.filter(is_same))
    });
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
        ..OffsetFetchResponseTopics::default()
    }
}

fn fetch_all(group: &Group) -> Vec<OffsetFetchResponseTopics> {
    let mut topics = Vec::new();
    for (name, partitions) in &group.offsets {
        let ids = partitions.values().map(|committed| committed.topic_id);
        topics.push(OffsetFetchResponseTopics {
            name: name.clone(),
            topic_id: ids.max().unwrap_or_default(),
            partitions: partitions
                .iter()
                .map(|(index, committed)| fetched(*index, Some(committed)))
                .collect(),
            ..OffsetFetchResponseTopics::default()
        });
    }
    topics
}

/// Topics whose offsets a group with members holds on to; `None` is all of them.
fn subscribed_topics(
    soft: &GroupSoft,
    state: GroupState,
    group_id: &Str,
    group: Option<&Group>,
) -> Result<Option<BTreeSet<Str>>, ErrorCode> {
    let protocol_type = soft
        .live
        .get(group_id)
        .and_then(|live| live.protocol_type.as_ref());
    if protocol_type.is_none_or(|protocol_type| *protocol_type != *CONSUMER) {
        return Err(ErrorCode::NonEmptyGroup);
    }
    let metadata = group.and_then(|group| group.metadata.as_ref());
    // Before its first generation a group's subscription is open: take it for all topics.
    let is_known = state != GroupState::PreparingRebalance;
    Ok(metadata
        .filter(|metadata| is_known || !metadata.members.is_empty())
        .and_then(subscription::group_topics))
}

/// From when the retention time of a group's offsets counts.
enum Expiry {
    /// No members: since the group emptied.
    Emptied(Timestamp),
    /// Since the offset was committed, but not for the topics subscribed to.
    Committed(BTreeSet<Str>),
}

impl Expiry {
    /// `None` while no offset of the group may expire.
    fn of(group: &Group, state: GroupState) -> Option<Self> {
        let Some(metadata) = &group.metadata else {
            return match state {
                GroupState::Empty => Some(Self::Committed(BTreeSet::new())),
                _ => None,
            };
        };
        match state {
            GroupState::Empty => Some(Self::Emptied(metadata.current_state_timestamp)),
            GroupState::Stable if crate::mutant!("offsets-expire-while-subscribed") => {
                Some(Self::Committed(BTreeSet::new()))
            }
            GroupState::Stable => subscription::group_topics(metadata).map(Self::Committed),
            _ => None,
        }
    }

    fn is_due(
        &self,
        config: &super::GroupConfig,
        wall: Timestamp,
        topic: &Str,
        committed: &CommittedOffset,
    ) -> bool {
        let since = match self {
            Self::Committed(subscribed) if subscribed.contains(topic) => return false,
            Self::Committed(_) | Self::Emptied(Timestamp::NONE) => committed.commit_timestamp,
            // Somebody may still commit for the emptied group: that counts afresh.
            Self::Emptied(at) => (*at).max(committed.commit_timestamp),
        };
        if let Some(expires) = committed.expire_timestamp {
            return expires <= wall;
        }
        let retention = i64::try_from(config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        wall.millis_since(since) >= retention
    }
}
