//! Operations, notes and times in words.

use std::collections::BTreeSet;

use crate::history::{
    Answer, Attempt, Call, Committed, Ending, Fetched, ListedAt, Mirrored, NodeEvent, Note,
    Operation, Partition, Phase,
};

/// Records that are named one by one in a list.
const NAMED_MAX: usize = 6;

pub(super) fn seconds(nanoseconds: u64) -> String {
    if nanoseconds == u64::MAX {
        return "the end".to_owned();
    }
    let micros = nanoseconds / 1_000;
    format!("{}.{:06} s", micros / 1_000_000, micros % 1_000_000)
}

pub(super) fn place(of: &Partition) -> String {
    format!("{}-{}", of.topic, of.partition)
}

/// What was asked, and what came of it, in one line.
pub(super) fn sentence(operation: &Operation, records: &BTreeSet<u64>) -> String {
    let Operation {
        op,
        process,
        invoked,
        returned,
        ..
    } = operation;
    let until = match returned {
        &u64::MAX => "never told how it ended".to_owned(),
        _ => format!("told at {}", seconds(*returned)),
    };
    format!(
        "operation {op} of {process}, begun at {}, {until}: {} -> {}",
        seconds(*invoked),
        asked(&operation.call),
        ended(operation, records)
    )
}

/// What was asked.
pub(super) fn asked(call: &Call) -> String {
    match call {
        Call::Send {
            to, acks, records, ..
        } => {
            let ids = numbers(records.iter().map(|record| record.id));
            format!("send {ids} to {} (acks {acks})", place(to))
        }
        Call::Read { from, .. } => {
            let from: Vec<String> = from
                .iter()
                .map(|position| format!("{} from {}", place(&position.of), position.offset))
                .collect();
            format!("read {}", listed(&from))
        }
        Call::Assign { positions } => {
            let to: Vec<String> = positions
                .iter()
                .map(|position| format!("{} at {}", place(&position.of), position.offset))
                .collect();
            format!("assign {}", listed(&to))
        }
        Call::ListOffsets { of, at } => {
            let at = match at {
                ListedAt::Earliest => "earliest".to_owned(),
                ListedAt::Latest => "latest".to_owned(),
                ListedAt::Timestamp(time) => format!("at time {time}"),
            };
            format!("list {at} of {}", place(of))
        }
        Call::DeleteRecords { of, before } => format!("delete {} before {before}", place(of)),
        _ => asked_of_groups(call),
    }
}

fn asked_of_groups(call: &Call) -> String {
    match call {
        Call::Join(join) => format!("join {} as {:?}", join.group, join.member),
        Call::Heartbeat(by) => {
            format!("heartbeat in {} of generation {}", by.group, by.generation)
        }
        Call::Leave(by) => format!("leave {} as {:?}", by.group, by.member),
        Call::Commit { by, offsets } => {
            format!("commit in {}: {}", by.group, committed(offsets))
        }
        Call::FetchCommitted { group, of } => {
            let of: Vec<String> = of.iter().map(place).collect();
            format!("fetch committed of {group}: {}", listed(&of))
        }
        Call::DescribeGroup { group } => format!("describe group {group}"),
        Call::DeleteGroup { group } => format!("delete group {group}"),
        Call::DeleteOffsets { group, of } => {
            let of: Vec<String> = of.iter().map(place).collect();
            format!("delete offsets of {group}: {}", listed(&of))
        }
        _ => asked_of_topics(call),
    }
}

fn asked_of_topics(call: &Call) -> String {
    match call {
        Call::CreateTopic {
            topic,
            partitions,
            config,
        } => {
            let config: Vec<String> = config
                .iter()
                .map(|(key, value)| format!(" {key}={value}"))
                .collect();
            format!("create {topic} of {partitions}{}", config.concat())
        }
        Call::DeleteTopic { topic } => format!("delete {topic}"),
        Call::CreatePartitions { topic, partitions } => format!("grow {topic} to {partitions}"),
        Call::DescribeTopic { topic } => format!("describe {topic}"),
        Call::AlterConfig { topic, key, value } => {
            let value = value.as_deref().unwrap_or("(default)");
            format!("set {key}={value} of {topic}")
        }
        Call::DescribeConfig { topic, key } => format!("describe {key} of {topic}"),
        Call::CreateLink { link, topics, .. } => format!("link {link} for {}", listed(topics)),
        Call::Promote { link, topics: None } => format!("promote all of {link}"),
        Call::Promote {
            link,
            topics: Some(topics),
        } => format!("promote {} of {link}", listed(topics)),
        Call::DescribeLink { link } => format!("describe link {link}"),
        other => other.kind().to_owned(),
    }
}

/// What came of it. `records` are those that are of interest.
pub(super) fn ended(operation: &Operation, records: &BTreeSet<u64>) -> String {
    match &operation.ending {
        Ending::Fail(attempts) => format!("refused: {}", errors(attempts)),
        Ending::Unknown(attempts) if attempts.is_empty() => "unknown".to_owned(),
        Ending::Unknown(attempts) => format!("unknown: {}", errors(attempts)),
        Ending::Ok(answer) => answered(answer, records),
    }
}

