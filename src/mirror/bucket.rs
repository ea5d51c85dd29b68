//! A bound on bytes per second, which may be overdrawn by one answer and is then paid back.

use std::time::Duration;

use crate::types::Instant;

/// Most that may be saved up, in time.
const SAVED: Duration = Duration::from_secs(1);

/// What may be fetched now. Bytes are taken after the fact, as nobody knows before how many an
/// answer has.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    bytes_per_second: u64,
    /// Below zero: overdrawn.
    bytes: i128,
    at: Instant,
}

impl TokenBucket {
    #[must_use]
    pub fn new(bytes_per_second: u64, now: Instant) -> Self {
        let bytes_per_second = bytes_per_second.max(1);
        Self {
            bytes_per_second,
            bytes: i128::from(bytes_per_second),
            at: now,
        }
    }

    /// What one answer may hold, so that it is paid back within a second.
    #[must_use]
    pub fn share(&self) -> u64 {
        self.bytes_per_second
    }

    fn fill(&mut self, now: Instant) {
        let nanos = now.since(self.at).as_nanos();
        let rate = i128::from(self.bytes_per_second);
        let earned = i128::try_from(nanos)
            .unwrap_or(i128::MAX)
            .saturating_mul(rate)
            / 1_000_000_000;
        if earned == 0 {
            // What is less than a byte is not lost.
            return;
        }
        let most = rate * i128::from(SAVED.as_secs());
        self.bytes = self.bytes.saturating_add(earned).min(most);
        self.at = now;
    }

    pub fn take(&mut self, bytes: u64, now: Instant) {
        self.fill(now);
        self.bytes -= i128::from(bytes);
    }

    /// How long nothing may be fetched yet; `None`: at once.
    pub fn wait(&mut self, now: Instant) -> Option<Duration> {
        self.fill(now);
        if self.bytes > 0 {
            return None;
        }
        let missing = 1 - self.bytes;
        let nanos = missing.saturating_mul(1_000_000_000) / i128::from(self.bytes_per_second);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)) + ROUNDING)
    }
}

/// So that a wait is not over a moment too early.
const ROUNDING: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fetched_keeps_to_the_rate() {
        let mut now = Instant(0);
        let mut bucket = TokenBucket::new(1000, now);
        let mut fetched = 0;
        while now < Instant(0).plus(Duration::from_secs(20)) {
            match bucket.wait(now) {
                Some(wait) => now = now.plus(wait),
                None => {
                    bucket.take(700, now);
                    fetched += 700;
                }
            }
        }
        assert!((20_000..=22_500).contains(&fetched), "{fetched}");
    }

    #[test]
    fn an_idle_time_does_not_save_up_more_than_a_second() {
        let mut bucket = TokenBucket::new(1000, Instant(0));
        let now = Instant(0).plus(Duration::from_secs(3600));
        bucket.take(1000, now);
        assert!(bucket.wait(now).is_some());
    }
}
