//! The records inside a batch: walked without building values, or read one at a time as views.
//!
//! Both ways hold the records to the same rules: each takes exactly the bytes its length says,
//! offset deltas strictly grow and stay within the batch, there are as many records as the header
//! says, and nothing follows the last one. Header keys must be UTF-8.

use std::ops::Range;

use bytes::Bytes;

use super::compress;
use super::header::{BatchError, BatchHeader, RecordBatch, TimestampType, UNCOMPRESSED_MAX};
use crate::types::{Offset, Timestamp};
use crate::wire::primitive::Str;

/// One record. Keys, values and headers are views of the (decompressed) batch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    pub offset: Offset,
    /// Set by the producer, or by the broker where the batch says so.
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In the producer's order; the same key may come more than once.
    pub headers: Vec<(Str, Option<Bytes>)>,
}

/// What a walk over the records of a batch found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckedRecords {
    /// Least and largest timestamp of a record; `Timestamp::NONE` in an empty batch.
    pub min_timestamp: Timestamp,
    pub max_timestamp: Timestamp,
    /// The first record with the largest timestamp; the base offset in an empty batch.
    pub max_timestamp_offset: Offset,
    /// Bytes of all records once decompressed.
    pub uncompressed_bytes: usize,
}

impl RecordBatch {
    /// The records in order, decompressed at once and then read one by one. The iterator ends
    /// after its first error.
    pub fn records(&self) -> Result<RecordIter, BatchError> {
        let compression = self.header.attributes.compression()?;
        let records = compress::decompress(compression, &self.payload(), UNCOMPRESSED_MAX)?;
        Ok(RecordIter {
            walk: Walk::new(&self.header),
            header: self.header,
            records,
        })
    }

    /// Walks all records without building them. With `need_keys`, a record without key is an
    /// error (as on a compacted topic).
    pub fn check_records(&self, need_keys: bool) -> Result<CheckedRecords, BatchError> {
        let compression = self.header.attributes.compression()?;
        let records = compress::decompress(compression, &self.payload(), UNCOMPRESSED_MAX)?;
        let mut found = CheckedRecords {
            min_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            max_timestamp_offset: self.header.base_offset,
            uncompressed_bytes: records.len(),
        };
        let mut walk = Walk::new(&self.header);
        while let Some(span) = walk.next(&records)? {
            if need_keys && span.key.is_none() {
                return Err(BatchError::MissingKey {
                    index: walk.index - 1,
                });
            }
            let timestamp = timestamp_of(&self.header, &span);
            let first = walk.index == 1;
            if first || timestamp < found.min_timestamp {
                found.min_timestamp = timestamp;
            }
            if first || timestamp > found.max_timestamp {
                found.max_timestamp = timestamp;
                found.max_timestamp_offset = offset_of(&self.header, &span);
            }
        }
        Ok(found)
    }
}

fn offset_of(header: &BatchHeader, span: &Span) -> Offset {
    header.base_offset.plus(i64::from(span.offset_delta))
}

fn timestamp_of(header: &BatchHeader, span: &Span) -> Timestamp {
    match header.attributes.timestamp_type() {
        TimestampType::CreateTime => {
            Timestamp(header.base_timestamp.0.wrapping_add(span.timestamp_delta))
        }
        TimestampType::LogAppendTime => header.max_timestamp,
    }
}

/// Reads records one at a time; made by [`RecordBatch::records`].
#[derive(Clone, Debug)]
pub struct RecordIter {
    header: BatchHeader,
    records: Bytes,
    walk: Walk,
}

impl Iterator for RecordIter {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let span = self.walk.next(&self.records).transpose()?;
        Some(span.and_then(|span| self.record(span)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more than the count: the last item may say that bytes are left over.
        (
            0,
            Some((self.walk.count - self.walk.index).saturating_add(1)),
        )
    }
}

impl RecordIter {
    fn record(&self, span: Span) -> Result<Record, BatchError> {
        let bytes = &self.records;
        let mut headers = Vec::with_capacity(span.header_count);
        let mut cursor = Cursor {
            bytes,
            at: span.headers_at,
        };
        let index = self.walk.index - 1;
        for _ in 0..span.header_count {
            let (key, value) = cursor.header().map_err(|reason| bad(index, reason))?;
            let key = Str::from_utf8(bytes.slice(key))
                .map_err(|_| bad(index, "a header key is not UTF-8"))?;
            headers.push((key, value.map(|value| bytes.slice(value))));
        }
        Ok(Record {
            offset: offset_of(&self.header, &span),
            timestamp: timestamp_of(&self.header, &span),
            key: span.key.map(|key| bytes.slice(key)),
            value: span.value.map(|value| bytes.slice(value)),
            headers,
        })
    }
}

/// Where the parts of one record lie.
#[derive(Clone, Debug)]
struct Span {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers_at: usize,
    header_count: usize,
}

/// How far a walk over the records has come.
#[derive(Clone, Debug)]
struct Walk {
    at: usize,
    index: usize,
    count: usize,
    previous_delta: i32,
    last_delta: i32,
    over: bool,
}

impl Walk {
    fn new(header: &BatchHeader) -> Self {
        Self {
            at: 0,
            index: 0,
            count: usize::try_from(header.record_count).unwrap_or(0),
            previous_delta: -1,
            last_delta: header.last_offset_delta,
            over: false,
        }
    }

