//! Changing settings.

use std::collections::BTreeMap;

use super::draft::{Draft, Wanted};
use super::{ControllerLedger, Outcome};
use crate::config::{Kind, Setting, TopicConfig, Update, Value, broker_setting, topic_setting};
use crate::controller::link::PROVENANCE;
use crate::controller::record::{
    Cause, ConfigResource, MetadataRecord, PartitionState, ResourceType,
};
use crate::controller::request::{
    AlterConfigs, AlterOperation, ConfigChange, IncrementalAlterConfigs, Refusal, Reply,
};
use crate::types::{BrokerId, ErrorCode, Timestamp};

type Settings = BTreeMap<String, String>;

fn refuse<T>(code: ErrorCode, text: String) -> Result<T, Refusal> {
    Err(Refusal::new(code, text))
}

impl ControllerLedger {
    pub(super) fn incremental_alter_configs(
        &self,
        request: &IncrementalAlterConfigs,
    ) -> (Vec<MetadataRecord>, Reply) {
        self.alter(
            &request.resources,
            request.validate_only,
            |resource, changes| self.changed(resource, changes),
        )
    }

    pub(super) fn alter_configs(&self, request: &AlterConfigs) -> (Vec<MetadataRecord>, Reply) {
        self.alter(&request.resources, request.validate_only, replaced)
    }

    /// Carries out changes resource by resource: `settings` says what each shall have afterwards.
    fn alter<T>(
        &self,
        resources: &[(ConfigResource, Vec<T>)],
        validate_only: bool,
        settings: impl Fn(&ConfigResource, &[T]) -> Result<Settings, Refusal>,
    ) -> (Vec<MetadataRecord>, Reply) {
        let mut times: BTreeMap<&ConfigResource, usize> = BTreeMap::new();
        for (resource, _) in resources {
            *times.entry(resource).or_default() += 1;
        }
        let mut records = Vec::new();
        let mut results = Vec::new();
        for (resource, asked) in resources {
            let result = match times.get(resource) {
                Some(1) => self
                    .check_resource(resource)
                    .and_then(|()| settings(resource, asked))
                    .and_then(|after| self.difference(resource, &after)),
                _ => refuse(
                    ErrorCode::InvalidRequest,
                    format!("{resource} is in the request more than once"),
                ),
            };
            let result = result.map(|more| {
                if !validate_only {
                    records.extend(more);
                }
            });
            results.push((resource.clone(), result));
        }
        (records, Reply::AlterConfigs(results))
    }

    /// What holds for a whole cluster from its founding on, whatever a node was started with:
    /// controllers and leaders must agree on when the high watermark may move, and on what is on
    /// disk when it does.
    pub(super) fn settings_of_all(&self) -> Vec<MetadataRecord> {
        if !self.is_cluster {
            return Vec::new();
        }
        let record = |name: &&str| {
            let (value, _) = self.defaults.effective(name)?;
            Some(MetadataRecord::Config {
                resource: ConfigResource::all_brokers(),
                name: (*name).to_owned(),
                value: Some(value.to_owned()),
            })
        };
        OF_ALL.iter().filter_map(record).collect()
    }

    /// Adds to changes of settings what follows for partitions. Where fewer in-sync replicas are
    /// enough from now on, the high watermark moves on without those that left, and nobody else
    /// stays eligible. Where an unclean election is allowed from now on, it is held.
    pub(super) fn with_consequences(
        &self,
        now: Timestamp,
        (mut records, reply): (Vec<MetadataRecord>, Reply),
    ) -> Outcome {
        if records.is_empty() || !self.is_cluster {
            return Ok((records, reply));
        }
        let (image, _) = self
            .image
            .replay(self.image.end(), &records)
            .map_err(|error| Refusal::new(ErrorCode::UnknownServerError, error.to_string()))?;
        let after = Self {
            image,
            ..self.clone()
        };
        let mut draft = Draft::new(&after, now);
        for topic in after.image.topics() {
            for (partition, state) in (0..).zip(&topic.partitions) {
                if !state.elr.is_empty() || state.leader.is_none() {
                    let cause = Cause::MinInsyncReplicasChanged;
                    let wanted = Wanted::new(PartitionState::clone(state), cause, None);
                    draft.change(topic, partition, wanted);
                }
            }
        }
        records.extend(draft.into_records());
        Ok((records, reply))
    }

