//! One hosted partition: its machine, its log, and the writes under way between them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::assignment::Assignment;
use super::command::{AppendItem, AppendRefused, Past, Placed, WantedDurability};
use super::partition::{Effect, Event, Opened, Partition};
use super::shard::Waiter;
use super::view::{Leadership, PartitionView};
use crate::log::{Append, Appended, Flushing, Log, LogError, Ticket};
use crate::types::{
    BrokerEpoch, BrokerId, ErrorCode, Instant, LeaderEpoch, Offset, Timestamp, TopicPartition,
};
use crate::wire::batch::RecordBatch;

/// A write whose completion is awaited. Completions are taken in the order of the appends.
pub(super) struct UnderWay {
    pub(super) ticket: Ticket,
    pub(super) end: Offset,
    /// Its end is as safe as the topic asks once it is done. Of the batches of one answer to a
    /// follower only the last is synced.
    pub(super) safe: bool,
    pub(super) done: bool,
}

pub(super) struct Replica {
    pub(super) log: Log,
    pub(super) view: Arc<PartitionView>,
    pub(super) durability: WantedDurability,
    /// An alarm to stamp, or to sync, the log is set.
    pub(super) stamp_due: bool,
    pub(super) sync_due: bool,
    /// The alarm set to look at the in-sync replicas.
    pub(super) isr_alarm: Option<Instant>,
    pub(super) machine: Partition<Waiter>,
    pub(super) under_way: VecDeque<UnderWay>,
    /// Counts cuts of the log, so that completions of writes from before one are not taken for
    /// later.
    pub(super) incarnation: u64,
    /// Who waits, copying from a leader or from another cluster, for everything here to be safe.
    pub(super) awaiting: Vec<Awaiting>,
    /// Who waits, while this broker leads, for records to be gone from every replica in sync.
    pub(super) deletions: Vec<Deletion>,
    pub(super) effects: Vec<Effect<Waiter>>,
    appended_since_sync: i64,
    /// What the view says.
    shown: Leadership,
    /// The state told last, while anybody listens.
    told: Option<LogState>,
    told_assignment: Option<(LeaderEpoch, i32)>,
    told_epochs: Vec<(LeaderEpoch, Offset)>,
    told_counted: BTreeMap<BrokerId, Counted>,
}

/// What a leader counts of a follower: in which epoch, which life of it, and up to where.
type Counted = (LeaderEpoch, BrokerEpoch, Offset);

/// Offsets of a log that bound each other: `start <= high_watermark <= end` and
/// `recovery_point <= end`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct LogState {
    start: Offset,
    high_watermark: Offset,
    end: Offset,
    recovery_point: Offset,
}

/// Who is to be told where the log stands.
#[derive(Clone, Copy)]
pub(super) struct Awaiting {
    pub(super) waiter: Waiter,
    /// In which it copies.
    pub(super) leader_epoch: LeaderEpoch,
    /// From another cluster, as the leader.
    pub(super) is_mirror: bool,
}

/// A DeleteRecords that is not answered yet.
pub(super) struct Deletion {
    /// Exclusive end of what is to go.
    pub(super) before: Offset,
    /// Of the leadership that it was asked of.
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) reply: oneshot::Sender<Result<Offset, ErrorCode>>,
}

/// An append that was given to the log.
pub(super) struct Started {
    pub(super) placed: Placed,
    /// The write to await, with what identifies it; none for a batch that was there already.
    pub(super) write: Option<(Appended, u64)>,
}

impl Replica {
    pub(super) fn new(
        log: Log,
        assignment: &Arc<Assignment>,
        durability: WantedDurability,
        past: Past,
        now: Instant,
    ) -> Self {
        let opened = Opened {
            log_start_offset: log.log_start_offset(),
            log_end_offset: log.log_end_offset(),
            past,
        };
        let mut effects = Vec::new();
        let machine = Partition::new(assignment, opened, now, &mut effects);
        let shown = machine.leadership();
        let view = PartitionView::new(log.reader(), shown, machine.high_watermark());
        Self {
            machine,
            log,
            view: Arc::new(view),
            durability,
            stamp_due: false,
            sync_due: false,
            isr_alarm: None,
            under_way: VecDeque::new(),
            incarnation: 0,
            awaiting: Vec::new(),
            deletions: Vec::new(),
            effects,
            appended_since_sync: 0,
            shown,
            told: None,
            told_assignment: None,
            told_epochs: Vec::new(),
            told_counted: BTreeMap::new(),
        }
    }

