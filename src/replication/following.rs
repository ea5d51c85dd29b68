//! A replica that follows: it takes in what its leader answered.
//!
//! Everything a leader said is checked against the epoch in which this replica follows *now*, in
//! the same step that acts on it.

use bytes::Bytes;

use super::follower::{FollowerAppend, FollowerPosition, FollowerTruncate};
use super::partition::Event;
use super::replica::{Replica, UnderWay};
use crate::log::{AppendError, Appended, LogError};
use crate::types::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use crate::wire::batch::{BatchError, RecordBatch};

/// What became of an answer.
pub(super) struct Copied {
    /// Writes to await, with the number of cuts before them.
    pub(super) writes: Vec<(Appended, u64)>,
    /// The log failed: it is to be recovered.
    pub(super) failed: bool,
    pub(super) result: Result<(), ErrorCode>,
}

impl Copied {
    pub(super) fn new(batches: usize) -> Self {
        Self {
            writes: Vec::with_capacity(batches),
            failed: false,
            result: Ok(()),
        }
    }

    pub(super) fn refused(code: ErrorCode) -> Self {
        Self {
            writes: Vec::new(),
            failed: false,
            result: Err(code),
        }
    }
}

impl Replica {
    /// Where this replica fetches next; `None` while not all of its log is safe, or it has not let
    /// go yet of what its leader has no more.
    pub(super) fn position(
        &mut self,
        leader_epoch: LeaderEpoch,
    ) -> Result<Option<FollowerPosition>, ErrorCode> {
        let (start, latest) = (self.log.log_start_offset(), self.log.latest_epoch());
        self.machine.prepare_anew(start);
        let position = self.machine.position(leader_epoch, start, latest)?;
        let told_again = self.start_due().is_none();
        Ok(position.filter(|_| told_again))
    }

    /// Appends what a leader answered.
    pub(super) async fn copy(&mut self, item: &FollowerAppend, now: Timestamp) -> Copied {
        self.machine.prepare_anew(self.log.log_start_offset());
        let allowed = self.machine.may_copy(item.leader_epoch, item.fetch_offset);
        if let Err(code) = allowed {
            return Copied::refused(code);
        }
        let batches = match self.batches(item) {
            Ok(batches) => batches,
            Err(code) => return Copied::refused(code),
        };
        let leader = (item.leader_log_start_offset, item.leader_high_watermark);
        let first = batches.first().map(|batch| batch.header.base_offset);
        let start = self.log.log_start_offset();
        match self.machine.restart_for(leader, first, start) {
            Ok(None) => {}
            Ok(Some(start)) => {
                if let Err(error) = self.restart(start).await {
                    return self.failed(&error);
                }
            }
            Err(code) => return Copied::refused(code),
        }
        let mut copied = Copied::new(batches.len());
        let (count, mut sync) = (batches.len(), false);
        for (at, batch) in batches.iter().enumerate() {
            sync |= self.wants_sync(batch);
            // One sync covers all of an answer.
            let safe = at + 1 == count;
            match self.log.append_as_is(batch, now, sync && safe).await {
                Ok(appended) => {
                    let (ticket, end) = (appended.ticket, appended.end);
                    self.under_way.push_back(UnderWay {
                        ticket,
                        end,
                        safe,
                        done: false,
                    });
                    self.machine.step(Event::Copied { end }, &mut self.effects);
                    copied.writes.push((appended, self.incarnation));
                }
                Err(error) => {
                    let partition = self.topic_partition();
                    tracing::error!(%partition, %error, "a leader's batch could not be appended");
                    // What came before it is not covered by a sync: the log falls back.
                    copied.failed = matches!(error, AppendError::Storage(_)) || at > 0;
                    copied.result = Err(error.code());
                    return copied;
                }
            }
        }
        let told = Event::Told {
            high_watermark: item.leader_high_watermark,
            log_start_offset: item.leader_log_start_offset,
        };
        self.machine.step(told, &mut self.effects);
        copied
    }

