//! A leader that takes in what was copied from another cluster: whole batches, at the offsets they
//! have there.
//!
//! Followers, in-sync replicas and the high watermark are as with every partition. Only this leader
//! appends, and only in the leader epoch that the copying began in: whatever was under way when
//! the partition changed its leader, or was promoted, is refused.

use super::command::Slot;
use super::follower::FollowerPosition;
use super::following::Copied;
use super::partition::Event;
use super::replica::{Replica, UnderWay};
use crate::log::{AppendError, LogError};
use crate::types::{ErrorCode, LeaderEpoch, Offset, Timestamp};
use crate::wire::batch::RecordBatch;

/// What was copied from another cluster, to be appended by the leader.
#[derive(Clone, Debug)]
pub struct MirrorAppend {
    pub slot: Slot,
    /// The epoch in which this broker leads.
    pub leader_epoch: LeaderEpoch,
    /// This log's end when it was asked for.
    pub fetch_offset: Offset,
    /// As the source has them, ascending; gaps are where its compaction left them. May be empty.
    pub batches: Vec<RecordBatch>,
    /// Records before this are gone at the source, and are to go here.
    pub source_log_start_offset: Offset,
}

impl MirrorAppend {
    /// Whether every batch begins where the one before it ended, or later.
    fn is_ascending(&self) -> bool {
        let mut end = self.fetch_offset;
        self.batches.iter().all(|batch| {
            let follows = batch.header.base_offset >= end;
            end = batch.header.end_offset();
            follows
        })
    }
}

impl Replica {
    /// Where what is copied from another cluster goes next; `None` while not all of the log is
    /// safe.
    pub(super) fn mirror_position(
        &self,
        leader_epoch: LeaderEpoch,
    ) -> Result<Option<FollowerPosition>, ErrorCode> {
        let start = self.log.log_start_offset();
        self.machine.mirror_position(leader_epoch, start)
    }

    pub(super) async fn mirror(&mut self, item: &MirrorAppend, now: Timestamp) -> Copied {
        let may = self
            .machine
            .may_mirror(item.leader_epoch, item.fetch_offset);
        if let Err(code) = may {
            return Copied::refused(code);
        }
        if !item.is_ascending() {
            return Copied::refused(ErrorCode::CorruptMessage);
        }
        let mut copied = Copied::new(item.batches.len());
        let (count, mut sync) = (item.batches.len(), false);
        for (at, batch) in item.batches.iter().enumerate() {
            sync |= self.wants_sync(batch);
            // One sync covers all of them.
            let safe = at + 1 == count;
            let appended = self
                .log
                .append_mirrored(batch, item.leader_epoch, now, sync && safe);
            match appended.await {
                Ok(appended) => {
                    self.under_way.push_back(UnderWay {
                        ticket: appended.ticket,
                        end: appended.end,
                        safe,
                        done: false,
                    });
                    let (end, waiter) = (appended.end, None);
                    self.machine
                        .step(Event::Appended { end, waiter }, &mut self.effects);
                    copied.writes.push((appended, self.incarnation));
                }
                Err(error) => {
                    let partition = self.topic_partition();
                    tracing::error!(%partition, %error, "a mirrored batch could not be appended");
                    // What came before it is not covered by a sync: the log falls back.
                    copied.failed = matches!(error, AppendError::Storage(_)) || at > 0;
                    copied.result = Err(error.code());
                    return copied;
                }
            }
        }
        self.follow_start(item.source_log_start_offset);
        copied
    }

    /// Lets go of what the source has no more, as far as it is committed here.
    fn follow_start(&mut self, source: Offset) {
        let start = match crate::mutant!("mirror-begins-beyond-copied") {
            true => source.min(self.log.log_end_offset()),
            false => source.min(self.machine.high_watermark()),
        };
        if start > self.log.log_start_offset() {
            // Cannot be refused: it leads, and its storage works.
            let _ = self.machine.want_start(start);
        }
    }

    /// Moves a log without records to where its first may be, if its settings say so.
    pub(super) async fn begin_at_first(&mut self) -> Result<(), LogError> {
        if self.machine.is_storage_failed() {
            return Ok(());
        }
        let from = self.log.log_end_offset();
        if self.log.begin_at_first().await? {
            let to = self.log.log_end_offset();
            let partition = self.topic_partition();
            tracing::info!(%partition, %from, %to, "the mirror begins where its source does");
            tracing::trace!(
                target: "klamm::replica", event = "begun", topic = &*partition.topic,
                partition = partition.partition, from = from.0, to = to.0,
            );
            self.restarted(from, to);
        }
        Ok(())
    }
}
