//! What a checker found.

use std::fmt;

use crate::history::Partition;

/// At most this many of one property are kept: one fault can break it for every record.
const KEPT_OF_A_PROPERTY: usize = 20;

/// A broken property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// As `docs/simulation.md` numbers them: `P1`, `CG4`, ...
    pub property: &'static str,
    /// When it shows.
    pub time: u64,
    pub partition: Option<Partition>,
    /// The operations that contradict each other.
    pub operations: Vec<u64>,
    /// For people: what was seen, and what had to be.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ns", self.property, self.time)?;
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

/// Violations found so far.
#[derive(Debug, Default)]
pub struct Violations {
    found: Vec<Violation>,
    /// How many were found of a property whose rest was not kept.
    dropped: usize,
    undecided: Vec<String>,
}

impl Violations {
    pub fn add(&mut self, violation: Violation) {
        let of_it = |known: &&Violation| known.property == violation.property;
        if self.found.iter().filter(of_it).count() < KEPT_OF_A_PROPERTY {
            self.found.push(violation);
        } else {
            self.dropped += 1;
        }
    }

    /// Violations that were found and are not among those kept.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Something that a checker could not decide.
    pub fn undecided(&mut self, what: String) {
        self.undecided.push(what);
    }

    /// How many were found so far, also of those not kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.found.len() + self.dropped
    }

    /// What could not be decided, for people.
    #[must_use]
    pub fn take_undecided(&mut self) -> Vec<String> {
        std::mem::take(&mut self.undecided)
    }

    #[must_use]
    pub fn into_sorted(mut self) -> Vec<Violation> {
        self.found.sort_by_key(|violation| violation.time);
        self.found
    }
}
