//! The bytes of a log file, `<number>.raft`.
//!
//! It begins with a page of 4096 bytes. At 0 an identity: magic, format (32 bits), the file's
//! number (64), the node's id (32), the id of its directory (16 bytes), checksum. At 512 and 1024
//! two *slots*, written by turns: turn (64), how far a sync is known to have reached (64), the id
//! of the newest entry known to be committed (optional), checksum. Checksums are CRC-32C.
//!
//! *Frames* follow back to back: length of the body (32), checksum of file number, position and
//! body, body. A body is a kind (8 bits) and
//!
//! | kind | what | says |
//! | --- | --- | --- |
//! | 1 | vote | the node's newest vote |
//! | 2 | entry | the log's next entry |
//! | 3 | index (64) | the entries from this index on are gone: another leader's take their place |
//! | 4 | log id | the entries up to this one are gone: a snapshot has them |
//!
//! Frames are written in groups. A group is only written after the one before was synced and noted
//! in a slot, and the next sync makes that slot durable. So damage below the newest slot's position
//! is damage to durable bytes; damage at or after it can only be the last group, torn by a power
//! loss before anything of it was answered.
//!
//! A file is made whole under another name, with what is still needed of the file before, and
//! synced before it gets its own: what it was made with is below its first slot's position.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::codec;
use super::kept::Kept;
use super::types::{Entry, LogId, Vote};
use crate::types::{BrokerId, Uuid};
use crate::wire::{DecodeError, Reader};

pub(super) const PAGE_BYTES: usize = 4096;
const FRAME_HEADER_BYTES: usize = 8;
const IDENTITY_BYTES: usize = 40;
const SLOT_BYTES: usize = 37;
const SLOT_AT: [usize; 2] = [512, 1024];
const MAGIC: &[u8; 8] = b"klammrf\n";
const FORMAT: u32 = 1;

const VOTE: u8 = 1;
const ENTRY: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;

/// Whose file it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub node: BrokerId,
    pub directory_id: Uuid,
}

/// How far a sync is known to have reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Slot {
    /// 0: no slot was written yet.
    pub turn: u64,
    pub position: u64,
    pub committed: Option<LogId>,
}

impl Slot {
    /// Where in the file this slot belongs, and its bytes.
    pub fn encode(self) -> (u64, Bytes) {
        let mut bytes = BytesMut::with_capacity(SLOT_BYTES);
        bytes.put_u64(self.turn);
        bytes.put_u64(self.position);
        codec::put_option(&mut bytes, self.committed, codec::put_log_id);
        bytes.put_bytes(0, SLOT_BYTES - 4 - bytes.len());
        bytes.put_u32(crc32c::crc32c(&bytes));
        let at = SLOT_AT[usize::from(self.turn % 2 == 1)];
        (at as u64, bytes.freeze())
    }

    fn decode(bytes: &Bytes) -> Option<Self> {
        let (fields, mut sum) = (bytes.slice(..SLOT_BYTES - 4), bytes.slice(SLOT_BYTES - 4..));
        if sum.get_u32() != crc32c::crc32c(&fields) {
            return None;
        }
        let mut fields = Reader::new(fields);
        let slot = Self {
            turn: codec::read_u64(&mut fields).ok()?,
            position: codec::read_u64(&mut fields).ok()?,
            committed: codec::read_option(&mut fields, codec::read_log_id).ok()?,
        };
        (slot.turn > 0).then_some(slot)
    }
}

fn identity(number: u64, owner: Owner) -> BytesMut {
    let mut page = BytesMut::with_capacity(PAGE_BYTES);
    page.put_slice(MAGIC);
    page.put_u32(FORMAT);
    page.put_u64(number);
    page.put_i32(owner.node.0);
    page.put_slice(&owner.directory_id.0);
    page
}

/// A whole new file that holds `kept`, and its slot.
pub(super) fn encode_file(number: u64, owner: Owner, kept: &Kept) -> (Bytes, Slot) {
    let mut file = identity(number, owner);
    file.put_u32(crc32c::crc32c(&file));
    file.put_bytes(0, PAGE_BYTES - file.len());
    let mut bodies = Vec::new();
    bodies.extend(kept.vote.map(vote_body));
    bodies.extend(kept.purged.map(purge_body));
    bodies.extend(kept.entries.values().map(entry_body));
    let frames = encode_frames(number, PAGE_BYTES as u64, &bodies);
    file.put_slice(&frames);
    let slot = Slot {
        turn: 1,
        position: file.len() as u64,
        committed: kept.committed,
    };
    let (at, bytes) = slot.encode();
    let at = usize::try_from(at).expect("within the first page");
    file[at..at + bytes.len()].copy_from_slice(&bytes);
    (file.freeze(), slot)
}

