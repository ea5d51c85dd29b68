//! What can be asked of the controller, and its answers.

use std::collections::BTreeMap;

use super::record::{BrokerEndpoint, ConfigResource};
use crate::config::ConfigEntry;
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, ProducerId, TopicId, Uuid};

/// An item of a request that was not carried out: Kafka's code, and a text that names the thing
/// and the fix.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
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
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreateTopics {
    pub topics: Vec<NewTopic>,
    /// Check and answer as if made, and make nothing.
    pub validate_only: bool,
}

/// A topic to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    pub name: String,
    /// -1: `num.partitions`, or as many as `assignments` has.
    pub partitions: i32,
    /// -1: `default.replication.factor`, or as many as `assignments` has. An internal topic gets no
    /// more than there are brokers alive.
    pub replication_factor: i16,
    /// Replicas by partition; empty: the controller places them.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    pub configs: Vec<NewSetting>,
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
        }
    }
}

/// A topic that was made, or with `validate_only` could be.
#[derive(Clone, PartialEq, Debug)]
pub struct CreatedTopic {
    /// Zero with `validate_only`.
    pub topic_id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
    /// All of its settings in force.
    pub configs: Vec<ConfigEntry>,
}

/// A topic by name or by id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TopicSelector {
    Name(String),
    Id(TopicId),
}

/// Topics to delete.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeleteTopics {
    pub topics: Vec<TopicSelector>,
}

/// A topic that was deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeletedTopic {
    pub name: String,
    pub topic_id: TopicId,
}

/// Topics to give more partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreatePartitions {
    pub topics: Vec<MorePartitions>,
    pub validate_only: bool,
}

/// A topic to give more partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MorePartitions {
    pub name: String,
    /// Partitions afterwards, in all.
    pub count: i32,
    /// Replicas of each new partition; `None`: the controller places them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// One change to one setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigChange {
    pub name: String,
    pub operation: AlterOperation,
    pub value: Option<String>,
}

/// What a change does; the number is IncrementalAlterConfigs'.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IncrementalAlterConfigs {
    pub resources: Vec<(ConfigResource, Vec<ConfigChange>)>,
    pub validate_only: bool,
}

/// A setting's name and value. A null value is refused.
pub type NewSetting = (String, Option<String>);

/// New settings in place of all old ones. A resource is changed whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AlterConfigs {
    pub resources: Vec<(ConfigResource, Vec<NewSetting>)>,
    pub validate_only: bool,
}

/// A broker that has started and wants to be part of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegisterBroker {
    pub id: BrokerId,
    /// Of this run of the process, random: tells a repeated request from another process.
    pub incarnation: Uuid,
    pub endpoints: Vec<BrokerEndpoint>,
    pub rack: Option<String>,
    /// Whether its last run ended in order, with every log closed. Otherwise partitions it leads
    /// get a new leader epoch, because what it had not synced is gone.
    pub after_clean_shutdown: bool,
}

/// Producer ids `start..start + count`, given out once in the cluster's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerIdBlock {
    pub start: ProducerId,
    pub count: i64,
}

/// Everything the ledger handles.
#[derive(Clone, PartialEq, Debug)]
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
}

/// The answer to the [`Request`] of the same name. Items come in the order of the request.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    Found(Uuid),
    RegisterBroker(BrokerEpoch),
    CreateTopics(Vec<(String, Result<CreatedTopic, Refusal>)>),
    DeleteTopics(Vec<(TopicSelector, Result<DeletedTopic, Refusal>)>),
    CreatePartitions(Vec<(String, Result<(), Refusal>)>),
    AlterConfigs(Vec<(ConfigResource, Result<(), Refusal>)>),
    AllocateProducerIds(ProducerIdBlock),
}
