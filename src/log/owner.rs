//! The owner of a log: its state, how it begins and ends.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::append::{Pending, Ticket};
use super::compaction::CleanPoint;
use super::config::LogConfig;
use super::epoch_cache::EpochCache;
use super::error::LogError;
use super::header_page::{DurableSlot, HEADER_PAGE_BYTES, SegmentId};
use super::identity::LogIdentity;
use super::index::{IndexOf, SegmentIndex};
use super::log_start;
use super::producer_snapshot;
use super::producer_state::ProducerState;
use super::reader::LogReader;
use super::recovery_point::RecoveryPoints;
use super::segment::{Active, Segment, Shared, View};
use super::tail_cache::{TailCache, TailHold};
use crate::env::{Env, File, Rng};
use crate::types::{Instant, LeaderEpoch, Offset, Timestamp};

/// What a closed log looked like: a clean-shutdown marker keeps it, and [`Log::open`] compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CleanEnd {
    pub log_end_offset: Offset,
    /// Length of all segment files together.
    pub file_bytes: u64,
}

/// How to create or open a log.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub identity: LogIdentity,
    pub config: LogConfig,
    /// What the clean-shutdown marker says; `None` after any other end.
    pub clean: Option<CleanEnd>,
    pub tail_cache: Arc<TailCache>,
}

/// A place between batches in the active segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Point {
    pub offset: Offset,
    pub position: u64,
    /// See [`super::header_page`].
    pub chain: u32,
}

/// What the owner alone knows of the active segment.
pub(super) struct Writer {
    pub id: SegmentId,
    /// Where the next batch goes.
    pub end: Point,
    /// Everything before it survives a power loss.
    pub durable: Point,
    /// The slot written last.
    pub slot: DurableSlot,
    /// The append that `slot` was written with, until that is durable. Until then no other slot
    /// is written: one of the two in the file is always whole.
    pub slot_ticket: Option<Ticket>,
    /// Submitted and not known to be done, oldest first.
    pub pending: VecDeque<Pending>,
    pub next_ticket: u64,
    /// When the segment got its first batch, by the wall clock.
    pub filled_since: Option<Timestamp>,
    /// Taken from `segment_ms` for this segment.
    pub jitter_ms: i64,
}

impl Writer {
    pub fn new(id: SegmentId, end: Point, slot: DurableSlot) -> Self {
        Self {
            id,
            end,
            durable: end,
            slot,
            slot_ticket: None,
            pending: VecDeque::new(),
            next_ticket: 0,
            filled_since: None,
            jitter_ms: 0,
        }
    }

    /// The next slot, which says that everything before `durable` is so.
    pub fn next_slot(&self, durable: Point) -> DurableSlot {
        DurableSlot {
            sequence: self.slot.sequence + 1,
            position: durable.position,
            end_offset: durable.offset,
            chain: durable.chain,
        }
    }
}

/// One partition's log. It belongs to one task; see the [module](super).
pub struct Log {
    pub(super) env: Env,
    pub(super) shared: Arc<Shared>,
    pub(super) config: LogConfig,
    pub(super) producers: ProducerState,
    pub(super) writer: Writer,
    pub(super) points: RecoveryPoints,
    /// Offsets of the producer snapshots on disk, ascending.
    pub(super) snapshots: Vec<Offset>,
    /// Files to be removed, and since when.
    pub(super) deleted: Vec<(PathBuf, Timestamp)>,
    pub(super) clean_point: Option<CleanPoint>,
    /// Why nothing can be appended any more.
    pub(super) stopped: Option<String>,
    /// Where a segment was to begin whose creation failed, and of which something may be left.
    pub(super) unmade: Option<Offset>,
    /// Whether it may be noted that the log is being emptied.
    pub(super) is_restarting: bool,
    /// Whether files beside the active segment lag behind it.
    pub(super) dirty: bool,
    pub(super) jitter: Option<Rng>,
}

