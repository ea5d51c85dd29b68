//! Tasks on a madsim node: they end when the node is killed, and their polls are counted.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use klamm::env::{BoxFuture, Task, TaskControl, Tasks};
use madsim::runtime::NodeHandle;
use madsim::task::JoinHandle;

use crate::world::Life;

pub(crate) struct SimTasks {
    pub(crate) node: NodeHandle,
    pub(crate) life: Arc<Life>,
    /// How often tasks of the node were polled: what spins shows here.
    pub(crate) polls: Arc<AtomicU64>,
}

/// Counts the polls of a task.
struct Counted {
    body: BoxFuture<'static, ()>,
    polls: Arc<AtomicU64>,
}

impl Future for Counted {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.body.as_mut().poll(cx)
    }
}

impl Tasks for SimTasks {
    fn spawn(&self, name: &'static str, body: BoxFuture<'static, ()>) -> Task {
        self.life.event(format_args!("spawn {name}"));
        let polls = Arc::clone(&self.polls);
        let counted = Counted { body, polls };
        Task::new(Box::new(Control {
            handle: Mutex::new(self.node.spawn(counted)),
        }))
    }
}

struct Control {
    /// Behind a lock only because madsim's handle is not `Sync`.
    handle: Mutex<JoinHandle<()>>,
}

impl TaskControl for Control {
    fn abort(&self) {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle.abort();
    }

    fn ended(&mut self) -> BoxFuture<'_, ()> {
        let handle = self
            .handle
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        Box::pin(async {
            // A task that was aborted has ended too.
            let _ = Pin::new(handle).await;
        })
    }

    fn is_finished(&self) -> bool {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        handle.is_finished()
    }
}
