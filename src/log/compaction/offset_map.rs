//! The highest offset of every key in the dirty part of a log.

use std::collections::{BTreeMap, HashMap};

use super::AbortedTransaction;
use crate::types::{Offset, ProducerId};
use crate::wire::batch::{BatchError, BatchHeader, RecordBatch};

/// What an entry takes besides its key: pointer, length, offset, the table's own byte and load
/// factor, and the allocator's share.
const ENTRY_BYTES: usize = 64;

/// Key to highest offset. Keys are kept whole: with a hash in their place, two keys that collide
/// (by chance or by an adversary's choice) would cost one of them its last record.
#[derive(Debug)]
pub struct OffsetMap {
    offsets: HashMap<Box<[u8]>, Offset>,
    bytes: usize,
    bytes_max: usize,
    aborted: AbortedSpans,
}

impl OffsetMap {
    /// An empty map that is full once its entries take `bytes_max`. Records of the aborted
    /// transactions are not entered.
    #[must_use]
    pub fn new(bytes_max: usize, aborted: &[AbortedTransaction]) -> Self {
        Self {
            offsets: HashMap::new(),
            bytes: 0,
            bytes_max,
            aborted: AbortedSpans::new(aborted),
        }
    }

    /// Whether no further batch should be added. Never at first, so that every round takes at
    /// least one batch and the dirty part shrinks.
    #[must_use]
    pub fn is_full(&self) -> bool {
        !self.offsets.is_empty() && self.bytes >= self.bytes_max
    }

    /// Notes the keys of `batch`, whole: the map may pass its bound by one batch's keys. Batches
    /// come in ascending order. Control records have no keys in this sense.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), BatchError> {
        let header = &batch.header;
        if header.attributes.is_control() || self.aborted.covers(header) {
            return Ok(());
        }
        for record in batch.records()? {
            let record = record?;
            let Some(key) = &record.key else { continue };
            if let Some(offset) = self.offsets.get_mut(&key[..]) {
                *offset = record.offset;
                continue;
            }
            self.bytes += key.len() + ENTRY_BYTES;
            self.offsets.insert(Box::from(key.as_ref()), record.offset);
        }
        Ok(())
    }

    /// The highest offset noted for `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        self.offsets.get(key).copied()
    }

    pub(super) fn aborted(&self) -> &AbortedSpans {
        &self.aborted
    }
}

/// Aborted transactions by producer.
#[derive(Debug, Default)]
pub(super) struct AbortedSpans {
    /// First and last offsets, in any order: a producer has few.
    spans: BTreeMap<ProducerId, Vec<(Offset, Offset)>>,
}

impl AbortedSpans {
    fn new(aborted: &[AbortedTransaction]) -> Self {
        let mut spans = BTreeMap::<_, Vec<_>>::new();
        for transaction in aborted {
            spans
                .entry(transaction.producer_id)
                .or_default()
                .push((transaction.first_offset, transaction.last_offset));
        }
        Self { spans }
    }

    /// Whether the batch is data of an aborted transaction.
    pub(super) fn covers(&self, header: &BatchHeader) -> bool {
        header.attributes.is_transactional()
            && self.spans.get(&header.producer_id).is_some_and(|spans| {
                spans
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&header.base_offset))
            })
    }
}
