//! What was given for a node's settings, in layers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::setting::{Setting, broker_setting};

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    Default,
    /// The properties file, by line.
    File {
        line: usize,
    },
    Environment {
        variable: String,
    },
    Flag,
    /// Changed by an administrator for all brokers.
    DynamicDefault,
    /// Changed by an administrator for this broker.
    DynamicBroker,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line } => write!(f, "line {line} of the file"),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag => f.write_str("command line"),
            Self::DynamicDefault => f.write_str("changed for all brokers"),
            Self::DynamicBroker => f.write_str("changed for this broker"),
        }
    }
}

/// A value as it was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    pub value: String,
    pub source: Source,
}

/// A setting that cannot be used, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    pub name: String,
    /// As given; `***` for a secret.
    pub value: String,
    pub source: Source,
    pub reason: String,
    pub fix: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            return write!(f, "{}: {}; {}", self.source, self.reason, self.fix);
        }
        let Self {
            name,
            value,
            source,
            reason,
            fix,
        } = self;
        write!(f, "{name}={value} ({source}): {reason}; {fix}")
    }
}

/// Everything wrong with a configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "a setting cannot be used: {one}"),
            many => {
                write!(f, "{} settings cannot be used:", many.len())?;
                many.iter().try_for_each(|one| write!(f, "\n  {one}"))
            }
        }
    }
}

type Changed = Arc<BTreeMap<String, String>>;

/// What is given for a node's settings: by flags, environment and file when it started, and by
/// administrators since. Cheap to clone.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct BrokerDefaults {
    /// Strongest first.
    fixed: Arc<BTreeMap<String, Vec<Given>>>,
    cluster: Changed,
    broker: Changed,
}

impl BrokerDefaults {
    pub(super) fn fixed(fixed: BTreeMap<String, Vec<Given>>) -> Self {
        Self {
            fixed: Arc::new(fixed),
            ..Self::default()
        }
    }

    /// The same node after administrators changed `cluster` for all brokers and `broker` for this
    /// one. Replaces what an earlier call gave.
    #[must_use]
    pub fn with_dynamic(&self, cluster: Changed, broker: Changed) -> Self {
        Self {
            fixed: self.fixed.clone(),
            cluster,
            broker,
        }
    }

    /// The strongest value given for `name`, if any was.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<(&str, Source)> {
        if let Some(value) = self.broker.get(name) {
            return Some((value, Source::DynamicBroker));
        }
        if let Some(value) = self.cluster.get(name) {
            return Some((value, Source::DynamicDefault));
        }
        let strongest = self.fixed.get(name)?.first()?;
        Some((&strongest.value, strongest.source.clone()))
    }

    /// Every value given for `name`, strongest first.
    #[must_use]
    pub fn all_given(&self, name: &str) -> Vec<Given> {
        let changed = |values: &Changed, source: Source| {
            let value = values.get(name)?.clone();
            Some(Given { value, source })
        };
        changed(&self.broker, Source::DynamicBroker)
            .into_iter()
            .chain(changed(&self.cluster, Source::DynamicDefault))
            .chain(self.fixed.get(name).into_iter().flatten().cloned())
            .collect()
    }

    /// Names of everything given, sorted, each once.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.fixed.keys().map(String::as_str).collect();
        names.extend(self.cluster.keys().map(String::as_str));
        names.extend(self.broker.keys().map(String::as_str));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The value in force for the broker setting `name`: given or default.
    #[must_use]
    pub fn effective(&self, name: &str) -> Option<(&str, Source)> {
        self.given(name).or_else(|| {
            let default = broker_setting(name)?.default?;
            Some((default, Source::Default))
        })
    }

    /// The broker's value for a topic's setting, in the topic's unit.
    #[must_use]
    pub fn for_topic(&self, setting: &Setting) -> (Option<Cow<'_, str>>, Source) {
        for synonym in setting.synonyms {
            if let Some((value, source)) = self.given(synonym.name) {
                return (Some(scaled(value, synonym.factor)), source);
            }
        }
        (setting.default.map(Cow::Borrowed), Source::Default)
    }
}

/// `value` in a unit `factor` times smaller; negative numbers mean "no limit" in any unit.
fn scaled(value: &str, factor: i64) -> Cow<'_, str> {
    match value.trim().parse::<i64>() {
        Ok(number) if factor != 1 && number >= 0 => {
            Cow::Owned(number.saturating_mul(factor).to_string())
        }
        _ => Cow::Borrowed(value),
    }
}
