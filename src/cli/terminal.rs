//! The terminal: the only place of the command line that writes to stdout and stderr.
//!
//! Output for scripts and people goes to stdout, remarks and progress to stderr; progress only
//! where stderr is a terminal. A closed stdout becomes [`Failure::PipeClosed`].

use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::mpsc;

use super::failure::Failure;

/// Chunks of stdin, in order; ends where stdin ends.
pub type Input = mpsc::Receiver<io::Result<Bytes>>;

/// stdout, and what is known of stderr.
pub struct Terminal {
    out: BufWriter<StdoutLock<'static>>,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
}

/// Says something on stderr.
pub fn complain(text: &str) {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

fn broken(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::PipeClosed,
        _ => Failure::Failed(format!("the output cannot be written: {error}")),
    }
}

impl Terminal {
    #[must_use]
    pub fn new() -> Self {
        let stdout = io::stdout();
        Self {
            stdout_is_terminal: stdout.is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            out: BufWriter::with_capacity(64 << 10, stdout.lock()),
        }
    }

    #[must_use]
    pub fn stdin_is_terminal() -> bool {
        io::stdin().is_terminal()
    }

    /// Writes to stdout; it may wait in a buffer until [`Terminal::finish`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| broken(&error))
    }

    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text.as_bytes())?;
        self.write(b"\n")
    }

    /// Hands on what was written.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| broken(&error))
    }

    /// A remark for people: stderr.
    pub fn note(&mut self, text: &str) {
        // In the order of what was printed; a failure shows at the next write.
        let _ = self.out.flush();
        complain(text);
    }

    /// A remark for a person who watches; nothing when stderr is no terminal.
    pub fn whisper(&mut self, text: &str) {
        if self.stderr_is_terminal {
            self.note(text);
        }
    }

    /// A bar over `total` (`None`: a count without end) on stderr. Hidden where stderr is no
    /// terminal, and where stdout is one and records are printed there (`printing`).
    #[must_use]
    pub fn progress(&self, total: Option<u64>, printing: bool) -> ProgressBar {
        if !self.stderr_is_terminal || (printing && self.stdout_is_terminal) {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{bar:30} {percent:>3}% {msg}",
            None => "{spinner} {msg}",
        };
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}
