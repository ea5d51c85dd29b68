//! What records hold, and what a reader makes of bytes it fetched.

use bytes::Bytes;
use klamm::types::Timestamp;
use klamm::wire::Str;
use klamm::wire::batch::{BatchError, BatchHeader, Record, RecordBatch};
use klamm_jepsen::history::{Seen, Stamp, Written};

/// The header that carries a record's id, 8 bytes.
pub(super) const ID_HEADER: Str = Str::from_static("id");

/// A record to be sent.
pub(super) struct Content {
    pub(super) id: u64,
    pub(super) key: Option<String>,
    pub(super) value: Option<Bytes>,
    pub(super) timestamp: Timestamp,
}

impl Content {
    pub(super) fn headers(&self) -> Vec<(Str, Option<Bytes>)> {
        let id = Bytes::copy_from_slice(&self.id.to_be_bytes());
        vec![(ID_HEADER, Some(id))]
    }

    pub(super) fn written(&self) -> Written {
        let key = self.key.as_ref().map(String::as_bytes);
        Written {
            id: self.id,
            key: self.key.clone(),
            tombstone: self.value.is_none(),
            digest: digest(key, self.value.as_deref(), &self.headers()),
            timestamp: self.timestamp.0,
        }
    }
}

/// A value of at most `bytes_max` bytes that follows from the id alone. Half of it repeats, so
/// that codecs have something to do.
pub(super) fn value_of(id: u64, bytes_max: u32) -> Bytes {
    let mut state = id;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    };
    let half = u64::from(bytes_max / 2);
    let length = usize::try_from(half + next() % (half + 1)).unwrap_or(0);
    let mut value = Vec::with_capacity(length + 16);
    while value.len() < length {
        value.extend_from_slice(&next().to_be_bytes());
        value.extend_from_slice(b"klamm---");
    }
    value.truncate(length);
    Bytes::from(value)
}

/// CRC-32C over key, value and headers, each with its length, null told from empty.
pub(super) fn digest(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(Str, Option<Bytes>)],
) -> u32 {
    let part = |sum: u32, bytes: Option<&[u8]>| {
        let length = bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        let sum = crc32c::crc32c_append(sum, &length.to_be_bytes());
        crc32c::crc32c_append(sum, bytes.unwrap_or_default())
    };
    let sum = part(part(0, key), value);
    headers.iter().fold(sum, |sum, (name, value)| {
        part(part(sum, Some(name.as_bytes())), value.as_deref())
    })
}

/// A record as it was read.
pub(super) fn seen(
    offset: i64,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(Str, Option<Bytes>)],
) -> Seen {
    let id = headers.iter().find(|(name, _)| *name == ID_HEADER);
    let id = id.and_then(|(_, value)| <[u8; 8]>::try_from(value.as_deref()?).ok());
    Seen {
        offset,
        id: id.map(u64::from_be_bytes),
        key: key.map(|key| String::from_utf8_lossy(key).into_owned()),
        tombstone: value.is_none(),
        digest: digest(key, value, headers),
        timestamp,
        stamp: None,
    }
}

/// What the bytes of one partition's answer hold.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) records: Vec<Seen>,
    /// The position after them.
    pub(super) next: i64,
    /// The property that the bytes break, and how.
    pub(super) broken: Option<(&'static str, String)>,
}

/// Reads batches; records below `from` are left out. The rest of a batch that is cut short is left
/// out too, which only the first may not be.
pub(super) fn decode(mut bytes: Bytes, from: i64) -> Decoded {
    let mut decoded = Decoded {
        next: from,
        ..Decoded::default()
    };
    let mut is_first = true;
    while !bytes.is_empty() {
        let batch = match RecordBatch::split_first(&mut bytes) {
            Ok(batch) => batch,
            Err(BatchError::Truncated { .. }) if !is_first => break,
            Err(error @ BatchError::Truncated { .. }) => {
                decoded.broken = Some(("P18", format!("the first batch is cut: {error}")));
                break;
            }
            Err(error) => {
                decoded.broken = Some(("P15", format!("at offset {}: {error}", decoded.next)));
                break;
            }
        };
        is_first = false;
        let end = batch.header.end_offset().0;
        if end <= decoded.next {
            let text = format!("a batch that ends at {end} where {} is due", decoded.next);
            decoded.broken = Some(("P7", text));
            break;
        }
        if let Err(error) = take(&batch, from, &mut decoded.records) {
            decoded.broken = Some(("P15", format!("at offset {}: {error}", decoded.next)));
            break;
        }
        decoded.next = end;
    }
    decoded
}

fn take(batch: &RecordBatch, from: i64, records: &mut Vec<Seen>) -> Result<(), BatchError> {
    if batch.header.attributes.is_control() {
        return Ok(());
    }
    for record in batch.records()? {
        let record = record?;
        if record.offset.0 >= from {
            let mut seen = of_record(&record);
            seen.stamp = stamp_of(&batch.header, &record);
            records.push(seen);
        }
    }
    Ok(())
}

fn of_record(record: &Record) -> Seen {
    seen(
        record.offset.0,
        record.timestamp.0,
        record.key.as_deref(),
        record.value.as_deref(),
        &record.headers,
    )
}

fn stamp_of(header: &BatchHeader, record: &Record) -> Option<Stamp> {
    if !header.has_producer() {
        return None;
    }
    let delta = record.offset.since(header.base_offset);
    let sequence = header.base_sequence.plus(i32::try_from(delta).unwrap_or(0));
    Some(Stamp {
        producer_id: header.producer_id.0,
        producer_epoch: header.producer_epoch.0,
        sequence: sequence.0,
    })
}
