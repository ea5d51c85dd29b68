//! Closing a segment and beginning the next.
//!
//! Order of a roll, each step durable before the next: the old segment's batches; its final slot,
//! which says where the next segment begins; index, producer snapshot and epochs; the new file
//! with its name. So wherever a crash falls, a segment that is not the last was durable to its end.

use std::path::Path;
use std::sync::Arc;

use super::error::LogError;
use super::files;
use super::header_page::{DurableSlot, HEADER_PAGE_BYTES, SegmentId, encode_page};
use super::index::{RELATIVE_OFFSET_MAX, SegmentIndex};
use super::owner::{Log, Point, Writer, write_slot};
use super::producer_snapshot;
use super::segment::{Active, Segment, SegmentTimes};
use crate::env::{Disk, File, OpenMode};
use crate::types::{Offset, Timestamp};
use crate::wire::batch::BatchHeader;

/// The newest producer snapshots, kept in any case; recovery needs one, damage may take another.
const SNAPSHOTS_KEPT: usize = 3;

/// Makes an empty segment, durable with its name. What lies there already was never used.
pub(super) async fn create_segment(
    disk: &dyn Disk,
    dir: &Path,
    id: &SegmentId,
) -> Result<Arc<dyn File>, LogError> {
    let path = files::path(dir, id.base_offset, files::LOG);
    let create = async {
        let file = disk.open(&path, OpenMode::Create).await?;
        file.truncate(0).await?;
        let page = encode_page(id, &DurableSlot::empty(id.base_offset));
        file.write_at(0, vec![page]).await?;
        file.sync().await?;
        if !crate::mutant!("no-dir-sync-after-roll") {
            disk.sync_dir(dir).await?;
        }
        Ok(file)
    };
    create.await.map_err(LogError::io(&path))
}

impl Log {
    pub(super) fn draw_jitter(&mut self) -> i64 {
        let bound = self.config.segment_jitter_ms.min(self.config.segment_ms);
        match (&mut self.jitter, u64::try_from(bound)) {
            (Some(random), Ok(bound)) => i64::try_from(random.below(bound)).unwrap_or(0),
            _ => 0,
        }
    }

    fn segment_span_ms(&self) -> i64 {
        self.config.segment_ms.saturating_sub(self.writer.jitter_ms)
    }

    /// Whether the batch must begin a new segment: the old one is full or old, or cannot number it.
    pub(super) fn must_roll(&self, header: &BatchHeader, now: Timestamp) -> bool {
        let end = self.writer.end;
        let relative = header.last_offset().since(self.writer.id.base_offset);
        if relative > RELATIVE_OFFSET_MAX {
            // An empty segment that begins where the batch does cannot be improved.
            return header.base_offset > self.writer.id.base_offset;
        }
        if end.position == HEADER_PAGE_BYTES {
            return false;
        }
        let position = end.position + header.total_bytes() as u64;
        if position > u64::from(u32::MAX)
            || position - HEADER_PAGE_BYTES > self.config.segment_bytes
        {
            return true;
        }
        let first = self.shared.view().active.index.first_timestamp;
        let age = if first.0 >= 0 && header.max_timestamp.0 >= 0 {
            header.max_timestamp.millis_since(first)
        } else {
            self.age_ms(now)
        };
        age > self.segment_span_ms()
    }

    /// How long the active segment has held records.
    fn age_ms(&self, now: Timestamp) -> i64 {
        self.writer
            .filled_since
            .map_or(0, |since| now.millis_since(since))
    }

    /// Begins a new segment if the active one's records are older than `segment.ms`; whether it
    /// did.
    pub async fn roll_if_due(&mut self, now: Timestamp) -> Result<bool, LogError> {
        let empty = self.writer.end.position == HEADER_PAGE_BYTES;
        if empty || self.age_ms(now) <= self.segment_span_ms() {
            return Ok(false);
        }
        self.usable()?;
        self.roll(self.writer.end.offset).await?;
        Ok(true)
    }

