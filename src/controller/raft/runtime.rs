//! The consensus library's runtime: the environment of the node whose code runs.

use std::convert::Infallible;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::OptionalSend;
use openraft::async_runtime::{AsyncRuntime, Instant};
use rand_chacha::rand_core::TryRng;
use tokio::sync::oneshot;

use super::ambient;
use super::channel::{EnvMpsc, EnvMutex, EnvOneshot};
use super::watch::FifoWatch;
use crate::env::{Elapsed, Rng, Timer};
use crate::types;

/// Dispatches to [`ambient::current`].
#[derive(Debug, Clone, Copy)]
pub struct EnvRuntime;

/// A moment on the node's monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EnvInstant(types::Instant);

impl Add<Duration> for EnvInstant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.plus(span))
    }
}

impl AddAssign<Duration> for EnvInstant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for EnvInstant {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(types::Instant(self.0.0.saturating_sub(nanos)))
    }
}

impl SubAssign<Duration> for EnvInstant {
    fn sub_assign(&mut self, span: Duration) {
        *self = *self - span;
    }
}

impl Sub for EnvInstant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.since(earlier.0)
    }
}

impl Instant for EnvInstant {
    fn now() -> Self {
        Self(ambient::current().now())
    }
}

/// Ends at a moment.
pub struct Sleep(Box<dyn Timer>);

impl Sleep {
    fn until(at: EnvInstant) -> Self {
        let mut timer = ambient::current().clock.timer();
        timer.reset(at.0);
        Self(timer)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_fired(cx)
    }
}

/// A future's result, unless a moment comes first.
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        self.sleep.0.poll_fired(cx).map(|()| Err(Elapsed))
    }
}

/// A task ended without a result: its node stopped, or it panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the task ended early")]
pub struct EndedEarly;

/// The result of a task. Dropping it lets the task run on.
pub struct JoinHandle<T>(oneshot::Receiver<T>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, EndedEarly>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let received = Pin::new(&mut self.0).poll(cx);
        received.map(|result| result.map_err(|_| EndedEarly))
    }
}

/// A stream of random numbers of the node.
pub struct EnvRng(Rng);

impl TryRng for EnvRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_be_bytes(self.0.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let random: [u8; 8] = self.0.bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        Ok(())
    }
}

impl AsyncRuntime for EnvRuntime {
    type JoinError = EndedEarly;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = EnvInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = EnvRng;
    type Mpsc = EnvMpsc;
    type Watch = FifoWatch;
    type Oneshot = EnvOneshot;
    type Mutex<T: OptionalSend + 'static> = EnvMutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let env = ambient::current();
        let (done, result) = oneshot::channel();
        let body = ambient::within(&env, async move {
            // Nobody may wait for it any more.
            done.send(future.await).ok();
        });
        env.spawn("raft", body).detach();
        JoinHandle(result)
    }

    fn sleep(span: Duration) -> Sleep {
        Sleep::until(EnvInstant::now() + span)
    }

    fn sleep_until(at: EnvInstant) -> Sleep {
        Sleep::until(at)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(span: Duration, future: F) -> Timeout<F> {
        Self::timeout_at(EnvInstant::now() + span, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        at: EnvInstant,
        future: F,
    ) -> Timeout<F> {
        Timeout {
            future: Box::pin(future),
            sleep: Sleep::until(at),
        }
    }

    fn is_panic(_: &EndedEarly) -> bool {
        false
    }

    fn thread_rng() -> EnvRng {
        EnvRng(ambient::current().entropy.stream("raft"))
    }

    fn new(_: usize) -> Self {
        Self
    }

    fn block_on<F, T>(&mut self, _: F) -> T
    where
        F: Future<Output = T>,
    {
        unreachable!("only the library's own tests ask for it: tasks run in an environment")
    }
}
