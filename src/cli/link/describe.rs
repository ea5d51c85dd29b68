//! `klamm link describe`: how far mirrors are, and what stands in the way.

use serde_json::{Value, json};

use super::{limit, link_json, naming, state, warn_of_silence};
use crate::cli::failure::Failure;
use crate::cli::report::{Table, listed, or_dash, pairs};
use crate::cli::session::Session;
use crate::client::Admin;
use crate::client::admin::{LinkDescription, Links, MirrorDescription, MirrorProgress};
use crate::types::Timestamp;

pub async fn run(session: &mut Session, admin: &Admin, names: &[String]) -> Result<(), Failure> {
    let wanted = (!names.is_empty()).then_some(names);
    let all = session.call(admin.describe_links(wanted)).await?;
    let now = session.env.wall();
    let mut blocks = Vec::new();
    let mut list = Vec::new();
    for link in all.links.values() {
        let mirrors = all.mirrors.values();
        let mirrors: Vec<_> = mirrors.filter(|one| one.link == link.id).collect();
        blocks.push(text(link, &mirrors, now));
        let mut json = link_json(link);
        json["mirrors"] = mirrors.iter().map(|one| mirror_json(one, now)).collect();
        list.push(json);
    }
    let orphans = orphans(&all);
    if !orphans.is_empty() {
        let title = "Promoted, and their link is gone";
        blocks.push(format!("{title}\n\n{}", table(&orphans, now)));
    }
    let orphans: Vec<Value> = orphans.iter().map(|one| mirror_json(one, now)).collect();
    let json = json!({ "links": list, "without_link": orphans });
    session.answer(&json, &blocks.join("\n\n"))?;
    warn_of_silence(session, &all);
    Ok(())
}

/// Mirrors whose link was deleted.
fn orphans(all: &Links) -> Vec<&MirrorDescription> {
    let is_known = |mirror: &&MirrorDescription| {
        let mut links = all.links.values();
        links.any(|link| link.id == mirror.link)
    };
    let mirrors = all.mirrors.values();
    mirrors.filter(|mirror| !is_known(mirror)).collect()
}

fn text(link: &LinkDescription, mirrors: &[&MirrorDescription], now: Timestamp) -> String {
    let heard = match (link.seen_at, link.broker) {
        (Some(at), _) => format!("{} ago", age(at, now)),
        (None, Some(_)) => "not yet".to_owned(),
        (None, None) => "no broker looks after the link at the moment".to_owned(),
    };
    let mut lines = vec![
        ("Link", link.name.clone()),
        ("State", format!("{}, {}", state(link), link.mode)),
        ("From", listed(&link.bootstrap)),
        ("Source cluster", or_dash(link.source_cluster.as_ref())),
        ("Topics", listed(&link.topics)),
        ("Groups", listed(&link.groups)),
        ("Limit", limit(link)),
        ("Looked after by", or_dash(link.broker)),
        ("Source heard", heard),
    ];
    if let Some(of) = &link.mirror_maker {
        lines.insert(2, ("Mirrors are named", naming(of, &link.name)));
    }
    if let Some(error) = &link.error {
        lines.push(("Error", error.clone()));
    }
    let mut blocks = vec![pairs(&lines)];
    if !mirrors.is_empty() {
        blocks.push(table(mirrors, now));
    }
    if !link.skipped.is_empty() {
        let skipped = link.skipped.iter();
        let skipped = skipped.map(|(topic, reason)| format!("  {topic}: {reason}"));
        let skipped: Vec<String> = skipped.collect();
        blocks.push(format!("Not copied:\n{}", skipped.join("\n")));
    }
    let troubles = troubles(mirrors);
    if !troubles.is_empty() {
        blocks.push(format!("To be decided:\n{}", troubles.join("\n")));
    }
    blocks.join("\n\n")
}

fn table(mirrors: &[&MirrorDescription], now: Timestamp) -> String {
    let mut table = Table::new(&[
        "topic",
        ">partition",
        ">leader",
        "state",
        ">copied to",
        ">source end",
        ">lag",
        ">behind for",
        "trouble",
    ]);
    for mirror in mirrors {
        for (partition, one) in &mirror.partitions {
            table.row(vec![
                mirror.topic.clone(),
                partition.to_string(),
                or_dash(one.leader),
                mirror.state.clone(),
                or_dash(one.copied_end),
                or_dash(one.source_log_end),
                or_dash(one.lag()),
                or_dash(behind(one).map(|at| age(at, now))),
                trouble(one),
            ]);
        }
    }
    table.text()
}

/// Since when the copy has not had all that the source had; `None` where it has, or is not known.
fn behind(one: &MirrorProgress) -> Option<Timestamp> {
    match one.lag() {
        Some(lag) if lag > 0 => one.caught_up_at,
        _ => None,
    }
}

fn trouble(one: &MirrorProgress) -> String {
    match (&one.fault, &one.error) {
        (Some(fault), _) => fault.name.clone(),
        (None, Some(error)) => error.clone(),
        (None, None) => "-".to_owned(),
    }
}

