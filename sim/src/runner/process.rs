//! One process a run: bounded in time and memory, and whatever it does harms nobody else.
#![expect(
    clippy::disallowed_methods,
    reason = "processes are watched from threads of their own, by the real clock"
)]

use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::job::{Job, judge};
use super::report::{Report, Verdict};
use super::{Failed, print};

/// How long a process may live beyond the time of its run: it should end itself.
const GRACE: Duration = Duration::from_secs(10);

/// Bytes kept of what a process says.
const SAID_BYTES: usize = 4000;

/// Starts processes of this program.
#[derive(Debug)]
pub(crate) struct Processes {
    program: PathBuf,
    /// Bytes of memory that each may write to.
    memory: u64,
}

impl Processes {
    pub(crate) fn new(memory_mb: u64) -> Result<Self, Failed> {
        let program = std::env::current_exe()
            .map_err(|error| Failed(format!("this program cannot be found: {error}")))?;
        Ok(Self {
            program,
            memory: memory_mb.saturating_mul(1 << 20),
        })
    }

    /// Carries out a job in a process of its own.
    pub(crate) fn run(&self, job: &Job) -> Result<Report, Failed> {
        let (scenario, seed) = job.name();
        let mut command = Command::new(&self.program);
        command
            .args(["child", &self.memory.to_string(), scenario])
            .arg(seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Finding its names takes longer than the run.
            .env_remove("RUST_BACKTRACE")
            // A fifth of a run went into pages that the allocator touched for the first time.
            .env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
            .env("MALLOC_TOP_PAD_", "67108864");
        if job.disturbed {
            let other = "x".repeat(1000 + usize::try_from(seed % 1000).unwrap_or(0));
            command.env_clear().current_dir("/").env("OTHER", other);
        }
        let mut child = command
            .spawn()
            .map_err(|error| Failed(format!("no process for a run: {error}")))?;
        let text = serde_json::to_string(job)
            .map_err(|error| Failed(format!("a job cannot be written: {error}")))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A process that is gone already shows by its want of a report.
            let _ = stdin.write_all(text.as_bytes());
        }
        let limit = match job.timeout {
            0 => Duration::MAX,
            seconds => Duration::from_secs(seconds).saturating_add(GRACE),
        };
        Ok(wait(&mut child, job, limit))
    }
}

/// What a process said, once it has closed its output or ended.
fn reading(from: Option<impl Read + Send + 'static>) -> (mpsc::Receiver<()>, JoinHandle<Vec<u8>>) {
    let (done, ended) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What was read before an error is what there is.
            let _ = from.read_to_end(&mut bytes);
        }
        drop(done);
        bytes
    });
    (ended, reading)
}

fn wait(child: &mut Child, job: &Job, limit: Duration) -> Report {
    let (_, errors) = reading(child.stderr.take());
    let (ended, output) = reading(child.stdout.take());
    let late = ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
    if late {
        // It may have ended just now.
        let _ = child.kill();
    }
    let status = child.wait();
    let output = output.join().unwrap_or_default();
    let errors = errors.join().unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let last = output.lines().rev().find(|line| line.starts_with('{'));
    if let Some(report) = last.and_then(|line| serde_json::from_str(line).ok()) {
        return report;
    }
    let mut report = job.report(if late {
        Verdict::Timeout
    } else {
        Verdict::Died
    });
    report.said = said(&errors, status.ok());
    report
}

fn said(errors: &[u8], status: Option<ExitStatus>) -> String {
    let errors = String::from_utf8_lossy(&errors[errors.len().saturating_sub(SAID_BYTES)..]);
    let status = status.map_or_else(String::new, |status| status.to_string());
    format!("{}\n{status}", errors.trim_end())
}

/// What runs in such a process: reads a job, writes a report as one line of JSON.
pub(crate) fn child(memory: u64) -> Result<ExitCode, Failed> {
    let bound = |kind| {
        let limit = Rlimit {
            current: Some(memory),
            maximum: Some(memory),
        };
        setrlimit(kind, limit).map_err(|error| Failed(format!("no bound on memory: {error}")))
    };
    bound(Resource::Data)?;
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failed(format!("no job can be read: {error}")))?;
    let job: Job =
        serde_json::from_str(&text).map_err(|error| Failed(format!("this is no job: {error}")))?;
    super::REPORTS_AS_JSON.store(true, std::sync::atomic::Ordering::SeqCst);
    let (report, _) = judge(&job)?;
    print(&json(&report)?);
    Ok(ExitCode::from(report.verdict.code()))
}

/// A report as one line.
pub(crate) fn json(report: &Report) -> Result<String, Failed> {
    serde_json::to_string(report)
        .map(|line| line + "\n")
        .map_err(|error| Failed(format!("a report cannot be written: {error}")))
}
