//! `klamm why`: the chain of causes.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::report::{Table, listed, or_dash};
use super::session::Session;
use super::time_text;
use crate::client::admin::PartitionChange;
use crate::types::{BrokerId, TopicPartition};

/// Why something is as it is: the chain of causes
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  klamm why partition orders 0            who leads it, who is in sync, and what led there

Every change of a partition is in the cluster's metadata together with its cause; the last of them
are kept for this. Only Klamm's brokers can tell.")]
pub struct WhyCommand {
    #[command(subcommand)]
    about: About,
}

#[derive(Subcommand, Debug)]
enum About {
    /// Why a partition has the leader and the replicas it has
    Partition { topic: String, partition: i32 },
}

pub async fn run(session: &mut Session, command: WhyCommand) -> Result<(), Failure> {
    let About::Partition { topic, partition } = command.about;
    let admin = session.admin().await?;
    let partition = TopicPartition::new(topic.as_str(), partition);
    let changes = session.call(admin.partition_history(&partition)).await?;
    let mut table = Table::new(&[
        "when",
        ">metadata",
        ">leader",
        ">epoch",
        "in sync",
        "eligible",
        "replicas",
        "because",
    ]);
    for change in &changes {
        table.row(vec![
            or_dash(change.at.map(time_text::rfc3339)),
            or_dash(change.metadata_end),
            leader(change),
            change.leader_epoch.0.to_string(),
            listed(&change.isr),
            listed(&change.eligible.elr),
            replicas(change),
            because(change),
        ]);
    }
    let text = match changes.last() {
        Some(last) => format!("{}\n\n{}", table.text(), summary(&partition, last)),
        None => String::new(),
    };
    let list: Vec<Value> = changes.iter().map(change_json).collect();
    let json = json!({
        "topic": &*partition.topic, "partition": partition.partition, "changes": list,
    });
    session.answer(&json, &text)
}

fn leader(change: &PartitionChange) -> String {
    let leader = change
        .leader
        .map_or_else(|| "none".to_owned(), |id| id.to_string());
    match change.recovering {
        true => format!("{leader} (recovering)"),
        false => leader,
    }
}

/// The replicas, with a sign at those that come or go.
fn replicas(change: &PartitionChange) -> String {
    listed(change.replicas.iter().map(|id| {
        let is_in = |ids: &[BrokerId]| ids.contains(id);
        let sign = match (is_in(&change.adding), is_in(&change.removing)) {
            (true, _) => "+",
            (_, true) => "-",
            _ => "",
        };
        format!("{sign}{id}")
    }))
}

/// One sentence about where it stands, and what to do where nobody leads.
fn summary(partition: &TopicPartition, last: &PartitionChange) -> String {
    let out: Vec<&BrokerId> = last
        .replicas
        .iter()
        .filter(|id| !last.isr.contains(id))
        .collect();
    let eligible = &last.eligible;
    match last.leader {
        Some(leader) if out.is_empty() => {
            format!("{partition} is led by broker {leader}, and every replica is in sync.")
        }
        Some(leader) => format!(
            "{partition} is led by broker {leader}; not in sync: {}.",
            listed(out)
        ),
        None if !eligible.elr.is_empty() || !last.isr.is_empty() => format!(
            "{partition} has no leader: it waits for one of the brokers {}, which have every \
             acknowledged record. Start one of them.",
            listed(last.isr.iter().chain(&eligible.elr))
        ),
        None => format!(
            "{partition} has no leader, and no replica is known to have every acknowledged record\
             {}. `klamm cluster elect {}:{} --unclean` takes what is left; what is missing there \
             is lost.",
            match eligible.last_known.is_empty() {
                true => String::new(),
                false => format!(" (the last that had: {})", listed(&eligible.last_known)),
            },
            partition.topic,
            partition.partition
        ),
    }
}

