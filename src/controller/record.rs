//! Metadata records: the vocabulary in which the cluster's state is written down.
//!
//! Their bytes are in [`codec`] and `docs/metadata-records.md`.

mod codec;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::link::{LinkId, LinkRecord, MirrorPartition, MirrorTopic};
use crate::types::{
    BrokerEpoch, BrokerId, LeaderEpoch, Offset, ProducerId, Timestamp, TopicId, Uuid,
};

pub use codec::RecordError;

/// One fact, or change of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataRecord {
    /// Founds the cluster. First of all, and only once.
    Cluster { cluster_id: Uuid },
    /// The level of a feature the cluster runs at; 0 is "off".
    Feature { name: String, level: i16 },
    /// A broker started, or its state changed.
    Broker(BrokerRecord),
    /// A broker left for good.
    BrokerRemoved { id: BrokerId, epoch: BrokerEpoch },
    /// No broker epoch up to and with `last` is given again.
    BrokerEpochs { last: BrokerEpoch },
    /// A new topic. Its partitions follow in the same batch.
    Topic { id: TopicId, name: String },
    /// The topic's next partition.
    Partition(PartitionRecord),
    /// The whole new state of a partition that exists.
    PartitionChange(PartitionRecord),
    /// The topic with its partitions and settings is gone.
    TopicRemoved { id: TopicId },
    /// A setting; `None` takes it back to its default.
    Config {
        resource: ConfigResource,
        name: String,
        value: Option<String>,
    },
    /// No producer id below `next` is given again.
    ProducerIds { next: ProducerId, broker: BrokerId },
    /// A link is made, or its whole new state.
    Link(LinkRecord),
    /// A link that fills no topic any more is gone.
    LinkRemoved { id: LinkId },
    /// A topic is a mirror, or the whole new state of one but for its partitions. Gone with the
    /// topic.
    MirrorTopic {
        topic_id: TopicId,
        mirror: MirrorTopic,
    },
    /// The whole new state of a partition of a mirror.
    MirrorPartition {
        topic_id: TopicId,
        partition: i32,
        state: MirrorPartition,
    },
}

/// A broker of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BrokerRecord {
    pub id: BrokerId,
    /// Larger than that of every earlier registration in the cluster.
    pub epoch: BrokerEpoch,
    pub incarnation: Uuid,
    pub endpoints: Vec<BrokerEndpoint>,
    pub rack: Option<String>,
    /// Ids of its data directories; empty where it did not tell.
    pub directories: Vec<Uuid>,
    /// Not to lead and not to be offered to clients.
    pub fenced: bool,
    pub shutting_down: bool,
}

impl BrokerRecord {
    /// Whether it may lead, be in sync, and be offered to clients.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.fenced && !self.shutting_down
    }
}

/// Where a broker is reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BrokerEndpoint {
    pub listener: String,
    /// Empty: whatever address the client dialled.
    pub host: String,
    /// 0: whatever port the client dialled.
    pub port: u16,
    /// Kafka's number for the security protocol; 0 is PLAINTEXT.
    pub protocol: i16,
}

/// A partition, its state, and what led to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionRecord {
    pub topic_id: TopicId,
    pub partition: i32,
    pub state: PartitionState,
    /// When it was decided, by the wall clock of the active controller; -1: not known.
    pub at: Timestamp,
    /// The broker whose start, end or proposal led to it.
    pub by: Option<BrokerId>,
    /// In a snapshot the partition's last events, ending with this state. Elsewhere empty: the
    /// record itself is the next event.
    pub history: Vec<PartitionEvent>,
}

/// A change of a partition: a link of the chain that explains its state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionEvent {
    /// The metadata offset from which on it holds.
    pub end: Offset,
    /// When it was decided, by the wall clock of the active controller; -1: not known.
    pub at: Timestamp,
    /// The broker whose start, end or proposal led to it.
    pub by: Option<BrokerId>,
    /// The state afterwards; its cause says why.
    pub state: Arc<PartitionState>,
}

/// Who holds a partition and who leads it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionState {
    /// The first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// In-sync replicas. Empty only while nobody leads.
    pub isr: Vec<BrokerId>,
    /// Eligible leader replicas: left the ISR but have everything committed (KIP-966).
    pub elr: Vec<BrokerId>,
    /// While nobody leads: who led last (KIP-966).
    pub last_known_elr: Vec<BrokerId>,
    /// Replicas a reassignment takes away and adds.
    pub removing: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of this state.
    pub partition_epoch: i32,
    /// The leader was elected uncleanly and has not finished recovering.
    pub recovering: bool,
    pub cause: Cause,
}

