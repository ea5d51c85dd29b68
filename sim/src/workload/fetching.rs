//! Reading by Fetch: positions, sessions (KIP-227), and what the answers hold. Every fetch is one
//! Read of the history, of those partitions that the same broker leads; the next one asks the next
//! broker.

use std::collections::BTreeMap;
use std::ops::Bound;

use klamm::types::{ErrorCode, Uuid};
use klamm::wire::ApiKey;
use klamm::wire::message::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
};
use klamm_jepsen::history::{Answer, Call, Fetched, Partition, Position};

use super::content::decode;
use super::errors::error_name;
use super::line::Line;
use super::{by_topic, partition};

/// First version that has sessions.
const SESSIONS_SINCE: i16 = 7;
/// First version that names topics by id.
const TOPIC_ID_SINCE: i16 = 13;

/// First version that tells the reader's rack.
const RACK_SINCE: i16 = 11;
/// What is noted of an error of a copy that does not lead.
const LEADER_NOT_AVAILABLE: &str = "LEADER_NOT_AVAILABLE";

/// How to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchOptions {
    pub(super) max_bytes: i32,
    pub(super) partition_max_bytes: i32,
    pub(super) session: bool,
    pub(super) committed: bool,
}

/// Partitions being read.
pub(super) struct Fetching {
    options: FetchOptions,
    positions: BTreeMap<Partition, i64>,
    /// By the broker's address.
    sessions: BTreeMap<String, Session>,
    /// Whom the last fetch was for: empty where there is one broker.
    at: String,
    /// Lowest version to ask in.
    floor: i16,
    rack: Option<String>,
    /// Brokers that leaders sent to, for what they are nearer.
    nearer: BTreeMap<Partition, String>,
}

/// What the broker is believed to remember.
#[derive(Debug)]
struct Session {
    id: i32,
    /// Of the next request.
    epoch: i32,
    /// Whether its topics are named by id.
    by_id: bool,
    /// The ids that its topics were told by, which a topic that is made again has not.
    ids: BTreeMap<String, Uuid>,
    told: BTreeMap<Partition, i64>,
}

impl Fetching {
    pub(super) fn new(options: FetchOptions) -> Self {
        Self {
            options,
            positions: BTreeMap::new(),
            sessions: BTreeMap::new(),
            at: String::new(),
            floor: if options.session { SESSIONS_SINCE } else { 0 },
            rack: None,
            nearer: BTreeMap::new(),
        }
    }

    /// Says where it is, and goes where leaders send it to.
    pub(super) fn in_rack(mut self, rack: Option<String>) -> Self {
        if rack.is_some() {
            self.floor = self.floor.max(RACK_SINCE);
        }
        self.rack = rack;
        self
    }

    /// Whom to ask for what.
    async fn by_broker(&self, line: &mut Line) -> Result<BTreeMap<String, Vec<Partition>>, String> {
        let leaders = line
            .by_leader(self.positions.keys().cloned().collect())
            .await?;
        let mut brokers: BTreeMap<String, Vec<Partition>> = BTreeMap::new();
        for (leader, led) in leaders {
            for of in led {
                let at = self.nearer.get(&of).unwrap_or(&leader);
                brokers.entry(at.clone()).or_default().push(of);
            }
        }
        Ok(brokers)
    }

