//! What happened, line by line: the witness that a seed means one run.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use madsim::time::TimeHandle;

/// Events of one run in their order, shared by all of its parts.
///
/// A line may hold only what the seed decides: no address in memory, no thread, no task id.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    /// Adds what `node` did, at the present simulated time.
    pub fn event(&self, node: &str, what: fmt::Arguments<'_>) {
        let now = TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos());
        let line = format!("{now} {node} {what}");
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.clone()
    }
}