    fn check_resource(&self, resource: &ConfigResource) -> Result<(), Refusal> {
        let name = &resource.name;
        match resource.resource_type {
            ResourceType::Topic if self.image.topic(name).is_some() => Ok(()),
            ResourceType::Topic => refuse(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic '{name}'"),
            ),
            ResourceType::Broker if name.is_empty() => Ok(()),
            ResourceType::Broker => {
                let id = name.parse().map(BrokerId).ok();
                match id.is_some_and(|id| self.image.broker(id).is_some()) {
                    true => Ok(()),
                    false => refuse(
                        ErrorCode::InvalidRequest,
                        format!(
                            "there is no broker '{name}'; give the id of a registered broker, or \
                             nothing for all brokers"
                        ),
                    ),
                }
            }
            other => refuse(
                ErrorCode::InvalidRequest,
                format!(
                    "settings of a {} cannot be changed in this version",
                    other.name()
                ),
            ),
        }
    }

    /// The settings `resource` has after `changes`.
    fn changed(
        &self,
        resource: &ConfigResource,
        changes: &[ConfigChange],
    ) -> Result<Settings, Refusal> {
        let mut settings = Settings::clone(&self.image.config(resource));
        let mut seen = std::collections::BTreeSet::new();
        for change in changes {
            let name = &change.name;
            if !seen.insert(name) {
                return refuse(
                    ErrorCode::InvalidRequest,
                    format!("{name} of {resource} is changed more than once"),
                );
            }
            if change.operation == AlterOperation::Delete {
                settings.remove(name);
                continue;
            }
            let Some(value) = &change.value else {
                return refuse(
                    ErrorCode::InvalidRequest,
                    format!("Null value not supported for : {name}; delete it instead"),
                );
            };
            let value = match change.operation {
                AlterOperation::Append => {
                    self.list_change(resource, name, value, &settings, true)?
                }
                AlterOperation::Subtract => {
                    self.list_change(resource, name, value, &settings, false)?
                }
                AlterOperation::Set | AlterOperation::Delete => value.clone(),
            };
            settings.insert(name.clone(), value);
        }
        Ok(settings)
    }

    /// The list `name` with the elements of `value` added or taken out.
    fn list_change(
        &self,
        resource: &ConfigResource,
        name: &str,
        value: &str,
        settings: &Settings,
        add: bool,
    ) -> Result<String, Refusal> {
        let setting = setting_of(resource, name)?;
        if !matches!(setting.kind, Kind::List(_)) {
            return refuse(
                ErrorCode::InvalidConfig,
                format!(
                    "Can't {} to key {name} because its type is not LIST.",
                    if add { "APPEND" } else { "SUBTRACT" }
                ),
            );
        }
        let current = match settings.get(name) {
            Some(current) => current.clone(),
            None => self.in_force(resource, setting),
        };
        let parse = |text: &str| match Kind::List(&[]).parse(text) {
            Ok(Value::List(elements)) => Ok(elements),
            Ok(_) => Ok(Vec::new()),
            Err(error) => refuse(ErrorCode::InvalidConfig, format!("{name}={text}: {error}")),
        };
        let (mut elements, given) = (parse(&current)?, parse(value)?);
        elements.retain(|element| !given.contains(element));
        if add {
            // Elements that were there keep their place.
            let kept = parse(&current)?;
            let new = given.into_iter().filter(|element| !kept.contains(element));
            elements = kept.iter().cloned().chain(new).collect();
        }
        Ok(elements.join(","))
    }

    /// The value of an unset setting.
    fn in_force(&self, resource: &ConfigResource, setting: &Setting) -> String {
        let defaults = self.broker_defaults();
        let value = match resource.resource_type {
            ResourceType::Topic => defaults
                .for_topic(setting)
                .0
                .map(|value| value.into_owned()),
            _ => defaults
                .effective(setting.name)
                .map(|(value, _)| value.to_owned()),
        };
        value.unwrap_or_default()
    }

