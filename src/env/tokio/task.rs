//! Tasks on the tokio runtime.

use ::tokio::runtime::Handle;
use ::tokio::task::JoinHandle;

use crate::env::{BoxFuture, Task, TaskControl, Tasks};

pub(super) struct RuntimeTasks {
    runtime: Handle,
}

impl RuntimeTasks {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime }
    }
}

impl Tasks for RuntimeTasks {
    fn spawn(&self, name: &'static str, body: BoxFuture<'static, ()>) -> Task {
        let handle = self.runtime.spawn(async move {
            let _report = PanicReport { name };
            body.await;
        });
        Task::new(Box::new(Control { handle }))
    }
}

struct Control {
    handle: JoinHandle<()>,
}

impl TaskControl for Control {
    fn abort(&self) {
        self.handle.abort();
    }

    fn ended(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // How it ended is the task's own business; a panic was reported when it happened.
            let _ = (&mut self.handle).await;
        })
    }

    fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

/// Names the task that a panic ends: the runtime would let it end in silence.
struct PanicReport {
    name: &'static str,
}

impl Drop for PanicReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "a task panicked");
        }
    }
}
