//! The recorded state of a group: what its records add up to.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId};
use crate::wire::Str;

/// A copy that does not keep the request or log read it came from in memory.
pub(super) fn detached_bytes(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Kafka's states of a classic group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum GroupState {
    /// No members; there may be committed offsets.
    #[default]
    Empty,
    /// Waiting for members to join the next generation.
    PreparingRebalance,
    /// The generation has begun; its assigning member has not sent the assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// Does not exist.
    Dead,
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        })
    }
}

/// The position a group has saved for one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub metadata: Str,
    pub commit_timestamp: Timestamp,
    /// Set by requests that bring their own retention time (OffsetCommit 2 to 4).
    pub expire_timestamp: Option<Timestamp>,
    /// Zero when the committing request named the topic only.
    pub topic_id: TopicId,
}

/// A member of the current generation as recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedMember {
    pub group_instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The member's metadata for the group's protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// The last recorded generation of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMetadata {
    pub protocol_type: Str,
    pub generation: i32,
    pub protocol: Option<Str>,
    /// The assigning member. None although there are members: the generation has begun but its
    /// assignment is not recorded, so a coordinator that takes over here rebalances again.
    pub leader: Option<Str>,
    pub current_state_timestamp: Timestamp,
    pub members: BTreeMap<Str, RecordedMember>,
}

/// All that is recorded of one group. A group with neither metadata nor offsets does not exist.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Group {
    pub metadata: Option<GroupMetadata>,
    /// By topic and partition.
    pub offsets: BTreeMap<Str, BTreeMap<i32, CommittedOffset>>,
}

impl Group {
    pub(super) fn exists(&self) -> bool {
        self.metadata.is_some() || !self.offsets.is_empty()
    }
}
