//! A group ledger in its shard over a log in memory, driven by hand.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::coordinator::{Effect, KeyValue, LoadedBatch, LoadedRecord, Moment, ReplyTo, Shard};
use crate::types::{ErrorCode, Instant, Offset, Timestamp};
use crate::wire::message::consumer_protocol::ConsumerProtocolSubscription;
use crate::wire::message::heartbeat::HeartbeatRequest;
use crate::wire::message::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use crate::wire::message::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use crate::wire::message::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::wire::message::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::wire::message::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use crate::wire::{Str, Version, Wire, Writer};

pub const GROUP: &str = "g";
pub const SESSION_MS: i32 = 10_000;
pub const REBALANCE_MS: i32 = 60_000;

/// The metadata of a consumer that subscribes to `topics`.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut to = Writer::default();
    to.i16(1);
    let body = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| Str::from(*topic)).collect(),
        ..ConsumerProtocolSubscription::default()
    };
    let version = Version {
        number: 1,
        flexible: false,
    };
    body.write(&mut to, version);
    to.finish_contiguous().expect("a small value")
}

pub fn join_request(member_id: &Str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        member_id: member_id.clone(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range", subscription(&["t"]))],
        ..JoinGroupRequest::default()
    }
}

pub fn static_join(instance: &str, member_id: &Str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_instance_id: Some(instance.into()),
        ..join_request(member_id)
    }
}

pub fn protocol(name: &str, metadata: Bytes) -> JoinGroupRequestProtocol {
    JoinGroupRequestProtocol {
        name: name.into(),
        metadata,
        ..JoinGroupRequestProtocol::default()
    }
}

pub fn nobody() -> Str {
    Str::default()
}

