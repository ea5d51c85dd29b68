//! A log that only grows: small histories of it, to check the fast checkers against.

use crate::checker::linear::Model;

/// A log that is empty at first. Where a record is is part of what happened; offsets may be left
/// out.
#[derive(Debug, Clone, Copy)]
pub struct Appended;

/// An offset and the record there.
pub type Placed = (i64, u64);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogOperation {
    /// These were put behind all others.
    Append(Vec<Placed>),
    /// The records from an offset on were shown, as many as the broker liked.
    Read(i64, Vec<Placed>),
    /// As `Read`, and there was nothing more.
    ReadAll(i64, Vec<Placed>),
}

impl Model for Appended {
    type State = Vec<Placed>;
    type Operation = LogOperation;

    fn initial(&self) -> Vec<Placed> {
        Vec::new()
    }

    fn step(&self, state: &Vec<Placed>, operation: &LogOperation) -> Option<Vec<Placed>> {
        let rest = |from: &i64| &state[state.partition_point(|(offset, _)| offset < from)..];
        match operation {
            LogOperation::Append(records) => {
                let is_behind = match (state.last(), records.first()) {
                    (Some(last), Some(first)) => last.0 < first.0,
                    _ => true,
                };
                is_behind.then(|| [state.as_slice(), records].concat())
            }
            LogOperation::Read(from, records) => {
                rest(from).starts_with(records).then(|| state.clone())
            }
            LogOperation::ReadAll(from, records) => (rest(from) == records).then(|| state.clone()),
        }
    }

    fn bytes(&self, state: &Vec<Placed>) -> usize {
        2 * size_of_val(state.as_slice())
    }

    fn is_read(&self, operation: &LogOperation) -> bool {
        !matches!(operation, LogOperation::Append(_))
    }
}