/// What a log is put together from.
pub(super) struct Parts {
    pub sealed: Vec<Arc<Segment>>,
    pub index: SegmentIndex,
    pub file: Option<Arc<dyn File>>,
    pub writer: Writer,
    pub log_start_offset: Offset,
    pub epochs: EpochCache,
    pub producers: ProducerState,
    pub snapshots: Vec<Offset>,
    pub points: RecoveryPoints,
    pub clean_point: Option<CleanPoint>,
    pub dirty: bool,
}

impl Log {
    /// Makes a new, empty log in `dir`. Durable when it returns. A directory left by a creation
    /// that did not finish is taken over.
    pub async fn create(env: &Env, dir: &Path, options: OpenOptions) -> Result<Self, LogError> {
        Self::create_at(env, dir, options, Offset::ZERO).await
    }

    /// Like [`Log::create`], for a copy that begins at `start`.
    pub async fn create_at(
        env: &Env,
        dir: &Path,
        options: OpenOptions,
        start: Offset,
    ) -> Result<Self, LogError> {
        let disk = &*env.disk;
        disk.create_dir(dir).await.map_err(LogError::io(dir))?;
        let listed = disk.list(dir).await;
        for entry in listed.map_err(LogError::io(dir))? {
            if super::recovery::holds_data(&entry) {
                return Err(LogError::Exists {
                    path: dir.to_owned(),
                });
            }
        }
        if options.identity.check(disk, dir).await? {
            return Err(LogError::Exists {
                path: dir.to_owned(),
            });
        }
        if let Some(above) = dir.parent() {
            disk.sync_dir(above).await.map_err(LogError::io(above))?;
        }
        if start > Offset::ZERO {
            log_start::save(disk, dir, start).await?;
        }
        let id = SegmentId::new(&options.identity, start, 0);
        let file = super::roll::create_segment(disk, dir, &id).await?;
        options.identity.save(disk, dir).await?;
        let end = Point {
            offset: start,
            position: HEADER_PAGE_BYTES,
            chain: 0,
        };
        let mut producers = ProducerState::default();
        producers.restart_at(start);
        let parts = Parts {
            sealed: Vec::new(),
            index: SegmentIndex::new(start),
            file: Some(file),
            writer: Writer::new(id, end, DurableSlot::empty(start)),
            log_start_offset: start,
            epochs: EpochCache::default(),
            producers,
            snapshots: Vec::new(),
            points: RecoveryPoints::default(),
            clean_point: None,
            dirty: true,
        };
        Ok(Self::from_parts(env, dir, options, parts))
    }

    pub(super) fn from_parts(env: &Env, dir: &Path, options: OpenOptions, parts: Parts) -> Self {
        let end = parts.writer.end;
        let view = View {
            sealed: parts.sealed,
            active: Active {
                base_offset: parts.writer.id.base_offset,
                position: end.position,
                index: parts.index,
                file: parts.file,
                written: (end.offset, end.position),
            },
            log_start_offset: parts.log_start_offset,
            log_end_offset: end.offset,
            epochs: parts.epochs,
            changes: 0,
        };
        let config = options.config;
        let shared = Shared::new(
            dir.to_owned(),
            env.disk.clone(),
            options.identity,
            TailHold::new(options.tail_cache),
            config.index_interval_bytes,
            view,
        );
        let jitter = (config.segment_jitter_ms > 0).then(|| env.entropy.stream("segment jitter"));
        let mut log = Self {
            env: env.clone(),
            shared,
            config,
            producers: parts.producers,
            writer: parts.writer,
            points: parts.points,
            snapshots: parts.snapshots,
            deleted: Vec::new(),
            clean_point: parts.clean_point,
            stopped: None,
            unmade: None,
            is_restarting: false,
            dirty: parts.dirty,
            jitter,
        };
        log.writer.jitter_ms = log.draw_jitter();
        if end.position > HEADER_PAGE_BYTES {
            log.writer.filled_since = Some(env.wall());
        }
        log.forget_foreign_producers();
        log
    }

