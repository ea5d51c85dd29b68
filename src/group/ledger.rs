//! The group ledger: which group a request is about, and which part of the protocol answers it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::classic::{Live, Turn};
use super::join::{self, Join};
use super::record::GroupRecord;
use super::state::{Group, GroupState, detached_bytes};
use super::{GroupConfig, leave, sync};
use crate::coordinator::{KeyValue, Ledger, Moment, Outcome, ReplyTo};
use crate::types::{ErrorCode, Instant, Offset, Timestamp};
use crate::wire::Str;
use crate::wire::message::describe_groups::DescribedGroup;
use crate::wire::message::heartbeat::HeartbeatRequest;
use crate::wire::message::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::message::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use crate::wire::message::list_groups::{ListGroupsRequest, ListedGroup};
use crate::wire::message::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
use crate::wire::message::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::wire::message::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use crate::wire::message::sync_group::{SyncGroupRequest, SyncGroupResponse};

/// Longest name that goes into records: they have 16-bit signed lengths, and a member id is a name
/// and a uuid.
pub(super) const NAME_BYTES_MAX: usize = 32_000;

/// A request to the ledger that holds the group (or, for the last three, groups) it names.
#[derive(Clone, Debug)]
pub enum Request {
    Join {
        request: JoinGroupRequest,
        version: i16,
        client_id: Str,
        client_host: Str,
        /// What a new member's id is made of.
        random: [u8; 16],
    },
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave {
        request: LeaveGroupRequest,
        version: i16,
    },
    CommitOffsets(OffsetCommitRequest),
    FetchOffsets(OffsetFetchRequestGroup),
    DeleteOffsets(OffsetDeleteRequest),
    Describe {
        group_id: Str,
        version: i16,
    },
    Delete(Str),
    List(ListGroupsRequest),
    /// Topics are gone, and with them what was committed for them.
    TopicsDeleted(Vec<Str>),
    Snapshot,
}

/// The answer to the [`Request`] of the same name.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(ErrorCode),
    Leave(LeaveGroupResponse),
    CommitOffsets(OffsetCommitResponse),
    FetchOffsets(OffsetFetchResponseGroup),
    DeleteOffsets(OffsetDeleteResponse),
    Describe(DescribedGroup),
    Delete(ErrorCode),
    List(Vec<ListedGroup>),
    TopicsDeleted,
    Snapshot(Vec<GroupSnapshot>),
}

/// A group as metrics show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSnapshot {
    pub group_id: Str,
    pub state: GroupState,
    pub protocol_type: Str,
    pub generation: i32,
    pub members: usize,
    /// Topic, partition, committed offset; ascending.
    pub offsets: Vec<(Str, i32, Offset)>,
}

/// What a failover may forget of the groups of one partition.
#[derive(Debug, Default)]
pub struct GroupSoft {
    pub(super) live: BTreeMap<Str, Live>,
    /// Alarms by time. A group's alarm may be early, never late.
    alarms: BTreeSet<(Instant, Str)>,
    alarm_of: BTreeMap<Str, Instant>,
    /// When offsets are next looked through for expired ones.
    pub(super) next_expiry: Option<Instant>,
}

impl GroupSoft {
    fn set_alarm(&mut self, group_id: &Str, at: Option<Instant>) {
        if let Some(old) = self.alarm_of.remove(group_id) {
            self.alarms.remove(&(old, group_id.clone()));
        }
        if let Some(at) = at {
            self.alarms.insert((at, group_id.clone()));
            self.alarm_of.insert(group_id.clone(), at);
        }
    }
}

/// The groups of one partition of the internal topic.
#[derive(Debug)]
pub struct GroupLedger {
    pub(super) config: GroupConfig,
    pub(super) groups: BTreeMap<Str, Group>,
}

type Out = Outcome<GroupRecord, Reply>;

