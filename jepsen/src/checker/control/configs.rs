//! What the settings of topics are.

use std::collections::{BTreeMap, BTreeSet};

use super::topics::is_last;
use super::{answer, change, judge};
use crate::checker::linear::Call;
use crate::checker::linear::model::{Config, ConfigOperation};
use crate::checker::{Index, Violations};
use crate::history::{self, Answer, Ending, Operation};

type Calls<'a> = BTreeMap<(&'a str, &'a str), Vec<Call<ConfigOperation<'a>>>>;

pub(super) fn check(index: &Index<'_>, violations: &mut Violations) {
    // Only what somebody asked for can be wrong.
    let mut described: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for operation in &index.history.operations {
        if let history::Call::DescribeConfig { topic, key } = &operation.call {
            described.entry(topic).or_default().insert(key);
        }
    }
    let mut calls = Calls::new();
    for operation in &index.history.operations {
        add(index, operation, &described, &mut calls);
    }
    for ((topic, key), calls) in calls {
        let what = format!("the setting {key} of {topic}");
        judge("M14", &what, &Config::default(), &calls, violations);
    }
}

fn add<'a>(
    index: &Index<'a>,
    operation: &'a Operation,
    described: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    calls: &mut Calls<'a>,
) {
    use history::Call as Asked;
    let (Asked::CreateTopic { topic, .. }
    | Asked::DeleteTopic { topic }
    | Asked::AlterConfig { topic, .. }
    | Asked::DescribeConfig { topic, .. }) = &operation.call
    else {
        return;
    };
    for key in described.get(topic.as_str()).into_iter().flatten().copied() {
        let change = |done| (!operation.failed()).then(|| change(operation, done));
        let call = match &operation.call {
            Asked::CreateTopic { config, .. } => {
                change(ConfigOperation::Create(config.get(key).map(String::as_str)))
            }
            Asked::DeleteTopic { .. } => change(ConfigOperation::Delete),
            Asked::AlterConfig { key: of, value, .. } if of == key => {
                change(ConfigOperation::Alter(value.as_deref()))
            }
            Asked::DescribeConfig { key: of, .. } if of == key => {
                told(operation).map(|told| answer(index, operation, told))
            }
            _ => None,
        };
        calls.entry((topic, key)).or_default().extend(call);
    }
}

fn told(operation: &Operation) -> Option<ConfigOperation<'_>> {
    match &operation.ending {
        Ending::Ok(Answer::DescribeConfig { value }) => {
            Some(ConfigOperation::Describe(value.as_deref()))
        }
        Ending::Fail(attempts) if is_last(attempts, "UNKNOWN_TOPIC_OR_PARTITION") => {
            Some(ConfigOperation::Missed)
        }
        _ => None,
    }
}
