//! The records of a partition as they lie on the disk, to be compared with what clients saw (R14).

use std::path::PathBuf;

use bytes::Bytes;
use klamm_jepsen::history::{Partition, Stamp};

use super::segment::Batch;
use super::{directories, partition, segment};

/// A record on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In their order.
    pub headers: Vec<(String, Option<Bytes>)>,
    pub leader_epoch: i32,
    /// Of the batch around it: who sent it, and the sequence of its first record. Absent without a
    /// producer id.
    pub batch: Option<Stamp>,
}

impl Stored {
    /// The value of the first header called `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        value.as_ref()
    }
}

/// All records of data in `partition`'s segments, in their order: also those before the log's
/// start, and those of an end that may not be durable. What cannot be read ends a segment. Empty
/// without such a partition.
#[must_use]
pub fn log_contents(files: &[(PathBuf, Bytes)], topic: &str, partition: i32) -> Vec<Stored> {
    let of = Partition {
        topic: topic.to_owned(),
        partition,
    };
    let mut records = Vec::new();
    for batch in batches(files, &of) {
        let header = batch.header();
        if header.attributes.is_control() {
            continue;
        }
        let stamp = header.has_producer().then_some(Stamp {
            producer_id: header.producer_id.0,
            producer_epoch: header.producer_epoch.0,
            sequence: header.base_sequence.0,
        });
        for record in batch.batch.records().into_iter().flatten().flatten() {
            let headers = record.headers.into_iter();
            records.push(Stored {
                offset: record.offset.0,
                timestamp: record.timestamp.0,
                key: record.key,
                value: record.value,
                headers: headers
                    .map(|(key, value)| (key.to_string(), value))
                    .collect(),
                leader_epoch: header.leader_epoch.0,
                batch: stamp,
            });
        }
    }
    records
}

/// The batches of a partition, as far as they are whole.
pub(super) fn batches(files: &[(PathBuf, Bytes)], of: &Partition) -> Vec<Batch> {
    let mut found = Vec::new();
    for directory in directories(files)
        .iter()
        .filter(|directory| directory.of == *of)
    {
        for (_, content) in partition::segments_of(directory).values() {
            if let Ok(page) = segment::page(content) {
                found.extend(segment::walk(content, &page, true).batches);
            }
        }
    }
    found
}
