//! The fixed part of a batch, and a whole batch whose checksum has been verified.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::types::{
    ErrorCode, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Bytes before and including the length field; the length counts what follows them.
pub const LOG_OVERHEAD_BYTES: usize = 12;

/// Where the bytes covered by the CRC begin: at the attributes.
const CRC_COVERS_FROM: usize = 21;

const MAGIC_AT: usize = 16;

/// The only format stored. Formats 0 and 1 ended with Kafka 4.0.
const MAGIC: i8 = 2;

/// Most bytes a batch may hold once decompressed, against compression bombs.
pub const UNCOMPRESSED_MAX: usize = 128 << 20;

/// Why bytes are not an acceptable batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("{have} bytes where a batch of {need} begins")]
    Truncated { need: usize, have: usize },
    #[error("batch length {0} is too short for a batch")]
    BadLength(i32),
    #[error("record format {0} is not supported: only format 2 (Kafka 0.11 and later) is")]
    UnsupportedMagic(i8),
    #[error("CRC-32C is {computed:08x}, the batch says {stored:08x}")]
    BadCrc { stored: u32, computed: u32 },
    #[error("batch claims {count} records up to delta {last_offset_delta}")]
    BadCount { count: i32, last_offset_delta: i32 },
    #[error("compression type {0} is not known")]
    UnknownCompression(i16),
    #[error("compressed records: {0}")]
    Decompress(String),
    #[error("records take more than {0} bytes once decompressed")]
    TooLarge(usize),
    #[error("record {index}: {reason}")]
    BadRecord { index: usize, reason: &'static str },
    #[error("record {index} has no key, which its topic requires")]
    MissingKey { index: usize },
}

impl BatchError {
    /// What a producer is told. Damage in transit is worth a retry; what the producer made that
    /// way is not.
    #[must_use]
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::Truncated { .. } | Self::BadLength(_) | Self::BadCrc { .. } => {
                ErrorCode::CorruptMessage
            }
            Self::TooLarge(_) => ErrorCode::MessageTooLarge,
            Self::UnsupportedMagic(_)
            | Self::BadCount { .. }
            | Self::UnknownCompression(_)
            | Self::Decompress(_)
            | Self::BadRecord { .. }
            | Self::MissingKey { .. } => ErrorCode::InvalidRecord,
        }
    }
}

/// How the records of a batch are compressed (attribute bits 0 to 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Who set the timestamps (attribute bit 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const TIMESTAMP_TYPE: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    pub fn compression(self) -> Result<Compression, BatchError> {
        match self.0 & 0b111 {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            other => Err(BatchError::UnknownCompression(other)),
        }
    }

    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Self {
        let bits = match compression {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        };
        Self((self.0 & !0b111) | bits)
    }

    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        match self.0 & Self::TIMESTAMP_TYPE {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    #[must_use]
    pub fn with_timestamp_type(self, kind: TimestampType) -> Self {
        match kind {
            TimestampType::CreateTime => Self(self.0 & !Self::TIMESTAMP_TYPE),
            TimestampType::LogAppendTime => Self(self.0 | Self::TIMESTAMP_TYPE),
        }
    }

    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    #[must_use]
    pub fn with_transactional(self) -> Self {
        Self(self.0 | Self::TRANSACTIONAL)
    }

    #[must_use]
    pub fn with_control(self) -> Self {
        Self(self.0 | Self::CONTROL)
    }

    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp holds the time from which tombstones may go (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    #[must_use]
    pub fn with_delete_horizon(self) -> Self {
        Self(self.0 | Self::DELETE_HORIZON)
    }
}

/// The fixed part of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after the length field; see [`BatchHeader::total_bytes`].
    pub batch_length: i32,
    pub leader_epoch: LeaderEpoch,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    /// The first record's timestamp, or the delete horizon where the attributes say so.
    pub base_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record; -1 without a producer id.
    pub base_sequence: Sequence,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header from the first 61 bytes of `bytes`. Checks length and magic, not the CRC.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > MAGIC_AT {
            // The magic byte sits at the same place in every format, so an old format is named
            // as such however short it is.
            let magic = bytes[MAGIC_AT].cast_signed();
            if magic != MAGIC {
                return Err(BatchError::UnsupportedMagic(magic));
            }
        }
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Truncated {
                need: HEADER_BYTES,
                have: bytes.len(),
            });
        }
        let header = Self {
            base_offset: Offset(bytes.get_i64()),
            batch_length: bytes.get_i32(),
            leader_epoch: LeaderEpoch(bytes.get_i32()),
            crc: {
                bytes.advance(1);
                bytes.get_u32()
            },
            attributes: Attributes(bytes.get_i16()),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: Timestamp(bytes.get_i64()),
            max_timestamp: Timestamp(bytes.get_i64()),
            producer_id: ProducerId(bytes.get_i64()),
            producer_epoch: ProducerEpoch(bytes.get_i16()),
            base_sequence: Sequence(bytes.get_i32()),
            record_count: bytes.get_i32(),
        };
        let least = i32::try_from(HEADER_BYTES - LOG_OVERHEAD_BYTES).expect("a small constant");
        if header.batch_length < least {
            return Err(BatchError::BadLength(header.batch_length));
        }
        Ok(header)
    }

    /// Appends the 61 bytes of this header.
    pub fn write(&self, to: &mut impl BufMut) {
        to.put_i64(self.base_offset.0);
        to.put_i32(self.batch_length);
        to.put_i32(self.leader_epoch.0);
        to.put_i8(MAGIC);
        to.put_u32(self.crc);
        to.put_i16(self.attributes.0);
        to.put_i32(self.last_offset_delta);
        to.put_i64(self.base_timestamp.0);
        to.put_i64(self.max_timestamp.0);
        to.put_i64(self.producer_id.0);
        to.put_i16(self.producer_epoch.0);
        to.put_i32(self.base_sequence.0);
        to.put_i32(self.record_count);
    }

    /// Bytes of the whole batch.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        usize::try_from(self.batch_length).unwrap_or(0) + LOG_OVERHEAD_BYTES
    }

    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.last_offset().next()
    }

    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        self.base_sequence.plus(self.last_offset_delta)
    }

    #[must_use]
    pub fn has_producer(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// What can be said of a whole batch of this header without a look at its records, given the
    /// CRC of what that covers.
    fn check(&self, computed: u32) -> Result<(), BatchError> {
        if computed != self.crc {
            return Err(BatchError::BadCrc {
                stored: self.crc,
                computed,
            });
        }
        let fits = self.last_offset_delta >= 0
            && i64::from(self.record_count) <= i64::from(self.last_offset_delta) + 1;
        if self.record_count < 0 || !fits {
            return Err(BatchError::BadCount {
                count: self.record_count,
                last_offset_delta: self.last_offset_delta,
            });
        }
        Ok(())
    }
}

