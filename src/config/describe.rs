//! Settings as DescribeConfigs and `config explain` show them.

use std::collections::BTreeMap;

use super::defaults::{BrokerDefaults, Given, Source};
use super::kind::Kind;
use super::setting::{
    Effect, Setting, Update, broker_setting, broker_settings, topic_setting, topic_settings,
};

/// Where a value shown to a client came from; the number is DescribeConfigs'.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize,
)]
#[repr(i8)]
pub enum ConfigSource {
    Unknown = 0,
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
}

impl ConfigSource {
    #[must_use]
    pub fn wire_code(self) -> i8 {
        self as i8
    }
}

impl From<&Source> for ConfigSource {
    fn from(source: &Source) -> Self {
        match source {
            Source::Default => Self::Default,
            Source::DynamicDefault => Self::DynamicDefaultBroker,
            Source::DynamicBroker => Self::DynamicBroker,
            Source::File { .. } | Source::Environment { .. } | Source::Flag => Self::StaticBroker,
        }
    }
}

/// One setting of a topic or broker, for DescribeConfigs.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` when unset, or when it is sensitive.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub read_only: bool,
    pub sensitive: bool,
    /// DescribeConfigs' number for the type.
    pub config_type: i8,
    /// Every value that was given, the one in force first.
    pub synonyms: Vec<ConfigSynonym>,
    #[serde(skip)]
    pub documentation: Option<&'static str>,
}

/// A value that was given under some name.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct ConfigSynonym {
    pub name: String,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// Settings of a topic with `overrides`, sorted by name: those in `names`, or all.
#[must_use]
pub fn describe_topic(
    defaults: &BrokerDefaults,
    overrides: &BTreeMap<String, String>,
    names: Option<&[&str]>,
) -> Vec<ConfigEntry> {
    let mut entries: Vec<ConfigEntry> = match names {
        None => topic_settings()
            .map(|setting| topic_entry(setting, defaults, overrides))
            .collect(),
        Some(names) => names
            .iter()
            .filter_map(|name| Some(topic_entry(topic_setting(name)?, defaults, overrides)))
            .collect(),
    };
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries
}

fn topic_entry(
    setting: &'static Setting,
    defaults: &BrokerDefaults,
    overrides: &BTreeMap<String, String>,
) -> ConfigEntry {
    let mut synonyms = Vec::new();
    let mut value = None;
    if let Some(own) = overrides.get(setting.name) {
        value = Some((own.clone(), ConfigSource::Topic));
        synonyms.push(ConfigSynonym {
            name: setting.name.to_owned(),
            value: Some(own.clone()),
            source: ConfigSource::Topic,
        });
    }
    for synonym in setting.synonyms {
        synonyms.extend(given_synonyms(synonym.name, defaults));
    }
    for synonym in setting.synonyms {
        let default = broker_setting(synonym.name).and_then(|setting| setting.default);
        synonyms.extend(default.map(|default| default_synonym(synonym.name, default)));
    }
    if setting.synonyms.is_empty() {
        synonyms.extend(
            setting
                .default
                .map(|default| default_synonym(setting.name, default)),
        );
    }
    let (value, source) = value.unwrap_or_else(|| {
        let (value, source) = defaults.for_topic(setting);
        (
            value.unwrap_or_default().into_owned(),
            ConfigSource::from(&source),
        )
    });
    ConfigEntry {
        name: setting.name.to_owned(),
        value: Some(value),
        source,
        read_only: setting.update == Update::ReadOnly,
        sensitive: setting.kind.is_sensitive(),
        config_type: setting.kind.wire_code(),
        synonyms,
        documentation: Some(setting.doc),
    }
}

fn given_synonyms(name: &str, defaults: &BrokerDefaults) -> impl Iterator<Item = ConfigSynonym> {
    let name = name.to_owned();
    defaults
        .all_given(&name)
        .into_iter()
        .map(move |given| ConfigSynonym {
            name: name.clone(),
            value: Some(given.value),
            source: ConfigSource::from(&given.source),
        })
}

