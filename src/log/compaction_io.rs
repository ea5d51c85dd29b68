//! Compaction of this log's files: what a round reads and writes, and how its output is put in
//! place.
//!
//! An output is written to `.cleaned` and is a complete segment when it is finished. To install it:
//! it is read once more and checked; renamed to `.swap` (from here on recovery finishes the work);
//! the sources but the first are removed; it is renamed over the first. A directory sync lies
//! between the steps. Readers keep the old files open until they see the new ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::compaction::plan::{CompactionRules, LogView, SealedSegment, plan};
use super::compaction::{Compacted, CompactionIo, CompactionJob, Group};
use super::error::LogError;
use super::files;
use super::header_page::{DurableSlot, HEADER_PAGE_BYTES, SegmentId, encode_page};
use super::index::IndexOf;
use super::owner::{Log, write_slot};
use super::reader::LogReader;
use super::replay::corrupt;
use super::roll::remove_if_there;
use super::scan::{Scan, Scanned, chained};
use super::segment::{Segment, SegmentTimes};
use crate::env::{BoxFuture, File, OpenMode};
use crate::types::{Offset, Timestamp};
use crate::wire::batch::RecordBatch;

/// Bytes read at once.
const READ_BYTES: usize = 4 << 20;

/// What a round of compaction reads from and writes to. Independent of the log's owner.
pub struct SegmentCompaction {
    reader: LogReader,
    output: Option<Output>,
    /// Files of all outputs that were begun and kept.
    written: Vec<PathBuf>,
}

struct Output {
    path: PathBuf,
    file: Arc<dyn File>,
    id: SegmentId,
    end: Offset,
    position: u64,
    chain: u32,
}

/// A finished output, checked.
struct Checked {
    found: Scanned,
    generation: u64,
}

impl Log {
    /// The round of compaction that is due, if any. To be carried out by
    /// [`compaction::run`](super::compaction::run) on [`Log::compaction_io`] beside the owner, and
    /// put in place by [`Log::install_compacted`].
    pub async fn compaction_plan(
        &self,
        now: Timestamp,
        high_watermark: Offset,
        map_bytes: usize,
    ) -> Result<Option<CompactionJob>, LogError> {
        if !self.config.cleanup.compact {
            return Ok(None);
        }
        let segments = self.shared.view().sealed.clone();
        let mut sealed = Vec::with_capacity(segments.len());
        for segment in &segments {
            if segment.base_offset >= high_watermark {
                break;
            }
            let times = match segment.times() {
                Some(times) => times,
                None => SegmentTimes::of(&self.shared.open_segment(segment).await?.index),
            };
            sealed.push(SealedSegment {
                base_offset: segment.base_offset,
                end_offset: segment.end_offset,
                bytes: segment.bytes(),
                first_timestamp: times.first,
                largest_timestamp: times.largest,
            });
        }
        let rules = CompactionRules {
            min_cleanable_dirty_ratio: self.config.min_cleanable_dirty_ratio,
            min_compaction_lag_ms: self.config.min_compaction_lag_ms,
            max_compaction_lag_ms: self.config.max_compaction_lag_ms,
            delete_retention_ms: self.config.delete_retention_ms,
            segment_bytes: self.config.segment_bytes,
            map_bytes,
        };
        let view = LogView {
            sealed: &sealed,
            log_start_offset: self.log_start_offset(),
            high_watermark,
            producers: &self.producers,
            aborted: &[],
            clean_point: self.clean_point,
        };
        Ok(plan(&rules, &view, now))
    }

    /// What a round reads and writes.
    #[must_use]
    pub fn compaction_io(&self) -> SegmentCompaction {
        SegmentCompaction {
            reader: self.reader(),
            output: None,
            written: Vec::new(),
        }
    }

    /// Puts a finished round in place, group by group; a group whose sources changed meanwhile
    /// ends it. How many groups were put in place.
    pub async fn install_compacted(&mut self, compacted: Compacted) -> Result<usize, LogError> {
        self.usable()?;
        let mut installed = 0;
        for group in &compacted.groups {
            let Some(sources) = self.sources_of(&group.group) else {
                tracing::trace!(target: "klamm::probe", name = "compaction-dropped");
                return Ok(installed);
            };
            if group.changed {
                self.install(&group.group, sources).await?;
            }
            installed += 1;
        }
        let point = compacted.clean_point;
        point.save(&*self.env.disk, &self.shared.dir).await?;
        self.clean_point = Some(point);
        Ok(installed)
    }

