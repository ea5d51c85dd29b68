//! What a follower may do with what its leader said.

use super::{Following, Partition, Role};
use crate::replication::follower::{FollowerPosition, FollowerTruncate};
use crate::types::{ErrorCode, LeaderEpoch, Offset};

/// Whether a leader that told these has nothing committed in its log.
pub(super) fn is_empty(log_start_offset: Offset, high_watermark: Offset) -> bool {
    (Offset::ZERO..=log_start_offset).contains(&high_watermark)
}

impl<W: Copy> Partition<W> {
    /// Whether this broker follows in `leader_epoch`. To be asked before anything that a leader
    /// said is acted on.
    pub fn follows(&self, leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        let mine = self.assignment.leader_epoch;
        if leader_epoch < mine && !crate::mutant!("older-leader-believed") {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if leader_epoch > mine {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        match self.role {
            Role::Follower(_) if self.storage_failed => Err(ErrorCode::KafkaStorageError),
            Role::Follower(_) => Ok(()),
            _ => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// Where this follower fetches next; `None` until all of its log is durable. `latest_epoch` is
    /// its log's.
    pub fn position(
        &mut self,
        leader_epoch: LeaderEpoch,
        log_start_offset: Offset,
        latest_epoch: Option<LeaderEpoch>,
    ) -> Result<Option<FollowerPosition>, ErrorCode> {
        self.follows(leader_epoch)?;
        if self.is_foreign() {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let position = self.position_now(log_start_offset, latest_epoch);
        if let (Some(position), Role::Follower(following)) = (position, &mut self.role) {
            following.vouched = following.vouched.max(Some(position.fetch_offset));
        }
        Ok(position)
    }

    fn position_now(
        &self,
        log_start_offset: Offset,
        latest_epoch: Option<LeaderEpoch>,
    ) -> Option<FollowerPosition> {
        let mut last_fetched_epoch = latest_epoch.unwrap_or(LeaderEpoch::NONE);
        if crate::mutant!("fetch-forgets-last-epoch") {
            last_fetched_epoch = LeaderEpoch::NONE;
        }
        if let Role::Follower(Following {
            restart_at: Some(start),
            ..
        }) = self.role
        {
            return Some(FollowerPosition {
                fetch_offset: start,
                last_fetched_epoch: LeaderEpoch::NONE,
                log_start_offset,
                high_watermark: self.high_watermark,
            });
        }
        let safe = self.durable_end == self.log_end_offset;
        let counted = safe || crate::mutant!("follower-counts-unsynced");
        counted.then_some(FollowerPosition {
            fetch_offset: self.log_end_offset,
            last_fetched_epoch,
            log_start_offset,
            high_watermark: self.high_watermark,
        })
    }

    /// Whether what a leader answered to a fetch from `fetch_offset` may be taken in.
    pub fn may_copy(
        &self,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
    ) -> Result<(), ErrorCode> {
        self.follows(leader_epoch)?;
        let expected = match &self.role {
            Role::Follower(following) => following.restart_at.unwrap_or(self.log_end_offset),
            _ => self.log_end_offset,
        };
        match fetch_offset == expected {
            true => Ok(()),
            // Copied already, or from before a cut: anything else would leave a hole.
            false => Err(ErrorCode::OffsetOutOfRange),
        }
    }

    /// Where the log is to begin anew before an answer is taken in that [`Self::may_copy`] allowed,
    /// if it is. `first` is where the first batch in the answer begins. An error: the log is
    /// foreign, and takes nothing in.
    ///
    /// Without a batch it begins at the leader's start only where nothing is committed beyond: a
    /// batch begins there then. A leader whose log is not empty does not tell its high watermark
    /// with where it begins, as it may be yet to learn how far it reaches.
    pub fn restart_for(
        &mut self,
        leader: (Offset, Offset),
        first: Option<Offset>,
        log_start_offset: Offset,
    ) -> Result<Option<Offset>, ErrorCode> {
        match self.begins_at(leader, first) {
            Some(start) => self.restarts_here(start, leader.0, log_start_offset),
            None if self.begins_within(first, leader.0, log_start_offset) => {
                Err(ErrorCode::OffsetOutOfRange)
            }
            None => Ok(None),
        }
    }

    fn begins_at(
        &mut self,
        (leader_log_start_offset, leader_high_watermark): (Offset, Offset),
        first: Option<Offset>,
    ) -> Option<Offset> {
        let Role::Follower(following) = &mut self.role else {
            return None;
        };
        if following.vouched < Some(leader_high_watermark) {
            following.vouched = None;
        }
        let leader = (leader_log_start_offset, leader_high_watermark);
        let is_anew = following.begins_anew || following.is_unverified;
        if let (true, Some(from)) = (is_anew, following.restart_at) {
            return following.restart_anew(from, leader, first);
        }
        if leader_log_start_offset <= self.log_end_offset {
            following.restart_at = None;
            return None;
        }
        let at_once = crate::mutant!("restart-within-a-batch-refused");
        match (following.restart_at, first) {
            (Some(start), Some(first)) => Some(first.min(start)),
            _ if at_once || is_empty(leader_log_start_offset, leader_high_watermark) => {
                Some(leader_log_start_offset)
            }
            _ => {
                following.restart_at = Some(leader_log_start_offset);
                None
            }
        }
    }

    /// Where a follower cuts its log, given its leader's word on where they part. `latest_epoch`
    /// is its log's, and `mine` the end of an epoch in it. An answer to a position that is not the
    /// present one says nothing of the present log.
    pub fn cut(
        &self,
        said: &FollowerTruncate,
        latest_epoch: Option<LeaderEpoch>,
        mine: impl Fn(LeaderEpoch) -> (LeaderEpoch, Offset),
    ) -> Result<Offset, ErrorCode> {
        let leads = matches!(self.role, Role::Leader(_));
        let believed = leads && crate::mutant!("truncates-what-it-leads");
        if !believed {
            self.follows(said.leader_epoch)?;
        }
        let latest_epoch = latest_epoch.unwrap_or(LeaderEpoch::NONE);
        if (said.fetch_offset, said.last_fetched_epoch) != (self.log_end_offset, latest_epoch)
            && !crate::mutant!("old-answer-truncates")
            && !believed
        {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let (epoch, end) = said.diverging;
        if crate::mutant!("truncates-to-high-watermark") {
            return Ok(self.high_watermark);
        }
        let (own_epoch, own_end) = mine(epoch);
        let cut = match own_epoch {
            LeaderEpoch::NONE => end,
            // It lacks that epoch: what it has of newer ones goes, and the leader is asked again.
            own if own < epoch => own_end,
            _ => end.min(own_end),
        };
        Ok(cut.min(self.log_end_offset).max(Offset::ZERO))
    }

    /// Whether the log begins anew instead of being cut at `cut`, as [`Self::cut`] has it: nothing
    /// from the leader's start on is common to both, and what this log has from before it cannot
    /// be compared with anything. Kept, it would pass for a part of the leader's log: a retry of
    /// what is nowhere would be a duplicate here. The log stays as it is until the leader has
    /// answered what is to be in its place. One that would have to begin before it does is foreign.
    pub fn begins_anew_for(
        &mut self,
        said: &FollowerTruncate,
        cut: Offset,
        log_start_offset: Offset,
    ) -> bool {
        let start = said.leader_log_start_offset;
        let Role::Follower(following) = &mut self.role else {
            return false;
        };
        let (epoch, end) = said.diverging;
        if epoch < said.last_fetched_epoch || end < said.fetch_offset {
            following.vouched = None;
        }
        if cut <= log_start_offset && start < log_start_offset {
            return self.becomes_foreign();
        }
        let Role::Follower(following) = &mut self.role else {
            return false;
        };
        let is_kept = crate::mutant!("unverified-kept-below-start");
        if cut > start || log_start_offset >= start || is_kept {
            return false;
        }
        following.is_unverified = true;
        following.restart_at = Some(start);
        true
    }
}
