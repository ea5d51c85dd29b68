//! `klamm topic`: create, list, describe, alter, delete, trim, offsets.

mod describe;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::node::Override;
use super::place::{self, Place, TopicChoice};
use super::report::{Table, counted, error_json, or_dash};
use super::session::Session;
use crate::client::Admin;
use crate::client::admin::{Each, TopicSpec};
use crate::types::{ErrorCode, Offset, TopicPartition};

/// Create, list, describe, alter, delete and trim topics
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  klamm topic create orders --partitions 3 --config retention.ms=3600000
  klamm topic list
  klamm topic describe orders
  klamm topic describe --under-replicated     partitions that miss replicas, of all topics
  klamm topic offsets orders
  klamm topic alter orders --partitions 6
  klamm topic trim orders:0 --to 1000        delete the records below offset 1000
  klamm topic delete orders")]
pub struct TopicCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Create topics
    Create(CreateOptions),
    /// List topics
    List {
        /// Also those the cluster keeps for itself, such as __consumer_offsets
        #[arg(long)]
        internal: bool,
    },
    /// Partitions, leaders, replicas and changed settings of topics
    Describe(describe::DescribeOptions),
    /// Give topics more partitions (for settings: `klamm config alter`)
    Alter {
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// The new total; a topic never loses partitions
        #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(1..))]
        partitions: i32,
        /// Only check whether it could be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete topics with all their records
    Delete {
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// Be content when a topic does not exist
        #[arg(long)]
        if_exists: bool,
    },
    /// Delete the oldest records of partitions
    Trim {
        #[arg(required = true, value_name = "TOPIC[:PARTITION,...]")]
        topics: Vec<TopicChoice>,
        /// The first record to keep: latest (none), OFFSET, -N (the last N), @TIME or @-AGE
        #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
        to: Place,
    },
    /// First and end offsets, and how many records lie between
    Offsets {
        #[arg(required = true, value_name = "TOPIC[:PARTITION,...]")]
        topics: Vec<TopicChoice>,
        /// Instead of first and end, the offset of this place
        #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
        at: Option<Place>,
    },
}

