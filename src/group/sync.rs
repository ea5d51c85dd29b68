//! SyncGroup: the assigning member hands in the assignment, everybody else waits for it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::classic::{Live, Turn, Waiting};
use super::ledger::Reply;
use super::state::{GroupMetadata, GroupState, detached_bytes};
use crate::coordinator::ReplyTo;
use crate::types::ErrorCode;
use crate::wire::Str;
use crate::wire::message::sync_group::{SyncGroupRequest, SyncGroupResponse};

/// The answer that refuses a sync.
pub(super) fn refusal(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse {
        error_code: error.code(),
        ..SyncGroupResponse::default()
    }
}

fn assigned(metadata: &GroupMetadata, member_id: &Str) -> SyncGroupResponse {
    let member = metadata.members.get(member_id);
    SyncGroupResponse {
        protocol_type: Some(metadata.protocol_type.clone()),
        protocol_name: metadata.protocol.clone(),
        assignment: member.map(|m| m.assignment.clone()).unwrap_or_default(),
        ..SyncGroupResponse::default()
    }
}

impl Live {
    pub(super) fn sync(&mut self, turn: &mut Turn, from: ReplyTo, request: SyncGroupRequest) {
        let checked = self.validate_sync(turn, &request);
        match (checked, self.state, turn.metadata()) {
            (Err(error), _, _) => turn.out.reply(from, Reply::Sync(refusal(error))),
            (Ok(()), GroupState::CompletingRebalance, Some(metadata)) => {
                self.wait_for_assignment(turn, from, &request.member_id);
                if self.leader.as_ref() == Some(&request.member_id) {
                    self.assign(turn, metadata.clone(), request);
                }
            }
            (Ok(()), GroupState::Stable, Some(metadata)) => {
                if let Some(member) = self.members.get_mut(&request.member_id) {
                    member.renew_session(turn.at.now);
                    member.owes_sync = false;
                }
                self.end_sync_deadline();
                let whose = match &self.leader {
                    Some(leader) if crate::mutant!("double-assignment") => leader,
                    _ => &request.member_id,
                };
                let answer = assigned(metadata, whose);
                turn.out.reply(from, Reply::Sync(answer));
            }
            (Ok(()), GroupState::PreparingRebalance, _) => {
                let error = ErrorCode::RebalanceInProgress;
                turn.out.reply(from, Reply::Sync(refusal(error)));
            }
            (Ok(()), _, _) => {
                let error = ErrorCode::UnknownMemberId;
                turn.out.reply(from, Reply::Sync(refusal(error)));
            }
        }
    }

    fn validate_sync(&self, turn: &Turn, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != turn.generation() {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |claimed: &Option<Str>, actual: Option<&Str>| {
            claimed.is_some() && claimed.as_ref() != actual
        };
        if differs(&request.protocol_type, self.protocol_type.as_ref())
            || differs(&request.protocol_name, turn.protocol())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn wait_for_assignment(&mut self, turn: &mut Turn, from: ReplyTo, member_id: &Str) {
        if let Some(member) = self.members.get_mut(member_id) {
            Self::answer_waiting(member, member_id, ErrorCode::RebalanceInProgress, turn);
            member.waiting = Waiting::Sync(from);
            member.owes_sync = false;
        }
    }

    /// Records the assignment and tells everybody who waits for it. A member the assignment leaves
    /// out gets an empty one.
    fn assign(&mut self, turn: &mut Turn, mut metadata: GroupMetadata, request: SyncGroupRequest) {
        let mut given: BTreeMap<Str, Bytes> = BTreeMap::new();
        for entry in request.assignments {
            given.insert(entry.member_id, entry.assignment);
        }
        for (member_id, member) in &mut metadata.members {
            member.assignment = detached_bytes(&given.remove(member_id).unwrap_or_default());
        }
        metadata.leader = self.leader.clone();
        metadata.current_state_timestamp = turn.at.wall;
        let Some(record) = turn.fitting(metadata.clone()) else {
            return self.refuse_assignment(turn);
        };
        self.state = GroupState::Stable;
        for (member_id, member) in &mut self.members {
            if let Waiting::Sync(to) = member.waiting {
                member.waiting = Waiting::Nothing;
                member.renew_session(turn.at.now);
                let answer = assigned(&metadata, member_id);
                turn.out.reply(to, Reply::Sync(answer));
            }
        }
        self.end_sync_deadline();
        turn.out.record(record);
    }

    fn refuse_assignment(&mut self, turn: &mut Turn) {
        for (member_id, member) in &mut self.members {
            if matches!(member.waiting, Waiting::Sync(_)) {
                Self::answer_waiting(member, member_id, ErrorCode::UnknownServerError, turn);
                member.renew_session(turn.at.now);
            }
        }
        self.membership_changed(turn);
    }

    fn end_sync_deadline(&mut self) {
        let is_stable = self.state == GroupState::Stable;
        if is_stable && self.members.values().all(|member| !member.owes_sync) {
            self.sync_deadline = None;
        }
    }
}