    /// The segments that the group was made from, if all are still there.
    fn sources_of(&self, group: &Group) -> Option<Vec<Arc<Segment>>> {
        let view = self.shared.view();
        let covered: Vec<Arc<Segment>> = view
            .sealed
            .iter()
            .filter(|segment| {
                segment.base_offset >= group.base_offset() && segment.base_offset < group.end
            })
            .cloned()
            .collect();
        let same = covered.iter().map(|segment| &segment.base_offset);
        let ends = covered.last().map(|segment| segment.end_offset);
        (same.eq(group.sources.iter()) && ends == Some(group.end)).then_some(covered)
    }

    async fn install(&mut self, group: &Group, sources: Vec<Arc<Segment>>) -> Result<(), LogError> {
        let base = group.base_offset();
        let target = self.shared.path(base);
        let cleaned = files::suffixed(&target, files::CLEANED);
        let checked = self.check_output(group, &cleaned).await?;
        // Readers that come while names change use the files that are open.
        for source in &sources {
            let opened = self.shared.open_segment(source).await?;
            source.pin(opened);
        }
        let swapped = self.swap_in(group, &sources, checked).await;
        if let Err(error) = &swapped {
            // What the files say is no longer what this log believes.
            self.stopped = Some(error.to_string());
        }
        swapped
    }

    /// The second part of an installation: after an error only recovery knows how far it came.
    async fn swap_in(
        &mut self,
        group: &Group,
        sources: &[Arc<Segment>],
        checked: Checked,
    ) -> Result<(), LogError> {
        let base = group.base_offset();
        let target = self.shared.path(base);
        let cleaned = files::suffixed(&target, files::CLEANED);
        let swap = files::suffixed(&target, files::SWAP);
        let (disk, now) = (self.env.disk.clone(), self.env.wall());
        let delete_first = crate::mutant!("swap-deletes-first");
        if delete_first {
            self.mark_all_deleted(sources, now).await?;
        }
        self.rename_durably(&cleaned, &swap).await?;
        if !delete_first {
            self.mark_all_deleted(&sources[1..], now).await?;
        }
        if sources.len() > 1 {
            let dir = &self.shared.dir;
            disk.sync_dir(dir).await.map_err(LogError::io(dir))?;
        }
        self.rename_durably(&swap, &target).await?;
        tracing::trace!(target: "klamm::probe", name = "compaction-swapped");
        let replacement = Segment::new(base, group.end, checked.found.position);
        replacement.set_times(SegmentTimes::of(&checked.found.index));
        {
            let mut view = self.shared.view();
            let first = view
                .sealed
                .partition_point(|segment| segment.base_offset < base);
            view.sealed
                .splice(first..first + sources.len(), [replacement]);
            view.changes += 1;
        }
        self.shared.forget(sources);
        // What is in memory is what was appended. Read on, it would give back what is gone, and the
        // next round would write it anew as part of what is clean.
        self.shared.tail.forget_before(group.end);
        let of = IndexOf {
            generation: checked.generation,
            file_bytes: checked.found.position,
            end_offset: checked.found.end_offset,
            chain: checked.found.chain,
        };
        checked
            .found
            .index
            .save(&*disk, &self.shared.dir, &of)
            .await?;
        Ok(())
    }

    async fn check_output(&self, group: &Group, path: &Path) -> Result<Checked, LogError> {
        let opened = self.env.disk.open(path, OpenMode::Read).await;
        let file = opened.map_err(LogError::io(path))?;
        let file_bytes = file.len().await.map_err(LogError::io(path))?;
        let page = super::recovery::read_page(&*file).await;
        let page = page.map_err(LogError::io(path))?;
        let scan = Scan {
            file: &*file,
            base_offset: group.base_offset(),
            file_bytes,
            index_interval_bytes: self.config.index_interval_bytes,
            from: None,
            chain_position: file_bytes,
            limit: Some(group.end),
        };
        let found = scan.run(&mut |_| {}).await.map_err(LogError::io(path))?;
        let decoded = super::header_page::decode_page(&page);
        let whole = decoded.as_ref().is_ok_and(|(id, slot)| {
            let same = SegmentId::new(&self.shared.identity, group.base_offset(), id.generation);
            *id == same
                && slot.is_some_and(|slot| {
                    slot.position == found.position
                        && slot.end_offset == group.end
                        && slot.chain == found.chain
                })
        });
        match (decoded, &found.damage) {
            (Ok((id, _)), None) if whole => Ok(Checked {
                generation: id.generation,
                found,
            }),
            (_, damage) => {
                let damage = damage.as_deref().unwrap_or("an unfinished segment");
                Err(corrupt(path, &found, damage).into())
            }
        }
    }

