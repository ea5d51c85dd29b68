//! Places within the active segment from which on recovery reads it.
//!
//! A segment may hold a gigabyte when the process ends, and all of it was durable but the last
//! moments. So now and then what recovery learns from the batches before some place is saved
//! beside the log, and the next start begins there.
//!
//! A point is put together when a batch is appended, from what is in memory anyway, and waits
//! until that batch is durable. Only then it is written, beside the appends.
//!
//! **Invariant**: while a point can be found in the directory, the batches that it speaks of are
//! durable and as they were. So it is written only after a sync that covered them, and is durably
//! gone before the log is cut: what grows there afterwards may end in the same place. It names its
//! segment with its generation; of another one it says nothing.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::{FutureExt as _, Shared};

use super::checkpoint::{self, CheckpointError, TEMPORARY_SUFFIX};
use super::epoch_cache::EpochCache;
use super::error::LogError;
use super::header_page::{DurableSlot, HEADER_PAGE_BYTES, SEGMENT_ID_BYTES, SegmentId};
use super::index::{IndexOf, SegmentIndex};
use super::owner::{Log, Point};
use super::producer_snapshot;
use super::producer_state::ProducerState;
use super::roll::remove_if_there;
use crate::env::{BoxFuture, Disk};
use crate::types::LeaderEpoch;

/// The checkpoint that holds the newest point.
pub(super) const FILE_NAME: &str = "recovery-point";

const VERSION: u16 = 1;
const HEAD_BYTES: usize = 2 + SEGMENT_ID_BYTES + 4 + 8 + 4 + 4;

/// A log with many producers has large points, which are made more rarely: for each byte beyond the
/// size that others have so many are appended, of which writing points stays a small part then.
const BYTES_BETWEEN_PER_BYTE: u64 = 16;
const USUAL_BYTES_MAX: u64 = 1 << 20;

/// A point being saved. Polled by whoever waits for it, and by the log's owner.
pub type SavingPoint = Shared<BoxFuture<'static, bool>>;

/// What recovery knows at a place without having read what is before it.
pub(super) struct RecoveryPoint {
    pub at: Point,
    /// Of the last batch before it.
    pub leader_epoch: LeaderEpoch,
    pub index: SegmentIndex,
    /// Those that begin before it.
    pub epochs: EpochCache,
    pub producers: ProducerState,
}

/// A point that waits for its batches to be durable.
struct Captured {
    at: Point,
    body: Bytes,
}

/// A place up to which a log is being synced beside its appends.
pub struct Flushing {
    at: Point,
    /// Succeeds once it is durable up to there. After a failure: [`Log::fall_back`].
    pub done: BoxFuture<'static, std::io::Result<()>>,
}

/// The place that a [`Flushing`] was for.
pub struct Flushed(Point);

impl Flushing {
    /// What to wait for, and what to tell [`Log::flushed`] then.
    pub fn parts(self) -> (Flushed, BoxFuture<'static, std::io::Result<()>>) {
        (Flushed(self.at), self.done)
    }
}

/// What the owner of a log knows of its points.
#[derive(Default)]
pub(super) struct RecoveryPoints {
    captured: Option<Captured>,
    /// Where the last one was captured, in the active segment; or 0.
    last: u64,
    /// Bytes that the last one took.
    last_bytes: u64,
    saving: Option<SavingPoint>,
    /// Up to where the segment is being synced for the one captured.
    flushing: Option<Point>,
    /// Whether the directory may hold one.
    may_be_there: bool,
    /// Whether one may have been left half written.
    is_unfinished: bool,
}

impl RecoveryPoints {
    /// Of a log that was opened. `used`: where the point lies that its recovery began at.
    pub fn found(may_be_there: bool, used: Option<u64>) -> Self {
        Self {
            may_be_there,
            last: used.unwrap_or(0),
            ..Self::default()
        }
    }

    /// Another segment is being written, or this one was cut.
    fn begin_anew(&mut self) {
        self.captured = None;
        self.flushing = None;
        self.last = 0;
    }
}

impl RecoveryPoint {
    /// Up to where the segment is durable: the point says so, and the newest slot.
    pub fn floor(&self, slot: DurableSlot) -> DurableSlot {
        if self.at.position <= slot.position {
            return slot;
        }
        tracing::trace!(target: "klamm::probe", name = "recovery-point-beyond-slot");
        DurableSlot {
            sequence: slot.sequence,
            position: self.at.position,
            end_offset: self.at.offset,
            chain: self.at.chain,
        }
    }

