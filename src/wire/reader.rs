//! A cursor over received bytes. Everything taken from it is a view of the same memory.

use bytes::{Buf, Bytes};

/// Why bytes are not the value they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{wanted} more bytes expected, {left} left")]
    Truncated { wanted: usize, left: usize },
    #[error("length {0} is not possible here")]
    BadLength(i64),
    #[error("null where a value is required")]
    UnexpectedNull,
    #[error("a string is not UTF-8")]
    BadUtf8,
    #[error("a variable-length integer runs past its width")]
    BadVarint,
    #[error("more than {0} array elements in one request")]
    TooManyElements(u32),
    #[error("arrays of elements so small that they would take many times the bytes they came in")]
    TooSmallElements,
    #[error("{0} bytes left over after the last field")]
    Trailing(usize),
    #[error("tagged field {0} does not end where its size says")]
    BadTaggedField(u32),
    #[error("{0}")]
    Invalid(&'static str),
}

/// Most array elements one request or response may hold in all. Kafka 4.4 bounds each array by
/// the same number; bounding the sum keeps a 100 MiB frame of empty elements from becoming
/// gigabytes of values.
pub const ELEMENTS_MAX: u32 = 1_000_000;

/// Memory that the elements of arrays may take, as a multiple of the bytes they come from. Real
/// requests stay below 8; empty strings and empty structs could reach 40.
const ELEMENT_MEMORY_FACTOR: usize = 16;

/// What they may take however short the frame is.
const ELEMENT_MEMORY_MIN: usize = 1 << 20;

/// A cursor over received bytes.
#[derive(Debug, Clone)]
pub struct Reader {
    rest: Bytes,
    budget: Budget,
}

/// What the arrays still to be read may hold in all.
#[derive(Debug, Clone, Copy)]
struct Budget {
    elements: u32,
    memory_bytes: usize,
}

impl Reader {
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self {
            budget: Budget {
                elements: ELEMENTS_MAX,
                memory_bytes: bytes
                    .len()
                    .saturating_mul(ELEMENT_MEMORY_FACTOR)
                    .max(ELEMENT_MEMORY_MIN),
            },
            rest: bytes,
        }
    }

    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes, as a view.
    pub fn take(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        self.need(count)?;
        Ok(self.rest.split_to(count))
    }

    /// A reader of the next `count` bytes that shares this reader's budget for arrays. Give it back
    /// with [`Reader::rejoin`].
    pub fn sub(&mut self, count: usize) -> Result<Self, DecodeError> {
        Ok(Self {
            rest: self.take(count)?,
            budget: self.budget,
        })
    }

    /// Takes over the budget that `sub` has left.
    pub fn rejoin(&mut self, sub: &Self) {
        self.budget = sub.budget;
    }

    /// Notes that an array of `count` elements follows; refuses what the remaining bytes cannot
    /// hold, at one byte an element, or what exceeds the budget.
    pub fn claim_elements(&mut self, count: usize) -> Result<(), DecodeError> {
        if count > self.remaining() {
            return Err(DecodeError::Truncated {
                wanted: count,
                left: self.remaining(),
            });
        }
        self.budget.elements = u32::try_from(count)
            .ok()
            .and_then(|count| self.budget.elements.checked_sub(count))
            .ok_or(DecodeError::TooManyElements(ELEMENTS_MAX))?;
        Ok(())
    }

    /// Like [`Reader::claim_elements`], and notes the memory the elements will take as a `Vec`.
    pub fn claim_array<T>(&mut self, count: usize) -> Result<(), DecodeError> {
        self.claim_elements(count)?;
        self.budget.memory_bytes = self
            .budget
            .memory_bytes
            .checked_sub(count.saturating_mul(size_of::<T>()))
            .ok_or(DecodeError::TooSmallElements)?;
        Ok(())
    }

    /// Fails unless everything was read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.need(1)?;
        Ok(self.rest.get_u8())
    }

    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.need(1)?;
        Ok(self.rest.get_i8())
    }

    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.need(2)?;
        Ok(self.rest.get_i16())
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.need(2)?;
        Ok(self.rest.get_u16())
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.need(4)?;
        Ok(self.rest.get_i32())
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.need(4)?;
        Ok(self.rest.get_u32())
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.need(8)?;
        Ok(self.rest.get_i64())
    }

    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.need(8)?;
        Ok(self.rest.get_f64())
    }

    /// Unsigned base-128 integer of at most 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let value = self.base128(5)?;
        u32::try_from(value).map_err(|_| DecodeError::BadVarint)
    }

    /// Zig-zag coded signed integer of at most 32 bits.
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let raw = self.unsigned_varint()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// Zig-zag coded signed integer of at most 64 bits.
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let raw = self.base128(10)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    fn base128(&mut self, bytes_max: u32) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for at in 0..bytes_max {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if at == 9 && part > 1 {
                return Err(DecodeError::BadVarint);
            }
            value |= part << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::BadVarint)
    }

    fn need(&self, count: usize) -> Result<(), DecodeError> {
        match self.rest.len() {
            left if left < count => Err(DecodeError::Truncated {
                wanted: count,
                left,
            }),
            _ => Ok(()),
        }
    }
}
