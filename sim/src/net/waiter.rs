//! Who waits for an end of a connection, with as few of madsim's timers as will do: those cannot be
//! taken back.

use std::future::Future as _;
use std::task::{Context, Waker};
use std::time::Duration;

use super::HELD;

/// Shortest sleep that madsim knows.
const SHORTEST: Duration = Duration::from_millis(1);

/// Whom to wake once nothing is locked any more.
pub(super) type Wakes = Vec<Waker>;

/// A place for one task that waits.
#[derive(Default)]
pub(super) struct Waiter {
    waker: Option<Waker>,
    /// Whom the last timer made wakes, and when.
    timer: Option<(Duration, Waker)>,
}

impl Waiter {
    /// The task of `waker` waits from now on.
    pub(super) fn wait(&mut self, waker: &Waker, wakes: &mut Wakes) {
        let same = self.waker.as_ref().is_some_and(|old| old.will_wake(waker));
        if !same {
            // Another's is woken and not dropped: to drop the last one of a task may end it.
            wakes.extend(self.waker.replace(waker.clone()));
        }
    }

    /// The task of `waker` waits no longer.
    pub(super) fn leave(&mut self, waker: &Waker, wakes: &mut Wakes) {
        if let Some(old) = self.waker.take()
            && !old.will_wake(waker)
        {
            wakes.push(old);
        }
    }

    pub(super) fn wake(&mut self, wakes: &mut Wakes) {
        wakes.extend(self.waker.take());
    }

    /// Who waits is woken at `at` at the latest.
    pub(super) fn wake_at(&mut self, at: Duration, now: Duration, wakes: &mut Wakes) {
        let Some(waker) = &self.waker else {
            return;
        };
        if at <= now {
            return self.wake(wakes);
        }
        let at = at.max(now + SHORTEST);
        let covered = self
            .timer
            .as_ref()
            .is_some_and(|(timer, whom)| *timer > now && *timer <= at && whom.will_wake(waker));
        if at >= HELD || covered {
            return;
        }
        let sleep = std::pin::pin!(madsim::time::sleep(at - now));
        // It is a millisecond away at least, so it is never over at once.
        let _ = sleep.poll(&mut Context::from_waker(waker));
        wakes.extend(
            self.timer
                .replace((at, waker.clone()))
                .and_then(|(_, old)| {
                    let other = !old.will_wake(waker);
                    other.then_some(old)
                }),
        );
    }
}
