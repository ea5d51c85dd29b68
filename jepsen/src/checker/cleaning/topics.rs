//! What is known of topics: their eras, settings and damage.
//!
//! A name may be of one topic now and of another later. Only a deletion ends a topic, so between a
//! deletion's invocation and the return of the first creation that was invoked after the deletion
//! had ended, nobody knows which topic an answer is about; the spans between are **eras**. Claims
//! are made within one era. A deletion whose end is unknown may happen at any time from then on: no
//! era follows it.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Call, History, Note, Operation, Partition};

/// Everything about topics that checkers ask for.
#[derive(Debug, Default)]
pub(in crate::checker) struct Topics<'a> {
    by_name: BTreeMap<&'a str, Topic<'a>>,
    damaged: BTreeSet<&'a Partition>,
}

/// One name.
#[derive(Debug, Default)]
pub(in crate::checker) struct Topic<'a> {
    /// That may have happened, as are those of the other kinds, in the order of invocation.
    pub creates: Vec<&'a Operation>,
    pub deletes: Vec<&'a Operation>,
    pub grows: Vec<&'a Operation>,
    alters: Vec<&'a Operation>,
    /// From and until, ascending.
    eras: Vec<(u64, u64)>,
}

impl<'a> Topics<'a> {
    pub fn of(history: &'a History) -> Self {
        let mut topics = Self::default();
        for operation in history.operations.iter().filter(|one| !one.failed()) {
            let (Call::CreateTopic { topic, .. }
            | Call::DeleteTopic { topic }
            | Call::CreatePartitions { topic, .. }
            | Call::AlterConfig { topic, .. }) = &operation.call
            else {
                continue;
            };
            let known = topics.by_name.entry(topic).or_default();
            let list = match &operation.call {
                Call::CreateTopic { .. } => &mut known.creates,
                Call::DeleteTopic { .. } => &mut known.deletes,
                Call::CreatePartitions { .. } => &mut known.grows,
                _ => &mut known.alters,
            };
            list.push(operation);
        }
        for topic in topics.by_name.values_mut() {
            topic.eras = eras(&topic.creates, &topic.deletes);
        }
        for (_, _, note) in &history.notes {
            if let Note::Damaged { of } = note {
                topics.damaged.insert(of);
            }
        }
        topics
    }

    pub fn names(&self) -> impl Iterator<Item = (&'a str, &Topic<'a>)> {
        self.by_name.iter().map(|(name, topic)| (*name, topic))
    }

    pub fn get(&self, name: &str) -> Option<&Topic<'a>> {
        self.by_name.get(name)
    }

    /// Whether the name never changed its topic.
    pub fn is_never_deleted(&self, name: &str) -> bool {
        self.get(name).is_none_or(|topic| topic.deletes.is_empty())
    }

    /// The era that all of this span is in.
    pub fn era(&self, name: &str, from: u64, until: u64) -> Option<usize> {
        match self.get(name) {
            None => Some(0),
            Some(topic) => topic.era(from, until),
        }
    }

    /// Whether the partition was damaged at any time. Damage may be noted long after it was done.
    pub fn is_damaged(&self, of: &Partition) -> bool {
        self.damaged.contains(of)
    }

    /// Whether any partition of the topic was damaged at any time.
    pub fn is_any_damaged(&self, name: &str) -> bool {
        self.damaged.iter().any(|of| of.topic == name)
    }

    /// Every value that the setting may ever have had; `None` stands for the broker's default.
    pub fn values(&self, name: &str, key: &str) -> BTreeSet<Option<&'a str>> {
        let mut values = BTreeSet::new();
        let Some(topic) = self.get(name) else {
            return [None].into();
        };
        for operation in topic.creates.iter().chain(&topic.alters) {
            match &operation.call {
                Call::CreateTopic { config, .. } => {
                    values.insert(config.get(key).map(String::as_str));
                }
                Call::AlterConfig { key: of, value, .. } if of == key => {
                    values.insert(value.as_deref());
                }
                _ => {}
            }
        }
        if topic.creates.is_empty() {
            values.insert(None);
        }
        values
    }

    /// The smallest value that a setting of milliseconds may ever have had; below zero is no limit.
    pub fn least(&self, name: &str, key: &str, default: i64) -> i64 {
        let values = self.values(name, key);
        let numbers = values.iter().map(|value| match value {
            None => default,
            Some(text) => text.parse().unwrap_or(0),
        });
        let limits = numbers.map(|number| if number < 0 { i64::MAX } else { number });
        limits.min().unwrap_or(default)
    }

    /// Whether the topic chose to be told "done" before records are durable.
    pub fn is_loose(&self, name: &str) -> bool {
        let durability = self.values(name, "klamm.durability");
        durability.contains(&Some("replicated"))
            || ["flush.messages", "flush.ms"]
                .iter()
                .any(|key| self.values(name, key).iter().any(Option::is_some))
    }

    /// Whether the topic was compacted, and nothing else, all the time.
    pub fn is_only_compacted(&self, name: &str) -> bool {
        self.values(name, "cleanup.policy") == [Some("compact")].into()
    }

    /// Whether the topic may have been compacted at some time.
    pub fn is_ever_compacted(&self, name: &str) -> bool {
        let policies = self.values(name, "cleanup.policy");
        policies
            .iter()
            .any(|policy| policy.is_some_and(|text| text.contains("compact")))
    }
}

impl Topic<'_> {
    fn era(&self, from: u64, until: u64) -> Option<usize> {
        let after = self.eras.partition_point(|(begins, _)| *begins <= from);
        let (_, ends) = self.eras[..after].last()?;
        (until <= *ends).then_some(after - 1)
    }

    /// The number of partitions, if it never changed, and since when it is known.
    pub fn fixed_partitions(&self) -> Option<(i32, u64)> {
        let [create] = self.creates[..] else {
            return None;
        };
        let is_fixed = self.deletes.is_empty() && self.grows.is_empty();
        match &create.call {
            Call::CreateTopic { partitions, .. } if is_fixed && create.answer().is_some() => {
                Some((*partitions, create.returned))
            }
            _ => None,
        }
    }
}

fn eras(creates: &[&Operation], deletes: &[&Operation]) -> Vec<(u64, u64)> {
    let mut eras = Vec::new();
    let mut since = 0;
    for delete in deletes {
        if delete.invoked >= since {
            eras.push((since, delete.invoked));
        }
        let after = creates
            .partition_point(|create| create.invoked < delete.effect_until());
        let again = creates[after..].iter().find(|create| create.answer().is_some());
        since = since.max(again.map_or(u64::MAX, |create| create.returned));
        if since == u64::MAX {
            return eras;
        }
    }
    eras.push((since, u64::MAX));
    eras
}
