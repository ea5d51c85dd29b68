//! Reads numbers and strings off the front of bytes that may end anywhere.

use bytes::{Buf, Bytes};

/// What is left to be read. Every method gives `None` when too little is.
pub(super) struct BytesReader(pub Bytes);

impl BytesReader {
    pub fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    pub fn i16(&mut self) -> Option<i16> {
        self.0.try_get_i16().ok()
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.0.try_get_u16().ok()
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.0.try_get_i32().ok()
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.0.try_get_u32().ok()
    }

    pub fn i64(&mut self) -> Option<i64> {
        self.0.try_get_i64().ok()
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.0.try_get_u64().ok()
    }

    pub fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    /// A number in base 128, least part first.
    pub fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// Text after its length in 16 bits; the inner `None` for a length of -1.
    pub fn text(&mut self) -> Option<Option<String>> {
        match self.i16()? {
            -1 => Some(None),
            length => {
                let bytes = self.take(usize::try_from(length).ok()?)?;
                Some(Some(String::from_utf8(bytes.to_vec()).ok()?))
            }
        }
    }

    /// Text after its length plus one in base 128; the inner `None` for 0.
    pub fn compact_text(&mut self) -> Option<Option<String>> {
        let Some(length) = self.varint()?.checked_sub(1) else {
            return Some(None);
        };
        let bytes = self.take(usize::try_from(length).ok()?)?;
        Some(Some(String::from_utf8(bytes.to_vec()).ok()?))
    }

    /// Bytes after their length in 32 bits.
    pub fn blob(&mut self) -> Option<Bytes> {
        let length = self.i32()?;
        self.take(usize::try_from(length).ok()?)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