    /// The next record; `None` after the last, and after an error.
    fn next(&mut self, bytes: &[u8]) -> Result<Option<Span>, BatchError> {
        if self.over {
            return Ok(None);
        }
        if self.index == self.count {
            self.over = true;
            return match bytes.len() - self.at {
                0 => Ok(None),
                _ => Err(bad(self.index, "bytes are left over after the last record")),
            };
        }
        let read = self.read(bytes);
        self.over = read.is_err();
        let span = read.map_err(|reason| bad(self.index, reason))?;
        self.index += 1;
        Ok(Some(span))
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Span, &'static str> {
        let mut whole = Cursor { bytes, at: self.at };
        let length = whole.length()?.ok_or("its length is negative")?;
        let end = length.end;
        let mut cursor = Cursor {
            bytes: &bytes[..end],
            at: length.start,
        };
        cursor.skip(1)?; // attributes, none defined
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        if offset_delta <= self.previous_delta || offset_delta > self.last_delta {
            return Err("its offset delta does not fit the batch");
        }
        let key = cursor.nullable()?;
        let value = cursor.nullable()?;
        let header_count =
            usize::try_from(cursor.varint()?).map_err(|_| "its number of headers is negative")?;
        let headers_at = cursor.at;
        if header_count > (end - headers_at) / 2 {
            return Err("it claims more headers than it has bytes for");
        }
        for _ in 0..header_count {
            let (key, _) = cursor.header()?;
            std::str::from_utf8(&bytes[key]).map_err(|_| "a header key is not UTF-8")?;
        }
        if cursor.at != end {
            return Err("it is longer than its fields");
        }
        self.at = end;
        self.previous_delta = offset_delta;
        Ok(Span {
            timestamp_delta,
            offset_delta,
            key,
            value,
            headers_at,
            header_count,
        })
    }
}

/// Reads the variable-length numbers and byte strings of records.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

const CUT_SHORT: &str = "it is cut short";

impl Cursor<'_> {
    fn skip(&mut self, count: usize) -> Result<(), &'static str> {
        if self.bytes.len() - self.at < count {
            return Err(CUT_SHORT);
        }
        self.at += count;
        Ok(())
    }

    fn base128(&mut self, bytes_max: u32) -> Result<u64, &'static str> {
        let mut value = 0_u64;
        for place in 0..bytes_max {
            let byte = *self.bytes.get(self.at).ok_or(CUT_SHORT)?;
            self.at += 1;
            let part = u64::from(byte & 0x7f);
            if place == 9 && part > 1 {
                break;
            }
            value |= part << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a variable-length integer runs past its width")
    }

    fn varint(&mut self) -> Result<i32, &'static str> {
        let raw = u32::try_from(self.base128(5)?)
            .map_err(|_| "a variable-length integer runs past its width")?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    fn varlong(&mut self) -> Result<i64, &'static str> {
        let raw = self.base128(10)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A length and where its bytes lie, which are not skipped; `None` for -1.
    fn length(&mut self) -> Result<Option<Range<usize>>, &'static str> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| "a length is negative")?;
        if length > self.bytes.len() - self.at {
            return Err(CUT_SHORT);
        }
        Ok(Some(self.at..self.at + length))
    }

    fn nullable(&mut self) -> Result<Option<Range<usize>>, &'static str> {
        let range = self.length()?;
        if let Some(range) = &range {
            self.at = range.end;
        }
        Ok(range)
    }

    fn header(&mut self) -> Result<(Range<usize>, Option<Range<usize>>), &'static str> {
        let key = self.nullable()?.ok_or("a header has no key")?;
        let value = self.nullable()?;
        Ok((key, value))
    }
}

fn bad(index: usize, reason: &'static str) -> BatchError {
    BatchError::BadRecord { index, reason }
}
