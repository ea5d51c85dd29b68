//! Incremental fetch sessions (KIP-227), as a pure table: the partitions a client fetches are
//! remembered, so that requests name only what changes and answers only what has news.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::types::{ErrorCode, Instant, Offset, Uuid};
use crate::wire::Str;
use crate::wire::message::fetch::{FetchPartition, FetchRequest};

/// A session that was not used for this long may be dropped to make room.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// Session epoch of a request that asks for a new session.
const EPOCH_NEW: i32 = 0;

/// Session epoch of a request that wants no session, or to end the one it names.
const EPOCH_NONE: i32 = -1;

/// A partition as the client names it: by topic name before version 13, by id from then on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TargetKey {
    pub topic: Str,
    pub topic_id: Uuid,
    pub partition: i32,
}

/// A partition to fetch from, and from where.
#[derive(Clone, PartialEq, Debug)]
pub struct Target {
    pub key: TargetKey,
    pub fetch: FetchPartition,
}

/// What was last told about a partition of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
    pub has_records: bool,
    pub has_error: bool,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    used: Instant,
    /// In the order they are to be served next.
    targets: Vec<(Target, Option<Told>)>,
}

/// What a request asks for once its session has been applied.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// 0: the answer belongs to no session.
    pub session_id: i32,
    /// Whether partitions without news may be left out of the answer.
    pub incremental: bool,
    pub targets: Vec<Target>,
}

/// All sessions of a broker.
#[derive(Debug)]
pub struct FetchSessions {
    slots_max: usize,
    sessions: BTreeMap<i32, Session>,
}

impl FetchSessions {
    #[must_use]
    pub fn new(slots_max: usize) -> Self {
        Self {
            slots_max,
            sessions: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Applies a request to its session. `random` becomes the id of a session that is made.
    pub fn begin(
        &mut self,
        now: Instant,
        request: &FetchRequest,
        random: i32,
    ) -> Result<Plan, ErrorCode> {
        match request.session_epoch {
            EPOCH_NONE => {
                self.sessions.remove(&request.session_id);
                Ok(Plan {
                    session_id: 0,
                    incremental: false,
                    targets: named(request),
                })
            }
            EPOCH_NEW => {
                self.sessions.remove(&request.session_id);
                Ok(self.open(now, named(request), random))
            }
            epoch => self.resume(now, request, epoch),
        }
    }

    fn open(&mut self, now: Instant, targets: Vec<Target>, random: i32) -> Plan {
        let id = random.unsigned_abs().cast_signed().max(1);
        if self.sessions.contains_key(&id) || targets.is_empty() || !self.make_room(now) {
            return Plan {
                session_id: 0,
                incremental: false,
                targets,
            };
        }
        let remembered = targets
            .iter()
            .map(|target| (target.clone(), None))
            .collect();
        self.sessions.insert(
            id,
            Session {
                epoch: 1,
                used: now,
                targets: remembered,
            },
        );
        Plan {
            session_id: id,
            incremental: false,
            targets,
        }
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.sessions.len() < self.slots_max {
            return true;
        }
        let oldest = self
            .sessions
            .iter()
            .min_by_key(|(id, session)| (session.used, **id));
        match oldest {
            Some((id, session)) if now.since(session.used) > EVICTABLE_AFTER => {
                let id = *id;
                tracing::trace!(target: "klamm::probe", name = "fetch-session-evicted");
                self.sessions.remove(&id);
                true
            }
            _ => false,
        }
    }

    fn resume(
        &mut self,
        now: Instant,
        request: &FetchRequest,
        epoch: i32,
    ) -> Result<Plan, ErrorCode> {
        let Some(session) = self.sessions.get_mut(&request.session_id) else {
            tracing::trace!(target: "klamm::probe", name = "fetch-session-unknown");
            return Err(ErrorCode::FetchSessionIdNotFound);
        };
        if session.epoch != epoch {
            tracing::trace!(target: "klamm::probe", name = "fetch-session-mismatch");
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.used = now;
        session.apply(request);
        let targets = session
            .targets
            .iter()
            .map(|(target, _)| target.clone())
            .collect();
        Ok(Plan {
            session_id: request.session_id,
            incremental: true,
            targets,
        })
    }

    /// Notes what the answer to `plan` says, and answers which of its partitions to leave out.
    /// Partitions that gave records move to the back, so that none starves behind them.
    pub fn finish(&mut self, plan: &Plan, told: &[Told]) -> BTreeSet<usize> {
        let mut left_out = BTreeSet::new();
        let Some(session) = self.sessions.get_mut(&plan.session_id) else {
            return left_out;
        };
        let news: BTreeMap<&TargetKey, (usize, Told)> = plan
            .targets
            .iter()
            .zip(told)
            .enumerate()
            .map(|(at, (target, told))| (&target.key, (at, *told)))
            .collect();
        for (target, last) in &mut session.targets {
            let Some((at, told)) = news.get(&target.key) else {
                continue;
            };
            let same = last.is_some_and(|last| {
                last.high_watermark == told.high_watermark
                    && last.log_start_offset == told.log_start_offset
            });
            let has_news = told.has_records && !crate::mutant!("session-leaves-out-records");
            if plan.incremental && same && !has_news && !told.has_error {
                left_out.insert(*at);
            }
            // After an error the next good answer is news.
            *last = (!told.has_error).then_some(*told);
        }
        session
            .targets
            .sort_by_key(|(_, last)| last.is_some_and(|told| told.has_records));
        left_out
    }
}

impl Session {
    fn apply(&mut self, request: &FetchRequest) {
        let forgotten: BTreeSet<TargetKey> = request
            .forgotten_topics_data
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|partition| TargetKey {
                    topic: topic.topic.clone(),
                    topic_id: topic.topic_id,
                    partition: *partition,
                })
            })
            .collect();
        self.targets
            .retain(|(target, _)| !forgotten.contains(&target.key));
        let mut changed: BTreeMap<TargetKey, Target> = named(request)
            .into_iter()
            .map(|target| (target.key.clone(), target))
            .collect();
        for (target, _) in &mut self.targets {
            if let Some(mut new) = changed.remove(&target.key) {
                if crate::mutant!("session-keeps-first-epoch") {
                    new.fetch.current_leader_epoch = target.fetch.current_leader_epoch;
                }
                *target = new;
            }
        }
        for target in named(request) {
            if let Some(new) = changed.remove(&target.key) {
                self.targets.push((new, None));
            }
        }
    }
}

