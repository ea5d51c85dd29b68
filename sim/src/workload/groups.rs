//! Requests about groups: each function is one operation of the history, sent once.

use std::collections::BTreeMap;

use klamm::wire::message::delete_groups::DeleteGroupsRequest;
use klamm::wire::message::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use klamm::wire::message::heartbeat::HeartbeatRequest;
use klamm::wire::message::leave_group::{LeaveGroupRequest, MemberIdentity};
use klamm::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse,
};
use klamm::wire::message::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use klamm::wire::message::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use klamm::wire::{ApiKey, Str};
use klamm_jepsen::embedded::read_assignment;
use klamm_jepsen::history::{Answer, Call, Committed, Membership, Partition};

use super::errors::error_name;
use super::line::{DISCONNECTED, Line};
use super::{by_topic, partition};

/// First version of OffsetCommit and OffsetFetch that names topics by id.
const TOPIC_ID_SINCE: i16 = 10;
/// First version of OffsetFetch that asks for several groups.
const MULTI_GROUP_SINCE: i16 = 8;

fn instance_of(by: &Membership) -> Option<Str> {
    by.instance.as_deref().map(Str::from)
}

/// The lowest version that can name a static member, where there is one.
pub(super) fn static_floor(by: Option<&String>, since: i16) -> i16 {
    if by.is_some() { since } else { 0 }
}

pub(super) async fn heartbeat(line: &mut Line, by: &Membership) -> Result<(), String> {
    line.coordinator(&by.group).await?;
    let op = line.invoke(Call::Heartbeat(by.clone()));
    let request = HeartbeatRequest {
        group_id: by.group.as_str().into(),
        generation_id: by.generation,
        member_id: by.member.as_str().into(),
        group_instance_id: instance_of(by),
        ..Default::default()
    };
    let floor = static_floor(by.instance.as_ref(), 3);
    let error = match line.call(request, floor).await {
        Err(error) => Some(error),
        Ok(answer) => error_name(answer.error_code),
    };
    match error {
        Some(error) => Err(line.refused(op, error)),
        None => {
            line.ok(op, Answer::Heartbeat);
            Ok(())
        }
    }
}

pub(super) async fn leave(line: &mut Line, by: &Membership) -> Result<(), String> {
    line.coordinator(&by.group).await?;
    let op = line.invoke(Call::Leave(by.clone()));
    let request = LeaveGroupRequest {
        group_id: by.group.as_str().into(),
        member_id: by.member.as_str().into(),
        members: vec![MemberIdentity {
            member_id: by.member.as_str().into(),
            group_instance_id: instance_of(by),
            ..Default::default()
        }],
        ..Default::default()
    };
    let floor = static_floor(by.instance.as_ref(), 3);
    let error = match line.call(request, floor).await {
        Err(error) => Some(error),
        Ok(answer) => {
            let single = answer.members.first().map_or(0, |member| member.error_code);
            error_name(answer.error_code).or_else(|| error_name(single))
        }
    };
    match error {
        Some(error) => Err(line.refused(op, error)),
        None => {
            line.ok(op, Answer::Leave);
            Ok(())
        }
    }
}

/// Commits; what is given back are the errors of single partitions.
pub(super) async fn commit(
    line: &mut Line,
    by: &Membership,
    offsets: &[Committed],
) -> Result<Vec<(Partition, String)>, String> {
    let floor = static_floor(by.instance.as_ref(), 7);
    line.coordinator(&by.group).await?;
    if line.version(ApiKey::OffsetCommit, floor) >= TOPIC_ID_SINCE {
        let topics: Vec<&str> = offsets.iter().map(|c| c.of.topic.as_str()).collect();
        line.learn_ids(&topics).await?;
        line.open().await?;
    }
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for committed in offsets {
        let partition = OffsetCommitRequestPartition {
            partition_index: committed.of.partition,
            committed_offset: committed.offset,
            committed_metadata: Some(committed.metadata.as_str().into()),
            ..Default::default()
        };
        topics
            .entry(&committed.of.topic)
            .or_default()
            .push(partition);
    }
    let topic = |(name, partitions): (&str, _)| OffsetCommitRequestTopic {
        name: name.into(),
        topic_id: line.id(name),
        partitions,
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: by.group.as_str().into(),
        generation_id_or_member_epoch: by.generation,
        member_id: by.member.as_str().into(),
        group_instance_id: instance_of(by),
        topics: topics.into_iter().map(topic).collect(),
        ..Default::default()
    };
    let op = line.invoke(Call::Commit {
        by: by.clone(),
        offsets: offsets.to_vec(),
    });
    let refused = match line.call(request, floor).await {
        Err(error) => return Err(line.refused(op, error)),
        Ok(answer) => refused_commits(line, offsets, &answer),
    };
    match refused.first() {
        // One error for all is one for the request.
        Some((_, error))
            if refused.len() == offsets.len() && refused.iter().all(|(_, e)| e == error) =>
        {
            Err(line.refused(op, error.clone()))
        }
        _ => {
            let shown = refused.clone();
            line.ok(op, Answer::Commit { refused: shown });
            Ok(refused)
        }
    }
}