/// The check of one batch whose bytes come in pieces: the same as that of
/// [`RecordBatch::split_first`].
#[derive(Clone, Debug)]
pub struct BatchCheck {
    header: BatchHeader,
    seen: usize,
    digest: crc_fast::Digest,
}

impl BatchCheck {
    /// Begins with a batch of this header, of which nothing was seen yet.
    #[must_use]
    pub fn begin(header: BatchHeader) -> Self {
        let digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        let seen = 0;
        Self {
            header,
            seen,
            digest,
        }
    }

    /// Takes as much of `bytes` as is the batch's, and tells how much that was. The batch is
    /// checked when its last byte comes.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, BatchError> {
        let taken = bytes.len().min(self.header.total_bytes() - self.seen);
        let uncovered = CRC_COVERS_FROM.saturating_sub(self.seen).min(taken);
        self.digest.update(&bytes[uncovered..taken]);
        self.seen += taken;
        if self.is_complete() {
            let computed = u32::try_from(self.digest.finalize()).expect("a CRC of 32 bits");
            if !crate::mutant!("long-answers-not-checked") {
                self.header.check(computed)?;
            }
        }
        Ok(taken)
    }

    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.seen == self.header.total_bytes()
    }

    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }
}

/// One whole batch whose length and CRC have been checked. Its records have not been looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordBatch {
    pub header: BatchHeader,
    bytes: Bytes,
}

/// CRC-32C, the Castagnoli polynomial. Every batch passes here when it comes and when it is read
/// from a file, so it is the fastest one; files of our own are small and have `crc32c`.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

impl RecordBatch {
    /// Splits the first batch off `from` (a view, no copy) and checks it. On error `from` is as
    /// it was.
    pub fn split_first(from: &mut Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(from)?;
        let need = header.total_bytes();
        if from.len() < need {
            return Err(BatchError::Truncated {
                need,
                have: from.len(),
            });
        }
        let bytes = from.slice(..need);
        header.check(checksum(&bytes[CRC_COVERS_FROM..]))?;
        from.advance(need);
        Ok(Self { header, bytes })
    }

    /// Finishes a batch from its header and its (compressed) records: sets length and CRC.
    #[must_use]
    pub fn seal(header: BatchHeader, records: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + records.len());
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend_from_slice(records);
        Self::seal_in_place(header, bytes)
    }

    /// Like [`RecordBatch::seal`], for records that already lie behind [`HEADER_BYTES`] of room.
    pub(super) fn seal_in_place(mut header: BatchHeader, mut bytes: Vec<u8>) -> Self {
        let length = bytes.len() - LOG_OVERHEAD_BYTES;
        header.batch_length = i32::try_from(length).expect("batches are bounded far below 2 GiB");
        header.crc = 0;
        header.write(&mut &mut bytes[..HEADER_BYTES]);
        header.crc = checksum(&bytes[CRC_COVERS_FROM..]);
        bytes[MAGIC_AT + 1..CRC_COVERS_FROM].copy_from_slice(&header.crc.to_be_bytes());
        Self {
            header,
            bytes: Bytes::from(bytes),
        }
    }

    /// The same records with the time of their arrival in the log for a timestamp (topics with
    /// `message.timestamp.type=LogAppendTime`). The CRC covers it, so the bytes are copied.
    #[must_use]
    pub fn with_log_append_time(&self, now: Timestamp) -> Self {
        let attributes = self.header.attributes;
        let header = BatchHeader {
            attributes: attributes.with_timestamp_type(TimestampType::LogAppendTime),
            max_timestamp: now,
            ..self.header
        };
        Self::seal(header, &self.bytes[HEADER_BYTES..])
    }

    /// The same batch with another largest timestamp, for producers that state a wrong one. The
    /// CRC covers it, so the bytes are copied.
    #[must_use]
    pub fn with_max_timestamp(&self, max_timestamp: Timestamp) -> Self {
        let header = BatchHeader {
            max_timestamp,
            ..self.header
        };
        Self::seal(header, &self.bytes[HEADER_BYTES..])
    }

    /// The same batch at another place of the log: base offset and leader epoch are set, the rest
    /// of the bytes is shared. The CRC covers neither field.
    #[must_use]
    pub fn placed(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> [Bytes; 2] {
        let header = BatchHeader {
            base_offset,
            leader_epoch,
            ..self.header
        };
        let mut head = BytesMut::with_capacity(HEADER_BYTES);
        header.write(&mut head);
        [head.freeze(), self.bytes.slice(HEADER_BYTES..)]
    }

    /// All bytes of the batch.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records as they are on the wire, compressed or not.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }
}
