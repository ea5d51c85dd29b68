//! Links, and what is known of the partitions that they fill.

use std::collections::{BTreeMap, BTreeSet};

use super::Side;
use crate::checker::Log;
use crate::history::{Answer, Call, Mirrored, Note, Operation, Partition, Seen, Wanted};

/// A link by its name: all that was asked for under it.
#[derive(Clone, Debug)]
pub(super) struct Link<'a> {
    pub(super) name: &'a str,
    pub(super) source: &'a Side<'a>,
    pub(super) target: &'a Side<'a>,
    topics: BTreeSet<&'a str>,
    groups: BTreeSet<&'a str>,
    /// The link that brings its topics to where it copies them from, if they are of neither.
    through: Option<Box<Link<'a>>>,
}

/// Whether all of `name` fits `pattern`, in which `*` stands for any characters, or none.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.any(|at| fits(rest, &name[at..]))
        }),
    }
}

/// All links that may have been made.
pub(super) fn links<'a>(sides: &'a [Side<'a>]) -> Vec<Link<'a>> {
    let mut links: BTreeMap<(Option<&str>, &str), Link<'a>> = BTreeMap::new();
    for target in sides {
        for operation in target.index.history.operations.iter() {
            let Call::CreateLink {
                link,
                from,
                topics,
                groups,
            } = &operation.call
            else {
                continue;
            };
            let source = sides.iter().find(|side| side.name == from.as_deref());
            let Some(source) = source.filter(|_| !operation.failed()) else {
                continue;
            };
            let known = links.entry((target.name, link)).or_insert_with(|| Link {
                name: link,
                source,
                target,
                topics: BTreeSet::new(),
                groups: BTreeSet::new(),
                through: None,
            });
            known.topics.extend(topics.iter().map(String::as_str));
            known.groups.extend(groups.iter().map(String::as_str));
        }
    }
    links.into_values().collect()
}

/// What links bring at second hand, each from where it comes from in the beginning. None where a
/// promotion of what lies between was asked for: it has clients of its own then.
pub(super) fn onward<'a>(links: &[Link<'a>]) -> Vec<Link<'a>> {
    let mut all = Vec::new();
    for link in links {
        let mut before = links.iter();
        let through = before.find(|one| {
            one.target.name == link.source.name
                && one.source.name != link.target.name
                && !one.is_ever_promoted()
        });
        all.extend(through.map(|through| Link {
            source: through.source,
            groups: BTreeSet::new(),
            through: Some(Box::new(through.clone())),
            ..link.clone()
        }));
    }
    all
}

impl<'a> Link<'a> {
    /// Whether the topic is one that the link fills: it is wanted, the source had it, and the
    /// target's clients never made it.
    pub(super) fn is_mirror(&self, topic: &str) -> bool {
        let wanted = self.topics.iter().any(|pattern| fits(pattern, topic));
        let mut through = self.through.iter();
        wanted
            && !topic.starts_with("__")
            && self.source.made(topic).is_some()
            && self.target.made(topic).is_none()
            && through.all(|through| through.is_mirror(topic))
    }

    /// Whether its topics come over another link to where it copies them from.
    pub(super) fn is_onward(&self) -> bool {
        self.through.is_some()
    }

    fn is_ever_promoted(&self) -> bool {
        let mut operations = self.target.index.history.operations.iter();
        operations.any(|one| matches!(&one.call, Call::Promote { link, .. } if link == self.name))
    }

    pub(super) fn wants_group(&self, group: &str) -> bool {
        self.groups.iter().any(|pattern| fits(pattern, group))
    }

    /// The logs of the target that the link fills.
    pub(super) fn mirrors(&self) -> impl Iterator<Item = &'a Log<'a>> {
        let logs = self.target.index.logs.iter();
        logs.filter(|log| self.is_mirror(&log.of.topic))
    }

    /// From when on the target's clients may write to the topic: a promotion was asked for.
    pub(super) fn promoted_from(&self, topic: &str) -> Option<u64> {
        let operations = self.target.index.history.operations.iter();
        let promoted = operations.filter(|operation| {
            !operation.failed()
                && matches!(&operation.call, Call::Promote { link, topics }
                    if link == self.name
                    && topics.as_ref().is_none_or(|all| all.iter().any(|one| one == topic)))
        });
        promoted.map(|operation| operation.invoked).min()
    }

    /// The same, of this link and of those that its topics come through.
    pub(super) fn told_on_the_way(&self, of: &Partition) -> Vec<&'a Mirrored> {
        let through = self.through.iter();
        let mut told: Vec<_> = through.flat_map(|one| one.told_on_the_way(of)).collect();
        told.extend(self.told_finally(of).map(|(_, told)| told));
        told
    }

    /// What the target told of a partition when it was asked last, in the final phase.
    pub(super) fn told_finally(&self, of: &Partition) -> Option<(&'a Operation, &'a Mirrored)> {
        let operations = self.target.index.history.operations.iter().rev();
        let mut told =
            operations.filter_map(|operation| match (&operation.call, operation.answer()?) {
                (Call::DescribeLink { link }, Answer::DescribeLink { mirrors })
                    if link == self.name && self.target.index.is_final(operation) =>
                {
                    Some((operation, mirrors))
                }
                _ => None,
            });
        let (operation, mirrors) = told.next()?;
        let found = mirrors.iter().find(|mirror| mirror.of == *of)?;
        Some((operation, found))
    }
}

impl<'a> Side<'a> {
    /// When a client may have made the topic first.
    pub(super) fn made(&self, topic: &str) -> Option<u64> {
        let operations = self.index.history.operations.iter();
        let made = operations.filter(|operation| {
            !operation.failed()
                && matches!(&operation.call, Call::CreateTopic { topic: of, .. } if of == topic)
        });
        made.map(|operation| operation.invoked).min()
    }

    /// Whether a client of this cluster sent the record.
    pub(super) fn sent(&self, id: u64) -> bool {
        self.index.sent(id).is_some()
    }

    /// The ends that the final reads found.
    pub(super) fn ends(&self, of: &Partition) -> Option<(u64, &'a Wanted)> {
        let notes = self.index.history.notes.iter();
        let mut ends = notes.filter_map(|(time, _, note)| match note {
            Note::Ends { ends } if ends.of == *of => Some((*time, ends)),
            _ => None,
        });
        ends.next_back()
    }

    /// What was read of a log, by offset, with the operation that read it last.
    pub(super) fn seen(&self, log: &Log<'_>) -> BTreeMap<i64, (&'a Operation, &'a Seen)> {
        let polls = log.polls.iter().map(|poll| &self.index.polls[*poll]);
        polls
            .flat_map(|poll| {
                let records = poll.fetched.records.iter();
                records.map(|seen| (seen.offset, (poll.operation, seen)))
            })
            .collect()
    }

    /// All that was read of a log.
    pub(super) fn all_seen(&self, log: &Log<'_>) -> Vec<(&'a Operation, &'a Seen)> {
        let polls = log.polls.iter().map(|poll| &self.index.polls[*poll]);
        polls
            .flat_map(|poll| {
                let records = poll.fetched.records.iter();
                records.map(|seen| (poll.operation, seen))
            })
            .collect()
    }
}
