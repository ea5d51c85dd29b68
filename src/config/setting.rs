//! One setting: its names, type, default and meaning. The tables below this module list them all.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::kind::Kind;
use super::table;

/// What can be said about one setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: unset.
    pub default: Option<&'static str>,
    pub update: Update,
    pub effect: Effect,
    /// For a topic's setting: the broker's settings it falls back to, strongest first.
    pub synonyms: &'static [Synonym],
    pub doc: &'static str,
}

/// A broker's setting that stands for a topic's when the topic does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Synonym {
    pub name: &'static str,
    /// What one unit of it is in the topic's unit.
    pub factor: i64,
}

/// How a setting changes while the node runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// Only by a restart.
    ReadOnly,
    /// For one broker at a time.
    PerBroker,
    /// For one broker or for all.
    ClusterWide,
}

/// What setting it does in this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    Works,
    /// Accepted for compatibility; saying so once is useful.
    NotYet,
    /// Accepted for compatibility; nothing here corresponds to it.
    Silent,
}

/// All settings of a node, in groups.
pub fn broker_settings() -> impl Iterator<Item = &'static Setting> {
    table::BROKER.iter().copied().flatten()
}

/// All settings of a topic.
pub fn topic_settings() -> impl Iterator<Item = &'static Setting> {
    table::TOPIC.iter()
}

#[must_use]
pub fn broker_setting(name: &str) -> Option<&'static Setting> {
    static INDEX: OnceLock<HashMap<&'static str, &'static Setting>> = OnceLock::new();
    INDEX
        .get_or_init(|| broker_settings().map(|one| (one.name, one)).collect())
        .get(name)
        .copied()
}

#[must_use]
pub fn topic_setting(name: &str) -> Option<&'static Setting> {
    static INDEX: OnceLock<HashMap<&'static str, &'static Setting>> = OnceLock::new();
    INDEX
        .get_or_init(|| topic_settings().map(|one| (one.name, one)).collect())
        .get(name)
        .copied()
}
