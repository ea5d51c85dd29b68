//! The program `klamm-sim`: runs plans, judges them, keeps and shrinks those that fail.
//!
//! A run of many seeds is one process a seed, so that a panic, a hang or a want of memory is the
//! end of one run and no more, and so that runs cannot influence each other. What it promises: a
//! failure is printed with the command that shows it again, and the exit code says the worst that
//! happened (`klamm-sim --help` lists the codes).

mod double;
mod files;
mod job;
mod ledger;
mod matrix;
mod mutants;
mod options;
mod plants;
mod pool;
mod process;
mod progress;
mod replay;
mod report;
mod schedule;
mod seeds;
mod show;
mod shrink;
mod summary;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser as _;

pub use report::{Broken, Panicked, Report, Verdict};
pub use schedule::Schedule;

use options::{Command, Options};

/// Wrong usage, or a file that cannot be used.
const USAGE: u8 = 2;

/// What was looked for was not found.
const NOT_FOUND: u8 = 8;

/// Why nothing could be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed(String);

/// Whether a report is for another process to read.
static REPORTS_AS_JSON: AtomicBool = AtomicBool::new(false);

/// The whole program.
pub fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Run(options) => show::run(&options),
        Command::Seeds(options) => seeds::seeds(&options),
        Command::Replay(options) => replay::replay(&options),
        Command::Corpus(options) => replay::corpus(&options),
        Command::Shrink(options) => shrink::shrink(&options),
        Command::Matrix(options) => matrix::matrix(&options),
        Command::Scenarios => {
            for scenario in crate::swarm::SCENARIOS {
                print(&format!("{}: {}\n", scenario.name, scenario.about));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Child(options) => process::child(options.memory),
    };
    done.unwrap_or_else(|Failed(why)| {
        eprintln!("klamm-sim: {why}");
        ExitCode::from(USAGE)
    })
}

/// Writes to stdout; who closed it wants no more.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Shows the report of a run that ends this process.
pub(crate) fn show_ended(report: &Report) {
    if REPORTS_AS_JSON.load(Ordering::SeqCst) {
        if let Ok(line) = process::json(report) {
            print(&line);
        }
    } else {
        print(&report.to_string());
    }
}

/// Names of scenarios as options give them: none for the first there is, `all` for every one,
/// `node-only` and `clusters` for those with one node and those with several, but for what is on
/// trial.
pub(crate) fn scenarios(asked: &[String]) -> Result<Vec<String>, Failed> {
    let known: Vec<String> = crate::swarm::SCENARIOS
        .iter()
        .map(|scenario| scenario.name.to_owned())
        .collect();
    if asked.is_empty() {
        return Ok(known.into_iter().take(1).collect());
    }
    if asked.iter().any(|name| name == "all") {
        return Ok(known);
    }
    for (name, is_cluster) in [("node-only", false), ("clusters", true)] {
        if asked.iter().any(|asked| asked == name) {
            let fitting = crate::swarm::SCENARIOS.iter();
            let fitting = fitting.filter(|scenario| scenario.is_cluster() == is_cluster);
            let fitting =
                fitting.filter(|scenario| !crate::swarm::ON_TRIAL.contains(&scenario.name));
            return Ok(fitting.map(|scenario| scenario.name.to_owned()).collect());
        }
    }
    for name in asked {
        if !known.contains(name) && !plants::is_planted(name) {
            let known = known.join(", ");
            let why = format!("there is no scenario `{name}`; there are: {known}");
            return Err(Failed(why));
        }
    }
    Ok(asked.to_vec())
}

/// The one scenario that an option names.
pub(crate) fn scenario(asked: Option<&String>) -> Result<String, Failed> {
    let asked: Vec<String> = asked.into_iter().cloned().collect();
    let found = scenarios(&asked)?.into_iter().next();
    found.ok_or_else(|| Failed("there are no scenarios".to_owned()))
}
