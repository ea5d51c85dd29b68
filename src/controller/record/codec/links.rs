//! The bytes of links, mirror topics and mirror partitions.

use super::{FIELDS, put_text, text};
use crate::controller::link::{
    LinkMode, LinkRecord, MirrorFault, MirrorMaker, MirrorPartition, MirrorState, MirrorTopic,
    ReplicationPolicy,
};
use crate::types::{LeaderEpoch, Offset, Uuid};
use crate::wire::{DecodeError, Reader, Wire, Writer};

fn put_texts(to: &mut Writer, texts: &[String]) {
    put_count(to, texts.len());
    for text in texts {
        put_text(to, text);
    }
}

fn texts(from: &mut Reader) -> Result<Vec<String>, DecodeError> {
    (0..count(from)?).map(|_| text(from)).collect()
}

fn put_count(to: &mut Writer, count: usize) {
    to.unsigned_varint(u32::try_from(count).unwrap_or(u32::MAX));
}

/// A number of elements, each of at least a byte.
fn count(from: &mut Reader) -> Result<u32, DecodeError> {
    let count = from.unsigned_varint()?;
    from.claim_elements(usize::try_from(count).unwrap_or(usize::MAX))?;
    Ok(count)
}

pub(super) fn put_link(to: &mut Writer, link: &LinkRecord) {
    link.id.write(to, FIELDS);
    put_text(to, &link.name);
    put_texts(to, &link.bootstrap);
    super::put_optional(to, link.source_cluster.as_deref());
    put_mode(to, &link.mode);
    put_texts(to, &link.topics);
    put_texts(to, &link.groups);
    link.paused.write(to, FIELDS);
    let limit = link.bytes_per_second.map(i64::try_from);
    to.i64(limit.map_or(-1, |limit| limit.unwrap_or(i64::MAX)));
    to.i16(link.replication_factor);
}

pub(super) fn link(from: &mut Reader) -> Result<LinkRecord, DecodeError> {
    Ok(LinkRecord {
        id: Uuid::read(from, FIELDS)?,
        name: text(from)?,
        bootstrap: texts(from)?,
        source_cluster: super::optional(from)?,
        mode: mode(from)?,
        topics: texts(from)?,
        groups: texts(from)?,
        paused: bool::read(from, FIELDS)?,
        bytes_per_second: u64::try_from(from.i64()?).ok(),
        replication_factor: from.i16()?,
    })
}

fn put_mode(to: &mut Writer, mode: &LinkMode) {
    match mode {
        LinkMode::Exact => to.u8(0),
        LinkMode::MirrorMaker(of) => {
            to.u8(1);
            to.i8(of.policy as i8);
            put_text(to, &of.separator);
            put_text(to, &of.alias);
            of.source_heartbeats.write(to, FIELDS);
        }
    }
}

fn mode(from: &mut Reader) -> Result<LinkMode, DecodeError> {
    match from.u8()? {
        0 => Ok(LinkMode::Exact),
        1 => Ok(LinkMode::MirrorMaker(MirrorMaker {
            policy: ReplicationPolicy::from_code(from.i8()?)
                .ok_or(DecodeError::Invalid("unknown replication policy"))?,
            separator: text(from)?,
            alias: text(from)?,
            source_heartbeats: bool::read(from, FIELDS)?,
        })),
        _ => Err(DecodeError::Invalid("unknown link mode")),
    }
}

pub(super) fn put_topic(to: &mut Writer, mirror: &MirrorTopic) {
    mirror.link.write(to, FIELDS);
    put_text(to, &mirror.source_name);
    mirror.source_id.write(to, FIELDS);
    match &mirror.state {
        MirrorState::Active => to.u8(0),
        MirrorState::Failed { reason } => {
            to.u8(1);
            put_text(to, reason);
        }
        MirrorState::Promoted => to.u8(2),
    }
    put_count(to, mirror.since.len());
    for epoch in &mirror.since {
        to.i32(epoch.0);
    }
}

pub(super) fn topic(from: &mut Reader) -> Result<MirrorTopic, DecodeError> {
    Ok(MirrorTopic {
        link: Uuid::read(from, FIELDS)?,
        source_name: text(from)?,
        source_id: Uuid::read(from, FIELDS)?,
        state: match from.u8()? {
            0 => MirrorState::Active,
            1 => MirrorState::Failed {
                reason: text(from)?,
            },
            2 => MirrorState::Promoted,
            _ => return Err(DecodeError::Invalid("unknown state of a mirror")),
        },
        since: (0..count(from)?)
            .map(|_| Ok(LeaderEpoch(from.i32()?)))
            .collect::<Result<_, DecodeError>>()?,
    })
}

pub(super) fn put_partition(to: &mut Writer, mirror: &MirrorPartition) {
    put_count(to, mirror.lineage.len());
    for (epoch, start) in &mirror.lineage {
        to.i32(epoch.0);
        to.i64(start.0);
    }
    match &mirror.fault {
        None => to.u8(0),
        Some(fault) => put_fault(to, fault),
    }
}

pub(super) fn partition(from: &mut Reader) -> Result<MirrorPartition, DecodeError> {
    Ok(MirrorPartition {
        lineage: (0..count(from)?)
            .map(|_| Ok((LeaderEpoch(from.i32()?), Offset(from.i64()?))))
            .collect::<Result<_, DecodeError>>()?,
        fault: fault(from)?,
    })
}

fn put_fault(to: &mut Writer, fault: &MirrorFault) {
    match fault {
        MirrorFault::Truncated { at, source_end } => {
            to.u8(1);
            to.i64(at.0);
            to.i64(source_end.0);
        }
        MirrorFault::Expired { at, source_start } => {
            to.u8(2);
            to.i64(at.0);
            to.i64(source_start.0);
        }
        MirrorFault::Recreated { source_id } => {
            to.u8(3);
            source_id.write(to, FIELDS);
        }
        MirrorFault::Deleted => to.u8(4),
        MirrorFault::Transactional { at } => {
            to.u8(5);
            to.i64(at.0);
        }
        MirrorFault::Damaged { at, reason } => {
            to.u8(6);
            to.i64(at.0);
            put_text(to, reason);
        }
        MirrorFault::Unverified { at } => {
            to.u8(7);
            to.i64(at.0);
        }
    }
}

fn fault(from: &mut Reader) -> Result<Option<MirrorFault>, DecodeError> {
    Ok(Some(match from.u8()? {
        0 => return Ok(None),
        1 => MirrorFault::Truncated {
            at: Offset(from.i64()?),
            source_end: Offset(from.i64()?),
        },
        2 => MirrorFault::Expired {
            at: Offset(from.i64()?),
            source_start: Offset(from.i64()?),
        },
        3 => MirrorFault::Recreated {
            source_id: Uuid::read(from, FIELDS)?,
        },
        4 => MirrorFault::Deleted,
        5 => MirrorFault::Transactional {
            at: Offset(from.i64()?),
        },
        6 => MirrorFault::Damaged {
            at: Offset(from.i64()?),
            reason: text(from)?,
        },
        7 => MirrorFault::Unverified {
            at: Offset(from.i64()?),
        },
        _ => return Err(DecodeError::Invalid("unknown fault of a mirror")),
    }))
}
