//! Whether there is a topic, and with how many partitions.

use std::collections::{BTreeMap, BTreeSet};

use super::{answer, change, judge};
use crate::checker::linear::Call;
use crate::checker::linear::model::{TopicOperation, TopicRegister};
use crate::checker::{Index, Violations};
use crate::history::{self, Answer, Attempt, Ending, Operation};

type Calls<'a> = BTreeMap<&'a str, Vec<Call<TopicOperation>>>;

pub(super) fn check(index: &Index<'_>, violations: &mut Violations) {
    let mut calls = Calls::new();
    for operation in &index.history.operations {
        add(index, operation, &mut calls);
    }
    let libraries = asked_by_libraries(index);
    calls.retain(|topic, _| !libraries.contains(topic));
    for (topic, calls) in calls {
        let what = format!("the topic {topic}");
        judge("M14", &what, &TopicRegister, &calls, violations);
    }
}

fn add<'a>(index: &Index<'a>, operation: &'a Operation, calls: &mut Calls<'a>) {
    use history::Call as Asked;
    let (topic, done, refusals): (_, _, &[(&str, TopicOperation)]) = match &operation.call {
        Asked::CreateTopic {
            topic, partitions, ..
        } => (
            topic,
            TopicOperation::Create(*partitions),
            &[("TOPIC_ALREADY_EXISTS", TopicOperation::Found)],
        ),
        Asked::DeleteTopic { topic } => (topic, TopicOperation::Delete, MISSED),
        Asked::CreatePartitions { topic, partitions } => {
            (topic, TopicOperation::Grow(*partitions), MISSED)
        }
        Asked::DescribeTopic { topic } => {
            let told = match operation.answer() {
                Some(Answer::DescribeTopic { partitions: 0 }) => TopicOperation::Missed,
                Some(Answer::DescribeTopic { partitions }) => TopicOperation::Shown(*partitions),
                _ => return,
            };
            let told = answer(index, operation, told);
            calls.entry(topic).or_default().push(told);
            return;
        }
        _ => return,
    };
    let calls = calls.entry(topic).or_default();
    match &operation.ending {
        Ending::Ok(_) | Ending::Unknown(_) => calls.push(change(operation, done)),
        Ending::Fail(attempts) => {
            let told = refusals.iter().find(|(error, _)| is_last(attempts, error));
            calls.extend(told.map(|(_, told)| answer(index, operation, *told)));
        }
    }
}

const MISSED: &[(&str, TopicOperation)] = &[("UNKNOWN_TOPIC_OR_PARTITION", TopicOperation::Missed)];

/// Whether the operation was refused with this at last.
pub(super) fn is_last(attempts: &[Attempt], error: &str) -> bool {
    attempts.last().is_some_and(|last| last.error == error)
}

fn asked_by_libraries<'a>(index: &Index<'a>) -> BTreeSet<&'a str> {
    let mut asked = BTreeSet::new();
    for operation in &index.history.operations {
        match &operation.call {
            history::Call::Send {
                to,
                library: Some(_),
                ..
            } => {
                asked.insert(to.topic.as_str());
            }
            history::Call::Read {
                from,
                library: true,
                ..
            } => asked.extend(from.iter().map(|one| one.of.topic.as_str())),
            _ => {}
        }
    }
    asked
}