/// The shard, its log, its clients' answers and the time.
pub struct Bench {
    pub shard: Shard<GroupLedger>,
    pub log: Vec<KeyValue>,
    pub at: Moment,
    /// Appends are acknowledged at once unless this is off.
    pub is_prompt: bool,
    /// Base offsets of appends that are not acknowledged.
    pub unacknowledged: VecDeque<Offset>,
    answers: BTreeMap<ReplyTo, Result<Reply, ErrorCode>>,
    next_reply: u64,
    /// Records read at once while loading.
    read_max: usize,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(GroupConfig::default())
    }

    /// No delay before the first generation: the tests that do not look at it.
    pub fn undelayed() -> Self {
        Self::with(GroupConfig {
            initial_rebalance_delay: Duration::ZERO,
            ..GroupConfig::default()
        })
    }

    pub fn with(config: GroupConfig) -> Self {
        let mut effects = Vec::new();
        let mut bench = Self {
            shard: Shard::load(GroupLedger::new(config), &mut effects),
            log: Vec::new(),
            at: Moment {
                now: Instant(1_000_000_000),
                wall: Timestamp(1_700_000_000_000),
            },
            is_prompt: true,
            unacknowledged: VecDeque::new(),
            answers: BTreeMap::new(),
            next_reply: 0,
            read_max: 3,
        };
        bench.run(effects);
        bench
    }

    fn run(&mut self, effects: Vec<Effect<Reply>>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            let mut more = Vec::new();
            match effect {
                Effect::Read(from) => {
                    let batch = self.read(from);
                    self.shard.read(self.at, Ok(batch), &mut more);
                }
                Effect::Append(mut records) => {
                    let base = Offset(i64::try_from(self.log.len()).expect("a small log"));
                    self.log.append(&mut records);
                    self.unacknowledged.push_back(base);
                }
                Effect::Reply(to, answer) => {
                    let before = self.answers.insert(to, answer);
                    assert!(before.is_none(), "two answers to one request");
                }
            }
            effects.extend(more);
            if self.is_prompt && effects.is_empty() {
                while let Some(base) = self.unacknowledged.pop_front() {
                    let mut more = Vec::new();
                    self.shard.appended(Ok(base), &mut more);
                    effects.extend(more);
                }
            }
        }
    }

    fn read(&self, from: Offset) -> LoadedBatch {
        let start = usize::try_from(from.0).expect("offsets begin at 0");
        let end = (start + self.read_max).min(self.log.len());
        let record = |(at, record): (usize, &KeyValue)| LoadedRecord {
            offset: Offset(i64::try_from(start + at).expect("a small log")),
            timestamp: record.timestamp,
            key: Some(record.key.clone()),
            value: record.value.clone(),
        };
        LoadedBatch {
            records: self.log[start..end]
                .iter()
                .enumerate()
                .map(record)
                .collect(),
            next: Offset(i64::try_from(end).expect("a small log")),
            end: end == self.log.len(),
        }
    }

    /// The oldest append ends so.
    pub fn acknowledge(&mut self, result: Result<(), ErrorCode>) {
        let base = self.unacknowledged.pop_front().expect("an append waits");
        let mut effects = Vec::new();
        self.shard.appended(result.map(|()| base), &mut effects);
        self.run(effects);
    }

    /// The coordinator dies, or moves, after the log kept `kept` records: another replays them.
    pub fn fail_over(&mut self, kept: usize) {
        let mut effects = Vec::new();
        self.shard.resign(&mut effects);
        self.run(effects);
        self.log.truncate(kept);
        self.unacknowledged.clear();
        let mut effects = Vec::new();
        self.shard = Shard::load(self.blank(), &mut effects);
        self.run(effects);
    }

    fn blank(&self) -> GroupLedger {
        use crate::coordinator::Ledger as _;
        self.shard.ledger().blank()
    }

    pub fn ask(&mut self, request: Request) -> ReplyTo {
        let from = ReplyTo(self.next_reply);
        self.next_reply += 1;
        let mut effects = Vec::new();
        self.shard.request(self.at, from, request, &mut effects);
        self.run(effects);
        from
    }

    pub fn answer(&self, to: ReplyTo) -> Option<&Result<Reply, ErrorCode>> {
        self.answers.get(&to)
    }

    fn ask_now(&mut self, request: Request) -> Reply {
        let to = self.ask(request);
        let answer = self.answer(to).expect("an answer at once").clone();
        answer.expect("the shard serves")
    }

    pub fn advance(&mut self, span: Duration) {
        let end = self.at.now.plus(span);
        let wall = self.at.wall.0 + i64::try_from(span.as_millis()).expect("a short span");
        while let Some(due) = self.shard.deadline().filter(|due| *due <= end) {
            let before = self.at;
            self.at.now = due.max(before.now);
            let passed = self.at.now.since(before.now).as_millis();
            self.at.wall.0 += i64::try_from(passed).expect("a short span");
            let mut effects = Vec::new();
            self.shard.tick(self.at, &mut effects);
            self.run(effects);
        }
        self.at.now = end;
        self.at.wall = Timestamp(wall);
    }

    pub fn seconds(&mut self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }

    pub fn join_as(&mut self, request: JoinGroupRequest, version: i16) -> ReplyTo {
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.next_reply.to_be_bytes());
        self.ask(Request::Join {
            request,
            version,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            random,
        })
    }

    pub fn join(&mut self, member_id: &Str) -> ReplyTo {
        self.join_as(join_request(member_id), 5)
    }

    /// The answer to a join, if there is one.
    pub fn joined(&self, to: ReplyTo) -> Option<JoinGroupResponse> {
        match self.answer(to)? {
            Ok(Reply::Join(answer)) => Some(answer.clone()),
            other => panic!("not a join: {other:?}"),
        }
    }

    /// A member id for a dynamic member, as version 4 gives them out.
    pub fn member_id(&mut self) -> Str {
        let to = self.join(&nobody());
        let answer = self.joined(to).expect("an answer at once");
        assert_eq!(answer.error_code, ErrorCode::MemberIdRequired.code());
        answer.member_id
    }

    pub fn sync(&mut self, generation: i32, member_id: &Str, plan: &[(&Str, &str)]) -> ReplyTo {
        let assignment = |(member, assignment): &(&Str, &str)| SyncGroupRequestAssignment {
            member_id: (*member).clone(),
            assignment: Bytes::copy_from_slice(assignment.as_bytes()),
            ..SyncGroupRequestAssignment::default()
        };
        self.ask(Request::Sync(SyncGroupRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: member_id.clone(),
            assignments: plan.iter().map(assignment).collect(),
            ..SyncGroupRequest::default()
        }))
    }

    pub fn synced(&self, to: ReplyTo) -> Option<SyncGroupResponse> {
        match self.answer(to)? {
            Ok(Reply::Sync(answer)) => Some(answer.clone()),
            other => panic!("not a sync: {other:?}"),
        }
    }

    pub fn heartbeat(&mut self, generation: i32, member_id: &Str) -> ErrorCode {
        self.heartbeat_as(generation, member_id, None)
    }

    pub fn heartbeat_as(
        &mut self,
        generation: i32,
        member_id: &Str,
        instance: Option<&str>,
    ) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: GROUP.into(),
            generation_id: generation,
            member_id: member_id.clone(),
            group_instance_id: instance.map(Str::from),
            ..HeartbeatRequest::default()
        };
        match self.ask_now(Request::Heartbeat(request)) {
            Reply::Heartbeat(error) => error,
            other => panic!("not a heartbeat: {other:?}"),
        }
    }

    pub fn leave(&mut self, members: &[(&Str, Option<&str>)]) -> LeaveGroupResponse {
        let identity = |(member_id, instance): &(&Str, Option<&str>)| MemberIdentity {
            member_id: (*member_id).clone(),
            group_instance_id: instance.map(Str::from),
            ..MemberIdentity::default()
        };
        let request = LeaveGroupRequest {
            group_id: GROUP.into(),
            members: members.iter().map(identity).collect(),
            ..LeaveGroupRequest::default()
        };
        match self.ask_now(Request::Leave {
            request,
            version: 3,
        }) {
            Reply::Leave(answer) => answer,
            other => panic!("not a leave: {other:?}"),
        }
    }

    pub fn commit_request(generation: i32, member_id: &Str, offset: i64) -> OffsetCommitRequest {
        OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: generation,
            member_id: member_id.clone(),
            topics: vec![OffsetCommitRequestTopic {
                name: "t".into(),
                partitions: vec![OffsetCommitRequestPartition {
                    committed_offset: offset,
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        }
    }

    pub fn commit(&mut self, generation: i32, member_id: &Str, offset: i64) -> ErrorCode {
        self.commit_with(Self::commit_request(generation, member_id, offset))
    }

    pub fn commit_with(&mut self, request: OffsetCommitRequest) -> ErrorCode {
        match self.ask_now(Request::CommitOffsets(request)) {
            Reply::CommitOffsets(answer) => {
                let code = answer.topics[0].partitions[0].error_code;
                ErrorCode::from_wire(code).expect("a known code")
            }
            other => panic!("not a commit: {other:?}"),
        }
    }

    /// The offset committed for partition 0 of `t`; -1 when there is none.
    pub fn committed(&mut self) -> i64 {
        let request = OffsetFetchRequestGroup {
            group_id: GROUP.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
                ..OffsetFetchRequestTopics::default()
            }]),
            ..OffsetFetchRequestGroup::default()
        };
        match self.ask_now(Request::FetchOffsets(request)) {
            Reply::FetchOffsets(answer) => answer.topics[0].partitions[0].committed_offset,
            other => panic!("not a fetch: {other:?}"),
        }
    }

    pub fn state(&self) -> GroupState {
        let ledger = self.shard.ledger();
        ledger.state(self.shard.soft(), &GROUP.into())
    }

    pub fn metadata(&self) -> GroupMetadata {
        let group = &self.shard.ledger().groups()[&Str::from(GROUP)];
        group.metadata.clone().expect("a recorded generation")
    }

    pub fn describe(&mut self, version: i16) -> super::ledger::Reply {
        self.ask_now(Request::Describe {
            group_id: GROUP.into(),
            version,
        })
    }

    pub fn reply_to(&mut self, request: Request) -> Reply {
        self.ask_now(request)
    }

    /// A stable group of `count` dynamic members; the first assigns. Returns their ids and the
    /// generation.
    pub fn stable(&mut self, count: usize) -> (Vec<Str>, i32) {
        let ids: Vec<Str> = (0..count).map(|_| self.member_id()).collect();
        let joins: Vec<ReplyTo> = ids.iter().map(|id| self.join(id)).collect();
        self.seconds(7);
        let answer = self.joined(joins[0]).expect("the delay is over");
        assert_eq!(answer.error_code, 0);
        let leader = answer.leader.clone();
        let plan: Vec<(&Str, &str)> = ids.iter().map(|id| (id, "share")).collect();
        for id in &ids {
            let own: &[_] = if *id == leader { &plan } else { &[] };
            self.sync(answer.generation_id, id, own);
        }
        assert_eq!(self.state(), GroupState::Stable);
        (ids, answer.generation_id)
    }
}
