//! Events joined to operations: the form that checkers read.

use std::collections::BTreeSet;

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
    #[error("operation {0} begins after one with a higher number")]
    NumberGoesBack(u64),
    #[error("operation {0} ends twice")]
    EndsTwice(u64),
    #[error("time goes back to {time} at operation {op}")]
    TimeGoesBack { op: u64, time: u64 },
}

impl History {
    /// Joins `events`, which are in the order of their times.
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Result<Self, MalformedHistory> {
        let mut joining = Joining::default();
        for event in events {
            joining.push(event)?;
        }
        Ok(joining.finish())
    }

    /// Names of the nodes that notes are of.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<&str> {
        let of_node = |note: &Note| {
            matches!(
                note,
                Note::Node { .. } | Note::Leading { .. } | Note::Log { .. }
            )
        };
        let notes = self.notes.iter().filter(|(_, _, note)| of_node(note));
        notes.map(|(_, process, _)| process.as_str()).collect()
    }
}

/// A history while its events arrive, in the order of their times.
#[derive(Debug, Default)]
pub struct Joining {
    history: History,
    latest: u64,
}

impl Joining {
    pub fn push(&mut self, event: Event) -> Result<(), MalformedHistory> {
        let Event {
            time,
            process,
            what,
            cluster: _,
        } = event;
        match what {
            What::Note { note } => {
                self.history.notes.push((time, process, note));
                Ok(())
            }
            What::Invoke { op, call } => self.invoke(op, time, process, call),
            What::Ok { op, answer } => self.end(op, time, Ending::Ok(answer)),
            What::Fail { op, attempts } => self.end(op, time, Ending::Fail(attempts)),
            What::Info { op, attempts } => self.end(op, time, Ending::Unknown(attempts)),
        }
    }

    #[must_use]
    pub fn finish(self) -> History {
        self.history
    }

    fn place(&self, op: u64) -> Option<usize> {
        let known = &self.history.operations;
        known.binary_search_by_key(&op, |one| one.op).ok()
    }

    fn invoke(
        &mut self,
        op: u64,
        time: u64,
        process: String,
        call: Call,
    ) -> Result<(), MalformedHistory> {
        if self
            .history
            .operations
            .last()
            .is_some_and(|last| op <= last.op)
        {
            return Err(match self.place(op) {
                Some(_) => MalformedHistory::BeginsTwice(op),
                None => MalformedHistory::NumberGoesBack(op),
            });
        }
        if time < self.latest {
            return Err(MalformedHistory::TimeGoesBack { op, time });
        }
        self.latest = time;
        self.history.operations.push(Operation {
            op,
            process,
            invoked: time,
            returned: u64::MAX,
            call,
            ending: Ending::Unknown(Vec::new()),
        });
        Ok(())
    }

    fn end(&mut self, op: u64, time: u64, ending: Ending) -> Result<(), MalformedHistory> {
        let place = self.place(op).ok_or(MalformedHistory::EndsUnknown(op))?;
        let operation = &mut self.history.operations[place];
        if operation.returned != u64::MAX {
            return Err(MalformedHistory::EndsTwice(op));
        }
        if time < operation.invoked {
            return Err(MalformedHistory::TimeGoesBack { op, time });
        }
        operation.returned = time;
        operation.ending = ending;
        Ok(())
    }
}
