//! Topics and their settings as registers: made, changed, asked for and deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm::client::admin::{ConfigChange, ConfigResource, TopicSpec};
use klamm::client::{Admin, ClientError, Cluster, Topics};
use klamm::env::Rng;
use klamm::types::{BrokerId, ErrorCode};
use klamm::wire::message::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};

use super::{Shared, attempts, attempts_to_change};
use crate::history::{Answer, Call};

/// The settings that are changed, and values they may get.
const SETTINGS: &[(&str, u64, u64)] = &[
    // Name, lowest value, how many.
    ("retention.ms", 86_400_000, 1 << 20),
    ("max.message.bytes", 1 << 20, 1 << 16),
    ("delete.retention.ms", 86_400_000, 1 << 20),
];

/// What DescribeConfigs calls a topic.
const TOPIC: i8 = 2;

fn admin(shared: &Shared, name: &str) -> Admin {
    let admin = Admin::new(&shared.env, shared.config(name, &[]));
    admin.expect("settings that the harness itself wrote")
}

/// Sets and asks for settings of a topic, until the run is ending.
pub async fn configs(shared: Shared, name: String, topic: String) {
    let mut rng = shared.rng(&name);
    let admin = admin(&shared, &name);
    while !shared.is_ending() {
        let at = usize::try_from(rng.below(SETTINGS.len() as u64)).unwrap_or(0);
        let (key, low, count) = SETTINGS[at];
        match rng.below(3) {
            0 => {
                let value = (low + rng.below(count)).to_string();
                alter(&shared, &name, &admin, &topic, key, value).await;
            }
            _ => describe(&shared, &name, &admin, &topic, key).await,
        }
        tokio::time::sleep(Duration::from_millis(20 + rng.below(80))).await;
    }
}

async fn alter(shared: &Shared, name: &str, admin: &Admin, topic: &str, key: &str, value: String) {
    let recorder = &shared.recorder;
    let call = Call::AlterConfig {
        topic: topic.to_owned(),
        key: key.to_owned(),
        value: Some(value.clone()),
    };
    let op = recorder.invoke(name, call);
    let resource = ConfigResource::topic(topic);
    let change = BTreeMap::from([(key.to_owned(), ConfigChange::Set(value))]);
    let changes = BTreeMap::from([(resource.clone(), change)]);
    let done = admin.alter_configs(&changes, false).await;
    let done = done.and_then(|mut each| refusal(each.remove(&resource)));
    match done {
        Ok(()) => recorder.ok(name, op, Answer::AlterConfig),
        Err(error) => recorder.not_ok(name, op, false, &attempts_to_change(&error)),
    }
}

async fn describe(shared: &Shared, name: &str, admin: &Admin, topic: &str, key: &str) {
    let recorder = &shared.recorder;
    let call = Call::DescribeConfig {
        topic: topic.to_owned(),
        key: key.to_owned(),
    };
    let op = recorder.invoke(name, call);
    let resource = ConfigResource::topic(topic);
    let found = admin
        .describe_configs(std::slice::from_ref(&resource))
        .await;
    match found.map(|mut each| each.remove(&resource)) {
        Ok(Some(Ok(entries))) => {
            let entry = entries.into_iter().find(|entry| entry.name == key);
            let value = entry.and_then(|entry| entry.value);
            recorder.ok(name, op, Answer::DescribeConfig { value });
        }
        Ok(Some(Err(error))) => recorder.not_ok(name, op, false, &[error.code.name()]),
        Ok(None) => recorder.not_ok(name, op, false, &[super::TIMEOUT]),
        Err(error) => recorder.not_ok(name, op, false, &attempts(&error)),
    }
}

/// Makes and deletes a topic of its own, over and over.
pub async fn topics(shared: Shared, name: String) {
    let mut rng = shared.rng(&name);
    let admin = admin(&shared, &name);
    let topic = format!("own-{name}");
    while !shared.is_ending() {
        let partitions = 1 + i32::try_from(rng.below(3)).unwrap_or(0);
        create(&shared, &name, &admin, &topic, partitions).await;
        pause(&mut rng).await;
        describe(&shared, &name, &admin, &topic, SETTINGS[0].0).await;
        describe_topic(&shared, &name, &admin, &topic).await;
        pause(&mut rng).await;
        delete(&shared, &name, &admin, &topic).await;
        pause(&mut rng).await;
        describe_topic(&shared, &name, &admin, &topic).await;
    }
}

