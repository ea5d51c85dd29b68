//! LeaveGroup: members go, by their own id or, removed by an operator, by instance id.

use super::classic::{Live, Turn};
use crate::types::ErrorCode;
use crate::wire::Str;
use crate::wire::message::leave_group::{MemberIdentity, MemberResponse};

/// How it went for one member.
pub(super) fn answer(identity: &MemberIdentity, result: Result<(), ErrorCode>) -> MemberResponse {
    MemberResponse {
        member_id: identity.member_id.clone(),
        group_instance_id: identity.group_instance_id.clone(),
        error_code: result.err().unwrap_or(ErrorCode::None).code(),
        ..MemberResponse::default()
    }
}

impl Live {
    /// Takes out each of `identities` and says how it went; one rebalance follows for all.
    pub(super) fn leave(
        &mut self,
        turn: &mut Turn,
        identities: &[MemberIdentity],
    ) -> Vec<MemberResponse> {
        let mut has_left = false;
        let mut answers = Vec::with_capacity(identities.len());
        for identity in identities {
            let result = self.find_leaving(identity);
            if let Ok(Some(member_id)) = &result {
                self.remove(member_id, turn);
                has_left = true;
            }
            answers.push(answer(identity, result.map(|_| ())));
        }
        if has_left {
            self.membership_changed(turn);
        }
        answers
    }

    /// The member an identity means; `None` when it was only an id given out, which is taken back.
    fn find_leaving(&mut self, identity: &MemberIdentity) -> Result<Option<Str>, ErrorCode> {
        let instance = identity.group_instance_id.as_ref();
        if identity.member_id.is_empty() {
            let holder = instance.and_then(|instance| self.static_members.get(instance));
            return holder.cloned().map(Some).ok_or(ErrorCode::UnknownMemberId);
        }
        if instance.is_none() && self.pending.remove(&identity.member_id).is_some() {
            return Ok(None);
        }
        self.validate_member(&identity.member_id, instance)?;
        Ok(Some(identity.member_id.clone()))
    }
}
