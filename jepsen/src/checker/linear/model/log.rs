//! A log that only grows: small histories of it, to check the fast checkers against.

use crate::checker::linear::Model;

/// A log that is empty at first.
#[derive(Debug, Clone, Copy)]
pub struct Appended;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LogOperation {
    /// Records were put at the end, all next to each other.
    Append {
        records: Vec<u64>,
        /// Where the first was said to be.
        base_offset: Option<i64>,
    },
    /// The records from `from` on were shown, as many as the broker liked.
    Read { from: i64, records: Vec<u64> },
    /// As `Read`, and there was nothing more.
    ReadAll { from: i64, records: Vec<u64> },
}

impl Model for Appended {
    type State = Vec<u64>;
    type Operation = LogOperation;

    fn initial(&self) -> Vec<u64> {
        Vec::new()
    }

    fn step(&self, state: &Vec<u64>, operation: &LogOperation) -> Option<Vec<u64>> {
        let rest = |from: &i64| state.get(usize::try_from(*from).ok()?..);
        match operation {
            LogOperation::Append {
                records,
                base_offset,
            } => {
                let end = i64::try_from(state.len()).ok();
                let fits = base_offset.is_none() || *base_offset == end;
                fits.then(|| [state.as_slice(), records].concat())
            }
            LogOperation::Read { from, records } => {
                // One that asks beyond the end waits, and is answered with nothing.
                let fits =
                    records.is_empty() || rest(from).is_some_and(|rest| rest.starts_with(records));
                fits.then(|| state.clone())
            }
            LogOperation::ReadAll { from, records } => {
                (rest(from) == Some(records)).then(|| state.clone())
            }
        }
    }

    fn bytes(&self, state: &Vec<u64>) -> usize {
        2 * size_of_val(state.as_slice())
    }

    fn is_read(&self, operation: &LogOperation) -> bool {
        matches!(
            operation,
            LogOperation::Read { .. } | LogOperation::ReadAll { .. }
        )
    }
}
