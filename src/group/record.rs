//! Groups and committed offsets as records of `__consumer_offsets`, in Kafka's binary formats.
//!
//! A key begins with a 16-bit record type: 0 and 1 are offset commits, 2 group metadata, greater
//! ones belong to other group protocols. A value begins with its own 16-bit version; from version 4
//! on values are flexible (KIP-482, KIP-915). Written are offset commit values 3, 1 when the offset
//! has its own expiry, 4 when the topic id is known; and group metadata values 3.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::state::{CommittedOffset, GroupMetadata, RecordedMember, detached_bytes};
use crate::coordinator::KeyValue;
use crate::types::{LeaderEpoch, Offset, Timestamp, TopicId};
use crate::wire::{DecodeError, Reader, Str, Version, Wire, Writer};

const OFFSET_COMMIT_LEGACY: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

const OFFSET_VALUE_EXPIRING: i16 = 1;
const OFFSET_VALUE: i16 = 3;
const OFFSET_VALUE_MAX: i16 = 4;
const METADATA_VALUE: i16 = 3;
const METADATA_VALUE_MAX: i16 = 4;

/// One change of recorded state. No value is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupRecord {
    OffsetCommit {
        group: Str,
        topic: Str,
        partition: i32,
        value: Option<CommittedOffset>,
    },
    GroupMetadata {
        group: Str,
        value: Option<GroupMetadata>,
    },
}

fn plain(number: i16) -> Version {
    Version {
        number,
        flexible: false,
    }
}

impl GroupRecord {
    /// The record's key and value.
    ///
    /// # Panics
    /// When a name is longer than 32,767 bytes; the ledger refuses such names at the door.
    #[must_use]
    pub fn encode(&self, timestamp: Timestamp) -> KeyValue {
        let mut key = Writer::default();
        let value = match self {
            Self::OffsetCommit {
                group,
                topic,
                partition,
                value,
            } => {
                key.i16(OFFSET_COMMIT);
                group.write(&mut key, plain(0));
                topic.write(&mut key, plain(0));
                key.i32(*partition);
                value.as_ref().map(encode_offset)
            }
            Self::GroupMetadata { group, value } => {
                key.i16(GROUP_METADATA);
                group.write(&mut key, plain(0));
                value.as_ref().map(encode_metadata)
            }
        };
        KeyValue {
            timestamp,
            key: finish(key),
            value: value.map(finish),
        }
    }

    /// Size of the record's value.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::OffsetCommit { value, .. } => value.as_ref().map(encode_offset),
            Self::GroupMetadata { value, .. } => value.as_ref().map(encode_metadata),
        }
        .map_or(0, |value| value.len())
    }

    /// Reads a record; `None` for a record type of another protocol or a later version.
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Option<Self>, DecodeError> {
        let mut from = Reader::new(key.clone());
        match from.i16()? {
            OFFSET_COMMIT_LEGACY | OFFSET_COMMIT => {
                let group = Str::read(&mut from, plain(0))?.detached();
                let topic = Str::read(&mut from, plain(0))?.detached();
                let partition = from.i32()?;
                Ok(Some(Self::OffsetCommit {
                    group,
                    topic,
                    partition,
                    value: value.map(decode_offset).transpose()?,
                }))
            }
            GROUP_METADATA => Ok(Some(Self::GroupMetadata {
                group: Str::read(&mut from, plain(0))?.detached(),
                value: value.map(decode_metadata).transpose()?,
            })),
            _ => Ok(None),
        }
    }
}

fn finish(writer: Writer) -> Bytes {
    writer
        .finish_contiguous()
        .expect("names are bounded where requests come in")
}

fn encode_offset(value: &CommittedOffset) -> Writer {
    let number = match value {
        CommittedOffset {
            expire_timestamp: Some(_),
            ..
        } => OFFSET_VALUE_EXPIRING,
        value if !value.topic_id.is_zero() => OFFSET_VALUE_MAX,
        _ => OFFSET_VALUE,
    };
    let version = Version {
        number,
        flexible: number >= 4,
    };
    let mut to = Writer::default();
    to.i16(number);
    to.i64(value.offset.0);
    if number >= 3 {
        to.i32(value.leader_epoch.0);
    }
    value.metadata.write(&mut to, version);
    to.i64(value.commit_timestamp.0);
    if number == OFFSET_VALUE_EXPIRING {
        to.i64(value.expire_timestamp.unwrap_or(Timestamp::NONE).0);
    }
    if version.flexible {
        to.unsigned_varint(1);
        to.unsigned_varint(0);
        to.unsigned_varint(16);
        value.topic_id.write(&mut to, version);
    }
    to
}

/// Reads a value's version; what is newer than known but flexible is read as the newest known.
fn value_version(from: &mut Reader, max: i16) -> Result<Version, DecodeError> {
    match from.i16()? {
        number if (0..=max).contains(&number) => Ok(Version {
            number,
            flexible: number >= 4,
        }),
        _ => Err(DecodeError::Invalid("unknown version of a record value")),
    }
}

