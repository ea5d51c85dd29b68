//! Makes, changes, deletes and makes again topics of its own, and writes to and reads from them.
//!
//! Records it sends have keys of their own, so that compaction takes none of them. A replacement
//! of a whole configuration names every setting that this client ever touches: it is one change of
//! each of them in the history.

use std::collections::BTreeMap;

use klamm::types::ErrorCode;
use klamm::wire::batch::Compression;
use klamm::wire::message::alter_configs as replacing;
use klamm::wire::message::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use klamm::wire::message::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm::wire::message::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use klamm::wire::message::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use klamm::wire::message::incremental_alter_configs as changing;
use klamm::wire::message::metadata::{MetadataRequest, MetadataRequestTopic};
use klamm_jepsen::history::{Answer, Call, Committed, Membership};

use super::content::{Content, value_of};
use super::errors::error_name;
use super::fetching::{FetchOptions, Fetching};
use super::line::Line;
use super::produce::{pack, send_once};
use super::{Client, groups, offsets, partition};
use crate::plan::Role;

/// The number of topics among kinds of resources.
const TOPIC_RESOURCE: i8 = 2;

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;

const TIMEOUT_MS: i32 = 5000;

/// Groups that it commits for.
const GROUPS: [&str; 2] = ["loners", "others"];

/// The settings this client changes, and values they may get.
const SETTINGS: &[(&str, &[&str])] = &[
    ("cleanup.policy", &["delete", "compact", "compact,delete"]),
    ("delete.retention.ms", &["86400000", "100000000"]),
    ("max.message.bytes", &["1048588", "500000"]),
    ("retention.ms", &["604800000", "-1", "86400000"]),
    ("segment.bytes", &["1048576", "1073741824", "2097152"]),
];

pub(super) async fn run(mut client: Client) {
    let Role::Admin { pause_ms, commits } = client.plan.role.clone() else {
        return;
    };
    let mut line = client.line();
    // The count of partitions each of the topics is believed to have; 0 for none.
    let mut believed: BTreeMap<String, i32> = ["a", "b"]
        .map(|end| (format!("{}-{end}", client.plan.name), 0))
        .into();
    let names: Vec<String> = believed.keys().cloned().collect();
    while !client.stop.is_set() {
        let at = usize::try_from(client.rng.below(2)).unwrap_or(0);
        let name = &names[at];
        let count = believed.get(name).copied().unwrap_or(0);
        if commits && count > 0 && client.rng.below(4) == 0 {
            // Whether it worked is for whoever reads it.
            let _ = commit(&mut client, &mut line, name).await;
        }
        match step(&mut client, &mut line, name, count).await {
            Ok(count) => {
                believed.insert(name.clone(), count);
            }
            Err(error) => {
                match error.as_str() {
                    "UNKNOWN_TOPIC_OR_PARTITION" | "UNKNOWN_TOPIC_ID" => {
                        believed.insert(name.clone(), 0);
                    }
                    // Of an attempt whose answer was lost.
                    "TOPIC_ALREADY_EXISTS" => {
                        believed.insert(name.clone(), 1);
                    }
                    "INVALID_PARTITIONS" => {
                        believed.insert(name.clone(), count + 1);
                    }
                    _ => {}
                }
                line.wait_a_little().await;
            }
        }
        client.pause(pause_ms).await;
    }
}

/// Does one thing; how many partitions the topic has afterwards.
async fn step(client: &mut Client, line: &mut Line, name: &str, count: i32) -> Result<i32, String> {
    if count == 0 {
        let count = 1 + i32::try_from(client.rng.below(3)).unwrap_or(0);
        let config = match client.rng.below(2) {
            0 => BTreeMap::new(),
            _ => BTreeMap::from([draw_setting(client)]),
        };
        // The cluster's default, where there are several brokers.
        let replicas = if line.is_cluster() { -1 } else { 1 };
        create_topic(line, name, count, replicas, &config).await?;
        line.forget_ids();
        return Ok(count);
    }
    match client.rng.below(20) {
        0..7 => send(client, line, name, count).await?,
        7..11 => read(client, line, name, count).await?,
        11..13 => alter(client, line, name).await?,
        13 => replace(client, line, name).await?,
        14..16 => describe(client, line, name).await?,
        16..18 => {
            let more = count + 1 + i32::try_from(client.rng.below(2)).unwrap_or(0);
            create_partitions(line, name, more).await?;
            return Ok(more);
        }
        _ => {
            delete_topic(line, name).await?;
            line.forget_ids();
            return Ok(0);
        }
    }
    Ok(count)
}

