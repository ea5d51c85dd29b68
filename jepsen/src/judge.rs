//! What a history makes of its run: a verdict.
//!
//! A run is good only if enough happened in it and nothing was broken and every checker came to an
//! end. One in which hardly anything worked is *vacuous*; one that a checker could not decide
//! within its budget is *unknown*. Neither has passed.

use std::collections::BTreeSet;

use crate::checker::mirror::context::of_target;
use crate::checker::mirror::{self, Clustered};
use crate::checker::{self, Options, Violation, Violations};
use crate::history::{Call, Event, History, MalformedHistory, Note, Summary};
use crate::history::{clusters, of_cluster, summary};

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
    let is_damaged = is_damaged(history);
    let mut judgement = Judgement::new(summary(history), is_damaged);
    judgement.take_in(checker::found(history, options), is_damaged, None);
    judgement
}

/// Judges the histories of several clusters that are in one: each by itself, as far as links
/// between them allow, and then what the links copy. `options` are the promises of a cluster whose
/// own history it is given.
///
/// What a topic of `klamm.durability=replicated` loses in an election, as it may, no history tells
/// of: it is a violation here.
pub fn judge_several(
    events: &[Event],
    options: impl Fn(&History) -> Options,
) -> Result<(History, Judgement), MalformedHistory> {
    let whole = History::from_events(events.iter().cloned())?;
    let mut judgement = Judgement::new(summary(&whole), is_damaged(&whole));
    let names = clusters(events);
    let mut own = Vec::with_capacity(names.len());
    for name in &names {
        let cluster = name.as_deref();
        let history = History::from_events(of_cluster(events, cluster).cloned())?;
        let options = Options {
            sources_may_lose: may_lose(&history),
            ..options(&history)
        };
        let judged = History::from_events(of_target(events, cluster))?;
        let found = checker::found(&judged, options);
        judgement.take_in(found, is_damaged(&history), cluster);
        own.push((history, options));
    }
    let sides = names.iter().zip(&own);
    let sides = sides.map(|(name, (history, options))| Clustered {
        name: name.clone(),
        history,
        options: *options,
        lost: BTreeSet::new(),
    });
    let links = mirror::found(&sides.collect::<Vec<_>>());
    judgement.take_in(links, false, None);
    judgement.violations.sort_by_key(|violation| violation.time);
    Ok((whole, judgement))
}

/// Whether a topic was made that promises no more than what nodes have in memory.
fn may_lose(history: &History) -> bool {
    history.operations.iter().any(|op| match &op.call {
        Call::CreateTopic { config, .. } => {
            let durability = config.get("klamm.durability");
            durability.is_some_and(|durability| durability == "replicated")
        }
        _ => false,
    })
}

fn is_damaged(history: &History) -> bool {
    let is_damage = |note: &Note| matches!(note, Note::Damaged { .. });
    history.notes.iter().any(|(_, _, note)| is_damage(note))
}

impl Judgement {
    fn new(summary: Summary, is_damaged: bool) -> Self {
        Self {
            vacuous: vacuous(&summary, is_damaged),
            summary,
            violations: Vec::new(),
            undecided: Vec::new(),
            dropped: 0,
        }
    }

    /// What was found of a cluster, which is named where there are several.
    fn take_in(&mut self, mut found: Violations, is_damaged: bool, cluster: Option<&str>) {
        let of = cluster.map_or(String::new(), |name| format!("cluster {name}: "));
        let undecided = found.take_undecided().into_iter();
        self.undecided
            .extend(undecided.map(|what| format!("{of}{what}")));
        self.dropped += found.dropped();
        let mut violations = found.into_sorted();
        if is_damaged {
            violations.retain(|violation| !NEEDS_SERVICE.contains(&violation.property));
        }
        for violation in &mut violations {
            violation.detail.insert_str(0, &of);
        }
        self.violations.extend(violations);
    }
}

/// Why a run proves nothing.
fn vacuous(summary: &Summary, is_damaged: bool) -> Option<String> {
    let worked = summary.all().ok;
    // Damage may keep the broker down from early on.
    let is_enough = worked >= WORKED_MIN || is_damaged && worked > 0;
    (!is_enough).then(|| format!("only {worked} operations worked"))
}
