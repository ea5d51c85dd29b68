//! Plans as files, and the corpus of what once failed.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::job::{Job, Origin};
use super::report::{Report, Verdict};
use super::{Failed, files};
use crate::plan::Plan;

/// A file of `corpus/schedules/`: a plan, and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// For people: what goes wrong, and why.
    pub about: String,
    /// What it once showed: the id of a property, or `panic at FILE:LINE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// The code in which it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What it must show, as in `found`; absent for a run in which nothing may go wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    pub plan: Plan,
}

impl Schedule {
    pub(crate) fn parse(text: &str) -> Result<Self, Failed> {
        toml::from_str(text).map_err(|error| Failed(error.to_string()))
    }

    pub(crate) fn load(path: &Path) -> Result<Self, Failed> {
        Self::parse(&files::read(path)?)
            .map_err(|Failed(error)| Failed(format!("{}: {error}", path.display())))
    }

    pub(crate) fn to_text(&self) -> Result<String, Failed> {
        toml::to_string(self).map_err(|error| Failed(format!("a plan has no TOML: {error}")))
    }
}

/// One thing to replay.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) origin: Origin,
    pub(crate) about: String,
    /// What it must show, else nothing may go wrong.
    pub(crate) expect: Option<String>,
    /// Of the trace when the entry was written. Changed code has another.
    pub(crate) hash: Option<u64>,
    pub(crate) file: Option<PathBuf>,
}

/// Scenarios whose names begin so are those of tests that bring their own world; such lines are
/// replayed there.
pub(crate) const OWN_WORLD: &str = "test:";

impl Entry {
    pub(crate) fn of_file(path: &Path) -> Result<Self, Failed> {
        let schedule = Schedule::load(path)?;
        Ok(Self {
            origin: Origin::Plan(Box::new(schedule.plan)),
            about: schedule.about,
            expect: schedule.expect,
            hash: None,
            file: Some(path.to_owned()),
        })
    }

    /// A line `scenario seed hash what`; the hash is `-` where unknown. The last two may be absent.
    pub(crate) fn of_line(line: &str) -> Result<Self, Failed> {
        let bad = |what: &str| {
            Failed(format!(
                "`{line}`: {what}; expected: scenario seed hash what"
            ))
        };
        let mut words = line.splitn(4, ' ');
        let scenario = words.next().unwrap_or_default().to_owned();
        let seed = words.next().ok_or_else(|| bad("no seed"))?;
        let seed = seed.parse().map_err(|_| bad("the seed is no number"))?;
        let hash = match words.next() {
            None | Some("-") => None,
            Some(hash) => {
                let hash = u64::from_str_radix(hash, 16);
                Some(hash.map_err(|_| bad("the hash is neither hexadecimal nor `-`"))?)
            }
        };
        Ok(Self {
            origin: Origin::Seed { scenario, seed },
            about: words.next().unwrap_or_default().to_owned(),
            expect: None,
            hash,
            file: None,
        })
    }

    pub(crate) fn job(&self, timeout: u64) -> Job {
        Job::new(self.origin.clone(), timeout)
    }

    /// What a person would call it.
    pub(crate) fn name(&self) -> String {
        match (&self.file, &self.origin) {
            (Some(file), _) => file.display().to_string(),
            (None, Origin::Seed { scenario, seed }) => format!("{scenario} seed {seed}"),
            (None, Origin::Plan(plan)) => format!("a plan of {}", plan.scenario),
        }
    }

    /// The arguments of this program that replay it.
    pub(crate) fn replay(&self) -> String {
        match (&self.file, &self.origin) {
            (Some(file), _) => format!("replay {}", file.display()),
            (None, origin) => {
                let job = Job::new(origin.clone(), 0);
                let (scenario, seed) = job.name();
                format!("run --scenario {scenario} --seed {seed}")
            }
        }
    }

    /// The verdict on what came of it: good if it is as the entry says.
    pub(crate) fn verdict(&self, report: &Report) -> Verdict {
        match &self.expect {
            None => report.verdict,
            Some(expected) if report.signatures().contains(expected) => Verdict::Good,
            Some(_) => report.verdict.max(Verdict::Violation),
        }
    }
}

/// Everything in the corpus at `dir`: the lines of `seeds.txt`, then the files of `schedules/`.
/// Lines of tests with a world of their own are left out.
pub(crate) fn corpus(dir: &Path) -> Result<Vec<Entry>, Failed> {
    let mut entries = Vec::new();
    for line in files::read(&dir.join("seeds.txt"))?.lines() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') && !line.starts_with(OWN_WORLD) {
            entries.push(Entry::of_line(line)?);
        }
    }
    for path in files::list(&dir.join("schedules"), "toml")? {
        entries.push(Entry::of_file(&path)?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