fn decode_offset(value: &Bytes) -> Result<CommittedOffset, DecodeError> {
    let mut from = Reader::new(value.clone());
    let version = value_version(&mut from, OFFSET_VALUE_MAX)?;
    let offset = Offset(from.i64()?);
    let leader_epoch = match version.number {
        3.. => LeaderEpoch(from.i32()?),
        _ => LeaderEpoch::NONE,
    };
    let metadata = Str::read(&mut from, version)?.detached();
    let commit_timestamp = Timestamp(from.i64()?);
    let expire_timestamp = match version.number {
        OFFSET_VALUE_EXPIRING => Some(Timestamp(from.i64()?)).filter(|at| *at != Timestamp::NONE),
        _ => None,
    };
    let mut topic_id = TopicId::ZERO;
    if version.flexible {
        tagged_fields(&mut from, |tag, content| {
            if tag == 0 {
                topic_id = TopicId::read(content, version)?;
            }
            Ok(())
        })?;
    }
    Ok(CommittedOffset {
        offset,
        leader_epoch,
        metadata,
        commit_timestamp,
        expire_timestamp,
        topic_id,
    })
}

fn tagged_fields(
    from: &mut Reader,
    mut take: impl FnMut(u32, &mut Reader) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    for _ in 0..from.unsigned_varint()? {
        let tag = from.unsigned_varint()?;
        let size = usize::try_from(from.unsigned_varint()?).unwrap_or(usize::MAX);
        take(tag, &mut from.sub(size)?)?;
    }
    Ok(())
}

fn encode_metadata(value: &GroupMetadata) -> Writer {
    let version = plain(METADATA_VALUE);
    let mut to = Writer::default();
    to.i16(METADATA_VALUE);
    value.protocol_type.write(&mut to, version);
    to.i32(value.generation);
    value.protocol.write(&mut to, version);
    value.leader.write(&mut to, version);
    to.i64(value.current_state_timestamp.0);
    to.i32(i32::try_from(value.members.len()).unwrap_or(i32::MAX));
    for (member_id, member) in &value.members {
        member_id.write(&mut to, version);
        member.group_instance_id.write(&mut to, version);
        member.client_id.write(&mut to, version);
        member.client_host.write(&mut to, version);
        to.i32(member.rebalance_timeout_ms);
        to.i32(member.session_timeout_ms);
        member.subscription.write(&mut to, version);
        member.assignment.write(&mut to, version);
    }
    to
}

fn decode_metadata(value: &Bytes) -> Result<GroupMetadata, DecodeError> {
    let mut from = Reader::new(value.clone());
    let version = value_version(&mut from, METADATA_VALUE_MAX)?;
    let protocol_type = Str::read(&mut from, version)?.detached();
    let generation = from.i32()?;
    let protocol = Option::<Str>::read(&mut from, version)?
        .as_ref()
        .map(Str::detached);
    let leader = Option::<Str>::read(&mut from, version)?
        .as_ref()
        .map(Str::detached);
    let current_state_timestamp = match version.number {
        2.. => Timestamp(from.i64()?),
        _ => Timestamp::NONE,
    };
    let members = Vec::<MemberEntry>::read(&mut from, version)?;
    if version.flexible {
        tagged_fields(&mut from, |_, _| Ok(()))?;
    }
    Ok(GroupMetadata {
        protocol_type,
        generation,
        protocol,
        leader,
        current_state_timestamp,
        members: members
            .into_iter()
            .map(|entry| (entry.member_id, entry.member))
            .collect::<BTreeMap<_, _>>(),
    })
}

/// A member in the array of a group metadata value.
struct MemberEntry {
    member_id: Str,
    member: RecordedMember,
}

impl Wire for MemberEntry {
    fn read(from: &mut Reader, version: Version) -> Result<Self, DecodeError> {
        let member_id = Str::read(from, version)?.detached();
        let group_instance_id = match version.number {
            3.. => Option::<Str>::read(from, version)?
                .as_ref()
                .map(Str::detached),
            _ => None,
        };
        let client_id = Str::read(from, version)?.detached();
        let client_host = Str::read(from, version)?.detached();
        let rebalance_timeout_ms = match version.number {
            1.. => Some(from.i32()?),
            _ => None,
        };
        let session_timeout_ms = from.i32()?;
        let subscription = detached_bytes(&Bytes::read(from, version)?);
        let assignment = detached_bytes(&Bytes::read(from, version)?);
        if version.flexible {
            tagged_fields(from, |_, _| Ok(()))?;
        }
        Ok(Self {
            member_id,
            member: RecordedMember {
                group_instance_id,
                client_id,
                client_host,
                rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
                session_timeout_ms,
                subscription,
                assignment,
            },
        })
    }

    fn write(&self, _: &mut Writer, _: Version) {
        unreachable!("members are written from the map that holds them");
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
