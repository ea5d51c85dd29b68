//! Removing old segments.
//!
//! Only whole segments go, oldest first, and only those entirely below the high watermark. The
//! log's new start is durable before the first file is touched; files are first renamed to
//! `.deleted` and removed later, since readers may still be on them.

use std::sync::Arc;

use super::error::LogError;
use super::files;
use super::log_start;
use super::owner::Log;
use super::roll::remove_if_there;
use super::segment::{Segment, SegmentTimes};
use crate::types::{Offset, Timestamp};

/// What a round of retention removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retained {
    pub segments_removed: usize,
    pub bytes_removed: u64,
    /// Files whose delay had passed.
    pub files_removed: usize,
    /// The log's start afterwards.
    pub log_start_offset: Offset,
}

/// A segment that may go.
struct Candidate {
    end_offset: Offset,
    bytes: u64,
    largest_timestamp: Timestamp,
}

impl Log {
    /// Removes segments that are too old or too many, or lie before the log's start: what
    /// [`Self::retention_start`] and [`Self::remove_before`] do for a log that nobody copies.
    pub async fn apply_retention(
        &mut self,
        now: Timestamp,
        high_watermark: Offset,
    ) -> Result<Retained, LogError> {
        let start = self.retention_start(now, high_watermark).await?;
        self.remove_before(start, now).await
    }

    /// Where the log is to begin once segments that are too old or too many are gone.
    ///
    /// Age counts from a segment's largest timestamp, so a clock that steps back removes nothing.
    pub async fn retention_start(
        &mut self,
        now: Timestamp,
        high_watermark: Offset,
    ) -> Result<Offset, LogError> {
        self.usable()?;
        let from = self.retained_from(now, high_watermark).await?;
        Ok(from.max(self.log_start_offset()))
    }

    /// Makes the log begin at `new_start` if it begins before, where a segment is to end, and
    /// removes the segments that lie before its start. To be called from time to time; it also
    /// removes the files whose delay has passed.
    pub async fn remove_before(
        &mut self,
        new_start: Offset,
        now: Timestamp,
    ) -> Result<Retained, LogError> {
        self.usable()?;
        let files_removed = self.remove_deleted(now).await?;
        let start = self.log_start_offset();
        let new_start = new_start.max(start);
        if new_start > self.writer.id.base_offset {
            tracing::trace!(target: "klamm::probe", name = "retention-rolled");
            // Even the active segment is to go: it must be closed first.
            self.roll(self.writer.end.offset).await?;
        }
        let gone: Vec<Arc<Segment>> = {
            let view = self.shared.view();
            let gone = view.sealed.iter();
            gone.take_while(|segment| segment.end_offset <= new_start)
                .cloned()
                .collect()
        };
        if gone.is_empty() {
            return Ok(Retained {
                files_removed,
                log_start_offset: start,
                ..Retained::default()
            });
        }
        tracing::trace!(target: "klamm::probe", name = "retention-removed-segment");
        let delete_first = crate::mutant!("log-start-after-delete");
        if delete_first {
            self.mark_all_deleted(&gone, now).await?;
        }
        self.move_log_start(new_start).await?;
        {
            let mut view = self.shared.view();
            view.sealed.drain(..gone.len());
            view.changes += 1;
        }
        self.shared.forget(&gone);
        if !delete_first {
            self.mark_all_deleted(&gone, now).await?;
        }
        Ok(Retained {
            segments_removed: gone.len(),
            bytes_removed: gone.iter().map(|segment| segment.bytes()).sum(),
            files_removed,
            log_start_offset: new_start,
        })
    }

    /// The offset from which on segments stay.
    async fn retained_from(
        &mut self,
        now: Timestamp,
        high_watermark: Offset,
    ) -> Result<Offset, LogError> {
        let start = self.log_start_offset();
        if !self.config.cleanup.delete {
            return Ok(start);
        }
        let mut excess = self.config.retention_bytes.map_or(0, |limit| {
            self.shared.view().size_bytes().saturating_sub(limit)
        });
        let mut from = start;
        let mut at = 0;
        while let Some(segment) = self.candidate(at).await? {
            at += 1;
            if segment.end_offset > high_watermark {
                break;
            }
            let age = now.millis_since(segment.largest_timestamp);
            let old = segment.largest_timestamp.0 >= 0
                && self.config.retention_ms.is_some_and(|limit| age > limit);
            let too_many = self.config.retention_bytes.is_some() && excess >= segment.bytes;
            let before_start = segment.end_offset <= start;
            if segment.bytes == 0 && !before_start {
                // Compaction emptied it. It goes with the next one that is due, and not before: a
                // consumer that stands in it would be told that its position is gone, and may then
                // leave out what follows.
                continue;
            }
            if !(old || too_many || before_start) {
                break;
            }
            excess = excess.saturating_sub(segment.bytes);
            from = from.max(segment.end_offset);
        }
        Ok(from)
    }