impl GroupLedger {
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
        }
    }

    /// The recorded groups.
    #[must_use]
    pub fn groups(&self) -> &BTreeMap<Str, Group> {
        &self.groups
    }

    /// The state of a group.
    #[must_use]
    pub fn state(&self, soft: &GroupSoft, group_id: &Str) -> GroupState {
        match soft.live.get(group_id) {
            Some(live) => live.state,
            None if self.groups.contains_key(group_id) => GroupState::Empty,
            None => GroupState::Dead,
        }
    }

    /// Lets a group's live part take a step, then begins the next generation if that is due.
    fn step<T>(
        &self,
        soft: &mut GroupSoft,
        at: Moment,
        group_id: &Str,
        out: &mut Out,
        step: impl FnOnce(&mut Live, &mut Turn) -> T,
    ) -> T {
        if !soft.live.contains_key(group_id) {
            soft.live.insert(group_id.detached(), Live::default());
        }
        let mut turn = Turn {
            group_id,
            recorded: self.groups.get(group_id),
            config: &self.config,
            at,
            out,
        };
        let live = soft
            .live
            .get_mut(group_id)
            .expect("it is there or was just put there");
        let result = step(live, &mut turn);
        live.settle(&mut turn);
        let deadline = live.deadline();
        if live.is_idle() {
            soft.live.remove(group_id);
        }
        soft.set_alarm(&group_id.detached(), deadline);
        result
    }

    fn join(&self, soft: &mut GroupSoft, at: Moment, from: ReplyTo, out: &mut Out, join: Joining) {
        match self.check_join(soft, &join) {
            Err(error) => {
                let answer = join::refusal(&join.request.member_id, error);
                out.reply(from, Reply::Join(answer));
            }
            Ok(()) => {
                let group_id = join.request.group_id.detached();
                let join = join.into_join();
                self.step(soft, at, &group_id, out, |live, turn| {
                    live.join(turn, from, join);
                });
            }
        }
    }

    fn check_join(&self, soft: &GroupSoft, join: &Joining) -> Result<(), ErrorCode> {
        let request = &join.request;
        if request.group_id.is_empty() || request.group_id.len() > NAME_BYTES_MAX {
            return Err(ErrorCode::InvalidGroupId);
        }
        if !join::is_session_timeout_allowed(&self.config, request.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        let names = [
            request.group_instance_id.as_ref(),
            Some(&request.protocol_type),
            Some(&join.client_id),
            Some(&join.client_host),
        ];
        let protocols = request.protocols.iter().map(|protocol| &protocol.name);
        let mut all = names.into_iter().flatten().chain(protocols);
        if all.any(|name| name.len() > NAME_BYTES_MAX) {
            return Err(ErrorCode::InvalidRequest);
        }
        let is_known = self.state(soft, &request.group_id) != GroupState::Dead;
        if !request.member_id.is_empty() && !is_known {
            return Err(ErrorCode::UnknownMemberId);
        }
        Ok(())
    }

    fn sync(
        &self,
        soft: &mut GroupSoft,
        at: Moment,
        from: ReplyTo,
        out: &mut Out,
        request: SyncGroupRequest,
    ) {
        if let Some(error) = refused_group(soft, &request.group_id) {
            return out.reply(from, Reply::Sync(sync::refusal(error)));
        }
        let group_id = request.group_id.clone();
        self.step(soft, at, &group_id, out, |live, turn| {
            live.sync(turn, from, request);
        });
    }

    fn heartbeat(
        &self,
        soft: &mut GroupSoft,
        at: Moment,
        from: ReplyTo,
        out: &mut Out,
        request: &HeartbeatRequest,
    ) {
        // A heartbeat only moves deadlines later, so the group's alarm may stay as it is.
        let error = match refused_group(soft, &request.group_id) {
            Some(error) => error,
            None => {
                let turn = Turn {
                    group_id: &request.group_id,
                    recorded: self.groups.get(&request.group_id),
                    config: &self.config,
                    at,
                    out,
                };
                let live = soft.live.get_mut(&request.group_id);
                live.map_or(ErrorCode::UnknownMemberId, |live| {
                    live.heartbeat(&turn, request)
                })
            }
        };
        out.reply(from, Reply::Heartbeat(error));
    }

    fn leave(
        &self,
        soft: &mut GroupSoft,
        at: Moment,
        from: ReplyTo,
        out: &mut Out,
        (request, version): (LeaveGroupRequest, i16),
    ) {
        let mut answer = LeaveGroupResponse::default();
        let identities = match version {
            3.. => request.members,
            _ => vec![MemberIdentity {
                member_id: request.member_id,
                ..MemberIdentity::default()
            }],
        };
        let results = match refused_group(soft, &request.group_id) {
            Some(ErrorCode::UnknownMemberId) => {
                let unknown = Err(ErrorCode::UnknownMemberId);
                identities
                    .iter()
                    .map(|member| leave::answer(member, unknown))
                    .collect()
            }
            Some(error) => {
                answer.error_code = error.code();
                return out.reply(from, Reply::Leave(answer));
            }
            None => self.step(soft, at, &request.group_id, out, |live, turn| {
                live.leave(turn, &identities)
            }),
        };
        match version {
            3.. => answer.members = results,
            _ => answer.error_code = results.first().map_or(0, |result| result.error_code),
        }
        out.reply(from, Reply::Leave(answer));
    }
}

