//! JoinGroup: who may become a member, under which id, and whether that ends the generation.

use std::time::Duration;

use bytes::Bytes;

use super::classic::{Live, Member, NEW_MEMBER_JOIN_TIMEOUT, RECORDED_MEMBER_BYTES, Turn, Waiting};
use super::ledger::Reply;
use super::state::{GroupMetadata, GroupState};
use super::subscription;
use crate::coordinator::ReplyTo;
use crate::types::ErrorCode;
use crate::wire::Str;
use crate::wire::message::join_group::{JoinGroupResponse, JoinGroupResponseMember};

/// First version that makes a member learn its id before it joins (KIP-394).
const TWO_STEP_VERSION: i16 = 4;

/// First version whose clients understand `skip_assignment` (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

/// Most ids given out at once that nobody joined with yet.
const PENDING_MAX: usize = 10_000;

/// A JoinGroup request whose texts are bounded and detached from its frame.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub version: i16,
    /// The id this member gets if it has none.
    pub new_member_id: Str,
    pub member_id: Str,
    pub group_instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub protocol_type: Str,
    pub protocols: Vec<(Str, Bytes)>,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
}

impl Join {
    /// The most bytes this member, and what the group has but once, may take in a record.
    fn record_bytes_max(&self) -> usize {
        let instance = self.group_instance_id.as_ref().map_or(0, |name| name.len());
        let member_id = self.new_member_id.len().max(self.member_id.len());
        let client = self.client_id.len() + self.client_host.len();
        let metadata = self.protocols.iter().map(|(_, metadata)| metadata.len());
        let protocol = self.protocols.iter().map(|(name, _)| name.len());
        let member = RECORDED_MEMBER_BYTES + member_id + instance + client;
        let group = RECORDED_MEMBER_BYTES + member_id + self.protocol_type.len();
        member + metadata.max().unwrap_or(0) + group + protocol.max().unwrap_or(0)
    }

    fn is_repeat_of(&self, member: &Member) -> bool {
        member.protocols == self.protocols
    }
}

/// The answer that refuses a join.
pub(super) fn refusal(member_id: &Str, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: error.code(),
        protocol_name: None,
        member_id: member_id.clone(),
        ..JoinGroupResponse::default()
    }
}

/// The answer that tells a member its generation; the assigning member also gets all members.
pub(super) fn accepted(
    metadata: &GroupMetadata,
    leader: &Str,
    member_id: &Str,
) -> JoinGroupResponse {
    let members = match leader == member_id {
        true => members(metadata),
        false => Vec::new(),
    };
    JoinGroupResponse {
        generation_id: metadata.generation,
        protocol_type: Some(metadata.protocol_type.clone()),
        protocol_name: metadata.protocol.clone(),
        leader: leader.clone(),
        member_id: member_id.clone(),
        members,
        ..JoinGroupResponse::default()
    }
}

fn members(metadata: &GroupMetadata) -> Vec<JoinGroupResponseMember> {
    let shown = |(member_id, member): (&Str, &super::RecordedMember)| JoinGroupResponseMember {
        member_id: member_id.clone(),
        group_instance_id: member.group_instance_id.clone(),
        metadata: member.subscription.clone(),
        ..JoinGroupResponseMember::default()
    };
    metadata.members.iter().map(shown).collect()
}

impl Live {
    pub(super) fn join(&mut self, turn: &mut Turn, from: ReplyTo, join: Join) {
        let refused = match self.admit(turn, &join) {
            Ok(()) if join.member_id.is_empty() => self.join_new(turn, from, join),
            Ok(()) => self.join_known(turn, from, join),
            Err(error) => Err((join.member_id, error)),
        };
        if let Err((member_id, error)) = refused {
            turn.out
                .reply(from, Reply::Join(refusal(&member_id, error)));
        }
    }