    /// The epochs that `known`, the file of them, and this point speak of.
    pub fn joined_to(&self, known: &EpochCache) -> EpochCache {
        let mut epochs = self.epochs.clone();
        let later = known.entries().iter();
        for entry in later.filter(|entry| entry.start_offset >= self.at.offset) {
            if epochs
                .latest()
                .is_none_or(|latest| latest.epoch < entry.epoch)
            {
                epochs.assign(entry.epoch, entry.start_offset);
            }
        }
        epochs
    }

    fn encode(&self, id: &SegmentId) -> Bytes {
        let of = IndexOf {
            generation: id.generation,
            file_bytes: self.at.position,
            end_offset: self.at.offset,
            chain: self.at.chain,
        };
        let index = self.index.encode(&of);
        let epochs = self.epochs.encode();
        let producers = producer_snapshot::encode(&self.producers);
        let all = HEAD_BYTES + index.len() + epochs.len() + producers.len();
        let mut to = BytesMut::with_capacity(all);
        to.put_u16(VERSION);
        to.put_slice(&id.encode());
        to.put_i32(self.leader_epoch.0);
        to.put_u64(self.index.bytes_since_entry);
        to.put_u32(u32::try_from(index.len()).expect("its entries are few"));
        to.put_u32(u32::try_from(epochs.len()).expect("epochs are i32"));
        to.put_slice(&index);
        to.put_slice(&epochs);
        to.put_slice(&producers);
        to.freeze()
    }

    /// `Ok(None)`: it is of another segment.
    fn decode(mut from: Bytes, id: &SegmentId) -> Result<Option<Self>, String> {
        if from.len() < HEAD_BYTES {
            return Err(format!("{} bytes are too few", from.len()));
        }
        let version = from.get_u16();
        if version != VERSION {
            return Err(format!(
                "its version is {version}, this program knows {VERSION}"
            ));
        }
        if from.split_to(SEGMENT_ID_BYTES) != id.encode() {
            return Ok(None);
        }
        let leader_epoch = LeaderEpoch(from.get_i32());
        let bytes_since_entry = from.get_u64();
        let mut part = || usize::try_from(from.get_u32()).unwrap_or(usize::MAX);
        let (index_bytes, epochs_bytes) = (part(), part());
        if from.len() < index_bytes.saturating_add(epochs_bytes) {
            return Err("its parts are cut short".to_owned());
        }
        let index = SegmentIndex::decode(id.base_offset, from.split_to(index_bytes));
        let (of, mut index) = index.ok_or("its index cannot be read")?;
        index.bytes_since_entry = bytes_since_entry;
        let epochs = EpochCache::decode(from.split_to(epochs_bytes))?;
        let producers = producer_snapshot::decode(from)?;
        if producers.end() != of.end_offset || of.file_bytes <= HEADER_PAGE_BYTES {
            return Err("its parts are not of one place".to_owned());
        }
        Ok(Some(Self {
            at: Point {
                offset: of.end_offset,
                position: of.file_bytes,
                chain: of.chain,
            },
            leader_epoch,
            index,
            epochs,
            producers,
        }))
    }

    /// The point in `dir`, if it is one of the segment `id`.
    pub async fn load(
        disk: &dyn Disk,
        dir: &Path,
        id: &SegmentId,
    ) -> Result<Option<Self>, CheckpointError> {
        let Some(body) = checkpoint::read(disk, dir, FILE_NAME).await? else {
            return Ok(None);
        };
        Self::decode(body, id).map_err(|reason| CheckpointError::damaged(dir, FILE_NAME, reason))
    }
}

impl Log {
    /// Puts a point together at the log's end if it is far enough from the last one. To be called
    /// when a batch of `leader_epoch` was taken into all that is known of the log.
    pub(super) fn capture_point(&mut self, leader_epoch: LeaderEpoch) {
        let at = self.writer.end;
        let points = &mut self.points;
        let interval = self.config.recovery_point_interval_bytes;
        let beyond = points.last_bytes.saturating_sub(USUAL_BYTES_MAX);
        let interval = interval.max(BYTES_BETWEEN_PER_BYTE * beyond);
        let from = points.last.max(HEADER_PAGE_BYTES);
        if points.captured.is_some() || at.position < from.saturating_add(interval) {
            return;
        }
        let (index, mut epochs) = {
            let view = self.shared.view();
            (view.active.index.thinned(), view.epochs.clone())
        };
        // One that nothing was written in yet may be gone when the log is cut back to this place.
        epochs.truncate_from_end(at.offset);
        let point = RecoveryPoint {
            at,
            leader_epoch,
            index,
            epochs,
            producers: std::mem::take(&mut self.producers),
        };
        let body = point.encode(&self.writer.id);
        self.producers = point.producers;
        points.last = at.position;
        points.last_bytes = body.len() as u64;
        points.captured = Some(Captured { at, body });
    }

