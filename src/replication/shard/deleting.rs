//! What a shard does to make logs begin later: DeleteRecords, retention, and what leaders say.

use tokio::sync::oneshot;

use super::Shard;
use crate::replication::command::Slot;
use crate::replication::replica::{Deletion, Replica};
use crate::types::{ErrorCode, Offset, Timestamp};

impl Replica {
    /// Where the log is to be made to begin now, if that is not where it does.
    pub(in crate::replication) fn start_due(&self) -> Option<Offset> {
        self.machine.start_due(self.log.log_start_offset())
    }

    /// Refuses a deletion of what may not go; answers up to where it reaches.
    fn want_deleted(&mut self, before: Option<Offset>) -> Result<Offset, ErrorCode> {
        let deletable_end = self.deletable_end();
        let before = before.unwrap_or(deletable_end);
        if !self.machine.is_leader() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if before > deletable_end || before < Offset::ZERO {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        self.machine.want_start(before)?;
        Ok(before)
    }

    /// Answers whoever waited for what has happened by now, or cannot any more.
    fn answer_deletions(&mut self) {
        if self.deletions.is_empty() {
            return;
        }
        let start = self.log.log_start_offset();
        let epoch = self.machine.assignment().leader_epoch;
        let outcome = match self.machine.is_storage_failed() {
            true => Err(ErrorCode::KafkaStorageError),
            false if !self.machine.is_leader() => Err(ErrorCode::NotLeaderOrFollower),
            false => Ok(self.machine.replicated_start(start)),
        };
        for deletion in std::mem::take(&mut self.deletions) {
            let answer = match outcome {
                // It leads again: what it wanted as it led before is forgotten.
                Ok(_) if deletion.leader_epoch != epoch => Err(ErrorCode::NotLeaderOrFollower),
                Ok(Some(start)) if deletion.before <= start => Ok(start),
                Ok(_) => {
                    self.deletions.push(deletion);
                    continue;
                }
                Err(code) => Err(code),
            };
            let _ = deletion.reply.send(answer);
        }
    }
}

impl Shard {
    pub(super) fn delete_records(
        &mut self,
        slot: Slot,
        before: Option<Offset>,
        reply: oneshot::Sender<Result<Offset, ErrorCode>>,
    ) {
        let Some(replica) = self.replicas.get_mut(&slot) else {
            let _ = reply.send(Err(ErrorCode::NotLeaderOrFollower));
            return;
        };
        match replica.want_deleted(before) {
            Ok(before) => {
                // Whoever waits no longer leaves room.
                replica.deletions.retain(|one| !one.reply.is_closed());
                let leader_epoch = replica.machine.assignment().leader_epoch;
                replica.deletions.push(Deletion {
                    before,
                    leader_epoch,
                    reply,
                });
                self.carry_out(slot);
            }
            Err(code) => {
                let _ = reply.send(Err(code));
            }
        }
    }

    /// After a step: notes where a log is to begin later, and tells who waited for it.
    pub(super) fn look_at_start(&mut self, slot: Slot) {
        if let Some(replica) = self.replicas.get_mut(&slot) {
            if replica.start_due().is_some() {
                self.starts_due.insert(slot);
            }
            replica.answer_deletions();
        }
    }

    /// Makes logs begin where they are to. What waited for that goes on.
    pub(super) async fn move_starts(&mut self) {
        while let Some(slot) = self.starts_due.pop_first() {
            let Some(replica) = self.replicas.get_mut(&slot) else {
                continue;
            };
            let Some(start) = replica.start_due() else {
                continue;
            };
            match replica.log.delete_records_before(start).await {
                Ok(_) => self.carry_out(slot),
                Err(error) => {
                    let partition = replica.topic_partition();
                    tracing::error!(%partition, %error, "the log keeps records that are to go");
                    self.start_not_moved(slot);
                }
            }
        }
    }

    /// It is tried again when a follower asks for its position, a leader when it is told to delete.
    fn start_not_moved(&mut self, slot: Slot) {
        let Some(replica) = self.replicas.get_mut(&slot) else {
            return;
        };
        replica.machine.forget_wanted_start();
        for deletion in std::mem::take(&mut replica.deletions) {
            let _ = deletion.reply.send(Err(ErrorCode::KafkaStorageError));
        }
        for awaiting in std::mem::take(&mut replica.awaiting) {
            self.decide_position(awaiting.waiter, Err(ErrorCode::KafkaStorageError));
        }
    }

    pub(super) async fn maintain(&mut self, now: Timestamp) {
        let monotonic = self.env.now();
        let slots: Vec<Slot> = self.replicas.keys().copied().collect();
        for slot in slots {
            let Some(replica) = self.replicas.get_mut(&slot) else {
                continue;
            };
            if replica.is_storage_failed() {
                continue;
            }
            if let Err(error) = replica.maintain(now, monotonic).await {
                let partition = replica.topic_partition();
                tracing::error!(%partition, %error, "log maintenance failed; tried again later");
            }
            self.carry_out(slot);
        }
    }
}
