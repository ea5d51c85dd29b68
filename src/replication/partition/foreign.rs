//! A replica whose log begins where its leader's has nothing that it could be a part of.
//!
//! An election that is unclean, or of the last leader after it lost what it had not synced, may
//! give the lead to a broker that lacks the time in which others came to begin later: their logs
//! begin beyond the end of the leader's. Cut where they part, such a log would be empty and begin
//! in the wrong place: it could take nothing in until its leader has grown that far, and then it
//! would lack, without knowing, what came before. It has nothing in common with its leader, so it
//! is taken away, and another one is begun that is copied from the start, if nobody counts on what
//! is in it. That is so for any follower of such a leader, as that is the only one in sync then.
//!
//! A log that is empty says nothing of where it parts. Unless it is counted on, it asks first, in
//! every leader epoch, what the leader has from the very beginning; a fetch that counts for nothing
//! where the leader has more.

use super::{Partition, Role};
use crate::types::{ErrorCode, Offset};

/// Why a log cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Useless {
    /// It would have to be cut where it is damaged.
    Damaged,
    /// See the module.
    Foreign,
}

impl<W: Copy> Partition<W> {
    pub(super) fn is_foreign(&self) -> bool {
        matches!(&self.role, Role::Follower(following) if following.is_foreign)
    }

    /// Whether others rely on what is in this replica's log.
    pub(super) fn is_counted_on(&self) -> bool {
        let assignment = &self.assignment;
        let counted = [&assignment.isr, &assignment.elr];
        counted.iter().any(|ids| ids.contains(&assignment.me))
    }

    /// Whether the leader cannot count on anything that a log from the very beginning would lack.
    pub(super) fn may_go_as_foreign(&self) -> bool {
        match &self.role {
            Role::Follower(following) => {
                following.vouched <= Some(Offset::ZERO) && !self.is_counted_on()
            }
            _ => false,
        }
    }

    /// Nothing is taken in any more, if that is allowed; whether it is.
    pub(super) fn becomes_foreign(&mut self) -> bool {
        let may = self.may_go_as_foreign() && !crate::mutant!("foreign-log-kept");
        if let (true, Role::Follower(following)) = (may, &mut self.role) {
            following.is_foreign = true;
        }
        may
    }

    /// A log is to begin anew at `start`; it begins at `log_start_offset`.
    pub(super) fn restarts_here(
        &mut self,
        start: Offset,
        leader_log_start_offset: Offset,
        log_start_offset: Offset,
    ) -> Result<Option<Offset>, ErrorCode> {
        let is_before = match &self.role {
            Role::Follower(following) => following.is_unverified && start < log_start_offset,
            _ => false,
        };
        if is_before {
            self.takes_back(leader_log_start_offset);
        }
        match is_before && self.becomes_foreign() {
            true => Err(ErrorCode::OffsetOutOfRange),
            false => Ok(Some(start)),
        }
    }

    /// An empty log was made to begin within the leader's first batch; whether it is to begin anew.
    pub(super) fn begins_within(
        &mut self,
        first: Option<Offset>,
        leader_log_start_offset: Offset,
        log_start_offset: Offset,
    ) -> bool {
        let end = self.log_end_offset;
        let is_within = log_start_offset == end && first.is_some_and(|first| first < end);
        if is_within {
            self.takes_back(leader_log_start_offset);
        }
        is_within && self.becomes_foreign()
    }

    /// Up to where the leader's log begins nothing depends on what this replica told that it has.
    fn takes_back(&mut self, leader_log_start_offset: Offset) {
        if let Role::Follower(following) = &mut self.role
            && following.vouched <= Some(leader_log_start_offset)
        {
            following.vouched = None;
        }
    }

    /// To be called before it is said where this replica fetches: an empty log asks what its leader
    /// has before.
    pub(super) fn look_below(&mut self, log_start_offset: Offset) {
        let is_empty = log_start_offset == self.log_end_offset;
        let may = is_empty && log_start_offset > Offset::ZERO && self.may_go_as_foreign();
        let Role::Follower(following) = &mut self.role else {
            return;
        };
        let is_new = !following.looked_below && following.restart_at.is_none();
        if is_new && may && !crate::mutant!("foreign-log-kept") {
            following.looked_below = true;
            following.is_unverified = true;
            following.restart_at = Some(Offset::ZERO);
        }
    }
}
