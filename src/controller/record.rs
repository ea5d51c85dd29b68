//! Metadata records: the vocabulary in which the cluster's state is written down.
//!
//! On disk a record is its type and its version, both as unsigned base-128 integers, then the
//! fields of that version (`docs/metadata-records.md`). A node that meets a type or version it does
//! not know refuses to go on: skipping one would give it another state than its peers.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{BrokerEpoch, BrokerId, LeaderEpoch, ProducerId, TopicId, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Str, Version, Wire, Writer};

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
    /// Not to lead and not to be offered to clients.
    pub fenced: bool,
    pub shutting_down: bool,
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

/// A partition and its state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionRecord {
    pub topic_id: TopicId,
    pub partition: i32,
    pub state: PartitionState,
}

/// Who holds a partition and who leads it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionState {
    /// The first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// In-sync replicas, never empty.
    pub isr: Vec<BrokerId>,
    /// Eligible leader replicas: left the ISR but have everything committed (KIP-966).
    pub elr: Vec<BrokerId>,
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
    BrokerShutDown = 5,
    IsrChanged = 6,
    PreferredElection = 7,
    UncleanElection = 8,
    Reassignment = 9,
}

impl Cause {
    const ALL: [Self; 10] = [
        Self::TopicCreated,
        Self::PartitionsAdded,
        Self::BrokerStarted,
        Self::LeaderRestarted,
        Self::BrokerFenced,
        Self::BrokerShutDown,
        Self::IsrChanged,
        Self::PreferredElection,
        Self::UncleanElection,
        Self::Reassignment,
    ];
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

/// Why bytes are no metadata record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("metadata record type {0} is unknown to this version")]
    UnknownType(u32),
    #[error("version {version} of metadata record type {record_type} is unknown to this version")]
    UnknownVersion { record_type: u32, version: u32 },
    #[error("metadata record type {record_type}: {error}")]
    Malformed {
        record_type: u32,
        error: DecodeError,
    },
    #[error("metadata record: {0}")]
    Truncated(#[from] DecodeError),
}

/// The only version of every type so far.
const VERSION: u32 = 0;
const FIELDS: Version = Version {
    number: 0,
    flexible: true,
};

impl MetadataRecord {
    fn record_type(&self) -> u32 {
        match self {
            Self::Cluster { .. } => 0,
            Self::Feature { .. } => 1,
            Self::Broker(_) => 2,
            Self::BrokerRemoved { .. } => 3,
            Self::BrokerEpochs { .. } => 4,
            Self::Topic { .. } => 5,
            Self::Partition(_) => 6,
            Self::PartitionChange(_) => 7,
            Self::TopicRemoved { .. } => 8,
            Self::Config { .. } => 9,
            Self::ProducerIds { .. } => 10,
        }
    }

    /// The record's bytes.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut to = Writer::default();
        to.unsigned_varint(self.record_type());
        to.unsigned_varint(VERSION);
        match self {
            Self::Cluster { cluster_id: id }
            | Self::Topic { id, .. }
            | Self::TopicRemoved { id } => {
                id.write(&mut to, FIELDS);
                if let Self::Topic { name, .. } = self {
                    put_text(&mut to, name);
                }
            }
            Self::Feature { name, level } => {
                put_text(&mut to, name);
                to.i16(*level);
            }
            Self::Broker(broker) => put_broker(&mut to, broker),
            Self::BrokerRemoved { id, epoch } => {
                to.i32(id.0);
                to.i64(epoch.0);
            }
            Self::BrokerEpochs { last } => to.i64(last.0),
            Self::Partition(partition) | Self::PartitionChange(partition) => {
                put_partition(&mut to, partition);
            }
            Self::Config {
                resource,
                name,
                value,
            } => {
                to.i8(resource.resource_type.wire_code());
                put_text(&mut to, &resource.name);
                put_text(&mut to, name);
                put_optional(&mut to, value.as_deref());
            }
            Self::ProducerIds { next, broker } => {
                to.i64(next.0);
                to.i32(broker.0);
            }
        }
        Ok(Bytes::from(to.finish()?.concat()))
    }

