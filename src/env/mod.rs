//! The door: the only way to time, network, disk, tasks and randomness.
//!
//! An [`Env`] is a cheap handle on five seams. Production builds one from tokio and the operating
//! system ([`tokio`]); the simulator builds one per node from a seed. The same code runs on both,
//! so what a seam promises here is all that code may rely on, and what it does not promise is what
//! the simulator withholds. [`conformance`] holds the promises as tests that both must pass.
//!
//! Rules for code that holds an `Env`:
//! - nothing that decides may depend on the order of a hash map, an address, a thread or the
//!   number of polls; `select!` is `biased`;
//! - a dropped future cancels nothing on [`Disk`]: an operation happens once it was called;
//! - nothing may be persisted from `Drop`.

mod clock;
pub mod conformance;
mod disk;
mod disk_stats;
mod entropy;
mod net;
mod task;
pub mod tokio;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

pub use clock::{Clock, Timer};
pub use disk::{DirEntry, Disk, File, LockGuard, OpenMode, Space};
pub use disk_stats::DiskStats;
pub use entropy::{Entropy, Rng};
pub use net::{Listener, Net, Stream, split_address};
pub use task::{Task, TaskControl, Tasks};

use crate::types::{Instant, Timestamp};

/// A boxed future: what an object-safe `async fn` returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One node's view of the world. Cloning shares it.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub net: Arc<dyn Net>,
    pub disk: Arc<dyn Disk>,
    pub tasks: Arc<dyn Tasks>,
    pub entropy: Arc<dyn Entropy>,
}

/// The time allowed has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

impl Env {
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    #[must_use]
    pub fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// Completes `span` from now, never earlier.
    pub async fn sleep(&self, span: Duration) {
        self.sleep_until(self.now().plus(span)).await;
    }

    /// Completes once `now()` has reached `at`.
    pub async fn sleep_until(&self, at: Instant) {
        let mut timer = self.clock.timer();
        timer.reset(at);
        std::future::poll_fn(|cx| timer.poll_fired(cx)).await;
    }

    /// `work`'s result, or [`Elapsed`] when `span` passes first. `work` wins a tie.
    pub async fn timeout<T>(
        &self,
        span: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut work = std::pin::pin!(work);
        let mut timer = self.clock.timer();
        timer.reset(self.now().plus(span));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(value) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            timer.poll_fired(cx).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Starts a task named `name`; it stops when the returned handle is dropped.
    #[must_use = "a dropped task is aborted; keep it or detach it"]
    pub fn spawn(
        &self,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        self.tasks.spawn(name, Box::pin(body))
    }
}
