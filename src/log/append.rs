//! Adding batches, and learning what became durable.
//!
//! An append submits one vectored write (the patched header and the shared payload) and, unless
//! told otherwise, the sync that covers it, and returns at once with the future of its outcome.
//! Tickets count appends. **Invariant**: [`Log::durable_end`] moves past an append only when its
//! own outcome and all before it were good, since after a failed sync a later good one proves
//! nothing for what the failed one covered.

use std::io;

use bytes::Bytes;

use super::error::AppendError;
use super::header_page::HEADER_PAGE_BYTES;
use super::owner::{Log, Point};
use super::producer_state::Verdict;
use super::scan::chained;
use crate::env::{BoxFuture, File};
use crate::types::{LeaderEpoch, Offset, Timestamp};
use crate::wire::batch::{BatchHeader, RecordBatch, TimestampType};

/// Counts the appends of one open log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub(super) u64);

/// What became of a batch.
pub enum Append {
    New(Appended),
    /// It was in the log already. Answer with this place once it is as durable as a new batch.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
        /// `NONE` unless the topic uses log append time.
        log_append_time: Timestamp,
    },
}

/// A batch on its way to the disk.
pub struct Appended {
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// The log's end after it.
    pub end: Offset,
    /// `NONE` unless the topic uses log append time.
    pub log_append_time: Timestamp,
    /// For [`Log::completed`], once `done` succeeded.
    pub ticket: Ticket,
    /// Succeeds once the batch is durable (or only written, where no sync was asked for). Dropping
    /// it cancels nothing. After a failure: [`Log::fall_back`].
    pub done: BoxFuture<'static, io::Result<()>>,
}

/// An append whose outcome is not settled.
pub(super) struct Pending {
    ticket: Ticket,
    end: Point,
    synced: bool,
    done: bool,
}

impl Log {
    /// Appends a batch from a client: checks its producer, gives it offsets and `leader_epoch`,
    /// and submits it, with a sync if `sync`. Waits only where a new segment must begin.
    ///
    /// On error nothing of the batch is in the log.
    pub async fn append(
        &mut self,
        batch: &RecordBatch,
        leader_epoch: LeaderEpoch,
        now: Timestamp,
        sync: bool,
    ) -> Result<Append, AppendError> {
        self.check_size(batch)?;
        let by_log = self.config.message_timestamp_type == TimestampType::LogAppendTime;
        if let Verdict::Duplicate {
            base_offset,
            last_offset,
            timestamp,
        } = self.producers.check(&batch.header)?
        {
            tracing::trace!(target: "klamm::probe", name = "duplicate-answered");
            return Ok(Append::Duplicate {
                base_offset,
                last_offset,
                log_append_time: if by_log { timestamp } else { Timestamp::NONE },
            });
        }
        let base_offset = self.writer.end.offset;
        if by_log {
            let stamped = batch.with_log_append_time(now);
            let mut appended = self
                .append_at(&stamped, (base_offset, leader_epoch), now, sync, true)
                .await?;
            appended.log_append_time = now;
            return Ok(Append::New(appended));
        }
        let appended = self
            .append_at(batch, (base_offset, leader_epoch), now, sync, true)
            .await?;
        Ok(Append::New(appended))
    }

    /// Appends a batch copied from another log, with the offsets and the epoch it has there.
    pub async fn append_as_is(
        &mut self,
        batch: &RecordBatch,
        now: Timestamp,
        sync: bool,
    ) -> Result<Appended, AppendError> {
        let header = &batch.header;
        let older = self
            .latest_epoch()
            .is_some_and(|latest| header.leader_epoch < latest);
        if header.base_offset < self.writer.end.offset || older {
            return Err(AppendError::OutOfOrder {
                offset: header.base_offset,
                log_end_offset: self.writer.end.offset,
            });
        }
        let cached = self.config.copies_in_memory;
        let place = (header.base_offset, header.leader_epoch);
        self.append_at(batch, place, now, sync, cached).await
    }

    /// Appends a batch copied from another cluster's log: with the offsets it has there, which may
    /// leave a gap, and an epoch of this one. Its producer is believed.
    pub async fn append_mirrored(
        &mut self,
        batch: &RecordBatch,
        leader_epoch: LeaderEpoch,
        now: Timestamp,
        sync: bool,
    ) -> Result<Appended, AppendError> {
        let base_offset = batch.header.base_offset;
        let log_end_offset = self.writer.end.offset;
        if base_offset < log_end_offset {
            return Err(AppendError::OutOfOrder {
                offset: base_offset,
                log_end_offset,
            });
        }
        self.append_at(batch, (base_offset, leader_epoch), now, sync, true)
            .await
    }

    fn check_size(&self, batch: &RecordBatch) -> Result<(), AppendError> {
        let limit = self.config.max_message_bytes;
        match batch.total_bytes() {
            bytes if bytes > limit => Err(AppendError::TooLarge { bytes, limit }),
            _ => Ok(()),
        }
    }

