//! Time.

use std::task::{Context, Poll};

use crate::types::{Instant, Timestamp};

/// A node's clocks.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic: never goes back within one incarnation of the node, starts anywhere.
    fn now(&self) -> Instant;

    /// Wall-clock time. May step in either direction, drift, and differ between nodes: never use
    /// it to measure a span that safety depends on.
    fn wall(&self) -> Timestamp;

    /// A timer that is not set.
    fn timer(&self) -> Box<dyn Timer>;
}

/// One resettable alarm. A task that owns a machine keeps one and resets it to the machine's
/// deadline, so that idle machines cost nothing.
pub trait Timer: Send {
    /// Sets the alarm to `at`, replacing what was set. A moment in the past fires at once.
    fn reset(&mut self, at: Instant);

    /// Unsets the alarm: `poll_fired` stays pending.
    fn clear(&mut self);

    /// Ready once `now()` has reached the moment set, and on every later call until `reset` or
    /// `clear`.
    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
