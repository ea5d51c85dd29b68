//! Where the log begins, and what it takes to move that.
//!
//! A leader that wants older records gone, by DeleteRecords or by retention, tells its followers
//! where the log is to begin. They let go of what lies before, durably, and say so with their next
//! fetch. Once all replicas that are or may be in sync have, and there are enough of them, the
//! leader's own log begins there: so whoever leads next begins no earlier than what clients were
//! told, and an answered DeleteRecords holds whoever leads.

use super::{Partition, Role};
use crate::types::{ErrorCode, Offset};

impl<W: Copy> Partition<W> {
    /// Wants the records before `start` gone, which lie below the high watermark.
    pub fn want_start(&mut self, start: Offset) -> Result<(), ErrorCode> {
        if self.storage_failed {
            return Err(ErrorCode::KafkaStorageError);
        }
        match &mut self.role {
            Role::Leader(leader) => {
                leader.want_start(start);
                Ok(())
            }
            _ => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// What was wanted gone stays for now: the log could not be made to begin later.
    pub fn forget_wanted_start(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            leader.forget_wanted_start();
        }
    }

    /// Where followers are told that the log begins. `log_start_offset` is where it does here.
    #[must_use]
    pub fn wanted_start(&self, log_start_offset: Offset) -> Offset {
        match &self.role {
            Role::Leader(leader) => leader.wanted_start().max(log_start_offset),
            _ => log_start_offset,
        }
    }

    /// Where the log is to be made to begin now, if that is not where it does.
    #[must_use]
    pub fn start_due(&self, log_start_offset: Offset) -> Option<Offset> {
        if self.storage_failed {
            return None;
        }
        let start = match &self.role {
            Role::Idle => return None,
            Role::Leader(leader) => {
                leader.replicated_start(&self.assignment, leader.wanted_start())?
            }
            Role::Follower(following) => following.told_start.min(self.high_watermark),
        };
        (start > log_start_offset).then_some(start)
    }

    /// Nothing before this offset is on any replica that is or may be in sync; `None` where that
    /// is not known, or too few are in sync. No later leader begins before it.
    #[must_use]
    pub fn replicated_start(&self, log_start_offset: Offset) -> Option<Offset> {
        match &self.role {
            Role::Leader(leader) => leader.replicated_start(&self.assignment, log_start_offset),
            _ => None,
        }
    }
}
