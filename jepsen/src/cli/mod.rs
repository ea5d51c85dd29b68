//! The command line of `klamm-jepsen`.
//!
//! A subcommand is a module here: its options as a struct that derives [`clap::Args`], and a
//! function `run` that does it and gives a [`Verdict`], or says why nothing could be done.

mod check;
mod matrix;
mod test;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::judge::Verdict;

const CODES: &str = "\
Exit codes; of several histories the gravest counts, in the order 1, 4, 6:
  0  all good
  1  a property is violated
  2  wrong usage, or a file that cannot be used
  4  unknown: a checker gave up within its budget
  6  vacuous: so little worked that it proves nothing

A history is a file of JSON lines: what clients asked and were answered, and what happened to nodes.
docs/history.md describes it. Simulated runs write one too:
  klamm-sim run --seed 17 --history run.jsonl
  klamm-jepsen check run.jsonl --report out     judge it; the report shows what is wrong";

/// The exit code of wrong usage and of files that cannot be used; clap's own too.
const USAGE: u8 = 2;

/// Judges what clients of a Kafka-compatible broker saw.
#[derive(Debug, Parser)]
#[command(name = "klamm-jepsen", version, after_help = CODES, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judges stored histories
    Check(check::CheckOptions),
    /// Torments a cluster of real processes and judges what its clients saw
    Test(Box<test::TestOptions>),
    /// Torments processes with planted bugs, and says which runs find them
    Matrix(matrix::MatrixOptions),
}

/// Why nothing could be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) String);

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Check(options) => check::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Matrix(options) => matrix::run(&options),
    };
    match done {
        Ok(verdict) => ExitCode::from(verdict.code()),
        Err(Failed(why)) => {
            eprintln!("klamm-jepsen: {why}");
            ExitCode::from(USAGE)
        }
    }
}

/// Writes to stdout; who closed it wants no more.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// The gravest of several.
fn gravest(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    verdicts.into_iter().max().unwrap_or(Verdict::Good)
}
