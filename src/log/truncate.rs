//! Cutting the end of a log off.
//!
//! What the durable slots say is lowered before the file is cut, and later segments go newest
//! first with a directory sync for each, so that a crash in between leaves a log that ends at the
//! old end, at the new one, or at a segment between them; never one with a hole.

use std::sync::Arc;

use super::error::{Corruption, LogError};
use super::files;
use super::header_page::{DurableSlot, HEADER_PAGE_BYTES, SegmentId, decode_page};
use super::log_start;
use super::owner::{Log, Point, Writer, write_slot};
use super::replay::{Replay, SegmentFile, corrupt};
use super::scan::{Scan, Scanned};
use super::segment::{Active, Segment};
use super::tail_rewrite::rewrite;
use crate::env::{File, OpenMode};
use crate::types::Offset;

impl Log {
    /// Removes the records at and after `end`, and with them the rest of a batch that `end` lies
    /// in, and epochs that begin there without records. Durable when it returns. On error the log
    /// is stopped until [`Log::fall_back`] succeeds or it is opened again.
    pub async fn truncate_to(&mut self, end: Offset) -> Result<(), LogError> {
        self.usable()?;
        let (start, log_end) = (self.log_start_offset(), self.log_end_offset());
        if end >= log_end {
            return self.forget_empty_epochs(log_end).await;
        }
        if end < start {
            let offset = end;
            let end = log_end;
            return Err(LogError::OutOfRange { offset, start, end });
        }
        // Reads on the same handle see only what was carried out.
        let path = self.active_path();
        self.sync_all().await.map_err(LogError::io(&path))?;
        self.cut_or_stop(end, self.writer.end.position).await
    }

    async fn forget_empty_epochs(&mut self, log_end: Offset) -> Result<(), LogError> {
        if crate::mutant!("empty-epoch-not-truncated") {
            return Ok(());
        }
        let epochs = {
            let mut view = self.shared.view();
            let changed = view.epochs.truncate_from_end(log_end);
            changed.then(|| view.epochs.clone())
        };
        if let Some(epochs) = epochs {
            epochs.save(&*self.env.disk, &self.shared.dir).await?;
        }
        Ok(())
    }

    /// After a failed write, sync or cut: drops every append that was not [`Log::completed`], and
    /// all after it; writes anew what a failed sync may have spoiled, and makes that durable. What
    /// was only written is checked as it is read back. A cut that failed is carried on as far as it
    /// had come. On success the log is usable again; on error it is stopped until this succeeds or
    /// it is opened again.
    pub async fn fall_back(&mut self) -> Result<(), LogError> {
        tracing::trace!(target: "klamm::probe", name = "log-fell-back");
        self.remove_unmade().await?;
        self.forget_restart().await?;
        self.stopped = None;
        self.writer.pending.clear();
        let (old, (end, position)) = {
            let active = &mut self.shared.view().active;
            let end = match crate::mutant!("failed-sync-retried") {
                true => (self.writer.end.offset, self.writer.end.position),
                false => active.written,
            };
            (active.file.take(), end)
        };
        if let Some(old) = old {
            // What is still on its way must have arrived before the cut; its outcome is known
            // to be bad.
            let _ = old.sync().await;
        }
        if crate::mutant!("append-after-io-error") {
            return Ok(());
        }
        self.cut_or_stop(end, position).await
    }

    async fn cut_or_stop(&mut self, end: Offset, active_bytes: u64) -> Result<(), LogError> {
        let cut = self.cut(end, active_bytes).await;
        if let Err(error) = &cut {
            self.stopped = Some(error.to_string());
        }
        cut
    }

