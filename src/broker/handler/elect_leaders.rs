//! ElectLeaders: elections at an administrator's wish.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::Broker;
use crate::controller::{ElectLeaders, ElectionKind, PartitionResult as Elected};
use crate::types::ErrorCode;
use crate::wire::message::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};

pub async fn handle(broker: Arc<Broker>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let kind = match request.election_type {
        0 => ElectionKind::Preferred,
        1 => ElectionKind::Unclean,
        _ => {
            let error_code = ErrorCode::InvalidRequest.code();
            return ElectLeadersResponse {
                error_code,
                ..Default::default()
            };
        }
    };
    let partitions: Option<Vec<(String, i32)>> = request.topic_partitions.map(|topics| {
        let each = topics.iter().flat_map(|topic| {
            let name = topic.topic.as_str();
            topic.partitions.iter().map(|one| (name.to_owned(), *one))
        });
        each.collect()
    });
    let named = partitions.clone();
    let controller = super::controller_within(&broker, request.timeout_ms);
    let wanted = ElectLeaders { kind, partitions };
    match (controller.elect_leaders(wanted).await, named) {
        (Ok(results), _) => answer(results),
        (Err(refusal), Some(named)) => {
            let refused = |(topic, partition)| (topic, partition, Err(refusal.clone()));
            answer(named.into_iter().map(refused).collect())
        }
        (Err(refusal), None) => ElectLeadersResponse {
            error_code: refusal.code.code(),
            ..Default::default()
        },
    }
}

fn answer(results: Vec<Elected>) -> ElectLeadersResponse {
    let mut topics: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
    for (topic, partition, outcome) in results {
        let (error_code, error_message) = super::outcome(outcome);
        topics.entry(topic).or_default().push(PartitionResult {
            partition_id: partition,
            error_code,
            error_message,
            ..Default::default()
        });
    }
    let results = topics
        .into_iter()
        .map(|(topic, partition_result)| ReplicaElectionResult {
            topic: topic.into(),
            partition_result,
            ..Default::default()
        });
    ElectLeadersResponse {
        replica_election_results: results.collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Refusal;

    fn results() -> Vec<Elected> {
        let needless = Refusal::new(ErrorCode::ElectionNotNeeded, "it leads");
        vec![
            ("b".to_owned(), 1, Ok(())),
            ("a".to_owned(), 0, Err(needless)),
        ]
    }

    #[test]
    fn outcomes_are_told_by_topic_and_success_has_no_text() {
        let answer = answer(results());
        let found: Vec<(&str, i16)> = answer
            .replica_election_results
            .iter()
            .map(|topic| (topic.topic.as_str(), topic.partition_result[0].error_code))
            .collect();
        assert_eq!(
            found,
            [("a", ErrorCode::ElectionNotNeeded.code()), ("b", 0)]
        );
        let done = &answer.replica_election_results[1].partition_result[0];
        assert_eq!(done.error_message, None);
    }
}