#[derive(Args, Debug)]
struct CreateOptions {
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// The broker's num.partitions unless given
    #[arg(long, short = 'p', value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// The broker's default.replication.factor unless given
    #[arg(long, short = 'r', value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting of the topic, for instance cleanup.policy=compact
    #[arg(long, short = 'c', value_name = "KEY=VALUE")]
    config: Vec<Override>,
    /// Be content when a topic exists already
    #[arg(long)]
    if_not_exists: bool,
    /// Only check whether it could be done
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(session: &mut Session, command: TopicCommand) -> Result<(), Failure> {
    let admin = session.admin().await?;
    match command.action {
        Action::Create(options) => create(session, &admin, options).await,
        Action::List { internal } => list(session, &admin, internal).await,
        Action::Describe(options) => describe::run(session, &admin, &options).await,
        Action::Alter {
            topics,
            partitions,
            dry_run,
        } => {
            let totals = topics
                .into_iter()
                .map(|topic| (topic, partitions))
                .collect();
            let results = session
                .call(admin.create_partitions(&totals, dry_run))
                .await?;
            let done = if dry_run {
                "could be altered"
            } else {
                "altered"
            };
            each(session, results, done)
        }
        Action::Delete { topics, if_exists } => {
            let mut results = session.call(admin.delete_topics(&topics)).await?;
            if if_exists {
                forgive(&mut results, ErrorCode::UnknownTopicOrPartition, ());
            }
            each(session, results, "deleted")
        }
        Action::Trim { topics, to } => trim(session, &admin, &topics, to).await,
        Action::Offsets { topics, at } => offsets(session, &admin, &topics, at).await,
    }
}

/// Turns one error into success.
fn forgive<T: Clone>(results: &mut Each<String, T>, code: ErrorCode, value: T) {
    for result in results.values_mut() {
        if matches!(result, Err(error) if error.code == code) {
            *result = Ok(value.clone());
        }
    }
}

/// Reports what was done to each topic.
fn each(session: &mut Session, results: Each<String, ()>, done: &str) -> Result<(), Failure> {
    let topics: Vec<Value> = results
        .iter()
        .map(|(name, result)| json!({ "name": name, "error": error_json(result.as_ref().err()) }))
        .collect();
    let names = results.iter().filter(|(_, result)| result.is_ok());
    let lines: Vec<String> = names.map(|(name, _)| format!("{name} {done}")).collect();
    session.answer(&json!({ "topics": topics }), &lines.join("\n"))?;
    session.check_each(&results, |name| format!("topic '{name}'"))
}

async fn create(
    session: &mut Session,
    admin: &Admin,
    options: CreateOptions,
) -> Result<(), Failure> {
    let configs: BTreeMap<String, String> = options
        .config
        .into_iter()
        .map(|one| (one.key, one.value))
        .collect();
    let specs = options.topics.iter().map(|name| TopicSpec {
        partitions: options.partitions,
        replication_factor: options.replication_factor,
        configs: configs.clone(),
        ..TopicSpec::new(name)
    });
    let specs: Vec<TopicSpec> = specs.collect();
    let results = session
        .call(admin.create_topics(&specs, options.dry_run))
        .await?;
    let verb = if options.dry_run {
        "could be created"
    } else {
        "created"
    };
    let mut topics = Vec::new();
    let mut lines = Vec::new();
    let mut left = Each::new();
    for (name, result) in results {
        let existed = matches!(&result, Err(e) if e.code == ErrorCode::TopicAlreadyExists);
        let forgiven = existed && options.if_not_exists;
        let created = result.as_ref().ok();
        let id = created
            .filter(|topic| !topic.id.is_zero())
            .map(|topic| topic.id.to_string());
        let partitions = created.and_then(|topic| topic.partitions);
        let factor = created.and_then(|topic| topic.replication_factor);
        topics.push(json!({
            "name": name, "id": id, "partitions": partitions, "replication_factor": factor,
            "created": result.is_ok() && !options.dry_run,
            "error": error_json(result.as_ref().err().filter(|_| !forgiven)),
        }));
        match &result {
            Ok(_) => lines.push(match (partitions, factor) {
                (Some(partitions), Some(factor)) => {
                    let partitions = u64::try_from(partitions).unwrap_or(0);
                    let factor = u64::try_from(factor).unwrap_or(0);
                    let partitions = counted(partitions, "partition");
                    format!(
                        "{name} {verb}: {partitions} with {}",
                        counted(factor, "replica")
                    )
                }
                _ => format!("{name} {verb}"),
            }),
            Err(_) if forgiven => lines.push(format!("{name} exists already")),
            Err(_) => {}
        }
        left.insert(name, if forgiven { Ok(()) } else { result.map(|_| ()) });
    }
    session.answer(&json!({ "topics": topics }), &lines.join("\n"))?;
    session.check_each(&left, |name| format!("creating topic '{name}'"))
}

async fn list(session: &mut Session, admin: &Admin, internal: bool) -> Result<(), Failure> {
    let topics = session.call(admin.list_topics()).await?;
    let shown = topics
        .values()
        .filter(|topic| internal || !topic.is_internal);
    let mut table = Table::new(&["name", ">partitions", ">replicas"]);
    let mut list = Vec::new();
    for topic in shown {
        let replicas = topic
            .partitions
            .values()
            .map(|p| p.replicas.len())
            .max()
            .unwrap_or(0);
        let name = topic.name.to_string();
        table.row(vec![
            name,
            topic.partitions.len().to_string(),
            replicas.to_string(),
        ]);
        list.push(json!({
            "name": &*topic.name,
            "id": (!topic.id.is_zero()).then(|| topic.id.to_string()),
            "partitions": topic.partitions.len(),
            "replication_factor": replicas,
            "internal": topic.is_internal,
        }));
    }
    if table.is_empty() {
        session
            .terminal
            .whisper("There are no topics; `klamm topic create NAME` makes one.");
    }
    let text = if table.is_empty() {
        String::new()
    } else {
        table.text()
    };
    session.answer(&json!({ "topics": list }), &text)
}

async fn trim(
    session: &mut Session,
    admin: &Admin,
    topics: &[TopicChoice],
    to: Place,
) -> Result<(), Failure> {
    let partitions = place::chosen(session, admin, topics).await?;
    let isolation = admin.cluster().config().isolation_level;
    let spans = place::spans(session, admin, &partitions, isolation).await?;
    if let Place::At(offset) = to
        && let Some((partition, span)) = spans.iter().find(|(_, span)| offset > span.end)
    {
        return Err(Failure::Failed(format!(
            "{partition} ends at {}: nothing can be trimmed up to {offset}",
            span.end
        )));
    }
    let below = place::resolve(session, admin, to, &spans, |_, span| match to {
        Place::Shift(count) if count >= 0 => span.start,
        _ => span.end,
    });
    let below = below.await?;
    let results = session.call(admin.delete_records(&below)).await?;
    let mut table = Table::new(&["topic", ">partition", ">first", ">trimmed"]);
    let mut list = Vec::new();
    for (partition, result) in &results {
        let first = result.as_ref().ok().copied();
        let before = spans.get(partition).map_or(Offset::ZERO, |span| span.start);
        let trimmed = first.map(|first| first.since(before));
        list.push(json!({
            "topic": &*partition.topic, "partition": partition.partition,
            "log_start_offset": first.map(|offset| offset.0), "trimmed": trimmed,
            "error": error_json(result.as_ref().err()),
        }));
        if first.is_some() {
            let (topic, number) = (partition.topic.to_string(), partition.partition.to_string());
            table.row(vec![topic, number, or_dash(first), or_dash(trimmed)]);
        }
    }
    session.answer(&json!({ "partitions": list }), &table.text())?;
    session.check_each(&results, |partition| format!("trimming {partition}"))
}

async fn offsets(
    session: &mut Session,
    admin: &Admin,
    topics: &[TopicChoice],
    at: Option<Place>,
) -> Result<(), Failure> {
    let partitions = place::chosen(session, admin, topics).await?;
    let isolation = admin.cluster().config().isolation_level;
    let spans = place::spans(session, admin, &partitions, isolation).await?;
    let places: BTreeMap<TopicPartition, Offset> = match at {
        Some(at) => {
            let base = |_: &TopicPartition, span: place::Span| match at {
                Place::Shift(count) if count >= 0 => span.start,
                _ => span.end,
            };
            place::resolve(session, admin, at, &spans, base).await?
        }
        None => BTreeMap::new(),
    };
    let mut table = match at {
        Some(_) => Table::new(&[
            "topic",
            ">partition",
            ">first",
            ">end",
            ">records",
            ">offset",
        ]),
        None => Table::new(&["topic", ">partition", ">first", ">end", ">records"]),
    };
    let mut list = Vec::new();
    for (partition, span) in &spans {
        let found = places.get(partition);
        let count = span.end.since(span.start);
        let mut row = vec![
            partition.topic.to_string(),
            partition.partition.to_string(),
            span.start.to_string(),
            span.end.to_string(),
            count.to_string(),
        ];
        row.extend(found.map(ToString::to_string));
        table.row(row);
        let mut entry = json!({
            "topic": &*partition.topic, "partition": partition.partition,
            "log_start_offset": span.start.0, "log_end_offset": span.end.0,
        });
        if let Some(found) = found {
            entry["offset"] = json!(found.0);
        }
        list.push(entry);
    }
    session.answer(&json!({ "partitions": list }), &table.text())
}