/// Commits an offset of a topic for one of the groups.
async fn commit(client: &mut Client, line: &mut Line, name: &str) -> Result<(), String> {
    let at = usize::try_from(client.rng.below(2)).unwrap_or(0);
    let by = Membership {
        group: GROUPS[at].to_owned(),
        member: String::new(),
        generation: -1,
        instance: None,
    };
    let committed = Committed {
        of: partition(name, 0),
        offset: i64::try_from(client.rng.below(10_000)).unwrap_or(0),
        metadata: format!("{name}:{}", client.recorder.next_id()),
    };
    groups::commit(line, &by, &[committed]).await.map(drop)
}

fn draw_setting(client: &mut Client) -> (String, String) {
    let bound = u64::try_from(SETTINGS.len()).unwrap_or(1);
    let at = usize::try_from(client.rng.below(bound)).unwrap_or(0);
    let (key, values) = SETTINGS[at];
    (key.to_owned(), draw_value(client, values))
}

fn draw_value(client: &mut Client, values: &[&str]) -> String {
    let bound = u64::try_from(values.len()).unwrap_or(1);
    values[usize::try_from(client.rng.below(bound)).unwrap_or(0)].to_owned()
}

async fn send(client: &mut Client, line: &mut Line, name: &str, count: i32) -> Result<(), String> {
    let bound = u64::try_from(count).unwrap_or(1);
    let to = partition(name, i32::try_from(client.rng.below(bound)).unwrap_or(0));
    let records = 1 + client.rng.below(4);
    let timestamp = client.env.wall();
    let content = |_| {
        let id = client.recorder.next_id();
        Content {
            id,
            key: Some(format!("own-{id}")),
            value: Some(value_of(id, 200)),
            timestamp,
        }
    };
    let contents: Vec<Content> = (0..records).map(content).collect();
    let parcel = pack(to, -1, Compression::None, None, &contents);
    send_once(line, &parcel).await
}

/// Reads one partition from its start, a few fetches far.
async fn read(client: &mut Client, line: &mut Line, name: &str, count: i32) -> Result<(), String> {
    let bound = u64::try_from(count).unwrap_or(1);
    let of = partition(name, i32::try_from(client.rng.below(bound)).unwrap_or(0));
    let positions = offsets::starts(line, &[of]).await?;
    offsets::assign(line, positions.clone());
    let mut fetching = Fetching::new(FetchOptions {
        max_bytes: 64 << 10,
        partition_max_bytes: 16 << 10,
        session: false,
        committed: false,
    });
    fetching.assign(&positions);
    for _ in 0..3 {
        let fetched = fetching.fetch(line, 0).await?;
        if let Some(error) = fetched.iter().find_map(|part| part.error.clone()) {
            return Err(error);
        }
        if fetched.iter().all(|part| part.records.is_empty()) {
            break;
        }
    }
    Ok(())
}

/// Ends an operation by what it was answered with: an error's number, or the name of a failure.
fn end(line: &mut Line, op: u64, code: Result<i16, String>, answer: Answer) -> Result<(), String> {
    match code.map(error_name) {
        Ok(None) => {
            line.ok(op, answer);
            Ok(())
        }
        Ok(Some(error)) | Err(error) => Err(line.refused(op, error)),
    }
}

/// What stands for the error of an answer that is not about what was asked.
const NOT_ANSWERED: i16 = klamm::types::ErrorCode::UnknownServerError as i16;

pub(super) async fn create_topic(
    line: &mut Line,
    name: &str,
    partitions: i32,
    replicas: i16,
    config: &BTreeMap<String, String>,
) -> Result<(), String> {
    line.anyone();
    line.open().await?;
    let op = line.invoke(Call::CreateTopic {
        topic: name.to_owned(),
        partitions,
        config: config.clone(),
    });
    let configs = config.iter().map(|(key, value)| CreatableTopicConfig {
        name: key.as_str().into(),
        value: Some(value.as_str().into()),
        ..Default::default()
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: replicas,
            configs: configs.collect(),
            ..Default::default()
        }],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    let answer = line.call(request, 0).await;
    let code = answer.map(|a| a.topics.first().map_or(NOT_ANSWERED, |t| t.error_code));
    end(line, op, code, Answer::CreateTopic)
}

async fn delete_topic(line: &mut Line, name: &str) -> Result<(), String> {
    line.anyone();
    line.open().await?;
    let op = line.invoke(Call::DeleteTopic {
        topic: name.to_owned(),
    });
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: Some(name.into()),
            ..Default::default()
        }],
        topic_names: vec![name.into()],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    let answer = line.call(request, 0).await;
    let code = answer.map(|a| a.responses.first().map_or(NOT_ANSWERED, |t| t.error_code));
    end(line, op, code, Answer::DeleteTopic)
}

