//! One run in this process: made from its job, judged, and put into a report.
#![expect(
    clippy::disallowed_methods,
    reason = "how long a run takes, and whether it hangs, is told by the real clock"
)]

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::path::PathBuf;
use std::process::exit;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::report::{Broken, Panicked, Report, Verdict};
use super::{Failed, files, plants};
use crate::plan::Plan;
use crate::run::{self, Outcome};
use crate::swarm;
use crate::trace::Trace;

/// What a run is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Origin {
    Seed { scenario: String, seed: u64 },
    Plan(Box<Plan>),
}

/// One run, and what is wanted of it beside its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) origin: Origin,
    /// The bug to plant in the broker.
    pub(crate) mutant: Option<String>,
    /// Where to write the history.
    pub(crate) history: Option<PathBuf>,
    /// Where to write the whole trace.
    pub(crate) trace: Option<PathBuf>,
    /// Seconds of real time before the run is given up; 0 for never.
    pub(crate) timeout: u64,
    /// Whether what a run must not depend on is made different.
    pub(crate) disturbed: bool,
}

impl Job {
    pub(crate) fn new(origin: Origin, timeout: u64) -> Self {
        Self {
            origin,
            mutant: None,
            history: None,
            trace: None,
            timeout,
            disturbed: false,
        }
    }

    pub(crate) fn of_seed(scenario: &str, seed: u64, timeout: u64) -> Self {
        let scenario = scenario.to_owned();
        Self::new(Origin::Seed { scenario, seed }, timeout)
    }

    pub(crate) fn of_plan(plan: Plan, timeout: u64) -> Self {
        Self::new(Origin::Plan(Box::new(plan)), timeout)
    }

    /// Name of the scenario, and seed.
    pub(crate) fn name(&self) -> (&str, u64) {
        match &self.origin {
            Origin::Seed { scenario, seed } => (scenario, *seed),
            Origin::Plan(plan) => (&plan.scenario, plan.seed),
        }
    }

    pub(crate) fn report(&self, verdict: Verdict) -> Report {
        let (scenario, seed) = self.name();
        Report::new(scenario, seed, verdict)
    }

    /// The plan to carry out.
    pub(crate) fn plan(&self) -> Result<Plan, Failed> {
        match &self.origin {
            Origin::Plan(plan) => Ok((**plan).clone()),
            Origin::Seed { scenario, seed } => plan(scenario, *seed),
        }
    }
}

/// The plan of a seed, also of the planted faults that the tests of the runner use.
pub(crate) fn plan(scenario: &str, seed: u64) -> Result<Plan, Failed> {
    plants::plan(scenario, seed)
        .or_else(|| swarm::plan(scenario, seed))
        .ok_or_else(|| Failed(format!("there is no scenario `{scenario}`")))
}

/// Plants the bug `name` in the broker for the rest of this process.
pub(crate) fn choose_mutant(name: &str) -> Result<(), Failed> {
    super::mutants::choose(name)
}

/// Carries out a job in this process, which does no other meanwhile. Ends the process if the run
/// takes too long. The outcome is there unless the run panicked.
pub(crate) fn judge(job: &Job) -> Result<(Report, Option<Outcome>), Failed> {
    let plan = job.plan()?;
    if let Some(mutant) = &job.mutant {
        choose_mutant(mutant)?;
    }
    if job.disturbed {
        disturb();
    }
    note_panics();
    let keep_trace = job.trace.is_some();
    let began = Instant::now();
    let watched = watch(job.clone(), began);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        if plants::is_planted(&plan.scenario) {
            plants::execute(&plan, keep_trace)
        } else {
            run::execute(&plan, keep_trace)
        }
    }));
    drop(watched);
    let wall = nanoseconds(began.elapsed());
    let noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (mut report, outcome, trace) = match (ended, noted) {
        (Ok(mut outcome), None) => {
            let trace = std::mem::take(&mut outcome.trace);
            (of_outcome(job, &outcome), Some(outcome), trace)
        }
        // A panic that somebody caught is one all the same.
        (_, noted) => {
            let (report, trace) = of_panic(job, noted.unwrap_or_default());
            (report, None, trace)
        }
    };
    report.wall = wall;
    if let Some(path) = &job.trace {
        files::write_lines(path, &trace)?;
    }
    if let (Some(path), Some(outcome)) = (&job.history, &outcome) {
        files::write_history(path, &outcome.events)?;
    }
    Ok((report, outcome))
}

