//! Checkpoints: 8 bytes of magic, length of the body (u32), CRC-32C of the body (u32), the body.
//!
//! They are replaced whole and made durable before their name: whatever moment the process or the
//! power ended, one that is there is whole.

use bytes::Bytes;

use super::bytes_reader::BytesReader;

const MAGIC: &[u8] = b"klammcp1";

/// The body; or what is wrong.
pub(super) fn body(content: &Bytes) -> Result<Bytes, String> {
    let mut from = BytesReader(content.clone());
    let head = (|| {
        let magic = from.take(MAGIC.len())?;
        Some((magic, from.u32()?, from.u32()?))
    })();
    let (magic, length, crc) = head.ok_or_else(|| format!("{} bytes only", content.len()))?;
    if magic != MAGIC {
        return Err("it does not begin as a checkpoint".to_owned());
    }
    if usize::try_from(length) != Ok(from.0.len()) {
        return Err(format!("says {length} bytes, has {}", from.0.len()));
    }
    match crc32c::crc32c(&from.0) == crc {
        true => Ok(from.0),
        false => Err("its CRC-32C is wrong".to_owned()),
    }
}
