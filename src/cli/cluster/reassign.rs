//! `klamm cluster reassign`: moves replicas, cancels moves, shows and awaits what is under way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::cli::place::{self, TopicChoice};
use crate::cli::report::{Table, counted, error_json, listed};
use crate::cli::session::Session;
use crate::client::Admin;
use crate::client::admin::Reassignment;
use crate::types::{BrokerId, TopicPartition};

/// Between two looks at what is under way.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub struct ReassignOptions {
    /// What to move; without it, what is under way is shown
    #[arg(value_name = "TOPIC[:PARTITION,...]")]
    topics: Vec<TopicChoice>,
    /// The replicas afterwards, preferred leader first
    #[arg(
        long,
        value_name = "BROKER,...",
        value_delimiter = ',',
        requires = "topics"
    )]
    to: Vec<i32>,
    /// Go back to the replicas there were before the move
    #[arg(long, requires = "topics", conflicts_with = "to")]
    cancel: bool,
    /// Wait until the partitions have moved
    #[arg(long)]
    wait: bool,
}

pub async fn run(
    session: &mut Session,
    admin: &Admin,
    options: ReassignOptions,
) -> Result<(), Failure> {
    if options.topics.is_empty() {
        return show(session, admin, options.wait).await;
    }
    if options.to.is_empty() && !options.cancel {
        let text = "say --to BROKER,... (the replicas afterwards) or --cancel";
        return Err(Failure::Usage(text.to_owned()));
    }
    let partitions = place::chosen(session, admin, &options.topics).await?;
    let replicas: Vec<BrokerId> = options.to.iter().copied().map(BrokerId).collect();
    let target = (!options.cancel).then_some(replicas);
    let moves: BTreeMap<_, _> = partitions
        .into_iter()
        .map(|partition| (partition, target.clone()))
        .collect();
    let results = session.call(admin.alter_reassignments(&moves)).await?;
    let begun: BTreeSet<TopicPartition> = results
        .iter()
        .filter(|(_, result)| result.is_ok())
        .map(|(partition, _)| partition.clone())
        .collect();
    if options.wait {
        wait(session, admin, begun.clone()).await?;
    }
    let done = match (&target, options.wait) {
        (None, _) => "stays where it was".to_owned(),
        (Some(replicas), true) => format!("moved to {}", listed(replicas)),
        (Some(replicas), false) => format!("moves to {}", listed(replicas)),
    };
    let lines: Vec<String> = begun.iter().map(|one| format!("{one} {done}")).collect();
    let list = results.iter().map(|(partition, result)| {
        json!({
            "topic": &*partition.topic, "partition": partition.partition,
            "error": error_json(result.as_ref().err()),
        })
    });
    let json = json!({ "partitions": list.collect::<Vec<Value>>() });
    session.answer(&json, &lines.join("\n"))?;
    session.check_each(&results, |partition| format!("moving {partition}"))
}

async fn show(session: &mut Session, admin: &Admin, wait_for_end: bool) -> Result<(), Failure> {
    let mut moving = session.call(admin.list_reassignments(None)).await?;
    if wait_for_end {
        wait(session, admin, moving.into_keys().collect()).await?;
        moving = session.call(admin.list_reassignments(None)).await?;
    }
    if moving.is_empty() {
        session.terminal.whisper("Nothing is on the move.");
    }
    let text = if moving.is_empty() {
        String::new()
    } else {
        table(&moving).text()
    };
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let list = moving.iter().map(|(partition, one)| {
        json!({
            "topic": &*partition.topic, "partition": partition.partition,
            "replicas": ids(&one.replicas), "adding": ids(&one.adding),
            "removing": ids(&one.removing),
        })
    });
    session.answer(&json!({ "moving": list.collect::<Vec<Value>>() }), &text)
}

fn table(moving: &BTreeMap<TopicPartition, Reassignment>) -> Table {
    let mut table = Table::new(&["topic", ">partition", "replicas", "adding", "removing"]);
    for (partition, one) in moving {
        table.row(vec![
            partition.topic.to_string(),
            partition.partition.to_string(),
            listed(&one.replicas),
            listed(&one.adding),
            listed(&one.removing),
        ]);
    }
    table
}

/// Waits until none of `partitions` moves any more.
async fn wait(
    session: &mut Session,
    admin: &Admin,
    mut partitions: BTreeSet<TopicPartition>,
) -> Result<(), Failure> {
    let total = u64::try_from(partitions.len()).unwrap_or(u64::MAX);
    let bar = session.terminal.progress(Some(total), false);
    while !partitions.is_empty() {
        partitions = still_moving(session, admin, &partitions).await?;
        let left = u64::try_from(partitions.len()).unwrap_or(u64::MAX);
        bar.set_position(total - left);
        bar.set_message(format!("{} to go", counted(left, "partition")));
        if !partitions.is_empty() {
            let pause = session.env.sleep(LOOK);
            session.interrupt.or(pause).await?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Those of `partitions` that are on the move.
pub async fn still_moving(
    session: &mut Session,
    admin: &Admin,
    partitions: &BTreeSet<TopicPartition>,
) -> Result<BTreeSet<TopicPartition>, Failure> {
    let asked: Vec<TopicPartition> = partitions.iter().cloned().collect();
    let moving = session.call(admin.list_reassignments(Some(&asked))).await?;
    Ok(moving.into_keys().collect())
}
