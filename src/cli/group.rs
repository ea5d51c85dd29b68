//! `klamm group`: list, describe with lag, seek, delete, delete-offsets.

mod describe;
mod seek;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::place::{self, Place, TopicChoice};
use super::report::{Table, error_json};
use super::session::Session;
use crate::client::Admin;

/// List, describe, reset and delete consumer groups
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  klamm group list
  klamm group describe billing                          members, offsets and lag
  klamm group seek billing --topic orders --to earliest       shows what would change
  klamm group seek billing --topic orders --to @-1h --execute
  klamm group seek billing --topic orders:0 --to -100 --execute    back by 100 records
  klamm group delete-offsets billing --topic orders
  klamm group delete billing")]
pub struct GroupCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List groups
    List {
        /// Only groups in this state, such as Stable or Empty
        #[arg(long, value_name = "STATE")]
        state: Vec<String>,
    },
    /// Members, committed offsets and lag
    Describe {
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Set committed offsets of a group without members; shows the change unless --execute is said
    Seek(SeekOptions),
    /// Delete groups without members, with their offsets
    Delete {
        #[arg(required = true, value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// Delete committed offsets of topics nobody in the group reads
    DeleteOffsets {
        group: String,
        #[arg(long = "topic", required = true, value_name = "TOPIC[:PARTITION,...]")]
        topics: Vec<TopicChoice>,
    },
}

#[derive(Args, Debug)]
struct SeekOptions {
    group: String,
    /// Where to: earliest, latest, OFFSET, +N or -N (from what is committed), @TIME or @-AGE
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    to: Place,
    /// Only these; all topics with committed offsets unless given
    #[arg(long = "topic", value_name = "TOPIC[:PARTITION,...]")]
    topics: Vec<TopicChoice>,
    /// Do it; otherwise what would change is only shown
    #[arg(long)]
    execute: bool,
    /// Only show what would change (as without --execute)
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
}

pub async fn run(session: &mut Session, command: GroupCommand) -> Result<(), Failure> {
    let admin = session.admin().await?;
    match command.action {
        Action::List { state } => list(session, &admin, &state).await,
        Action::Describe { groups } => describe::run(session, &admin, &groups).await,
        Action::Seek(options) => seek::run(session, &admin, &options).await,
        Action::Delete { groups } => {
            let results = session.call(admin.delete_groups(&groups)).await?;
            let list: Vec<Value> = results
                .iter()
                .map(|(group, result)| {
                    json!({ "group": group, "error": error_json(result.as_ref().err()) })
                })
                .collect();
            let gone = results.iter().filter(|(_, result)| result.is_ok());
            let lines: Vec<String> = gone.map(|(group, _)| format!("{group} deleted")).collect();
            session.answer(&json!({ "groups": list }), &lines.join("\n"))?;
            session.check_each(&results, |group| format!("deleting group '{group}'"))
        }
        Action::DeleteOffsets { group, topics } => {
            delete_offsets(session, &admin, &group, &topics).await
        }
    }
}

async fn list(session: &mut Session, admin: &Admin, states: &[String]) -> Result<(), Failure> {
    let groups = session.call(admin.list_groups(states)).await?;
    let mut table = Table::new(&["group", "state", "protocol type", "type", ">coordinator"]);
    let mut list = Vec::new();
    for group in groups.values() {
        table.row(vec![
            group.group_id.clone(),
            group.state.clone(),
            group.protocol_type.clone(),
            group.group_type.clone(),
            group.coordinator.to_string(),
        ]);
        list.push(json!({
            "group": group.group_id, "state": group.state, "type": group.group_type,
            "protocol_type": group.protocol_type, "coordinator": group.coordinator.0,
        }));
    }
    let text = if table.is_empty() {
        String::new()
    } else {
        table.text()
    };
    session.answer(&json!({ "groups": list }), &text)
}

async fn delete_offsets(
    session: &mut Session,
    admin: &Admin,
    group: &str,
    topics: &[TopicChoice],
) -> Result<(), Failure> {
    let partitions = place::chosen(session, admin, topics).await?;
    let results = session
        .call(admin.delete_group_offsets(group, &partitions))
        .await?;
    let mut lines = Vec::new();
    let mut list = Vec::new();
    for (partition, result) in &results {
        if result.is_ok() {
            lines.push(format!("offset of {partition} deleted"));
        }
        list.push(json!({
            "topic": &*partition.topic, "partition": partition.partition,
            "error": error_json(result.as_ref().err()),
        }));
    }
    session.answer(
        &json!({ "group": group, "partitions": list }),
        &lines.join("\n"),
    )?;
    session.check_each(&results, |partition| {
        format!("deleting the offset of {partition}")
    })
}
