//! What a history makes of its run: a verdict.
//!
//! A run is good only if enough happened in it and nothing was broken and every checker came to an
//! end. One in which hardly anything worked is *vacuous*; one that a checker could not decide
//! within its budget is *unknown*. Neither has passed.

use crate::checker::{self, Options, Violation};
use crate::history::{History, Note, Summary, summary};

/// Operations that must have worked for a run to prove something.
const WORKED_MIN: u64 = 10;

/// Properties that need a broker that serves: one that found damage may refuse to.
const NEEDS_SERVICE: &[&str] = &[
    "V1", "V2", "V3", "V4", "V6", "V10", "CG5", "CG6", "CG8", "K8",
];

/// The judgement on a run, the gravest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Good,
    /// Too little worked to prove anything.
    Vacuous,
    /// A checker gave up: nobody knows.
    Unknown,
    Violated,
}

impl Verdict {
    /// The exit code, as `klamm-jepsen --help` lists them; those of `klamm-sim` where both have it.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Violated => 1,
            Self::Unknown => 4,
            Self::Vacuous => 6,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Violated => "violated",
            Self::Unknown => "unknown",
            Self::Vacuous => "vacuous",
        }
    }
}

/// All that is to be said of a history.
#[derive(Debug, Clone)]
pub struct Judgement {
    pub summary: Summary,
    /// In the order of their times; of one property the first few.
    pub violations: Vec<Violation>,
    /// How many more there are of these.
    pub dropped: usize,
    /// What could not be decided, for people.
    pub undecided: Vec<String>,
    /// Why the run proves nothing.
    pub vacuous: Option<String>,
}

impl Judgement {
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.violations.is_empty() {
            Verdict::Violated
        } else if !self.undecided.is_empty() {
            Verdict::Unknown
        } else if self.vacuous.is_some() {
            Verdict::Vacuous
        } else {
            Verdict::Good
        }
    }
}

/// Judges `history` by every checker, for a broker whose promises are `options`.
#[must_use]
pub fn judge(history: &History, options: Options) -> Judgement {
    let mut found = checker::found(history, options);
    let (undecided, dropped) = (found.take_undecided(), found.dropped());
    let mut violations = found.into_sorted();
    let is_damage = |note: &Note| matches!(note, Note::Damaged { .. });
    let is_damaged = history.notes.iter().any(|(_, _, note)| is_damage(note));
    if is_damaged {
        violations.retain(|violation| !NEEDS_SERVICE.contains(&violation.property));
    }
    let summary = summary(history);
    Judgement {
        vacuous: vacuous(&summary, is_damaged),
        summary,
        violations,
        undecided,
        dropped,
    }
}

/// Why a run proves nothing.
fn vacuous(summary: &Summary, is_damaged: bool) -> Option<String> {
    let worked = summary.all().ok;
    // Damage may keep the broker down from early on.
    let is_enough = worked >= WORKED_MIN || is_damaged && worked > 0;
    (!is_enough).then(|| format!("only {worked} operations worked"))
}
