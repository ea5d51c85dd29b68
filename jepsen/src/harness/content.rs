//! What records hold, and how what was read is told: the same in every client of a run, whatever
//! its language.
//!
//! A value is the record's id in 19 digits, a colon, and filler of a length that follows from the
//! id. Its digest is its CRC-32C.

use std::collections::BTreeMap;

use bytes::Bytes;
use klamm::client::ConsumerRecord;

use crate::history::{Fetched, Partition, Position, Seen, Written};

const ID_DIGITS: usize = 19;
const FILLER_MAX: u64 = 181;

#[must_use]
pub fn partition(topic: &str, partition: i32) -> Partition {
    Partition {
        topic: topic.to_owned(),
        partition,
    }
}

#[must_use]
pub fn value_of(id: u64) -> Bytes {
    let mut value = format!("{id:0ID_DIGITS$}:").into_bytes();
    let filler = usize::try_from(id.wrapping_mul(7919) % FILLER_MAX).unwrap_or(0);
    let letter = u8::try_from(id % 26).unwrap_or(0) + b'a';
    value.resize(value.len() + filler, letter);
    value.into()
}

#[must_use]
pub fn written(id: u64, value: &Bytes, timestamp: i64) -> Written {
    Written {
        id,
        key: None,
        tombstone: false,
        digest: crc32c::crc32c(value),
        timestamp,
    }
}

fn seen(record: &ConsumerRecord) -> Seen {
    let value = record.value.clone().unwrap_or_default();
    let id = value.get(..ID_DIGITS);
    let id = id.and_then(|id| std::str::from_utf8(id).ok());
    Seen {
        offset: record.offset.0,
        id: id.and_then(|id| id.parse().ok()),
        key: None,
        tombstone: record.value.is_none(),
        digest: crc32c::crc32c(&value),
        timestamp: record.timestamp.0,
        stamp: None,
    }
}

/// Records by partition, for those partitions that gave any.
#[must_use]
pub fn fetched(from: &[Position], records: &[ConsumerRecord]) -> Vec<Fetched> {
    let mut by_partition: BTreeMap<Partition, Vec<Seen>> = BTreeMap::new();
    for record in records {
        let of = partition(&record.partition.topic, record.partition.partition);
        by_partition.entry(of).or_default().push(seen(record));
    }
    let each = by_partition.into_iter().map(|(of, records)| {
        let known = from.iter().find(|position| position.of == of);
        let first = records.first().map_or(0, |record| record.offset);
        Fetched {
            of,
            from: known.map_or(first, |position| position.offset),
            error: None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            records,
        }
    });
    each.collect()
}
