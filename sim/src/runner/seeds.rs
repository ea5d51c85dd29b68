//! Many seeds, one process each.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use super::job::{Job, plan};
use super::options::SeedsOptions;
use super::process::Processes;
use super::progress::Progress;
use super::report::Report;
use super::schedule::Schedule;
use super::summary::Summary;
use super::{Failed, double, files, pool, print, scenarios};

pub(crate) fn seeds(options: &SeedsOptions) -> Result<ExitCode, Failed> {
    let scenarios = scenarios(&options.scenario)?;
    if let Some(mutant) = &options.mutant {
        super::job::choose_mutant(mutant)?;
    }
    if let Some(dir) = &options.artifacts {
        files::create_dir(dir)?;
    }
    let processes = Processes::new(options.bounds.memory)?;
    let range = &options.seeds.0;
    let total = (range.end - range.start).saturating_mul(scenarios.len() as u64);
    let mut progress = Progress::new(total);
    let mut summary = Summary::default();
    let mut error = None;
    let jobs = range
        .clone()
        .flat_map(|seed| scenarios.iter().map(move |scenario| (scenario, seed)));
    let work = |(scenario, seed): (&String, u64)| one(&processes, options, scenario, seed);
    pool::run(jobs, options.bounds.jobs, work, |done| {
        let (report, twice) = match done {
            Ok(done) => done,
            Err(failed) => {
                error = Some(failed);
                return ControlFlow::Break(());
            }
        };
        summary.add(&report, twice);
        if report.verdict.is_failure() {
            progress.say(&format!("{report}  again: {}\n", again(&report, options)));
        }
        progress.step(&summary.state());
        if report.verdict.is_failure() && !options.keep_going {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    });
    summary.finish(progress.elapsed(), options.bounds.jobs, options.vacuous);
    drop(progress);
    if let Some(error) = error {
        return Err(error);
    }
    print(&summary.to_string());
    if let Some(path) = &options.json {
        files::write(path, &summary.to_json()?)?;
    }
    Ok(ExitCode::from(summary.verdict().code()))
}

/// The command that shows a failure again.
fn again(report: &Report, options: &SeedsOptions) -> String {
    let Report { scenario, seed, .. } = report;
    let mut command = format!("klamm-sim run --scenario {scenario} --seed {seed}");
    if report.verdict == super::Verdict::Nondeterminism {
        command.push_str(" --twice");
    }
    if let Some(mutant) = &options.mutant {
        command.push_str(&format!(" --mutant {mutant}"));
    }
    command
}

/// Whether a seed is among the `percent` that run twice: spread evenly, and always the same ones.
fn is_chosen(seed: u64, percent: u64) -> bool {
    (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 100 < percent
}

/// One seed, and whether it ran twice.
fn one(
    processes: &Processes,
    options: &SeedsOptions,
    scenario: &str,
    seed: u64,
) -> Result<(Report, bool), Failed> {
    let mut job = Job::of_seed(scenario, seed, options.bounds.timeout);
    job.mutant.clone_from(&options.mutant);
    let mut report = processes.run(&job)?;
    let twice = is_chosen(seed, options.twice);
    if twice {
        report = double::compare(processes, &job, report)?;
    }
    if let (true, Some(dir)) = (report.verdict.is_failure(), &options.artifacts) {
        keep(processes, dir, job, &report)?;
    }
    Ok((report, twice))
}

/// Runs a failing seed once more, to keep its plan, history, trace and report.
fn keep(processes: &Processes, dir: &Path, mut job: Job, report: &Report) -> Result<(), Failed> {
    let (scenario, seed) = job.name();
    let path = |ending: &str| dir.join(format!("{scenario}-{seed}.{ending}"));
    let schedule = Schedule {
        about: format!("Seed {seed} of {scenario}."),
        found: report.signatures().into_iter().next(),
        commit: None,
        expect: None,
        plan: plan(scenario, seed)?,
    };
    files::write(&path("toml"), &schedule.to_text()?)?;
    files::write(&path("txt"), &report.to_string())?;
    // History and trace begin again where the current directory may not be this one's.
    let absolute =
        |ending: &str| std::path::absolute(path(ending)).map_err(|error| Failed(error.to_string()));
    let (history, trace) = (absolute("jsonl")?, absolute("trace")?);
    (job.history, job.trace) = (Some(history), Some(trace));
    processes.run(&job)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_chosen;

    #[test]
    fn about_as_many_seeds_run_twice_as_asked() {
        let chosen = |percent| (0..10_000).filter(|seed| is_chosen(*seed, percent)).count();
        assert_eq!((chosen(0), chosen(100)), (0, 10_000));
        assert!((2300..2700).contains(&chosen(25)), "{}", chosen(25));
    }
}