    /// The `at`th segment from the oldest on; the active one only if it holds anything.
    async fn candidate(&self, at: usize) -> Result<Option<Candidate>, LogError> {
        let sealed = self.shared.view().sealed.get(at).cloned();
        if let Some(segment) = sealed {
            let times = match segment.times() {
                Some(times) => times,
                None => {
                    let opened = self.shared.open_segment(&segment).await?;
                    SegmentTimes::of(&opened.index)
                }
            };
            return Ok(Some(Candidate {
                end_offset: segment.end_offset,
                bytes: segment.bytes(),
                largest_timestamp: match crate::mutant!("retention-by-first-timestamp") {
                    true => times.first,
                    false => times.largest,
                },
            }));
        }
        let view = self.shared.view();
        if view.sealed.len() != at || view.active.bytes() == 0 {
            return Ok(None);
        }
        Ok(Some(Candidate {
            end_offset: view.log_end_offset,
            bytes: view.active.bytes(),
            largest_timestamp: SegmentTimes::of(&view.active.index).largest,
        }))
    }

    /// Makes the log begin at `offset` or later: records before it are no longer served, and their
    /// segments go with the next round of retention. Durable when it returns; the log's start.
    ///
    /// The caller keeps `offset` at or below the high watermark.
    pub async fn delete_records_before(&mut self, offset: Offset) -> Result<Offset, LogError> {
        self.usable()?;
        let (start, end) = (self.log_start_offset(), self.log_end_offset());
        if offset > end {
            return Err(LogError::OutOfRange { offset, start, end });
        }
        if offset > start {
            if offset > self.durable_end() {
                // A log must not come back shorter than what was deleted of it.
                let path = self.active_path();
                self.sync_all().await.map_err(LogError::io(&path))?;
            }
            tracing::trace!(target: "klamm::probe", name = "delete-records-moved-start");
            match crate::mutant!("log-start-not-persisted") {
                true => self.shared.view().log_start_offset = offset,
                false => self.move_log_start(offset).await?,
            }
        }
        Ok(self.log_start_offset())
    }

    async fn move_log_start(&mut self, start: Offset) -> Result<(), LogError> {
        if start <= self.log_start_offset() {
            return Ok(());
        }
        let disk = &*self.env.disk;
        log_start::save(disk, &self.shared.dir, start).await?;
        let epochs = {
            let mut view = self.shared.view();
            view.log_start_offset = start;
            view.epochs
                .truncate_from_start(start)
                .then(|| view.epochs.clone())
        };
        if let Some(epochs) = epochs {
            epochs.save(disk, &self.shared.dir).await?;
        }
        Ok(())
    }

    pub(super) async fn mark_all_deleted(
        &mut self,
        segments: &[Arc<Segment>],
        now: Timestamp,
    ) -> Result<(), LogError> {
        for segment in segments {
            self.mark_deleted(segment.base_offset, now).await?;
        }
        Ok(())
    }

    /// Takes a segment's file out of the log by its name; the file goes later.
    pub(super) async fn mark_deleted(
        &mut self,
        base_offset: Offset,
        now: Timestamp,
    ) -> Result<(), LogError> {
        let disk = &*self.env.disk;
        let path = self.shared.path(base_offset);
        let deleted = files::suffixed(&path, files::DELETED);
        disk.rename(&path, &deleted)
            .await
            .map_err(LogError::io(&path))?;
        self.deleted.push((deleted, now));
        let index = files::path(&self.shared.dir, base_offset, files::INDEX);
        remove_if_there(disk, &index).await
    }

    /// Removes files whose delay has passed; how many.
    pub async fn remove_deleted(&mut self, now: Timestamp) -> Result<usize, LogError> {
        let delay = self.config.file_delete_delay_ms;
        let mut due = Vec::new();
        self.deleted.retain_mut(|(path, since)| {
            // A clock that stepped back starts the delay anew instead of stretching it.
            *since = now.min(*since);
            let stays = now.millis_since(*since) < delay;
            if !stays {
                due.push(path.clone());
            }
            stays
        });
        for path in &due {
            remove_if_there(&*self.env.disk, path).await?;
        }
        Ok(due.len())
    }
}
