//! Checkpoints: 8 bytes of magic, length of the body (u32), CRC-32C of the body and of the place
//! (u32), the body. The place is the names of directory and file with a slash between; of the file
//! alone for those that are no partition's.
//!
//! They are replaced whole and made durable before their name: whatever moment the process or the
//! power ended, one that is there is whole.

use bytes::Bytes;

use super::bytes_reader::BytesReader;

const MAGIC: &[u8] = b"klammcp2";

/// The body of what lies at `place`; or what is wrong.
pub(super) fn body(content: &Bytes, place: &str) -> Result<Bytes, String> {
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
    match crc32c::crc32c_append(crc32c::crc32c(&from.0), place.as_bytes()) == crc {
        true => Ok(from.0),
        false => Err("its CRC-32C is wrong".to_owned()),
    }
}