    async fn cut(&mut self, end: Offset, active_bytes: u64) -> Result<(), LogError> {
        self.forget_points().await?;
        {
            let mut view = self.shared.view();
            view.log_end_offset = end;
            // Should what follows fail, whoever tries again must not look for what is gone by then.
            let written = &mut view.active.written.0;
            *written = end.min(*written);
        }
        self.shared.tail.truncate(end);
        let target = self.remove_after(end, active_bytes).await?;
        let path = self.shared.path(target.base_offset);
        // A handle that saw a failure may refuse to sync for good.
        let opened = self.env.disk.open(&path, OpenMode::Existing).await;
        let file = opened.map_err(LogError::io(&path))?;
        let id = self.identified(&*file, &target).await?;
        let mut replay = Replay::begin(&self.env, &self.shared.dir, end).await?;
        let earlier = self.sealed_files(target.base_offset);
        let interval = self.config.index_interval_bytes;
        replay.catch_up(&earlier, interval).await?;
        let scan = Scan {
            file: &*file,
            base_offset: target.base_offset,
            file_bytes: target.file_bytes,
            index_interval_bytes: interval,
            from: None,
            chain_position: target.file_bytes,
            limit: Some(end),
        };
        let found = scan.run(&mut |header| replay.visit(header)).await;
        let found = found.map_err(LogError::io(&path))?;
        // What begins where the log is to end goes in any case, damaged or not.
        if let Some(damage) = &found.damage
            && found
                .at_limit
                .is_none_or(|last| last > self.writer.end.offset)
            && found.end_offset < end
        {
            return Err(corrupt(&path, &found, damage).into());
        }
        if found.end_offset < self.log_start_offset() {
            // The log began within the batch that goes.
            log_start::save(&*self.env.disk, &self.shared.dir, found.end_offset).await?;
            self.shared.view().log_start_offset = found.end_offset;
        }
        let durable_bytes = match target.base_offset == self.writer.id.base_offset {
            true => self.writer.durable.position,
            false => target.file_bytes,
        };
        // As above, and of a batch that `end` lies in nothing is left.
        self.shared.view().active.written = (found.end_offset, found.position);
        self.settle(&*file, id, &found, durable_bytes)
            .await
            .map_err(LogError::io(&path))?;
        self.adopt(&target, file, found, replay).await
    }

    /// Renames the segments after the one that will hold `end`, newest first; that one.
    async fn remove_after(
        &mut self,
        end: Offset,
        active_bytes: u64,
    ) -> Result<SegmentFile, LogError> {
        // Not always the writer's: an earlier cut may have failed after it removed that.
        let active = self.shared.view().active.base_offset;
        let mut target = SegmentFile::new(&self.shared.dir, active, active_bytes, None);
        while target.base_offset > end {
            let previous = self.shared.view().sealed.last().cloned();
            let Some(previous) = previous else {
                let (start, log_end) = (target.base_offset, self.log_end_offset());
                return Err(LogError::OutOfRange {
                    offset: end,
                    start,
                    end: log_end,
                });
            };
            tracing::trace!(target: "klamm::probe", name = "fall-back-removed-segment");
            let marked = self.mark_deleted(target.base_offset, self.env.wall()).await;
            // An earlier cut may have come so far, and failed to make it durable.
            if !matches!(&marked, Err(error) if error.is_not_found()) {
                marked?;
            }
            let dir = &self.shared.dir;
            let synced = self.env.disk.sync_dir(dir).await;
            synced.map_err(LogError::io(dir))?;
            target = SegmentFile::new(dir, previous.base_offset, previous.file_bytes, None);
            self.reopen_as_active(&previous);
        }
        Ok(target)
    }

    /// The newest closed segment becomes the active one; its details follow in `adopt`.
    fn reopen_as_active(&mut self, segment: &Arc<Segment>) {
        self.shared.forget(std::slice::from_ref(segment));
        let mut view = self.shared.view();
        view.sealed.pop();
        view.changes += 1;
        view.active = Active {
            base_offset: segment.base_offset,
            position: segment.file_bytes,
            index: super::index::SegmentIndex::new(segment.base_offset),
            file: None,
            written: (view.log_end_offset, segment.file_bytes),
        };
        // The index of an empty segment would say that a batch begins right after the header
        // page at the base offset, which is true of this one too.
        view.active.index.has_gaps = true;
    }

