//! What one fetcher copies from one broker, as a pure machine: which partitions, from where on,
//! and what an answer means for each.
//!
//! The invariant: an answer touches a partition only while it is followed under the very
//! assignment that the fetch was sent for. What was taken away, or follows in another leader epoch
//! by now, is left alone; the owner of the log looks once more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::client::Backoff;
use crate::replication::{FollowerAppend, FollowerPosition, FollowerTruncate, Slot};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, Instant, LeaderEpoch, Offset, TopicId};
use crate::wire::message::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
    ReplicaState,
};

/// A partition by its topic's id.
pub type Key = (TopicId, i32);

/// First pause after a failure of one partition: a new leader learns of its election at about the
/// time its followers do.
const PAUSE_FIRST: Duration = Duration::from_millis(10);

/// Session epoch of a request that begins a session.
const SESSION_NEW: i32 = 0;

/// A partition to follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Followed {
    pub slot: Slot,
    /// The shard that owns the log.
    pub shard: usize,
    pub leader_epoch: LeaderEpoch,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// The log's owner must say where to fetch.
    Unplaced,
    At(FollowerPosition),
    Paused {
        until: Instant,
    },
}

#[derive(Clone, Debug)]
struct Copied {
    followed: Followed,
    /// Counts assignments of this fetcher.
    assignment: u64,
    phase: Phase,
    /// In a row.
    failures: u32,
}

/// Bounds of what is asked for.
#[derive(Clone, Debug)]
pub struct FetchLimits {
    pub wait_max: Duration,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
    /// Longest pause after failures in a row.
    pub pause_longest: Duration,
}

/// A session that the leader keeps (KIP-227).
#[derive(Debug)]
struct Session {
    id: i32,
    next_epoch: i32,
    /// What the leader remembers.
    known: BTreeMap<Key, FetchPartition>,
}

/// Partitions that a request asks about, each with its assignment.
#[derive(Debug)]
pub struct Round {
    sent: BTreeMap<Key, (u64, FetchPartition)>,
}

/// Something that the owners of logs are to do, under the assignment it is for.
#[derive(Debug)]
pub struct Task<T> {
    pub key: Key,
    pub assignment: u64,
    pub shard: usize,
    pub work: T,
}

/// What an answer asks of the logs.
#[derive(Debug, Default)]
pub struct Work {
    pub appends: Vec<Task<FollowerAppend>>,
    pub truncations: Vec<Task<FollowerTruncate>>,
}

/// See the module.
#[derive(Debug)]
pub struct FetchPlan {
    me: BrokerId,
    limits: FetchLimits,
    copied: BTreeMap<Key, Copied>,
    session: Option<Session>,
    /// A session to be ended by the next one: what the leader remembers of it is not known.
    abandoned: i32,
    assignments: u64,
}

impl FetchPlan {
    #[must_use]
    pub fn new(me: BrokerId, limits: FetchLimits) -> Self {
        Self {
            me,
            limits,
            copied: BTreeMap::new(),
            session: None,
            abandoned: 0,
            assignments: 0,
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.copied.is_empty()
    }

    /// Follows a partition from now on; answers whether that is new.
    pub fn follow(&mut self, key: Key, followed: Followed) -> bool {
        if self
            .copied
            .get(&key)
            .is_some_and(|known| known.followed == followed)
        {
            return false;
        }
        self.assignments += 1;
        let copied = Copied {
            followed,
            assignment: self.assignments,
            phase: Phase::Unplaced,
            failures: 0,
        };
        self.copied.insert(key, copied);
        true
    }

    pub fn leave(&mut self, key: Key) {
        if crate::mutant!("truncates-what-it-leads") {
            return;
        }
        self.copied.remove(&key);
    }

    /// Partitions whose position must be asked for before they are fetched.
    pub fn unplaced(&mut self, now: Instant) -> Vec<Task<(Slot, LeaderEpoch)>> {
        let mut tasks = Vec::new();
        for (key, copied) in &mut self.copied {
            if matches!(copied.phase, Phase::Paused { until } if until <= now) {
                copied.phase = Phase::Unplaced;
            }
            if copied.phase == Phase::Unplaced {
                tasks.push(Task {
                    key: *key,
                    assignment: copied.assignment,
                    shard: copied.followed.shard,
                    work: (copied.followed.slot, copied.followed.leader_epoch),
                });
            }
        }
        tasks
    }

    /// The end of the earliest pause.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Instant> {
        let pauses = self
            .copied
            .values()
            .filter_map(|copied| match copied.phase {
                Phase::Paused { until } => Some(until),
                _ => None,
            });
        pauses.min()
    }