/// What stands in the way until somebody chooses, one after the other.
fn troubles(mirrors: &[&MirrorDescription]) -> Vec<String> {
    let mut lines = Vec::new();
    for mirror in mirrors {
        let topic = &mirror.topic;
        if let Some(reason) = &mirror.reason {
            lines.push(format!(
                "  {topic}: {reason}\n    keep what was copied (`klamm link promote {topic}`), \
                 or delete the topic here"
            ));
        }
        for (partition, one) in &mirror.partitions {
            // Of what was promoted somebody has chosen.
            if let Some(fault) = one.fault.as_ref().filter(|_| mirror.state != "PROMOTED") {
                let choices = fault.choices.replace("TOPIC", topic);
                let text = &fault.text;
                lines.push(format!("  {topic}-{partition}: {text}\n    {choices}"));
            }
        }
    }
    lines
}

/// How long ago, in the largest unit that gives two or more.
pub(super) fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.0.saturating_sub(at.0).max(0) / 1000;
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        7200..=172_799 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn mirror_json(mirror: &MirrorDescription, now: Timestamp) -> Value {
    let partitions = mirror.partitions.iter();
    let partitions: Vec<Value> = partitions
        .map(|(partition, one)| partition_json(*partition, one, now))
        .collect();
    json!({
        "topic": mirror.topic, "topic_id": mirror.topic_id.to_string(),
        "source_topic": mirror.source_topic, "state": mirror.state, "reason": mirror.reason,
        "partitions": partitions,
    })
}

fn partition_json(partition: i32, one: &MirrorProgress, now: Timestamp) -> Value {
    let fault = one
        .fault
        .as_ref()
        .map(|fault| json!({ "name": fault.name, "text": fault.text, "choices": fault.choices }));
    let lag_ms = match one.lag() {
        Some(0) => Some(0),
        _ => one.caught_up_at.map(|at| now.0.saturating_sub(at.0).max(0)),
    };
    json!({
        "partition": partition, "leader": one.leader.map(|id| id.0),
        "leader_epoch": one.leader_epoch.0,
        "source_epoch": one.source_epoch.map(|epoch| epoch.0),
        "log_start_offset": one.log_start_offset.map(|at| at.0),
        "log_end_offset": one.log_end_offset.map(|at| at.0),
        "copied_end": one.copied_end.map(|at| at.0),
        "source_log_start": one.source_log_start.map(|at| at.0),
        "source_log_end": one.source_log_end.map(|at| at.0),
        "lag": one.lag(), "lag_ms": lag_ms,
        "source_seen_at": one.seen_at.map(|at| at.0),
        "fault": fault, "error": one.error,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::client::admin::MirrorTrouble;
    use crate::types::{BrokerId, LeaderEpoch, Offset, Uuid};

    fn progress(copied: i64, source: i64) -> MirrorProgress {
        MirrorProgress {
            leader: Some(BrokerId(2)),
            leader_epoch: LeaderEpoch(3),
            source_epoch: Some(LeaderEpoch(8)),
            fault: None,
            log_start_offset: Some(Offset(0)),
            log_end_offset: Some(Offset(copied)),
            copied_end: Some(Offset(copied)),
            source_log_start: Some(Offset(0)),
            source_log_end: Some(Offset(source)),
            seen_at: Some(Timestamp(9_000)),
            caught_up_at: Some(Timestamp(4_000)),
            error: None,
        }
    }

    fn mirror(state: &str, partitions: Vec<MirrorProgress>) -> MirrorDescription {
        MirrorDescription {
            topic: "orders".to_owned(),
            topic_id: Uuid([1; 16]),
            link: Uuid([2; 16]),
            source_topic: "orders".to_owned(),
            state: state.to_owned(),
            reason: None,
            partitions: (0..).zip(partitions).collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn a_partition_that_is_behind_says_how_far_and_how_long() {
        let mirror = mirror("ACTIVE", vec![progress(5, 7), progress(7, 7)]);
        let text = table(&[&mirror], Timestamp(10_000));
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            ["orders", "0", "2", "ACTIVE", "5", "7", "2", "6s", "-"]
        );
        assert_eq!(
            lines[2],
            ["orders", "1", "2", "ACTIVE", "7", "7", "0", "-", "-"]
        );
    }

    #[test]
    fn what_is_to_be_decided_names_the_topic_until_it_is_promoted() {
        let mut faulty = progress(5, 7);
        faulty.fault = Some(MirrorTrouble {
            name: "EXPIRED".to_owned(),
            text: "gone".to_owned(),
            choices: "'klamm link promote TOPIC'".to_owned(),
        });
        let told = troubles(&[&mirror("ACTIVE", vec![faulty.clone()])]);
        assert_eq!(told, ["  orders-0: gone\n    'klamm link promote orders'"]);
        assert_eq!(troubles(&[&mirror("PROMOTED", vec![faulty])]).len(), 0);
    }

    #[test]
    fn ages_are_short() {
        let now = Timestamp(1_000_000_000);
        let ago = |seconds: i64| age(Timestamp(now.0 - seconds * 1000), now);
        assert_eq!((ago(119), ago(120)), ("119s".to_owned(), "2m".to_owned()));
        assert_eq!((ago(7200), ago(-5)), ("2h".to_owned(), "0s".to_owned()));
        assert_eq!(ago(400_000), "4d");
    }
}
