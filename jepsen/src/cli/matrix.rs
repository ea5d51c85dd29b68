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
use crate::harness::Outcome;
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
    ("high-watermark-below-min-isr", "last-stand", LOG),
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
    ("clean-marker-kept", "stop,power-all", LOG),
    ("no-dir-sync-after-roll", "power-all", LOG),
    ("commit-acked-before-durable", "isolate,one-way", GROUPS),
    ("commits-replayed-in-wrong-order", "kill-all", GROUPS),
    ("fenced-commit-accepted", "pause", GROUPS),
    ("stale-heartbeat-accepted", "pause", GROUPS),
    ("generation-restarts", "kill,kill-all", GROUPS),
    ("double-assignment", "pause", GROUPS),
    ("static-id-not-recorded", "kill,kill-all", GROUPS),
    ("static-restart-rebalances", "reset", GROUPS),
    ("groups-stay-with-a-deposed-leader", "isolate,pause", GROUPS),
    ("session-expiry-ignored", "none", GROUPS),
    ("change-answered-before-commit", "isolate", REGISTERS),
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
    /// Those of them that say that data or answers were wrong: [`is_safety`].
    wrong: Vec<&'static str>,
    /// How the same run of a broker without a bug ended, where nothing was wrong but that
    /// something did not happen in time: an overloaded machine can show that too.
    control: Option<String>,
}

/// Whether it is a property that no slowness of the machine can break. What the run itself sees
/// broken and the list of properties does not know, as a node that ends, is `other`.
fn is_safety(property: &str) -> bool {
    !property.starts_with('V') && !["K8", "CG8", "other"].contains(&property)
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
        let _ = std::fs::write(options.out.join("matrix.md"), markdown(&rows));
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
            wrong: Vec::new(),
            control: None,
        };
        for number in 1..=self.runs {
            let outcome = match self.run_of(number, Some(mutant), nemesis, workload) {
                Ok(outcome) => outcome,
                // It cannot even found a cluster.
                Err(Failed(why)) => {
                    row.told = why;
                    continue;
                }
            };
            row.told = outcome.properties();
            if outcome.verdict != Verdict::Violated {
                continue;
            }
            row.found = Some((number, began.elapsed()));
            let broken = outcome.judgement.violations.iter();
            row.wrong = broken
                .map(|one| one.property)
                .filter(|of| is_safety(of))
                .collect();
            row.wrong.sort_unstable();
            row.wrong.dedup();
            if row.wrong.is_empty() {
                let control = self.run_of(number, None, nemesis, workload);
                row.control = Some(match control {
                    Ok(outcome) => outcome.properties(),
                    Err(Failed(why)) => why,
                });
            }
            break;
        }
        Ok(row)
    }

    /// One run, of a mutant or of none.
    fn run_of(
        &self,
        number: u64,
        mutant: Option<&str>,
        nemesis: &str,
        workload: &[WorkloadName],
    ) -> Result<Outcome, Failed> {
        let kinds = Kind::parse(nemesis).map_err(Failed)?;
        let folder = folder(number, mutant, nemesis, workload);
        run_one(&TestOptions {
            nodes: nodes_for(&kinds),
            time: self.time,
            workload: workload.to_vec(),
            nemesis: Kinds(kinds),
            client: Vec::new(),
            seed: Some(self.seed + number - 1),
            binary: self.binary.clone(),
            mutant: mutant.map(str::to_owned),
            network: None,
            out: Some(self.out.join(folder)),
            overrides: Vec::new(),
            keep: false,
        })
    }
}

/// Where a run's results go. Nodes keep their data below it, in what is a list with commas.
fn folder(number: u64, mutant: Option<&str>, nemesis: &str, workload: &[WorkloadName]) -> String {
    match mutant {
        Some(mutant) => format!("{mutant}-{number}"),
        None => format!("control-{nemesis}-{workload:?}-{number}")
            .to_lowercase()
            .replace(',', "+")
            .replace(['[', ']', ' '], ""),
    }
}

/// Of three nodes that have both roles, no two can go without the controller.
fn nodes_for(kinds: &[Kind]) -> u8 {
    match kinds.contains(&Kind::LastStand) {
        true => 5,
        false => 3,
    }
}

/// The rows for people who read Markdown: docs/jepsen-matrix.md is such a table.
fn markdown(rows: &[Row]) -> String {
    let mut text = "| Mutant | Nemesis | Run | Seconds | Properties | Verdict |\n".to_owned();
    text.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for row in rows {
        let verdict = match (&row.found, &row.control) {
            (None, _) => "not found".to_owned(),
            (Some(_), None) => format!("wrong: {}", row.wrong.join(", ")),
            (Some(_), Some(control)) => format!("not in time; without the bug: {control}"),
        };
        let (run, seconds) = row.places();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {run} | {seconds} | {} | {verdict} |",
            row.mutant,
            row.nemesis.replace(',', ", "),
            row.told
        );
    }
    text
}

impl Row {
    /// The run that found it and after how long, as both are shown.
    fn places(&self) -> (String, String) {
        match self.found {
            Some((run, within)) => (run.to_string(), within.as_secs().to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        }
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<40} {:<24} {:>4} {:>8}  {}\n",
        "mutant", "nemesis", "runs", "seconds", "properties"
    );
    for row in rows {
        let (runs, seconds) = row.places();
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

#[cfg(test)]
mod tests {
    use super::{GROUPS, LOG, PROFILES, folder};

    #[test]
    fn no_folder_is_a_list_of_several() {
        let controls = PROFILES.iter().map(|of| folder(2, None, of.1, of.2));
        assert!(controls.into_iter().all(|name| !name.contains([',', ' '])));
        assert_eq!(
            folder(1, None, "kill,pause", LOG),
            "control-kill+pause-log-1"
        );
        let (one, other) = (
            folder(1, None, "kill", LOG),
            folder(1, None, "kill", GROUPS),
        );
        assert_ne!(one, other);
    }
}
