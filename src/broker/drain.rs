//! The signal that the broker is stopping: heard by everyone who asks, now or later.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Off until started, then on for good.
#[derive(Default)]
pub struct Drain {
    on: AtomicBool,
    started: Notify,
}

impl Drain {
    pub fn start(&self) {
        self.on.store(true, Ordering::Release);
        self.started.notify_waiters();
    }

    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Completes once the drain has started.
    pub async fn started(&self) {
        let notified = self.started.notified();
        let mut notified = std::pin::pin!(notified);
        // Enabled before the look, so that a start between the two is not missed.
        notified.as_mut().enable();
        if !self.is_on() {
            notified.await;
        }
    }
}