    /// The record that `bytes` hold, all of them.
    pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let mut from = Reader::new(bytes);
        let record_type = from.unsigned_varint()?;
        let version = from.unsigned_varint()?;
        if record_type > 10 {
            return Err(RecordError::UnknownType(record_type));
        }
        if version != VERSION {
            return Err(RecordError::UnknownVersion {
                record_type,
                version,
            });
        }
        let record = Self::fields(record_type, &mut from).and_then(|record| {
            from.finish()?;
            Ok(record)
        });
        record.map_err(|error| RecordError::Malformed { record_type, error })
    }

    fn fields(record_type: u32, from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match record_type {
            0 => Self::Cluster {
                cluster_id: Uuid::read(from, FIELDS)?,
            },
            1 => Self::Feature {
                name: text(from)?,
                level: from.i16()?,
            },
            2 => Self::Broker(broker(from)?),
            3 => Self::BrokerRemoved {
                id: BrokerId(from.i32()?),
                epoch: BrokerEpoch(from.i64()?),
            },
            4 => Self::BrokerEpochs {
                last: BrokerEpoch(from.i64()?),
            },
            5 => Self::Topic {
                id: Uuid::read(from, FIELDS)?,
                name: text(from)?,
            },
            6 => Self::Partition(partition(from)?),
            7 => Self::PartitionChange(partition(from)?),
            8 => Self::TopicRemoved {
                id: Uuid::read(from, FIELDS)?,
            },
            9 => Self::Config {
                resource: ConfigResource {
                    resource_type: ResourceType::from_wire(from.i8()?)
                        .ok_or(DecodeError::Invalid("unknown kind of configured thing"))?,
                    name: text(from)?,
                },
                name: text(from)?,
                value: optional(from)?,
            },
            _ => Self::ProducerIds {
                next: ProducerId(from.i64()?),
                broker: BrokerId(from.i32()?),
            },
        })
    }
}

fn put_text(to: &mut Writer, text: &str) {
    Str::from(text).write(to, FIELDS);
}

fn put_optional(to: &mut Writer, text: Option<&str>) {
    text.map(Str::from).write(to, FIELDS);
}

fn text(from: &mut Reader) -> Result<String, DecodeError> {
    Ok(Str::read(from, FIELDS)?.as_str().to_owned())
}

fn optional(from: &mut Reader) -> Result<Option<String>, DecodeError> {
    let text = Option::<Str>::read(from, FIELDS)?;
    Ok(text.map(|text| text.as_str().to_owned()))
}

fn put_ids(to: &mut Writer, ids: &[BrokerId]) {
    let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
    ids.write(to, FIELDS);
}

fn ids(from: &mut Reader) -> Result<Vec<BrokerId>, DecodeError> {
    let ids = Vec::<i32>::read(from, FIELDS)?;
    Ok(ids.into_iter().map(BrokerId).collect())
}

fn put_broker(to: &mut Writer, broker: &BrokerRecord) {
    to.i32(broker.id.0);
    to.i64(broker.epoch.0);
    broker.incarnation.write(to, FIELDS);
    let count = u32::try_from(broker.endpoints.len()).unwrap_or(u32::MAX);
    to.unsigned_varint(count);
    for endpoint in &broker.endpoints {
        put_text(to, &endpoint.listener);
        put_text(to, &endpoint.host);
        to.u16(endpoint.port);
        to.i16(endpoint.protocol);
    }
    put_optional(to, broker.rack.as_deref());
    broker.fenced.write(to, FIELDS);
    broker.shutting_down.write(to, FIELDS);
}

fn broker(from: &mut Reader) -> Result<BrokerRecord, DecodeError> {
    let id = BrokerId(from.i32()?);
    let epoch = BrokerEpoch(from.i64()?);
    let incarnation = Uuid::read(from, FIELDS)?;
    let count = from.unsigned_varint()?;
    from.claim_elements(usize::try_from(count).unwrap_or(usize::MAX))?;
    let mut endpoints = Vec::new();
    for _ in 0..count {
        endpoints.push(BrokerEndpoint {
            listener: text(from)?,
            host: text(from)?,
            port: from.u16()?,
            protocol: from.i16()?,
        });
    }
    Ok(BrokerRecord {
        id,
        epoch,
        incarnation,
        endpoints,
        rack: optional(from)?,
        fenced: bool::read(from, FIELDS)?,
        shutting_down: bool::read(from, FIELDS)?,
    })
}

fn put_partition(to: &mut Writer, record: &PartitionRecord) {
    let state = &record.state;
    record.topic_id.write(to, FIELDS);
    to.i32(record.partition);
    for list in [
        &state.replicas,
        &state.isr,
        &state.elr,
        &state.last_known_elr,
        &state.removing,
        &state.adding,
    ] {
        put_ids(to, list);
    }
    to.i32(state.leader.map_or(-1, |leader| leader.0));
    to.i32(state.leader_epoch.0);
    to.i32(state.partition_epoch);
    state.recovering.write(to, FIELDS);
    to.u8(state.cause as u8);
}

fn partition(from: &mut Reader) -> Result<PartitionRecord, DecodeError> {
    Ok(PartitionRecord {
        topic_id: Uuid::read(from, FIELDS)?,
        partition: from.i32()?,
        state: PartitionState {
            replicas: ids(from)?,
            isr: ids(from)?,
            elr: ids(from)?,
            last_known_elr: ids(from)?,
            removing: ids(from)?,
            adding: ids(from)?,
            leader: match from.i32()? {
                -1 => None,
                id => Some(BrokerId(id)),
            },
            leader_epoch: LeaderEpoch(from.i32()?),
            partition_epoch: from.i32()?,
            recovering: bool::read(from, FIELDS)?,
            cause: Cause::ALL
                .get(usize::from(from.u8()?))
                .copied()
                .ok_or(DecodeError::Invalid("unknown cause"))?,
        },
    })
}