    /// Records that take `resource` from its settings to `after`, if those are acceptable.
    fn difference(
        &self,
        resource: &ConfigResource,
        after: &Settings,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let before = self.image.config(resource);
        let after = &self.with_lasting_settings(resource, &before, after);
        self.check_settings(resource, &before, after)?;
        let record = |name: &String, value: Option<String>| MetadataRecord::Config {
            resource: resource.clone(),
            name: name.clone(),
            value,
        };
        let removed = before.keys().filter(|name| !after.contains_key(*name));
        let mut records: Vec<_> = removed.map(|name| record(name, None)).collect();
        let changed = after
            .iter()
            .filter(|(name, value)| before.get(*name) != Some(*value));
        records.extend(changed.map(|(name, value)| record(name, Some(value.clone()))));
        Ok(records)
    }

    /// `after`, with the built-in defaults of what a cluster always has in its metadata, and with
    /// what a topic that was copied never loses.
    fn with_lasting_settings(
        &self,
        resource: &ConfigResource,
        before: &Settings,
        after: &Settings,
    ) -> Settings {
        let mut after = after.clone();
        if let Some(provenance) = before.get(PROVENANCE) {
            let name = PROVENANCE.to_owned();
            after.entry(name).or_insert_with(|| provenance.clone());
        }
        if self.is_cluster && *resource == ConfigResource::all_brokers() {
            for name in OF_ALL {
                if let Some(default) = broker_setting(name).and_then(|setting| setting.default) {
                    let value = || default.to_owned();
                    after.entry((*name).to_owned()).or_insert_with(value);
                }
            }
        }
        after
    }

    fn check_settings(
        &self,
        resource: &ConfigResource,
        before: &Settings,
        after: &Settings,
    ) -> Result<(), Refusal> {
        if resource.resource_type == ResourceType::Topic {
            return TopicConfig::resolve(&self.broker_defaults(), after)
                .map(|_| ())
                .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()));
        }
        for (name, value) in after {
            if before.get(name) != Some(value) {
                check_broker_setting(resource, name, value)?;
                self.check_of_all(resource, name)?;
            }
        }
        Ok(())
    }

    fn check_of_all(&self, resource: &ConfigResource, name: &str) -> Result<(), Refusal> {
        match self.is_cluster && !resource.name.is_empty() && OF_ALL.contains(&name) {
            true => refuse(
                ErrorCode::InvalidRequest,
                format!("{name} must be the same on all brokers; set it for all, or for topics"),
            ),
            false => Ok(()),
        }
    }
}

/// Settings that must be the same on all nodes of a cluster.
const OF_ALL: &[&str] = &["min.insync.replicas", "klamm.durability"];

fn setting_of(resource: &ConfigResource, name: &str) -> Result<&'static Setting, Refusal> {
    let setting = match resource.resource_type {
        ResourceType::Topic => topic_setting(name),
        _ => broker_setting(name),
    };
    setting.ok_or_else(|| {
        Refusal::new(
            ErrorCode::InvalidConfig,
            format!(
                "Unknown {} config name: {name}",
                resource.resource_type.name()
            ),
        )
    })
}

/// Whether administrators may set `name` of one broker, or of all.
fn check_broker_setting(resource: &ConfigResource, name: &str, value: &str) -> Result<(), Refusal> {
    let setting = setting_of(resource, name)?;
    if setting.update == Update::ReadOnly {
        return refuse(
            ErrorCode::InvalidRequest,
            format!(
                "Cannot update these configs dynamically: {name}; change it where the broker is \
                 started and restart it"
            ),
        );
    }
    if setting.update == Update::PerBroker && resource.name.is_empty() {
        return refuse(
            ErrorCode::InvalidRequest,
            format!(
                "Cannot update these configs at default cluster level: {name}; set it for each \
                 broker"
            ),
        );
    }
    setting.kind.parse(value).map(|_| ()).map_err(|error| {
        Refusal::new(
            ErrorCode::InvalidConfig,
            format!("Invalid value {value} for configuration {name}: {error}"),
        )
    })
}

/// Settings in place of all old ones.
fn replaced(
    resource: &ConfigResource,
    settings: &[(String, Option<String>)],
) -> Result<Settings, Refusal> {
    let mut after = Settings::new();
    for (name, value) in settings {
        let Some(value) = value else {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("Null value not supported for : {name}; leave it out"),
            );
        };
        if after.insert(name.clone(), value.clone()).is_some() {
            return refuse(
                ErrorCode::InvalidRequest,
                format!("{name} of {resource} is given more than once"),
            );
        }
    }
    Ok(after)
}