    /// Brings the view up to date. To be called after the effects of a step.
    pub(super) fn show(&mut self) {
        let leadership = self.machine.leadership();
        if leadership != self.shown {
            self.shown = leadership;
            self.view.set_leadership(leadership);
        }
        self.view.set_log_end(self.machine.log_end_offset());
        let wanted_start = self.machine.wanted_start(self.log.log_start_offset());
        self.view.set_wanted_start(wanted_start);
    }

    /// Tells listeners of `klamm::replica` by what this replica goes from now on, if that changed.
    /// To be called before [`tell_state`](Self::tell_state).
    pub(super) fn tell_assignment(&mut self) {
        let assignment = self.machine.assignment();
        let told = (assignment.leader_epoch, assignment.partition_epoch);
        if self.told_assignment.replace(told) == Some(told) {
            return;
        }
        let of = self.topic_partition();
        tracing::trace!(
            target: "klamm::replica", event = "assigned", topic = &*of.topic,
            partition = of.partition, leader_epoch = told.0.0, partition_epoch = told.1,
            isr = ?assignment.isr, replicas = ?assignment.replicas,
        );
    }

    /// Tells listeners of `klamm::replica` where the epochs of the log begin, if that changed. To
    /// be called before [`tell_state`](Self::tell_state).
    pub(super) fn tell_epochs(&mut self) {
        if !tracing::enabled!(target: "klamm::replica", tracing::Level::TRACE) {
            return;
        }
        let epochs = self.log.epochs();
        if epochs == self.told_epochs {
            return;
        }
        let each = epochs.iter();
        let each = each.map(|(epoch, start)| format!("{}@{}", epoch.0, start.0));
        let text = each.collect::<Vec<String>>().join(",");
        self.told_epochs = epochs;
        let of = self.topic_partition();
        tracing::trace!(
            target: "klamm::replica", event = "epochs", topic = &*of.topic,
            partition = of.partition, epochs = &*text,
        );
    }

    /// Tells listeners of `klamm::replica` how far this leader counts on a follower, if that
    /// changed.
    pub(super) fn tell_counted(&mut self, follower: BrokerId) {
        if !tracing::enabled!(target: "klamm::replica", tracing::Level::TRACE) {
            return;
        }
        let Some((offset, broker_epoch)) = self.machine.counted(follower) else {
            return;
        };
        let leader_epoch = self.machine.assignment().leader_epoch;
        let counted = (leader_epoch, broker_epoch, offset);
        if self.told_counted.insert(follower, counted) == Some(counted) {
            return;
        }
        let of = self.topic_partition();
        tracing::trace!(
            target: "klamm::replica", event = "counted", topic = &*of.topic,
            partition = of.partition, leader_epoch = leader_epoch.0, follower = follower.0,
            broker_epoch = broker_epoch.0, offset = offset.0,
        );
    }

    /// Tells listeners of `klamm::log_state` where the log stands, if that changed. To be called
    /// after every step and before its effects, so that nobody reads up to a high watermark that
    /// was not told. A log whose storage failed has no state until it has fallen back.
    pub(super) fn tell_state(&mut self) {
        if !tracing::enabled!(target: "klamm::log_state", tracing::Level::TRACE)
            || self.machine.is_storage_failed()
        {
            return;
        }
        let state = LogState {
            start: self.log.log_start_offset(),
            high_watermark: self.machine.high_watermark(),
            end: self.log.log_end_offset(),
            recovery_point: self.log.durable_end(),
        };
        if self.told.replace(state) == Some(state) {
            return;
        }
        let of = self.topic_partition();
        tracing::trace!(
            target: "klamm::log_state",
            topic = &*of.topic,
            partition = of.partition,
            start = state.start.0,
            high_watermark = state.high_watermark.0,
            end = state.end.0,
            recovery_point = state.recovery_point.0,
            leader_epoch = self.machine.assignment().leader_epoch.0,
        );
    }

