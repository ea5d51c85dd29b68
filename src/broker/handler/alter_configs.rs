//! AlterConfigs and IncrementalAlterConfigs: settings of topics and brokers.

use std::sync::Arc;

use super::mirrors;
use crate::broker::Broker;
use crate::controller::{
    AlterConfigs, AlterOperation, ConfigChange, ConfigResource, IncrementalAlterConfigs, Refusal,
    ResourceType,
};
use crate::types::ErrorCode;
use crate::wire::Str;
use crate::wire::message::alter_configs as replacing;
use crate::wire::message::incremental_alter_configs as changing;

type Outcomes = Result<Vec<(ConfigResource, Result<(), Refusal>)>, Refusal>;

/// The outcome of one resource, in the terms of either response.
struct Outcome {
    kind: i8,
    name: Str,
    refusal: Option<Refusal>,
}

/// AlterConfigs: what is given replaces all that was set.
pub async fn replace(
    broker: Arc<Broker>,
    request: replacing::AlterConfigsRequest,
) -> replacing::AlterConfigsResponse {
    let image = broker.controller.image();
    let mut outcomes = Vec::new();
    let mut resources = Vec::new();
    for resource in request.resources {
        let values = resource
            .configs
            .iter()
            .map(|config| (owned(&config.name), config.value.as_ref().map(owned)));
        let values: Vec<_> = values.collect();
        let read = config_resource(resource.resource_type, &resource.resource_name);
        let read = read.and_then(|named| {
            mirrors::check_replacement(&image, &named, &values)?;
            Ok((named, values))
        });
        match read {
            Ok(read) => resources.push(read),
            Err(refusal) => outcomes.push(Outcome {
                kind: resource.resource_type,
                name: resource.resource_name,
                refusal: Some(refusal),
            }),
        }
    }
    let named: Vec<ConfigResource> = resources.iter().map(|(named, _)| named.clone()).collect();
    let wanted = AlterConfigs {
        resources,
        validate_only: request.validate_only,
    };
    outcomes.extend(settled(
        broker.controller.alter_configs(wanted).await,
        named,
    ));
    let responses = outcomes.into_iter().map(|outcome| {
        let (code, text) = split(outcome.refusal);
        replacing::AlterConfigsResourceResponse {
            error_code: code,
            error_message: text,
            resource_type: outcome.kind,
            resource_name: outcome.name,
            ..Default::default()
        }
    });
    replacing::AlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

/// IncrementalAlterConfigs: what is not named stays as it is (KIP-339).
pub async fn incremental(
    broker: Arc<Broker>,
    request: changing::IncrementalAlterConfigsRequest,
) -> changing::IncrementalAlterConfigsResponse {
    let image = broker.controller.image();
    let mut outcomes = Vec::new();
    let mut resources = Vec::new();
    for resource in request.resources {
        let named = config_resource(resource.resource_type, &resource.resource_name);
        let read = named.and_then(|named| {
            let changes = changes(&resource.configs)?;
            mirrors::check_changes(&image, &named, &changes)?;
            Ok((named, changes))
        });
        match read {
            Ok(read) => resources.push(read),
            Err(refusal) => outcomes.push(Outcome {
                kind: resource.resource_type,
                name: resource.resource_name,
                refusal: Some(refusal),
            }),
        }
    }
    let named: Vec<ConfigResource> = resources.iter().map(|(named, _)| named.clone()).collect();
    let wanted = IncrementalAlterConfigs {
        resources,
        validate_only: request.validate_only,
    };
    outcomes.extend(settled(
        broker.controller.incremental_alter_configs(wanted).await,
        named,
    ));
    let responses = outcomes.into_iter().map(|outcome| {
        let (code, text) = split(outcome.refusal);
        changing::AlterConfigsResourceResponse {
            error_code: code,
            error_message: text,
            resource_type: outcome.kind,
            resource_name: outcome.name,
            ..Default::default()
        }
    });
    changing::IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..Default::default()
    }
}

fn owned(text: &Str) -> String {
    text.as_str().to_owned()
}

fn changes(configs: &[changing::AlterableConfig]) -> Result<Vec<ConfigChange>, Refusal> {
    let change = |config: &changing::AlterableConfig| {
        let operation = AlterOperation::from_wire(config.config_operation).ok_or_else(|| {
            let text = format!(
                "{} is not an operation on a setting",
                config.config_operation
            );
            Refusal::new(ErrorCode::InvalidRequest, text)
        })?;
        let value = config.value.as_ref().map(owned);
        Ok(ConfigChange {
            name: owned(&config.name),
            operation,
            value,
        })
    };
    configs.iter().map(change).collect()
}

pub(super) fn config_resource(kind: i8, name: &Str) -> Result<ConfigResource, Refusal> {
    let kind = ResourceType::from_wire(kind).ok_or_else(|| {
        let text = format!("resource type {kind} has no settings here: topics and brokers have");
        Refusal::new(ErrorCode::InvalidRequest, text)
    })?;
    Ok(ConfigResource {
        resource_type: kind,
        name: owned(name),
    })
}

fn settled(outcomes: Outcomes, named: Vec<ConfigResource>) -> Vec<Outcome> {
    let outcome = |resource: ConfigResource, refusal| Outcome {
        kind: resource.resource_type as i8,
        name: resource.name.into(),
        refusal,
    };
    match outcomes {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|(resource, done)| outcome(resource, done.err()))
            .collect(),
        Err(refusal) => named
            .into_iter()
            .map(|resource| outcome(resource, Some(refusal.clone())))
            .collect(),
    }
}

fn split(refusal: Option<Refusal>) -> (i16, Option<Str>) {
    match refusal {
        None => (ErrorCode::None.code(), None),
        Some(refusal) => (refusal.code.code(), Some(refusal.text.into())),
    }
}
