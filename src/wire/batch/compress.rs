//! The four codecs of record batches, each bounded: what is decompressed never grows past a limit
//! given by the caller, and nothing is allocated that the compressed bytes could not fill.

use std::io::{Read, Write};

use bytes::Bytes;

use super::header::{BatchError, Compression};
use super::lz4;

/// What precedes snappy blocks in the framing of the Java library Kafka uses (xerial): a magic of
/// eight bytes, then two 4-byte version numbers.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// Uncompressed bytes in each snappy block written.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

/// Largest output of one snappy tag (64 bytes) over the smallest tag that copies (2 bytes).
const SNAPPY_EXPANSION_MAX: usize = 32;

/// Largest zstd window accepted, as a power of two. It is the most a decoder accepts by default,
/// in C as in Java, so whatever a consumer could read is accepted.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Appends `records`, compressed, to `to`. `level` is the codec's own (gzip 1 to 9, zstd by its
/// range, others none) and is clamped; `None` is the codec's default. On error `to` holds a part.
pub(super) fn compress(
    compression: Compression,
    level: Option<i32>,
    records: &[u8],
    to: &mut Vec<u8>,
) -> std::io::Result<()> {
    match compression {
        Compression::None => to.extend_from_slice(records),
        Compression::Gzip => {
            let level = level.map_or(flate2::Compression::default(), |level| {
                flate2::Compression::new(u32::try_from(level.clamp(1, 9)).unwrap_or(6))
            });
            let mut encoder = flate2::write::GzEncoder::new(to, level);
            encoder.write_all(records)?;
            encoder.finish()?;
        }
        Compression::Snappy => compress_snappy(records, to)?,
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(to);
            encoder.write_all(records)?;
            encoder.finish().map_err(std::io::Error::other)?;
        }
        Compression::Zstd => {
            let range = zstd::compression_level_range();
            let level = level.map_or(zstd::DEFAULT_COMPRESSION_LEVEL, |level| {
                level.clamp(*range.start(), *range.end())
            });
            let mut encoder = zstd::stream::write::Encoder::new(to, level)?;
            encoder.set_pledged_src_size(u64::try_from(records.len()).ok())?;
            encoder.write_all(records)?;
            encoder.finish()?;
        }
    }
    Ok(())
}

fn compress_snappy(records: &[u8], to: &mut Vec<u8>) -> std::io::Result<()> {
    to.extend_from_slice(&XERIAL_MAGIC);
    to.extend_from_slice(&1_u32.to_be_bytes());
    to.extend_from_slice(&1_u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let length_at = to.len();
        let block_at = length_at + 4;
        to.resize(block_at + snap::raw::max_compress_len(block.len()), 0);
        let written = encoder.compress(block, &mut to[block_at..])?;
        to.truncate(block_at + written);
        let written = u32::try_from(written).map_err(std::io::Error::other)?;
        to[length_at..block_at].copy_from_slice(&written.to_be_bytes());
    }
    Ok(())
}

/// Decompresses `records`; fails with [`BatchError::TooLarge`] past `limit` bytes.
pub(super) fn decompress(
    compression: Compression,
    records: &Bytes,
    limit: usize,
) -> Result<Bytes, BatchError> {
    match compression {
        Compression::None if records.len() > limit => Err(BatchError::TooLarge(limit)),
        Compression::None => Ok(records.clone()),
        Compression::Gzip => {
            let decoder = flate2::bufread::MultiGzDecoder::new(records.as_ref());
            read_bounded(decoder, records.len(), limit)
        }
        Compression::Snappy => decompress_snappy(records, limit),
        Compression::Lz4 => lz4::decompress(records, limit).map(Bytes::from),
        Compression::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(records.as_ref()).map_err(refused)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(refused)?;
            read_bounded(decoder, records.len(), limit)
        }
    }
}

/// Reads to the end. The first allocation is a small multiple of the input; it grows only with
/// bytes that have really come out.
fn read_bounded(
    decoder: impl Read,
    compressed_bytes: usize,
    limit: usize,
) -> Result<Bytes, BatchError> {
    let expected = compressed_bytes.saturating_mul(4).min(limit);
    let mut records = Vec::with_capacity(expected);
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .take(most)
        .read_to_end(&mut records)
        .map_err(refused)?;
    if records.len() > limit {
        return Err(BatchError::TooLarge(limit));
    }
    Ok(Bytes::from(records))
}

fn decompress_snappy(records: &[u8], limit: usize) -> Result<Bytes, BatchError> {
    let mut decoder = snap::raw::Decoder::new();
    let mut output = Vec::new();
    if !records.starts_with(&XERIAL_MAGIC) {
        // Some clients send one bare block.
        decompress_snappy_block(&mut decoder, records, &mut output, limit)?;
        return Ok(Bytes::from(output));
    }
    let mut rest = records
        .get(XERIAL_HEADER_BYTES..)
        .ok_or_else(|| BatchError::Decompress("snappy framing is cut short".into()))?;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (block, after) = after
            .split_at_checked(length)
            .ok_or_else(|| BatchError::Decompress("a snappy block is cut short".into()))?;
        decompress_snappy_block(&mut decoder, block, &mut output, limit)?;
        rest = after;
    }
    match rest {
        [] => Ok(Bytes::from(output)),
        _ => Err(BatchError::Decompress("snappy framing is cut short".into())),
    }
}

fn decompress_snappy_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    let claimed = snap::raw::decompress_len(block).map_err(refused)?;
    if claimed > block.len().saturating_mul(SNAPPY_EXPANSION_MAX) {
        return Err(BatchError::Decompress(
            "a snappy block claims more than it can hold".into(),
        ));
    }
    let start = output.len();
    if claimed > limit - start {
        return Err(BatchError::TooLarge(limit));
    }
    output.resize(start + claimed, 0);
    let written = decoder
        .decompress(block, &mut output[start..])
        .map_err(refused)?;
    output.truncate(start + written);
    Ok(())
}

fn refused(error: impl std::fmt::Display) -> BatchError {
    BatchError::Decompress(error.to_string())
}
