//! Draws of a plan, a stream for each part, so that a change in one leaves the others as they were.

use klamm::env::Rng;

pub(super) struct Draw {
    root: [u8; 32],
    rng: Rng,
}

impl Draw {
    pub(super) fn new(seed: u64, scenario: &str) -> Self {
        let mut root = [0; 32];
        root[..8].copy_from_slice(&seed.to_le_bytes());
        let mut named = Rng::derived(root, scenario, 1);
        Self::with_root(named.bytes())
    }

    fn with_root(root: [u8; 32]) -> Self {
        Self {
            root,
            rng: Rng::derived(root, "plan", 0),
        }
    }

    /// Draws for one part.
    pub(super) fn part(&self, name: &str) -> Self {
        Self::with_root(Rng::derived(self.root, name, 0).bytes())
    }

    /// Draws for one of several things of a kind.
    pub(super) fn numbered(&self, name: &str, number: u64) -> Self {
        Self::with_root(Rng::derived(self.root, name, number + 1).bytes())
    }

    /// `low..=high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.rng.below(high - low + 1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    pub(super) fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        let at = usize::try_from(self.rng.below(choices.len() as u64)).unwrap_or_default();
        choices[at].clone()
    }
}
