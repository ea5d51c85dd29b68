//! `check`: judges stored histories.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool of the real world: it reads what runs wrote"
)]

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Failed, gravest, print};
use crate::checker;
use crate::history::file::Stored;
use crate::history::{History, file};
use crate::judge::{Judgement, Verdict, judge, judge_several};
use crate::report;

/// How much of a file is read at once.
const BUFFER_BYTES: usize = 1 << 20;

#[derive(Debug, Args)]
pub(super) struct CheckOptions {
    /// Histories, one JSON object a line; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How many nodes have copies of a partition: what `several` keep, one may lose
    #[arg(long, value_enum, default_value = "auto")]
    nodes: Nodes,
    /// The broker deletes old records also of topics that do not ask for it
    #[arg(long)]
    retention: bool,
    /// Records acknowledged to `acks=1` must not be lost either, though on several nodes
    #[arg(long)]
    strong_acks_one: bool,
    /// Write a report of each history into this folder, with time lines of what is wrong
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Nodes {
    /// Several if the history names several
    Auto,
    One,
    Several,
}

pub(super) fn run(options: &CheckOptions) -> Result<Verdict, Failed> {
    let mut verdicts = Vec::new();
    for path in &options.files {
        let (history, judgement) = options.judge(path)?;
        print(&format!("{}: {}", path.display(), report::text(&judgement)));
        if let Some(dir) = options.dir_of(path) {
            write_report(&dir, &history, &judgement)?;
        }
        verdicts.push(judgement.verdict());
    }
    Ok(gravest(verdicts))
}

impl CheckOptions {
    /// What is stored at `path`, and the judgement on it.
    fn judge(&self, path: &Path) -> Result<(History, Judgement), Failed> {
        match read(path)? {
            Stored::One(history) => {
                let judgement = judge(&history, self.promises(&history));
                Ok((history, judgement))
            }
            Stored::Several(events) => judge_several(&events, |history| self.promises(history))
                .map_err(|error| Failed(format!("{}: {error}", path.display()))),
        }
    }

    fn promises(&self, history: &History) -> checker::Options {
        let replicated = match self.nodes {
            Nodes::Auto => history.nodes().len() > 1,
            Nodes::One => false,
            Nodes::Several => true,
        };
        checker::Options {
            replicated,
            weak_acks_one: replicated && !self.strong_acks_one,
            retention: self.retention,
            sources_may_lose: false,
        }
    }

    /// Where the report on `path` goes: of several each has a folder of its own.
    fn dir_of(&self, path: &Path) -> Option<PathBuf> {
        let dir = self.report.as_ref()?;
        if self.files.len() == 1 {
            return Some(dir.clone());
        }
        let place = self.files.iter().position(|one| one == path).unwrap_or(0);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Some(dir.join(format!("{place}-{stem}")))
    }
}

fn read(path: &Path) -> Result<Stored, Failed> {
    let unusable = |error: &io::Error| Failed(format!("{}: {error}", path.display()));
    let source: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path).map_err(|error| unusable(&error))?;
        Box::new(BufReader::with_capacity(BUFFER_BYTES, file))
    };
    file::read_stored(source).map_err(|error| unusable(&error))
}

fn write_report(dir: &Path, history: &History, judgement: &Judgement) -> Result<(), Failed> {
    let unusable = |error: io::Error| Failed(format!("{}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(unusable)?;
    for (name, content) in report::files(history, judgement) {
        std::fs::write(dir.join(name), content).map_err(unusable)?;
    }
    Ok(())
}
