//! The classic protocol: a group's members and rebalances, as far as a failover may forget them.
//!
//! [`Live`] holds who is connected, who waits for what, and the timers. The generation, the
//! protocol and the assignments are in the record ([`GroupMetadata`]); whatever begins or completes
//! a generation goes there first. Outside a rebalance the live members are the recorded ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::ledger::Reply;
use super::record::GroupRecord;
use super::state::{Group, GroupMetadata, GroupState, RecordedMember};
use super::{GroupConfig, join, sync};
use crate::coordinator::{Moment, Outcome, ReplyTo};
use crate::types::{ErrorCode, Instant};
use crate::wire::Str;

/// How long a member that joined for the first time may wait for the generation to begin: it has
/// no member id to send heartbeats with, and its disconnection is not seen.
pub(super) const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Lengths and numbers of one member in a record.
pub(super) const RECORDED_MEMBER_BYTES: usize = 32;

/// What one step of a group may see and do.
pub(super) struct Turn<'a> {
    pub group_id: &'a Str,
    pub recorded: Option<&'a Group>,
    pub config: &'a GroupConfig,
    pub at: Moment,
    pub out: &'a mut Outcome<GroupRecord, Reply>,
}

impl<'a> Turn<'a> {
    pub fn metadata(&self) -> Option<&'a GroupMetadata> {
        self.recorded.and_then(|group| group.metadata.as_ref())
    }

    /// The recorded generation; 0 before the first.
    pub fn generation(&self) -> i32 {
        self.metadata().map_or(0, |metadata| metadata.generation)
    }

    pub fn protocol(&self) -> Option<&'a Str> {
        self.metadata()
            .and_then(|metadata| metadata.protocol.as_ref())
    }

    /// The record that makes `metadata` the group's; `None` when it is too large to be written.
    pub fn fitting(&self, metadata: GroupMetadata) -> Option<GroupRecord> {
        let record = GroupRecord::GroupMetadata {
            group: self.group_id.detached(),
            value: Some(metadata),
        };
        let bytes = record.value_bytes();
        if bytes <= self.config.record_bytes_max {
            return Some(record);
        }
        tracing::warn!(
            group = %self.group_id,
            bytes,
            bytes_max = self.config.record_bytes_max,
            "the group is too large to be recorded: fewer members or partitions would help"
        );
        None
    }
}

/// What a member waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
    Nothing,
    Join(ReplyTo),
    Sync(ReplyTo),
}

/// A member as known to this coordinator.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub group_instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Names with metadata, best liked first.
    pub protocols: Vec<(Str, Bytes)>,
    pub waiting: Waiting,
    /// Has never been told a generation.
    pub is_new: bool,
    /// Must ask for its assignment before the group's sync deadline.
    pub owes_sync: bool,
    /// When its session ends, unless it waits.
    pub session_deadline: Instant,
}

impl Member {
    pub fn session_timeout(&self) -> Duration {
        millis(self.session_timeout_ms)
    }

    pub fn renew_session(&mut self, now: Instant) {
        self.session_deadline = now.plus(self.session_timeout());
    }

    pub fn metadata_for(&self, protocol: &Str) -> Option<&Bytes> {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata)
    }

    /// The most bytes this member may take in a record without its assignment.
    pub fn record_bytes_max(&self, member_id: &Str) -> usize {
        let instance = self.group_instance_id.as_ref().map_or(0, |name| name.len());
        let names = member_id.len() + instance + self.client_id.len() + self.client_host.len();
        let metadata = self.protocols.iter().map(|(_, metadata)| metadata.len());
        RECORDED_MEMBER_BYTES + names + metadata.max().unwrap_or(0)
    }

    pub fn waits_for_join(&self) -> bool {
        matches!(self.waiting, Waiting::Join(_))
    }

    /// When the member is taken for dead. One that waits for us is alive, except that a new one
    /// may have gone without a trace.
    fn deadline(&self) -> Option<Instant> {
        match self.waiting {
            Waiting::Nothing if crate::mutant!("session-expiry-ignored") => None,
            Waiting::Nothing => Some(self.session_deadline),
            Waiting::Join(_) if self.is_new => Some(self.session_deadline),
            Waiting::Join(_) | Waiting::Sync(_) => None,
        }
    }
}

