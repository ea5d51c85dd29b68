//! Asks every node what a group has committed, whether it coordinates the group or not.
//!
//! A client remembers who coordinates its group until it is refused. Who was deposed has to refuse:
//! one that answers from what it knew tells of offsets that others have replaced since. Clients
//! that look for the coordinator after each time-out never meet such a node. What is refused is
//! right and says nothing: it is not in the history.

use std::time::Duration;

use klamm::client::{Cluster, Lane};
use klamm::types::BrokerId;
use klamm::wire::message::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};

use super::Shared;
use super::way::{check, cluster};
use crate::harness::content;
use crate::history::{Answer, Call, Committed, Partition};

/// The last version of OffsetFetch that names topics by name.
const FETCH_BY_NAME: i16 = 9;
const REACH_LIMIT: Duration = Duration::from_secs(1);
const CALL_LIMIT: Duration = Duration::from_secs(3);
const BETWEEN: Duration = Duration::from_millis(250);

/// Asks `node` over and over what `group` has committed, until nothing is in flight any more.
pub async fn ask_node(shared: Shared, name: String, node: usize, group: String) {
    let cluster = cluster(&shared, &name);
    let node = BrokerId(i32::try_from(node).unwrap_or(0));
    while !shared.is_drained() {
        ask(&shared, &name, &cluster, node, &group).await;
        tokio::time::sleep(BETWEEN).await;
    }
}

async fn ask(shared: &Shared, name: &str, cluster: &Cluster, node: BrokerId, group: &str) {
    let reached = cluster.connection(node, Lane::Group);
    let Ok(Ok(connection)) = tokio::time::timeout(REACH_LIMIT, reached).await else {
        return;
    };
    let of: Vec<Partition> = shared.partitions().collect();
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(by_topic(&of)),
            ..Default::default()
        }],
        ..Default::default()
    };
    let recorder = &shared.recorder;
    let began = recorder.now();
    let answer = connection.call_capped(request, FETCH_BY_NAME, CALL_LIMIT);
    let Ok(Ok(offsets)) = answer.await.map(|answer| told(&answer)) else {
        return;
    };
    if offsets.len() == of.len() {
        let group = group.to_owned();
        let op = recorder.invoke_at(began, name, Call::FetchCommitted { group, of });
        recorder.ok(name, op, Answer::FetchCommitted { offsets });
    }
}

fn by_topic(of: &[Partition]) -> Vec<OffsetFetchRequestTopics> {
    let mut topics: Vec<OffsetFetchRequestTopics> = Vec::new();
    for one in of {
        if topics.last().is_none_or(|last| *last.name != *one.topic) {
            topics.push(OffsetFetchRequestTopics {
                name: one.topic.as_str().into(),
                ..Default::default()
            });
        }
        if let Some(last) = topics.last_mut() {
            last.partition_indexes.push(one.partition);
        }
    }
    topics
}

/// What is told of each partition; an error of any is one of the whole.
fn told(answer: &OffsetFetchResponse) -> Result<Vec<Committed>, &'static str> {
    let mut offsets = Vec::new();
    for group in &answer.groups {
        check(group.error_code)?;
        for topic in &group.topics {
            for found in &topic.partitions {
                check(found.error_code)?;
                offsets.push(Committed {
                    of: content::partition(&topic.name, found.partition_index),
                    offset: found.committed_offset,
                    metadata: found.metadata.as_deref().unwrap_or_default().to_owned(),
                });
            }
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::{by_topic, told};
    use crate::harness::content::partition;
    use klamm::types::ErrorCode;
    use klamm::wire::message::offset_fetch::{
        OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopics,
    };

    fn answer(errors: &[ErrorCode]) -> OffsetFetchResponse {
        let partitions = errors.iter().zip(0..);
        let partitions = partitions.map(|(error, number)| OffsetFetchResponsePartitions {
            partition_index: number,
            committed_offset: i64::from(number) * 10 - 1,
            metadata: Some("m".into()),
            error_code: error.code(),
            ..Default::default()
        });
        OffsetFetchResponse {
            groups: vec![OffsetFetchResponseGroup {
                topics: vec![OffsetFetchResponseTopics {
                    name: "t".into(),
                    partitions: partitions.collect(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn an_error_of_one_partition_is_no_answer_of_none() {
        let good = told(&answer(&[ErrorCode::None, ErrorCode::None])).expect("no error");
        assert_eq!((good[0].offset, good[1].offset), (-1, 9));
        assert_eq!(good[1].of, partition("t", 1));
        let bad = told(&answer(&[ErrorCode::None, ErrorCode::NotCoordinator]));
        assert_eq!(bad, Err("NOT_COORDINATOR"));
    }

    #[test]
    fn partitions_are_asked_for_by_their_topics() {
        let asked = by_topic(&[partition("a", 0), partition("a", 1), partition("b", 0)]);
        let numbers: Vec<_> = asked.iter().map(|of| &of.partition_indexes[..]).collect();
        assert_eq!(numbers, [&[0, 1][..], &[0]]);
    }
}
