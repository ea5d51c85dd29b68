//! What a history tells of topics: when their eras were, and the settings that change what is
//! legal.

use std::collections::BTreeMap;

use crate::history::{Call, History, Operation};

/// Who sets the timestamps of a topic's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// Whoever sends them.
    Create,
    /// The broker.
    LogAppend,
    /// The setting changed.
    Unsure,
}

/// A topic. One whose creation is not in the history is taken to have the default settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    /// When deletions may have happened, both ends included: disjoint, in order.
    deletions: Vec<(u64, u64)>,
    /// Whether it was compacted at any time.
    pub compacted: bool,
    /// Whether old records were deleted by age or size at any time.
    pub retention: bool,
    pub timestamps: Timestamps,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            deletions: Vec::new(),
            compacted: false,
            retention: false,
            timestamps: Timestamps::Create,
        }
    }
}

impl Topic {
    /// The era that all of the time from `since` to `until` belongs to: how many deletions were over
    /// before. Creations do not matter: where there is no topic, no operation on it works.
    pub fn era(&self, since: u64, until: u64) -> Option<usize> {
        let era = self.deletions.partition_point(|(_, end)| *end < since);
        let next = self.deletions.get(era);
        next.is_none_or(|(start, _)| until < *start).then_some(era)
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            "cleanup.policy" => self.compacted |= value.contains("compact"),
            "retention.ms" | "retention.bytes" => self.retention |= value != "-1",
            _ => {}
        }
    }

    /// Joins deletions that overlap.
    fn settle(&mut self) {
        self.deletions.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(self.deletions.len());
        for (start, end) in self.deletions.drain(..) {
            match joined.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        self.deletions = joined;
    }
}

const TIMESTAMP_TYPE: &str = "message.timestamp.type";

/// All topics of which the history tells anything but their records.
pub(super) fn topics(history: &History) -> BTreeMap<&str, Topic> {
    let mut topics: BTreeMap<&str, Topic> = BTreeMap::new();
    let mut types: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
    for operation in history.operations.iter().filter(|done| !done.failed()) {
        match &operation.call {
            Call::CreateTopic { topic, config, .. } => {
                let known = topics.entry(topic).or_default();
                config.iter().for_each(|(key, value)| known.set(key, value));
                let value = config.get(TIMESTAMP_TYPE).map(String::as_str);
                let is_log_append = value == Some("LogAppendTime");
                types.entry(topic).or_default().push(is_log_append);
            }
            Call::AlterConfig { topic, key, value } => {
                let value = value.as_deref().unwrap_or_default();
                topics.entry(topic).or_default().set(key, value);
                if key == TIMESTAMP_TYPE {
                    // Neither before nor after is it known what a record was appended under.
                    types.entry(topic).or_default().extend([true, false]);
                }
            }
            Call::DeleteTopic { topic } => {
                let span = (operation.invoked, operation.effect_until());
                topics.entry(topic).or_default().deletions.push(span);
            }
            _ => {}
        }
    }
    for (name, topic) in &mut topics {
        topic.settle();
        let types = types.get(name).map_or(&[] as &[bool], Vec::as_slice);
        topic.timestamps = match (types.contains(&true), types.contains(&false)) {
            (true, true) => Timestamps::Unsure,
            (true, false) => Timestamps::LogAppend,
            (false, _) => Timestamps::Create,
        };
    }
    topics
}

/// When the effect of an operation that is not known to be of one era may show: in any.
pub(super) fn is_of_any_era(operation: &Operation, era: Option<usize>) -> bool {
    era.is_none() || operation.answer().is_none()
}
