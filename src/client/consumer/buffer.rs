//! What was fetched of one partition and not handed out yet, pure.
//!
//! Promises: records come out in offset order, each once, none below the position asked for;
//! every batch's CRC is checked; control batches never come out; for readers of committed records
//! neither do records of aborted transactions. The position moves over what does not come out, so
//! that a partition which ends in markers or compacted records still reaches its end.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::record::ConsumerRecord;
use crate::types::{LeaderEpoch, Offset, ProducerId, TopicPartition};
use crate::wire::batch::{BatchError, BatchHeader, Record, RecordBatch, RecordIter};

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;

/// An aborted transaction, from its first offset up to its marker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Aborted {
    pub first_offset: Offset,
    pub producer_id: ProducerId,
}

/// Fetched bytes of a partition and how far they were handed out.
#[derive(Debug)]
pub struct PartitionBuffer {
    partition: TopicPartition,
    rest: Bytes,
    current: Option<(BatchHeader, RecordIter)>,
    position: Offset,
    /// Epoch of the last record passed.
    leader_epoch: LeaderEpoch,
    /// Transactions not begun yet at the position, by first offset, last first; `None` for
    /// readers of everything.
    aborted: Option<Vec<Aborted>>,
    aborting: BTreeSet<ProducerId>,
    /// Where the whole batches end; the position comes to it when all is handed out.
    end: Offset,
    any_whole: bool,
}

impl PartitionBuffer {
    /// `aborted` is `None` for readers of everything; its order does not matter.
    pub fn new(
        partition: TopicPartition,
        position: Offset,
        bytes: Bytes,
        aborted: Option<Vec<Aborted>>,
    ) -> Self {
        let aborted = aborted.map(|mut aborted| {
            aborted.sort_by(|a, b| b.cmp(a));
            aborted
        });
        Self {
            partition,
            end: end_of(&bytes, position),
            any_whole: false,
            rest: bytes,
            current: None,
            position,
            leader_epoch: LeaderEpoch::NONE,
            aborted,
            aborting: BTreeSet::new(),
        }
    }

    /// The offset of the next record wanted.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Whether nothing was fetched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.current.is_none()
    }

    /// Where the next fetch begins.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Epoch of the last record passed; `NONE` before the first.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The next record; `None` when the buffer is used up. After an error it is as good as used
    /// up: what is at the position cannot be read.
    pub fn next_record(&mut self) -> Result<Option<ConsumerRecord>, BatchError> {
        loop {
            let Some((header, records)) = &mut self.current else {
                match self.next_batch()? {
                    true => continue,
                    false => return Ok(None),
                }
            };
            let header = *header;
            match records.next() {
                Some(Err(error)) => return Err(error),
                Some(Ok(record)) if record.offset < self.position => {}
                Some(Ok(record)) => {
                    self.position = record.offset.next();
                    self.leader_epoch = header.leader_epoch;
                    return Ok(Some(self.handed_out(&header, record)));
                }
                None => {
                    self.current = None;
                    self.pass(&header);
                }
            }
        }
    }

    fn handed_out(&self, header: &BatchHeader, record: Record) -> ConsumerRecord {
        ConsumerRecord {
            partition: self.partition.clone(),
            offset: record.offset,
            timestamp: record.timestamp,
            timestamp_type: header.attributes.timestamp_type(),
            leader_epoch: header.leader_epoch,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }

    fn pass(&mut self, header: &BatchHeader) {
        self.position = self.position.max(header.end_offset());
        self.leader_epoch = header.leader_epoch;
    }

    /// Opens the next batch whose records come out; `false` when there is none.
    fn next_batch(&mut self) -> Result<bool, BatchError> {
        if self.rest.is_empty() {
            return Ok(false);
        }
        let batch = match RecordBatch::split_first(&mut self.rest) {
            Ok(batch) => batch,
            // Brokers cut a response at its size limit, in mid-batch, but never the first batch.
            Err(BatchError::Truncated { .. }) if self.any_whole => {
                self.rest = Bytes::new();
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        self.any_whole = true;
        let header = batch.header;
        if header.end_offset() <= self.position {
            self.note_transactions(&batch)?;
            return Ok(true);
        }
        match self.note_transactions(&batch)? {
            true => self.current = Some((header, batch.records()?)),
            false => self.pass(&header),
        }
        Ok(true)
    }

    /// Keeps track of aborted transactions; says whether the batch's records come out.
    fn note_transactions(&mut self, batch: &RecordBatch) -> Result<bool, BatchError> {
        let header = batch.header;
        if let Some(aborted) = &mut self.aborted {
            while let Some(next) = aborted
                .last()
                .filter(|a| a.first_offset <= header.last_offset())
            {
                self.aborting.insert(next.producer_id);
                aborted.pop();
            }
        }
        if header.attributes.is_control() {
            if self.aborted.is_some() && is_abort_marker(batch)? {
                self.aborting.remove(&header.producer_id);
            }
            return Ok(false);
        }
        let dropped =
            header.attributes.is_transactional() && self.aborting.contains(&header.producer_id);
        Ok(!dropped)
    }
}

/// The end of the last whole batch of `bytes` by its header, which nothing has checked yet; at
/// least `position`.
fn end_of(bytes: &[u8], position: Offset) -> Offset {
    let (mut rest, mut end) = (bytes, position);
    while let Ok(header) = BatchHeader::parse(rest) {
        match rest.get(header.total_bytes()..) {
            Some(after) => rest = after,
            None => break,
        }
        end = end.max(header.end_offset());
    }
    end
}

/// Whether a control batch ends a transaction by abort: the key's type, after its version, is 0.
fn is_abort_marker(batch: &RecordBatch) -> Result<bool, BatchError> {
    let first = batch.records()?.next().transpose()?;
    let key = first.and_then(|record| record.key).unwrap_or_default();
    Ok(key.len() >= 4 && key[2..4] == [0, 0])
}
