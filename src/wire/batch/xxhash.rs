//! The 32-bit xxHash with seed 0, which LZ4 frames use as their checksum
//! (<https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md>).

const PRIME_1: u32 = 0x9E37_79B1;
const PRIME_2: u32 = 0x85EB_CA77;
const PRIME_3: u32 = 0xC2B2_AE3D;
const PRIME_4: u32 = 0x27D4_EB2F;
const PRIME_5: u32 = 0x1656_67B1;

const STRIPE_BYTES: usize = 16;

/// Hash of `bytes`.
pub(super) fn xxhash32(bytes: &[u8]) -> u32 {
    let mut hash = XxHash32::default();
    hash.update(bytes);
    hash.finish()
}

/// The hash of bytes that come in pieces.
#[derive(Clone, Debug)]
pub(super) struct XxHash32 {
    lanes: [u32; 4],
    pending: [u8; STRIPE_BYTES],
    pending_bytes: usize,
    total_bytes: u64,
}

impl Default for XxHash32 {
    fn default() -> Self {
        Self {
            lanes: [
                PRIME_1.wrapping_add(PRIME_2),
                PRIME_2,
                0,
                0_u32.wrapping_sub(PRIME_1),
            ],
            pending: [0; STRIPE_BYTES],
            pending_bytes: 0,
            total_bytes: 0,
        }
    }
}

impl XxHash32 {
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        self.total_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.pending_bytes > 0 {
            let part = bytes.len().min(STRIPE_BYTES - self.pending_bytes);
            let (now, rest) = bytes.split_at(part);
            self.pending[self.pending_bytes..self.pending_bytes + part].copy_from_slice(now);
            self.pending_bytes += part;
            bytes = rest;
            if self.pending_bytes < STRIPE_BYTES {
                return;
            }
            let stripe = self.pending;
            self.stripe(&stripe);
            self.pending_bytes = 0;
        }
        while let Some((stripe, rest)) = bytes.split_first_chunk::<STRIPE_BYTES>() {
            self.stripe(stripe);
            bytes = rest;
        }
        self.pending[..bytes.len()].copy_from_slice(bytes);
        self.pending_bytes = bytes.len();
    }

    pub(super) fn finish(&self) -> u32 {
        let [a, b, c, d] = self.lanes;
        let mut hash = if self.total_bytes >= 16 {
            a.rotate_left(1)
                .wrapping_add(b.rotate_left(7))
                .wrapping_add(c.rotate_left(12))
                .wrapping_add(d.rotate_left(18))
        } else {
            PRIME_5
        };
        let low_bits = u32::try_from(self.total_bytes & u64::from(u32::MAX)).unwrap_or(0);
        hash = hash.wrapping_add(low_bits);
        let (words, bytes) = self.pending[..self.pending_bytes].as_chunks::<4>();
        for word in words {
            hash = hash
                .wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_3))
                .rotate_left(17)
                .wrapping_mul(PRIME_4);
        }
        for byte in bytes {
            hash = hash
                .wrapping_add(u32::from(*byte).wrapping_mul(PRIME_5))
                .rotate_left(11)
                .wrapping_mul(PRIME_1);
        }
        hash = (hash ^ (hash >> 15)).wrapping_mul(PRIME_2);
        hash = (hash ^ (hash >> 13)).wrapping_mul(PRIME_3);
        hash ^ (hash >> 16)
    }

    fn stripe(&mut self, stripe: &[u8; STRIPE_BYTES]) {
        let (words, _) = stripe.as_chunks::<4>();
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            *lane = lane
                .wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_2))
                .rotate_left(13)
                .wrapping_mul(PRIME_1);
        }
    }
}
