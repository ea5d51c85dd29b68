//! The operating system's clocks, tokio's timers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant as SystemInstant, SystemTime};

use ::tokio::time::Sleep;

use crate::env::{Clock, Timer};
use crate::types::{Instant, Timestamp};

/// Moments count from when this was made.
#[derive(Clone, Copy)]
pub(super) struct SystemClock {
    began: SystemInstant,
}

impl SystemClock {
    pub(super) fn start() -> Self {
        Self {
            began: SystemInstant::now(),
        }
    }

    /// What tokio calls the moment `at`; far enough away when it cannot be expressed.
    fn deadline(&self, at: Instant) -> ::tokio::time::Instant {
        const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);
        let moment = self.began.checked_add(Duration::from_nanos(at.0));
        ::tokio::time::Instant::from_std(moment.unwrap_or_else(|| self.began + FAR))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        let nanos = self.began.elapsed().as_nanos();
        Instant(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Timestamp {
        let millis = match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)
            }
        };
        Timestamp(millis)
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(SleepTimer {
            clock: *self,
            at: None,
            sleep: None,
        })
    }
}

/// A timer whose entry in tokio's wheel is made when it is first waited for, and then moved.
struct SleepTimer {
    clock: SystemClock,
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer for SleepTimer {
    fn reset(&mut self, at: Instant) {
        if self.at == Some(at) {
            return;
        }
        self.at = Some(at);
        if let Some(sleep) = &mut self.sleep {
            sleep.as_mut().reset(self.clock.deadline(at));
        }
    }

    fn clear(&mut self) {
        self.at = None;
        self.sleep = None;
    }

    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        loop {
            // The clock decides, not the wheel: tokio counts in milliseconds.
            if self.clock.now() >= at {
                return Poll::Ready(());
            }
            let deadline = self.clock.deadline(at);
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(::tokio::time::sleep_until(deadline)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
