//! From a plan that fails to a smaller one that fails in the same way.
#![expect(
    clippy::disallowed_methods,
    reason = "the search has a budget of real time; no run sees the clock"
)]

mod search;
mod simpler;

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::job::{Job, plan};
use super::options::ShrinkOptions;
use super::process::Processes;
use super::progress::Progress;
use super::report::Report;
use super::schedule::Schedule;
use super::{Failed, NOT_FOUND, files, pool, print, scenario};
use crate::plan::Plan;
use search::{Search, Tried, size};

/// What is tried, and how.
struct Trial<'a> {
    processes: Processes,
    options: &'a ShrinkOptions,
    /// When no more is tried.
    until: Instant,
}

impl Trial<'_> {
    /// Runs the plan with its own seed and then others until one report is wanted; that one, and
    /// the plan with its seed.
    fn fails(
        &self,
        plan: &Plan,
        wanted: &(impl Fn(&Report) -> bool + Sync),
    ) -> Result<Option<(Plan, Report)>, Failed> {
        let mut found = Ok(None);
        let seeds = (0..self.options.tries.max(1)).map(|number| varied(plan.seed, number));
        let work = |seed| {
            let plan = Plan {
                seed,
                ..plan.clone()
            };
            let mut job = Job::of_plan(plan.clone(), self.options.bounds.timeout);
            job.mutant.clone_from(&self.options.mutant);
            (plan, self.processes.run(&job))
        };
        pool::run(seeds, self.options.bounds.jobs, work, |(plan, report)| {
            match report {
                Err(failed) => found = Err(failed),
                Ok(report) if wanted(&report) => found = Ok(Some((plan, report))),
                Ok(_) => return ControlFlow::Continue(()),
            }
            ControlFlow::Break(())
        });
        found
    }
}

/// The seed itself first, then others that a file can hold.
fn varied(seed: u64, number: u64) -> u64 {
    match number {
        0 => seed,
        number => seed.wrapping_add(number.wrapping_mul(1_000_003)) & (u64::MAX >> 1),
    }
}

fn original(options: &ShrinkOptions) -> Result<Schedule, Failed> {
    match (&options.file, options.seed) {
        (Some(file), _) => Schedule::load(file),
        (None, seed) => {
            let seed = seed.ok_or_else(|| Failed("neither a file nor a seed".to_owned()))?;
            let scenario = scenario(options.scenario.as_ref())?;
            Ok(Schedule {
                about: format!("Shrunk from seed {seed} of {scenario}."),
                found: None,
                commit: None,
                expect: None,
                plan: plan(&scenario, seed)?,
            })
        }
    }
}

pub(crate) fn shrink(options: &ShrinkOptions) -> Result<ExitCode, Failed> {
    let mut schedule = original(options)?;
    if let Some(mutant) = &options.mutant {
        super::job::choose_mutant(mutant)?;
    }
    let trial = Trial {
        processes: Processes::new(options.bounds.memory)?,
        options,
        until: Instant::now() + Duration::from_secs(options.budget),
    };
    let asked = |report: &Report| match &options.property {
        Some(property) => report.signatures().contains(property),
        None => report.verdict.is_failure(),
    };
    let Some((plan, report)) = trial.fails(&schedule.plan, &asked)? else {
        eprintln!(
            "klamm-sim: the plan does not fail, with {} seeds",
            options.tries
        );
        return Ok(ExitCode::from(NOT_FOUND));
    };
    let found = report.signatures();
    let signature = options
        .property
        .clone()
        .or_else(|| found.into_iter().next());
    let signature = signature.unwrap_or_default();
    let before = size(&plan);
    let (plan, tried, failed) = smaller(&trial, plan, &signature);
    if let Some(failed) = failed {
        eprintln!("klamm-sim: the search ended early: {}", failed.0);
    }
    eprintln!(
        "{signature}: from {before} to {} after {tried} plans",
        size(&plan)
    );
    schedule.plan = plan;
    schedule.found = Some(signature);
    let text = schedule.to_text()?;
    match &options.output {
        Some(path) => files::write(path, &text)?,
        None => print(&text),
    }
    Ok(ExitCode::SUCCESS)
}

/// The smallest plan found that shows `signature`, how many were tried, and why it was not more.
fn smaller(trial: &Trial<'_>, plan: Plan, signature: &str) -> (Plan, u64, Option<Failed>) {
    let same = |report: &Report| report.signatures().iter().any(|found| found == signature);
    let mut progress = Progress::new(0);
    let (mut tried, mut failed) = (0, None);
    let plan = Search::new(plan, |candidate: &Plan, best: &Plan| {
        if Instant::now() >= trial.until {
            return Tried::Over;
        }
        tried += 1;
        progress.step(&format!("now {}", size(best)));
        match trial.fails(candidate, &same) {
            Ok(Some((plan, _))) => Tried::Fails(Box::new(plan)),
            Ok(None) => Tried::Passes,
            Err(error) => {
                failed = Some(error);
                Tried::Over
            }
        }
    })
    .run();
    (plan, tried, failed)
}
