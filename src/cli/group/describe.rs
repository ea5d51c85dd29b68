//! `klamm group describe`: who reads what, how far, and how much is left.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::report::{Table, error_json, or_dash, pairs};
use super::super::session::Session;
use crate::client::Admin;
use crate::client::admin::{Each, GroupDescription, OffsetSpec};
use crate::types::{ErrorCode, Offset, TopicPartition};

/// One partition of a group.
struct Line {
    partition: TopicPartition,
    committed: Option<Offset>,
    /// `None` when it cannot be learnt.
    end: Option<Offset>,
    /// Place in the description's list of members.
    member: Option<usize>,
}

impl Line {
    fn lag(&self) -> Option<i64> {
        Some(self.end?.since(self.committed?).max(0))
    }
}

pub async fn run(session: &mut Session, admin: &Admin, groups: &[String]) -> Result<(), Failure> {
    let mut results = session.call(admin.describe_groups(groups)).await?;
    // Brokers answer `Dead` for a group there is not.
    for result in results.values_mut() {
        if matches!(result, Ok(group) if group.state == "Dead") {
            *result = Err(ErrorCode::GroupIdNotFound.into());
        }
    }
    let mut blocks = Vec::new();
    let mut list = Vec::new();
    for (name, result) in &results {
        match result {
            Ok(group) => {
                let lines = lines(session, admin, group).await?;
                blocks.push(text(group, &lines));
                list.push(json(group, &lines));
            }
            Err(error) => list.push(json!({ "group": name, "error": error_json(Some(error)) })),
        }
    }
    session.answer(&json!({ "groups": list }), &blocks.join("\n\n"))?;
    session.check_each(&results, |group| format!("group '{group}'"))
}

async fn lines(
    session: &mut Session,
    admin: &Admin,
    group: &GroupDescription,
) -> Result<Vec<Line>, Failure> {
    let committed = session
        .call(admin.group_offsets(&group.group_id, None))
        .await?;
    let mut owners = BTreeMap::new();
    for (index, member) in group.members.iter().enumerate() {
        owners.extend(
            member
                .assignment
                .iter()
                .map(|partition| (partition.clone(), index)),
        );
    }
    let all: BTreeSet<TopicPartition> = committed.keys().chain(owners.keys()).cloned().collect();
    let wanted = all
        .iter()
        .map(|partition| (partition.clone(), OffsetSpec::Latest))
        .collect();
    let isolation = admin.cluster().config().isolation_level;
    let ends = match all.is_empty() {
        true => Each::new(),
        false => session.call(admin.list_offsets(&wanted, isolation)).await?,
    };
    let lines = all.into_iter().map(|partition| Line {
        committed: match committed.get(&partition) {
            Some(Ok(found)) => Some(found.offset),
            _ => None,
        },
        end: match ends.get(&partition) {
            Some(Ok(found)) => found.offset,
            _ => None,
        },
        member: owners.get(&partition).copied(),
        partition,
    });
    Ok(lines.collect())
}

fn text(group: &GroupDescription, lines: &[Line]) -> String {
    let lag: i64 = lines.iter().filter_map(Line::lag).sum();
    let head = pairs(&[
        ("Group", group.group_id.clone()),
        ("State", group.state.clone()),
        (
            "Assignor",
            or_dash(Some(&group.protocol).filter(|name| !name.is_empty())),
        ),
        ("Coordinator", group.coordinator.to_string()),
        ("Members", group.members.len().to_string()),
        ("Total lag", lag.to_string()),
    ]);
    if lines.is_empty() {
        return head;
    }
    let columns = [
        "topic",
        ">partition",
        ">committed",
        ">end",
        ">lag",
        "member",
        "client id",
        "host",
    ];
    let mut table = Table::new(&columns);
    for line in lines {
        let member = line.member.and_then(|index| group.members.get(index));
        table.row(vec![
            line.partition.topic.to_string(),
            line.partition.partition.to_string(),
            or_dash(line.committed),
            or_dash(line.end),
            or_dash(line.lag()),
            or_dash(member.map(|m| m.group_instance_id.as_ref().unwrap_or(&m.member_id))),
            or_dash(member.map(|m| &m.client_id)),
            or_dash(member.map(|m| &m.client_host)),
        ]);
    }
    format!("{head}\n\n{}", table.text())
}

fn json(group: &GroupDescription, lines: &[Line]) -> Value {
    let members = group.members.iter().map(|member| {
        let assignment = member.assignment.iter();
        let assignment = assignment
            .map(|p| json!({ "topic": &*p.topic, "partition": p.partition }))
            .collect::<Vec<Value>>();
        json!({
            "member_id": member.member_id, "group_instance_id": member.group_instance_id,
            "client_id": member.client_id, "client_host": member.client_host,
            "assignment": assignment,
        })
    });
    let partitions = lines.iter().map(|line| {
        let member = line.member.and_then(|index| group.members.get(index));
        json!({
            "topic": &*line.partition.topic, "partition": line.partition.partition,
            "committed_offset": line.committed.map(|offset| offset.0),
            "log_end_offset": line.end.map(|offset| offset.0),
            "lag": line.lag(), "member_id": member.map(|member| &member.member_id),
        })
    });
    json!({
        "group": group.group_id, "state": group.state, "protocol_type": group.protocol_type,
        "protocol": group.protocol, "coordinator": group.coordinator.0,
        "members": members.collect::<Vec<Value>>(),
        "partitions": partitions.collect::<Vec<Value>>(),
        "total_lag": lines.iter().filter_map(Line::lag).sum::<i64>(),
        "error": null,
    })
}
