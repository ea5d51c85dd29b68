//! What can be asked about links and mirrors.

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::controller::link::{LinkId, LinkMode, MirrorFault, MirrorPartition};
use crate::types::{LeaderEpoch, Offset, TopicId};

/// A link to make.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewLink {
    /// Random: tells a repeated request from another link.
    pub id: LinkId,
    pub name: String,
    /// `host:port` of brokers of the source.
    pub bootstrap: Vec<String>,
    pub mode: LinkMode,
    pub topics: Vec<String>,
    pub groups: Vec<String>,
    /// 0: as much as it can.
    pub bytes_per_second: u64,
    /// -1: `default.replication.factor`.
    pub replication_factor: i16,
}

/// Makes a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateLink {
    pub link: NewLink,
    /// Check and answer as if made, and make nothing.
    pub validate_only: bool,
}

/// Changes a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlterLink {
    pub name: String,
    pub change: LinkChange,
    pub validate_only: bool,
}

/// What is to be different about a link; `None`: it stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct LinkChange {
    pub paused: Option<bool>,
    pub bootstrap: Option<Vec<String>>,
    pub topics: Option<Vec<String>>,
    pub groups: Option<Vec<String>>,
    /// 0: as much as it can.
    pub bytes_per_second: Option<u64>,
}

/// Removes a link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteLink {
    pub name: String,
    /// Its mirrors are promoted first. Otherwise it must have none that is not.
    pub force: bool,
    pub validate_only: bool,
}

/// The source of a link has this cluster id. Refused if it had another before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LearnSource {
    pub link: LinkId,
    pub cluster_id: String,
}

/// What makes a new topic a mirror.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewMirror {
    pub link: LinkId,
    pub source_name: String,
    /// Zero where the source has no topic ids.
    pub source_id: TopicId,
}

/// From `start` on the records of a mirror partition are of the source's `source_epoch`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EnterEpoch {
    pub topic_id: TopicId,
    pub partition: i32,
    /// Of this cluster, in which the one who asks leads the partition.
    pub leader_epoch: LeaderEpoch,
    pub source_epoch: LeaderEpoch,
    pub start: Offset,
}

/// What came of an [`EnterEpoch`]: what is known of the partition afterwards.
pub type EpochEntered = Result<MirrorPartition, Refusal>;

/// Nothing is to be copied any more into a mirror, or into one partition of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FailMirror {
    pub topic_id: TopicId,
    /// `None`: the whole topic. Else the partition, and the leader epoch, of this cluster, in which
    /// the one who asks leads it.
    pub partition: Option<(i32, LeaderEpoch)>,
    pub fault: MirrorFault,
}

/// Makes mirrors writable.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PromoteMirrors {
    /// Only mirrors of this link, by its name; `None`: of any.
    pub link: Option<String>,
    /// By name; `None`: all that are not promoted.
    pub topics: Option<Vec<String>>,
    pub validate_only: bool,
}

/// A mirror that was to become writable: its name, and by partition the leader epoch from which on
/// clients write.
pub type PromotedMirror = (String, Result<Vec<LeaderEpoch>, Refusal>);
