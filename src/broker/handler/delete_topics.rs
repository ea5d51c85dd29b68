//! DeleteTopics: by name, or from version 6 by id.

use std::sync::Arc;

use crate::broker::Broker;
use crate::controller::{DeleteTopics, Refusal, TopicSelector};
use crate::types::{ErrorCode, Uuid};
use crate::wire::Str;
use crate::wire::message::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};

/// First version that may name topics by id.
const TOPIC_ID_SINCE: i16 = 6;

pub async fn handle(
    broker: Arc<Broker>,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let named: Vec<DeleteTopicState> = if version >= TOPIC_ID_SINCE {
        request.topics
    } else {
        let by_name = |name: Str| DeleteTopicState {
            name: Some(name),
            ..Default::default()
        };
        request.topic_names.into_iter().map(by_name).collect()
    };
    if !broker.config.topics.delete_enable {
        let refusal = disabled();
        let responses = named
            .into_iter()
            .map(|topic| refuse(topic.name, topic.topic_id, &refusal));
        return DeleteTopicsResponse {
            responses: responses.collect(),
            ..Default::default()
        };
    }
    let mut responses = Vec::with_capacity(named.len());
    let mut topics = Vec::with_capacity(named.len());
    for topic in named {
        match (topic.name, topic.topic_id) {
            (Some(name), id) if id.is_zero() => {
                topics.push(TopicSelector::Name(name.as_str().to_owned()));
            }
            (None, id) if !id.is_zero() => topics.push(TopicSelector::Id(id)),
            (name, id) => {
                let text = "name each topic by name or by id, not by both or neither";
                let refusal = Refusal::new(ErrorCode::InvalidRequest, text);
                responses.push(refuse(name, id, &refusal));
            }
        }
    }
    let selected = topics.clone();
    match broker
        .controller
        .delete_topics(DeleteTopics { topics })
        .await
    {
        Ok(outcomes) => {
            for (selector, outcome) in outcomes {
                responses.push(match outcome {
                    Ok(deleted) => DeletableTopicResult {
                        name: Some(deleted.name.into()),
                        topic_id: deleted.topic_id,
                        ..Default::default()
                    },
                    Err(refusal) => refuse_selected(selector, &refusal),
                });
            }
        }
        Err(refusal) => {
            responses.extend(
                selected
                    .into_iter()
                    .map(|topic| refuse_selected(topic, &refusal)),
            );
        }
    }
    DeleteTopicsResponse {
        responses,
        ..Default::default()
    }
}

fn disabled() -> Refusal {
    let text = "topics cannot be deleted here: set delete.topic.enable=true";
    Refusal::new(ErrorCode::TopicDeletionDisabled, text)
}

fn refuse_selected(selector: TopicSelector, refusal: &Refusal) -> DeletableTopicResult {
    match selector {
        TopicSelector::Name(name) => refuse(Some(name.into()), Uuid::ZERO, refusal),
        TopicSelector::Id(id) => refuse(None, id, refusal),
    }
}

fn refuse(name: Option<Str>, topic_id: Uuid, refusal: &Refusal) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code: refusal.code.code(),
        error_message: Some(refusal.text.as_str().into()),
        ..Default::default()
    }
}
