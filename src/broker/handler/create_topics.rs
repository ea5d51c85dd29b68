//! CreateTopics: new topics, or a check whether they could be made.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::Broker;
use crate::config::ConfigEntry;
use crate::controller::{CreateTopics, CreatedTopic, NewTopic, Refusal};
use crate::types::{BrokerId, ErrorCode};
use crate::wire::message::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};

pub async fn handle(broker: Arc<Broker>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut wanted = CreateTopics {
        topics: Vec::new(),
        validate_only: request.validate_only,
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.as_str()).or_default() += 1;
    }
    for topic in &request.topics {
        match counts.get(topic.name.as_str()) {
            Some(1) => match new_topic(topic) {
                Ok(new) => wanted.topics.push(new),
                Err(refusal) => results.push(refused(topic.name.as_str(), &refusal)),
            },
            Some(_) => {
                let text = format!(
                    "topic '{}' is named more than once in the request",
                    topic.name
                );
                let refusal = Refusal::new(ErrorCode::InvalidRequest, text);
                results.push(refused(topic.name.as_str(), &refusal));
                counts.remove(topic.name.as_str());
            }
            None => {}
        }
    }
    let names: Vec<String> = wanted
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    match broker.controller.create_topics(wanted).await {
        Ok(outcomes) => results.extend(outcomes.into_iter().map(|(name, outcome)| match outcome {
            Ok(topic) => created(&name, topic),
            Err(refusal) => refused(&name, &refusal),
        })),
        Err(refusal) => {
            results.extend(names.iter().map(|name| refused(name, &refusal)));
        }
    }
    CreateTopicsResponse {
        topics: results,
        ..Default::default()
    }
}

fn new_topic(topic: &CreatableTopic) -> Result<NewTopic, Refusal> {
    let mut assignments = BTreeMap::new();
    for assignment in &topic.assignments {
        let brokers = assignment
            .broker_ids
            .iter()
            .copied()
            .map(BrokerId)
            .collect();
        if assignments
            .insert(assignment.partition_index, brokers)
            .is_some()
        {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "partition {} is assigned more than once",
                    assignment.partition_index
                ),
            ));
        }
    }
    let text = |value: &crate::wire::Str| value.as_str().to_owned();
    Ok(NewTopic {
        name: text(&topic.name),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        configs: topic
            .configs
            .iter()
            .map(|config| (text(&config.name), config.value.as_ref().map(text)))
            .collect(),
        ids: Vec::new(),
        mirror: None,
    })
}

fn created(name: &str, topic: CreatedTopic) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.into(),
        topic_id: topic.topic_id,
        error_message: None,
        num_partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: Some(topic.configs.iter().map(config).collect()),
        ..Default::default()
    }
}

fn config(entry: &ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs {
        name: entry.name.as_str().into(),
        value: entry.value.as_deref().map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.wire_code(),
        is_sensitive: entry.sensitive,
        ..Default::default()
    }
}

fn refused(name: &str, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name: name.into(),
        error_code: refusal.code.code(),
        error_message: Some(refusal.text.as_str().into()),
        configs: None,
        ..Default::default()
    }
}
