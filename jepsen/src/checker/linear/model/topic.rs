//! Whether there is a topic of a name, and with how many partitions.

use crate::checker::linear::Model;

/// One name. What it stands for at first is not known.
#[derive(Debug, Clone, Copy)]
pub struct TopicRegister;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicState {
    /// Nothing was said of it yet.
    Untold,
    Absent,
    /// With this many partitions, if that was said.
    Present(Option<i32>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicOperation {
    /// With so many partitions; -1 for as many as the broker likes.
    Create(i32),
    Delete,
    /// Made it have so many partitions, more than before.
    Grow(i32),
    /// It was said that there is one.
    Found,
    /// It was said that there is none.
    Missed,
    /// It was said to have so many partitions.
    Shown(i32),
}

impl Model for TopicRegister {
    type State = TopicState;
    type Operation = TopicOperation;

    fn initial(&self) -> TopicState {
        TopicState::Untold
    }

    fn step(&self, state: &TopicState, operation: &TopicOperation) -> Option<TopicState> {
        use TopicState::{Absent, Present, Untold};
        match (operation, *state) {
            (TopicOperation::Create(count), Absent | Untold) => {
                Some(Present(Some(*count).filter(|count| *count >= 0)))
            }
            (TopicOperation::Delete, Present(_) | Untold) => Some(Absent),
            (TopicOperation::Grow(to), Present(Some(count))) => {
                (*to > count).then_some(Present(Some(*to)))
            }
            (TopicOperation::Grow(to), Present(None) | Untold) => Some(Present(Some(*to))),
            (TopicOperation::Found, Untold) => Some(Present(None)),
            (TopicOperation::Found, Present(_)) => Some(*state),
            (TopicOperation::Missed, Absent | Untold) => Some(Absent),
            (TopicOperation::Shown(count), Present(None) | Untold) => Some(Present(Some(*count))),
            (TopicOperation::Shown(count), Present(Some(known))) => {
                (*count == known).then_some(*state)
            }
            (TopicOperation::Create(_) | TopicOperation::Missed, Present(_))
            | (
                TopicOperation::Delete
                | TopicOperation::Grow(_)
                | TopicOperation::Found
                | TopicOperation::Shown(_),
                Absent,
            ) => None,
        }
    }

    fn is_read(&self, operation: &TopicOperation) -> bool {
        matches!(
            operation,
            TopicOperation::Found | TopicOperation::Missed | TopicOperation::Shown(_)
        )
    }
}