/// A span from a request's or record's milliseconds; negative is none.
pub(super) fn millis(span: i32) -> Duration {
    Duration::from_millis(u64::try_from(span).unwrap_or(0))
}

/// When joining ends at the latest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct JoinTimer {
    pub at: Instant,
    /// Set in the first rebalance of an empty group: how much longer the delay may grow.
    pub initial_left: Option<Duration>,
    /// Somebody joined since the delay last grew.
    pub has_new_member: bool,
}

/// The unrecorded part of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    pub state: GroupState,
    pub protocol_type: Option<Str>,
    pub members: BTreeMap<Str, Member>,
    /// The member that assigns, or will when the generation begins.
    pub leader: Option<Str>,
    /// Member id by group instance id.
    pub static_members: BTreeMap<Str, Str>,
    /// Member ids given out, not joined with yet, and when they lapse.
    pub pending: BTreeMap<Str, Instant>,
    pub join_timer: Option<JoinTimer>,
    pub sync_deadline: Option<Instant>,
}

impl Live {
    /// The live part of a group as its records leave it, every session starting afresh.
    pub fn from_record(metadata: &GroupMetadata, config: &GroupConfig, now: Instant) -> Self {
        let mut live = Self {
            state: GroupState::Stable,
            protocol_type: Some(metadata.protocol_type.clone()),
            leader: metadata.leader.clone(),
            ..Self::default()
        };
        for (member_id, recorded) in &metadata.members {
            let mut member = Member {
                group_instance_id: recorded.group_instance_id.clone(),
                client_id: recorded.client_id.clone(),
                client_host: recorded.client_host.clone(),
                rebalance_timeout_ms: recorded.rebalance_timeout_ms,
                session_timeout_ms: recorded.session_timeout_ms,
                protocols: vec![(
                    metadata.protocol.clone().unwrap_or_default(),
                    recorded.subscription.clone(),
                )],
                waiting: Waiting::Nothing,
                is_new: false,
                owes_sync: false,
                session_deadline: now,
            };
            member.renew_session(now);
            if let Some(instance) = &member.group_instance_id {
                live.static_members
                    .insert(instance.clone(), member_id.clone());
            }
            live.members.insert(member_id.clone(), member);
        }
        if live.leader.is_none() || live.members.len() > config.max_size {
            live.leader = live.members.keys().next().cloned();
            live.state = GroupState::PreparingRebalance;
            live.join_timer = Some(JoinTimer {
                at: now.plus(live.rebalance_timeout()),
                initial_left: None,
                has_new_member: false,
            });
        }
        live
    }

    pub fn is_idle(&self) -> bool {
        self.state == GroupState::Empty && self.members.is_empty() && self.pending.is_empty()
    }