/// The partitions a request names, in its order; a partition named twice counts once.
fn named(request: &FetchRequest) -> Vec<Target> {
    let mut seen = BTreeSet::new();
    let mut targets = Vec::new();
    for topic in &request.topics {
        // A copy: a session is not to keep the memory that requests are received into.
        let name = topic.topic.detached();
        for fetch in &topic.partitions {
            let key = TargetKey {
                topic: name.clone(),
                topic_id: topic.topic_id,
                partition: fetch.partition,
            };
            if seen.insert(key.clone()) {
                targets.push(Target {
                    key,
                    fetch: fetch.clone(),
                });
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::fetch::{FetchTopic, ForgottenTopic};

    fn request(session_id: i32, session_epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
        let partitions = partitions
            .iter()
            .map(|(partition, offset)| FetchPartition {
                partition: *partition,
                fetch_offset: *offset,
                ..Default::default()
            })
            .collect();
        let topic = FetchTopic {
            topic: "t".into(),
            partitions,
            ..Default::default()
        };
        FetchRequest {
            session_id,
            session_epoch,
            topics: vec![topic],
            ..Default::default()
        }
    }

    fn told(high_watermark: i64, has_records: bool) -> Told {
        Told {
            high_watermark: Offset(high_watermark),
            log_start_offset: Offset(0),
            has_records,
            has_error: false,
        }
    }

    const NOW: Instant = Instant(0);

    #[test]
    fn an_idle_partition_is_left_out_of_an_incremental_answer() {
        let mut sessions = FetchSessions::new(10);
        let plan = sessions
            .begin(NOW, &request(0, 0, &[(0, 5), (1, 7)]), 42)
            .expect("opens");
        assert_eq!((plan.session_id, plan.incremental), (42, false));
        assert!(
            sessions
                .finish(&plan, &[told(5, false), told(7, false)])
                .is_empty()
        );
        let plan = sessions
            .begin(NOW, &request(42, 1, &[]), 0)
            .expect("resumes");
        assert_eq!(plan.targets.len(), 2);
        let left_out = sessions.finish(&plan, &[told(5, false), told(8, true)]);
        assert_eq!(left_out, BTreeSet::from([0]));
    }

    #[test]
    fn a_session_keeps_nothing_of_its_requests() {
        let mut sessions = FetchSessions::new(10);
        let mut received = bytes::BytesMut::from(&b"a name of some length"[..]);
        let size = received.capacity();
        for epoch in 0..3 {
            let mut request = request(if epoch == 0 { 0 } else { 9 }, epoch, &[(epoch, 1)]);
            let name = Str::from_utf8(received.split_to(21).freeze());
            request.topics[0].topic = name.expect("a text");
            let plan = sessions.begin(NOW, &request, 9).expect("a session");
            assert_eq!(plan.targets.len(), 1 + epoch as usize);
            drop((plan, request));
            assert!(received.try_reclaim(size), "request {epoch} is held");
            received.extend_from_slice(b"a name of some length");
        }
    }

    #[test]
    fn a_wrong_epoch_and_an_unknown_session_are_told_apart() {
        let mut sessions = FetchSessions::new(10);
        sessions
            .begin(NOW, &request(0, 0, &[(0, 0)]), 7)
            .expect("opens");
        let stale = sessions.begin(NOW, &request(7, 5, &[]), 0);
        assert_eq!(stale, Err(ErrorCode::InvalidFetchSessionEpoch));
        let unknown = sessions.begin(NOW, &request(8, 1, &[]), 0);
        assert_eq!(unknown, Err(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn forgotten_partitions_are_no_longer_served() {
        let mut sessions = FetchSessions::new(10);
        sessions
            .begin(NOW, &request(0, 0, &[(0, 0), (1, 0)]), 7)
            .expect("opens");
        let mut next = request(7, 1, &[(2, 9)]);
        next.forgotten_topics_data = vec![ForgottenTopic {
            topic: "t".into(),
            partitions: vec![0],
            ..Default::default()
        }];
        let plan = sessions.begin(NOW, &next, 0).expect("resumes");
        let partitions: Vec<i32> = plan.targets.iter().map(|t| t.key.partition).collect();
        assert_eq!(partitions, [1, 2]);
    }

    #[test]
    fn partitions_that_gave_records_are_served_last() {
        let mut sessions = FetchSessions::new(10);
        let plan = sessions
            .begin(NOW, &request(0, 0, &[(0, 0), (1, 0)]), 7)
            .expect("opens");
        sessions.finish(&plan, &[told(5, true), told(0, false)]);
        let plan = sessions
            .begin(NOW, &request(7, 1, &[]), 0)
            .expect("resumes");
        let partitions: Vec<i32> = plan.targets.iter().map(|t| t.key.partition).collect();
        assert_eq!(partitions, [1, 0]);
    }

    #[test]
    fn a_full_table_gives_no_session_until_one_is_old() {
        let mut sessions = FetchSessions::new(1);
        sessions
            .begin(NOW, &request(0, 0, &[(0, 0)]), 7)
            .expect("opens");
        let plan = sessions
            .begin(NOW, &request(0, 0, &[(0, 0)]), 8)
            .expect("serves");
        assert_eq!(plan.session_id, 0);
        let later = NOW.plus(EVICTABLE_AFTER + Duration::from_secs(1));
        let plan = sessions
            .begin(later, &request(0, 0, &[(0, 0)]), 8)
            .expect("serves");
        assert_eq!(plan.session_id, 8);
    }

    #[test]
    fn an_epoch_wraps_to_one() {
        let mut sessions = FetchSessions::new(1);
        sessions
            .begin(NOW, &request(0, 0, &[(0, 0)]), 7)
            .expect("opens");
        sessions.sessions.get_mut(&7).expect("open").epoch = i32::MAX;
        sessions
            .begin(NOW, &request(7, i32::MAX, &[]), 0)
            .expect("resumes");
        sessions
            .begin(NOW, &request(7, 1, &[]), 0)
            .expect("resumes after the wrap");
    }
}
