//! Configs of topics, brokers and groups.

use std::collections::BTreeMap;

use super::{Admin, Each, first_retriable};
use crate::client::error::{ApiError, ClientError};
use crate::types::BrokerId;
use crate::wire::Str;
use crate::wire::message::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource as ReplacedResource, AlterableConfig as Replaced,
};
use crate::wire::message::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use crate::wire::message::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

/// What a config belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ResourceKind {
    Topic,
    Broker,
    Group,
}

impl ResourceKind {
    fn to_wire(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::Group => 32,
        }
    }

    fn from_wire(kind: i8) -> Option<Self> {
        [Self::Topic, Self::Broker, Self::Group]
            .into_iter()
            .find(|known| known.to_wire() == kind)
    }
}

/// A thing with configs. A broker's name is its id; the empty name means all brokers' default.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ConfigResource {
    pub kind: ResourceKind,
    pub name: String,
}

impl ConfigResource {
    #[must_use]
    pub fn topic(name: &str) -> Self {
        Self {
            kind: ResourceKind::Topic,
            name: name.to_owned(),
        }
    }

    #[must_use]
    pub fn broker(id: BrokerId) -> Self {
        Self {
            kind: ResourceKind::Broker,
            name: id.to_string(),
        }
    }

    /// The broker that must be asked: a broker's own configs are known to itself.
    fn owner(&self) -> Option<BrokerId> {
        match self.kind {
            ResourceKind::Broker => self.name.parse().ok().map(BrokerId),
            _ => None,
        }
    }
}

/// One config with where its value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` when it has no value or is sensitive.
    pub value: Option<String>,
    /// Kafka's name of the source, such as `DYNAMIC_TOPIC_CONFIG` or `DEFAULT_CONFIG`.
    pub source: &'static str,
    pub is_default: bool,
    pub is_read_only: bool,
    pub is_sensitive: bool,
    /// Name, value and source of what would apply without it, in order.
    pub synonyms: Vec<(String, Option<String>, &'static str)>,
    pub documentation: Option<String>,
}

/// A change of one config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigChange {
    Set(String),
    /// Back to the default.
    Delete,
    /// Adds to a list.
    Append(String),
    /// Takes from a list.
    Subtract(String),
}

impl ConfigChange {
    fn to_wire(&self) -> (i8, Option<Str>) {
        match self {
            Self::Set(value) => (0, Some(value.as_str().into())),
            Self::Delete => (1, None),
            Self::Append(value) => (2, Some(value.as_str().into())),
            Self::Subtract(value) => (3, Some(value.as_str().into())),
        }
    }
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

fn entry(config: &DescribeConfigsResourceResult) -> ConfigEntry {
    let synonyms = config.synonyms.iter().map(|synonym| {
        let value = synonym.value.as_ref().map(ToString::to_string);
        (synonym.name.to_string(), value, source_name(synonym.source))
    });
    ConfigEntry {
        name: config.name.to_string(),
        value: config.value.as_ref().map(ToString::to_string),
        source: source_name(config.config_source),
        is_default: config.config_source == 5,
        is_read_only: config.read_only,
        is_sensitive: config.is_sensitive,
        synonyms: synonyms.collect(),
        documentation: config
            .documentation
            .as_ref()
            .filter(|text| !text.is_empty())
            .map(ToString::to_string),
    }
}

type Changes = BTreeMap<String, ConfigChange>;

impl Admin {
    /// All configs of each resource, sorted by name.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
    ) -> Result<Each<ConfigResource, Vec<ConfigEntry>>, ClientError> {
        let mut all = Each::new();
        for (owner, resources) in by_owner(resources.iter()) {
            let attempt = || self.describe_configs_at(owner, &resources);
            all.extend(self.cluster.retry("describing configs", attempt).await?);
        }
        Ok(all)
    }

    async fn describe_configs_at(
        &self,
        owner: Option<BrokerId>,
        resources: &[&ConfigResource],
    ) -> Result<Each<ConfigResource, Vec<ConfigEntry>>, ClientError> {
        let wanted = resources.iter().map(|resource| DescribeConfigsResource {
            resource_type: resource.kind.to_wire(),
            resource_name: Str::from(resource.name.as_str()),
            configuration_keys: None,
            ..Default::default()
        });
        let request = DescribeConfigsRequest {
            resources: wanted.collect(),
            include_synonyms: true,
            include_documentation: true,
            ..Default::default()
        };
        let answer = match owner {
            Some(broker) => self.cluster.call(broker, request).await?,
            None => self.cluster.call_any(request).await?,
        };
        let mut results = Each::new();
        for result in &answer.results {
            let Some(kind) = ResourceKind::from_wire(result.resource_type) else {
                continue;
            };
            let name = result.resource_name.to_string();
            let mut entries: Vec<ConfigEntry> = result.configs.iter().map(entry).collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            let checked = ApiError::check(result.error_code, result.error_message.as_deref());
            results.insert(ConfigResource { kind, name }, checked.map(|()| entries));
        }
        Ok(results)
    }

