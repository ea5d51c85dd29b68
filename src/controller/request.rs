//! What can be asked of the controller, and its answers.

mod links;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{BrokerEndpoint, ConfigResource, PartitionState};
use crate::config::ConfigEntry;
use crate::types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, ProducerId, TopicId, Uuid,
};

pub use links::{
    AlterLink, CreateLink, DeleteLink, EnterEpoch, EpochEntered, FailMirror, LearnSource,
    LinkChange, NewLink, NewMirror, PromoteMirrors, PromotedMirror,
};

use super::link::LinkId;

/// An item of a request that was not carried out: Kafka's code, and a text that names the thing
/// and the fix.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{code}: {text}")]
pub struct Refusal {
    pub code: ErrorCode,
    pub text: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// Topics to make. Each is made whole or not at all; one that is refused does not stop the others.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
    /// Check and answer as if made, and make nothing.
    pub validate_only: bool,
}

/// A topic to make.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewTopic {
    pub name: String,
    /// -1: `num.partitions`, or as many as `assignments` has.
    pub partitions: i32,
    /// -1: `default.replication.factor`, or as many as `assignments` has. An internal topic gets no
    /// more than the cluster has brokers, alive or not, or nodes that its settings name.
    pub replication_factor: i16,
    /// Replicas by partition; empty: the controller places them.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    pub configs: Vec<NewSetting>,
    /// Random ids, one for each time that it was asked for; the last is the topic's. A topic of
    /// this name with one of them was made by an earlier request whose answer was lost. Empty: the
    /// controller draws the id.
    #[serde(default)]
    pub ids: Vec<TopicId>,
    /// What makes it a mirror.
    #[serde(default)]
    pub mirror: Option<NewMirror>,
}

impl NewTopic {
    /// A topic with everything left to the controller.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            assignments: BTreeMap::new(),
            configs: Vec::new(),
            ids: Vec::new(),
            mirror: None,
        }
    }
}

/// A topic that was made, or with `validate_only` could be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Zero with `validate_only`.
    pub topic_id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
    /// All of its settings in force.
    pub configs: Vec<ConfigEntry>,
}

/// A topic by name or by id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum TopicSelector {
    Name(String),
    Id(TopicId),
}

/// Topics to delete.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DeleteTopics {
    pub topics: Vec<TopicSelector>,
}

/// A topic that was deleted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeletedTopic {
    pub name: String,
    pub topic_id: TopicId,
}

/// Topics to give more partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CreatePartitions {
    pub topics: Vec<MorePartitions>,
    pub validate_only: bool,
}

/// A topic to give more partitions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MorePartitions {
    pub name: String,
    /// Partitions afterwards, in all.
    pub count: i32,
    /// Replicas of each new partition; `None`: the controller places them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// One change to one setting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigChange {
    pub name: String,
    pub operation: AlterOperation,
    pub value: Option<String>,
}

/// What a change does; the number is IncrementalAlterConfigs'.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(i8)]
pub enum AlterOperation {
    Set = 0,
    /// Back to the default.
    Delete = 1,
    /// Adds elements to a list.
    Append = 2,
    /// Takes elements out of a list.
    Subtract = 3,
}

impl AlterOperation {
    #[must_use]
    pub fn from_wire(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

/// Changes to single settings. A resource is changed whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IncrementalAlterConfigs {
    pub resources: Vec<(ConfigResource, Vec<ConfigChange>)>,
    pub validate_only: bool,
}

/// A setting's name and value. A null value is refused.
pub type NewSetting = (String, Option<String>);

/// New settings in place of all old ones. A resource is changed whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AlterConfigs {
    pub resources: Vec<(ConfigResource, Vec<NewSetting>)>,
    pub validate_only: bool,
}

/// A broker that has started and wants to be part of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegisterBroker {
    pub id: BrokerId,
    /// Of this run of the process, random: tells a repeated request from another process.
    pub incarnation: Uuid,
    pub endpoints: Vec<BrokerEndpoint>,
    pub rack: Option<String>,
    /// Ids of its data directories, drawn when each was made: they tell a broker that came back
    /// with its data from one that came back without.
    pub directories: Vec<Uuid>,
    /// Whether its last run ended in order, with every log closed. Otherwise partitions it leads
    /// get a new leader epoch, because what it had not synced is gone.
    pub after_clean_shutdown: bool,
}

/// Producer ids `start..start + count`, given out once in the cluster's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducerIdBlock {
    pub start: ProducerId,
    pub count: i64,
}