    /// Reads beside the owner.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader {
            shared: self.shared.clone(),
        }
    }

    #[must_use]
    pub fn identity(&self) -> &LogIdentity {
        &self.shared.identity
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    pub fn set_config(&mut self, config: LogConfig) {
        if config.segment_jitter_ms > 0 && self.jitter.is_none() {
            self.jitter = Some(self.env.entropy.stream("segment jitter"));
        }
        let redraw = config.segment_jitter_ms != self.config.segment_jitter_ms
            || config.segment_ms != self.config.segment_ms;
        let is_since_changed = config.producers_since != self.config.producers_since;
        self.config = config;
        if is_since_changed {
            self.forget_foreign_producers();
            self.dirty = true;
        }
        if redraw {
            self.writer.jitter_ms = self.draw_jitter();
        }
    }

    /// Forgets producers of batches from before `producers_since`. To be called whenever the
    /// producers were put together from batches of any epoch.
    pub(super) fn forget_foreign_producers(&mut self) {
        let since = self.config.producers_since;
        let since = since.filter(|_| !crate::mutant!("mirror-producers-kept"));
        let Some(since) = since else {
            return;
        };
        let floor = {
            let view = self.shared.view();
            let entries = view.epochs.entries();
            let at = entries.partition_point(|entry| entry.epoch < since);
            // Of the time before nothing is left, and what is remembered of it was forgotten then.
            (at > 0).then(|| {
                let first = entries.get(at);
                first.map_or(view.log_end_offset, |entry| entry.start_offset)
            })
        };
        if let Some(floor) = floor {
            self.producers.forget_below(floor);
        }
    }

    /// Moves a log that has no record to where its first may be, if that is later; whether it did.
    /// Durable when it returns. An error is one of [`Log::restart_at`].
    pub async fn begin_at_first(&mut self) -> Result<bool, LogError> {
        let first = self.config.first_offset;
        if self.log_start_offset() < first && self.log_end_offset() == first {
            // A crash came between the steps of this. Without a segment of its own the first record
            // would come behind a hole in one that begins before it.
            if self.writer.id.base_offset < first {
                self.roll(first).await?;
            }
            self.delete_records_before(first).await?;
            return Ok(true);
        }
        let is_empty = self.log_start_offset() == self.log_end_offset();
        if !is_empty || self.log_end_offset() >= first {
            return Ok(false);
        }
        self.restart_at(first).await?;
        Ok(true)
    }

    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.shared.view().log_start_offset
    }

    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.writer.end.offset
    }

    /// Everything below survived a sync: no crash and no power loss takes it.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.writer.durable.offset
    }

    /// The newest leader epoch in the log.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        let latest = self.shared.view().epochs.latest();
        latest.map(|entry| entry.epoch)
    }

    /// Where each leader epoch begins in the log, oldest first.
    #[must_use]
    pub fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        let view = self.shared.view();
        let entries = view.epochs.entries().iter();
        entries
            .map(|entry| (entry.epoch, entry.start_offset))
            .collect()
    }

    /// Says that what is appended from now on is of `epoch`, so that those before it end here even
    /// if nothing is. In memory until the next checkpoint: an epoch without records is not missed
    /// after a restart.
    pub fn begin_epoch(&mut self, epoch: LeaderEpoch) {
        let end = self.writer.end.offset;
        if self.shared.view().epochs.assign(epoch, end) {
            self.dirty = true;
        }
    }

    #[must_use]
    pub fn producers(&self) -> &ProducerState {
        &self.producers
    }

    /// Forgets producers that were idle too long; how many.
    pub fn expire_producers(&mut self, now: Instant) -> usize {
        let after = u64::try_from(self.config.producer_id_expiration_ms).unwrap_or(0);
        self.producers
            .expire(now, std::time::Duration::from_millis(after))
    }

    /// Fails when an earlier failure stopped the log.
    pub(super) fn usable(&self) -> Result<(), LogError> {
        match &self.stopped {
            None => Ok(()),
            Some(reason) => Err(LogError::Stopped {
                path: self.shared.dir.clone(),
                reason: reason.clone(),
            }),
        }
    }

    pub(super) fn active_path(&self) -> PathBuf {
        self.shared.path(self.writer.id.base_offset)
    }

    pub(super) async fn active_file(&self) -> Result<Arc<dyn File>, LogError> {
        let file = self.shared.active_file().await;
        file.map_err(LogError::io(&self.active_path()))
    }

    /// All that was submitted is durable: a sync called after it succeeded.
    pub(super) fn all_durable(&mut self) {
        let end = self.writer.end;
        self.writer.durable = end;
        self.writer.pending.clear();
        self.writer.slot_ticket = None;
        self.shared.view().active.written = (end.offset, end.position);
    }

    /// Makes everything appended so far durable.
    pub async fn sync_all(&mut self) -> io::Result<()> {
        if self.writer.pending.is_empty() && self.writer.durable == self.writer.end {
            return Ok(());
        }
        let file = self.shared.active_file().await?;
        file.sync().await?;
        self.all_durable();
        Ok(())
    }

    /// Notes in the segment itself how far it is durable, if it does not say so already; whether
    /// it did not. Appends do this for those before them; call it on a log that went idle.
    pub async fn stamp(&mut self) -> io::Result<bool> {
        let behind = self.writer.durable.position > self.writer.slot.position;
        if !behind || self.writer.slot_ticket.is_some() {
            return Ok(false);
        }
        let file = self.shared.active_file().await?;
        let slot = self.writer.next_slot(self.writer.durable);
        write_slot(&*file, &self.writer.id, &slot).await?;
        self.writer.slot = slot;
        Ok(true)
    }

    /// Syncs and writes what lets the next [`Log::open`] begin without looking through the log.
    pub async fn close(mut self) -> Result<CleanEnd, LogError> {
        let finished = self.finish_points().await;
        self.usable()?;
        finished?;
        let path = self.active_path();
        self.sync_all().await.map_err(LogError::io(&path))?;
        self.stamp().await.map_err(LogError::io(&path))?;
        if self.dirty && !self.is_unused() {
            self.save_beside().await?;
        }
        let file_bytes = {
            let view = self.shared.view();
            let sealed: u64 = view.sealed.iter().map(|segment| segment.file_bytes).sum();
            sealed + view.active.position
        };
        Ok(CleanEnd {
            log_end_offset: self.writer.end.offset,
            file_bytes,
        })
    }

    /// Whether nothing was ever in it: then what lies beside a log is told by nothing as well, and
    /// thousands of such logs need not be written to for their broker to stop.
    fn is_unused(&self) -> bool {
        let end = self.writer.end;
        end.offset == Offset::ZERO && end.position == HEADER_PAGE_BYTES
    }

    /// Saves index, producer state and epochs as of the log's end, which must be durable.
    pub(super) async fn save_beside(&mut self) -> Result<(), LogError> {
        let disk = &*self.env.disk;
        let dir = &self.shared.dir;
        let (index, epochs) = {
            let view = self.shared.view();
            (view.active.index.clone(), view.epochs.clone())
        };
        let of = IndexOf {
            generation: self.writer.id.generation,
            file_bytes: self.writer.end.position,
            end_offset: self.writer.end.offset,
            chain: self.writer.end.chain,
        };
        index.save(disk, dir, &of).await?;
        // First the epochs: batches below a snapshot are not replayed for those of theirs that
        // the file lacks.
        epochs.save(disk, dir).await?;
        producer_snapshot::save(disk, dir, &self.producers).await?;
        if self.snapshots.last() != Some(&self.producers.end()) {
            self.snapshots.push(self.producers.end());
        }
        self.prune_snapshots().await?;
        self.dirty = false;
        Ok(())
    }
}

/// Writes `slot` and makes it durable.
pub(super) async fn write_slot(
    file: &dyn File,
    id: &SegmentId,
    slot: &DurableSlot,
) -> io::Result<()> {
    let (at, bytes) = slot.encode(id);
    drop(file.write_at(at, vec![bytes]));
    file.sync().await
}
