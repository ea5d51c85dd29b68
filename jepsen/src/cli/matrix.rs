//! `matrix`: planted bugs on real processes, and which runs find them.
#![allow(
    clippy::disallowed_methods,
    reason = "a tool of the real world: it takes time and writes files"
)]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::test::{Kinds, TestOptions, WorkloadName, run_one};
use super::{Failed, print};
use crate::harness::nemesis::Kind;
use crate::judge::Verdict;

/// A mutant, and the run that is to find it: its faults and workloads.
type Profile = (&'static str, &'static str, &'static [WorkloadName]);

const LOG: &[WorkloadName] = &[WorkloadName::Log];
const GROUPS: &[WorkloadName] = &[WorkloadName::Groups];
const REGISTERS: &[WorkloadName] = &[WorkloadName::Registers];

/// Planted bugs that a real kernel can show.
const PROFILES: &[Profile] = &[
    ("acks-all-as-acks-one", "kill,isolate,pause", LOG),
    ("ack-before-sync", "power-all", LOG),
    ("raft-log-not-synced", "power-all", REGISTERS),
    (
        "duplicate-answered-with-offset-zero",
        "reset,one-way,isolate",
        LOG,
    ),
    ("remember-only-last-batch", "reset", LOG),
    ("forget-producer-state", "kill-all,reset", LOG),
    ("leader-epoch-reused", "kill,isolate", LOG),
    ("truncates-to-high-watermark", "kill,kill-all", LOG),
    ("eligible-for-ever", "kill,isolate", LOG),
    ("latest-is-the-log-end", "isolate,one-way,pause", LOG),
    ("session-leaves-out-records", "pause", LOG),
    ("list-offsets-before-epoch-start", "kill,isolate", LOG),
    ("deposed-leader-serves-consumers", "isolate,pause", LOG),
    ("high-watermark-below-min-isr", "isolate,kill", LOG),
    (
        "high-watermark-forgotten-on-isr-change",
        "kill,isolate",
        LOG,
    ),
    ("follower-counts-unsynced", "power-all", LOG),
    ("leader-counts-unsynced", "power,power-all", LOG),
    ("serve-beyond-durable-end", "power-all", LOG),
    ("last-replica-trusted", "power,power-all", LOG),
    ("epoch-end-of-whatever-was-asked", "isolate,kill", LOG),
    ("producer-ids-given-again", "kill,kill-all", LOG),
    ("append-after-io-error", "disk-full", LOG),
    ("producer-state-before-append", "disk-full", LOG),
    ("clean-marker-kept", "power-all", LOG),
    ("no-dir-sync-after-roll", "power-all", LOG),
    ("commit-acked-before-durable", "power-all", GROUPS),
    ("commits-replayed-in-wrong-order", "kill-all", GROUPS),
    ("fenced-commit-accepted", "pause", GROUPS),
    ("generation-restarts", "kill,kill-all", GROUPS),
    ("double-assignment", "pause", GROUPS),
    ("groups-stay-with-a-deposed-leader", "isolate,pause", GROUPS),
    ("session-expiry-ignored", "none", GROUPS),
];

#[derive(Debug, Args)]
pub(super) struct MatrixOptions {
    /// Mutants, separated by commas; all that have a profile if absent
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    mutants: Vec<String>,
    /// Runs of each at most, until one finds it
    #[arg(long, default_value_t = 3)]
    runs: u64,
    /// Seconds of torment of a run
    #[arg(long, value_name = "SECONDS", default_value_t = 40)]
    time: u64,
    /// The seed of the first run of each
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The broker, with features faults and mutants; built from the sources if absent
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "target/jepsen/matrix")]
    out: PathBuf,
}

/// What became of a mutant.
struct Row {
    mutant: String,
    nemesis: &'static str,
    /// The run that found it, and in how many seconds of all runs together.
    found: Option<(u64, Duration)>,
    /// The properties that it broke, with how often, or how the last run ended.
    told: String,
}

pub(super) fn run(options: &MatrixOptions) -> Result<Verdict, Failed> {
    let wanted = |name: &str| {
        let all = options.mutants.is_empty();
        all || options.mutants.iter().any(|one| one == name)
    };
    let unknown = options.mutants.iter();
    let mut unknown = unknown.filter(|name| !PROFILES.iter().any(|(known, ..)| known == name));
    if let Some(name) = unknown.next() {
        return Err(Failed(format!("no profile for a mutant '{name}'")));
    }
    let mut rows = Vec::new();
    for profile in PROFILES.iter().filter(|(name, ..)| wanted(name)) {
        rows.push(options.find(*profile)?);
        let table = table(&rows);
        let path = options.out.join("matrix.txt");
        // The next row writes it again; the last is printed.
        let _ = std::fs::write(path, &table);
    }
    print(&table(&rows));
    let all_found = rows.iter().all(|row| row.found.is_some());
    Ok(if all_found {
        Verdict::Good
    } else {
        Verdict::Vacuous
    })
}

impl MatrixOptions {
    /// Runs until one finds the mutant.
    fn find(&self, (mutant, nemesis, workload): Profile) -> Result<Row, Failed> {
        let began = Instant::now();
        let mut row = Row {
            mutant: mutant.to_owned(),
            nemesis,
            found: None,
            told: String::new(),
        };
        for number in 1..=self.runs {
            let kinds = Kind::parse(nemesis).map_err(Failed)?;
            let options = TestOptions {
                nodes: 3,
                time: self.time,
                workload: workload.to_vec(),
                nemesis: Kinds(kinds),
                client: Vec::new(),
                seed: Some(self.seed + number - 1),
                binary: self.binary.clone(),
                mutant: Some(mutant.to_owned()),
                network: None,
                out: Some(self.out.join(format!("{mutant}-{number}"))),
                overrides: Vec::new(),
                keep: false,
            };
            let outcome = match run_one(&options) {
                Ok(outcome) => outcome,
                // It cannot even found a cluster.
                Err(Failed(why)) => {
                    row.told = why;
                    continue;
                }
            };
            row.told = outcome.properties();
            if outcome.verdict == Verdict::Violated {
                row.found = Some((number, began.elapsed()));
                break;
            }
        }
        Ok(row)
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<40} {:<24} {:>4} {:>8}  {}\n",
        "mutant", "nemesis", "runs", "seconds", "properties"
    );
    for row in rows {
        let (runs, seconds) = match row.found {
            Some((run, within)) => (run.to_string(), within.as_secs().to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<40} {:<24} {runs:>4} {seconds:>8}  {}",
            row.mutant, row.nemesis, row.told
        );
    }
    let found = rows.iter().filter(|row| row.found.is_some()).count();
    let _ = writeln!(text, "{found} of {} found", rows.len());
    text
}