    /// Where a partition stands now, or why that is not known. `is_progress`: an answer of the
    /// leader was carried out, so that whatever failed before is over.
    pub fn placed(
        &mut self,
        (now, random): (Instant, u64),
        (key, assignment): (Key, u64),
        outcome: Result<FollowerPosition, ErrorCode>,
        is_progress: bool,
    ) {
        match outcome {
            Ok(position) => {
                if let Some(copied) = self.current(key, assignment) {
                    if is_progress {
                        copied.failures = 0;
                    }
                    copied.phase = Phase::At(position);
                }
            }
            Err(_) => self.pause((now, random), (key, assignment)),
        }
    }

    fn current(&mut self, key: Key, assignment: u64) -> Option<&mut Copied> {
        let copied = self.copied.get_mut(&key)?;
        (copied.assignment == assignment || crate::mutant!("older-leader-believed"))
            .then_some(copied)
    }

    fn pause(&mut self, (now, random): (Instant, u64), (key, assignment): (Key, u64)) {
        let backoff = Backoff {
            first: PAUSE_FIRST.min(self.limits.pause_longest),
            longest: self.limits.pause_longest,
        };
        if let Some(copied) = self.current(key, assignment) {
            copied.failures = copied.failures.saturating_add(1);
            let until = now.plus(backoff.pause(copied.failures, random));
            copied.phase = Phase::Paused { until };
        }
    }

