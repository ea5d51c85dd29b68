//! The bytes of metadata records.
//!
//! A record is its type and its version, both as unsigned base-128 integers, then the fields of
//! that version (`docs/metadata-records.md`). A node that meets a type or version it does not know
//! refuses to go on: skipping one would give it another state than its peers.

mod links;

use std::sync::Arc;

use bytes::Bytes;

use super::{
    BrokerEndpoint, BrokerRecord, Cause, ConfigResource, MetadataRecord, PartitionEvent,
    PartitionRecord, PartitionState, ResourceType,
};
use crate::types::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, ProducerId, Timestamp, Uuid};
use crate::wire::{DecodeError, EncodeError, Reader, Str, Version, Wire, Writer};

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

const FIELDS: Version = Version {
    number: 0,
    flexible: true,
};

/// The version that records of a type are written in. Older ones can be read.
fn newest_version(record_type: u32) -> u32 {
    match record_type {
        2 | 6 | 7 => 1,
        _ => 0,
    }
}

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
            Self::Link(_) => 11,
            Self::LinkRemoved { .. } => 12,
            Self::MirrorTopic { .. } => 13,
            Self::MirrorPartition { .. } => 14,
        }
    }

    /// The record's bytes.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut to = Writer::default();
        let record_type = self.record_type();
        to.unsigned_varint(record_type);
        to.unsigned_varint(newest_version(record_type));
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
            Self::Link(link) => links::put_link(&mut to, link),
            Self::LinkRemoved { id } => id.write(&mut to, FIELDS),
            Self::MirrorTopic { topic_id, mirror } => {
                topic_id.write(&mut to, FIELDS);
                links::put_topic(&mut to, mirror);
            }
            Self::MirrorPartition {
                topic_id,
                partition,
                state,
            } => {
                topic_id.write(&mut to, FIELDS);
                to.i32(*partition);
                links::put_partition(&mut to, state);
            }
        }
        Ok(Bytes::from(to.finish()?.concat()))
    }

    /// The record that `bytes` hold, all of them.
    pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        let mut from = Reader::new(bytes);
        let record_type = from.unsigned_varint()?;
        let version = from.unsigned_varint()?;
        if record_type > 14 {
            return Err(RecordError::UnknownType(record_type));
        }
        if version > newest_version(record_type) {
            return Err(RecordError::UnknownVersion {
                record_type,
                version,
            });
        }
        let record = Self::fields(record_type, version, &mut from).and_then(|record| {
            from.finish()?;
            Ok(record)
        });
        record.map_err(|error| RecordError::Malformed { record_type, error })
    }

    fn fields(record_type: u32, version: u32, from: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match record_type {
            0 => Self::Cluster {
                cluster_id: Uuid::read(from, FIELDS)?,
            },
            1 => Self::Feature {
                name: text(from)?,
                level: from.i16()?,
            },
            2 => Self::Broker(broker(version, from)?),
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
            6 => Self::Partition(partition(version, from)?),
            7 => Self::PartitionChange(partition(version, from)?),
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
            10 => Self::ProducerIds {
                next: ProducerId(from.i64()?),
                broker: BrokerId(from.i32()?),
            },
            11 => Self::Link(links::link(from)?),
            12 => Self::LinkRemoved {
                id: Uuid::read(from, FIELDS)?,
            },
            13 => Self::MirrorTopic {
                topic_id: Uuid::read(from, FIELDS)?,
                mirror: links::topic(from)?,
            },
            _ => Self::MirrorPartition {
                topic_id: Uuid::read(from, FIELDS)?,
                partition: from.i32()?,
                state: links::partition(from)?,
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
    broker.directories.write(to, FIELDS);
}

fn broker(version: u32, from: &mut Reader) -> Result<BrokerRecord, DecodeError> {
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
        directories: match version {
            0 => Vec::new(),
            _ => Vec::read(from, FIELDS)?,
        },
    })
}

fn put_partition(to: &mut Writer, record: &PartitionRecord) {
    record.topic_id.write(to, FIELDS);
    to.i32(record.partition);
    put_state(to, &record.state);
    to.i64(record.at.0);
    put_id(to, record.by);
    let count = u32::try_from(record.history.len()).unwrap_or(u32::MAX);
    to.unsigned_varint(count);
    for event in &record.history {
        to.i64(event.end.0);
        to.i64(event.at.0);
        put_id(to, event.by);
        put_state(to, &event.state);
    }
}

fn partition(version: u32, from: &mut Reader) -> Result<PartitionRecord, DecodeError> {
    let mut record = PartitionRecord {
        topic_id: Uuid::read(from, FIELDS)?,
        partition: from.i32()?,
        state: state(from)?,
        at: Timestamp(-1),
        by: None,
        history: Vec::new(),
    };
    if version == 0 {
        return Ok(record);
    }
    record.at = Timestamp(from.i64()?);
    record.by = id(from)?;
    let count = from.unsigned_varint()?;
    from.claim_elements(usize::try_from(count).unwrap_or(usize::MAX))?;
    for _ in 0..count {
        record.history.push(PartitionEvent {
            end: Offset(from.i64()?),
            at: Timestamp(from.i64()?),
            by: id(from)?,
            state: Arc::new(state(from)?),
        });
    }
    Ok(record)
}

fn put_id(to: &mut Writer, id: Option<BrokerId>) {
    to.i32(id.map_or(-1, |id| id.0));
}

fn id(from: &mut Reader) -> Result<Option<BrokerId>, DecodeError> {
    Ok(match from.i32()? {
        -1 => None,
        id => Some(BrokerId(id)),
    })
}

fn put_state(to: &mut Writer, state: &PartitionState) {
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
    put_id(to, state.leader);
    to.i32(state.leader_epoch.0);
    to.i32(state.partition_epoch);
    state.recovering.write(to, FIELDS);
    to.u8(state.cause as u8);
}

fn state(from: &mut Reader) -> Result<PartitionState, DecodeError> {
    Ok(PartitionState {
        replicas: ids(from)?,
        isr: ids(from)?,
        elr: ids(from)?,
        last_known_elr: ids(from)?,
        removing: ids(from)?,
        adding: ids(from)?,
        leader: id(from)?,
        leader_epoch: LeaderEpoch(from.i32()?),
        partition_epoch: from.i32()?,
        recovering: bool::read(from, FIELDS)?,
        cause: Cause::from_code(from.u8()?).ok_or(DecodeError::Invalid("unknown cause"))?,
    })
}