async fn create_partitions(line: &mut Line, name: &str, partitions: i32) -> Result<(), String> {
    line.anyone();
    line.open().await?;
    let op = line.invoke(Call::CreatePartitions {
        topic: name.to_owned(),
        partitions,
    });
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: name.into(),
            count: partitions,
            assignments: None,
            ..Default::default()
        }],
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    let answer = line.call(request, 0).await;
    let code = answer.map(|a| a.results.first().map_or(NOT_ANSWERED, |t| t.error_code));
    end(line, op, code, Answer::CreatePartitions)
}

/// Sets one setting, or lets it have its default again.
async fn alter(client: &mut Client, line: &mut Line, name: &str) -> Result<(), String> {
    let (key, value) = draw_setting(client);
    let value = (client.rng.below(4) > 0).then_some(value);
    line.anyone();
    line.open().await?;
    let op = line.invoke(Call::AlterConfig {
        topic: name.to_owned(),
        key: key.clone(),
        value: value.clone(),
    });
    let request = changing::IncrementalAlterConfigsRequest {
        resources: vec![changing::AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: name.into(),
            configs: vec![changing::AlterableConfig {
                name: key.into(),
                config_operation: if value.is_some() { SET } else { DELETE },
                value: value.map(Into::into),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = line.call(request, 0).await;
    let code = answer.map(|a| a.responses.first().map_or(NOT_ANSWERED, |t| t.error_code));
    end(line, op, code, Answer::AlterConfig)
}

/// Sets all settings at once.
async fn replace(client: &mut Client, line: &mut Line, name: &str) -> Result<(), String> {
    line.anyone();
    line.open().await?;
    let mut ops = Vec::new();
    let mut configs = Vec::new();
    for (key, values) in SETTINGS {
        let value = draw_value(client, values);
        ops.push(line.invoke(Call::AlterConfig {
            topic: name.to_owned(),
            key: (*key).to_owned(),
            value: Some(value.clone()),
        }));
        configs.push(replacing::AlterableConfig {
            name: (*key).into(),
            value: Some(value.into()),
            ..Default::default()
        });
    }
    let request = replacing::AlterConfigsRequest {
        resources: vec![replacing::AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: name.into(),
            configs,
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = line.call(request, 0).await;
    let code = answer.map(|a| a.responses.first().map_or(NOT_ANSWERED, |t| t.error_code));
    let ended = ops
        .into_iter()
        .map(|op| end(line, op, code.clone(), Answer::AlterConfig));
    ended.fold(Ok(()), Result::and)
}

async fn describe(client: &mut Client, line: &mut Line, name: &str) -> Result<(), String> {
    let (key, _) = draw_setting(client);
    describe_config(line, name, &key).await
}

/// Asks how many partitions a topic has; 0 where there is none.
pub(super) async fn describe_topic(line: &mut Line, name: &str) -> Result<(), String> {
    line.anyone();
    line.open().await?;
    let op = line.invoke(Call::DescribeTopic {
        topic: name.to_owned(),
    });
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name.into()),
            ..Default::default()
        }]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let answer = line.call(request, 4).await;
    let found = answer.map(|answer| answer.topics.into_iter().next());
    let code = match &found {
        Ok(Some(found)) => Ok(match ErrorCode::from_wire(found.error_code) {
            Some(ErrorCode::UnknownTopicOrPartition) => 0,
            _ => found.error_code,
        }),
        Ok(None) => Ok(NOT_ANSWERED),
        Err(error) => Err(error.clone()),
    };
    let partitions = found
        .ok()
        .flatten()
        .map_or(0, |found| found.partitions.len());
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    end(line, op, code, Answer::DescribeTopic { partitions })
}

/// Asks for one setting of a topic.
pub(super) async fn describe_config(line: &mut Line, name: &str, key: &str) -> Result<(), String> {
    line.anyone();
    line.open().await?;
    let op = line.invoke(Call::DescribeConfig {
        topic: name.to_owned(),
        key: key.to_owned(),
    });
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: name.into(),
            configuration_keys: Some(vec![key.into()]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = line.call(request, 0).await;
    let result = answer.map(|answer| answer.results.into_iter().next());
    let code = match &result {
        Ok(found) => Ok(found
            .as_ref()
            .map_or(NOT_ANSWERED, |found| found.error_code)),
        Err(error) => Err(error.clone()),
    };
    let configs = result.ok().flatten().map(|found| found.configs);
    let mut configs = configs.unwrap_or_default().into_iter();
    let shown = configs.find(|config| config.name == *key);
    let value = shown.and_then(|config| config.value);
    let value = value.map(|value| value.as_str().to_owned());
    end(line, op, code, Answer::DescribeConfig { value })
}
