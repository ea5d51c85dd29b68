//! The first page of a segment file: whose segment it is, and how much of it is durable.
//!
//! | bytes | content |
//! | --- | --- |
//! | 0..64 | magic, version, topic id, partition, base offset, generation, CRC-32C |
//! | 512..576, 1024..1088 | two durable slots, written in turn |
//! | rest | zeros |
//!
//! A slot says that all bytes of the file before its position were made durable by a sync that
//! succeeded **before the slot was written**. So whatever a power loss leaves of the slots (each
//! lies in a sector of its own), the newest one that is valid tells the truth, and damage before
//! its position is damage to data that was safe, not the torn end of the last writes.
//!
//! A slot also holds a chain: a CRC-32C over the first 21 bytes of every batch before its
//! position. Those (offset, length, epoch, magic, CRC) are what a batch's own CRC does not cover.
//!
//! The generation tells a compacted segment from the one it replaced.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::identity::LogIdentity;
use crate::types::{Offset, TopicId};

/// What [`SegmentId::encode`] takes.
pub(super) const SEGMENT_ID_BYTES: usize = 64;

/// Where batches begin.
pub const HEADER_PAGE_BYTES: u64 = 4096;

const MAGIC: &[u8; 8] = b"klammseg";
const VERSION: u32 = 1;
const ID_BYTES: usize = SEGMENT_ID_BYTES;
const SLOT_BYTES: usize = 64;
const SLOT_AT: [usize; 2] = [512, 1024];

/// What a segment file says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentId {
    pub topic_id: TopicId,
    pub partition: i32,
    pub base_offset: Offset,
    /// Grows each time compaction rewrites the segment.
    pub generation: u64,
}

/// What is known to be durable of a segment. See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurableSlot {
    /// Counts the slots written to this file; the newest valid one counts.
    pub sequence: u64,
    /// Bytes of the file before it are durable and whole batches.
    pub position: u64,
    /// The offset after those bytes. In a closed segment: the next segment's base offset.
    pub end_offset: Offset,
    /// See the module.
    pub chain: u32,
}

impl SegmentId {
    pub fn new(identity: &LogIdentity, base_offset: Offset, generation: u64) -> Self {
        Self {
            topic_id: identity.topic_id,
            partition: identity.topic_partition.partition,
            base_offset,
            generation,
        }
    }

    /// The bytes that a segment begins with.
    pub fn encode(&self) -> BytesMut {
        let mut to = BytesMut::with_capacity(ID_BYTES);
        to.put_slice(MAGIC);
        to.put_u32(VERSION);
        to.put_slice(&self.topic_id.0);
        to.put_i32(self.partition);
        to.put_i64(self.base_offset.0);
        to.put_u64(self.generation);
        to.put_bytes(0, ID_BYTES - 4 - to.len());
        to.put_u32(crc32c::crc32c(&to));
        to
    }
}

impl DurableSlot {
    /// Of a segment without batches.
    #[must_use]
    pub fn empty(base_offset: Offset) -> Self {
        Self {
            sequence: 1,
            position: HEADER_PAGE_BYTES,
            end_offset: base_offset,
            chain: 0,
        }
    }

    /// This slot with a number not below `sequence`, after which the next slot goes to the same
    /// place as after the number it has.
    #[must_use]
    pub fn numbered_from(mut self, sequence: u64) -> Self {
        if self.sequence < sequence {
            self.sequence = sequence + (sequence - self.sequence) % 2;
        }
        self
    }

    /// Where this slot goes, and its bytes. They are bound to the segment, so that a slot that
    /// strayed from another file is not believed.
    #[must_use]
    pub fn encode(&self, id: &SegmentId) -> (u64, Bytes) {
        let mut to = BytesMut::with_capacity(SLOT_BYTES);
        to.put_u64(self.sequence);
        to.put_u64(self.position);
        to.put_i64(self.end_offset.0);
        to.put_u32(self.chain);
        to.put_bytes(0, SLOT_BYTES - 4 - to.len());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&id.encode()), &to);
        to.put_u32(crc);
        (SLOT_AT[(self.sequence % 2) as usize] as u64, to.freeze())
    }

    fn decode(mut from: &[u8], id: &SegmentId) -> Option<Self> {
        let (body, mut crc) = from.split_at_checked(SLOT_BYTES - 4)?;
        let computed = crc32c::crc32c_append(crc32c::crc32c(&id.encode()), body);
        if crc.get_u32() != computed {
            return None;
        }
        Some(Self {
            sequence: from.get_u64(),
            position: from.get_u64(),
            end_offset: Offset(from.get_i64()),
            chain: from.get_u32(),
        })
    }
}

/// The whole page with one slot.
#[must_use]
pub fn encode_page(id: &SegmentId, slot: &DurableSlot) -> Bytes {
    let page_bytes = usize::try_from(HEADER_PAGE_BYTES).expect("a small constant");
    let mut page = BytesMut::zeroed(page_bytes);
    page[..ID_BYTES].copy_from_slice(&id.encode());
    let (at, bytes) = slot.encode(id);
    let at = usize::try_from(at).expect("a slot lies in the page");
    page[at..at + SLOT_BYTES].copy_from_slice(&bytes);
    page.freeze()
}