    /// Back to leaders with what was asked of this one.
    fn leave(&mut self, at: &str) {
        self.nearer.retain(|_, nearer| nearer != at);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn position(&self, of: &Partition) -> Option<i64> {
        self.positions.get(of).copied()
    }

    pub(super) fn positions(&self) -> Vec<Position> {
        let each = self.positions.iter();
        each.map(|(of, offset)| Position {
            of: of.clone(),
            offset: *offset,
        })
        .collect()
    }

    /// Reads these partitions from these positions and no others. The session goes on.
    pub(super) fn assign(&mut self, positions: &[Position]) {
        let each = positions.iter();
        self.positions = each.map(|p| (p.of.clone(), p.offset)).collect();
    }

    /// Goes on at another position with one partition.
    pub(super) fn seek(&mut self, position: &Position) {
        self.positions.insert(position.of.clone(), position.offset);
    }

    /// One fetch. Positions move past what came.
    pub(super) async fn fetch(
        &mut self,
        line: &mut Line,
        max_wait_ms: i32,
    ) -> Result<Vec<Fetched>, String> {
        let leaders = self.by_broker(line).await?;
        let after = leaders.range((Bound::Excluded(self.at.clone()), Bound::Unbounded));
        let next = after.chain(&leaders).next();
        let (at, mut asked) = next
            .map(|(at, asked)| (at.clone(), asked.clone()))
            .unwrap_or_default();
        let waits = i32::try_from(leaders.len().max(1)).unwrap_or(1);
        line.toward(&at);
        self.at = at;
        if let Err(error) = line.open().await {
            self.leave(&self.at.clone());
            return Err(error);
        }
        let by_id = line.version(ApiKey::Fetch, self.floor) >= TOPIC_ID_SINCE;
        if by_id {
            let topics = by_topic(&asked);
            let topics: Vec<&str> = topics.into_keys().collect();
            line.learn_ids(&topics).await?;
            line.open().await?;
            // One that was deleted since its leader was heard of has no id to ask by.
            asked.retain(|of| line.id(&of.topic) != Uuid::default());
            if asked.is_empty() {
                line.take_in(ErrorCode::UnknownTopicId.name());
                line.wait_a_little().await;
                return Err(ErrorCode::UnknownTopicId.name().to_owned());
            }
        }
        let is_of_another = |kept: &Session| {
            let mut asked = asked
                .iter()
                .filter_map(|of| Some((of, kept.ids.get(&of.topic)?)));
            kept.by_id != by_id || by_id && asked.any(|(of, told)| *told != line.id(&of.topic))
        };
        if self.session().is_some_and(is_of_another) {
            self.forget_session();
        }
        let request = self.request(line, &asked, max_wait_ms / waits);
        let mut from = self.positions();
        from.retain(|position| asked.contains(&position.of));
        let op = line.invoke(Call::Read {
            from,
            committed: self.options.committed,
            library: false,
        });
        match line.call(request, self.floor).await {
            Err(error) => {
                self.leave(&self.at.clone());
                Err(line.refused(op, error))
            }
            Ok(answer) => match error_name(answer.error_code) {
                Some(error) => {
                    self.forget_session();
                    self.leave(&self.at.clone());
                    Err(line.refused(op, error))
                }
                None => {
                    let partitions = self.take_in(line, answer, &asked, by_id);
                    let shown = partitions.clone();
                    line.ok(op, Answer::Read { partitions: shown });
                    Ok(partitions)
                }
            },
        }
    }

    fn session(&self) -> Option<&Session> {
        self.sessions.get(&self.at)
    }

    fn forget_session(&mut self) {
        self.sessions.remove(&self.at);
    }

    fn request(&self, line: &Line, asked: &[Partition], max_wait_ms: i32) -> FetchRequest {
        let (id, epoch) = match (self.session(), self.options.session) {
            (Some(session), _) => (session.id, session.epoch),
            (None, true) => (0, 0),
            (None, false) => (0, -1),
        };
        let is_news = |of: &Partition| {
            let told = self.session().map(|session| session.told.get(of));
            told.is_none_or(|told| told != self.positions.get(of))
        };
        let named = by_topic(asked.iter().filter(|of| is_news(of)));
        let topic = |(topic, partitions): (&str, Vec<i32>)| FetchTopic {
            topic: topic.into(),
            topic_id: line.id(topic),
            partitions: partitions
                .into_iter()
                .map(|number| self.wanted(topic, number))
                .collect(),
            ..Default::default()
        };
        FetchRequest {
            replica_id: -1,
            max_wait_ms,
            min_bytes: 1,
            max_bytes: self.options.max_bytes,
            isolation_level: i8::from(self.options.committed),
            session_id: id,
            session_epoch: epoch,
            topics: named.into_iter().map(topic).collect(),
            forgotten_topics_data: self.forgotten(asked),
            rack_id: self.rack.as_deref().unwrap_or_default().into(),
            ..Default::default()
        }
    }

    fn wanted(&self, topic: &str, number: i32) -> FetchPartition {
        FetchPartition {
            partition: number,
            fetch_offset: self.position(&partition(topic, number)).unwrap_or(0),
            partition_max_bytes: self.options.partition_max_bytes,
            ..Default::default()
        }
    }

    fn forgotten(&self, asked: &[Partition]) -> Vec<ForgottenTopic> {
        let Some(session) = self.session() else {
            return Vec::new();
        };
        let told = session.told.keys();
        let gone = by_topic(told.filter(|of| !asked.contains(of)));
        gone.into_iter()
            .map(|(topic, partitions)| ForgottenTopic {
                topic: topic.into(),
                topic_id: session.ids.get(topic).copied().unwrap_or_default(),
                partitions,
                ..Default::default()
            })
            .collect()
    }

    fn take_in(
        &mut self,
        line: &mut Line,
        answer: FetchResponse,
        asked: &[Partition],
        by_id: bool,
    ) -> Vec<Fetched> {
        let kept = self.sessions.remove(&self.at);
        if answer.session_id != 0 {
            let told = self.positions.iter().filter(|(of, _)| asked.contains(of));
            let session = Session {
                id: answer.session_id,
                epoch: kept.map_or(1, |kept| kept.epoch.checked_add(1).unwrap_or(1)),
                by_id,
                ids: asked
                    .iter()
                    .map(|of| (of.topic.clone(), line.id(&of.topic)))
                    .collect(),
                told: told.map(|(of, offset)| (of.clone(), *offset)).collect(),
            };
            self.sessions.insert(self.at.clone(), session);
        }
        let mut partitions = Vec::new();
        for topic in answer.responses {
            let Some(name) = line.name_of(&topic.topic, topic.topic_id) else {
                line.broken("P18", "Fetch is answered with a topic not asked for");
                continue;
            };
            for data in topic.partitions {
                let of = partition(&name, data.partition_index);
                partitions.extend(self.take_partition(line, of, data));
            }
        }
        partitions
    }

    fn take_partition(
        &mut self,
        line: &mut Line,
        of: Partition,
        data: PartitionData,
    ) -> Option<Fetched> {
        let Some(from) = self.position(&of) else {
            line.broken("P18", "Fetch is answered with a partition not asked for");
            return None;
        };
        if data.error_code == ErrorCode::UnknownTopicId.code() {
            line.forget_ids();
            self.forget_session();
        }
        if data.error_code == ErrorCode::UnsupportedCompressionType.code() {
            self.floor = self.floor.max(10);
        }
        let mut error = error_name(data.error_code);
        let is_near = self.nearer.contains_key(&of);
        if error.is_some() && self.nearer.remove(&of).is_some() {
            // Its copy may be behind; only the leader knows what there is.
            line.take_in(LEADER_NOT_AVAILABLE);
            error = Some(LEADER_NOT_AVAILABLE.to_owned());
        }
        if let Some(address) = line.address_of(data.preferred_read_replica) {
            self.nearer.insert(of.clone(), address);
        }
        line.take_in(error.as_deref().unwrap_or_default());
        let bytes = data.records.unwrap_or_default().contiguous();
        let decoded = decode(bytes, from);
        if let Some((property, detail)) = decoded.broken {
            let place = format!("{}-{}", of.topic, of.partition);
            line.broken_in(&of, property, format!("{place}: {detail}"));
            error = error.or_else(|| Some("CORRUPT_MESSAGE".to_owned()));
        }
        let last = decoded.records.last().map(|seen| seen.offset);
        if let Some(last) = last.filter(|last| is_near && *last >= data.high_watermark) {
            let (place, bound) = (
                format!("{}-{}", of.topic, of.partition),
                data.high_watermark,
            );
            let detail = format!("{place}: a copy gives offset {last}, and says {bound} is next");
            line.broken_in(&of, "R17", detail);
        }
        self.positions.insert(of.clone(), decoded.next);
        Some(Fetched {
            of,
            from,
            error,
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
            log_start_offset: data.log_start_offset,
            records: decoded.records,
        })
    }
}
