//! Emptying a log, which begins anew elsewhere.
//!
//! That takes several steps, between which the log's files have a hole, or a beginning before the
//! one that was told. So where it is to begin is noted first, and a crash in between is followed by
//! the same steps before anybody sees the log. The note is gone, durably, before anything can be
//! appended: it must never be found beside what came after.

use bytes::{Buf as _, Bytes};

use super::checkpoint::{self, CheckpointError};
use super::error::LogError;
use super::owner::Log;
use super::recovery::Recovery;
use super::roll::remove_if_there;
use crate::env::DirEntry;
use crate::types::Offset;

const FILE_NAME: &str = "restart-offset";

/// Whether a log that holds these was being emptied.
pub(super) fn is_noted(listed: &[DirEntry]) -> bool {
    listed.iter().any(|entry| entry.name == FILE_NAME)
}

impl Log {
    /// Removes all records and goes on at `start`, at or beyond the log's end: those in between
    /// are nowhere any more. Durable when it returns. On error the log is stopped until
    /// [`Log::fall_back`] succeeds or it is opened again, which carries this out unless the log
    /// fell back before.
    pub async fn restart_at(&mut self, start: Offset) -> Result<(), LogError> {
        self.usable()?;
        let (log_start, log_end) = (self.log_start_offset(), self.log_end_offset());
        let is_there = log_start == log_end && start == log_end;
        if is_there || start < log_start {
            // Nothing to do, or perhaps to refuse, which nobody is to carry out later.
            return self.carry_out(start).await;
        }
        self.is_restarting = true;
        let outcome = self.noted(start).await;
        if let Err(error) = &outcome {
            self.stopped = Some(error.to_string());
        }
        outcome
    }

    async fn noted(&mut self, start: Offset) -> Result<(), LogError> {
        let body = Bytes::copy_from_slice(&start.0.to_be_bytes());
        if !crate::mutant!("restart-not-noted") {
            checkpoint::write(&*self.env.disk, &self.shared.dir, FILE_NAME, body).await?;
        }
        self.carry_out(start).await?;
        self.forget_restart().await
    }

    async fn carry_out(&mut self, start: Offset) -> Result<(), LogError> {
        self.truncate_to(self.log_start_offset()).await?;
        let log_end = self.log_end_offset();
        if start < log_end {
            return Err(LogError::OutOfRange {
                offset: start,
                start: log_end,
                end: Offset(i64::MAX),
            });
        }
        self.shared.view().epochs.truncate_from_end(Offset::ZERO);
        if start > log_end {
            // Up to the log's end, producers are what its batches made them.
            self.producers.restart_at(start);
            self.roll(start).await?;
            self.delete_records_before(start).await?;
        }
        Ok(())
    }

    /// Carries out what a crash cut short, of a log that was just opened.
    pub(super) async fn finish_restart(&mut self, report: &mut Recovery) -> Result<(), LogError> {
        let (disk, dir) = (&*self.env.disk, &self.shared.dir);
        let Some(mut body) = checkpoint::read(disk, dir, FILE_NAME).await? else {
            return Ok(());
        };
        if body.len() != size_of::<i64>() {
            let reason = format!("{} bytes where an offset takes 8", body.len());
            return Err(CheckpointError::damaged(dir, FILE_NAME, reason).into());
        }
        let start = Offset(body.get_i64());
        tracing::trace!(target: "klamm::probe", name = "log-restart-finished-at-start");
        self.is_restarting = true;
        self.carry_out(start).await?;
        report.tidied.push(format!("began anew at {start}"));
        self.forget_restart().await
    }

    /// Nothing is to be carried out any more.
    pub(super) async fn forget_restart(&mut self) -> Result<(), LogError> {
        if !self.is_restarting {
            return Ok(());
        }
        let (disk, dir) = (&*self.env.disk, &self.shared.dir);
        remove_if_there(disk, &dir.join(FILE_NAME)).await?;
        disk.sync_dir(dir).await.map_err(LogError::io(dir))?;
        self.is_restarting = false;
        Ok(())
    }
}