    async fn append_at(
        &mut self,
        batch: &RecordBatch,
        (base_offset, leader_epoch): (Offset, LeaderEpoch),
        now: Timestamp,
        sync: bool,
        cached: bool,
    ) -> Result<Appended, AppendError> {
        self.usable()?;
        let header = BatchHeader {
            base_offset,
            leader_epoch,
            ..batch.header
        };
        if header.end_offset() == Offset(i64::MAX) {
            return Err(AppendError::OffsetOverflow {
                log_end_offset: self.writer.end.offset,
            });
        }
        if crate::mutant!("producer-state-before-append") {
            self.producers.append(&header);
        }
        if self.must_roll(&header, now) {
            self.roll(base_offset).await?;
        }
        let file = self.active_file().await?;
        let [head, payload] = batch.placed(base_offset, leader_epoch);
        let (tail, parts) = (&self.shared.tail, [head.clone(), payload.clone()]);
        match cached {
            true => tail.push(base_offset, header.end_offset(), parts),
            false if crate::mutant!("copies-leave-a-gap-in-the-tail") => {}
            // What is there must end at the log's end.
            false => tail.clear(),
        }
        Ok(self.submit(&*file, &header, [head, payload], now, sync))
    }

    fn submit(
        &mut self,
        file: &dyn File,
        header: &BatchHeader,
        [head, payload]: [Bytes; 2],
        now: Timestamp,
        sync: bool,
    ) -> Appended {
        let ticket = Ticket(self.writer.next_ticket);
        self.writer.next_ticket += 1;
        let start = self.writer.end;
        let end = Point {
            offset: header.end_offset(),
            position: start.position + header.total_bytes() as u64,
            chain: chained(start.chain, &head),
        };
        if sync {
            let durable = match crate::mutant!("slot-before-sync") {
                true => end,
                false => self.writer.durable,
            };
            self.stamp_with(file, ticket, durable);
        }
        let written = file.write_at(start.position, vec![head, payload]);
        let done = if sync {
            // A write happens though its future is dropped, and a good sync implies it.
            drop(written);
            file.sync()
        } else {
            written
        };
        self.enter(header, start, end, now);
        self.capture_point(header.leader_epoch);
        self.writer.pending.push_back(Pending {
            ticket,
            end,
            synced: sync,
            done: false,
        });
        Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            end: end.offset,
            log_append_time: Timestamp::NONE,
            ticket,
            done,
        }
    }

    /// Writes a durable slot, if there is something new to say, for the coming sync to carry.
    fn stamp_with(&mut self, file: &dyn File, ticket: Ticket, durable: Point) {
        let behind = durable.position > self.writer.slot.position;
        if !behind || self.writer.slot_ticket.is_some() {
            return;
        }
        let slot = self.writer.next_slot(durable);
        let (at, bytes) = slot.encode(&self.writer.id);
        drop(file.write_at(at, vec![bytes]));
        self.writer.slot = slot;
        self.writer.slot_ticket = Some(ticket);
    }

    /// Takes a submitted batch into all that is known of the log.
    fn enter(&mut self, header: &BatchHeader, start: Point, end: Point, now: Timestamp) {
        if start.position == HEADER_PAGE_BYTES {
            self.writer.filled_since = Some(now);
        }
        self.writer.end = end;
        self.dirty = true;
        let since = self.config.producers_since;
        let since = since.filter(|_| !crate::mutant!("mirror-producers-kept"));
        if since.is_some_and(|since| header.leader_epoch < since) {
            self.producers.pass_over(header);
        } else if !crate::mutant!("producer-state-before-append") {
            self.producers.append(header);
        }
        let interval = self.config.index_interval_bytes;
        let mut view = self.shared.view();
        let active = &mut view.active;
        active
            .index
            .add(header, start.position, start.offset, interval);
        active.index.appended_at = active.index.appended_at.max(now);
        active.position = end.position;
        view.log_end_offset = end.offset;
        let newer = |latest: super::epoch_cache::EpochStart| header.leader_epoch > latest.epoch;
        if view.epochs.latest().is_none_or(newer) {
            view.epochs.assign(header.leader_epoch, header.base_offset);
        }
    }

    /// The append of `ticket` is done: its future succeeded.
    pub fn completed(&mut self, ticket: Ticket) {
        let pending = &mut self.writer.pending;
        let Some(first) = pending.front().map(|pending| pending.ticket.0) else {
            return;
        };
        // An older one was settled by a sync of everything.
        let Some(at) = ticket.0.checked_sub(first) else {
            return;
        };
        let Some(entry) = usize::try_from(at).ok().and_then(|at| pending.get_mut(at)) else {
            return;
        };
        entry.done = true;
        let mut written = None;
        while let Some(front) = self.writer.pending.front()
            && front.done
        {
            written = Some((front.end.offset, front.end.position));
            if front.synced {
                self.writer.durable = front.end;
                if self
                    .writer
                    .slot_ticket
                    .is_some_and(|slot| slot <= front.ticket)
                {
                    self.writer.slot_ticket = None;
                }
            }
            self.writer.pending.pop_front();
        }
        if let Some(written) = written {
            self.shared.view().active.written = written;
        }
    }
}
