//! `klamm group seek`: sets where a group goes on reading. Shows the change unless told to do it.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::failure::Failure;
use super::super::place;
use super::super::report::{Table, error_json, or_dash};
use super::super::session::Session;
use super::SeekOptions;
use crate::client::Admin;
use crate::client::admin::{CommittedOffset, Each};
use crate::types::{Offset, TopicPartition};

pub async fn run(
    session: &mut Session,
    admin: &Admin,
    options: &SeekOptions,
) -> Result<(), Failure> {
    let group = options.group.as_str();
    let committed = committed(session, admin, group).await?;
    let partitions = match options.topics.is_empty() {
        true => committed.keys().cloned().collect(),
        false => place::chosen(session, admin, &options.topics).await?,
    };
    if partitions.is_empty() {
        return Err(Failure::Failed(format!(
            "group '{group}' has no committed offsets: name what to set with --topic TOPIC"
        )));
    }
    let isolation = admin.cluster().config().isolation_level;
    let spans = place::spans(session, admin, &partitions, isolation).await?;
    // Where nothing is committed a shift counts from the beginning.
    let base = |partition: &TopicPartition, span: place::Span| {
        committed.get(partition).copied().unwrap_or(span.start)
    };
    let targets = place::resolve(session, admin, options.to, &spans, base).await?;
    let results = match options.execute {
        true => {
            let offsets = targets
                .iter()
                .map(|(partition, offset)| (partition.clone(), CommittedOffset::at(*offset)))
                .collect();
            session
                .call(admin.set_group_offsets(group, &offsets))
                .await?
        }
        false => targets
            .keys()
            .map(|partition| (partition.clone(), Ok(())))
            .collect(),
    };
    report(session, options, &committed, &targets, &results)?;
    session.check_each(&results, |partition| {
        format!("setting the offset of {partition}")
    })
}

async fn committed(
    session: &mut Session,
    admin: &Admin,
    group: &str,
) -> Result<BTreeMap<TopicPartition, Offset>, Failure> {
    let found = session.call(admin.group_offsets(group, None)).await?;
    let known = found
        .into_iter()
        .filter_map(|(p, result)| Some((p, result.ok()?.offset)));
    Ok(known.collect())
}

fn report(
    session: &mut Session,
    options: &SeekOptions,
    before: &BTreeMap<TopicPartition, Offset>,
    after: &BTreeMap<TopicPartition, Offset>,
    results: &Each<TopicPartition, ()>,
) -> Result<(), Failure> {
    let mut table = Table::new(&["topic", ">partition", ">before", ">after", ">moves"]);
    let mut list = Vec::new();
    for (partition, offset) in after {
        let old = before.get(partition).copied();
        let error = results
            .get(partition)
            .and_then(|result| result.as_ref().err());
        let moves = old.map(|old| offset.since(old));
        list.push(json!({
            "topic": &*partition.topic, "partition": partition.partition,
            "before": old.map(|offset| offset.0), "after": offset.0,
            "error": error_json(error),
        }));
        if error.is_none() {
            table.row(vec![
                partition.topic.to_string(),
                partition.partition.to_string(),
                or_dash(old),
                offset.to_string(),
                moves.map_or_else(|| "-".to_owned(), |count| format!("{count:+}")),
            ]);
        }
    }
    let json = json!({
        "group": options.group, "executed": options.execute, "partitions": list,
    });
    session.answer(&json, &table.text())?;
    if !options.execute && !session.is_json() {
        session
            .terminal
            .note("Nothing was changed: say --execute to do it.");
    }
    Ok(())
}
