//! The bytes of the metadata log's files.
//!
//! A *records file* `<offset>.records` begins with a page of 4096 bytes: at 0 an identity (magic,
//! format, first offset, checksum), at 512 and 1024 two *slots*, written by turns, that say how far
//! a sync is known to have reached (turn, position, checksum). Batches follow back to back:
//! length of the body, checksum (CRC-32C of first offset and body), first offset, body. The body is
//! a number of records and each with its length before it.
//!
//! A batch is only written after the one before was synced and noted in a slot, and the next sync
//! makes that slot durable with the batch. So damage below the newest slot's position is damage to
//! durable bytes; damage at or after it can only be the last write that a power loss tore.
//!
//! A *snapshot* `<offset>.snapshot` is one page of identity and one batch.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::controller::record::{MetadataRecord, RecordError};
use crate::types::Offset;
use crate::wire::EncodeError;

pub(super) const PAGE_BYTES: usize = 4096;
pub(super) const BATCH_HEADER_BYTES: usize = 16;
const SLOT_BYTES: usize = 20;
const SLOT_AT: [usize; 2] = [512, 1024];
const MAGIC: &[u8; 8] = b"klammmd\n";
const FORMAT: u32 = 1;

/// How far a sync is known to have reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Slot {
    /// 0: no slot was written yet.
    pub turn: u64,
    pub position: u64,
}

impl Slot {
    /// Where in the file this slot belongs, and its bytes.
    pub fn encode(self) -> (u64, Bytes) {
        let mut bytes = BytesMut::with_capacity(SLOT_BYTES);
        bytes.put_u64(self.turn);
        bytes.put_u64(self.position);
        bytes.put_u32(crc32c::crc32c(&bytes));
        let at = SLOT_AT[usize::from(self.turn % 2 == 1)];
        (at as u64, bytes.freeze())
    }
}

/// A new file's first page.
pub(super) fn encode_page(first: Offset) -> Bytes {
    let mut page = BytesMut::with_capacity(PAGE_BYTES);
    page.put_slice(MAGIC);
    page.put_u32(FORMAT);
    page.put_i64(first.0);
    page.put_u32(crc32c::crc32c(&page));
    page.put_bytes(0, PAGE_BYTES - page.len());
    page.freeze()
}

/// Checks a file's first page and finds its newest slot.
pub(super) fn decode_page(page: &Bytes, first: Offset) -> Result<Slot, String> {
    let Some(page) = page.get(..PAGE_BYTES) else {
        return Err("its first page is cut off".to_owned());
    };
    let (mut identity, sum) = (&page[..20], u32_at(page, 20));
    if !identity.starts_with(MAGIC) || sum != crc32c::crc32c(identity) {
        return Err("its first page is damaged or not Klamm's".to_owned());
    }
    identity.advance(MAGIC.len());
    let format = identity.get_u32();
    if format != FORMAT {
        return Err(format!(
            "it has format {format}, which this version does not know"
        ));
    }
    if identity.get_i64() != first.0 {
        return Err("its first page is that of another file".to_owned());
    }
    let slots = SLOT_AT
        .iter()
        .filter_map(|at| decode_slot(&page[*at..*at + SLOT_BYTES]));
    Ok(slots.max().unwrap_or_default())
}

fn decode_slot(bytes: &[u8]) -> Option<Slot> {
    let (mut fields, sum) = (&bytes[..16], u32_at(bytes, 16));
    (sum == crc32c::crc32c(fields) && fields.iter().any(|byte| *byte != 0)).then(|| Slot {
        turn: fields.get_u64(),
        position: fields.get_u64(),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    (&bytes[at..at + 4]).get_u32()
}

fn checksum(first: Offset, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&first.0.to_be_bytes()), body)
}

fn length_field(length: usize) -> Result<u32, EncodeError> {
    u32::try_from(length).map_err(|_| EncodeError::TooLong(length))
}

/// The body of a batch of `records`.
pub(in crate::controller) fn encode_body(records: &[MetadataRecord]) -> Result<Bytes, EncodeError> {
    let mut body = BytesMut::new();
    body.put_u32(length_field(records.len())?);
    for record in records {
        let bytes = record.encode()?;
        body.put_u32(length_field(bytes.len())?);
        body.put_slice(&bytes);
    }
    Ok(body.freeze())
}

/// A batch whose first record has the offset `first`.
pub(super) fn encode_batch(
    first: Offset,
    records: &[MetadataRecord],
) -> Result<Bytes, EncodeError> {
    let body = encode_body(records)?;
    let mut batch = BytesMut::with_capacity(BATCH_HEADER_BYTES + body.len());
    batch.put_u32(length_field(body.len())?);
    batch.put_u32(checksum(first, &body));
    batch.put_i64(first.0);
    batch.put_slice(&body);
    Ok(batch.freeze())
}

/// What is at some position of a file.
pub(super) enum Found {
    /// The body of a whole batch, and the position after it.
    Batch {
        body: Bytes,
        next: usize,
    },
    /// The file ends here.
    End,
    Damage(&'static str),
}

/// The batch at `position` of `file`, which must begin with the record of offset `first`.
pub(super) fn find_batch(file: &Bytes, position: usize, first: Offset) -> Found {
    let rest = file.slice(position.min(file.len())..);
    if rest.is_empty() {
        return Found::End;
    }
    if rest.len() < BATCH_HEADER_BYTES {
        return Found::Damage("a batch's header is cut off");
    }
    let mut header = rest.slice(..BATCH_HEADER_BYTES);
    let (length, sum, offset) = (header.get_u32(), header.get_u32(), header.get_i64());
    let body_end = BATCH_HEADER_BYTES.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    if body_end > rest.len() {
        return Found::Damage("a batch is cut off");
    }
    let body = rest.slice(BATCH_HEADER_BYTES..body_end);
    if offset != first.0 || sum != checksum(first, &body) {
        return Found::Damage("a batch's checksum is wrong");
    }
    Found::Batch {
        body,
        next: position + body_end,
    }
}

/// The records of a batch's body.
pub(in crate::controller) fn decode_body(mut body: Bytes) -> Result<Vec<MetadataRecord>, String> {
    let cut_off = || "a record is cut off".to_owned();
    let count = body.try_get_u32().map_err(|_| cut_off())?;
    let mut records = Vec::new();
    for _ in 0..count {
        let length = body.try_get_u32().map_err(|_| cut_off())?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > body.len() {
            return Err(cut_off());
        }
        let record = MetadataRecord::decode(body.split_to(length));
        records.push(record.map_err(|error: RecordError| error.to_string())?);
    }
    match body.is_empty() {
        true => Ok(records),
        false => Err("bytes are left after the last record".to_owned()),
    }
}
