//! Heartbeat: keeps a session alive and tells the member when a rebalance began.

use super::classic::{Live, Turn};
use super::state::GroupState;
use crate::types::ErrorCode;
use crate::wire::message::heartbeat::HeartbeatRequest;

impl Live {
    pub(super) fn heartbeat(&mut self, turn: &Turn, request: &HeartbeatRequest) -> ErrorCode {
        let instance = request.group_instance_id.as_ref();
        let is_current = self.members.contains_key(&request.member_id)
            && request.generation_id == turn.generation();
        if !is_current && crate::mutant!("stale-heartbeat-accepted") {
            return ErrorCode::None;
        }
        if let Err(error) = self.validate_member(&request.member_id, instance) {
            return error;
        }
        if request.generation_id != turn.generation() {
            return ErrorCode::IllegalGeneration;
        }
        if let Some(member) = self.members.get_mut(&request.member_id)
            && !member.is_new
        {
            member.renew_session(turn.at.now);
        }
        match self.state {
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
            GroupState::Empty | GroupState::Dead => ErrorCode::UnknownMemberId,
        }
    }
}
