//! `klamm topic describe`: partitions, leaders, replicas and changed settings.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::report::{Table, error_json, listed, pairs};
use crate::cli::session::Session;
use crate::client::admin::{ConfigResource, Each, EligibleReplicas};
use crate::client::{Admin, ApiError, PartitionView, TopicView};
use crate::types::{BrokerId, TopicPartition};

#[derive(Args, Debug)]
pub struct DescribeOptions {
    #[arg(value_name = "TOPIC", required_unless_present = "under_replicated")]
    topics: Vec<String>,
    /// Only partitions that have no leader or miss replicas in sync; of all topics, if none is
    /// named
    #[arg(long)]
    under_replicated: bool,
}

/// What is said of a topic beside its description.
struct Extras {
    changed: BTreeMap<String, String>,
    eligible: BTreeMap<TopicPartition, EligibleReplicas>,
}

pub async fn run(
    session: &mut Session,
    admin: &Admin,
    options: &DescribeOptions,
) -> Result<(), Failure> {
    let mut topics = match options.topics.is_empty() {
        true => {
            let all = session.call(admin.list_topics()).await?;
            let named =
                |(name, topic): (std::sync::Arc<str>, TopicView)| (name.to_string(), Ok(topic));
            all.into_iter().map(named).collect()
        }
        false => session.call(admin.describe_topics(&options.topics)).await?,
    };
    if options.under_replicated {
        topics.retain(|_, result| match result {
            Ok(topic) => {
                topic.partitions.retain(|_, one| misses_replicas(one));
                !topic.partitions.is_empty()
            }
            Err(_) => true,
        });
        if topics.is_empty() {
            let text = "Every partition has a leader and all its replicas in sync.";
            session.terminal.whisper(text);
        }
    }
    let extras = extras(session, admin, &topics).await?;
    let mut blocks = Vec::new();
    let mut list = Vec::new();
    for (name, result) in &topics {
        let none = Extras {
            changed: BTreeMap::new(),
            eligible: BTreeMap::new(),
        };
        let extras = extras.get(name).unwrap_or(&none);
        list.push(topic_json(name, result.as_ref(), extras));
        if let Ok(topic) = result {
            blocks.push(topic_text(topic, extras));
        }
    }
    session.answer(&json!({ "topics": list }), &blocks.join("\n\n"))?;
    session.check_each(&topics, |name| format!("topic '{name}'"))
}

fn misses_replicas(partition: &PartitionView) -> bool {
    partition.leader.is_none() || partition.isr.len() < partition.replicas.len()
}

async fn extras(
    session: &mut Session,
    admin: &Admin,
    topics: &Each<String, TopicView>,
) -> Result<BTreeMap<String, Extras>, Failure> {
    let known = topics.iter().filter(|(_, result)| result.is_ok());
    let known: Vec<String> = known.map(|(name, _)| name.clone()).collect();
    let resources: Vec<ConfigResource> = known
        .iter()
        .map(|name| ConfigResource::topic(name))
        .collect();
    let configs = match resources.is_empty() {
        true => Each::new(),
        false => session.call(admin.describe_configs(&resources)).await?,
    };
    let mut eligible = session.call(admin.eligible_replicas(&known)).await?;
    let mut extras = BTreeMap::new();
    for name in known {
        let changed = match configs.get(&ConfigResource::topic(&name)) {
            Some(Ok(entries)) => entries
                .iter()
                .filter(|entry| entry.source == "DYNAMIC_TOPIC_CONFIG")
                .map(|entry| (entry.name.clone(), entry.value.clone().unwrap_or_default()))
                .collect(),
            _ => BTreeMap::new(),
        };
        let is_own = |key: &TopicPartition, _: &mut _| *key.topic == *name;
        let own = eligible.extract_if(.., is_own).collect();
        let found = Extras {
            changed,
            eligible: own,
        };
        extras.insert(name, found);
    }
    Ok(extras)
}

fn topic_json(name: &str, topic: Result<&TopicView, &ApiError>, extras: &Extras) -> Value {
    let found = topic.ok();
    let partitions = found
        .into_iter()
        .flat_map(|topic| topic.partitions.values())
        .map(|p| {
            let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
            let eligible = extras.eligible.get(&TopicPartition::new(name, p.partition));
            json!({
                "partition": p.partition,
                "leader": p.leader.map(|id| id.0),
                "leader_epoch": p.leader_epoch.0,
                "replicas": ids(&p.replicas),
                "isr": ids(&p.isr),
                "elr": eligible.map(|one| ids(&one.elr)),
                "last_known_elr": eligible.map(|one| ids(&one.last_known)),
                "offline_replicas": ids(&p.offline_replicas),
            })
        });
    json!({
        "name": name,
        "id": found.filter(|topic| !topic.id.is_zero()).map(|topic| topic.id.to_string()),
        "internal": found.is_some_and(|topic| topic.is_internal),
        "partitions": partitions.collect::<Vec<Value>>(),
        "configs": extras.changed,
        "error": error_json(topic.err()),
    })
}

fn topic_text(topic: &TopicView, extras: &Extras) -> String {
    let replicas = topic
        .partitions
        .values()
        .map(|p| p.replicas.len())
        .max()
        .unwrap_or(0);
    let mut head = vec![
        ("Topic", topic.name.to_string()),
        ("Id", topic.id.to_string()),
        ("Partitions", topic.partitions.len().to_string()),
        ("Replicas", replicas.to_string()),
    ];
    let settings = extras.changed.iter().map(|(k, v)| format!("{k}={v}"));
    head.push(("Changed settings", listed(settings)));
    let columns = [
        ">partition",
        ">leader",
        ">epoch",
        "replicas",
        "isr",
        "elr",
        "offline",
    ];
    let mut table = Table::new(&columns);
    for p in topic.partitions.values() {
        let key = TopicPartition::new(topic.name.clone(), p.partition);
        let eligible = extras.eligible.get(&key);
        table.row(vec![
            p.partition.to_string(),
            p.leader
                .map_or_else(|| "none".to_owned(), |id| id.to_string()),
            p.leader_epoch.0.to_string(),
            listed(&p.replicas),
            listed(&p.isr),
            listed(eligible.into_iter().flat_map(|one| &one.elr)),
            listed(&p.offline_replicas),
        ]);
    }
    format!("{}\n\n{}", pairs(&head), table.text())
}