fn answered(answer: &Answer, records: &BTreeSet<u64>) -> String {
    match answer {
        Answer::Send {
            base_offset,
            attempts,
            ..
        } if attempts.is_empty() => format!("at {base_offset}"),
        Answer::Send {
            base_offset,
            attempts,
            ..
        } => format!("at {base_offset}, after {}", errors(attempts)),
        Answer::Read { partitions } => {
            let parts: Vec<String> = partitions
                .iter()
                .map(|fetched| part(fetched, records))
                .collect();
            if parts.is_empty() {
                "nothing".to_owned()
            } else {
                listed(&parts)
            }
        }
        Answer::ListOffsets { offset, .. } => format!("{offset}"),
        Answer::Join {
            member,
            generation,
            assigned,
            ..
        } => {
            let assigned: Vec<String> = assigned.iter().map(place).collect();
            format!(
                "{member}, generation {generation}, has {}",
                listed(&assigned)
            )
        }
        Answer::Commit { refused } if refused.is_empty() => "done".to_owned(),
        Answer::Commit { refused } => {
            let refused: Vec<String> = refused
                .iter()
                .map(|(of, error)| format!("{} {error}", place(of)))
                .collect();
            format!("refused {}", listed(&refused))
        }
        Answer::FetchCommitted { offsets } => committed(offsets),
        Answer::DescribeGroup { state, members } => {
            format!("{state}, {} members", members.len())
        }
        Answer::DeleteRecords { log_start_offset } => format!("begins at {log_start_offset}"),
        Answer::DescribeConfig { value } => value.clone().unwrap_or_else(|| "none".to_owned()),
        Answer::DescribeTopic { partitions } => format!("{partitions} partitions"),
        Answer::Promote { mirrors } | Answer::DescribeLink { mirrors } => mirrored(mirrors),
        Answer::InitProducer { producer_id, .. } => format!("producer {producer_id}"),
        _ => "done".to_owned(),
    }
}

/// One partition of an answer to a read.
fn part(fetched: &Fetched, records: &BTreeSet<u64>) -> String {
    let of = place(&fetched.of);
    if let Some(error) = &fetched.error {
        return format!("{of} {error}");
    }
    let seen = &fetched.records;
    let (Some(first), Some(last)) = (seen.first(), seen.last()) else {
        return format!("{of} nothing from {}", fetched.from);
    };
    let is_named = |id: &Option<u64>| id.is_some_and(|id| records.contains(&id));
    let all = seen.len() <= NAMED_MAX;
    let named: Vec<String> = seen
        .iter()
        .filter(|one| all || is_named(&one.id))
        .take(NAMED_MAX)
        .map(|one| match one.id {
            Some(id) => format!("{id}@{}", one.offset),
            None => format!("?@{}", one.offset),
        })
        .collect();
    let range = format!("{} records {}..{}", seen.len(), first.offset, last.offset);
    match (all, named.is_empty()) {
        (true, _) => format!("{of} {}", named.join(" ")),
        (false, true) => format!("{of} {range}"),
        (false, false) => format!("{of} {range}, among them {}", named.join(" ")),
    }
}

fn committed(offsets: &[Committed]) -> String {
    let each: Vec<String> = offsets
        .iter()
        .map(|one| match one.offset {
            ..0 => format!("{} none", place(&one.of)),
            offset => format!("{} {offset} ({})", place(&one.of), one.metadata),
        })
        .collect();
    listed(&each)
}

fn mirrored(mirrors: &[Mirrored]) -> String {
    let each: Vec<String> = mirrors
        .iter()
        .map(|one| {
            let fault = one.fault.as_deref().unwrap_or("no fault");
            let (end, source_end) = (one.log_end_offset, one.source_end_offset);
            format!(
                "{} {} to {end} of {source_end}, {fault}",
                place(&one.of),
                one.state
            )
        })
        .collect();
    listed(&each)
}

fn errors(attempts: &[Attempt]) -> String {
    let each: Vec<String> = attempts.iter().map(|one| one.error.clone()).collect();
    listed(&each)
}

fn numbers(ids: impl Iterator<Item = u64>) -> String {
    let each: Vec<String> = ids.map(|id| id.to_string()).collect();
    listed(&each)
}

/// The first few of a list, and how many more there are.
fn listed(each: &[String]) -> String {
    let shown = each[..each.len().min(NAMED_MAX)].join(", ");
    match each.len().checked_sub(NAMED_MAX) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// What a note says, if it is of interest to whoever looks for a cause.
pub(super) fn note(note: &Note) -> Option<String> {
    Some(match note {
        Note::Phase { phase } => match phase {
            Phase::Safety => "phase: faults".to_owned(),
            Phase::Liveness => "phase: healed".to_owned(),
            Phase::Final => "phase: all is read".to_owned(),
        },
        Note::Node { event } => match event {
            NodeEvent::Start => "starts".to_owned(),
            NodeEvent::Ready => "ready".to_owned(),
            NodeEvent::Stop => "stops".to_owned(),
            NodeEvent::Kill => "killed".to_owned(),
            NodeEvent::PowerLoss => "power lost".to_owned(),
            NodeEvent::Pause => "paused".to_owned(),
            NodeEvent::Resume => "resumed".to_owned(),
            NodeEvent::Failed(why) => format!("failed: {why}"),
        },
        Note::Fault { kind, detail } if detail.starts_with(kind.as_str()) => detail.clone(),
        Note::Fault { kind, detail } => format!("{kind} {detail}"),
        Note::Damaged { of } => format!("{} damaged", place(of)),
        Note::Leading {
            of,
            leader_epoch,
            start,
        } => format!("leads {} in epoch {leader_epoch} from {start}", place(of)),
        Note::Closed { of } => format!("lets go of {}", place(of)),
        Note::Ends { ends } => format!(
            "{} is {}..{}",
            place(&ends.of),
            ends.log_start_offset,
            ends.log_end_offset
        ),
        Note::Broken {
            property, detail, ..
        } => format!("{property}: {detail}"),
        Note::Gone => "gone".to_owned(),
        Note::Clock { .. } | Note::Log { .. } => return None,
    })
}