    /// When `tick` is due next.
    pub fn deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter_map(Member::deadline);
        sessions
            .chain(self.pending.values().copied())
            .chain(self.join_timer.map(|timer| timer.at))
            .chain(self.sync_deadline)
            .min()
    }

    /// The longest any member may take to join again.
    pub fn rebalance_timeout(&self) -> Duration {
        let longest = self.members.values().map(|m| m.rebalance_timeout_ms).max();
        millis(longest.unwrap_or(0))
    }

    /// Protocols that every member knows.
    pub fn shared_protocols(&self) -> BTreeSet<&Str> {
        let mut members = self.members.values();
        let names = |member: &'_ Member| -> BTreeSet<Str> {
            member
                .protocols
                .iter()
                .map(|(name, _)| name.clone())
                .collect()
        };
        let Some(first) = members.next() else {
            return BTreeSet::new();
        };
        let mut shared: BTreeSet<&Str> = first.protocols.iter().map(|(name, _)| name).collect();
        for member in members {
            let known = names(member);
            shared.retain(|name| known.contains(*name));
        }
        shared
    }

    /// The protocol of the next generation: each member votes for the first of its list that all
    /// know; between equals the least name wins.
    pub fn select_protocol(&self) -> Option<Str> {
        let shared = self.shared_protocols();
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let liked = member.protocols.iter().map(|(name, _)| name);
            if let Some(name) = liked.into_iter().find(|name| shared.contains(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        let winner = votes.into_iter().find(|(_, count)| *count == most);
        winner.map(|(name, _)| name.clone())
    }

    /// Who a request speaks for, or why it is refused: unknown, or replaced by a newer holder of
    /// its instance id.
    pub fn validate_member(
        &self,
        member_id: &Str,
        group_instance_id: Option<&Str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = group_instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != member_id => {
                    tracing::trace!(target: "klamm::probe", name = "instance-fenced");
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Ends what a member waits for with `error`.
    pub fn answer_waiting(member: &mut Member, member_id: &Str, error: ErrorCode, turn: &mut Turn) {
        match std::mem::replace(&mut member.waiting, Waiting::Nothing) {
            Waiting::Nothing => {}
            Waiting::Join(to) => turn
                .out
                .reply(to, Reply::Join(join::refusal(member_id, error))),
            Waiting::Sync(to) => turn.out.reply(to, Reply::Sync(sync::refusal(error))),
        }
    }

    /// Takes a member out. The caller rebalances.
    pub fn remove(&mut self, member_id: &Str, turn: &mut Turn) {
        let Some(mut member) = self.members.remove(member_id) else {
            return;
        };
        Self::answer_waiting(&mut member, member_id, ErrorCode::UnknownMemberId, turn);
        if let Some(instance) = &member.group_instance_id
            && self.static_members.get(instance) == Some(member_id)
        {
            self.static_members.remove(instance);
        }
        if self.leader.as_ref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Members changed: the current generation, if any, ends.
    pub fn membership_changed(&mut self, turn: &mut Turn) {
        if self.state != GroupState::PreparingRebalance {
            self.prepare_rebalance(turn);
        }
    }

    fn prepare_rebalance(&mut self, turn: &mut Turn) {
        for (member_id, member) in &mut self.members {
            if matches!(member.waiting, Waiting::Sync(_)) {
                Self::answer_waiting(member, member_id, ErrorCode::RebalanceInProgress, turn);
                member.renew_session(turn.at.now);
            }
            member.owes_sync = false;
        }
        self.sync_deadline = None;
        let limit = self.rebalance_timeout();
        let delay = turn.config.initial_rebalance_delay;
        let (wait, initial_left) = match self.state {
            GroupState::Empty => (delay, Some(limit.saturating_sub(delay))),
            _ => (limit, None),
        };
        self.join_timer = Some(JoinTimer {
            at: turn.at.now.plus(wait),
            initial_left,
            has_new_member: false,
        });
        self.state = GroupState::PreparingRebalance;
    }

    /// Begins the next generation if everybody who is awaited has joined.
    pub fn settle(&mut self, turn: &mut Turn) {
        let delayed = self
            .join_timer
            .is_some_and(|timer| timer.initial_left.is_some());
        if self.state == GroupState::PreparingRebalance
            && !delayed
            && self.pending.is_empty()
            && self.members.values().all(Member::waits_for_join)
        {
            self.begin_generation(turn);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, turn: &mut Turn) {
        let now = turn.at.now;
        self.pending.retain(|_, lapses| *lapses > now);
        let is_overdue = |member: &Member| member.deadline().is_some_and(|due| due <= now);
        self.remove_where(turn, is_overdue);
        if self.sync_deadline.is_some_and(|due| due <= now) {
            self.sync_deadline = None;
            self.remove_where(turn, |member| member.owes_sync);
        }
        if let Some(timer) = &mut self.join_timer
            && timer.at <= now
        {
            match timer.initial_left {
                Some(left) if timer.has_new_member && !left.is_zero() => {
                    let more = left.min(turn.config.initial_rebalance_delay);
                    timer.at = now.plus(more);
                    timer.initial_left = Some(left.saturating_sub(more));
                    timer.has_new_member = false;
                }
                _ => self.begin_generation(turn),
            }
        }
        self.settle(turn);
    }

    fn remove_where(&mut self, turn: &mut Turn, is_gone: impl Fn(&Member) -> bool) {
        let gone: Vec<Str> = self
            .members
            .iter()
            .filter(|(_, member)| is_gone(member))
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in &gone {
            tracing::trace!(target: "klamm::probe", name = "member-expired");
            tracing::info!(group = %turn.group_id, member = %member_id, "member timed out");
            self.remove(member_id, turn);
        }
        if !gone.is_empty() {
            self.membership_changed(turn);
        }
    }

    /// Joining has ended: whoever joined is the next generation, with the static members whose
    /// sessions still run.
    fn begin_generation(&mut self, turn: &mut Turn) {
        let late: Vec<Str> = self
            .members
            .iter()
            .filter(|(_, member)| !member.waits_for_join() && member.group_instance_id.is_none())
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in &late {
            self.remove(member_id, turn);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            tracing::trace!(target: "klamm::probe", name = "static-members-awaited");
            // Only static members are left and none has joined: wait for them or their sessions.
            self.join_timer = Some(JoinTimer {
                at: turn.at.now.plus(self.rebalance_timeout()),
                initial_left: None,
                has_new_member: false,
            });
            return;
        }
        self.join_timer = None;
        if turn.generation() > 0 {
            tracing::trace!(target: "klamm::probe", name = "group-rebalanced");
        }
        let metadata = self.next_generation(turn);
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            self.leader = None;
        } else {
            self.state = GroupState::CompletingRebalance;
            self.sync_deadline = Some(turn.at.now.plus(self.rebalance_timeout()));
            self.answer_joins(&metadata, turn);
        }
        // It fits: joins that would make it too large are refused.
        turn.out.record(GroupRecord::GroupMetadata {
            group: turn.group_id.detached(),
            value: Some(metadata),
        });
    }

    /// Makes sure that the assigning member is one that has joined.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &Str| self.members.get(id).is_some_and(Member::waits_for_join);
        if !self.leader.as_ref().is_some_and(has_joined) {
            let joined = self.members.iter().find(|(_, m)| m.waits_for_join());
            match joined {
                Some((member_id, _)) => self.leader = Some(member_id.clone()),
                None => return false,
            }
        }
        true
    }

    fn next_generation(&self, turn: &Turn) -> GroupMetadata {
        let protocol = self.select_protocol();
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: turn.generation().checked_add(1).unwrap_or(1),
            leader: None,
            current_state_timestamp: turn.at.wall,
            members: self
                .members
                .iter()
                .map(|(id, member)| (id.clone(), recorded(member, protocol.as_ref())))
                .collect(),
            protocol,
        }
    }

    fn answer_joins(&mut self, metadata: &GroupMetadata, turn: &mut Turn) {
        let leader = self.leader.clone().unwrap_or_default();
        for (member_id, member) in &mut self.members {
            let Waiting::Join(to) = member.waiting else {
                continue;
            };
            member.waiting = Waiting::Nothing;
            member.is_new = false;
            member.owes_sync = true;
            member.renew_session(turn.at.now);
            let answer = join::accepted(metadata, &leader, member_id);
            turn.out.reply(to, Reply::Join(answer));
        }
    }
}

/// A member as it goes into the record of a generation that has no assignment yet.
pub(super) fn recorded(member: &Member, protocol: Option<&Str>) -> RecordedMember {
    let subscription = protocol.and_then(|name| member.metadata_for(name));
    RecordedMember {
        group_instance_id: member.group_instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        subscription: subscription.cloned().unwrap_or_default(),
        assignment: Bytes::new(),
    }
}