async fn describe_topic(shared: &Shared, name: &str, admin: &Admin, topic: &str) {
    let recorder = &shared.recorder;
    let call = Call::DescribeTopic {
        topic: topic.to_owned(),
    };
    let op = recorder.invoke(name, call);
    let found = admin.describe_topics(&[topic.to_owned()]).await;
    let found = found.map(|mut each| each.remove(topic));
    match found {
        Ok(Some(Ok(view))) => {
            let partitions = i32::try_from(view.partitions.len()).unwrap_or(0);
            recorder.ok(name, op, Answer::DescribeTopic { partitions });
        }
        Ok(Some(Err(error))) if error.code == ErrorCode::UnknownTopicOrPartition => {
            recorder.ok(name, op, Answer::DescribeTopic { partitions: 0 });
        }
        Ok(Some(Err(error))) => recorder.not_ok(name, op, false, &[error.code.name()]),
        Ok(None) => recorder.not_ok(name, op, false, &[super::TIMEOUT]),
        Err(error) => recorder.not_ok(name, op, false, &attempts(&error)),
    }
}

async fn pause(rng: &mut Rng) {
    tokio::time::sleep(Duration::from_millis(100 + rng.below(500))).await;
}

async fn create(shared: &Shared, name: &str, admin: &Admin, topic: &str, partitions: i32) {
    let recorder = &shared.recorder;
    let call = Call::CreateTopic {
        topic: topic.to_owned(),
        partitions,
        config: BTreeMap::new(),
    };
    let op = recorder.invoke(name, call);
    let mut wanted = TopicSpec::new(topic);
    wanted.partitions = Some(partitions);
    let done = admin.create_topics(&[wanted], false).await;
    let done = done.and_then(|mut each| refusal(each.remove(topic).map(|one| one.map(drop))));
    match done {
        Ok(()) => recorder.ok(name, op, Answer::CreateTopic),
        Err(error) => recorder.not_ok(name, op, false, &attempts_to_change(&error)),
    }
}

async fn delete(shared: &Shared, name: &str, admin: &Admin, topic: &str) {
    let recorder = &shared.recorder;
    let call = Call::DeleteTopic {
        topic: topic.to_owned(),
    };
    let op = recorder.invoke(name, call);
    let done = admin.delete_topics(&[topic.to_owned()]).await;
    match done.and_then(|mut each| refusal(each.remove(topic))) {
        Ok(()) => recorder.ok(name, op, Answer::DeleteTopic),
        Err(error) => recorder.not_ok(name, op, false, &attempts_to_change(&error)),
    }
}

/// Asks each broker for every setting that [`configs`] changes: once all have caught up, all must
/// tell the same.
pub async fn settings_everywhere(shared: &Shared, name: &str) {
    let cluster = Cluster::new(&shared.env, shared.config(name, &[]));
    let cluster = cluster.expect("settings that the harness itself wrote");
    let Ok(view) = cluster.refresh(&Topics::None).await else {
        return shared
            .recorder
            .broken(name, "V1", "nobody tells of the brokers");
    };
    let (topic, _) = &shared.topics[0];
    for broker in view.brokers.keys() {
        for (key, ..) in SETTINGS {
            ask_broker(shared, name, &cluster, *broker, topic, key).await;
        }
    }
}

async fn ask_broker(
    shared: &Shared,
    name: &str,
    cluster: &Cluster,
    broker: BrokerId,
    topic: &str,
    key: &str,
) {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: topic.into(),
            configuration_keys: Some(vec![key.into()]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let recorder = &shared.recorder;
    let call = Call::DescribeConfig {
        topic: topic.to_owned(),
        key: key.to_owned(),
    };
    let op = recorder.invoke(name, call);
    let answer = match cluster.call(broker, request).await {
        Ok(answer) => answer,
        Err(error) => return recorder.not_ok(name, op, false, &attempts(&error)),
    };
    let found = answer.results.first();
    let code = found.map(|found| ErrorCode::from_wire(found.error_code));
    let found = found.and_then(|found| found.configs.iter().find(|entry| *entry.name == *key));
    match (code, found) {
        (Some(Some(ErrorCode::None)), Some(entry)) => {
            let value = entry.value.as_deref().map(str::to_owned);
            recorder.ok(name, op, Answer::DescribeConfig { value });
        }
        (Some(Some(code)), _) => recorder.not_ok(name, op, false, &[code.name()]),
        _ => recorder.not_ok(name, op, false, &[super::TIMEOUT]),
    }
}

/// The answer about one thing that was asked for.
fn refusal(answer: Option<Result<(), klamm::client::ApiError>>) -> Result<(), ClientError> {
    let unknown = || Err(ErrorCode::UnknownServerError.into());
    let error = match answer.unwrap_or_else(unknown) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    Err(ClientError::Refused {
        what: "the change".to_owned(),
        error,
    })
}
