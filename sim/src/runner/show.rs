//! One run in this process, shown to people.

use std::process::ExitCode;

use super::job::{Job, judge};
use super::options::{RunOptions, ShowOptions};
use super::process::Processes;
use super::report::{Report, Verdict, counts, seconds};
use super::schedule::Schedule;
use super::{Failed, double, files, print, scenario};

/// Megabytes for the second of two runs.
const MEMORY_MB: u64 = 4096;

pub(crate) fn run(options: &RunOptions) -> Result<ExitCode, Failed> {
    let scenario = scenario(options.scenario.as_ref())?;
    let job = Job::of_seed(&scenario, options.seed, options.show.timeout);
    let about = format!("Seed {} of {scenario}.", options.seed);
    let Some(report) = show(job, &about, &options.show)? else {
        return Ok(ExitCode::SUCCESS);
    };
    Ok(ExitCode::from(report.verdict.code()))
}

/// Runs a job as the options say, and prints what came of it. None if it was not run.
pub(crate) fn show(
    mut job: Job,
    about: &str,
    options: &ShowOptions,
) -> Result<Option<Report>, Failed> {
    if options.plan {
        let schedule = Schedule {
            about: about.to_owned(),
            found: None,
            commit: None,
            expect: None,
            plan: job.plan()?,
        };
        print(&schedule.to_text()?);
        return Ok(None);
    }
    if let Some(level) = options.log {
        crate::probe::show_logs(level);
    }
    job.mutant.clone_from(&options.mutant);
    job.history.clone_from(&options.history);
    let dir = files::TemporaryDir::new()?;
    let trace = dir.path().join("trace");
    if options.trace {
        job.trace = Some(trace.clone());
    }
    let (mut report, _) = judge(&job)?;
    if options.trace {
        print(&files::read(&trace)?);
    }
    if options.twice {
        let processes = Processes::new(MEMORY_MB)?;
        report = double::compare(&processes, &job, report)?;
    }
    print(&report.to_string());
    print(&figures(&report));
    if options.twice && report.verdict != Verdict::Nondeterminism {
        print("  a second run in another process was the same\n");
    }
    Ok(Some(report))
}

fn figures(report: &Report) -> String {
    format!(
        "  trace hash {:016x} of {} events\n  simulated {} in {}: {:.0} simulated seconds a \
         second\n  operations: {}\n  faults: {}\n  probes: {}\n",
        report.hash,
        report.events,
        seconds(report.simulated),
        seconds(report.wall),
        speed(report.simulated, report.wall),
        counts(&report.operations),
        counts(&report.faults),
        counts(&report.probes),
    )
}

/// Simulated time by real time, both in the same unit.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn speed(simulated: u64, wall: u64) -> f64 {
    if wall == 0 {
        0.0
    } else {
        simulated as f64 / wall as f64
    }
}
