//! Wakes one task at moments of virtual time that can be added cheaply.
//!
//! madsim's timers cannot be taken back, so whatever waits is kept by its owner, in order, and
//! only the earliest moment has an entry there. **Invariant**: an entry exists at or before every
//! moment set that has not come; what is set twice has one.

use std::collections::BTreeSet;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use madsim::time::TimeHandle;

pub(crate) struct Alarm {
    time: TimeHandle,
    listener: Option<Waker>,
    /// Moments that have an entry among madsim's timers.
    entries: BTreeSet<Duration>,
}

impl Alarm {
    /// To be made inside a run.
    pub(crate) fn new() -> Self {
        Self {
            time: TimeHandle::current(),
            listener: None,
            entries: BTreeSet::new(),
        }
    }

    /// Virtual time since the run began.
    pub(crate) fn now(&self) -> Duration {
        self.time.elapsed()
    }

    /// Whom to wake from now on. It has to look for itself what is due, and to set the next moment.
    pub(crate) fn listen(&mut self, waker: &Waker) {
        if self
            .listener
            .as_ref()
            .is_none_or(|known| !known.will_wake(waker))
        {
            self.listener = Some(waker.clone());
        }
        let now = self.now();
        while self.entries.first().is_some_and(|entry| *entry <= now) {
            self.entries.pop_first();
        }
    }

    /// Wakes the listener at `at` or before.
    pub(crate) fn set(&mut self, at: Duration) {
        // Without a listener there is nothing to do: it sets its first moment itself.
        let Some(listener) = &self.listener else {
            return;
        };
        if self.entries.first().is_some_and(|entry| *entry <= at) {
            return;
        }
        let now = self.time.elapsed();
        let Some(span) = at.checked_sub(now).filter(|span| !span.is_zero()) else {
            listener.wake_by_ref();
            return;
        };
        // Made for now and then put off: madsim rounds what is made for later up to a millisecond.
        let mut sleep = self.time.sleep(Duration::ZERO);
        Pin::new(&mut sleep).reset(self.time.now_instant() + span);
        match Pin::new(&mut sleep).poll(&mut Context::from_waker(listener)) {
            std::task::Poll::Ready(()) => listener.wake_by_ref(),
            std::task::Poll::Pending => {
                self.entries.insert(at);
            }
        }
    }

    /// Wakes the listener as soon as it can run.
    pub(crate) fn ring(&self) {
        if let Some(listener) = &self.listener {
            listener.wake_by_ref();
        }
    }
}