    /// Changes configs, leaving those not named as they are. Brokers without
    /// IncrementalAlterConfigs are asked for all configs first and given the whole set back: a
    /// change made by somebody else in between is then lost.
    pub async fn alter_configs(
        &self,
        changes: &BTreeMap<ConfigResource, Changes>,
        validate_only: bool,
    ) -> Result<Each<ConfigResource, ()>, ClientError> {
        let mut all = Each::new();
        for (owner, resources) in by_owner(changes.keys()) {
            let part: Vec<_> = resources
                .iter()
                .filter_map(|resource| changes.get_key_value(*resource))
                .collect();
            let attempt = || async {
                let done = self.alter_incrementally(owner, &part, validate_only).await;
                match done {
                    Err(ClientError::UnsupportedVersion { .. }) => {
                        self.alter_by_replacing(owner, &part, validate_only).await
                    }
                    done => done,
                }
            };
            all.extend(self.cluster.retry("altering configs", attempt).await?);
        }
        Ok(all)
    }

    async fn alter_incrementally(
        &self,
        owner: Option<BrokerId>,
        changes: &[(&ConfigResource, &Changes)],
        validate_only: bool,
    ) -> Result<Each<ConfigResource, ()>, ClientError> {
        let resources = changes.iter().map(|(resource, changes)| {
            let configs = changes.iter().map(|(name, change)| {
                let (config_operation, value) = change.to_wire();
                AlterableConfig {
                    name: Str::from(name.as_str()),
                    config_operation,
                    value,
                    ..Default::default()
                }
            });
            AlterConfigsResource {
                resource_type: resource.kind.to_wire(),
                resource_name: Str::from(resource.name.as_str()),
                configs: configs.collect(),
                ..Default::default()
            }
        });
        let request = IncrementalAlterConfigsRequest {
            resources: resources.collect(),
            validate_only,
            ..Default::default()
        };
        let target = self.owner_or_controller(owner).await?;
        let answer = self.cluster.call(target, request).await?;
        altered(answer.responses.iter().map(|r| {
            let text = r.error_message.as_deref();
            (r.resource_type, &r.resource_name, r.error_code, text)
        }))
    }

    async fn alter_by_replacing(
        &self,
        owner: Option<BrokerId>,
        changes: &[(&ConfigResource, &Changes)],
        validate_only: bool,
    ) -> Result<Each<ConfigResource, ()>, ClientError> {
        let names: Vec<&ConfigResource> = changes.iter().map(|(resource, _)| *resource).collect();
        let current = self.describe_configs_at(owner, &names).await?;
        let mut resources = Vec::new();
        for (resource, changes) in changes {
            let entries = match current.get(*resource) {
                Some(Ok(entries)) => entries.as_slice(),
                Some(Err(error)) => {
                    return Err(ClientError::refused("describing configs", error.clone()));
                }
                None => &[],
            };
            let configs = replaced(entries, changes)?;
            resources.push(ReplacedResource {
                resource_type: resource.kind.to_wire(),
                resource_name: Str::from(resource.name.as_str()),
                configs,
                ..Default::default()
            });
        }
        let request = AlterConfigsRequest {
            resources,
            validate_only,
            ..Default::default()
        };
        let target = self.owner_or_controller(owner).await?;
        let answer = self.cluster.call(target, request).await?;
        altered(answer.responses.iter().map(|r| {
            let text = r.error_message.as_deref();
            (r.resource_type, &r.resource_name, r.error_code, text)
        }))
    }

    async fn owner_or_controller(&self, owner: Option<BrokerId>) -> Result<BrokerId, ClientError> {
        match owner {
            Some(broker) => Ok(broker),
            None => self.cluster.controller().await,
        }
    }
}

fn by_owner<'a>(
    resources: impl Iterator<Item = &'a ConfigResource>,
) -> BTreeMap<Option<BrokerId>, Vec<&'a ConfigResource>> {
    let mut owners: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for resource in resources {
        owners.entry(resource.owner()).or_default().push(resource);
    }
    owners
}

fn altered<'a>(
    responses: impl Iterator<Item = (i8, &'a Str, i16, Option<&'a str>)>,
) -> Result<Each<ConfigResource, ()>, ClientError> {
    let mut results = Each::new();
    for (kind, name, code, text) in responses {
        if let Some(kind) = ResourceKind::from_wire(kind) {
            let name = name.to_string();
            results.insert(ConfigResource { kind, name }, ApiError::check(code, text));
        }
    }
    first_retriable("altering configs", results.values())?;
    Ok(results)
}

/// The whole set after `changes`: what was set on the resource itself, changed.
fn replaced(entries: &[ConfigEntry], changes: &Changes) -> Result<Vec<Replaced>, ClientError> {
    let own = entries.iter().filter(|entry| {
        matches!(
            entry.source,
            "DYNAMIC_TOPIC_CONFIG" | "DYNAMIC_BROKER_CONFIG" | "DYNAMIC_GROUP_CONFIG"
        )
    });
    let mut values: BTreeMap<&str, Option<&str>> = own
        .map(|entry| (entry.name.as_str(), entry.value.as_deref()))
        .collect();
    for (name, change) in changes {
        match change {
            ConfigChange::Set(value) => {
                values.insert(name, Some(value));
            }
            ConfigChange::Delete => {
                values.remove(name.as_str());
            }
            ConfigChange::Append(_) | ConfigChange::Subtract(_) => {
                return Err(ClientError::Misuse(
                    "this broker cannot change parts of a list: set the whole list",
                ));
            }
        }
    }
    let replaced = values.into_iter().map(|(name, value)| Replaced {
        name: Str::from(name),
        value: value.map(Str::from),
        ..Default::default()
    });
    Ok(replaced.collect())
}
