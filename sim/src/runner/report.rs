//! What became of one run, in a form that crosses from process to process.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use klamm_jepsen::checker::Violation;
use klamm_jepsen::history::Partition;
use serde::{Deserialize, Serialize};

/// The judgement on one run, or the gravest of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Good,
    /// The run reached too little to prove anything.
    Vacuous,
    Violation,
    Timeout,
    /// The process ended without a report, for want of memory or by a signal.
    Died,
    Panic,
    /// The same plan gave two different runs.
    Nondeterminism,
}

impl Verdict {
    /// The exit code, as `klamm-sim --help` lists them.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Violation => 1,
            Self::Panic => 3,
            Self::Timeout => 4,
            Self::Nondeterminism => 5,
            Self::Vacuous => 6,
            Self::Died => 7,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Vacuous => "vacuous",
            Self::Violation => "violation",
            Self::Timeout => "timeout",
            Self::Died => "died",
            Self::Panic => "panic",
            Self::Nondeterminism => "nondeterminism",
        }
    }

    /// Whether the run shows a fault, of the broker or of the simulator.
    #[must_use]
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Good | Self::Vacuous)
    }
}

/// A violation that was read from another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    pub property: String,
    /// Simulated nanoseconds.
    pub time: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<u64>,
    pub detail: String,
}

impl From<&Violation> for Broken {
    fn from(violation: &Violation) -> Self {
        Self {
            property: violation.property.to_owned(),
            time: violation.time,
            partition: violation.partition.clone(),
            operations: violation.operations.clone(),
            detail: violation.detail.clone(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.property, seconds(self.time))?;
        if let Some(of) = &self.partition {
            write!(f, " in {}-{}", of.topic, of.partition)?;
        }
        write!(f, ": {}", self.detail)?;
        if !self.operations.is_empty() {
            write!(f, " (operations {:?})", self.operations)?;
        }
        Ok(())
    }
}

/// The first panic of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Panicked {
    pub message: String,
    /// File and line.
    pub location: String,
    /// Empty unless `RUST_BACKTRACE` is set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backtrace: String,
}

/// Everything about one run that outlives its process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub scenario: String,
    pub seed: u64,
    pub verdict: Verdict,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Broken>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vacuous: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic: Option<Panicked>,
    pub hash: u64,
    pub events: u64,
    /// Nanoseconds of the world's time.
    pub simulated: u64,
    /// Nanoseconds that the run took, without the start of its process.
    pub wall: u64,
    #[serde(default)]
    pub operations: BTreeMap<String, u64>,
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
    #[serde(default)]
    pub probes: BTreeMap<String, u64>,
    /// The end of the trace of a run that did not end well, or where two runs differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<String>,
    /// The end of what a process that gave no report said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
}

impl Report {
    pub(crate) fn new(scenario: &str, seed: u64, verdict: Verdict) -> Self {
        Self {
            scenario: scenario.to_owned(),
            seed,
            verdict,
            violations: Vec::new(),
            vacuous: None,
            panic: None,
            hash: 0,
            events: 0,
            simulated: 0,
            wall: 0,
            operations: BTreeMap::new(),
            faults: BTreeMap::new(),
            probes: BTreeMap::new(),
            last: Vec::new(),
            said: String::new(),
        }
    }

    /// What went wrong, each once: ids of properties, `panic at FILE:LINE`, or the verdict's name.
    /// Runs with one of these in common show the same fault.
    #[must_use]
    pub fn signatures(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(panic) = &self.panic {
            found.push(format!("panic at {}", panic.location));
        }
        for violation in &self.violations {
            if !found.contains(&violation.property) {
                found.push(violation.property.clone());
            }
        }
        if found.is_empty() && self.verdict.is_failure() || self.verdict == Verdict::Nondeterminism
        {
            found.push(self.verdict.name().to_owned());
        }
        found
    }
}

/// Nanoseconds for people.
pub(crate) fn seconds(nanoseconds: u64) -> String {
    let time = Duration::from_nanos(nanoseconds);
    format!("{}.{:06} s", time.as_secs(), time.subsec_micros())
}

/// Lines of the trace shown of a run that ended badly.
const SHOWN_LINES: usize = 30;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, .. } = self;
        writeln!(f, "{scenario} seed {seed}: {}", self.verdict.name())?;
        if let Some(panic) = &self.panic {
            writeln!(f, "  panic at {}: {}", panic.location, panic.message)?;
            if !panic.backtrace.is_empty() {
                writeln!(f, "{}", panic.backtrace)?;
            }
        }
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        if let Some(why) = &self.vacuous {
            writeln!(f, "  it proves nothing: {why}")?;
        }
        if !self.last.is_empty() {
            writeln!(f, "  the trace (event, nanoseconds, node, what):")?;
            let skipped = self.last.len().saturating_sub(SHOWN_LINES);
            for line in &self.last[skipped..] {
                writeln!(f, "    {line}")?;
            }
        }
        if !self.said.is_empty() {
            writeln!(f, "  the process said: {}", self.said.trim_end())?;
        }
        Ok(())
    }
}

/// `name count` pairs for people.
pub(crate) fn counts(of: &BTreeMap<String, u64>) -> String {
    let pairs: Vec<String> = of
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if pairs.is_empty() {
        "none".to_owned()
    } else {
        pairs.join(", ")
    }
}