fn nanoseconds(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}

fn of_outcome(job: &Job, outcome: &Outcome) -> Report {
    let verdict = if !outcome.violations.is_empty() {
        Verdict::Violation
    } else if outcome.vacuous.is_some() {
        Verdict::Vacuous
    } else {
        Verdict::Good
    };
    Report {
        violations: outcome.violations.iter().map(Broken::from).collect(),
        vacuous: outcome.vacuous.clone(),
        hash: outcome.trace_hash,
        events: outcome.trace_events,
        simulated: nanoseconds(outcome.simulated),
        operations: outcome.operations.clone(),
        faults: outcome.faults.clone(),
        probes: outcome.probes.clone(),
        ..job.report(verdict)
    }
}

/// What the first panic of this process left.
#[derive(Debug, Default)]
struct Noted {
    panic: Panicked,
    hash: u64,
    events: u64,
    lines: Vec<String>,
}

static NOTED: Mutex<Option<Noted>> = Mutex::new(None);

/// Lines of the trace that a report of a panic or a hang carries.
const REPORTED_LINES: usize = 200;

fn last_of(lines: &[String]) -> Vec<String> {
    lines[lines.len().saturating_sub(REPORTED_LINES)..].to_vec()
}

fn of_panic(job: &Job, noted: Noted) -> (Report, Vec<String>) {
    let report = Report {
        panic: Some(noted.panic),
        hash: noted.hash,
        events: noted.events,
        last: last_of(&noted.lines),
        ..job.report(Verdict::Panic)
    };
    (report, noted.lines)
}

/// From now on the first panic is kept with its trace, instead of being shown.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(note_panic)));
}

fn note_panic(info: &PanicHookInfo<'_>) {
    let mut noted = NOTED.lock().unwrap_or_else(PoisonError::into_inner);
    if noted.is_some() {
        return;
    }
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => backtrace.to_string(),
        _ => String::new(),
    };
    let location = info.location().map_or_else(String::new, |location| {
        format!("{}:{}", location.file(), location.line())
    });
    let message = info.payload_as_str().unwrap_or("not a text").to_owned();
    let glance = Trace::latest().and_then(|trace| trace.glance());
    let (hash, events, lines) = glance.unwrap_or_default();
    *noted = Some(Noted {
        panic: Panicked {
            message,
            location,
            backtrace,
        },
        hash,
        events,
        lines,
    });
}

/// Ends the process with a report if the sender is still there when the job's time is over.
fn watch(job: Job, began: Instant) -> Option<std::sync::mpsc::Sender<()>> {
    if job.timeout == 0 {
        return None;
    }
    let (alive, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        use std::sync::mpsc::RecvTimeoutError::Timeout;
        if ended.recv_timeout(Duration::from_secs(job.timeout)) != Err(Timeout) {
            return;
        }
        let mut report = job.report(Verdict::Timeout);
        report.wall = nanoseconds(began.elapsed());
        if let Some((hash, events, lines)) = Trace::latest().and_then(|trace| trace.glance()) {
            (report.hash, report.events) = (hash, events);
            report.last = last_of(&lines);
        }
        if job.trace.is_some() || job.history.is_some() {
            report.said = "a run that hangs leaves no files".to_owned();
        }
        super::show_ended(&report);
        exit(i32::from(Verdict::Timeout.code()));
    });
    Some(alive)
}

/// Makes different what differs between processes and no run may depend on: how often the
/// process's own seeds were drawn, and where memory lies.
fn disturb() {
    const THREADS: usize = 3;
    for _ in 0..THREADS {
        let drawn = std::thread::spawn(|| plants::unbiased_choices(1));
        // It has no way to panic, and nothing depends on what it gave.
        let _ = drawn.join();
    }
    let holes: Vec<Vec<u8>> = (1..200).map(|size| vec![0; size * 37]).collect();
    for (at, hole) in holes.into_iter().enumerate() {
        if at % 3 == 0 {
            std::mem::forget(hole);
        }
    }
}
