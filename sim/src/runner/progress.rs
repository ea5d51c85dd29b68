//! How far the work is: a bar on a terminal, a line now and then elsewhere.
#![expect(
    clippy::disallowed_methods,
    reason = "people wait in real time, and nothing is decided by it"
)]

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Progress of `total` steps, shown on stderr.
pub(crate) struct Progress {
    /// None where there is no terminal.
    bar: Option<ProgressBar>,
    total: u64,
    done: u64,
    began: Instant,
    last_line: Instant,
}

impl Progress {
    pub(crate) fn new(total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = "{wide_bar} {pos}/{len} {elapsed} (eta {eta}) {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            total,
            done: 0,
            began: now,
            last_line: now,
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// One step more is done; `state` says how things stand.
    pub(crate) fn step(&mut self, state: &str) {
        self.done += 1;
        match &self.bar {
            Some(bar) => {
                bar.set_message(state.to_owned());
                bar.inc(1);
            }
            None => {
                if self.last_line.elapsed() >= BETWEEN_LINES {
                    self.last_line = Instant::now();
                    let seconds = self.began.elapsed().as_secs();
                    eprintln!("{}/{} after {seconds} s {state}", self.done, self.total);
                }
            }
        }
    }

    /// Shows a text above the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| super::print(text)),
            None => super::print(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
