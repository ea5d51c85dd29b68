//! What becomes of each batch.

use std::collections::{BTreeMap, BTreeSet};

use super::{CompactionJob, LastOfProducer, OffsetMap};
use crate::types::{Offset, ProducerId, Timestamp};
use crate::wire::batch::{
    BatchBuilder, BatchError, BatchHeader, Compression, Record, RecordBatch, TimestampType,
};

/// What becomes of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It stays byte for byte.
    Keep,
    /// Some records went, or the delete horizon was set. Same base and last offset, same
    /// producer fields, same codec.
    Replace(RecordBatch),
    Drop,
}

/// Decides batch by batch, in ascending order from the log's first.
#[derive(Debug)]
pub struct Rewrite {
    map: OffsetMap,
    /// Batches from here on are left as they are: the map does not know their keys.
    end: Offset,
    now: Timestamp,
    /// The horizon of tombstones and markers first seen in this round.
    new_horizon: Timestamp,
    producers: BTreeMap<ProducerId, LastOfProducer>,
    /// Producers with a batch since their last marker, in a transaction.
    in_transaction: BTreeSet<ProducerId>,
}

impl Rewrite {
    /// `map` knows every key between `job.first_dirty` and `end`.
    #[must_use]
    pub fn new(job: &CompactionJob, map: OffsetMap, end: Offset) -> Self {
        let retention = match crate::mutant!("tombstones-dropped-too-early") {
            true => 0,
            false => job.delete_retention_ms.max(0),
        };
        Self {
            map,
            end,
            now: job.now,
            new_horizon: Timestamp(job.now.0.saturating_add(retention)),
            producers: job.producers.clone(),
            in_transaction: BTreeSet::new(),
        }
    }

    /// What becomes of `batch`.
    pub fn step(&mut self, batch: &RecordBatch) -> Result<Outcome, BatchError> {
        if batch.header.base_offset >= self.end {
            return Ok(Outcome::Keep);
        }
        if batch.header.attributes.is_control() {
            return self.control(batch);
        }
        self.data(batch)
    }

    /// A marker goes when no batch of its transaction is left and then its horizon has passed.
    fn control(&mut self, batch: &RecordBatch) -> Result<Outcome, BatchError> {
        let header = &batch.header;
        let unused = match marker_of(batch)? {
            Marker::EndOfTransaction => !self.in_transaction.remove(&header.producer_id),
            Marker::Empty => true,
            Marker::Other => false,
        };
        if !unused || self.must_stay(header) {
            return Ok(Outcome::Keep);
        }
        match horizon_of(header) {
            Some(horizon) if horizon <= self.now => Ok(Outcome::Drop),
            Some(_) => Ok(Outcome::Keep),
            None => {
                let records = batch.records()?.collect::<Result<Vec<_>, _>>()?;
                Ok(Outcome::Replace(self.rebuilt(batch, &records, true)?))
            }
        }
    }

    fn data(&mut self, batch: &RecordBatch) -> Result<Outcome, BatchError> {
        let header = &batch.header;
        if header.attributes.is_transactional() {
            self.in_transaction.insert(header.producer_id);
        }
        let mut kept = Vec::new();
        if !self.map.aborted().covers(header) {
            for record in batch.records()? {
                let record = record?;
                if self.keeps(header, &record) {
                    kept.push(record);
                }
            }
        }
        if kept.is_empty() {
            return Ok(match self.must_stay(header) {
                false => Outcome::Drop,
                true if header.record_count == 0 => Outcome::Keep,
                true => Outcome::Replace(emptied(header)),
            });
        }
        let tombstones = kept.iter().any(|record| record.value.is_none());
        let set_horizon = tombstones && horizon_of(header).is_none();
        if !set_horizon && i32::try_from(kept.len()) == Ok(header.record_count) {
            return Ok(Outcome::Keep);
        }
        Ok(Outcome::Replace(self.rebuilt(batch, &kept, set_horizon)?))
    }

    fn keeps(&self, header: &BatchHeader, record: &Record) -> bool {
        // A record without key, from before the topic was compacted, can never be replaced.
        let Some(key) = &record.key else {
            return false;
        };
        let newest = self.map.get(key).is_none_or(|last| {
            record.offset > last
                || record.offset == last && !crate::mutant!("compaction-drops-latest")
        });
        let tombstone_due =
            record.value.is_none() && horizon_of(header).is_some_and(|horizon| horizon <= self.now);
        if newest && tombstone_due {
            tracing::trace!(target: "klamm::probe", name = "tombstone-dropped");
        }
        newest && !tombstone_due
    }

    /// Whether the batch stays even with nothing in it: it holds a live producer's last sequence
    /// or epoch, or shows how far the cleaned part reaches.
    fn must_stay(&self, header: &BatchHeader) -> bool {
        let last_of_producer = match self.producers.get(&header.producer_id) {
            Some(LastOfProducer::Batch(last_offset)) => header.last_offset() == *last_offset,
            Some(LastOfProducer::Marker(epoch)) => {
                header.attributes.is_control() && header.producer_epoch == *epoch
            }
            None => false,
        };
        last_of_producer || header.end_offset() == self.end
    }

    /// The batch with `records` in place of its own, which they are a part of.
    fn rebuilt(
        &self,
        batch: &RecordBatch,
        records: &[Record],
        set_horizon: bool,
    ) -> Result<RecordBatch, BatchError> {
        let header = &batch.header;
        let attributes = header.attributes;
        let compression = attributes.compression()?;
        let mut builder = BatchBuilder::new(header.base_offset, compression, None)
            .producer(
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
            )
            .leader_epoch(header.leader_epoch)
            .timestamp_type(attributes.timestamp_type());
        if attributes.is_transactional() {
            builder = builder.transactional();
        }
        if attributes.is_control() {
            builder = builder.control();
        }
        let horizon = match set_horizon {
            true => Some(self.new_horizon),
            false => horizon_of(header),
        };
        if let Some(horizon) = horizon {
            builder = builder.delete_horizon(horizon);
        }
        for record in records {
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.push_at(record.offset, record.timestamp, key, value, &record.headers);
        }
        builder.extend_to(header.last_offset());
        let rebuilt = builder.build();
        debug_assert!(
            attributes.timestamp_type() == TimestampType::CreateTime
                || rebuilt.header.max_timestamp == header.max_timestamp
        );
        Ok(rebuilt)
    }
}

/// The batch without its records: a header.
fn emptied(header: &BatchHeader) -> RecordBatch {
    let header = BatchHeader {
        attributes: header.attributes.with_compression(Compression::None),
        record_count: 0,
        ..*header
    };
    RecordBatch::seal(header, &[])
}

fn horizon_of(header: &BatchHeader) -> Option<Timestamp> {
    header
        .attributes
        .has_delete_horizon()
        .then_some(header.base_timestamp)
}

enum Marker {
    EndOfTransaction,
    /// Its record is gone.
    Empty,
    /// A control record of another kind, which compaction does not judge.
    Other,
}

/// The key of a control record: version (i16), then type (i16), 0 for abort and 1 for commit.
fn marker_of(batch: &RecordBatch) -> Result<Marker, BatchError> {
    let Some(record) = batch.records()?.next() else {
        return Ok(Marker::Empty);
    };
    Ok(match record?.key.as_deref() {
        Some([_, _, 0, 0 | 1, ..]) => Marker::EndOfTransaction,
        _ => Marker::Other,
    })
}
