//! How many seeds it takes to find each planted bug.

mod table;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use super::job::Job;
use super::mutants::{self, Mutant};
use super::options::MatrixOptions;
use super::process::Processes;
use super::progress::Progress;
use super::{Failed, NOT_FOUND, files, pool, print, scenarios};
use table::{Row, Searched, table, written};

/// Seeds between the first of one round and of the next.
const ROUND_SEEDS: u64 = 1_000_000;

/// What a search gave.
#[derive(Debug, Default)]
struct Found {
    /// Runs up to the one that found it; none if none did.
    after: Option<u64>,
    /// By which of the properties that are expected to.
    by: Vec<String>,
    /// What else went wrong on the way, and how often.
    unexpected: BTreeMap<String, u64>,
}

impl Found {
    /// One line for people, as soon as it is known: all searches together take hours.
    fn told(&self, mutant: &str) -> String {
        match self.after {
            Some(runs) => format!("{mutant}: {} after {runs} runs\n", self.by.join(", ")),
            None => format!("{mutant}: not found\n"),
        }
    }
}

/// The rows for those whom the option names.
fn chosen(asked: &[String]) -> Result<Vec<Mutant>, Failed> {
    if let [kind] = asked
        && let Some(mutants) = mutants::of_kind(kind)?
    {
        return Ok(mutants);
    }
    let known = mutants::of_kind("all")?.unwrap_or_default();
    let find = |name: &String| {
        let found = known.iter().find(|mutant| mutant.name == *name).copied();
        found.ok_or_else(|| Failed(format!("there is no mutant `{name}`")))
    };
    asked.iter().map(find).collect()
}

pub(crate) fn matrix(options: &MatrixOptions) -> Result<ExitCode, Failed> {
    let mutants = chosen(&options.mutants)?;
    let scenarios = scenarios(&options.scenarios)?;
    let processes = Processes::new(options.bounds.memory)?;
    let mut rows: Vec<Row> = mutants.iter().map(|mutant| Row::new(*mutant)).collect();
    let total = (mutants.len() as u64).saturating_mul(options.rounds);
    let mut progress = Progress::new(Some(total));
    let searches =
        (0..mutants.len()).flat_map(|at| (0..options.rounds).map(move |round| (at, round)));
    let work = |(at, round): (usize, u64)| {
        (
            at,
            search(&processes, options, &scenarios, mutants[at], round),
        )
    };
    let mut error = None;
    pool::run(searches, options.bounds.jobs, work, |(at, found)| {
        match found {
            Ok(found) => {
                progress.say(&found.told(mutants[at].name));
                rows[at].add(found);
            }
            Err(failed) => {
                error = Some(failed);
                return ControlFlow::Break(());
            }
        }
        let missed = rows.iter().filter(|row| row.missed() > 0).count();
        progress.step(&format!("{missed} mutants not always found"));
        ControlFlow::Continue(())
    });
    drop(progress);
    if let Some(error) = error {
        return Err(error);
    }
    let searched = Searched {
        max_seeds: options.max_seeds,
        scenarios: options.scenarios.join(", "),
    };
    print(&table(&mutants, &rows, &searched, ""));
    if let Some(path) = &options.write {
        write(path, &rows, &searched)?;
    }
    let all_found = rows.iter().all(|row| row.missed() == 0);
    Ok(if all_found {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_FOUND)
    })
}

/// Puts the rows into the tables of the file, each into that of its kind.
fn write(path: &Path, rows: &[Row], searched: &Searched) -> Result<(), Failed> {
    let mut text = files::read(path)?;
    for kind in ["node-only", "clusters", "mirrors"] {
        let mutants = mutants::of_kind(kind)?.unwrap_or_default();
        if rows.iter().any(|row| row.is_of(&mutants)) {
            text = written(&text, kind, &mutants, rows, searched)
                .map_err(|Failed(why)| Failed(format!("{}: {why}", path.display())))?;
        }
    }
    files::write(path, &text)
}

/// Runs seeds with a mutant until one shows a property that is expected to break.
fn search(
    processes: &Processes,
    options: &MatrixOptions,
    scenarios: &[String],
    mutant: Mutant,
    round: u64,
) -> Result<Found, Failed> {
    let mut found = Found::default();
    let in_turn = scenarios.iter().cycle();
    for (run, scenario) in (0..options.max_seeds).zip(in_turn) {
        let seed = round * ROUND_SEEDS + run;
        let mut job = Job::of_seed(scenario, seed, options.bounds.timeout);
        job.mutant = Some(mutant.name.to_owned());
        let mut signatures = processes.run(&job)?.signatures();
        if signatures
            .iter()
            .any(|found| is_expected(mutant.expected, found))
        {
            // What the same run breaks without the bug says nothing of the bug.
            job.mutant = None;
            let without = processes.run(&job)?.signatures();
            signatures.retain(|signature| !without.contains(signature));
        }
        let (by, others): (Vec<String>, Vec<String>) = signatures
            .into_iter()
            .partition(|signature| is_expected(mutant.expected, signature));
        for other in others {
            *found.unexpected.entry(other).or_default() += 1;
        }
        if !by.is_empty() {
            found.after = Some(run + 1);
            found.by = by;
            break;
        }
    }
    Ok(found)
}

/// Whether a signature is among those expected, where `panic` is any panic.
fn is_expected(expected: &[&str], signature: &str) -> bool {
    let kind = signature.split(' ').next().unwrap_or(signature);
    expected.contains(&kind)
}