/// A broker's sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BrokerHeartbeat {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    /// Everything below was carried out by the broker.
    pub metadata_end: Offset,
    /// Its storage or its operator wants it to lead nothing.
    pub wants_fence: bool,
    /// It wants to stop in order and waits until it leads nothing.
    pub wants_shut_down: bool,
}

/// How the controller sees a broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeartbeatReply {
    pub is_caught_up: bool,
    pub is_fenced: bool,
    /// It leads nothing and may stop.
    pub should_shut_down: bool,
    /// The controller decided with all metadata below.
    pub metadata_end: Offset,
}

/// In-sync replicas that the leaders on one broker propose (KIP-497, KIP-841, KIP-903).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlterPartition {
    pub broker: BrokerId,
    pub broker_epoch: BrokerEpoch,
    pub changes: Vec<IsrChange>,
}

/// The in-sync replicas that the leader of a partition proposes, if its state is still the one
/// with these epochs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IsrChange {
    pub topic_id: TopicId,
    pub partition: i32,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    /// Each with the epoch in which the leader saw it in sync. Empty: the leader cannot lead in
    /// this
    /// epoch, whatever the partition epoch; another in-sync replica is to lead, or, where there is
    /// none, the same broker in a newer epoch.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// Whether the leader is still recovering from its unclean election.
    pub recovering: bool,
}

/// What came of an [`IsrChange`]: the partition's state afterwards.
pub type IsrChanged = (TopicId, i32, Result<PartitionState, Refusal>);

/// Which election an administrator asks for; the number is ElectLeaders'.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(i8)]
pub enum ElectionKind {
    Preferred = 0,
    Unclean = 1,
}

/// Elections to hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ElectLeaders {
    pub kind: ElectionKind,
    /// `None`: every partition.
    pub partitions: Option<Vec<(String, i32)>>,
}

/// Replicas to move.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlterReassignments {
    /// Whether the number of replicas may change.
    pub allow_replication_factor_change: bool,
    /// New replicas by partition; `None` cancels the move under way.
    pub partitions: Vec<(String, i32, Option<Vec<BrokerId>>)>,
}

/// What came of something asked of one partition.
pub type PartitionResult = (String, i32, Result<(), Refusal>);

/// Everything the ledger handles.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Founds the cluster, or checks that it is the one with this id.
    Found {
        cluster_id: Uuid,
    },
    RegisterBroker(RegisterBroker),
    CreateTopics(CreateTopics),
    DeleteTopics(DeleteTopics),
    CreatePartitions(CreatePartitions),
    IncrementalAlterConfigs(IncrementalAlterConfigs),
    AlterConfigs(AlterConfigs),
    AllocateProducerIds {
        broker: BrokerId,
    },
    Heartbeat(BrokerHeartbeat),
    /// The process with this epoch is known to be dead.
    FenceBroker {
        id: BrokerId,
        epoch: BrokerEpoch,
    },
    UnregisterBroker {
        id: BrokerId,
    },
    AlterPartition(AlterPartition),
    ElectLeaders(ElectLeaders),
    AlterReassignments(AlterReassignments),
    CreateLink(CreateLink),
    AlterLink(AlterLink),
    DeleteLink(DeleteLink),
    LearnSource(LearnSource),
    EnterEpochs(Vec<EnterEpoch>),
    FailMirror(FailMirror),
    PromoteMirrors(PromoteMirrors),
}

/// The answer to the [`Request`] of the same name. Items come in the order of the request.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Reply {
    Found(Uuid),
    RegisterBroker(BrokerEpoch),
    CreateTopics(Vec<(String, Result<CreatedTopic, Refusal>)>),
    DeleteTopics(Vec<(TopicSelector, Result<DeletedTopic, Refusal>)>),
    CreatePartitions(Vec<(String, Result<(), Refusal>)>),
    AlterConfigs(Vec<(ConfigResource, Result<(), Refusal>)>),
    AllocateProducerIds(ProducerIdBlock),
    Heartbeat(HeartbeatReply),
    FenceBroker,
    UnregisterBroker,
    AlterPartition(Vec<IsrChanged>),
    ElectLeaders(Vec<PartitionResult>),
    AlterReassignments(Vec<PartitionResult>),
    CreateLink(LinkId),
    AlterLink,
    /// Topics that were promoted with it.
    DeleteLink(Vec<String>),
    LearnSource,
    EnterEpochs(Vec<EpochEntered>),
    FailMirror,
    PromoteMirrors(Vec<PromotedMirror>),
}
