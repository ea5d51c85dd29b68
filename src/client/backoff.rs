//! How long to wait before trying again.

use std::time::Duration;

/// Doubling pauses between a shortest and a longest, each moved by up to a fifth either way so
/// that clients which failed together do not return together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// The pause after failure number `failures` (from 1). `random` is any number, evenly drawn.
    #[must_use]
    pub fn pause(self, failures: u32, random: u64) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let plain = self.first.saturating_mul(1 << doublings).min(self.longest);
        let parts_of_thousand = 800 + u32::try_from(random % 401).expect("at most 400");
        (plain.saturating_mul(parts_of_thousand) / 1000).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary_by_a_fifth() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_millis(1000),
        };
        assert_eq!(backoff.pause(1, 0), Duration::from_millis(80));
        assert_eq!(backoff.pause(1, 400), Duration::from_millis(120));
        assert_eq!(backoff.pause(3, 200), Duration::from_millis(400));
        assert_eq!(backoff.pause(u32::MAX, 400), Duration::from_millis(1000));
    }
}
