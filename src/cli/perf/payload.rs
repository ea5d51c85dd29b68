//! Values of test records: random capital letters, which compress as little as text does.

use bytes::{Bytes, BytesMut};

use crate::env::Rng;

/// Bytes beyond one value that values are cut from.
const SPARE_BYTES: usize = 64 << 10;

/// A source of values of one size that costs no copying.
pub struct Payload {
    letters: Bytes,
    size: usize,
    next: usize,
}

impl Payload {
    #[must_use]
    pub fn new(size: usize, random: &mut Rng) -> Self {
        let mut letters = BytesMut::with_capacity(size + SPARE_BYTES);
        while letters.len() < size + SPARE_BYTES {
            let bytes: [u8; 64] = random.bytes();
            letters.extend(bytes.iter().map(|byte| b'A' + byte % 26));
        }
        Self {
            letters: letters.freeze(),
            size,
            next: 0,
        }
    }

    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// A view of the letters that begins somewhere else every time.
    pub fn value(&mut self) -> Bytes {
        self.next = (self.next + 997) % SPARE_BYTES;
        self.letters.slice(self.next..self.next + self.size)
    }

    /// A value that begins with `head`, which must not be longer than the size.
    pub fn marked(&mut self, head: &[u8]) -> Bytes {
        let mut bytes = BytesMut::from(&self.value()[..]);
        bytes[..head.len()].copy_from_slice(head);
        bytes.freeze()
    }
}
