//! `klamm cluster drain`: moves everything a broker holds to others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::drain_plan::{DrainPlan, Layout, plan};
use super::reassign::still_moving;
use crate::cli::failure::Failure;
use crate::cli::report::{Table, counted, error_json, listed};
use crate::cli::session::Session;
use crate::client::admin::Each;
use crate::client::{Admin, ApiError};
use crate::types::{BrokerId, TopicPartition};

/// Between two looks at what is under way.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub struct DrainOptions {
    /// The broker's node.id
    broker: i32,
    /// Only show where the replicas would go
    #[arg(long)]
    dry_run: bool,
    /// How many partitions move at a time
    #[arg(long, value_name = "COUNT", default_value = "50",
          value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
}

pub async fn run(
    session: &mut Session,
    admin: &Admin,
    options: DrainOptions,
) -> Result<(), Failure> {
    let drained = BrokerId(options.broker);
    let (layout, leaving) = look(session, admin, drained).await?;
    let plan = plan(&layout, drained);
    if !plan.stuck.is_empty() {
        let count = u64::try_from(plan.stuck.len()).unwrap_or(u64::MAX);
        return Err(Failure::Failed(format!(
            "{} ({}) cannot leave broker {drained}: every other broker alive holds them already. \
             Add a broker, or lower their replicas with `klamm cluster reassign TOPIC --to ...`",
            counted(count, "partition"),
            listed(plan.stuck.iter().take(5)),
        )));
    }
    if options.dry_run {
        let results = plan.moves.keys().map(|one| (one.clone(), Ok(()))).collect();
        return tell(session, &layout, &plan, drained, &results, "would move");
    }
    let results = carry_out(session, admin, &plan, leaving, options.at_once).await;
    if matches!(results, Err(Failure::Interrupted)) {
        session.terminal.note(
            "Moves that have begun go on: `klamm cluster reassign` shows them, and drain again \
             goes on with the rest.",
        );
    }
    tell(session, &layout, &plan, drained, &results?, "moved")?;
    // Others may have cancelled a move, or made a topic there meanwhile.
    let topics = session.call(admin.list_topics()).await?;
    let partitions = topics.values().flat_map(|topic| topic.partitions.values());
    let held = partitions.filter(|one| one.replicas.contains(&drained));
    match u64::try_from(held.count()).unwrap_or(u64::MAX) {
        0 => Ok(()),
        held => Err(Failure::Failed(format!(
            "broker {drained} holds {} again: drain it once more",
            counted(held, "partition")
        ))),
    }
}

/// The layout once what is under way is done, and the partitions that are leaving the broker
/// already.
async fn look(
    session: &mut Session,
    admin: &Admin,
    drained: BrokerId,
) -> Result<(Layout, BTreeSet<TopicPartition>), Failure> {
    let cluster = session.call(admin.describe_cluster()).await?;
    let topics = session.call(admin.list_topics()).await?;
    let moving = session.call(admin.list_reassignments(None)).await?;
    let mut layout = Layout::default();
    for broker in cluster.brokers {
        layout.brokers.insert(broker.id, broker.rack);
    }
    for topic in topics.values() {
        for partition in topic.partitions.values() {
            let key = TopicPartition::new(topic.name.clone(), partition.partition);
            let replicas = match moving.get(&key) {
                Some(one) => one.target(),
                None => partition.replicas.clone(),
            };
            layout.partitions.insert(key, replicas);
        }
    }
    let leaving = moving
        .into_iter()
        .filter(|(_, one)| one.removing.contains(&drained))
        .map(|(partition, _)| partition);
    Ok((layout, leaving.collect()))
}

/// Begins the moves, so many at a time, and waits for their end.
async fn carry_out(
    session: &mut Session,
    admin: &Admin,
    plan: &DrainPlan,
    mut moving: BTreeSet<TopicPartition>,
    at_once: u32,
) -> Result<Each<TopicPartition, ()>, Failure> {
    let at_once = usize::try_from(at_once).unwrap_or(usize::MAX);
    let mut waiting = plan.moves.iter();
    let mut left = plan.moves.len() + moving.len();
    let total = u64::try_from(left).unwrap_or(u64::MAX);
    let bar = session.terminal.progress(Some(total), false);
    let mut results = Each::new();
    loop {
        let room = at_once.saturating_sub(moving.len());
        let next: BTreeMap<_, _> = waiting
            .by_ref()
            .take(room)
            .map(|(partition, replicas)| (partition.clone(), Some(replicas.clone())))
            .collect();
        if !next.is_empty() {
            for (partition, begun) in session.call(admin.alter_reassignments(&next)).await? {
                match &begun {
                    Ok(()) => moving.insert(partition.clone()),
                    Err(_) => {
                        left -= 1;
                        false
                    }
                };
                results.insert(partition, begun);
            }
        }
        if moving.is_empty() && waiting.len() == 0 {
            break;
        }
        let before = moving.len();
        moving = still_moving(session, admin, &moving).await?;
        left -= before - moving.len();
        show(&bar, left);
        if !moving.is_empty() {
            let pause = session.env.sleep(LOOK);
            session.interrupt.or(pause).await?;
        }
    }
    bar.finish_and_clear();
    Ok(results)
}

fn show(bar: &ProgressBar, left: usize) {
    let left = u64::try_from(left).unwrap_or(u64::MAX);
    let total = bar.length().unwrap_or(left);
    bar.set_position(total.saturating_sub(left));
    bar.set_message(format!("{} to go", counted(left, "partition")));
}

fn tell(
    session: &mut Session,
    layout: &Layout,
    plan: &DrainPlan,
    drained: BrokerId,
    results: &Each<TopicPartition, ()>,
    done: &str,
) -> Result<(), Failure> {
    let none = Vec::new();
    let mut table = Table::new(&["topic", ">partition", "from", "to"]);
    let mut list = Vec::new();
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    for (partition, to) in &plan.moves {
        let from = layout.partitions.get(partition).unwrap_or(&none);
        let error: Option<&ApiError> = results.get(partition).and_then(|one| one.as_ref().err());
        if error.is_none() {
            table.row(vec![
                partition.topic.to_string(),
                partition.partition.to_string(),
                listed(from),
                listed(to),
            ]);
        }
        list.push(json!({
            "topic": &*partition.topic, "partition": partition.partition,
            "from": ids(from), "to": ids(to), "error": error_json(error),
        }));
    }
    let count = results.values().filter(|result| result.is_ok()).count();
    let count = counted(u64::try_from(count).unwrap_or(u64::MAX), "partition");
    let text = match table.is_empty() {
        true => format!("Broker {drained} holds nothing."),
        false => format!("{}\n\n{count} {done} from broker {drained}.", table.text()),
    };
    let json = json!({ "broker": drained.0, "moves": Value::Array(list) });
    session.answer(&json, &text)?;
    session.check_each(results, |partition| format!("moving {partition}"))
}