/// Why a partition has the state it has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Cause {
    TopicCreated = 0,
    PartitionsAdded = 1,
    /// A broker came back; nobody led before.
    BrokerStarted = 2,
    /// The leader itself came back without having stopped in order.
    LeaderRestarted = 3,
    BrokerFenced = 4,
    /// A broker began to stop in order.
    BrokerShutDown = 5,
    /// The leader proposed other in-sync replicas.
    IsrChanged = 6,
    PreferredElection = 7,
    /// A replica was elected that may lack acknowledged records.
    UncleanElection = 8,
    /// A reassignment began.
    Reassignment = 9,
    /// The last leader leads again although it may have lost what was only in memory: nobody else
    /// has more.
    LastKnownLeader = 10,
    /// A broker registered anew: its earlier process is gone.
    BrokerRestarted = 11,
    /// Leaders went back to where they are preferred.
    LeadersBalanced = 12,
    ReassignmentCompleted = 13,
    ReassignmentCancelled = 14,
    /// Fewer in-sync replicas are enough from here on.
    MinInsyncReplicasChanged = 15,
    /// The leader could not go on: its storage failed, or it may have lost what it had given to
    /// followers in this epoch.
    LeaderResigned = 16,
    /// A mirror became a topic that clients write to; what was still being copied comes too late.
    MirrorPromoted = 17,
}

impl Cause {
    const ALL: [(Self, &'static str); 18] = [
        (Self::TopicCreated, "TOPIC_CREATED"),
        (Self::PartitionsAdded, "PARTITIONS_ADDED"),
        (Self::BrokerStarted, "BROKER_STARTED"),
        (Self::LeaderRestarted, "LEADER_RESTARTED"),
        (Self::BrokerFenced, "BROKER_FENCED"),
        (Self::BrokerShutDown, "BROKER_SHUT_DOWN"),
        (Self::IsrChanged, "ISR_CHANGED"),
        (Self::PreferredElection, "PREFERRED_ELECTION"),
        (Self::UncleanElection, "UNCLEAN_ELECTION"),
        (Self::Reassignment, "REASSIGNMENT"),
        (Self::LastKnownLeader, "LAST_KNOWN_LEADER"),
        (Self::BrokerRestarted, "BROKER_RESTARTED"),
        (Self::LeadersBalanced, "LEADERS_BALANCED"),
        (Self::ReassignmentCompleted, "REASSIGNMENT_COMPLETED"),
        (Self::ReassignmentCancelled, "REASSIGNMENT_CANCELLED"),
        (
            Self::MinInsyncReplicasChanged,
            "MIN_INSYNC_REPLICAS_CHANGED",
        ),
        (Self::LeaderResigned, "LEADER_RESIGNED"),
        (Self::MirrorPromoted, "MIRROR_PROMOTED"),
    ];

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).map(|(cause, _)| *cause)
    }

    /// Its name for people and in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

impl PartitionState {
    /// How many in-sync replicas a topic whose `min.insync.replicas` is `wanted` really needs: no
    /// more than there are replicas (KIP-966). Below it the high watermark stands still.
    #[must_use]
    pub fn min_isr(&self, wanted: usize) -> usize {
        wanted.min(self.replicas.len())
    }

    #[must_use]
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// Its replicas once the reassignment under way is complete.
    pub fn wanted_replicas(&self) -> impl Iterator<Item = BrokerId> {
        let removing = &self.removing;
        let kept = move |id: &BrokerId| !removing.contains(id);
        self.replicas.iter().copied().filter(kept)
    }
}

/// Something that has settings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct ConfigResource {
    pub resource_type: ResourceType,
    /// A topic's name, a broker's id, or for all brokers the empty text.
    pub name: String,
}

impl ConfigResource {
    pub fn topic(name: impl Into<String>) -> Self {
        Self {
            resource_type: ResourceType::Topic,
            name: name.into(),
        }
    }

    #[must_use]
    pub fn broker(id: BrokerId) -> Self {
        Self {
            resource_type: ResourceType::Broker,
            name: id.to_string(),
        }
    }

    /// What holds for every broker that does not say otherwise.
    #[must_use]
    pub fn all_brokers() -> Self {
        Self {
            resource_type: ResourceType::Broker,
            name: String::new(),
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resource_type {
            ResourceType::Broker if self.name.is_empty() => f.write_str("all brokers"),
            kind => write!(f, "{} {}", kind.name(), self.name),
        }
    }
}

/// Kinds of things that have settings; the number is DescribeConfigs'.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(i8)]
pub enum ResourceType {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

impl ResourceType {
    #[must_use]
    pub fn from_wire(code: i8) -> Option<Self> {
        match code {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            8 => Some(Self::BrokerLogger),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }

    #[must_use]
    pub fn wire_code(self) -> i8 {
        self as i8
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::BrokerLogger => "broker logger",
            Self::ClientMetrics => "client metrics",
            Self::Group => "group",
        }
    }
}