fn default_synonym(name: &str, default: &str) -> ConfigSynonym {
    ConfigSynonym {
        name: name.to_owned(),
        value: Some(default.to_owned()),
        source: ConfigSource::Default,
    }
}

/// Settings of a broker, sorted by name: those in `names`, or all, including unknown ones that
/// were given.
#[must_use]
pub fn describe_broker(defaults: &BrokerDefaults, names: Option<&[&str]>) -> Vec<ConfigEntry> {
    let mut all: Vec<&str> = match names {
        Some(names) => names.to_vec(),
        None => {
            let unknown = defaults.names().into_iter();
            let unknown = unknown.filter(|name| broker_setting(name).is_none());
            broker_settings()
                .map(|setting| setting.name)
                .chain(unknown)
                .collect()
        }
    };
    all.sort_unstable();
    all.dedup();
    all.into_iter()
        .filter_map(|name| broker_entry(name, defaults))
        .collect()
}

fn broker_entry(name: &str, defaults: &BrokerDefaults) -> Option<ConfigEntry> {
    let setting = broker_setting(name);
    if setting.is_none() && defaults.given(name).is_none() {
        return None;
    }
    let kind = setting.map_or(Kind::Text(&[]), |setting| setting.kind);
    let sensitive = kind.is_sensitive() || (setting.is_none() && sounds_secret(name));
    let mut synonyms: Vec<ConfigSynonym> = given_synonyms(name, defaults).collect();
    let default = setting.and_then(|setting| setting.default);
    synonyms.extend(default.map(|default| default_synonym(name, default)));
    if sensitive {
        synonyms.iter_mut().for_each(|synonym| synonym.value = None);
    }
    let strongest = synonyms.first();
    Some(ConfigEntry {
        name: name.to_owned(),
        value: strongest.and_then(|synonym| synonym.value.clone()),
        source: strongest.map_or(ConfigSource::Default, |synonym| synonym.source),
        read_only: setting.is_none_or(|setting| setting.update == Update::ReadOnly),
        sensitive,
        config_type: kind.wire_code(),
        synonyms,
        documentation: setting.map(|setting| setting.doc),
    })
}

/// Whether the value of an unknown setting should stay hidden.
pub(super) fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "secret", "credential", "jaas", "token", ".key"]
        .iter()
        .any(|word| name.contains(word))
}

/// All that is known of one setting of a node.
#[derive(Clone, PartialEq, Debug)]
pub struct Explanation {
    pub name: String,
    /// In force; `None` when unset or secret.
    pub value: Option<String>,
    pub source: Source,
    /// Weaker values that were given, strongest first.
    pub hidden: Vec<Given>,
    pub default: Option<&'static str>,
    /// What values are possible, in words.
    pub values: String,
    pub effect: Effect,
    pub update: Update,
    pub documentation: &'static str,
}

impl BrokerDefaults {
    /// All that is known of the setting `name`; `None` for an unknown one.
    #[must_use]
    pub fn explain(&self, name: &str) -> Option<Explanation> {
        let setting = broker_setting(name)?;
        let mut given = self.all_given(name);
        if setting.kind.is_sensitive() {
            given
                .iter_mut()
                .for_each(|one| one.value = "***".to_owned());
        }
        let mut given = given.into_iter();
        let strongest = given.next();
        Some(Explanation {
            name: name.to_owned(),
            value: strongest
                .as_ref()
                .map(|one| one.value.clone())
                .or_else(|| setting.default.map(str::to_owned)),
            source: strongest.map_or(Source::Default, |one| one.source),
            hidden: given.collect(),
            default: setting.default,
            values: setting.kind.to_string(),
            effect: setting.effect,
            update: setting.update,
            documentation: setting.doc,
        })
    }
}