    async fn rename_durably(&self, from: &Path, to: &Path) -> Result<(), LogError> {
        let disk = &*self.env.disk;
        let renamed = disk.rename(from, to).await;
        renamed.map_err(LogError::io(from))?;
        let dir = &self.shared.dir;
        disk.sync_dir(dir).await.map_err(LogError::io(dir))
    }
}

impl SegmentCompaction {
    /// Removes the outputs that were not put in place: those of a round that was given up, or whose
    /// sources changed. The next round may never write to their names, and a disk that is full
    /// would stay so until the next start. To be called when nobody puts them in place any more.
    pub async fn discard(mut self) {
        for path in std::mem::take(&mut self.written) {
            // What stays all the same is removed at the next start.
            let removed = remove_if_there(&*self.reader.shared.disk, &path).await;
            if let Err(error) = removed {
                tracing::debug!(%error, "an output of compaction stays for now");
            }
        }
    }

    async fn read_batches(&self, from: Offset, up_to: Offset) -> io::Result<Vec<RecordBatch>> {
        let from = from.max(self.reader.log_start_offset());
        if from >= up_to {
            return Ok(Vec::new());
        }
        let read = self.reader.read(from, up_to, READ_BYTES, true).await;
        let mut bytes: Bytes = read.map_err(io::Error::other)?.concat();
        let mut batches = Vec::new();
        while !bytes.is_empty() {
            let batch = RecordBatch::split_first(&mut bytes);
            batches.push(batch.map_err(io::Error::other)?);
        }
        Ok(batches)
    }

    async fn begin_output(&mut self, group: &Group) -> io::Result<()> {
        let shared = self.reader.shared.clone();
        let base = group.base_offset();
        let source = shared.view().sealed_at(base).cloned();
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the source left the log");
        let source = source.ok_or_else(gone)?;
        let opened = shared.open_segment(&source).await;
        let generation = opened.map_err(io::Error::other)?.generation + 1;
        let id = SegmentId::new(&shared.identity, base, generation);
        let path = files::suffixed(&shared.path(base), files::CLEANED);
        self.written.push(path.clone());
        let file = shared.disk.open(&path, OpenMode::Create).await?;
        file.truncate(0).await?;
        let page = encode_page(&id, &DurableSlot::empty(base));
        file.write_at(0, vec![page]).await?;
        self.output = Some(Output {
            path,
            file,
            id,
            end: group.end,
            position: HEADER_PAGE_BYTES,
            chain: 0,
        });
        Ok(())
    }

    async fn write_batches(&mut self, batches: Vec<RecordBatch>) -> io::Result<()> {
        let output = self.output.as_mut().ok_or_else(not_begun)?;
        let slices: Vec<Bytes> = batches.iter().map(|batch| batch.bytes().clone()).collect();
        output.file.write_at(output.position, slices).await?;
        for batch in &batches {
            output.position += batch.total_bytes() as u64;
            output.chain = chained(output.chain, batch.bytes());
        }
        Ok(())
    }

    async fn finish_output(&mut self, keep: bool) -> io::Result<()> {
        let output = self.output.take().ok_or_else(not_begun)?;
        if !keep {
            self.written.retain(|path| *path != output.path);
            return self.reader.shared.disk.remove(&output.path).await;
        }
        output.file.sync().await?;
        let slot = DurableSlot {
            sequence: 2,
            position: output.position,
            end_offset: output.end,
            chain: output.chain,
        };
        write_slot(&*output.file, &output.id, &slot).await
    }
}

fn not_begun() -> io::Error {
    io::Error::other("no output was begun")
}

impl CompactionIo for SegmentCompaction {
    fn read(&mut self, from: Offset, up_to: Offset) -> BoxFuture<'_, io::Result<Vec<RecordBatch>>> {
        Box::pin(self.read_batches(from, up_to))
    }

    fn begin<'a>(&'a mut self, group: &'a Group) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(self.begin_output(group))
    }

    fn write(&mut self, batches: Vec<RecordBatch>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.write_batches(batches))
    }

    fn finish(&mut self, keep: bool) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(self.finish_output(keep))
    }
}
