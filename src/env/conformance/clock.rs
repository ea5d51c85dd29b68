//! Promises of `Clock`, `Timer` and the time-outs built on them.

use std::future::poll_fn;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use super::soon;
use crate::env::{Elapsed, Env, Timer};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(3600);

/// Whether the timer has fired, without waiting.
async fn has_fired(timer: &mut dyn Timer) -> bool {
    poll_fn(|cx| Poll::Ready(timer.poll_fired(cx).is_ready())).await
}

async fn fired(timer: &mut dyn Timer) {
    poll_fn(|cx| timer.poll_fired(cx)).await;
}

pub(super) async fn now_never_goes_back(env: &Env, _dir: &Path) {
    let mut before = env.now();
    for _ in 0..1000 {
        let now = env.now();
        assert!(now >= before, "now went from {before:?} back to {now:?}");
        before = now;
    }
    env.sleep(SHORT).await;
    assert!(env.now() > before, "no time passed in a sleep");
}

pub(super) async fn a_sleep_is_never_short(env: &Env, _dir: &Path) {
    for micros in [1, 300, 999, 1000, 1001, 2500, 20_000] {
        let span = Duration::from_micros(micros);
        let began = env.now();
        env.sleep(span).await;
        let slept = env.now().since(began);
        assert!(slept >= span, "a sleep of {span:?} took only {slept:?}");
    }
}

pub(super) async fn a_timer_that_was_never_set_stays_pending(env: &Env, _dir: &Path) {
    let mut timer = env.clock.timer();
    let result = env.timeout(SHORT, fired(&mut *timer)).await;
    assert_eq!(result, Err(Elapsed), "an unset timer fired");
}

pub(super) async fn a_timer_set_in_the_past_fires_at_once(env: &Env, _dir: &Path) {
    env.sleep(SHORT).await;
    let now = env.now();
    let mut timer = env.clock.timer();
    timer.reset(crate::types::Instant(now.0 / 2));
    assert!(has_fired(&mut *timer).await, "the past did not fire");
    timer.reset(now);
    assert!(has_fired(&mut *timer).await, "the present did not fire");
}

pub(super) async fn a_fired_timer_stays_fired_until_it_is_reset(env: &Env, _dir: &Path) {
    let mut timer = env.clock.timer();
    timer.reset(env.now().plus(SHORT));
    soon(env, "a timer", fired(&mut *timer)).await;
    assert!(has_fired(&mut *timer).await, "fired once, then not");
    timer.reset(env.now().plus(LONG));
    assert!(!has_fired(&mut *timer).await, "fired before the new moment");
}

pub(super) async fn a_reset_brings_a_timer_forward(env: &Env, _dir: &Path) {
    let mut timer = env.clock.timer();
    timer.reset(env.now().plus(LONG));
    assert!(!has_fired(&mut *timer).await, "fired an hour early");
    timer.reset(env.now().plus(SHORT));
    soon(env, "a timer brought forward", fired(&mut *timer)).await;
}

pub(super) async fn a_reset_puts_a_timer_off(env: &Env, _dir: &Path) {
    let mut timer = env.clock.timer();
    let began = env.now();
    timer.reset(began.plus(SHORT));
    assert!(!has_fired(&mut *timer).await || env.now().since(began) >= SHORT);
    timer.reset(began.plus(SHORT * 4));
    soon(env, "a timer put off", fired(&mut *timer)).await;
    let waited = env.now().since(began);
    assert!(waited >= SHORT * 4, "fired after {waited:?}");
}

pub(super) async fn a_cleared_timer_stays_pending(env: &Env, _dir: &Path) {
    let mut timer = env.clock.timer();
    timer.reset(env.now().plus(SHORT));
    let _ = has_fired(&mut *timer).await;
    timer.clear();
    let result = env.timeout(SHORT * 3, fired(&mut *timer)).await;
    assert_eq!(result, Err(Elapsed), "a cleared timer fired");
    timer.reset(env.now().plus(SHORT));
    soon(env, "a timer set again", fired(&mut *timer)).await;
}

pub(super) async fn work_wins_a_tie_with_its_time_out(env: &Env, _dir: &Path) {
    let result = env.timeout(Duration::ZERO, async { 7 }).await;
    assert_eq!(result, Ok(7), "work that was ready lost");
}

pub(super) async fn a_time_out_ends_work_that_does_not_end(env: &Env, _dir: &Path) {
    let began = env.now();
    let result = env.timeout(SHORT, std::future::pending::<()>()).await;
    assert_eq!(result, Err(Elapsed));
    let waited = env.now().since(began);
    assert!(waited >= SHORT, "timed out after {waited:?}");
}
