//! Random streams as functions of the seed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use klamm::env::{Entropy, Rng};

/// One node's streams. It outlives the node's restarts, so that none is given twice.
#[derive(Debug)]
pub(crate) struct SimEntropy {
    root: [u8; 32],
    given: Mutex<BTreeMap<&'static str, u64>>,
}

impl SimEntropy {
    pub(crate) fn new(root: [u8; 32]) -> Self {
        Self {
            root,
            given: Mutex::default(),
        }
    }
}

impl Entropy for SimEntropy {
    fn stream(&self, purpose: &'static str) -> Rng {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let count = given.entry(purpose).or_default();
        let stream = Rng::derived(self.root, purpose, *count);
        *count += 1;
        stream
    }
}
