//! Record batches, version 2 (magic 2): the unit that travels, is checked, and is stored.
//!
//! A batch is a 61-byte header and its records, compressed as one block or not. The CRC-32C covers
//! everything from the attributes on, so the two fields a broker assigns (base offset and leader
//! epoch) can be set without touching it; see [`RecordBatch::placed`].

mod builder;
mod compress;
mod header;
mod lz4;
mod record;
#[cfg(test)]
mod tests;
mod xxhash;

pub use builder::BatchBuilder;
pub use header::{
    Attributes, BatchCheck, BatchError, BatchHeader, Compression, HEADER_BYTES, LOG_OVERHEAD_BYTES,
    RecordBatch, TimestampType, UNCOMPRESSED_MAX,
};
pub use record::{CheckedRecords, Record, RecordIter};