    /// Closes the active segment; the next begins at `next_base`, at or after the log's end.
    ///
    /// On error the log is as it was, except that more of it may be durable.
    pub(super) async fn roll(&mut self, next_base: Offset) -> Result<(), LogError> {
        let path = self.active_path();
        let file = self.active_file().await?;
        file.sync().await.map_err(LogError::io(&path))?;
        self.all_durable();
        let slot = self.writer.next_slot(Point {
            offset: next_base,
            ..self.writer.durable
        });
        let sealed = write_slot(&*file, &self.writer.id, &slot).await;
        sealed.map_err(LogError::io(&path))?;
        self.writer.slot = slot;
        self.save_beside().await?;
        let id = SegmentId::new(&self.shared.identity, next_base, 0);
        match create_segment(&*self.env.disk, &self.shared.dir, &id).await {
            Ok(next) => self.switch_to(id, next),
            Err(error) => {
                tracing::trace!(target: "klamm::probe", name = "roll-undone");
                self.unmake_segment(next_base).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes what a failed creation left: the old segment goes on, and the name of a next one
    /// would say that it ended there. If not even that can be done, nothing is appended any more
    /// until it could be.
    async fn unmake_segment(&mut self, base_offset: Offset) {
        self.unmade = Some(base_offset);
        if let Err(error) = self.remove_unmade().await {
            self.stopped = Some(error.to_string());
        }
    }

    /// Removes what a creation left that failed, if that could not be done then.
    pub(super) async fn remove_unmade(&mut self) -> Result<(), LogError> {
        let Some(base_offset) = self.unmade else {
            return Ok(());
        };
        let (disk, dir) = (&*self.env.disk, &self.shared.dir);
        remove_if_there(disk, &files::path(dir, base_offset, files::LOG)).await?;
        disk.sync_dir(dir).await.map_err(LogError::io(dir))?;
        self.unmade = None;
        Ok(())
    }

    fn switch_to(&mut self, id: SegmentId, file: Arc<dyn File>) {
        tracing::trace!(target: "klamm::probe", name = "segment-rolled");
        let end = Point {
            offset: id.base_offset,
            position: HEADER_PAGE_BYTES,
            chain: 0,
        };
        let mut writer = Writer::new(id, end, DurableSlot::empty(id.base_offset));
        writer.next_ticket = self.writer.next_ticket;
        let old = std::mem::replace(&mut self.writer, writer);
        self.writer.jitter_ms = self.draw_jitter();
        self.dirty = true;
        self.leave_points();
        let closed = Segment::new(old.id.base_offset, id.base_offset, old.end.position);
        let mut view = self.shared.view();
        closed.set_times(SegmentTimes::of(&view.active.index));
        view.sealed.push(closed);
        view.active = Active {
            base_offset: id.base_offset,
            position: end.position,
            index: SegmentIndex::new(id.base_offset),
            file: Some(file),
            written: (end.offset, end.position),
        };
        view.log_end_offset = id.base_offset;
        view.changes += 1;
    }

    /// Removes snapshots that no truncation can need: all but the newest and those where a segment
    /// begins. What lies before the log's start can be learnt from nothing else.
    pub(super) async fn prune_snapshots(&mut self) -> Result<(), LogError> {
        let newest = self.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        let (old, mut kept) = {
            let view = self.shared.view();
            let begins = |offset: &Offset| {
                let sealed = view
                    .sealed
                    .binary_search_by_key(offset, |segment| segment.base_offset);
                sealed.is_ok() || view.active.base_offset == *offset
            };
            let old = self.snapshots[..newest].iter().copied();
            old.partition::<Vec<Offset>, _>(|offset| !begins(offset))
        };
        for offset in &old {
            let path = self.shared.dir.join(producer_snapshot::file_name(*offset));
            remove_if_there(&*self.env.disk, &path).await?;
        }
        kept.extend_from_slice(&self.snapshots[newest..]);
        self.snapshots = kept;
        Ok(())
    }
}

pub(super) async fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    match disk.remove(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LogError::io(path)(error))
        }
        _ => Ok(()),
    }
}
