//! `klamm config`: a node's settings explained without a cluster; a cluster's described and
//! altered.

mod explain;

use std::collections::BTreeMap;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::node::{NodeOptions, Override};
use super::report::{Table, counted, error_json, or_dash};
use super::session::Session;
use crate::client::admin::{ConfigChange, ConfigEntry, ConfigResource, ResourceKind};

/// Settings: explain a node's, describe and alter a cluster's
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  klamm config explain log.retention.hours           value, source, meaning (no cluster needed)
  klamm config explain log.dirs server.properties    as a node started with that file would have it
  klamm config list                                  every setting of a node
  klamm config describe --topic orders               what is in force in a cluster
  klamm config alter --topic orders --add retention.ms=3600000 --delete cleanup.policy")]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// The value a node here would use for a setting, where it comes from, and what it means
    Explain {
        /// A setting of a node or topic, such as log.retention.hours
        key: String,
        #[command(flatten)]
        node: NodeOptions,
    },
    /// Every setting of a node with the value it would have here
    List {
        #[command(flatten)]
        node: NodeOptions,
        /// Only those that were given somewhere
        #[arg(long)]
        changed: bool,
    },
    /// Settings in force in a cluster
    Describe {
        #[command(flatten)]
        resource: Resource,
        /// All settings; otherwise only those that are not default
        #[arg(long)]
        all: bool,
        /// Only this one, with its meaning and what it hides
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Change settings in a cluster, while it runs
    #[command(group = ArgGroup::new("change").required(true).multiple(true))]
    Alter {
        #[command(flatten)]
        resource: Resource,
        /// Set a value
        #[arg(long, group = "change", value_name = "KEY=VALUE")]
        add: Vec<Override>,
        /// Go back to the default
        #[arg(long, group = "change", value_name = "KEY")]
        delete: Vec<String>,
        /// Only check whether it could be done
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Resource {
    /// Settings of a topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Settings of a broker; `default` for all brokers at once
    #[arg(long, value_name = "ID")]
    broker: Option<String>,
}

impl Resource {
    fn resolve(&self) -> Result<ConfigResource, Failure> {
        if let Some(topic) = &self.topic {
            return Ok(ConfigResource::topic(topic));
        }
        let name = match self.broker.as_deref().unwrap_or_default() {
            "default" => String::new(),
            id if id.parse::<i32>().is_ok_and(|id| id >= 0) => id.to_owned(),
            other => {
                return Err(Failure::Usage(format!(
                    "'{other}' is no broker: give its id, such as --broker 1, or `default`"
                )));
            }
        };
        Ok(ConfigResource {
            kind: ResourceKind::Broker,
            name,
        })
    }
}

fn shown(resource: &ConfigResource) -> String {
    match (resource.kind, resource.name.as_str()) {
        (ResourceKind::Topic, name) => format!("topic '{name}'"),
        (ResourceKind::Broker, "") => "all brokers".to_owned(),
        (ResourceKind::Broker, id) => format!("broker {id}"),
        (ResourceKind::Group, name) => format!("group '{name}'"),
    }
}

fn kind_name(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Topic => "topic",
        ResourceKind::Broker => "broker",
        ResourceKind::Group => "group",
    }
}

pub async fn run(session: &mut Session, command: ConfigCommand) -> Result<(), Failure> {
    match command.action {
        Action::Explain { key, node } => explain::explain(session, &key, &node).await,
        Action::List { node, changed } => explain::list(session, &node, changed).await,
        Action::Describe { resource, all, key } => {
            describe(session, &resource.resolve()?, all, key.as_deref()).await
        }
        Action::Alter {
            resource,
            add,
            delete,
            dry_run,
        } => {
            let mut changes = BTreeMap::new();
            for one in add {
                changes.insert(one.key, ConfigChange::Set(one.value));
            }
            for key in delete {
                if changes.insert(key.clone(), ConfigChange::Delete).is_some() {
                    let text = format!("'{key}' cannot be both added and deleted");
                    return Err(Failure::Usage(text));
                }
            }
            alter(session, resource.resolve()?, changes, dry_run).await
        }
    }
}

async fn describe(
    session: &mut Session,
    resource: &ConfigResource,
    all: bool,
    key: Option<&str>,
) -> Result<(), Failure> {
    let admin = session.admin().await?;
    let asked = [resource.clone()];
    let mut results = session.call(admin.describe_configs(&asked)).await?;
    let entries = match results.remove(resource) {
        Some(Ok(entries)) => entries,
        Some(Err(error)) => {
            return Err(Failure::refused(
                format!("settings of {}", shown(resource)),
                error,
            ));
        }
        None => {
            return Err(Failure::Failed(
                "the broker left the settings out".to_owned(),
            ));
        }
    };
    let wanted = |entry: &&ConfigEntry| match key {
        Some(key) => entry.name == key,
        None => all || session.options.format == super::options::Format::Json || !entry.is_default,
    };
    let chosen: Vec<&ConfigEntry> = entries.iter().filter(wanted).collect();
    if let (Some(key), true) = (key, chosen.is_empty()) {
        return Err(Failure::Failed(format!(
            "{} has no setting '{key}'; --all lists those it has",
            shown(resource)
        )));
    }
    let json = json!({
        "resource": { "type": kind_name(resource.kind), "name": resource.name },
        "configs": chosen.iter().map(|entry| entry_json(entry)).collect::<Vec<Value>>(),
    });
    let text = match (key, chosen.as_slice()) {
        (Some(_), [entry]) => entry_text(entry),
        (_, []) => String::new(),
        (_, chosen) => entries_text(chosen),
    };
    if text.is_empty() {
        session
            .terminal
            .whisper("Every setting has its default; --all lists them.");
    }
    session.answer(&json, &text)
}

fn entry_json(entry: &ConfigEntry) -> Value {
    let synonyms = entry.synonyms.iter();
    let synonyms = synonyms
        .map(|(name, value, source)| json!({ "name": name, "value": value, "source": source }));
    json!({
        "name": entry.name, "value": entry.value, "source": entry.source,
        "default": entry.is_default, "read_only": entry.is_read_only,
        "sensitive": entry.is_sensitive, "synonyms": synonyms.collect::<Vec<Value>>(),
        "documentation": entry.documentation,
    })
}

fn value_text(entry: &ConfigEntry) -> String {
    match (&entry.value, entry.is_sensitive) {
        (_, true) => "(secret)".to_owned(),
        (value, false) => or_dash(value.as_ref()),
    }
}

fn entries_text(entries: &[&ConfigEntry]) -> String {
    let mut table = Table::new(&["name", "value", "source", "changes by"]);
    for entry in entries {
        let changes = if entry.is_read_only {
            "restart"
        } else {
            "alter"
        };
        let (name, source) = (entry.name.clone(), entry.source.to_owned());
        table.row(vec![name, value_text(entry), source, changes.to_owned()]);
    }
    table.text()
}

fn entry_text(entry: &ConfigEntry) -> String {
    let mut lines = vec![format!("{} = {}", entry.name, value_text(entry))];
    lines.push(format!("  from {}", entry.source));
    for (name, value, source) in entry.synonyms.iter().skip(1) {
        lines.push(format!(
            "  hides {name} = {} from {source}",
            or_dash(value.as_ref())
        ));
    }
    lines.extend(entry.documentation.as_ref().map(|text| format!("\n{text}")));
    lines.join("\n")
}

async fn alter(
    session: &mut Session,
    resource: ConfigResource,
    changes: BTreeMap<String, ConfigChange>,
    dry_run: bool,
) -> Result<(), Failure> {
    let admin = session.admin().await?;
    let count = changes.len();
    let asked = BTreeMap::from([(resource.clone(), changes)]);
    let results = session.call(admin.alter_configs(&asked, dry_run)).await?;
    let error = results
        .get(&resource)
        .and_then(|result| result.as_ref().err());
    let json = json!({
        "resource": { "type": kind_name(resource.kind), "name": resource.name },
        "changed": if error.is_none() && !dry_run { count } else { 0 },
        "error": error_json(error),
    });
    let verb = if dry_run {
        "could be changed"
    } else {
        "changed"
    };
    let text = match error {
        None => format!(
            "{}: {} {verb}",
            shown(&resource),
            counted(count as u64, "setting")
        ),
        Some(_) => String::new(),
    };
    session.answer(&json, &text)?;
    session.check_each(&results, |resource| {
        format!("altering settings of {}", shown(resource))
    })
}
