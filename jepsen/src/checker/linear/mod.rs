//! Whether a history of any object is linearizable.
//!
//! A history is linearizable if its operations can be put in one order that agrees with time (what
//! returned before another was invoked is before it), and that a single copy of the object could
//! have gone through one by one. An operation of which nobody knows how it ended may take its place
//! anywhere after its invocation, or none.
//!
//! [`search`] decides it as Wing and Gong did ("Testing and verifying concurrent objects", 1993):
//! take one of the operations that may come first, if the object can make that step; go on from
//! there; go back where nothing fits. As Lowe showed ("Testing for linearizability", 2017), it is
//! enough to come once to each pair of what was taken and what the object is then like. Two more
//! rules keep that small:
//!
//! - a read that fits is taken at once: if there is an order with it later, there is one with it
//!   here;
//! - of two such pairs that differ only in which operations of unknown end were taken, the one with
//!   more of them can do nothing that the other cannot.
//!
//! The object is a [`Model`]. Histories of many objects are cut into one for each first: that is
//! what makes it possible at all (Herlihy and Wing's locality). It is exponential at worst all the
//! same, so there is a [`Budget`]; what is not decided within it is [`Outcome::Unknown`], never "yes".

mod explain;
pub mod model;
mod search;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::hash::Hash;

pub use explain::explain;
pub use search::search;

/// What an object does, one operation at a time.
pub trait Model {
    /// What the object is like.
    type State: Clone + Eq + Hash + Debug;
    /// What was asked and, if it is known, answered.
    type Operation: Clone + Eq + Hash + Debug;

    /// What it is like at first.
    fn initial(&self) -> Self::State;

    /// What it is like after `operation`; none if it cannot have been answered so.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;

    /// Whether `operation` only asks: it leaves every state as it is, but for what is learnt of it.
    fn is_read(&self, operation: &Self::Operation) -> bool;

    /// Bytes that a state holds beside itself, roughly.
    fn bytes(&self, _state: &Self::State) -> usize {
        0
    }
}

/// One operation of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<O> {
    /// For reports.
    pub id: u64,
    pub invoked: u64,
    /// When it had happened, if it is known that it did.
    pub returned: Option<u64>,
    pub operation: O,
}

/// How much may be spent on one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Steps of the model.
    pub steps: u64,
    /// What is remembered of where the search has been.
    pub bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            steps: 5_000_000,
            bytes: 256 << 20,
        }
    }
}

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is an order: the ids of the operations in it.
    Linearizable(Vec<u64>),
    /// There is none.
    Violated(Stuck),
    /// The budget was spent.
    Unknown,
}

/// How far it went, at best.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The ids of the operations of a longest order.
    pub order: Vec<u64>,
    /// What the object was like after them.
    pub state: String,
    /// No order takes in all that returned up to then.
    pub horizon: u64,
}

impl Outcome {
    #[must_use]
    pub fn is_violated(&self) -> bool {
        matches!(self, Self::Violated(_))
    }
}
