//! A node's clocks, on madsim's virtual time.

use std::future::Future as _;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use klamm::env::{Clock, Timer};
use klamm::types::{Instant, Timestamp};
use madsim::time::TimeHandle;

/// Virtual time since the run began.
pub(crate) fn elapsed() -> Duration {
    TimeHandle::current().elapsed()
}

/// Clocks that begin where the node's seed says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimClock {
    /// Added to virtual time: what the monotonic clock showed when the run began.
    pub(crate) monotonic_at_start: Duration,
    /// Milliseconds since 1970 when the run began, as this node believes.
    pub(crate) wall_at_start: i64,
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        Instant(0).plus(self.monotonic_at_start + elapsed())
    }

    fn wall(&self) -> Timestamp {
        let passed = i64::try_from(elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.wall_at_start.saturating_add(passed))
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(SimTimer {
            clock: *self,
            at: None,
            woken: None,
        })
    }
}

struct SimTimer {
    clock: SimClock,
    at: Option<Instant>,
    /// Whom an entry in madsim's timers will wake at `at`: those entries cannot be taken back.
    woken: Option<Waker>,
}

impl Timer for SimTimer {
    fn reset(&mut self, at: Instant) {
        if self.at != Some(at) {
            self.at = Some(at);
            self.woken = None;
        }
    }

    fn clear(&mut self) {
        self.at = None;
        self.woken = None;
    }

    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        let now = self.clock.now();
        if now >= at {
            return Poll::Ready(());
        }
        if !self
            .woken
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            let sleep = std::pin::pin!(madsim::time::sleep(at.since(now)));
            if sleep.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            self.woken = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
