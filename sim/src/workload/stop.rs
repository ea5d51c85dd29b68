//! How drivers learn that they are to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Set once, seen by all clones.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_set: AtomicBool,
    changed: Notify,
}

impl Stop {
    pub fn set(&self) {
        self.0.is_set.store(true, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::SeqCst)
    }

    /// Completes once it is set.
    pub async fn wait(&self) {
        let mut changed = std::pin::pin!(self.0.changed.notified());
        changed.as_mut().enable();
        if !self.is_set() {
            changed.await;
        }
    }
}
