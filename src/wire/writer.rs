//! Output as a list of slices, so that record batches go from log to socket without a copy.

use bytes::{BufMut, Bytes};

use super::later::{Later, Part};

/// A value that the protocol has no form for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("a string or byte field of {0} bytes is too long for its length prefix")]
    TooLong(usize),
    #[error("null in a field that cannot be null")]
    UnexpectedNull,
    #[error("{0} bytes are to be read as the message is sent, and it was wanted as it is")]
    Unread(usize),
}

/// Bytes of the length prefix of a frame.
pub const LENGTH_BYTES: usize = 4;

/// First allocation of a frame; enough for most headers and small bodies.
const FRAME_BYTES: usize = 256;

/// Byte strings from this size on are handed over as slices of their own instead of being copied.
const SHARE_BYTES_MIN: usize = 1024;

/// Collects encoded bytes; [`Writer::framed`] puts their length in front. Writing never fails at
/// once: the first error is kept and returned by [`Writer::finish`].
///
/// Everything copied lies in one growing buffer, cut into slices only at the end, so that a
/// response of many partitions costs a handful of allocations.
#[derive(Debug, Default)]
pub struct Writer {
    copied: Vec<u8>,
    /// Parts handed over, each with the length that `copied` had then.
    shared: Vec<(usize, Part)>,
    shared_bytes: usize,
    framed: bool,
    error: Option<EncodeError>,
}

impl Writer {
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            copied: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// A writer whose output begins with its length (without the prefix itself) as 4 bytes.
    #[must_use]
    pub fn framed() -> Self {
        let mut framed = Self::with_capacity(FRAME_BYTES);
        framed.framed = true;
        framed.i32(0);
        framed
    }

    /// Bytes written so far, a length prefix included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.copied.len() + self.shared_bytes
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
            self.copied.put_slice(bytes);
            return;
        }
        self.shared_bytes += bytes.len();
        let part = Part::Bytes(bytes.clone());
        self.shared.push((self.copied.len(), part));
    }

    /// Appends what is yet to come.
    pub fn put_later(&mut self, later: &Later) {
        self.shared_bytes += later.len();
        let part = Part::Later(later.clone());
        self.shared.push((self.copied.len(), part));
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.copied.put_slice(bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.copied.put_u8(value);
    }

    pub fn i8(&mut self, value: i8) {
        self.copied.put_i8(value);
    }

    pub fn i16(&mut self, value: i16) {
        self.copied.put_i16(value);
    }

    pub fn u16(&mut self, value: u16) {
        self.copied.put_u16(value);
    }

    pub fn i32(&mut self, value: i32) {
        self.copied.put_i32(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.copied.put_u32(value);
    }

    pub fn i64(&mut self, value: i64) {
        self.copied.put_i64(value);
    }

    pub fn f64(&mut self, value: f64) {
        self.copied.put_f64(value);
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
    pub fn append(&mut self, other: Self) {
        debug_assert!(!other.framed, "a frame is not a part of another");
        if let Some(error) = other.error {
            self.fail(error);
        }
        let before = self.copied.len();
        self.copied.put_slice(&other.copied);
        self.shared_bytes += other.shared_bytes;
        let shared = other.shared.into_iter();
        self.shared
            .extend(shared.map(|(at, part)| (before + at, part)));
    }

    /// What was written, in order, as slices: nothing of it may be yet to come.
    pub fn finish(self) -> Result<Vec<Bytes>, EncodeError> {
        let parts = self.finish_parts()?.into_iter();
        let slices = parts.map(|part| match part {
            Part::Bytes(bytes) => Ok(bytes),
            Part::Later(later) => Err(EncodeError::Unread(later.len())),
        });
        slices.collect()
    }

    /// What was written, in order.
    pub fn finish_parts(mut self) -> Result<Vec<Part>, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if self.framed {
            let body = self.len() - LENGTH_BYTES;
            let length = i32::try_from(body).map_err(|_| EncodeError::TooLong(body))?;
            self.copied[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        }
        let copied = Bytes::from(self.copied);
        let mut parts = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut from = 0;
        for (at, part) in self.shared {
            if at > from {
                parts.push(Part::Bytes(copied.slice(from..at)));
                from = at;
            }
            parts.push(part);
        }
        if copied.len() > from {
            parts.push(Part::Bytes(copied.slice(from..)));
        }
        Ok(parts)
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
            self.copied
                .put_u8(u8::try_from(value & 0x7f).expect("seven bits fit a byte") | 0x80);
            value >>= 7;
        }
        self.copied.put_u8(u8::try_from(value).expect("below 0x80"));
    }
}