    /// The next fetch; `None` while there is nothing to ask for.
    pub fn request(
        &mut self,
        now: Instant,
        broker_epoch: BrokerEpoch,
    ) -> Option<(FetchRequest, Round)> {
        let mut sent = BTreeMap::new();
        for (key, copied) in &self.copied {
            if let Phase::At(position) = copied.phase {
                let fetch = self.partition(key.1, &copied.followed, position);
                sent.insert(*key, (copied.assignment, fetch));
            }
        }
        if sent.is_empty() {
            return None;
        }
        let wake = self
            .wakes_at()
            .map_or(self.limits.wait_max, |at| at.since(now));
        let wait = wake.min(self.limits.wait_max);
        let mut request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.limits.min_bytes,
            max_bytes: self.limits.max_bytes,
            replica_state: ReplicaState {
                replica_id: self.me.0,
                replica_epoch: broker_epoch.0,
                ..Default::default()
            },
            ..Default::default()
        };
        self.enter_session(&mut request, &sent);
        Some((request, Round { sent }))
    }

    fn partition(
        &self,
        partition: i32,
        followed: &Followed,
        position: FollowerPosition,
    ) -> FetchPartition {
        FetchPartition {
            partition,
            current_leader_epoch: followed.leader_epoch.0,
            fetch_offset: position.fetch_offset.0,
            last_fetched_epoch: position.last_fetched_epoch.0,
            log_start_offset: position.log_start_offset.0,
            partition_max_bytes: self.limits.partition_max_bytes,
            high_watermark: position.high_watermark.0,
            ..Default::default()
        }
    }

    /// Names in `request` what the leader does not remember.
    fn enter_session(
        &mut self,
        request: &mut FetchRequest,
        sent: &BTreeMap<Key, (u64, FetchPartition)>,
    ) {
        let Some(session) = &mut self.session else {
            request.session_id = self.abandoned;
            request.session_epoch = SESSION_NEW;
            request.topics = by_topic(sent.iter().map(|(key, (_, fetch))| (*key, fetch)));
            return;
        };
        request.session_id = session.id;
        request.session_epoch = session.next_epoch;
        session.next_epoch = match session.next_epoch {
            i32::MAX => 1,
            epoch => epoch + 1,
        };
        let known = &session.known;
        let news = sent
            .iter()
            .filter(|(key, (_, fetch))| known.get(key) != Some(fetch));
        request.topics = by_topic(news.map(|(key, (_, fetch))| (*key, fetch)));
        let mut forgotten: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in known.keys().filter(|key| !sent.contains_key(key)) {
            forgotten.entry(*topic).or_default().push(*partition);
        }
        request.forgotten_topics_data = forgotten
            .into_iter()
            .map(|(topic_id, partitions)| ForgottenTopic {
                topic_id,
                partitions,
                ..Default::default()
            })
            .collect();
        session.known = sent
            .iter()
            .map(|(key, (_, fetch))| (*key, fetch.clone()))
            .collect();
    }

    /// The connection is gone, or its answer will not be waited for.
    pub fn abandon_session(&mut self) {
        if let Some(session) = self.session.take() {
            self.abandoned = session.id;
        }
    }

    /// Takes an answer: what the logs must do, or an error of the whole request. Partitions that
    /// the answer has no work for can be fetched again.
    pub fn answered(
        &mut self,
        at: (Instant, u64),
        round: Round,
        response: FetchResponse,
    ) -> Result<Work, ErrorCode> {
        if response.error_code != 0 {
            self.session = None;
            self.abandoned = 0;
            return Err(
                ErrorCode::from_wire(response.error_code).unwrap_or(ErrorCode::UnknownServerError)
            );
        }
        if self.session.is_none() {
            self.abandoned = 0;
            self.session = (response.session_id != 0).then(|| Session {
                id: response.session_id,
                next_epoch: 1,
                known: round
                    .sent
                    .iter()
                    .map(|(key, (_, fetch))| (*key, fetch.clone()))
                    .collect(),
            });
        }
        let mut work = Work::default();
        let mut seen = BTreeSet::new();
        for topic in response.responses {
            for data in topic.partitions {
                let key = (topic.topic_id, data.partition_index);
                if let Some((assignment, fetch)) = round.sent.get(&key)
                    && seen.insert(key)
                {
                    self.take(at, (key, *assignment), fetch, data, &mut work);
                }
            }
        }
        Ok(work)
    }

    fn take(
        &mut self,
        at: (Instant, u64),
        (key, assignment): (Key, u64),
        fetch: &FetchPartition,
        data: PartitionData,
        work: &mut Work,
    ) {
        let Some(copied) = self.current(key, assignment) else {
            tracing::trace!(target: "klamm::probe", name = "late-fetch-answer-dropped");
            return;
        };
        let followed = copied.followed;
        let shard = followed.shard;
        let (slot, leader_epoch) = (followed.slot, followed.leader_epoch);
        if data.error_code == 0 && data.diverging_epoch.end_offset >= 0 {
            let diverging = &data.diverging_epoch;
            let diverging = (LeaderEpoch(diverging.epoch), Offset(diverging.end_offset));
            copied.phase = Phase::Unplaced;
            let truncation = FollowerTruncate {
                slot,
                leader_epoch,
                fetch_offset: Offset(fetch.fetch_offset),
                last_fetched_epoch: LeaderEpoch(fetch.last_fetched_epoch),
                diverging,
                leader_log_start_offset: Offset(data.log_start_offset),
            };
            work.truncations.push(Task {
                key,
                assignment,
                shard,
                work: truncation,
            });
            return;
        }
        let is_behind = data.error_code == ErrorCode::OffsetOutOfRange.code()
            && data.log_start_offset > fetch.fetch_offset;
        if data.error_code != 0 && !is_behind {
            return self.pause(at, (key, assignment));
        }
        if is_behind {
            tracing::trace!(target: "klamm::probe", name = "follower-behind-log-start");
        }
        copied.phase = Phase::Unplaced;
        let append = FollowerAppend {
            slot,
            leader_epoch,
            fetch_offset: Offset(fetch.fetch_offset),
            records: data.records.unwrap_or_default().contiguous(),
            leader_high_watermark: Offset(data.high_watermark),
            leader_log_start_offset: Offset(data.log_start_offset),
        };
        work.appends.push(Task {
            key,
            assignment,
            shard,
            work: append,
        });
    }
}

fn by_topic<'a>(partitions: impl Iterator<Item = (Key, &'a FetchPartition)>) -> Vec<FetchTopic> {
    let mut topics: BTreeMap<TopicId, Vec<FetchPartition>> = BTreeMap::new();
    for ((topic, _), fetch) in partitions {
        topics.entry(topic).or_default().push(fetch.clone());
    }
    topics
        .into_iter()
        .map(|(topic_id, partitions)| FetchTopic {
            topic_id,
            partitions,
            ..Default::default()
        })
        .collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
