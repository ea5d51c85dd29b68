//! A value that is read, written, and changed if it is what somebody believes.

use std::fmt::Debug;
use std::hash::Hash;

use crate::checker::linear::Model;

/// A register that holds `initial` at first.
#[derive(Debug, Clone)]
pub struct Register<V> {
    pub initial: V,
}

/// What is asked of a register.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RegisterOperation<V> {
    /// It was answered with this.
    Read(V),
    Write(V),
    /// Writes `new` where it finds `expected`.
    CompareAndSet {
        expected: V,
        new: V,
        /// Whether it was said to have found it.
        done: bool,
    },
}

impl<V: Clone + Eq + Hash + Debug> Model for Register<V> {
    type State = V;
    type Operation = RegisterOperation<V>;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn step(&self, state: &V, operation: &RegisterOperation<V>) -> Option<V> {
        match operation {
            RegisterOperation::Read(value) => (value == state).then(|| state.clone()),
            RegisterOperation::Write(value) => Some(value.clone()),
            RegisterOperation::CompareAndSet {
                expected,
                new,
                done,
            } => {
                let is_found = expected == state;
                let after = if is_found { new } else { state };
                (is_found == *done).then(|| after.clone())
            }
        }
    }

    fn is_read(&self, operation: &RegisterOperation<V>) -> bool {
        matches!(operation, RegisterOperation::Read(_))
    }
}
