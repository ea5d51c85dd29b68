//! Events joined to operations: the form that checkers read.

use std::collections::BTreeMap;

use super::{Answer, Attempt, Call, Event, Note, What};

/// How an operation ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    Ok(Answer),
    /// It did not happen.
    Fail(Vec<Attempt>),
    /// Nobody knows.
    Unknown(Vec<Attempt>),
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    pub op: u64,
    pub process: String,
    pub invoked: u64,
    /// When its client learnt of the end; `u64::MAX` if it never did. The effect of an operation
    /// whose end is unknown may come later than this.
    pub returned: u64,
    pub call: Call,
    pub ending: Ending,
}

impl Operation {
    /// The answer, if it worked.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match &self.ending {
            Ending::Ok(answer) => Some(answer),
            Ending::Fail(_) | Ending::Unknown(_) => None,
        }
    }

    #[must_use]
    pub fn failed(&self) -> bool {
        matches!(self.ending, Ending::Fail(_))
    }

    /// Up to when it may have its effect: `u64::MAX` when nobody knows how it ended.
    #[must_use]
    pub fn effect_until(&self) -> u64 {
        match self.ending {
            Ending::Ok(_) | Ending::Fail(_) => self.returned,
            Ending::Unknown(_) => u64::MAX,
        }
    }
}

/// A whole history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// In the order of their invocations, and so of their numbers.
    pub operations: Vec<Operation>,
    /// Time, process and what it says, in order.
    pub notes: Vec<(u64, String, Note)>,
}

/// A history that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedHistory {
    #[error("operation {0} ends without having begun")]
    EndsUnknown(u64),
    #[error("operation {0} begins twice")]
    BeginsTwice(u64),
    #[error("operation {0} ends twice")]
    EndsTwice(u64),
    #[error("time goes back to {time} at operation {op}")]
    TimeGoesBack { op: u64, time: u64 },
}

impl History {
    /// Joins `events`, which are in the order of their times.
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Result<Self, MalformedHistory> {
        let mut history = Self::default();
        let mut places = BTreeMap::new();
        let mut latest = 0;
        for Event {
            time,
            process,
            what,
        } in events
        {
            let (op, ending) = match what {
                What::Note { note } => {
                    history.notes.push((time, process, note));
                    continue;
                }
                What::Invoke { op, call } => {
                    if places.insert(op, history.operations.len()).is_some() {
                        return Err(MalformedHistory::BeginsTwice(op));
                    }
                    if time < latest {
                        return Err(MalformedHistory::TimeGoesBack { op, time });
                    }
                    latest = time;
                    history.operations.push(Operation {
                        op,
                        process,
                        invoked: time,
                        returned: u64::MAX,
                        call,
                        ending: Ending::Unknown(Vec::new()),
                    });
                    continue;
                }
                What::Ok { op, answer } => (op, Ending::Ok(answer)),
                What::Fail { op, attempts } => (op, Ending::Fail(attempts)),
                What::Info { op, attempts } => (op, Ending::Unknown(attempts)),
            };
            let place = places.get(&op).ok_or(MalformedHistory::EndsUnknown(op))?;
            let operation = &mut history.operations[*place];
            if operation.returned != u64::MAX {
                return Err(MalformedHistory::EndsTwice(op));
            }
            operation.returned = time;
            operation.ending = ending;
        }
        Ok(history)
    }
}
