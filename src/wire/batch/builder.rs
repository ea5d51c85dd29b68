//! Building batches: a producer's records, or what compaction leaves of a batch.

use bytes::Bytes;

use super::compress;
use super::header::{
    Attributes, BatchHeader, Compression, HEADER_BYTES, RecordBatch, TimestampType,
};
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::wire::primitive::Str;

/// Collects records in their wire form and seals them into a batch.
///
/// Offsets strictly grow from the base offset, by one unless [`BatchBuilder::push_at`] leaves a
/// gap. Callers bound the batch by [`BatchBuilder::estimated_bytes`]; a batch never comes near
/// 2 GiB.
#[derive(Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Compression,
    level: Option<i32>,
    delete_horizon: Option<Timestamp>,
    /// Room for the header, then records, so that an uncompressed batch is built in place.
    bytes: Vec<u8>,
    next_offset: Offset,
}

impl BatchBuilder {
    /// `level` is the codec's own scale and is clamped to it; `None` is the codec's default.
    #[must_use]
    pub fn new(base_offset: Offset, compression: Compression, level: Option<i32>) -> Self {
        Self {
            header: BatchHeader {
                base_offset,
                batch_length: 0,
                leader_epoch: LeaderEpoch::NONE,
                crc: 0,
                attributes: Attributes::default(),
                last_offset_delta: 0,
                base_timestamp: Timestamp::NONE,
                max_timestamp: Timestamp::NONE,
                producer_id: ProducerId::NONE,
                producer_epoch: ProducerEpoch::NONE,
                base_sequence: Sequence(-1),
                record_count: 0,
            },
            compression,
            level,
            delete_horizon: None,
            bytes: vec![0; HEADER_BYTES],
            next_offset: base_offset,
        }
    }

    /// The idempotent producer the records come from and the sequence of the first of them.
    #[must_use]
    pub fn producer(
        mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        base_sequence: Sequence,
    ) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    #[must_use]
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.header.leader_epoch = epoch;
        self
    }

    #[must_use]
    pub fn timestamp_type(mut self, kind: TimestampType) -> Self {
        self.header.attributes = self.header.attributes.with_timestamp_type(kind);
        self
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_transactional();
        self
    }

    /// Marks the records as control records, which consumers do not see.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.header.attributes = self.header.attributes.with_control();
        self
    }

    /// The time from which tombstones of the batch may go (KIP-534). Set before the first record.
    #[must_use]
    pub fn delete_horizon(mut self, horizon: Timestamp) -> Self {
        debug_assert!(self.is_empty(), "timestamps are stored relative to it");
        self.header.attributes = self.header.attributes.with_delete_horizon();
        self.header.base_timestamp = horizon;
        self.delete_horizon = Some(horizon);
        self
    }

    /// Appends a record at the next offset.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(Str, Option<Bytes>)],
    ) {
        self.push_at(self.next_offset, timestamp, key, value, headers);
    }

    /// Appends a record at `offset`.
    ///
    /// # Panics
    /// If the offset is below the next one, or 2^31 or more past the base offset.
    pub fn push_at(
        &mut self,
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(Str, Option<Bytes>)],
    ) {
        assert!(offset >= self.next_offset, "offsets of a batch grow");
        let delta = i32::try_from(offset.since(self.header.base_offset))
            .expect("a batch spans less than 2^31 offsets");
        if self.is_empty() && self.delete_horizon.is_none() {
            self.header.base_timestamp = timestamp;
        }
        if self.is_empty() || timestamp > self.header.max_timestamp {
            self.header.max_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.0.wrapping_sub(self.header.base_timestamp.0);
        let length = 1
            + zigzag_bytes(timestamp_delta)
            + zigzag_bytes(i64::from(delta))
            + nullable_bytes(key)
            + nullable_bytes(value)
            + zigzag_bytes(signed(headers.len()))
            + headers
                .iter()
                .map(|(key, value)| {
                    nullable_bytes(Some(key.as_bytes())) + nullable_bytes(value.as_deref())
                })
                .sum::<usize>();
        let to = &mut self.bytes;
        put_zigzag(to, signed(length));
        to.push(0); // attributes, none defined
        put_zigzag(to, timestamp_delta);
        put_zigzag(to, i64::from(delta));
        put_nullable(to, key);
        put_nullable(to, value);
        put_zigzag(to, signed(headers.len()));
        for (key, value) in headers {
            put_nullable(to, Some(key.as_bytes()));
            put_nullable(to, value.as_deref());
        }
        self.header.record_count += 1;
        self.header.last_offset_delta = delta;
        self.next_offset = offset.next();
    }

    /// Makes the batch span up to `last_offset` although its last record comes earlier (as after
    /// compaction, which keeps the span of a batch and with it the producer's last sequence).
    ///
    /// # Panics
    /// If a record beyond it was pushed, or it lies 2^31 or more past the base offset.
    pub fn extend_to(&mut self, last_offset: Offset) {
        assert!(
            last_offset.next() >= self.next_offset,
            "records lie within the batch"
        );
        self.header.last_offset_delta = i32::try_from(last_offset.since(self.header.base_offset))
            .expect("a batch spans less than 2^31 offsets");
        self.next_offset = last_offset.next();
    }

    /// Records pushed.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.header.record_count).unwrap_or(0)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Bytes of the batch if it were built now without compression.
    #[must_use]
    pub fn estimated_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Compresses and seals. Should the codec fail, the records stay uncompressed: a batch says
    /// by itself how it is coded.
    #[must_use]
    pub fn build(self) -> RecordBatch {
        let Self {
            mut header,
            compression,
            level,
            bytes,
            ..
        } = self;
        if compression == Compression::None {
            return RecordBatch::seal_in_place(header, bytes);
        }
        let mut compressed = Vec::with_capacity(bytes.len() / 2 + HEADER_BYTES);
        compressed.resize(HEADER_BYTES, 0);
        let records = &bytes[HEADER_BYTES..];
        match compress::compress(compression, level, records, &mut compressed) {
            Ok(()) => {
                header.attributes = header.attributes.with_compression(compression);
                RecordBatch::seal_in_place(header, compressed)
            }
            Err(_) => RecordBatch::seal_in_place(header, bytes),
        }
    }
}

fn signed(length: usize) -> i64 {
    i64::try_from(length).expect("lengths in memory fit i64")
}

fn nullable_bytes(value: Option<&[u8]>) -> usize {
    match value {
        None => 1,
        Some(value) => zigzag_bytes(signed(value.len())) + value.len(),
    }
}

fn put_nullable(to: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_zigzag(to, -1),
        Some(value) => {
            put_zigzag(to, signed(value.len()));
            to.extend_from_slice(value);
        }
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Bytes that [`put_zigzag`] appends for `value`.
fn zigzag_bytes(value: i64) -> usize {
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).expect("at most ten")
}

/// Appends a zig-zag coded number. Numbers within 32 bits look the same at either width.
fn put_zigzag(to: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        to.push(u8::try_from(rest & 0x7f).expect("seven bits fit a byte") | 0x80);
        rest >>= 7;
    }
    to.push(u8::try_from(rest).expect("below 0x80"));
}
