//! What is refused of a log that was read through.

use crate::log::error::LogError;
use crate::log::header_page::{DurableSlot, HEADER_PAGE_BYTES};
use crate::log::replay::{SegmentFile, corrupt};
use crate::log::scan::Scanned;
use crate::types::Offset;

/// Refuses a log that ends before it begins.
pub(super) fn reaches(
    last: &SegmentFile,
    end: Offset,
    log_start_offset: Offset,
) -> Result<(), LogError> {
    if end >= log_start_offset {
        return Ok(());
    }
    let expected = format!("records up to {log_start_offset}, where the log begins");
    let found = format!("records up to {end}");
    Err(last.corrupt(last.file_bytes, found, &expected))
}

/// Refuses a last segment in which something durable is not as it was.
pub(super) fn judge(
    segment: &SegmentFile,
    found: &Scanned,
    slot: &DurableSlot,
    clean: bool,
) -> Result<(), LogError> {
    if crate::mutant!("cut-at-first-bad-crc") {
        return Ok(());
    }
    if let Some(damage) = &found.damage
        && (clean || found.position < slot.position)
    {
        return Err(corrupt(&segment.path, found, damage).into());
    }
    if found.position < slot.position {
        let damage = "the end of the file";
        return Err(corrupt(&segment.path, found, damage).into());
    }
    if found.chain_at != Some(slot.chain) {
        let expected = format!("the batch headers written before byte {}", slot.position);
        let found = "batch headers that are well formed but not those";
        return Err(segment.corrupt(HEADER_PAGE_BYTES, found, &expected));
    }
    Ok(())
}
