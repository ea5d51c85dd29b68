//! One segment file: a page of 4096 bytes (identity, two durable slots), then batches.

use bytes::Bytes;
use klamm::wire::batch::{BatchHeader, RecordBatch};

use super::bytes_reader::BytesReader;

pub(super) const PAGE_BYTES: usize = 4096;

const MAGIC: &[u8] = b"klammseg";
const VERSION: u32 = 1;
const ID_BYTES: usize = 64;
const SLOT_AT: [usize; 2] = [512, 1024];
const CRC_BYTES: usize = 4;
/// Of a batch, what its own CRC does not cover: the chain does.
const CHAINED_BYTES: usize = 21;

/// What the page says.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub topic_id: [u8; 16],
    pub partition: i32,
    pub base_offset: i64,
    pub generation: u64,
    pub slot: Option<Slot>,
}

/// Up to where the file is durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub sequence: u64,
    pub position: u64,
    pub end_offset: i64,
    pub chain: u32,
}

/// A batch that is whole and as it was written.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub position: u64,
    pub batch: RecordBatch,
}

impl Batch {
    pub fn header(&self) -> &BatchHeader {
        &self.batch.header
    }

    pub fn base(&self) -> i64 {
        self.header().base_offset.0
    }

    /// The offset after it.
    pub fn end(&self) -> i64 {
        self.header().end_offset().0
    }
}

/// What a walk over the batches found.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    pub batches: Vec<Batch>,
    /// Where the last good batch ends.
    pub position: u64,
    /// The offset after the last good batch.
    pub end: i64,
    /// Over all good batches.
    pub chain: u32,
    pub has_gaps: bool,
    /// Offset and chain where the newest slot points, if a batch ends there.
    pub at_slot: Option<(i64, u32)>,
    /// What stopped the walk before the end of the file.
    pub wrong: Option<Wrong>,
}

/// Why what lies at [`Walk::position`] is no batch that belongs there.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    pub property: &'static str,
    pub reason: String,
}

pub(super) fn page(content: &Bytes) -> Result<Page, String> {
    let page = content.get(..PAGE_BYTES).ok_or("its page is cut off")?;
    let id = &page[..ID_BYTES];
    let mut read = identity(id)?;
    let slots = SLOT_AT
        .iter()
        .filter_map(|at| slot(id, &page[*at..*at + ID_BYTES]));
    read.slot = slots.max_by_key(|slot| slot.sequence);
    Ok(read)
}

/// What the first bytes of a page say; no slot.
pub(super) fn identity(id: &[u8]) -> Result<Page, String> {
    let (body, crc) = id.split_at(ID_BYTES - CRC_BYTES);
    if crc != crc32c::crc32c(body).to_be_bytes() {
        return Err("the CRC-32C of its identity is wrong".to_owned());
    }
    let mut from = BytesReader(Bytes::copy_from_slice(body));
    let read = (|| {
        let known = from.take(MAGIC.len())? == MAGIC && from.u32()? == VERSION;
        let topic_id = from.take(16)?[..].try_into().ok()?;
        known.then_some(Page {
            topic_id,
            partition: from.i32()?,
            base_offset: from.i64()?,
            generation: from.u64()?,
            slot: None,
        })
    })();
    Ok(read.ok_or("it is no segment of format 1")?)
}

fn slot(id: &[u8], bytes: &[u8]) -> Option<Slot> {
    let (body, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
    let computed = crc32c::crc32c_append(crc32c::crc32c(id), body);
    if crc != computed.to_be_bytes() {
        return None;
    }
    let mut from = BytesReader(Bytes::copy_from_slice(body));
    Some(Slot {
        sequence: from.u64()?,
        position: from.u64()?,
        end_offset: from.i64()?,
        chain: from.u32()?,
    })
}

/// Walks the batches of `content`, whose page was read. `gaps`: offsets may be missing though it
/// was never compacted here.
pub(super) fn walk(content: &Bytes, page: &Page, gaps: bool) -> Walk {
    let mut found = Walk {
        batches: Vec::new(),
        position: PAGE_BYTES as u64,
        end: page.base_offset,
        chain: 0,
        has_gaps: false,
        at_slot: None,
        wrong: None,
    };
    let mut rest = content.slice(PAGE_BYTES..);
    loop {
        if page
            .slot
            .is_some_and(|slot| slot.position == found.position)
        {
            found.at_slot = Some((found.end, found.chain));
        }
        if rest.is_empty() {
            return found;
        }
        let head = rest.slice(..rest.len().min(CHAINED_BYTES));
        let batch = match RecordBatch::split_first(&mut rest) {
            Ok(batch) => batch,
            Err(error) => {
                found.wrong = Some(Wrong {
                    property: "P15",
                    reason: error.to_string(),
                });
                return found;
            }
        };
        if let Some(wrong) = misplaced(&batch, page, &found, gaps) {
            found.wrong = Some(wrong);
            return found;
        }
        let position = found.position;
        found.has_gaps |= batch.header.base_offset.0 > found.end;
        found.chain = crc32c::crc32c_append(found.chain, &head);
        found.position += batch.total_bytes() as u64;
        found.end = batch.header.end_offset().0;
        found.batches.push(Batch { position, batch });
    }
}

fn misplaced(batch: &RecordBatch, page: &Page, so_far: &Walk, gaps: bool) -> Option<Wrong> {
    let header = &batch.header;
    let (base, end) = (header.base_offset.0, header.end_offset().0);
    let wrong = |property, reason| Some(Wrong { property, reason });
    if base < so_far.end {
        return wrong(
            "R12",
            format!("[{base}, {end}) follows offset {}", so_far.end),
        );
    }
    if base > so_far.end && page.generation == 0 && !gaps {
        let reason = format!("offsets from {} to {base} are missing", so_far.end);
        return wrong("R12", reason);
    }
    if end - 1 - page.base_offset > i64::from(i32::MAX) {
        return wrong(
            "K9",
            format!("[{base}, {end}) is too far from the segment's base"),
        );
    }
    if let Some(before) = so_far.batches.last()
        && header.leader_epoch < before.header().leader_epoch
    {
        let (was, is) = (before.header().leader_epoch.0, header.leader_epoch.0);
        return wrong(
            "R8",
            format!("leader epoch {is} at offset {base} follows {was}"),
        );
    }
    None
}