/// Why a request that speaks for a member cannot be about this group: it has none.
fn refused_group(soft: &GroupSoft, group_id: &Str) -> Option<ErrorCode> {
    match soft.live.contains_key(group_id) {
        _ if group_id.is_empty() => Some(ErrorCode::InvalidGroupId),
        true => None,
        false => Some(ErrorCode::UnknownMemberId),
    }
}

/// A JoinGroup request with what the connection adds to it.
struct Joining {
    request: JoinGroupRequest,
    version: i16,
    client_id: Str,
    client_host: Str,
    random: [u8; 16],
}

impl Joining {
    fn into_join(self) -> Join {
        let request = self.request;
        let prefix = request
            .group_instance_id
            .as_ref()
            .unwrap_or(&self.client_id);
        let new_member_id = Str::from(format!("{prefix}-{}", uuid_text(self.random)));
        let rebalance_timeout_ms = match request.rebalance_timeout_ms {
            given @ 0.. if self.version >= 1 => given,
            _ => request.session_timeout_ms,
        };
        let protocols = request.protocols.iter();
        Join {
            version: self.version,
            new_member_id,
            member_id: request.member_id.detached(),
            group_instance_id: request.group_instance_id.as_ref().map(Str::detached),
            client_id: self.client_id.detached(),
            client_host: self.client_host.detached(),
            protocol_type: request.protocol_type.detached(),
            protocols: protocols
                .map(|protocol| (protocol.name.detached(), detached_bytes(&protocol.metadata)))
                .collect(),
            rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
        }
    }
}

