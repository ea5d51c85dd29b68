//! X5, X6 and X10: a mirror is of its source, as the source is, and says so when it cannot be.
//!
//! - X5: what the target wrote does not come back to it: no topic that its clients made is filled
//!   by a link whose source's clients never made one of that name.
//! - X6: in the end a mirror that is active has as many partitions as its source, and the settings
//!   that were asked for in both, but for those that are each cluster's own.
//! - X10: a mirror of a topic that was deleted at the source is in the end not an active one
//!   without a fault. (One whose source lost records that it holds is found by X1, unless it has
//!   a fault.) And what it says is so: a fault has a cause at the source. Records are gone before
//!   they were copied where deletions were asked for, or the topic deletes by age or size; a topic
//!   is gone, or another, where its deletion was asked for; records that were copied are not the
//!   source's where `sources_may_lose` is set; transactions and damage there are none.
//!
//! X10 is asked where the deletion was answered before the last phase, and where the mirror holds a
//! record of the topic that was deleted. Silent about mirrors of which nothing was told in the
//! final phase.

use std::collections::BTreeSet;

use super::facts::Link;
use super::{Side, violation};
use crate::checker::{Fact, Log, Violations};
use crate::history::{Answer, Call, Mirrored, Operation};

/// Settings that a mirror does not take from its source.
const OWN: &[&str] = &[
    "min.insync.replicas",
    "klamm.durability",
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
];

pub(super) fn check(link: &Link<'_>, found: &mut Violations) {
    comes_home(link, found);
    let topics: BTreeSet<&str> = link.mirrors().map(|log| log.of.topic.as_str()).collect();
    for topic in topics {
        as_many_partitions(link, topic, found);
        same_settings(link, topic, found);
    }
    for mirror in link.mirrors() {
        says_so(link, mirror, found);
    }
}

/// X10, the other way round, of the topics that the source has from nowhere else.
pub(super) fn has_cause(link: &Link<'_>, all: &[Link<'_>], found: &mut Violations) {
    let told = last(link.target, |call, answer| match (call, answer) {
        (Call::DescribeLink { link: name }, Answer::DescribeLink { mirrors })
            if name == link.name =>
        {
            Some(mirrors)
        }
        _ => None,
    });
    let Some((operation, mirrors)) = told else {
        return;
    };
    let is_own = |mirror: &&Mirrored| {
        let mut others = all.iter().filter(|one| one.target.name == link.source.name);
        !others.any(|one| one.is_mirror(&mirror.of.topic))
    };
    let is_asked = |mirror: &&Mirrored| !link.is_onward() || link.is_mirror(&mirror.of.topic);
    let asked = mirrors.iter().filter(is_own).filter(is_asked);
    for mirror in asked.filter(|mirror| !may_be_so(link, mirror)) {
        let detail = format!(
            "the mirror is {} and says {:?} of its source, without a cause",
            mirror.state, mirror.fault
        );
        let (time, operations) = (operation.returned, vec![operation.op]);
        found.add(violation("X10", time, Some(&mirror.of), operations, detail));
    }
}

/// Whether what is told of a mirror has a cause.
fn may_be_so(link: &Link<'_>, mirror: &Mirrored) -> bool {
    let (of, index) = (&mirror.of, &link.source.index);
    let asked = |is_one: &dyn Fn(&Call) -> bool| {
        let mut operations = index.history.operations.iter();
        operations.any(|one| !one.failed() && is_one(&one.call))
    };
    let is_deletion =
        |call: &Call| matches!(call, Call::DeleteTopic { topic } if *topic == of.topic);
    let are_deleted =
        |call: &Call| matches!(call, Call::DeleteRecords { of: asked, .. } if asked == of);
    match mirror.fault.as_deref() {
        None => mirror.state != "failed",
        Some("TRUNCATED") => index.options.sources_may_lose || asked(&is_deletion),
        Some("EXPIRED" | "UNVERIFIED") => {
            index.is_retained(of) || asked(&is_deletion) || asked(&are_deleted)
        }
        Some("TRANSACTIONAL" | "DAMAGED") => false,
        Some(_) => asked(&is_deletion),
    }
}

/// X5.
fn comes_home(link: &Link<'_>, found: &mut Violations) {
    for operation in &link.target.index.history.operations {
        let (Call::DescribeLink { link: name }, Some(Answer::DescribeLink { mirrors })) =
            (&operation.call, operation.answer())
        else {
            continue;
        };
        for mirror in mirrors.iter().filter(|_| name == link.name) {
            let topic = &mirror.of.topic;
            if link.target.made(topic).is_some() && link.source.made(topic).is_none() {
                let detail = format!("{name} fills {topic}, which the target's clients made");
                let time = operation.returned;
                found.add(violation(
                    "X5",
                    time,
                    Some(&mirror.of),
                    vec![operation.op],
                    detail,
                ));
            }
        }
    }
}