/// The refused of the `offsets` that were asked to be committed.
fn refused_commits(
    line: &mut Line,
    offsets: &[Committed],
    answer: &OffsetCommitResponse,
) -> Vec<(Partition, String)> {
    // A topic that the broker did not know of yet was named by no id, and is so in the answer.
    let asked = offsets.iter().map(|committed| {
        let of = &committed.of;
        (of.clone(), line.id(&of.topic))
    });
    let asked: Vec<_> = asked.collect();
    let mut refused = Vec::new();
    for topic in &answer.topics {
        for found in &topic.partitions {
            let Some(error) = error_name(found.error_code) else {
                continue;
            };
            if error == "UNKNOWN_TOPIC_ID" {
                line.forget_ids();
            }
            for (of, id) in &asked {
                let is_meant = match topic.name.is_empty() {
                    true => *id == topic.topic_id,
                    false => of.topic == topic.name.as_str(),
                };
                let one = (of.clone(), error.clone());
                if is_meant && of.partition == found.partition_index && !refused.contains(&one) {
                    refused.push(one);
                }
            }
        }
    }
    refused
}

/// What a group has committed for these partitions; -1 where nothing is.
pub(super) async fn fetch_committed(
    line: &mut Line,
    group: &str,
    of: &[Partition],
) -> Result<Vec<Committed>, String> {
    line.coordinator(group).await?;
    let version = line.version(ApiKey::OffsetFetch, 0);
    if version >= TOPIC_ID_SINCE {
        let topics: Vec<&str> = by_topic(of).into_keys().collect();
        line.learn_ids(&topics).await?;
        line.open().await?;
    }
    let op = line.invoke(Call::FetchCommitted {
        group: group.to_owned(),
        of: of.to_vec(),
    });
    let request = offset_fetch(line, group, of);
    let answer = match line.call(request, 0).await {
        Ok(answer) => answer,
        Err(error) => return Err(line.refused(op, error)),
    };
    match committed(line, answer, version) {
        Ok(offsets) if offsets.len() == of.len() => {
            let shown = offsets.clone();
            line.ok(op, Answer::FetchCommitted { offsets: shown });
            Ok(offsets)
        }
        Ok(_) => Err(line.refused(op, DISCONNECTED)),
        Err(error) => {
            if error == "UNKNOWN_TOPIC_ID" {
                line.forget_ids();
            }
            Err(line.refused(op, error))
        }
    }
}

