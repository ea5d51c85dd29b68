//! What clients of other clusters did, as far as it may come over links.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::fits;
use crate::history::{Answer, Call, Event, Partition, What, of_cluster};

/// What may be copied into a cluster, by the cluster it is copied from.
type Wanted<'a> = BTreeMap<&'a Option<String>, Patterns<'a>>;

#[derive(Default)]
struct Patterns<'a> {
    topics: BTreeSet<&'a str>,
    groups: BTreeSet<&'a str>,
}

/// The events of `cluster`, and of those that it has links from, directly or over others, what was
/// asked for that links may bring here, each with an end that says nothing: whether it had its
/// effect here, or when, nobody was told. Names of their processes begin with their cluster's.
///
/// What the target tells of a group that a link copies is left out, for each partition, until a
/// commit of the target's own clients was answered after a promotion was asked for: until then the
/// link may commit as well.
#[must_use]
pub fn of_target(events: &[Event], cluster: Option<&str>) -> Vec<Event> {
    let wanted = wanted(events, cluster);
    if wanted.is_empty() {
        return of_cluster(events, cluster).cloned().collect();
    }
    let made: BTreeSet<&str> = of_cluster(events, cluster).filter_map(made).collect();
    let ends = ends(events);
    let mut groups = Groups::default();
    let mut context = Vec::new();
    for event in events {
        if event.cluster.as_deref() == cluster {
            context.push(groups.of_target(event, &wanted));
        } else if let Some(patterns) = wanted.get(&event.cluster) {
            let borrowed = borrowed(event, patterns, &made, &ends);
            context.extend(borrowed.into_iter().flatten());
        }
    }
    context
}

/// Which committed offsets are the target's own.
#[derive(Default)]
struct Groups<'a> {
    /// Commits that were not answered yet.
    commits: BTreeMap<u64, (&'a str, Vec<&'a Partition>)>,
    asked: BTreeMap<u64, &'a str>,
    own: BTreeSet<(&'a str, &'a Partition)>,
    /// Whether a promotion was asked for: a link goes on to commit until then.
    is_promoted: bool,
}

impl<'a> Groups<'a> {
    /// The event, without what it tells of offsets that may be a link's.
    fn of_target(&mut self, event: &'a Event, wanted: &Wanted<'_>) -> Event {
        let mut event_told = event.clone();
        match &event.what {
            What::Invoke {
                op,
                call: Call::Commit { by, offsets },
            } => {
                let of = offsets.iter().map(|one| &one.of);
                self.commits.insert(*op, (&by.group, of.collect()));
            }
            What::Invoke {
                call: Call::Promote { .. },
                ..
            } => self.is_promoted = true,
            What::Invoke {
                op,
                call: Call::FetchCommitted { group, .. },
            } => {
                self.asked.insert(*op, group);
            }
            What::Ok {
                op,
                answer: Answer::Commit { .. },
            } => {
                let (group, of) = self.commits.remove(op).unwrap_or_default();
                if self.is_promoted {
                    self.own.extend(of.into_iter().map(|of| (group, of)));
                }
            }
            What::Ok { op, .. } => {
                if let Some(group) = self.asked.remove(op)
                    && is_copied(group, wanted)
                    && let What::Ok {
                        answer: Answer::FetchCommitted { offsets },
                        ..
                    } = &mut event_told.what
                {
                    offsets.retain(|one| self.own.contains(&(group, &one.of)));
                }
            }
            _ => {}
        }
        event_told
    }
}

/// The links of `cluster`, and of those they come from.
fn wanted<'a>(events: &'a [Event], cluster: Option<&str>) -> Wanted<'a> {
    let mut wanted = Wanted::new();
    let mut left = vec![cluster.map(str::to_owned)];
    let mut done = BTreeSet::new();
    while let Some(target) = left.pop().filter(|target| done.insert(target.clone())) {
        for event in of_cluster(events, target.as_deref()) {
            let What::Invoke {
                call:
                    Call::CreateLink {
                        from,
                        topics,
                        groups,
                        ..
                    },
                ..
            } = &event.what
            else {
                continue;
            };
            if from.as_deref() == cluster {
                continue;
            }
            let patterns = wanted.entry(from).or_default();
            patterns.topics.extend(topics.iter().map(String::as_str));
            patterns.groups.extend(groups.iter().map(String::as_str));
            left.push(from.clone());
        }
    }
    wanted
}

fn made(event: &Event) -> Option<&str> {
    match &event.what {
        What::Invoke {
            call: Call::CreateTopic { topic, .. },
            ..
        } => Some(topic),
        _ => None,
    }
}

/// Where logs were told to begin, by the deletions that asked for it.
fn ends(events: &[Event]) -> BTreeMap<u64, i64> {
    let told = events.iter().filter_map(|event| match &event.what {
        What::Ok {
            op,
            answer: Answer::DeleteRecords { log_start_offset },
        } => Some((*op, *log_start_offset)),
        _ => None,
    });
    told.collect()
}

fn is_copied(group: &str, wanted: &Wanted<'_>) -> bool {
    let mut patterns = wanted.values().flat_map(|patterns| &patterns.groups);
    patterns.any(|pattern| fits(pattern, group))
}

fn borrowed(
    event: &Event,
    patterns: &Patterns<'_>,
    made: &BTreeSet<&str>,
    starts: &BTreeMap<u64, i64>,
) -> Option<[Event; 2]> {
    let What::Invoke { op, call } = &event.what else {
        return None;
    };
    let is_mirror = |topic: &str| {
        let mut topics = patterns.topics.iter();
        topics.any(|pattern| fits(pattern, topic)) && !made.contains(topic)
    };
    let is_wanted = match call {
        Call::Send { to: of, .. } | Call::DeleteRecords { of, .. } => is_mirror(&of.topic),
        Call::CreateTopic { topic, .. }
        | Call::CreatePartitions { topic, .. }
        | Call::AlterConfig { topic, .. } => is_mirror(topic),
        Call::Commit { by, .. } => patterns.groups.iter().any(|one| fits(one, &by.group)),
        _ => false,
    };
    let mut call = call.clone();
    if let Call::DeleteRecords { before, .. } = &mut call {
        // All there was then, not all there is here.
        *before = starts.get(op).copied().unwrap_or(*before);
    }
    let name = event.cluster.as_deref().unwrap_or("first");
    let tell = |what| Event {
        time: event.time,
        process: format!("{name}:{}", event.process),
        cluster: None,
        what,
    };
    let end = What::Info {
        op: *op,
        attempts: Vec::new(),
    };
    is_wanted.then(|| [tell(What::Invoke { op: *op, call }), tell(end)])
}
