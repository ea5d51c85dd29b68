//! One setting of a topic.

use std::marker::PhantomData;

use crate::checker::linear::Model;

/// A setting of the topic of one name. What it is at first, and what the broker takes where nothing
/// is set, is learnt from the first answer that shows it; the latter does not change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Config<'a>(PhantomData<&'a str>);

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setting<'a> {
    /// Nothing was said of the topic yet.
    Untold,
    /// There is no topic.
    Absent,
    /// The broker's default.
    Default,
    Is(Option<&'a str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigOperation<'a> {
    /// The topic was made, with this value or none.
    Create(Option<&'a str>),
    /// The topic was deleted.
    Delete,
    /// It got this value, or the broker's default.
    Alter(Option<&'a str>),
    /// It was said to be this.
    Describe(Option<&'a str>),
    /// It was said that there is no such topic.
    Missed,
}

impl<'a> Model for Config<'a> {
    /// The setting, and the default if it was shown.
    type State = (Setting<'a>, Option<Option<&'a str>>);
    type Operation = ConfigOperation<'a>;

    fn initial(&self) -> Self::State {
        (Setting::Untold, None)
    }

    fn step(&self, state: &Self::State, operation: &ConfigOperation<'a>) -> Option<Self::State> {
        use Setting::{Absent, Default, Is, Untold};
        let (setting, default) = *state;
        let set = |value: &Option<&'a str>| value.map_or(Default, |value| Is(Some(value)));
        match (operation, setting) {
            (ConfigOperation::Create(value), Absent | Untold) => Some((set(value), default)),
            (ConfigOperation::Create(_), Default | Is(_)) => None,
            (ConfigOperation::Delete, Absent) => None,
            (ConfigOperation::Delete, Untold | Default | Is(_)) => Some((Absent, default)),
            (ConfigOperation::Alter(_), Absent) => None,
            (ConfigOperation::Alter(value), Untold | Default | Is(_)) => {
                Some((set(value), default))
            }
            (ConfigOperation::Describe(_), Absent) => None,
            (ConfigOperation::Describe(shown), Untold) => Some((Is(*shown), default)),
            (ConfigOperation::Describe(shown), Is(value)) => (*shown == value).then_some(*state),
            (ConfigOperation::Describe(shown), Default) => {
                let is_it = default.is_none_or(|default| default == *shown);
                is_it.then_some((Default, Some(*shown)))
            }
            (ConfigOperation::Missed, Absent | Untold) => Some((Absent, default)),
            (ConfigOperation::Missed, Default | Is(_)) => None,
        }
    }

    fn is_read(&self, operation: &ConfigOperation<'a>) -> bool {
        matches!(
            operation,
            ConfigOperation::Describe(_) | ConfigOperation::Missed
        )
    }
}
