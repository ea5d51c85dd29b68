//! The consensus library's watched values: those who wait are woken in the order they began to.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};

use openraft::async_runtime::watch::{RecvError, SendError};
use openraft::async_runtime::{Watch, WatchReceiver, WatchSender};
use openraft::{OptionalSend, OptionalSync};

pub struct FifoWatch;

struct Watched<T> {
    value: RwLock<T>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    version: u64,
    senders: usize,
    receivers: usize,
    /// Given to the next receiver and to the next one that waits.
    next_number: u64,
    /// By when they began to wait; each receiver has one at most.
    waiting: BTreeMap<u64, Waker>,
}

impl<T> Watched<T> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(waiting: BTreeMap<u64, Waker>) {
        for waker in waiting.into_values() {
            waker.wake();
        }
    }
}

/// The value, locked.
pub struct Watching<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Watching<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

pub struct Sender<T>(Arc<Watched<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders -= 1;
        if state.senders == 0 {
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            Watched::<T>::wake(waiting);
        }
    }
}

pub struct Receiver<T> {
    watched: Arc<Watched<T>>,
    seen: u64,
    /// Its place among those who wait.
    waits_as: Option<u64>,
}

impl<T> Receiver<T> {
    fn new(watched: &Arc<Watched<T>>, seen: u64) -> Self {
        watched.state().receivers += 1;
        Self {
            watched: watched.clone(),
            seen,
            waits_as: None,
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self::new(&self.watched, self.seen)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.watched.state();
        state.receivers -= 1;
        if let Some(number) = self.waits_as {
            state.waiting.remove(&number);
        }
    }
}

impl Watch for FifoWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Watching<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(value: T) -> (Sender<T>, Receiver<T>) {
        let watched = Arc::new(Watched {
            value: RwLock::new(value),
            state: Mutex::new(State {
                senders: 1,
                ..State::default()
            }),
        });
        let receiver = Receiver::new(&watched, 0);
        (Sender(watched), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<FifoWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.state().receivers == 0 {
            return Err(SendError(value));
        }
        self.send_if_modified(|current| {
            *current = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        if !modify(&mut value) {
            return false;
        }
        let mut state = self.0.state();
        state.version += 1;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(value);
        Watched::<T>::wake(waiting);
        true
    }

    fn borrow_watched(&self) -> Watching<'_, T> {
        Watching(self.0.read())
    }

    fn subscribe(&self) -> Receiver<T> {
        let version = self.0.state().version;
        Receiver::new(&self.0, version)
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<FifoWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        std::future::poll_fn(|cx| {
            let mut state = self.watched.state();
            if state.version != self.seen {
                self.seen = state.version;
                return Poll::Ready(Ok(()));
            }
            if state.senders == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            if let Some(waker) = self.waits_as.and_then(|at| state.waiting.get_mut(&at)) {
                waker.clone_from(cx.waker());
                return Poll::Pending;
            }
            let number = state.next_number;
            state.next_number += 1;
            state.waiting.insert(number, cx.waker().clone());
            self.waits_as = Some(number);
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> Watching<'_, T> {
        Watching(self.watched.read())
    }

    fn borrow_and_update(&mut self) -> Watching<'_, T> {
        let value = self.watched.read();
        self.seen = self.watched.state().version;
        Watching(value)
    }
}
