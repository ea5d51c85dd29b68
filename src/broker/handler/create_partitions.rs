//! CreatePartitions: more partitions for topics that exist.

use std::sync::Arc;

use super::mirrors;
use crate::broker::Broker;
use crate::controller::{CreatePartitions, MorePartitions, Refusal};
use crate::types::BrokerId;
use crate::wire::message::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};

pub async fn handle(
    broker: Arc<Broker>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let image = broker.controller.image();
    let (asked, mirrors): (Vec<_>, Vec<_>) = request
        .topics
        .iter()
        .partition(|topic| mirrors::check(&image, &topic.name).is_ok());
    let topics: Vec<MorePartitions> = asked
        .into_iter()
        .map(|topic| MorePartitions {
            name: topic.name.as_str().to_owned(),
            count: topic.count,
            assignments: topic.assignments.as_ref().map(|assignments| {
                assignments
                    .iter()
                    .map(|new| new.broker_ids.iter().copied().map(BrokerId).collect())
                    .collect()
            }),
        })
        .collect();
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let wanted = CreatePartitions {
        topics,
        validate_only: request.validate_only,
    };
    let mut results: Vec<_> = match broker.controller.create_partitions(wanted).await {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|(name, outcome)| result(&name, outcome))
            .collect(),
        Err(refusal) => names
            .iter()
            .map(|name| result(name, Err(refusal.clone())))
            .collect(),
    };
    let refused = mirrors.iter().map(|topic| {
        let refusal = mirrors::check(&image, &topic.name);
        result(&topic.name, refusal)
    });
    results.extend(refused);
    CreatePartitionsResponse {
        results,
        ..Default::default()
    }
}

fn result(name: &str, outcome: Result<(), Refusal>) -> CreatePartitionsTopicResult {
    let mut result = CreatePartitionsTopicResult {
        name: name.into(),
        ..Default::default()
    };
    if let Err(refusal) = outcome {
        result.error_code = refusal.code.code();
        result.error_message = Some(refusal.text.into());
    }
    result
}
