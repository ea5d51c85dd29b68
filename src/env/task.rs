//! Tasks.

use super::BoxFuture;

/// Runs tasks concurrently; in what order is not promised.
pub trait Tasks: Send + Sync + 'static {
    /// Starts `body` soon. `name` appears in traces.
    fn spawn(&self, name: &'static str, body: BoxFuture<'static, ()>) -> Task;
}

/// Handle on a running task. Dropping it aborts the task at its next suspension point.
pub struct Task {
    control: Option<Box<dyn TaskControl>>,
}

/// What an implementation of [`Tasks`] gives to a handle.
pub trait TaskControl: Send + Sync {
    fn abort(&self);
    /// Completes when the task has ended, by itself or by abort.
    fn ended(&mut self) -> BoxFuture<'_, ()>;
    fn is_finished(&self) -> bool;
}

impl Task {
    #[must_use]
    pub fn new(control: Box<dyn TaskControl>) -> Self {
        Self {
            control: Some(control),
        }
    }

    /// Lets the task run to its end on its own.
    pub fn detach(mut self) {
        self.control = None;
    }

    /// Waits until the task has ended.
    pub async fn join(mut self) {
        if let Some(control) = &mut self.control {
            control.ended().await;
        }
        self.control = None;
    }

    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.control
            .as_ref()
            .is_none_or(|control| control.is_finished())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(control) = &self.control {
            control.abort();
        }
    }
}