/// Random bytes as the usual text of a version 4 uuid (RFC 9562).
fn uuid_text(random: [u8; 16]) -> String {
    let mut bits = u128::from_be_bytes(random);
    bits = bits & !(0xf << 76) | (0x4 << 76);
    bits = bits & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

impl Ledger for GroupLedger {
    type Request = Request;
    type Reply = Reply;
    type Record = GroupRecord;
    type Soft = GroupSoft;

    fn blank(&self) -> Self {
        Self::new(self.config.clone())
    }

    fn encode(record: &GroupRecord, wall: Timestamp) -> KeyValue {
        record.encode(wall)
    }

    fn decode(key: Option<Bytes>, value: Option<Bytes>) -> Option<GroupRecord> {
        let Some(key) = key else {
            tracing::warn!("skipped a record without a key");
            return None;
        };
        match GroupRecord::decode(&key, value.as_ref()) {
            Ok(Some(record)) => Some(record),
            Ok(None) => {
                let kind = key
                    .first_chunk()
                    .map_or(-1, |head| i16::from_be_bytes(*head));
                tracing::warn!(kind, "skipped a record of an unknown type");
                None
            }
            Err(error) => {
                tracing::error!(%error, "skipped a record that cannot be read");
                None
            }
        }
    }

    fn handle(&self, soft: &mut GroupSoft, at: Moment, from: ReplyTo, request: Request) -> Out {
        let mut out = Out::default();
        match request {
            Request::Join {
                request,
                version,
                client_id,
                client_host,
                random,
            } => {
                let joining = Joining {
                    request,
                    version,
                    client_id,
                    client_host,
                    random,
                };
                self.join(soft, at, from, &mut out, joining);
            }
            Request::Sync(request) => self.sync(soft, at, from, &mut out, request),
            Request::Heartbeat(request) => self.heartbeat(soft, at, from, &mut out, &request),
            Request::Leave { request, version } => {
                self.leave(soft, at, from, &mut out, (request, version));
            }
            Request::CommitOffsets(request) => {
                let answer = self.commit_offsets(soft, at, &mut out, &request);
                out.reply(from, Reply::CommitOffsets(answer));
            }
            Request::FetchOffsets(request) => {
                out.reply(from, Reply::FetchOffsets(self.fetch_offsets(&request)));
            }
            Request::DeleteOffsets(request) => {
                let answer = self.delete_offsets(soft, &mut out, &request);
                out.reply(from, Reply::DeleteOffsets(answer));
            }
            Request::Describe { group_id, version } => {
                let answer = self.describe(soft, &group_id, version);
                out.reply(from, Reply::Describe(answer));
            }
            Request::Delete(group_id) => {
                let error = self.delete(soft, &mut out, &group_id);
                out.reply(from, Reply::Delete(error));
            }
            Request::List(request) => {
                out.reply(from, Reply::List(self.list(soft, &request)));
            }
            Request::TopicsDeleted(topics) => {
                self.topics_deleted(&mut out, &topics);
                out.reply(from, Reply::TopicsDeleted);
            }
            Request::Snapshot => out.reply(from, Reply::Snapshot(self.snapshot(soft))),
        }
        out
    }

    fn replay(&mut self, soft: &mut GroupSoft, _: Offset, _: Timestamp, record: GroupRecord) {
        let is_loading = soft.next_expiry.is_none();
        let group_id = match record {
            GroupRecord::OffsetCommit {
                group,
                topic,
                partition,
                value: Some(value),
            } => {
                let offsets = &mut self.groups.entry(group).or_default().offsets;
                let offsets = offsets.entry(topic).or_default();
                if is_loading && crate::mutant!("commits-replayed-in-wrong-order") {
                    offsets.entry(partition).or_insert(value);
                    return;
                }
                offsets.insert(partition, value);
                return;
            }
            GroupRecord::GroupMetadata {
                group,
                value: Some(mut value),
            } => {
                if is_loading && crate::mutant!("generation-restarts") {
                    value.generation = 0;
                }
                self.groups.entry(group).or_default().metadata = Some(value);
                return;
            }
            GroupRecord::OffsetCommit {
                group,
                topic,
                partition,
                value: None,
            } => {
                if let Some(recorded) = self.groups.get_mut(&group)
                    && let Some(partitions) = recorded.offsets.get_mut(&topic)
                {
                    partitions.remove(&partition);
                    if partitions.is_empty() {
                        recorded.offsets.remove(&topic);
                    }
                }
                group
            }
            GroupRecord::GroupMetadata { group, value: None } => {
                if let Some(recorded) = self.groups.get_mut(&group) {
                    recorded.metadata = None;
                }
                group
            }
        };
        if self
            .groups
            .get(&group_id)
            .is_some_and(|group| !group.exists())
        {
            self.groups.remove(&group_id);
        }
    }

    fn loaded(&self, soft: &mut GroupSoft, at: Moment) {
        for (group_id, group) in &self.groups {
            let Some(metadata) = &group.metadata else {
                continue;
            };
            if !metadata.members.is_empty() {
                let live = Live::from_record(metadata, &self.config, at.now);
                soft.set_alarm(group_id, live.deadline());
                soft.live.insert(group_id.clone(), live);
            }
        }
        soft.next_expiry = Some(at.now.plus(self.config.offsets_retention_check_interval));
    }

    fn deadline(&self, soft: &GroupSoft) -> Option<Instant> {
        let alarm = soft.alarms.first().map(|(at, _)| *at);
        alarm.into_iter().chain(soft.next_expiry).min()
    }

    fn tick(&self, soft: &mut GroupSoft, at: Moment) -> Out {
        let mut out = Out::default();
        while let Some((_, group_id)) = soft.alarms.pop_first_if(at.now) {
            soft.alarm_of.remove(&group_id);
            if soft.live.contains_key(&group_id) {
                self.step(soft, at, &group_id, &mut out, Live::tick);
            }
        }
        if soft.next_expiry.is_some_and(|due| due <= at.now) {
            soft.next_expiry = Some(at.now.plus(self.config.offsets_retention_check_interval));
            self.expire_offsets(soft, at, &mut out);
        }
        out
    }
}

/// Taking what is due from a set ordered by time.
trait PopDue {
    fn pop_first_if(&mut self, now: Instant) -> Option<(Instant, Str)>;
}

impl PopDue for BTreeSet<(Instant, Str)> {
    fn pop_first_if(&mut self, now: Instant) -> Option<(Instant, Str)> {
        match self.first() {
            Some((due, _)) if *due <= now => self.pop_first(),
            _ => None,
        }
    }
}