    /// Refuses whom the group has no room for or who speaks none of its protocols.
    fn admit(&mut self, turn: &mut Turn, join: &Join) -> Result<(), ErrorCode> {
        let known = self.members.get(&join.member_id);
        let has_room = match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                known.is_some_and(Member::waits_for_join)
                    || self.members.values().filter(|m| m.waits_for_join()).count()
                        < turn.config.max_size
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                known.is_some() || self.members.len() < turn.config.max_size
            }
        };
        if !has_room {
            self.remove(&join.member_id.clone(), turn);
            self.pending.remove(&join.member_id);
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if !self.supports(join) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let others = self.members.iter().filter(|(id, _)| **id != join.member_id);
        let bytes: usize = others.map(|(id, member)| member.record_bytes_max(id)).sum();
        match bytes + join.record_bytes_max() > turn.config.record_bytes_max {
            true => Err(ErrorCode::GroupMaxSizeReached),
            false => Ok(()),
        }
    }

    fn supports(&self, join: &Join) -> bool {
        if self.members.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let shared = self.shared_protocols();
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| shared.contains(name))
    }

    fn join_new(
        &mut self,
        turn: &mut Turn,
        from: ReplyTo,
        join: Join,
    ) -> Result<(), (Str, ErrorCode)> {
        let member_id = join.new_member_id.clone();
        let holder = join
            .group_instance_id
            .as_ref()
            .and_then(|instance| self.static_members.get(instance).cloned());
        if let Some(old_member_id) = holder {
            self.replace_static(turn, from, &old_member_id, join);
            return Ok(());
        }
        if join.group_instance_id.is_none() && join.version >= TWO_STEP_VERSION {
            if self.pending.len() >= PENDING_MAX {
                return Err((join.member_id, ErrorCode::GroupMaxSizeReached));
            }
            let lapses = turn
                .at
                .now
                .plus(super::classic::millis(join.session_timeout_ms));
            self.pending.insert(member_id.clone(), lapses);
            return Err((member_id, ErrorCode::MemberIdRequired));
        }
        self.add(turn, from, member_id, join);
        Ok(())
    }

    fn join_known(
        &mut self,
        turn: &mut Turn,
        from: ReplyTo,
        join: Join,
    ) -> Result<(), (Str, ErrorCode)> {
        let member_id = join.member_id.clone();
        if join.group_instance_id.is_none() && self.pending.remove(&member_id).is_some() {
            self.add(turn, from, member_id, join);
            return Ok(());
        }
        self.validate_member(&member_id, join.group_instance_id.as_ref())
            .map_err(|error| (member_id.clone(), error))?;
        let is_repeat = self
            .members
            .get(&member_id)
            .is_some_and(|member| join.is_repeat_of(member));
        let is_leader = self.leader.as_ref() == Some(&member_id);
        let stays = match self.state {
            GroupState::CompletingRebalance => is_repeat,
            GroupState::Stable => is_repeat && !is_leader,
            _ => false,
        };
        match turn.metadata() {
            // The answer was lost, or a member asks for its present generation: tell it again.
            Some(metadata) if stays => {
                tracing::trace!(target: "klamm::probe", name = "join-answered-again");
                let leader = self.leader.clone().unwrap_or_default();
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.renew_session(turn.at.now);
                }
                let answer = accepted(metadata, &leader, &member_id);
                turn.out.reply(from, Reply::Join(answer));
            }
            _ => {
                self.update(turn, from, &member_id, join);
                self.membership_changed(turn);
            }
        }
        Ok(())
    }

    fn add(&mut self, turn: &mut Turn, from: ReplyTo, member_id: Str, join: Join) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        if let Some(instance) = &join.group_instance_id {
            self.static_members
                .insert(instance.clone(), member_id.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        let member = Member {
            group_instance_id: join.group_instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            waiting: Waiting::Join(from),
            is_new: true,
            owes_sync: false,
            session_deadline: turn.at.now.plus(NEW_MEMBER_JOIN_TIMEOUT),
        };
        self.members.insert(member_id, member);
        if let Some(timer) = &mut self.join_timer {
            timer.has_new_member = true;
        }
        self.membership_changed(turn);
    }

    fn update(&mut self, turn: &mut Turn, from: ReplyTo, member_id: &Str, join: Join) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        Self::answer_waiting(member, member_id, ErrorCode::RebalanceInProgress, turn);
        member.client_id = join.client_id;
        member.client_host = join.client_host;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        member.protocols = join.protocols;
        member.waiting = Waiting::Join(from);
        if !member.is_new {
            member.renew_session(turn.at.now);
        }
    }

    /// A static member came back without its id: it takes the old one's place under a new id, and
    /// whoever still uses the old id is fenced (KIP-345).
    fn replace_static(&mut self, turn: &mut Turn, from: ReplyTo, old_member_id: &Str, join: Join) {
        tracing::trace!(target: "klamm::probe", name = "static-member-replaced");
        let member_id = join.new_member_id.clone();
        let version = join.version;
        let Some(mut member) = self.members.remove(old_member_id) else {
            return;
        };
        Self::answer_waiting(
            &mut member,
            old_member_id,
            ErrorCode::FencedInstanceId,
            turn,
        );
        if let Some(instance) = &member.group_instance_id {
            self.static_members
                .insert(instance.clone(), member_id.clone());
        }
        if self.leader.as_ref() == Some(old_member_id) {
            self.leader = Some(member_id.clone());
        }
        self.members.insert(member_id.clone(), member);
        self.update(turn, from, &member_id, join);
        if self.state == GroupState::Stable
            && !crate::mutant!("static-restart-rebalances")
            && let Some(metadata) = self.replaced(turn, old_member_id, &member_id)
            && let Some(record) = turn.fitting(metadata.clone())
        {
            self.resume_static(turn, from, &member_id, version, &metadata);
            if !crate::mutant!("static-id-not-recorded") {
                turn.out.record(record);
            }
        } else {
            self.membership_changed(turn);
        }
    }

    /// The record of the present generation with the member's id exchanged; `None` when the member
    /// wants something else than before, so that a rebalance is due.
    fn replaced(&self, turn: &Turn, old_id: &Str, new_id: &Str) -> Option<GroupMetadata> {
        let mut metadata = turn.metadata()?.clone();
        let protocol = metadata.protocol.clone()?;
        if self.select_protocol().as_ref() != Some(&protocol) {
            return None;
        }
        let member = self.members.get(new_id)?;
        let mut entry = metadata.members.remove(old_id)?;
        let wanted = member.metadata_for(&protocol)?;
        if !subscription::is_unchanged(&metadata.protocol_type, &entry.subscription, wanted) {
            return None;
        }
        let assignment = std::mem::take(&mut entry.assignment);
        entry = super::classic::recorded(member, Some(&protocol));
        entry.assignment = assignment;
        metadata.members.insert(new_id.clone(), entry);
        if metadata.leader.as_ref() == Some(old_id) {
            metadata.leader = Some(new_id.clone());
        }
        Some(metadata)
    }

    fn resume_static(
        &mut self,
        turn: &mut Turn,
        from: ReplyTo,
        member_id: &Str,
        version: i16,
        metadata: &GroupMetadata,
    ) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.waiting = Waiting::Nothing;
            member.is_new = false;
            member.renew_session(turn.at.now);
        }
        let is_leader = self.leader.as_ref() == Some(member_id);
        let leader = metadata.leader.clone().unwrap_or_default();
        let mut answer = accepted(metadata, &leader, member_id);
        if is_leader && version >= SKIP_ASSIGNMENT_VERSION {
            answer.skip_assignment = true;
        } else if is_leader {
            // An older client that finds itself leading would assign; show it the id it had.
            let before = turn.metadata().and_then(|before| before.leader.clone());
            answer.leader = before.unwrap_or_default();
            answer.members.clear();
        }
        turn.out.reply(from, Reply::Join(answer));
    }
}

/// A session time-out within the broker's bounds?
pub(super) fn is_session_timeout_allowed(config: &super::GroupConfig, timeout_ms: i32) -> bool {
    let Ok(timeout) = u64::try_from(timeout_ms).map(Duration::from_millis) else {
        return false;
    };
    (config.min_session_timeout..=config.max_session_timeout).contains(&timeout)
}
