//! Tasks on a madsim node: they end when the node is killed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use klamm::env::{BoxFuture, Task, TaskControl, Tasks};
use madsim::runtime::NodeHandle;
use madsim::task::JoinHandle;

use crate::world::Life;

pub(crate) struct SimTasks {
    pub(crate) node: NodeHandle,
    pub(crate) life: Arc<Life>,
}

impl Tasks for SimTasks {
    fn spawn(&self, name: &'static str, body: BoxFuture<'static, ()>) -> Task {
        self.life.event(format_args!("spawn {name}"));
        Task::new(Box::new(Control {
            handle: Mutex::new(self.node.spawn(body)),
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