/// The cause as a sentence; names of newer brokers are shown as they are.
fn because(change: &PartitionChange) -> String {
    let who = match change.broker {
        Some(id) => format!("broker {id}"),
        None => "a broker".to_owned(),
    };
    match change.cause.as_str() {
        "TOPIC_CREATED" => "the topic was created".to_owned(),
        "PARTITIONS_ADDED" => "the topic was given more partitions".to_owned(),
        "BROKER_STARTED" => format!("{who} came back while nobody led"),
        "BROKER_RESTARTED" => format!("{who} started anew: its earlier process is gone"),
        "LEADER_RESTARTED" => format!("{who} came back without having stopped in order"),
        "LAST_KNOWN_LEADER" => format!("{who} led last, and nobody else has more"),
        "BROKER_FENCED" => format!("{who} stopped answering"),
        "BROKER_SHUT_DOWN" => format!("{who} was stopped in order"),
        "ISR_CHANGED" => format!("{who} (leader) saw a replica catch up or fall behind"),
        "PREFERRED_ELECTION" => "the preferred replica was elected on request".to_owned(),
        "LEADERS_BALANCED" => "leaders went back to where they are preferred".to_owned(),
        "UNCLEAN_ELECTION" => "no replica in sync was left: records may be lost".to_owned(),
        "REASSIGNMENT" => "replicas began to move".to_owned(),
        "REASSIGNMENT_COMPLETED" => "replicas have moved".to_owned(),
        "REASSIGNMENT_CANCELLED" => "the move of replicas was cancelled".to_owned(),
        "LEADER_RESIGNED" => format!("{who} (leader) could not go on"),
        "MIRROR_PROMOTED" => "the mirror was promoted: clients write to it from here on".to_owned(),
        "MIN_INSYNC_REPLICAS_CHANGED" => "fewer replicas in sync are enough now".to_owned(),
        other => other.to_owned(),
    }
}

fn change_json(change: &PartitionChange) -> Value {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    json!({
        "timestamp": change.at.map(|at| at.0),
        "metadata_end": change.metadata_end.map(|end| end.0),
        "cause": change.cause, "broker": change.broker.map(|id| id.0),
        "leader": change.leader.map(|id| id.0),
        "leader_epoch": change.leader_epoch.0, "partition_epoch": change.partition_epoch,
        "replicas": ids(&change.replicas), "isr": ids(&change.isr),
        "elr": ids(&change.eligible.elr), "last_known_elr": ids(&change.eligible.last_known),
        "adding": ids(&change.adding), "removing": ids(&change.removing),
        "recovering": change.recovering,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::admin::EligibleReplicas;
    use crate::types::LeaderEpoch;

    fn change(leader: Option<i32>, isr: &[i32], elr: &[i32]) -> PartitionChange {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
        PartitionChange {
            metadata_end: None,
            at: None,
            cause: "BROKER_FENCED".to_owned(),
            broker: Some(BrokerId(2)),
            leader: leader.map(BrokerId),
            leader_epoch: LeaderEpoch(3),
            partition_epoch: 4,
            replicas: ids(&[1, 2, 3]),
            isr: ids(isr),
            eligible: EligibleReplicas {
                elr: ids(elr),
                last_known: Vec::new(),
            },
            adding: ids(&[3]),
            removing: ids(&[1]),
            recovering: false,
        }
    }

    #[test]
    fn replicas_that_come_and_go_are_marked() {
        assert_eq!(replicas(&change(Some(1), &[1], &[])), "-1,2,+3");
    }

    #[test]
    fn a_cause_names_the_broker_and_one_that_is_not_known_stays() {
        let mut one = change(Some(1), &[1], &[]);
        assert_eq!(because(&one), "broker 2 stopped answering");
        one.cause = "MOON_PHASE".to_owned();
        assert_eq!(because(&one), "MOON_PHASE");
    }

    #[test]
    fn the_summary_says_what_to_do_where_nobody_leads() {
        let partition = TopicPartition::new("orders", 0);
        let said = |change| summary(&partition, &change);
        assert!(said(change(Some(1), &[1, 2, 3], &[])).contains("every replica is in sync"));
        assert!(said(change(Some(1), &[1], &[])).contains("not in sync: 2,3"));
        assert!(said(change(None, &[], &[2])).contains("waits for one of the brokers 2"));
        assert!(said(change(None, &[], &[])).contains("elect orders:0 --unclean"));
    }
}
