//! The binary form of what consensus is about, the same on disk and between nodes. Big-endian.
//!
//! | what | form |
//! | --- | --- |
//! | optional x | 0, or 1 and x (8 bits) |
//! | log id | term (64), index (64) |
//! | vote | term (64), candidate's id (32), 1 if a majority granted it (8) |
//! | peer | id (32), directory id (16 bytes), length of host (16), host, port (16) |
//! | membership | voter sets and nodes, each after their number (32) |
//! | voter set | number of voters (32), their ids (32) |
//! | node | id (32), peer |
//! | payload | 0: nothing; 1: length (32) and a batch of records; 2: membership (8 for the kind) |
//! | entry | log id, payload |

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};

use super::types::{Batch, Entry, LogId, Membership, Payload, StoredMembership, Vote};
use crate::controller::peers::Peer;
use crate::types::{BrokerId, Uuid};
use crate::wire::{DecodeError, Reader};

const BLANK: u8 = 0;
const BATCH: u8 = 1;
const MEMBERSHIP: u8 = 2;

fn count(count: usize) -> u32 {
    u32::try_from(count).expect("a membership has less than 2^32 nodes")
}

pub(super) fn put_option<T>(out: &mut BytesMut, value: Option<T>, put: fn(&mut BytesMut, T)) {
    out.put_u8(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(super) fn read_option<T>(
    from: &mut Reader,
    read: fn(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    match read_bool(from)? {
        true => read(from).map(Some),
        false => Ok(None),
    }
}

pub(super) fn read_bool(from: &mut Reader) -> Result<bool, DecodeError> {
    match from.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid("neither 0 nor 1")),
    }
}

pub(super) fn read_u64(from: &mut Reader) -> Result<u64, DecodeError> {
    from.i64().map(i64::cast_unsigned)
}

pub(super) fn put_log_id(out: &mut BytesMut, id: LogId) {
    out.put_u64(id.leader_id.term);
    out.put_u64(id.index);
}

pub(super) fn read_log_id(from: &mut Reader) -> Result<LogId, DecodeError> {
    let term = read_u64(from)?;
    Ok(log_id(term, read_u64(from)?))
}

/// The id of the entry `index` of the leader of `term`.
pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(term.into(), index)
}

pub(super) fn put_vote(out: &mut BytesMut, vote: Vote) {
    out.put_u64(vote.leader_id.term);
    out.put_i32(vote.leader_id.voted_for.0);
    out.put_u8(u8::from(vote.committed));
}

pub(super) fn read_vote(from: &mut Reader) -> Result<Vote, DecodeError> {
    let term = read_u64(from)?;
    let candidate = BrokerId(from.i32()?);
    Ok(match read_bool(from)? {
        true => Vote::new_committed(term, candidate),
        false => Vote::new(term, candidate),
    })
}

pub(super) fn put_peer(out: &mut BytesMut, peer: &Peer) {
    let host = peer.host.as_bytes();
    let length = u16::try_from(host.len()).expect("a longer name is refused where it comes in");
    out.put_i32(peer.id.0);
    out.put_slice(&peer.directory_id.0);
    out.put_u16(length);
    out.put_slice(host);
    out.put_u16(peer.port);
}

pub(super) fn read_peer(from: &mut Reader) -> Result<Peer, DecodeError> {
    let id = BrokerId(from.i32()?);
    let directory_id = from.take(16)?.as_ref().try_into().expect("16 bytes taken");
    let length = usize::from(from.u16()?);
    let host = String::from_utf8(from.take(length)?.to_vec());
    Ok(Peer {
        id,
        directory_id: Uuid(directory_id),
        host: host.map_err(|_| DecodeError::BadUtf8)?,
        port: from.u16()?,
    })
}

pub(super) fn put_membership(out: &mut BytesMut, membership: &Membership) {
    let voter_sets = membership.get_joint_config();
    out.put_u32(count(voter_sets.len()));
    for voters in voter_sets {
        out.put_u32(count(voters.len()));
        for voter in voters {
            out.put_i32(voter.0);
        }
    }
    out.put_u32(count(membership.nodes().count()));
    for (id, peer) in membership.nodes() {
        out.put_i32(id.0);
        put_peer(out, peer);
    }
}

fn read_count(from: &mut Reader) -> Result<usize, DecodeError> {
    let count = usize::try_from(from.u32()?).unwrap_or(usize::MAX);
    from.claim_elements(count)?;
    Ok(count)
}

pub(super) fn read_membership(from: &mut Reader) -> Result<Membership, DecodeError> {
    let mut voter_sets = Vec::new();
    for _ in 0..read_count(from)? {
        let mut voters = BTreeSet::new();
        for _ in 0..read_count(from)? {
            voters.insert(BrokerId(from.i32()?));
        }
        voter_sets.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..read_count(from)? {
        let id = BrokerId(from.i32()?);
        nodes.insert(id, read_peer(from)?);
    }
    Membership::new(voter_sets, nodes).map_err(|_| DecodeError::Invalid("an impossible membership"))
}

pub(super) fn put_stored_membership(out: &mut BytesMut, stored: &StoredMembership) {
    put_option(out, *stored.log_id(), put_log_id);
    put_membership(out, stored.membership());
}

pub(super) fn read_stored_membership(from: &mut Reader) -> Result<StoredMembership, DecodeError> {
    let id = read_option(from, read_log_id)?;
    Ok(StoredMembership::new(id, read_membership(from)?))
}

pub(super) fn put_entry(out: &mut BytesMut, entry: &Entry) {
    put_log_id(out, entry.log_id);
    match &entry.payload {
        Payload::Blank => out.put_u8(BLANK),
        Payload::Normal(batch) => {
            out.put_u8(BATCH);
            out.put_u32(count(batch.0.len()));
            out.put_slice(&batch.0);
        }
        Payload::Membership(membership) => {
            out.put_u8(MEMBERSHIP);
            put_membership(out, membership);
        }
    }
}

pub(super) fn read_entry(from: &mut Reader) -> Result<Entry, DecodeError> {
    let log_id = read_log_id(from)?;
    let payload = match from.u8()? {
        BLANK => Payload::Blank,
        BATCH => Payload::Normal(Batch(read_bytes(from)?)),
        MEMBERSHIP => Payload::Membership(read_membership(from)?),
        _ => return Err(DecodeError::Invalid("an unknown kind of entry")),
    };
    Ok(Entry { log_id, payload })
}

pub(super) fn read_bytes(from: &mut Reader) -> Result<Bytes, DecodeError> {
    let length = usize::try_from(from.u32()?).unwrap_or(usize::MAX);
    from.take(length)
}

/// About how many bytes an entry takes on disk.
pub(super) fn entry_bytes(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Normal(batch) => 32 + batch.0.len() as u64,
        Payload::Blank | Payload::Membership(_) => 32,
    }
}
