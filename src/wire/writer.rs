//! Output as a list of slices, so that record batches go from log to socket without a copy.

use bytes::{BufMut, Bytes, BytesMut};

/// A value that the protocol has no form for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("a string or byte field of {0} bytes is too long for its length prefix")]
    TooLong(usize),
    #[error("null in a field that cannot be null")]
    UnexpectedNull,
}

/// Byte strings from this size on are handed over as slices of their own instead of being copied.
const SHARE_BYTES_MIN: usize = 1024;

/// Collects encoded bytes. Writing never fails at once: the first error is kept and returned by
/// [`Writer::finish`].
#[derive(Debug, Default)]
pub struct Writer {
    done: Vec<Bytes>,
    done_bytes: usize,
    tail: BytesMut,
    error: Option<EncodeError>,
}

impl Writer {
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            tail: BytesMut::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.done_bytes + self.tail.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    /// Appends `bytes` by reference when they are large, by copy when they are small.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            self.tail.put_slice(bytes);
            return;
        }
        self.close_tail();
        self.done_bytes += bytes.len();
        self.done.push(bytes.clone());
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.tail.put_u8(value);
    }

    pub fn i8(&mut self, value: i8) {
        self.tail.put_i8(value);
    }

    pub fn i16(&mut self, value: i16) {
        self.tail.put_i16(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.tail.put_u16(value);
    }

    pub fn i32(&mut self, value: i32) {
        self.tail.put_i32(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.tail.put_u32(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.tail.put_i64(value);
    }

    pub fn f64(&mut self, value: f64) {
        self.tail.put_f64(value);
    }

    /// Unsigned base-128 integer.
    pub fn unsigned_varint(&mut self, value: u32) {
        self.base128(u64::from(value));
    }

    /// Zig-zag coded signed integer of 32 bits.
    pub fn varint(&mut self, value: i32) {
        let zigzag = (value << 1) ^ (value >> 31);
        self.base128(u64::from(zigzag.cast_unsigned()));
    }

    /// Zig-zag coded signed integer of 64 bits.
    pub fn varlong(&mut self, value: i64) {
        let zigzag = (value << 1) ^ (value >> 63);
        self.base128(zigzag.cast_unsigned());
    }

    /// Appends all that `other` holds.
    pub fn append(&mut self, mut other: Self) {
        if let Some(error) = other.error {
            self.fail(error);
        }
        if other.done.is_empty() {
            self.tail.put_slice(&other.tail);
            return;
        }
        self.close_tail();
        other.close_tail();
        self.done_bytes += other.done_bytes;
        self.done.append(&mut other.done);
    }

    /// What was written, in order, as slices.
    pub fn finish(mut self) -> Result<Vec<Bytes>, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.close_tail();
        Ok(self.done)
    }

    /// What was written, as one run of bytes (copies when there is more than one slice).
    pub fn finish_contiguous(self) -> Result<Bytes, EncodeError> {
        let mut slices = self.finish()?;
        if slices.len() <= 1 {
            return Ok(slices.pop().unwrap_or_default());
        }
        Ok(Bytes::from(slices.concat()))
    }

    fn base128(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.tail
                .put_u8(u8::try_from(value & 0x7f).expect("seven bits fit a byte") | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(u8::try_from(value).expect("below 0x80"));
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.done_bytes += self.tail.len();
            self.done.push(self.tail.split().freeze());
        }
    }
}
