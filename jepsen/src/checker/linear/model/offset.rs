//! What a group has committed for a partition.

use std::marker::PhantomData;

use crate::checker::linear::Model;

/// The committed offset of one group and partition, with its metadata: none at first.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommittedOffset<'a>(PhantomData<&'a str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OffsetOperation<'a> {
    Commit(i64, &'a str),
    /// It was answered with this, or with none.
    Fetch(Option<(i64, &'a str)>),
    Delete,
}

impl<'a> Model for CommittedOffset<'a> {
    type State = Option<(i64, &'a str)>;
    type Operation = OffsetOperation<'a>;

    fn initial(&self) -> Self::State {
        None
    }

    fn step(&self, state: &Self::State, operation: &OffsetOperation<'a>) -> Option<Self::State> {
        match operation {
            OffsetOperation::Commit(offset, metadata) => Some(Some((*offset, metadata))),
            OffsetOperation::Fetch(value) => (value == state).then_some(*state),
            OffsetOperation::Delete => Some(None),
        }
    }

    fn is_read(&self, operation: &OffsetOperation<'a>) -> bool {
        matches!(operation, OffsetOperation::Fetch(_))
    }
}