fn offset_fetch(line: &Line, group: &str, of: &[Partition]) -> OffsetFetchRequest {
    let topics = by_topic(of);
    let single = topics
        .iter()
        .map(|(name, numbers)| OffsetFetchRequestTopic {
            name: (*name).into(),
            partition_indexes: numbers.clone(),
            ..Default::default()
        });
    let several = topics
        .iter()
        .map(|(name, numbers)| OffsetFetchRequestTopics {
            name: (*name).into(),
            topic_id: line.id(name),
            partition_indexes: numbers.clone(),
            ..Default::default()
        });
    OffsetFetchRequest {
        group_id: group.into(),
        topics: Some(single.collect()),
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(several.collect()),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Reads an answer, which fails as a whole if any part of it does.
fn committed(
    line: &Line,
    answer: OffsetFetchResponse,
    version: i16,
) -> Result<Vec<Committed>, String> {
    let mut offsets = Vec::new();
    let mut add = |topic: Option<String>, number, offset, metadata: Option<Str>, code| {
        if let Some(error) = error_name(code) {
            return Err(error);
        }
        offsets.push(Committed {
            of: partition(&topic.unwrap_or_default(), number),
            offset,
            metadata: metadata.map_or_else(String::new, |text| text.as_str().to_owned()),
        });
        Ok(())
    };
    if version < MULTI_GROUP_SINCE {
        error_name(answer.error_code).map_or(Ok(()), Err)?;
        for topic in answer.topics {
            for p in topic.partitions {
                let name = Some(topic.name.as_str().to_owned());
                let (number, offset) = (p.partition_index, p.committed_offset);
                add(name, number, offset, p.metadata, p.error_code)?;
            }
        }
    }
    for group in answer.groups {
        error_name(group.error_code).map_or(Ok(()), Err)?;
        for topic in group.topics {
            for p in topic.partitions {
                let name = line.name_of(&topic.name, topic.topic_id);
                let (number, offset) = (p.partition_index, p.committed_offset);
                add(name, number, offset, p.metadata, p.error_code)?;
            }
        }
    }
    Ok(offsets)
}

/// The state of a group, as the protocol spells it.
pub(super) async fn describe(line: &mut Line, group: &str) -> Result<String, String> {
    line.coordinator(group).await?;
    let op = line.invoke(Call::DescribeGroup {
        group: group.to_owned(),
    });
    let request = DescribeGroupsRequest {
        groups: vec![group.into()],
        ..Default::default()
    };
    let found = match line.call(request, 0).await {
        Err(error) => return Err(line.refused(op, error)),
        Ok(answer) => answer.groups.into_iter().next(),
    };
    let Some(found) = found else {
        line.broken("P18", "DescribeGroups is answered without the group");
        return Err(line.refused(op, DISCONNECTED));
    };
    if let Some(error) = error_name(found.error_code) {
        return Err(line.refused(op, error));
    }
    let state = found.group_state.as_str().to_owned();
    line.ok(op, described(&found));
    Ok(state)
}

fn described(found: &DescribedGroup) -> Answer {
    let members = found.members.iter().map(|member| {
        let assigned = read_assignment(&member.member_assignment);
        (member.member_id.as_str().to_owned(), assigned)
    });
    Answer::DescribeGroup {
        state: found.group_state.as_str().to_owned(),
        members: members.collect(),
    }
}

/// Deletes committed offsets.
pub(super) async fn delete_offsets(
    line: &mut Line,
    group: &str,
    of: &Partition,
) -> Result<(), String> {
    line.coordinator(group).await?;
    let op = line.invoke(Call::DeleteOffsets {
        group: group.to_owned(),
        of: vec![of.clone()],
    });
    let request = OffsetDeleteRequest {
        group_id: group.into(),
        topics: vec![OffsetDeleteRequestTopic {
            name: of.topic.as_str().into(),
            partitions: vec![OffsetDeleteRequestPartition {
                partition_index: of.partition,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let error = match line.call(request, 0).await {
        Err(error) => Some(error),
        Ok(answer) => {
            let mut each = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let single = each.next().map_or(0, |found| found.error_code);
            error_name(answer.error_code).or_else(|| error_name(single))
        }
    };
    match error {
        Some(error) => Err(line.refused(op, error)),
        None => {
            line.ok(op, Answer::DeleteOffsets);
            Ok(())
        }
    }
}

/// Deletes a group that has no members.
pub(super) async fn delete(line: &mut Line, group: &str) -> Result<(), String> {
    line.coordinator(group).await?;
    let op = line.invoke(Call::DeleteGroup {
        group: group.to_owned(),
    });
    let request = DeleteGroupsRequest {
        groups_names: vec![group.into()],
        ..Default::default()
    };
    let error = match line.call(request, 0).await {
        Err(error) => Some(error),
        Ok(answer) => answer
            .results
            .first()
            .and_then(|r| error_name(r.error_code)),
    };
    match error {
        Some(error) => Err(line.refused(op, error)),
        None => {
            line.ok(op, Answer::DeleteGroup);
            Ok(())
        }
    }
}
