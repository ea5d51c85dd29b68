//! Randomness: a separate stream for each purpose, so that one part's draws never shift another's.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// Where random streams come from.
pub trait Entropy: Send + Sync + 'static {
    /// A stream for `purpose`. Two calls with the same purpose give different streams; under
    /// simulation each is a function of the seed, the node, the purpose and the count of calls.
    fn stream(&self, purpose: &'static str) -> Rng;
}

/// A stream of random numbers (ChaCha8).
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// Stream number `count` for `purpose` out of `root`: the same for the same three, unrelated
    /// for any others.
    #[must_use]
    pub fn derived(root: [u8; 32], purpose: &str, count: u64) -> Self {
        // FNV-1a: purposes are a handful of names in the source, which it tells apart.
        let name = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let mut named = ChaCha8Rng::from_seed(root);
        named.set_stream(name);
        let mut counted = ChaCha8Rng::from_seed(Self(named).bytes());
        counted.set_stream(count);
        Self::from_seed(Self(counted).bytes())
    }

    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Evenly one of `0..bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the high half of a product fits 64 bits")
    }
}