/// Reads a page. Fails with the reason when it does not begin a segment; the slot is `None` when
/// neither is valid.
///
/// Who reads cannot know whether the newest slot is durable, or the only one that is: power may go
/// while the next is written, and leave garbage in its place. So the slot given is the newest, with
/// a number after which the next takes the newest one's place if the other is valid, since then the
/// other is durable; and else the other's.
pub fn decode_page(page: &[u8]) -> Result<(SegmentId, Option<DurableSlot>), String> {
    if (page.len() as u64) < HEADER_PAGE_BYTES {
        return Err(format!("{} bytes of a header page", page.len()));
    }
    let (body, mut crc) = page[..ID_BYTES].split_at(ID_BYTES - 4);
    let (magic, mut rest) = body.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err("no segment header".to_owned());
    }
    if crc.get_u32() != crc32c::crc32c(body) {
        return Err("a segment header with a wrong CRC".to_owned());
    }
    let version = rest.get_u32();
    if version != VERSION {
        return Err(format!(
            "segment format {version}, and this program knows {VERSION}"
        ));
    }
    let mut topic_id = TopicId::ZERO;
    rest.copy_to_slice(&mut topic_id.0);
    let id = SegmentId {
        topic_id,
        partition: rest.get_i32(),
        base_offset: Offset(rest.get_i64()),
        generation: rest.get_u64(),
    };
    let [even, odd] = SLOT_AT.map(|at| DurableSlot::decode(&page[at..at + SLOT_BYTES], &id));
    let slot = match (even, odd) {
        (Some(even), Some(odd)) => {
            let newest = std::cmp::max_by_key(even, odd, |slot| slot.sequence);
            Some(DurableSlot {
                sequence: newest.sequence + 1,
                ..newest
            })
        }
        (one, other) => one.or(other),
    };
    Ok((id, slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> SegmentId {
        SegmentId {
            topic_id: TopicId::from_random([3; 16]),
            partition: 7,
            base_offset: Offset(40),
            generation: 2,
        }
    }

    fn slot(sequence: u64) -> DurableSlot {
        DurableSlot {
            sequence,
            position: 4096 + sequence * 100,
            end_offset: Offset(40 + sequence.cast_signed()),
            chain: 9,
        }
    }

    #[test]
    fn the_newest_valid_slot_counts() {
        let mut page = encode_page(&id(), &slot(1)).to_vec();
        let (at, bytes) = slot(2).encode(&id());
        let at = at as usize;
        page[at..at + SLOT_BYTES].copy_from_slice(&bytes);
        let (_, found) = decode_page(&page).expect("a page");
        assert_eq!(found.expect("a slot").position, slot(2).position);
        page[at + 20] ^= 1;
        assert_eq!(decode_page(&page), Ok((id(), Some(slot(1)))));
    }

    #[test]
    fn the_slot_after_a_page_was_read_spares_the_one_that_is_surely_durable() {
        let place = |found: &DurableSlot| {
            let next = DurableSlot {
                sequence: found.sequence + 1,
                ..*found
            };
            next.encode(&id()).0
        };
        let mut page = encode_page(&id(), &slot(7)).to_vec();
        let (_, alone) = decode_page(&page).expect("a page");
        let alone = alone.expect("a slot");
        assert_ne!(place(&alone), slot(7).encode(&id()).0, "the only one");
        assert_eq!(place(&alone.numbered_from(8)), place(&alone));
        assert_eq!(place(&alone.numbered_from(9)), place(&alone));
        assert!(alone.numbered_from(8).sequence >= 8);
        let (at, bytes) = slot(8).encode(&id());
        page[at as usize..at as usize + SLOT_BYTES].copy_from_slice(&bytes);
        let (_, newest) = decode_page(&page).expect("a page");
        let newest = newest.expect("a slot");
        assert_eq!(newest.position, slot(8).position);
        assert_eq!(place(&newest), at, "slot 8 may be in the cache alone");
        assert!(newest.sequence >= 8);
    }

    #[test]
    fn a_slot_of_another_segment_is_not_believed() {
        let mut page = encode_page(&id(), &slot(1)).to_vec();
        let other = SegmentId {
            generation: 3,
            ..id()
        };
        let (at, bytes) = slot(2).encode(&other);
        page[at as usize..at as usize + SLOT_BYTES].copy_from_slice(&bytes);
        assert_eq!(decode_page(&page), Ok((id(), Some(slot(1)))));
    }

    #[test]
    fn any_flipped_byte_of_the_identity_is_seen() {
        let page = encode_page(&id(), &slot(1)).to_vec();
        for at in 0..ID_BYTES {
            let mut damaged = page.clone();
            damaged[at] ^= 0x10;
            assert!(decode_page(&damaged).is_err(), "byte {at}");
        }
    }
}