    async fn identified(
        &self,
        file: &dyn File,
        target: &SegmentFile,
    ) -> Result<(SegmentId, DurableSlot), LogError> {
        let page = super::recovery::read_page(file).await;
        let page = page.map_err(LogError::io(&target.path))?;
        let refused = |found: String| Corruption {
            path: target.path.clone(),
            position: 0,
            offset: target.base_offset,
            found,
            expected: "a segment header".to_owned(),
        };
        let (id, slot) = decode_page(&page).map_err(refused)?;
        if SegmentId::new(&self.shared.identity, target.base_offset, id.generation) != id {
            return Err(refused(super::segment::foreign(&id)).into());
        }
        let mut slot = slot.unwrap_or(DurableSlot::empty(target.base_offset));
        if target.base_offset == self.writer.id.base_offset {
            slot = slot.numbered_from(self.writer.slot.sequence);
        }
        Ok((id, slot))
    }

    /// Makes the file end where the scan did. What lies beyond `durable_bytes` was only written
    /// and is written anew, as slots are to promise it; then slots, then the cut. What is durable
    /// is left alone: a rewrite would put it at risk.
    async fn settle(
        &mut self,
        file: &dyn File,
        (id, slot): (SegmentId, DurableSlot),
        found: &Scanned,
        durable_bytes: u64,
    ) -> std::io::Result<()> {
        let end = Point {
            offset: found.end_offset,
            position: found.position,
            chain: found.chain,
        };
        if !crate::mutant!("failed-sync-retried") {
            rewrite(file, durable_bytes, end.position).await?;
            // What was only written before is durable before a slot says so.
            file.sync().await?;
        }
        let mut writer = Writer::new(id, end, slot);
        for _ in 0..2 {
            writer.slot = writer.next_slot(end);
            write_slot(file, &id, &writer.slot).await?;
        }
        file.truncate(end.position).await?;
        file.sync().await?;
        writer.next_ticket = self.writer.next_ticket;
        self.writer = writer;
        Ok(())
    }

    async fn adopt(
        &mut self,
        target: &SegmentFile,
        file: Arc<dyn File>,
        found: Scanned,
        replay: Replay,
    ) -> Result<(), LogError> {
        let end = self.writer.end;
        let stale = files::path(&self.shared.dir, target.base_offset, files::INDEX);
        super::roll::remove_if_there(&*self.env.disk, &stale).await?;
        if end.position > HEADER_PAGE_BYTES {
            self.writer.filled_since = Some(self.env.wall());
        }
        let epochs = {
            let mut view = self.shared.view();
            let index = match crate::mutant!("index-not-truncated") {
                true => view.active.index.clone(),
                false => found.index,
            };
            view.active = Active {
                base_offset: target.base_offset,
                position: end.position,
                index,
                file: Some(file),
                written: (end.offset, end.position),
            };
            view.log_end_offset = end.offset;
            view.changes += 1;
            view.epochs
                .truncate_from_end(end.offset)
                .then(|| view.epochs.clone())
        };
        self.shared.tail.truncate(end.offset);
        self.dirty = true;
        (self.producers, self.snapshots) = replay.finish(end.offset).await?;
        self.forget_foreign_producers();
        if let Some(epochs) = epochs {
            epochs.save(&*self.env.disk, &self.shared.dir).await?;
        }
        Ok(())
    }

    /// The closed segments before `base_offset`.
    fn sealed_files(&self, base_offset: Offset) -> Vec<SegmentFile> {
        let view = self.shared.view();
        let sealed = view.sealed.iter();
        sealed
            .filter(|segment| segment.base_offset < base_offset)
            .map(|segment| {
                let end = Some(segment.end_offset);
                let (base, bytes) = (segment.base_offset, segment.file_bytes);
                SegmentFile::new(&self.shared.dir, base, bytes, end)
            })
            .collect()
    }
}