    /// Begins to save the point that is due, if one is: all before it became durable. The log's
    /// owner must see to it that what is returned is polled. To be called when durability has
    /// moved.
    pub fn save_recovery_point(&mut self) -> Option<SavingPoint> {
        let points = &mut self.points;
        let is_under_way = |saving: &SavingPoint| saving.peek().is_none();
        if points.saving.as_ref().is_some_and(is_under_way) {
            return None;
        }
        let is_durable = |captured: &mut Captured| {
            captured.at.position <= self.writer.durable.position
                || crate::mutant!("recovery-point-before-sync")
        };
        let captured = points.captured.take_if(is_durable)?;
        let (disk, dir) = (self.env.disk.clone(), self.shared.dir.clone());
        points.may_be_there = true;
        points.is_unfinished = true;
        let saving = async move {
            let saved = checkpoint::write(&*disk, &dir, FILE_NAME, captured.body).await;
            match &saved {
                Ok(()) => tracing::trace!(target: "klamm::probe", name = "recovery-point-saved"),
                Err(error) => tracing::debug!(%error, "a recovery point was not saved"),
            }
            saved.is_ok()
        };
        let saving = saving.boxed().shared();
        points.saving = Some(saving.clone());
        Some(saving)
    }

    /// Whether a point waits for what was appended without a sync.
    #[must_use]
    pub fn wants_flush(&self) -> bool {
        let captured = self.points.captured.as_ref();
        let is_unsynced = |captured: &Captured| {
            let at = captured.at.position;
            at > self.writer.durable.position && at <= self.shared.view().active.written.1
        };
        self.points.flushing.is_none() && captured.is_some_and(is_unsynced)
    }

    /// Begins to sync what a point waits for, beside appends that are not synced.
    pub async fn flush(&mut self) -> Result<Option<Flushing>, LogError> {
        if !self.wants_flush() {
            return Ok(None);
        }
        let file = self.active_file().await?;
        let at = self.points.captured.as_ref().map(|captured| captured.at);
        self.points.flushing = at;
        tracing::trace!(target: "klamm::probe", name = "log-flushed-beside-appends");
        Ok(at.map(|at| Flushing {
            at,
            done: file.flush(),
        }))
    }

    /// A flush succeeded: what it was for is durable, unless the log was cut or closed meanwhile.
    pub fn flushed(&mut self, Flushed(at): Flushed) {
        if self
            .points
            .flushing
            .take_if(|flushing| *flushing == at)
            .is_some()
            && at.position > self.writer.durable.position
        {
            self.writer.durable = at;
        }
    }

    /// Waits until no point is being saved.
    async fn point_saved(&mut self) {
        if let Some(saving) = &self.points.saving
            && saving.clone().await
        {
            self.points.is_unfinished = false;
        }
        self.points.saving = None;
    }

    /// Ends what is under way, before the log is closed.
    pub(super) async fn finish_points(&mut self) -> Result<(), LogError> {
        self.point_saved().await;
        self.points.begin_anew();
        if self.points.is_unfinished {
            let name = format!("{FILE_NAME}{TEMPORARY_SUFFIX}");
            remove_if_there(&*self.env.disk, &self.shared.dir.join(name)).await?;
            self.points.is_unfinished = false;
        }
        Ok(())
    }

    /// Lets go of a log whose files are to be removed. When it returns nothing is on its way to
    /// its directory: a point that came late would be taken for one of the log that is made in this
    /// one's place, whose first segment has the same name.
    pub async fn abandon(mut self) {
        self.point_saved().await;
    }

    /// The active segment is another one now. A point of the one before says nothing wrong of it.
    pub(super) fn leave_points(&mut self) {
        self.points.begin_anew();
    }

    /// Removes the point, durably. To be called before anything of the log is cut.
    pub(super) async fn forget_points(&mut self) -> Result<(), LogError> {
        self.point_saved().await;
        self.points.begin_anew();
        if !self.points.may_be_there || crate::mutant!("recovery-point-outlives-cut") {
            return Ok(());
        }
        tracing::trace!(target: "klamm::probe", name = "recovery-point-removed");
        let (disk, dir) = (&*self.env.disk, &self.shared.dir);
        remove_if_there(disk, &dir.join(FILE_NAME)).await?;
        disk.sync_dir(dir).await.map_err(LogError::io(dir))?;
        self.points.may_be_there = false;
        Ok(())
    }
}
