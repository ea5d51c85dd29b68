//! Reading LZ4 frames (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>).
//!
//! The frame is parsed here and only blocks are left to the library: output goes straight into
//! one buffer that is also the window of linked blocks, every allocation is bounded by the block
//! at hand, and a frame that ends before its end mark is an error. One frame is read, of any
//! block size, linked or not, and every checksum it has is verified. Frames with a dictionary are
//! refused, as there is no way to agree on one.

use super::header::BatchError;
use super::xxhash::{XxHash32, xxhash32};

const MAGIC: u32 = 0x184D_2204;

/// How far back a block may refer into the blocks before it.
const WINDOW_BYTES: usize = 64 * 1024;

/// One byte of a block makes at most this many bytes of output.
const EXPANSION_MAX: usize = 255;

/// In a block's length: the block is stored as it is.
const STORED: u32 = 1 << 31;

#[derive(Clone, Copy)]
struct Descriptor {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_bytes: Option<u64>,
    block_bytes_max: usize,
}

/// The content of the frame that `from` begins with; what follows the frame is ignored, as Kafka
/// does.
pub(super) fn decompress(mut from: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let descriptor = read_descriptor(&mut from)?;
    let mut output = Vec::new();
    let mut content = XxHash32::default();
    loop {
        let length = u32_le(&mut from)?;
        if length == 0 {
            break;
        }
        let bytes = usize::try_from(length & !STORED).unwrap_or(usize::MAX);
        if bytes > descriptor.block_bytes_max {
            return Err(bad("an lz4 block is larger than its frame allows"));
        }
        let block = take(&mut from, bytes)?;
        if descriptor.block_checksums && u32_le(&mut from)? != xxhash32(block) {
            return Err(bad("the checksum of an lz4 block is wrong"));
        }
        let start = output.len();
        if length & STORED != 0 {
            output.extend_from_slice(block);
        } else {
            decompress_block(descriptor, block, &mut output, limit)?;
        }
        if output.len() > limit {
            return Err(BatchError::TooLarge(limit));
        }
        if descriptor.content_checksum {
            content.update(&output[start..]);
        }
    }
    let content_bytes = u64::try_from(output.len()).unwrap_or(u64::MAX);
    if descriptor
        .content_bytes
        .is_some_and(|claimed| claimed != content_bytes)
    {
        return Err(bad("an lz4 frame does not hold as much as it claims"));
    }
    if descriptor.content_checksum && u32_le(&mut from)? != content.finish() {
        return Err(bad("the checksum of an lz4 frame is wrong"));
    }
    Ok(output)
}

fn read_descriptor(from: &mut &[u8]) -> Result<Descriptor, BatchError> {
    if u32_le(from)? != MAGIC {
        return Err(bad("not an lz4 frame"));
    }
    let whole = *from;
    let [flags, sizes] = *take_array::<2>(from)?;
    if flags >> 6 != 1 || flags & 0b10 != 0 || sizes & 0b1000_1111 != 0 {
        return Err(bad("an lz4 frame of an unknown version"));
    }
    if flags & 1 != 0 {
        return Err(bad("an lz4 frame with a dictionary"));
    }
    let block_bytes_max = match sizes >> 4 {
        code @ 4..=7 => 1 << (8 + 2 * u32::from(code)),
        _ => return Err(bad("an lz4 frame of an unknown block size")),
    };
    let content_bytes = match flags & 0b1000 {
        0 => None,
        _ => Some(u64::from_le_bytes(*take_array::<8>(from)?)),
    };
    let described = &whole[..whole.len() - from.len()];
    let [checksum] = *take_array::<1>(from)?;
    if checksum != xxhash32(described).to_le_bytes()[1] {
        return Err(bad("the checksum of an lz4 frame's header is wrong"));
    }
    Ok(Descriptor {
        linked: flags & 0b10_0000 == 0,
        block_checksums: flags & 0b1_0000 != 0,
        content_checksum: flags & 0b100 != 0,
        content_bytes,
        block_bytes_max,
    })
}

fn decompress_block(
    descriptor: Descriptor,
    block: &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    let start = output.len();
    let room = block
        .len()
        .saturating_mul(EXPANSION_MAX)
        .min(descriptor.block_bytes_max);
    // One byte past the limit is enough to see that it is passed.
    let most = limit.saturating_add(1).saturating_sub(start);
    output.resize(start + room.min(most), 0);
    let (before, into) = output.split_at_mut(start);
    let written = if descriptor.linked {
        let window = &before[start.saturating_sub(WINDOW_BYTES)..];
        lz4_flex::block::decompress_into_with_dict(block, into, window)
    } else {
        lz4_flex::block::decompress_into(block, into)
    };
    let written = written.map_err(|error| match error {
        lz4_flex::block::DecompressError::OutputTooSmall { .. } if most < room => {
            BatchError::TooLarge(limit)
        }
        error => BatchError::Decompress(error.to_string()),
    })?;
    output.truncate(start + written);
    Ok(())
}

fn take<'a>(from: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], BatchError> {
    from.split_off(..bytes)
        .ok_or_else(|| bad("an lz4 frame is cut short"))
}

fn take_array<'a, const N: usize>(from: &mut &'a [u8]) -> Result<&'a [u8; N], BatchError> {
    let (array, rest) = from
        .split_first_chunk::<N>()
        .ok_or_else(|| bad("an lz4 frame is cut short"))?;
    *from = rest;
    Ok(array)
}

fn u32_le(from: &mut &[u8]) -> Result<u32, BatchError> {
    Ok(u32::from_le_bytes(*take_array::<4>(from)?))
}

fn bad(reason: &'static str) -> BatchError {
    BatchError::Decompress(reason.into())
}
