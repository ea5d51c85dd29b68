//! DescribeConfigs: settings in force, each with where it came from.

use std::sync::Arc;

use super::alter_configs::config_resource;
use crate::broker::Broker;
use crate::config::{ConfigEntry, describe_broker, describe_topic};
use crate::controller::{Refusal, ResourceType};
use crate::types::ErrorCode;
use crate::wire::message::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

pub fn handle(broker: &Arc<Broker>, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let mut result = DescribeConfigsResult {
            error_message: None,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..Default::default()
        };
        match describe(broker, resource) {
            Ok(entries) => {
                result.configs = entries
                    .into_iter()
                    .map(|entry| written(entry, request))
                    .collect();
            }
            Err(refusal) => {
                result.error_code = refusal.code.code();
                result.error_message = Some(refusal.text.into());
            }
        }
        result
    });
    DescribeConfigsResponse {
        results: results.collect(),
        ..Default::default()
    }
}

fn describe(
    broker: &Broker,
    wanted: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Refusal> {
    let resource = config_resource(wanted.resource_type, &wanted.resource_name)?;
    let names: Option<Vec<&str>> = wanted
        .configuration_keys
        .as_ref()
        .map(|keys| keys.iter().map(|key| key.as_str()).collect());
    let names = names.as_deref();
    let image = broker.controller.image();
    let defaults = image.broker_defaults(broker.config.defaults(), broker.config.node_id);
    match resource.resource_type {
        ResourceType::Topic => {
            if image.topic(&resource.name).is_none() {
                let text = format!("topic '{}' does not exist", resource.name);
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, text));
            }
            let overrides = image.topic_overrides(&resource.name);
            Ok(describe_topic(&defaults, &overrides, names))
        }
        ResourceType::Broker => {
            let own = resource.name == broker.config.node_id.to_string();
            if !own && !resource.name.is_empty() {
                let text = format!(
                    "this is broker {}, ask broker {} itself",
                    broker.config.node_id, resource.name
                );
                return Err(Refusal::new(ErrorCode::InvalidRequest, text));
            }
            let mut entries = describe_broker(&defaults, names);
            if !own {
                // Without a name: what was set for all brokers, and nothing else.
                let for_all = crate::config::ConfigSource::DynamicDefaultBroker;
                entries.retain(|entry| entry.source == for_all);
            }
            Ok(entries)
        }
        // Nothing of this kind has settings here yet.
        ResourceType::Group | ResourceType::ClientMetrics => Ok(Vec::new()),
        ResourceType::BrokerLogger => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "log levels are set by klamm.log.level when a broker starts",
        )),
    }
}

fn written(entry: ConfigEntry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms {
        entry.synonyms
    } else {
        Vec::new()
    };
    DescribeConfigsResourceResult {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.wire_code(),
        is_sensitive: entry.sensitive,
        synonyms: synonyms
            .into_iter()
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: synonym.value.map(Into::into),
                source: synonym.source.wire_code(),
                ..Default::default()
            })
            .collect(),
        config_type: entry.config_type,
        documentation: match request.include_documentation {
            true => entry.documentation.map(Into::into),
            false => None,
        },
        ..Default::default()
    }
}