    /// Tells listeners of `klamm::replica` that a round of compaction begins, which covers what is
    /// below `end`.
    pub(super) fn tell_compacting(&self, end: Offset) {
        let of = self.topic_partition();
        tracing::trace!(
            target: "klamm::replica", event = "compacting", topic = &*of.topic,
            partition = of.partition, end = end.0,
        );
    }

    /// This broker leads from now on.
    pub(super) fn begin_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        if !crate::mutant!("epoch-start-at-first-append") {
            self.log.begin_epoch(epoch);
        }
        self.tell_epochs();
        let of = self.topic_partition();
        tracing::trace!(
            target: "klamm::replica", event = "leading", topic = &*of.topic,
            partition = of.partition, leader_epoch = epoch.0, start = start.0,
            high_watermark = self.machine.high_watermark().0,
        );
    }

    /// Gives the batch of `item` to the log. `waiter` is acknowledged or refused by a later effect,
    /// unless this returns an error.
    pub(super) async fn append(
        &mut self,
        item: &AppendItem,
        now: Timestamp,
        waiter: Option<Waiter>,
    ) -> Result<Started, AppendRefused> {
        let batch = &item.batch;
        self.machine.may_append(item.acks).map_err(refused)?;
        let waiter = waiter.map(|waiter| (waiter, item.acks));
        let sync = self.wants_sync(batch);
        let epoch = self.machine.assignment().leader_epoch;
        let appended = self.log.append(batch, epoch, now, sync).await;
        let log_start_offset = self.log.log_start_offset();
        match appended {
            Err(error) => Err(AppendRefused {
                code: error.code(),
                reason: error.to_string(),
            }),
            Ok(Append::Duplicate {
                base_offset,
                last_offset,
                log_append_time,
            }) => {
                let end = last_offset.next();
                self.machine
                    .step(Event::Repeated { end, waiter }, &mut self.effects);
                let placed = Placed {
                    base_offset: told_again(base_offset),
                    log_append_time,
                    log_start_offset,
                };
                Ok(Started {
                    placed,
                    write: None,
                })
            }
            Ok(Append::New(appended)) => {
                let end = appended.last_offset.next();
                let ticket = appended.ticket;
                self.under_way.push_back(UnderWay {
                    ticket,
                    end,
                    safe: true,
                    done: false,
                });
                let waiter = match waiter {
                    Some((early, _)) if crate::mutant!("ack-before-sync") => {
                        self.effects.push(Effect::Acknowledge(early));
                        None
                    }
                    waiter => waiter,
                };
                self.machine
                    .step(Event::Appended { end, waiter }, &mut self.effects);
                let placed = Placed {
                    base_offset: appended.base_offset,
                    log_append_time: appended.log_append_time,
                    log_start_offset,
                };
                Ok(Started {
                    placed,
                    write: Some((appended, self.incarnation)),
                })
            }
        }
    }

    /// Whether what was appended without a sync is to be synced now.
    pub(super) fn is_flush_due(&self) -> bool {
        matches!(self.durability, WantedDurability::Replicated { .. })
            && !self.is_storage_failed()
            && self.log.wants_flush()
    }

    pub(super) async fn flush(&mut self) -> Result<Option<Flushing>, LogError> {
        match self.is_flush_due() {
            true => self.log.flush().await,
            false => Ok(None),
        }
    }

    pub(super) fn wants_sync(&mut self, batch: &RecordBatch) -> bool {
        match self.durability {
            WantedDurability::Fsync => true,
            WantedDurability::Replicated { flush_messages, .. } => {
                self.appended_since_sync += i64::from(batch.header.last_offset_delta) + 1;
                let due = self.appended_since_sync >= flush_messages;
                if due {
                    self.appended_since_sync = 0;
                }
                due
            }
        }
    }

    /// Takes the completion of a write. An error is returned for the driver to start a recovery.
    pub(super) fn completed(
        &mut self,
        ticket: Ticket,
        incarnation: u64,
        result: io::Result<()>,
    ) -> io::Result<()> {
        if incarnation != self.incarnation || self.machine.is_storage_failed() {
            return Ok(());
        }
        result?;
        if let Some(write) = self
            .under_way
            .iter_mut()
            .find(|write| write.ticket == ticket)
        {
            write.done = true;
        }
        let mut durable = None;
        while self.under_way.front().is_some_and(|write| write.done) {
            let write = self.under_way.pop_front().expect("the front was looked at");
            self.log.completed(write.ticket);
            if write.safe {
                durable = Some(write.end);
            }
        }
        if let Some(end) = durable {
            self.machine.step(Event::Durable { end }, &mut self.effects);
        }
        Ok(())
    }

    /// Refuses everyone who waits, then cuts the log back to what is known to be durable.
    pub(super) async fn recover(&mut self, now: Instant) -> Result<(), ErrorCode> {
        self.machine.step(Event::StorageFailed, &mut self.effects);
        self.incarnation += 1;
        self.under_way.clear();
        match self.log.fall_back().await {
            Ok(()) if self.log.log_end_offset() < self.machine.high_watermark() => {
                let partition = self.topic_partition();
                let end = self.log.log_end_offset();
                tracing::error!(
                    %partition, %end, high_watermark = %self.machine.high_watermark(),
                    "records that readers have seen are gone: the partition stays offline until \
                     a restart"
                );
                Err(ErrorCode::KafkaStorageError)
            }
            Ok(()) => {
                let end = self.log.log_end_offset();
                let recovered = Event::StorageRecovered { end, now };
                self.machine.step(recovered, &mut self.effects);
                Ok(())
            }
            Err(error) => {
                tracing::error!(partition = %self.topic_partition(), %error, "recovery failed");
                if error.is_damage() {
                    self.machine.damage_is_in_the_way();
                }
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }

    /// Rolls, expires and removes what is due. Only a leader decides what is; where there are
    /// followers, its log follows theirs.
    pub(super) async fn maintain(
        &mut self,
        now: Timestamp,
        monotonic: Instant,
    ) -> Result<(), LogError> {
        self.log.roll_if_due(now).await?;
        self.log.expire_producers(monotonic);
        if self.machine.is_leader() {
            let deletable_end = self.deletable_end();
            let start = self.log.retention_start(now, deletable_end).await?;
            // Cannot be refused: it leads, and its storage works.
            let _ = self.machine.want_start(start);
        }
        let start = self.start_due().unwrap_or(self.log.log_start_offset());
        let removed = self.log.remove_before(start, now).await?;
        if removed.segments_removed > 0 {
            tracing::info!(
                partition = %self.topic_partition(),
                segments = removed.segments_removed,
                bytes = removed.bytes_removed,
                log_start_offset = removed.log_start_offset.0,
                "retention removed old segments"
            );
        }
        Ok(())
    }

    /// Exclusive end of what may be deleted.
    pub(super) fn deletable_end(&self) -> Offset {
        match crate::mutant!("deleted-beyond-high-watermark") && self.machine.is_leader() {
            true => self.log.log_end_offset(),
            false => self.machine.high_watermark(),
        }
    }

    pub(super) fn topic_partition(&self) -> &TopicPartition {
        &self.log.identity().topic_partition
    }

    /// Whether writes are still under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    pub(super) fn is_storage_failed(&self) -> bool {
        self.machine.is_storage_failed()
    }

    pub(super) fn high_watermark(&self) -> Offset {
        self.machine.high_watermark()
    }

    /// The effects since the last call, in order.
    pub(super) fn take_effects(&mut self) -> Vec<Effect<Waiter>> {
        std::mem::take(&mut self.effects)
    }
}

fn refused(code: ErrorCode) -> AppendRefused {
    let reason = match code {
        ErrorCode::KafkaStorageError => {
            tracing::trace!(target: "klamm::probe", name = "append-refused-offline");
            "the log is recovering from a failed write"
        }
        ErrorCode::NotEnoughReplicas => "fewer replicas are in sync than min.insync.replicas asks",
        _ => return AppendRefused::not_here(),
    };
    let reason = reason.to_owned();
    AppendRefused { code, reason }
}

/// The offset that a duplicate is answered with: its own.
fn told_again(base_offset: Offset) -> Offset {
    match crate::mutant!("duplicate-answered-with-offset-zero") {
        true => Offset::ZERO,
        false => base_offset,
    }
}
