//! One fetch from one broker of the source: which partitions it asks for, and which of them an
//! answer is about.

use std::collections::BTreeMap;

use super::partition::{Answer, Asked, Turn};
use crate::types::{ErrorCode, LeaderEpoch, Offset, TopicId};
use crate::wire::message::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};

/// First version of Fetch that names topics by their ids.
const BY_ID_FROM: i16 = 13;

/// A topic of the source, as it is named in requests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SourceTopic {
    pub name: String,
    /// Zero where the source has none.
    pub id: TopicId,
}

/// A partition that is asked for, under a key of whoever asks.
#[derive(Clone, Debug)]
pub struct Sent<K> {
    pub key: K,
    pub turn: Turn,
    pub asked: Asked,
}

/// Bounds of one fetch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub wait_ms: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
}

/// What one fetch asks for.
#[derive(Debug)]
pub struct FetchPlan<K> {
    sent: BTreeMap<(SourceTopic, i32), Sent<K>>,
}

impl<K> Default for FetchPlan<K> {
    fn default() -> Self {
        Self {
            sent: BTreeMap::new(),
        }
    }
}

impl<K: Clone> FetchPlan<K> {
    pub fn add(&mut self, topic: SourceTopic, partition: i32, sent: Sent<K>) {
        self.sent.insert((topic, partition), sent);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// All that was asked for.
    pub fn sent(&self) -> impl Iterator<Item = &Sent<K>> {
        self.sent.values()
    }

    /// The highest version of Fetch in which all its topics can be named.
    #[must_use]
    pub fn version_cap(&self) -> i16 {
        let has_ids = self.sent.keys().all(|(topic, _)| !topic.id.is_zero());
        match has_ids {
            true => i16::MAX,
            false => BY_ID_FROM - 1,
        }
    }

    /// As a consumer that reads what is committed, without a session. `first` says with which
    /// partition to begin, so that over time all come first.
    #[must_use]
    pub fn request(&self, limits: Limits, first: usize) -> FetchRequest {
        let mut all: Vec<_> = self.sent.iter().collect();
        if !all.is_empty() {
            let first = first % all.len();
            all.rotate_left(first);
        }
        let mut topics: Vec<FetchTopic> = Vec::new();
        for ((topic, partition), sent) in all {
            let asked = &sent.asked;
            let fetch = FetchPartition {
                partition: *partition,
                current_leader_epoch: asked.leader_epoch.0,
                fetch_offset: asked.fetch_offset.0,
                last_fetched_epoch: asked.last_fetched_epoch.0,
                partition_max_bytes: limits.partition_max_bytes,
                ..Default::default()
            };
            match topics.last_mut() {
                Some(last) if *last.topic == *topic.name => last.partitions.push(fetch),
                _ => topics.push(FetchTopic {
                    topic: topic.name.as_str().into(),
                    topic_id: topic.id,
                    partitions: vec![fetch],
                    ..Default::default()
                }),
            }
        }
        FetchRequest {
            max_wait_ms: limits.wait_ms,
            min_bytes: 1,
            max_bytes: limits.max_bytes,
            topics,
            ..Default::default()
        }
    }

    /// What is told of each partition, and the bytes of records that came. Partitions that the
    /// answer leaves out are told nothing new; an error of the whole answer is one of each.
    #[must_use]
    pub fn answers(self, response: FetchResponse) -> (Vec<(Sent<K>, Answer)>, u64) {
        let whole = code(response.error_code);
        let mut bytes = 0;
        let mut told: BTreeMap<(SourceTopic, i32), Answer> = BTreeMap::new();
        let topics = self.sent.keys().map(|(topic, _)| topic);
        let by_id: BTreeMap<TopicId, &SourceTopic> =
            topics.clone().map(|topic| (topic.id, topic)).collect();
        let by_name: BTreeMap<&str, &SourceTopic> =
            topics.map(|topic| (topic.name.as_str(), topic)).collect();
        for topic in response.responses {
            let known = match topic.topic_id.is_zero() {
                true => by_name.get(&*topic.topic),
                false => by_id.get(&topic.topic_id),
            };
            let Some(known) = known else { continue };
            for data in topic.partitions {
                let key = (SourceTopic::clone(known), data.partition_index);
                let answer = told_of(data);
                bytes += answer.records.len() as u64;
                told.entry(key).or_insert(answer);
            }
        }
        let answers = self.sent.into_iter().map(|(key, sent)| {
            let answer = match (whole, told.remove(&key)) {
                (ErrorCode::None, Some(answer)) => answer,
                (ErrorCode::None, None) => refused(ErrorCode::UnknownServerError),
                (code, _) => refused(code),
            };
            (sent, answer)
        });
        (answers.collect(), bytes)
    }
}

fn code(wire: i16) -> ErrorCode {
    match wire {
        0 => ErrorCode::None,
        wire => ErrorCode::from_wire(wire).unwrap_or(ErrorCode::UnknownServerError),
    }
}

fn refused(error: ErrorCode) -> Answer {
    Answer {
        error,
        high_watermark: Offset(-1),
        log_start_offset: Offset(-1),
        diverging: None,
        records: bytes::Bytes::new(),
    }
}

fn told_of(data: PartitionData) -> Answer {
    let diverging = &data.diverging_epoch;
    let diverging = (diverging.end_offset >= 0)
        .then_some((LeaderEpoch(diverging.epoch), Offset(diverging.end_offset)));
    Answer {
        error: code(data.error_code),
        high_watermark: Offset(data.high_watermark),
        log_start_offset: Offset(data.log_start_offset),
        diverging,
        records: data.records.unwrap_or_default().contiguous(),
    }
}