/// Checks a file's first page and finds its newest slot.
pub(super) fn decode_page(file: &Bytes, number: u64, owner: Owner) -> Result<Slot, String> {
    if file.len() < PAGE_BYTES {
        return Err("its first page is cut off".to_owned());
    }
    let mut fields = file.slice(..IDENTITY_BYTES);
    let mut sum = file.slice(IDENTITY_BYTES..IDENTITY_BYTES + 4);
    if !fields.starts_with(MAGIC) || sum.get_u32() != crc32c::crc32c(&fields) {
        return Err("its first page is damaged or not Klamm's".to_owned());
    }
    fields.advance(MAGIC.len());
    let format = fields.get_u32();
    if format != FORMAT {
        return Err(format!(
            "it has format {format}, which this version does not know"
        ));
    }
    let expected = identity(number, owner);
    if file[..IDENTITY_BYTES] != expected[..] {
        return Err(format!(
            "it is another file, or not that of node {} and directory {}",
            owner.node, owner.directory_id
        ));
    }
    let slots = SLOT_AT
        .iter()
        .filter_map(|at| Slot::decode(&file.slice(*at..*at + SLOT_BYTES)));
    slots
        .max_by_key(|slot| slot.turn)
        .ok_or_else(|| "its first page is damaged".to_owned())
}

fn checksum(number: u64, position: u64, body: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&number.to_be_bytes());
    let sum = crc32c::crc32c_append(sum, &position.to_be_bytes());
    crc32c::crc32c_append(sum, body)
}

/// The frames of `bodies`, to be written at `position` of the file `number`.
pub(super) fn encode_frames(number: u64, position: u64, bodies: &[Bytes]) -> Bytes {
    let mut frames = BytesMut::new();
    for body in bodies {
        let at = position + frames.len() as u64;
        frames.put_u32(u32::try_from(body.len()).expect("an entry is shorter than 4 GiB"));
        frames.put_u32(checksum(number, at, body));
        frames.put_slice(body);
    }
    frames.freeze()
}

/// What is at some position of a file.
pub(super) enum Found {
    /// The body of a whole frame, and the position after it.
    Frame {
        body: Bytes,
        next: usize,
    },
    /// The file ends here.
    End,
    Damage(&'static str),
}

/// The frame at `position` of a file.
pub(super) fn find_frame(file: &Bytes, number: u64, position: usize) -> Found {
    let rest = file.slice(position.min(file.len())..);
    if rest.is_empty() {
        return Found::End;
    }
    if rest.len() < FRAME_HEADER_BYTES {
        return Found::Damage("a frame's header is cut off");
    }
    let mut header = rest.slice(..FRAME_HEADER_BYTES);
    let (length, sum) = (header.get_u32(), header.get_u32());
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let end = FRAME_HEADER_BYTES.saturating_add(length);
    if end > rest.len() {
        return Found::Damage("a frame is cut off");
    }
    let body = rest.slice(FRAME_HEADER_BYTES..end);
    if sum != checksum(number, position as u64, &body) {
        return Found::Damage("a frame's checksum is wrong");
    }
    Found::Frame {
        body,
        next: position + end,
    }
}

pub(super) fn vote_body(vote: Vote) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u8(VOTE);
    codec::put_vote(&mut body, vote);
    body.freeze()
}

pub(super) fn entry_body(entry: &Entry) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u8(ENTRY);
    codec::put_entry(&mut body, entry);
    body.freeze()
}

pub(super) fn truncate_body(from: u64) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u8(TRUNCATE);
    body.put_u64(from);
    body.freeze()
}

fn purge_body(upto: LogId) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u8(PURGE);
    codec::put_log_id(&mut body, upto);
    body.freeze()
}

/// Does to `kept` what a frame says.
pub(super) fn replay(kept: &mut Kept, body: Bytes) -> Result<(), String> {
    let undecodable = |error: DecodeError| error.to_string();
    let mut from = Reader::new(body);
    match from.u8().map_err(undecodable)? {
        VOTE => kept.vote = Some(codec::read_vote(&mut from).map_err(undecodable)?),
        ENTRY => kept.append(codec::read_entry(&mut from).map_err(undecodable)?)?,
        TRUNCATE => kept.truncate(codec::read_u64(&mut from).map_err(undecodable)?),
        PURGE => kept.purge(codec::read_log_id(&mut from).map_err(undecodable)?),
        kind => return Err(format!("a frame has the unknown kind {kind}")),
    }
    from.finish().map_err(undecodable)
}