    /// The batches of an answer, checked.
    fn batches(&self, item: &FollowerAppend) -> Result<Vec<RecordBatch>, ErrorCode> {
        let mut rest: Bytes = item.records.clone();
        let mut batches = Vec::new();
        while !rest.is_empty() {
            match RecordBatch::split_first(&mut rest) {
                Ok(batch) if batch.header.leader_epoch <= item.leader_epoch => batches.push(batch),
                Ok(batch) => {
                    let (partition, of) = (self.topic_partition(), batch.header.leader_epoch.0);
                    tracing::error!(%partition, of, "a leader sent a batch of a later epoch");
                    return Err(ErrorCode::CorruptMessage);
                }
                Err(BatchError::Truncated { .. }) if !batches.is_empty() => break,
                Err(error) => {
                    let partition = self.topic_partition();
                    tracing::error!(%partition, %error, "a leader sent a damaged batch");
                    return Err(ErrorCode::CorruptMessage);
                }
            }
        }
        Ok(batches)
    }

    /// Empties the log, which begins anew at `start`.
    async fn restart(&mut self, start: Offset) -> Result<(), LogError> {
        let (from, to) = (self.log.log_end_offset(), start);
        let partition = self.topic_partition();
        if from != to || self.log.log_start_offset() != to {
            tracing::info!(%partition, %from, %to, "beginning anew with what the leader has");
            tracing::trace!(target: "klamm::probe", name = "follower-restarted-at-log-start");
        }
        self.forget_writes();
        self.log.restart_at(start).await?;
        self.restarted(from, to);
        Ok(())
    }

    /// The log was emptied, and begins anew.
    pub(super) fn restarted(&mut self, from: Offset, start: Offset) {
        self.machine
            .step(Event::Restarted { start }, &mut self.effects);
        // Before anything is copied: an empty log is what says that it begins anew.
        self.tell_epochs();
        self.tell_state();
        let of = self.topic_partition();
        tracing::trace!(
            target: "klamm::replica", event = "emptied", topic = &*of.topic,
            partition = of.partition, leader_epoch = self.machine.assignment().leader_epoch.0,
            from = from.0, to = start.0,
        );
    }

    fn forget_writes(&mut self) {
        self.incarnation += 1;
        self.under_way.clear();
    }

    fn failed(&self, error: &LogError) -> Copied {
        tracing::error!(partition = %self.topic_partition(), %error, "a follower's log failed");
        Copied {
            failed: true,
            ..Copied::refused(ErrorCode::KafkaStorageError)
        }
    }

    /// Cuts off what differs from the leader's log.
    pub(super) async fn truncate(&mut self, item: &FollowerTruncate) -> Copied {
        let reader = self.log.reader();
        let mine = |epoch| reader.end_of_epoch(epoch);
        let cut = match self.machine.cut(item, self.log.latest_epoch(), mine) {
            Ok(cut) => cut,
            Err(code) => return Copied::refused(code),
        };
        let (start, from) = (self.log.log_start_offset(), self.log.log_end_offset());
        if self.machine.begins_anew_for(item, cut, start) {
            let partition = self.topic_partition();
            let at = item.leader_log_start_offset;
            tracing::info!(
                %partition, %from, %at,
                "nothing in this log can be compared with the leader's, which begins elsewhere"
            );
            return Copied {
                writes: Vec::new(),
                failed: false,
                result: Ok(()),
            };
        }
        if cut < self.machine.high_watermark() {
            let partition = self.topic_partition();
            tracing::warn!(
                %partition, %cut, high_watermark = %self.machine.high_watermark(),
                "the leader lacks records that were committed: it was elected uncleanly"
            );
        }
        self.forget_writes();
        // What the leader's log says of the time before this one's start is found out afterwards.
        let to = cut.max(self.log.log_start_offset());
        if let Err(error) = self.log.truncate_to(to).await {
            return self.failed(&error);
        }
        let end = self.log.log_end_offset();
        self.machine
            .step(Event::Truncated { end }, &mut self.effects);
        let of = self.topic_partition();
        tracing::trace!(
            target: "klamm::replica", event = "truncated", topic = &*of.topic,
            partition = of.partition, leader_epoch = item.leader_epoch.0, from = from.0, to = end.0,
        );
        tracing::trace!(target: "klamm::probe", name = "follower-truncated");
        Copied {
            writes: Vec::new(),
            failed: false,
            result: Ok(()),
        }
    }
}
