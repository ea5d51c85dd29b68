//! What a leader may append that was copied from another cluster.

use super::{Partition, Role};
use crate::replication::follower::FollowerPosition;
use crate::types::{ErrorCode, LeaderEpoch, Offset};

impl<W: Copy> Partition<W> {
    /// Whether this broker leads in `leader_epoch`.
    fn leads(&self, leader_epoch: LeaderEpoch) -> Result<(), ErrorCode> {
        let mine = self.assignment.leader_epoch;
        if leader_epoch < mine {
            return Err(ErrorCode::FencedLeaderEpoch);
        }
        if leader_epoch > mine {
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        match self.role {
            Role::Leader(_) if self.storage_failed => Err(ErrorCode::KafkaStorageError),
            Role::Leader(_) => Ok(()),
            _ => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// Where what is copied goes next; `None` until all of the log is durable.
    pub fn mirror_position(
        &self,
        leader_epoch: LeaderEpoch,
        log_start_offset: Offset,
    ) -> Result<Option<FollowerPosition>, ErrorCode> {
        self.leads(leader_epoch)?;
        let safe = self.durable_end == self.log_end_offset;
        Ok(safe.then_some(FollowerPosition {
            fetch_offset: self.log_end_offset,
            last_fetched_epoch: leader_epoch,
            log_start_offset,
            high_watermark: self.high_watermark,
        }))
    }

    /// Whether what was fetched from `fetch_offset` may be appended.
    pub fn may_mirror(
        &self,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
    ) -> Result<(), ErrorCode> {
        if !(crate::mutant!("mirror-appends-in-any-epoch") && matches!(self.role, Role::Leader(_)))
        {
            self.leads(leader_epoch)?;
        }
        match fetch_offset == self.log_end_offset {
            true => Ok(()),
            false if crate::mutant!("mirror-appends-from-anywhere") => Ok(()),
            // Copied already, or from before a cut: anything else would leave a hole.
            false => Err(ErrorCode::OffsetOutOfRange),
        }
    }
}
