//! Randomness from the operating system.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::{Mutex, PoisonError};

use crate::env::{Entropy, Rng};

/// Derives every stream from one root drawn at the start.
pub(super) struct SeededEntropy {
    root: [u8; 32],
    /// Streams given out so far, by purpose.
    given: Mutex<HashMap<&'static str, u64>>,
}

impl SeededEntropy {
    /// From `seed`, or from the operating system where there is none.
    pub(super) fn new(seed: Option<[u8; 32]>) -> io::Result<Self> {
        let root = match seed {
            Some(seed) => seed,
            None => system_seed()?,
        };
        Ok(Self {
            root,
            given: Mutex::default(),
        })
    }
}

impl Entropy for SeededEntropy {
    fn stream(&self, purpose: &'static str) -> Rng {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let count = given.entry(purpose).or_default();
        let stream = Rng::derived(self.root, purpose, *count);
        *count += 1;
        stream
    }
}

fn system_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}