/// What was answered last in the final phase.
fn last<'a, T>(
    side: &Side<'a>,
    told: impl Fn(&'a Call, &'a Answer) -> Option<T>,
) -> Option<(&'a Operation, T)> {
    let mut operations = side.index.history.operations.iter().rev();
    operations.find_map(|operation| {
        let answer = operation
            .answer()
            .filter(|_| side.index.is_final(operation))?;
        Some((operation, told(&operation.call, answer)?))
    })
}

/// Whether the last that was told of a partition of the topic is that it is an active mirror.
fn is_active(link: &Link<'_>, topic: &str) -> bool {
    let told = last(link.target, |call, answer| match (call, answer) {
        (Call::DescribeLink { link: name }, Answer::DescribeLink { mirrors })
            if name == link.name =>
        {
            Some(mirrors)
        }
        _ => None,
    });
    let mut of_topic = told.into_iter().flat_map(|(_, mirrors)| mirrors);
    of_topic.any(|one| one.of.topic == topic && is_sound(one))
}

fn is_sound(mirror: &Mirrored) -> bool {
    mirror.state == "active" && mirror.fault.is_none()
}

fn as_many_partitions(link: &Link<'_>, topic: &str, found: &mut Violations) {
    let count = |side| {
        last(side, |call, answer| match (call, answer) {
            (Call::DescribeTopic { topic: of }, Answer::DescribeTopic { partitions })
                if of == topic =>
            {
                Some(*partitions)
            }
            _ => None,
        })
    };
    let (Some((by, source)), Some((then, target))) = (count(link.source), count(link.target))
    else {
        return;
    };
    if source > 0 && source != target && is_active(link, topic) {
        let detail = format!("{topic} has {source} partitions at the source, and {target} here");
        found.add(violation(
            "X6",
            then.returned,
            None,
            vec![by.op, then.op],
            detail,
        ));
    }
}

fn same_settings(link: &Link<'_>, topic: &str, found: &mut Violations) {
    let asked = |side: &Side<'_>| {
        let operations = side.index.history.operations.iter();
        let keys = operations.filter_map(|operation| match &operation.call {
            Call::DescribeConfig { topic: of, key } if of == topic => Some(key.clone()),
            _ => None,
        });
        keys.collect::<BTreeSet<String>>()
    };
    for key in asked(link.source).intersection(&asked(link.target)) {
        let value = |side| {
            last(side, |call, answer| match (call, answer) {
                (
                    Call::DescribeConfig {
                        topic: of,
                        key: asked,
                    },
                    Answer::DescribeConfig { value },
                ) if of == topic && asked == key => Some(value),
                _ => None,
            })
        };
        let (Some((by, source)), Some((then, target))) = (value(link.source), value(link.target))
        else {
            continue;
        };
        if source != target && !OWN.contains(&key.as_str()) && is_active(link, topic) {
            let detail =
                format!("{key} of {topic} is {source:?} at the source, and {target:?} here");
            found.add(violation(
                "X6",
                then.returned,
                None,
                vec![by.op, then.op],
                detail,
            ));
        }
    }
}

/// X10.
fn says_so(link: &Link<'_>, mirror: &Log<'_>, found: &mut Violations) {
    let Some((operation, told)) = link
        .told_finally(mirror.of)
        .filter(|(_, told)| is_sound(told))
    else {
        return;
    };
    let logs = link
        .source
        .index
        .logs
        .iter()
        .filter(|log| log.of == mirror.of);
    let logs: Vec<&Log<'_>> = logs.collect();
    let holds = |log: &Log<'_>| {
        let mut facts = mirror.facts.iter();
        facts
            .find(|fact| log.facts_of(fact.id).any(Fact::is_told))
            .copied()
    };
    let newest = logs.iter().map(|log| log.era).max();
    for log in &logs {
        let Some(fact) = holds(log).filter(|_| is_over(link, log, newest)) else {
            continue;
        };
        let detail = format!(
            "the mirror is {} without a fault, and holds record {} of a topic that was deleted at \
             the source",
            told.state, fact.id
        );
        let operations = vec![operation.op, fact.told_by];
        let time = operation.returned;
        found.add(violation("X10", time, Some(mirror.of), operations, detail));
    }
}

/// Whether the topic was deleted after this era, which was answered before the last phase.
fn is_over(link: &Link<'_>, log: &Log<'_>, newest: Option<usize>) -> bool {
    let index = &link.source.index;
    let since = index.final_from.unwrap_or(u64::MAX);
    let now = index.topic(&log.of.topic).era(since, since);
    now.is_some_and(|now| log.era < now) || newest.is_some_and(|newest| log.era < newest)
}
