//! A node's clocks, on madsim's virtual time.
//!
//! Both run at the node's own rate; the wall clock can be stepped as well. The monotonic clock
//! never goes back, whatever happens to the rate. A timer fires when the node's own clock has
//! reached its moment, never before.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use klamm::env::{Clock, Timer};
use klamm::types::{Instant, Timestamp};
use madsim::runtime::NodeHandle;
use madsim::time::TimeHandle;

use crate::alarm::Alarm;

/// Virtual time since the run began.
pub(crate) fn elapsed() -> Duration {
    TimeHandle::current().elapsed()
}

const MILLION: i64 = 1_000_000;
/// Clocks run at least at half the world's rate and at most at one and a half.
const PPM_MAX: i32 = 500_000;
const NANOS_IN_MILLI: i128 = 1_000_000;

/// Shared by all processes of a node, one after another, and by who disturbs it.
#[derive(Clone)]
pub(crate) struct SimClock {
    state: Arc<Mutex<State>>,
}

struct State {
    /// Virtual time at which the rate last changed, and what the clocks showed then.
    base: Duration,
    monotonic: u64,
    wall_nanos: i128,
    steps_ms: i64,
    /// Parts per million by which the clocks run fast.
    ppm: i64,
    /// Who waits for which moment of the monotonic clock.
    waiting: BTreeMap<(Instant, u64), Waker>,
    /// Tells apart those that wait for the same moment.
    next: u64,
    alarm: Alarm,
}

impl SimClock {
    /// A clock that shows `monotonic` and `wall_millis` (since 1970) now, at the world's rate.
    /// What wakes its timers runs on `devices`.
    pub(crate) fn new(devices: &NodeHandle, monotonic: Duration, wall_millis: i64) -> Self {
        let alarm = Alarm::new();
        let clock = Self {
            state: Arc::new(Mutex::new(State {
                base: alarm.now(),
                monotonic: Instant(0).plus(monotonic).0,
                wall_nanos: i128::from(wall_millis) * NANOS_IN_MILLI,
                ppm: 0,
                steps_ms: 0,
                waiting: BTreeMap::new(),
                next: 0,
                alarm,
            })),
        };
        let driven = clock.clone();
        devices.spawn(poll_fn(move |cx| driven.drive(cx)));
        clock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the wall clock by that many milliseconds at once.
    pub(crate) fn step_wall(&self, by_ms: i64) {
        let mut state = self.state();
        state.wall_nanos += i128::from(by_ms) * NANOS_IN_MILLI;
        state.steps_ms += by_ms;
    }

    /// The sum of all steps of the wall clock.
    pub(crate) fn steps_ms(&self) -> i64 {
        self.state().steps_ms
    }

    /// Both clocks run fast by `ppm` parts per million from now on; slow when negative.
    pub(crate) fn set_drift(&self, ppm: i32) {
        let mut state = self.state();
        let now = state.alarm.now();
        let passed = state.passed(now);
        state.base = now;
        state.monotonic = state.monotonic.saturating_add(passed);
        state.wall_nanos += i128::from(passed);
        state.ppm = i64::from(ppm.clamp(-PPM_MAX, PPM_MAX));
        state.arm();
    }

    /// Wakes whose moment has come.
    fn drive(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut due = Vec::new();
        let mut state = self.state();
        state.alarm.listen(cx.waker());
        let now = state.now();
        while let Some(first) = state.waiting.first_entry() {
            if first.key().0 > now {
                break;
            }
            due.push(first.remove());
        }
        state.arm();
        drop(state);
        due.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl State {
    /// Nanoseconds of this node between the last change of the rate and `at`.
    fn passed(&self, at: Duration) -> u64 {
        let world = at.saturating_sub(self.base).as_nanos();
        let rate = u128::from((MILLION + self.ppm).unsigned_abs());
        let passed = world * rate / u128::from(MILLION.unsigned_abs());
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    fn now(&self) -> Instant {
        let passed = self.passed(self.alarm.now());
        Instant(self.monotonic.saturating_add(passed))
    }

    /// The first virtual time at which the monotonic clock shows `at` or later.
    fn virtual_time(&self, at: Instant) -> Duration {
        let span = u128::from(at.0.saturating_sub(self.monotonic));
        let rate = u128::from((MILLION + self.ppm).unsigned_abs());
        let world = (span * u128::from(MILLION.unsigned_abs())).div_ceil(rate);
        self.base + Duration::from_nanos(u64::try_from(world).unwrap_or(u64::MAX))
    }

    fn arm(&mut self) {
        if let Some(((at, _), _)) = self.waiting.first_key_value() {
            let at = self.virtual_time(*at);
            self.alarm.set(at);
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.state().now()
    }

    fn wall(&self) -> Timestamp {
        let state = self.state();
        let nanos = state.wall_nanos + i128::from(state.passed(state.alarm.now()));
        Timestamp(i64::try_from(nanos.div_euclid(NANOS_IN_MILLI)).unwrap_or(i64::MAX))
    }

    fn timer(&self) -> Box<dyn Timer> {
        Box::new(SimTimer {
            clock: self.clone(),
            at: None,
            waiting: None,
        })
    }
}

struct SimTimer {
    clock: SimClock,
    at: Option<Instant>,
    /// The key under which the clock knows whom to wake.
    waiting: Option<(Instant, u64)>,
}

impl SimTimer {
    fn forget(&mut self) {
        if let Some(key) = self.waiting.take() {
            // The waker goes after the lock: it may be the last of a task.
            let _waker = self.clock.state().waiting.remove(&key);
        }
    }
}

impl Timer for SimTimer {
    fn reset(&mut self, at: Instant) {
        if self.at != Some(at) {
            self.at = Some(at);
            self.forget();
        }
    }

    fn clear(&mut self) {
        self.at = None;
        self.forget();
    }

    fn poll_fired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        let mut state = self.clock.state();
        if state.now() >= at {
            drop(state);
            self.forget();
            return Poll::Ready(());
        }
        if let Some(waker) = self.waiting.and_then(|key| state.waiting.get_mut(&key)) {
            let former = std::mem::replace(waker, cx.waker().clone());
            drop(state);
            drop(former);
            return Poll::Pending;
        }
        let key = (at, state.next);
        state.next += 1;
        state.waiting.insert(key, cx.waker().clone());
        let moment = state.virtual_time(at);
        state.alarm.set(moment);
        self.waiting = Some(key);
        Poll::Pending
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        self.forget();
    }
}
