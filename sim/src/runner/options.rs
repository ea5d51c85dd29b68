//! What the command line says.

use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

const CODES: &str = "\
Exit codes; of many runs the gravest counts, in the order 5, 3, 7, 4, 1, 8, 6:
  0  all good
  1  a property is violated
  2  wrong usage, or a file that cannot be used
  3  a panic
  4  a run took too long
  5  one plan gave two different runs
  6  vacuous: the run (of a sweep: too many of them) proves nothing
  7  a process died, for want of memory or by a signal
  8  not found: `shrink` could not make it fail again, `matrix` did not find a mutant

A seed and a scenario's name decide a plan, and a plan decides a run down to the last event. Start
with:
  klamm-sim seeds 0..100 --scenario all      one process for each seed, and a summary
  klamm-sim run --seed 17                    one seed: verdict, figures
  klamm-sim run --seed 17 --trace            every event of it
  klamm-sim shrink --seed 17 -o small.toml   a smaller plan that fails in the same way
  klamm-sim replay small.toml                that plan, for ever";

/// Runs the broker under simulated faults, each run a function of its seed.
#[derive(Debug, Parser)]
#[command(name = "klamm-sim", version, after_help = CODES, max_term_width = 100)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs one seed in this process and says what came of it
    Run(RunOptions),
    /// Runs many seeds, one process each, and sums up
    Seeds(SeedsOptions),
    /// Runs a plan from a file, or a line of `corpus/seeds.txt`
    Replay(ReplayOptions),
    /// Replays everything that once failed
    Corpus(CorpusOptions),
    /// Makes a failing plan smaller while it fails in the same way
    Shrink(ShrinkOptions),
    /// Measures how many seeds it takes to find each planted bug (needs the feature `mutants`)
    Matrix(MatrixOptions),
    /// Lists scenarios
    Scenarios,
    /// Reads a job from stdin and reports on it as JSON
    #[command(hide = true)]
    Child(ChildOptions),
}

#[derive(Debug, Args)]
pub(crate) struct ChildOptions {
    /// Bytes of memory.
    pub(crate) memory: u64,
    /// For who lists processes.
    pub(crate) label: Vec<String>,
}

/// How a run in this process is shown.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ShowOptions {
    /// Print every event: number, simulated nanoseconds, node, what it did
    #[arg(long)]
    pub(crate) trace: bool,
    /// Run it a second time in another process, and compare the traces
    #[arg(long)]
    pub(crate) twice: bool,
    /// Write the history to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Show on stderr what the nodes log
    #[arg(
        long,
        value_name = "LEVEL",
        num_args = 0..=1,
        default_missing_value = "debug",
        require_equals = true
    )]
    pub(crate) log: Option<tracing::Level>,
    /// Print the plan as TOML, and do not run it
    #[arg(long)]
    pub(crate) plan: bool,
    /// Plant this bug in the broker (needs the feature `mutants`)
    #[arg(long, value_name = "NAME")]
    pub(crate) mutant: Option<String>,
    /// Seconds of real time before a run is given up; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// The seed
    #[arg(long, value_name = "N")]
    pub(crate) seed: u64,
    /// The scenario; the first of `klamm-sim scenarios` if absent
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Option<String>,
    #[command(flatten)]
    pub(crate) show: ShowOptions,
}

/// Bounds of processes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Bounds {
    /// Processes at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) jobs: usize,
    /// Seconds of real time before a run is given up; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) timeout: u64,
    /// Megabytes of memory that a run may use
    #[arg(long, value_name = "MB", default_value_t = 2048)]
    pub(crate) memory: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SeedsOptions {
    /// The seeds, the last not included: `0..1000`
    #[arg(value_name = "A..B")]
    pub(crate) seeds: Seeds,
    /// Scenarios, with commas between them, or `all`; the first of `klamm-sim scenarios` if absent
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) scenario: Vec<String>,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Run this percentage of seeds twice, in different surroundings, and compare
    #[arg(long, value_name = "PERCENT", default_value_t = 0,
        value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) twice: u64,
    /// Go on after a failure
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Fail if more than this percentage of runs is vacuous
    #[arg(long, value_name = "PERCENT", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(0..=100))]
    pub(crate) vacuous: u64,
    /// Write the summary to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Keep history, plan and trace of failing seeds in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) artifacts: Option<PathBuf>,
    /// Plant this bug in the broker (needs the feature `mutants`)
    #[arg(long, value_name = "NAME")]
    pub(crate) mutant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayOptions {
    /// A file with a plan, or the words of a line `scenario seed hash what`
    #[arg(required = true, value_name = "FILE|LINE")]
    pub(crate) what: Vec<String>,
    #[command(flatten)]
    pub(crate) show: ShowOptions,
}

#[derive(Debug, Args)]
pub(crate) struct CorpusOptions {
    /// Where `seeds.txt` and `schedules/` are
    #[arg(value_name = "DIR", default_value = "corpus")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
}

#[derive(Debug, Args)]
pub(crate) struct ShrinkOptions {
    /// A file with a plan that fails
    #[arg(
        value_name = "FILE",
        required_unless_present = "seed",
        conflicts_with = "seed"
    )]
    pub(crate) file: Option<PathBuf>,
    /// A seed that fails, instead of a file
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// The scenario of the seed; the first of `klamm-sim scenarios` if absent
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Option<String>,
    /// What must stay: the id of a property, or `panic at FILE:LINE`; the first found if absent
    #[arg(long, value_name = "WHAT")]
    pub(crate) property: Option<String>,
    /// Where to write the plan; on stdout if absent
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Seeds with which each smaller plan is tried before it is given up
    #[arg(long, value_name = "K", default_value_t = 4)]
    pub(crate) tries: u64,
    /// Seconds of real time after which the smallest plan so far is taken
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) budget: u64,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Plant this bug in the broker (needs the feature `mutants`)
    #[arg(long, value_name = "NAME")]
    pub(crate) mutant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MatrixOptions {
    /// Mutants, with commas between them, or `all`, `node-only` or `clusters`
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "all"
    )]
    pub(crate) mutants: Vec<String>,
    /// Scenarios in turn, with commas between them, or `all`
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "all"
    )]
    pub(crate) scenarios: Vec<String>,
    /// Runs after which a mutant counts as not found
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) max_seeds: u64,
    /// Searches for each mutant, each with seeds of its own
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: u64,
    /// Put the rows in the tables of this Markdown file, those between
    /// `<!-- mutants clusters: begin -->` and `end`, and the same for `node-only`; what it says of
    /// mutants not searched for now stays
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
}

/// A range of seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seeds(pub(crate) Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bounds = text.split_once("..");
        let bounds = bounds.map(|(from, to)| (from.parse(), to.parse()));
        match bounds {
            Some((Ok(from), Ok(to))) if from < to => Ok(Self(from..to)),
            Some((Ok(_), Ok(_))) => Err("no seeds are in it".to_owned()),
            _ => Err("expected two numbers, like 0..1000".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Options, Seeds};

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_range_of_seeds_has_two_ends() {
        assert_eq!("3..5".parse(), Ok(Seeds(3..5)));
        for bad in ["3", "5..3", "3..3", "a..b", "..", "3..=5"] {
            assert!(bad.parse::<Seeds>().is_err(), "{bad}");
        }
    }
}
