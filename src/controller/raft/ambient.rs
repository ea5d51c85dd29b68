//! The environment that the consensus library's code is running in.
//!
//! The library reaches time, tasks and randomness through functions of a type, not through a
//! value, while many nodes may live in one thread of a simulation. So every future of the library
//! is wrapped: while it is polled or dropped, and at no other time, this thread's environment is
//! that of its node. A task that it starts inherits the environment of the one that starts it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::env::Env;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Env>>> = const { RefCell::new(None) };
}

/// The environment of the node whose code runs.
pub(super) fn current() -> Arc<Env> {
    CURRENT
        .with_borrow(Clone::clone)
        .expect("every future of the consensus library is wrapped in `within`")
}

/// Puts `env` in place of this thread's, and gives that. A thread that is ending, and drops its
/// tasks, has none any more, nor does what it drops need one.
fn replace(env: Option<Arc<Env>>) -> Option<Arc<Env>> {
    let replaced = CURRENT.try_with(|current| current.replace(env));
    replaced.unwrap_or_default()
}

/// Puts the environment before back when dropped, also by a panic.
struct Entered(Option<Arc<Env>>);

impl Drop for Entered {
    fn drop(&mut self) {
        replace(self.0.take());
    }
}

fn enter(env: &Arc<Env>) -> Entered {
    Entered(replace(Some(env.clone())))
}

/// `body`'s result, computed in `env`.
pub(super) fn call<T>(env: &Arc<Env>, body: impl FnOnce() -> T) -> T {
    let _entered = enter(env);
    body()
}

/// A future that runs in an environment.
pub(super) struct Within<F> {
    env: Arc<Env>,
    future: Option<Pin<Box<F>>>,
}

/// `future`, polled and dropped in `env`.
pub(super) fn within<F: Future>(env: &Arc<Env>, future: F) -> Within<F> {
    Within {
        env: env.clone(),
        future: Some(Box::pin(future)),
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = enter(&this.env);
        let future = this.future.as_mut();
        future.expect("only dropping takes it").as_mut().poll(cx)
    }
}

impl<F> Drop for Within<F> {
    fn drop(&mut self) {
        let _entered = enter(&self.env);
        self.future = None;
    }
}
