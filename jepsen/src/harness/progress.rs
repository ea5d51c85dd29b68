//! One line that shows how a run goes.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::recorder::Recorder;

#[derive(Debug)]
pub struct Progress {
    began: Instant,
    time: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    stage: String,
    nodes: String,
    fault: String,
    shown: Option<Instant>,
}

/// How often a line is written where nobody sees it change.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Progress {
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self {
            began: Instant::now(),
            time,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_stage(&self, stage: &str) {
        stage.clone_into(&mut self.lock().stage);
    }

    /// A character a node.
    pub fn set_nodes(&self, nodes: String) {
        self.lock().nodes = nodes;
    }

    pub fn set_fault(&self, fault: String) {
        self.lock().fault = fault;
    }

    pub fn add_fault(&self, fault: &str) {
        let mut state = self.lock();
        if !state.fault.is_empty() {
            state.fault.push_str(" + ");
        }
        state.fault.push_str(fault);
    }

    /// Writes the line again: in place on a terminal, else once in a while.
    pub fn show(&self, recorder: &Recorder) {
        let mut state = self.lock();
        let is_terminal = std::io::stderr().is_terminal();
        if !is_terminal && state.shown.is_some_and(|at| at.elapsed() < LINE_EVERY) {
            return;
        }
        state.shown = Some(Instant::now());
        let counts = &recorder.counts;
        let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let line = format!(
            "{:4}/{} s {} [{}] ok {} fail {} unknown {} | acked {} read {} | {}",
            self.began.elapsed().as_secs(),
            self.time.as_secs(),
            state.stage,
            state.nodes,
            of(&counts.ok),
            of(&counts.fail),
            of(&counts.info),
            of(&counts.acked),
            of(&counts.read),
            state.fault,
        );
        let mut to = std::io::stderr().lock();
        // Nobody may be there to see it.
        let _ = match is_terminal {
            true => write!(to, "\r\x1b[2K{line:.160}").and_then(|()| to.flush()),
            false => writeln!(to, "{line}"),
        };
    }

    /// The line stays, and what follows begins below it.
    pub fn end(&self) {
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
    }
}
