//! Opening a log, after any end.
//!
//! What a segment's durable slot covers was synced: if it is not whole, the log is refused and
//! nothing is touched. What lies beyond the newest slot of the last segment may be the torn end of
//! writes that no sync had covered: the first batch there that is not right, and all after it, is
//! cut, and the report says so. Segments that are not the last were durable to their end before
//! the next one was made (see [`super::roll`]), so nothing is ever cut from them.
//!
//! Where a point within the last segment was saved, it is read from there on only (see
//! [`super::recovery_point`]).
//!
//! After a clean end nothing is scanned, and nothing is cut whatever is found.

mod from_point;
mod judging;
mod leftovers;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use self::judging::{judge, reaches};
use super::checkpoint::CheckpointError;
use super::compaction::CleanPoint;
use super::epoch_cache::EpochCache;
use super::error::LogError;
use super::files;
use super::header_page::{DurableSlot, HEADER_PAGE_BYTES, SegmentId, decode_page};
use super::identity;
use super::index::SegmentIndex;
use super::log_start;
use super::owner::{CleanEnd, Log, OpenOptions, Parts, Point, Writer, write_slot};
use super::producer_snapshot;
use super::recovery_point::{RecoveryPoint, RecoveryPoints};
use super::replay::{Replay, SegmentFile};
use super::restarting;
use super::roll::{create_segment, remove_if_there};
use super::scan::{Scan, Scanned};
use super::segment::{Segment, foreign};
use super::tail_rewrite;
use crate::env::{DirEntry, Env, File, OpenMode};
use crate::types::Offset;

/// What opening a log did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Whether the log was as its clean end left it.
    pub clean: bool,
    pub scanned_bytes: u64,
    /// The point in the last segment that it was read from, unless from its beginning.
    pub began_at: Option<Offset>,
    /// What was cut off the end, if anything.
    pub cut: Option<Cut>,
    /// Files that were missing or damaged and could be made again, and why.
    pub rebuilt: Vec<String>,
    /// Left-over files that were removed or put in place.
    pub tidied: Vec<String>,
}

/// An unsynced end that was cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    pub path: PathBuf,
    pub position: u64,
    pub bytes: u64,
    /// The log's end now.
    pub from_offset: Offset,
    pub reason: String,
}

/// Whether a file shows that the directory's log was in use.
pub(super) fn holds_data(entry: &DirEntry) -> bool {
    let segment = files::base_offset_in(&entry.name, files::LOG).is_some();
    (segment && entry.len > HEADER_PAGE_BYTES)
        || producer_snapshot::offset_in(&entry.name).is_some()
}

pub(super) async fn read_page(file: &dyn File) -> std::io::Result<Bytes> {
    let len = usize::try_from(HEADER_PAGE_BYTES).map_err(std::io::Error::other)?;
    file.read_at(0, len).await
}

/// The last segment, recovered.
struct Last {
    index: SegmentIndex,
    writer: Writer,
    clean: bool,
}

/// What was durable of the last segment when it ended.
struct Proven {
    /// The newest of the file.
    slot: DurableSlot,
    /// The same, or what a saved point says beyond it.
    floor: DurableSlot,
    clean: Option<CleanEnd>,
}

/// The last segment's file and newest slot.
type OpenedLast = ((SegmentFile, SegmentId), Arc<dyn File>, DurableSlot);

/// A log being opened.
struct Opening<'a> {
    env: &'a Env,
    dir: &'a Path,
    options: &'a OpenOptions,
    report: Recovery,
}

impl Log {
    /// Opens the log in `dir`, recovering what an unclean end left. See the module.
    pub async fn open(
        env: &Env,
        dir: &Path,
        options: OpenOptions,
    ) -> Result<(Self, Recovery), LogError> {
        Self::open_made(env, dir, options, false).await
    }

    /// As [`Log::open`]. `is_made`: a call of [`Log::create`] that made this log is known to have
    /// returned.
    pub async fn open_made(
        env: &Env,
        dir: &Path,
        options: OpenOptions,
        is_made: bool,
    ) -> Result<(Self, Recovery), LogError> {
        let disk = &*env.disk;
        let restored = tail_rewrite::finish(disk, dir).await?;
        let listed = disk.list(dir).await.map_err(LogError::io(dir))?;
        if !options.identity.check(disk, dir).await? {
            if listed.iter().any(holds_data) {
                return Err(LogError::Foreign {
                    path: dir.join(identity::FILE_NAME),
                    reason: "the directory holds records and does not say of which topic"
                        .to_owned(),
                });
            }
            tracing::trace!(target: "klamm::probe", name = "unfinished-log-created");
            let start = log_start::load(disk, dir).await?.unwrap_or(Offset::ZERO);
            let log = Self::create_at(env, dir, options, start).await?;
            let mut report = Recovery::default();
            report
                .tidied
                .push("an unfinished creation was finished".to_owned());
            return Ok((log, report));
        }
        if options.clean.is_none() && !is_made {
            options.identity.confirm(disk, dir).await?;
        }
        let mut opening = Opening {
            env,
            dir,
            options: &options,
            report: Recovery::default(),
        };
        if restored {
            opening.report.tidied.push("finished a rewrite".to_owned());
        }
        let is_restarting = restarting::is_noted(&listed);
        let parts = opening.run(listed).await?;
        let mut report = opening.report;
        let mut log = Self::from_parts(env, dir, options, parts);
        if is_restarting {
            log.finish_restart(&mut report).await?;
        }
        Ok((log, report))
    }
}

impl Opening<'_> {
    async fn run(&mut self, listed: Vec<DirEntry>) -> Result<Parts, LogError> {
        let disk = &*self.env.disk;
        let interval = self.options.config.index_interval_bytes;
        let start = log_start::load(disk, self.dir).await?;
        let listed = self.tidy(listed).await?;
        let all_bytes: u64 = listed
            .iter()
            .filter(|entry| files::base_offset_in(&entry.name, files::LOG).is_some())
            .map(|entry| entry.len)
            .sum();
        let believed = crate::mutant!("clean-marker-kept");
        let clean = self.options.clean;
        let clean = clean.filter(|clean| believed || clean.file_bytes == all_bytes);
        let log_start_offset = start.unwrap_or(Offset::ZERO);
        let (mut files, below) = self.segments(&listed, start);
        let last = self.last_of(&mut files, log_start_offset)?;
        if clean.is_none() {
            for file in &files {
                self.check_closed(file).await?;
            }
        }
        let alone = files.is_empty() && below.is_empty();
        let (last, file, slot) = self.open_last(last, alone).await?;
        self.remove_below(below, alone, (&last.0, &*file)).await?;
        let point = self.point(&listed, &last).await?;
        let loaded = self.load_epochs().await?;
        let floor = point.as_ref().map_or(slot, |point| point.floor(slot));
        let mut replay = Replay::begin(self.env, self.dir, floor.end_offset).await?;
        replay.wants_epochs = loaded.is_none() && point.is_none();
        if let Some(point) = &point {
            replay.begin_at(point);
        }
        replay.catch_up(&files, interval).await?;
        let proven = Proven { slot, floor, clean };
        let recovered = self
            .recover_last(&last, &*file, proven, point.as_ref(), &mut replay)
            .await?;
        let end = recovered.writer.end.offset;
        reaches(&last.0, end, log_start_offset)?;
        self.report.clean = recovered.clean;
        self.report.scanned_bytes += replay.scanned_bytes;
        self.report.rebuilt.append(&mut replay.rebuilt);
        let (epochs, stale) = self
            .epochs(loaded, point.as_ref(), &replay, log_start_offset..end)
            .await?;
        let (mut producers, snapshots) = replay.finish(end).await?;
        if crate::mutant!("forget-producer-state") {
            producers.restart_at(end);
        }
        let sealed = files.iter().map(|file| {
            let end = file.end.unwrap_or(last.0.base_offset);
            Segment::new(file.base_offset, end, file.file_bytes)
        });
        Ok(Parts {
            sealed: sealed.collect(),
            index: recovered.index,
            file: None,
            dirty: !recovered.clean || stale,
            writer: recovered.writer,
            log_start_offset,
            epochs,
            producers,
            snapshots,
            points: RecoveryPoints::found(
                from_point::is_there(&listed),
                point.map(|point| point.at.position),
            ),
            clean_point: self.load_clean_point().await?,
        })
    }

    /// The last of the segments, which must reach back to the log's start.
    fn last_of(
        &self,
        files: &mut Vec<SegmentFile>,
        log_start_offset: Offset,
    ) -> Result<SegmentFile, LogError> {
        let Some(last) = files.pop() else {
            let path = self.dir.to_owned();
            let reason = "its segment files are missing".to_owned();
            return Err(LogError::Foreign { path, reason });
        };
        let first = files.first().unwrap_or(&last);
        if first.base_offset > log_start_offset {
            return Err(first.corrupt(0, "the log's first file", "an earlier segment"));
        }
        Ok(last)
    }

    /// The epochs of the records in `span`, and whether the file says otherwise.
    ///
    /// What the file lacks is in batches that are replayed at the next start as well, so it can
    /// wait for the next checkpoint: a full disk does not keep a log from being read.
    async fn epochs(
        &self,
        loaded: Option<EpochCache>,
        point: Option<&RecoveryPoint>,
        replay: &Replay,
        span: Range<Offset>,
    ) -> Result<(EpochCache, bool), LogError> {
        let mut told = loaded.clone().unwrap_or_default();
        let is_cut = told.truncate_from_end(span.end);
        let known = match point {
            Some(point) => point.joined_to(&told),
            None => told,
        };
        let mut epochs = replay.joined_to(known);
        epochs.truncate_from_start(span.start);
        let differ = loaded.is_none_or(|loaded| loaded != epochs);
        if differ {
            tracing::trace!(target: "klamm::probe", name = "epochs-corrected-at-start");
        }
        if is_cut {
            // What the file says beyond the end must not meet what is appended there.
            epochs.save(&*self.env.disk, self.dir).await?;
        }
        Ok((epochs, differ && !is_cut))
    }

    /// The segment files, ascending, and before them those wholly below the log's start.
    fn segments(
        &self,
        listed: &[DirEntry],
        start: Option<Offset>,
    ) -> (Vec<SegmentFile>, Vec<SegmentFile>) {
        let bases: Vec<(Offset, u64)> = listed
            .iter()
            .filter_map(|entry| {
                let base = files::base_offset_in(&entry.name, files::LOG)?;
                Some((base, entry.len))
            })
            .collect();
        let (mut segments, mut below) = (Vec::new(), Vec::new());
        for (at, (base, file_bytes)) in bases.iter().enumerate() {
            let end = bases.get(at + 1).map(|next| next.0);
            let segment = SegmentFile::new(self.dir, *base, *file_bytes, end);
            if let (Some(end), Some(start)) = (end, start)
                && end <= start
            {
                below.push(segment);
                continue;
            }
            segments.push(segment);
        }
        (segments, below)
    }

    /// Removes segments that the log's start has passed. Only once the last segment and the start
    /// are durable: if its creation did not finish, nothing but the one before it shows so.
    async fn remove_below(
        &mut self,
        below: Vec<SegmentFile>,
        alone: bool,
        (last, file): (&SegmentFile, &dyn File),
    ) -> Result<(), LogError> {
        if below.is_empty() && (alone || last.file_bytes > HEADER_PAGE_BYTES) {
            return Ok(());
        }
        // A kill may have left either in the cache alone.
        file.sync().await.map_err(LogError::io(&last.path))?;
        let synced = self.env.disk.sync_dir(self.dir).await;
        synced.map_err(LogError::io(self.dir))?;
        for SegmentFile {
            path, base_offset, ..
        } in below
        {
            remove_if_there(&*self.env.disk, &path).await?;
            let index = files::path(self.dir, base_offset, files::INDEX);
            remove_if_there(&*self.env.disk, &index).await?;
            let removed = format!("removed segment {base_offset}");
            self.report.tidied.push(removed);
        }
        Ok(())
    }

    /// After an unclean end: whether a closed segment is whole, and joins the next one.
    async fn check_closed(&mut self, segment: &SegmentFile) -> Result<(), LogError> {
        let opened = self.env.disk.open(&segment.path, OpenMode::Existing).await;
        let file = opened.map_err(LogError::io(&segment.path))?;
        let (id, slot) = self.page(segment, &*file).await?;
        let end = segment.end.unwrap_or(segment.base_offset);
        if let Some(slot) = slot
            && slot.position == segment.file_bytes
            && slot.end_offset == end
        {
            return Ok(());
        }
        tracing::trace!(target: "klamm::probe", name = "final-slot-rewritten");
        // Its final slot never got to the disk; what it would say must hold all the same.
        let mut replay = Replay::begin(self.env, self.dir, Offset::ZERO).await?;
        let interval = self.options.config.index_interval_bytes;
        let found = replay.scan_closed(segment, interval).await?;
        self.report.scanned_bytes += found.position;
        if found.end_offset != end {
            let found = format!("records up to offset {}", found.end_offset);
            let expected = format!("records up to the next segment, {end}");
            return Err(segment.corrupt(segment.file_bytes, found, &expected));
        }
        let sequence = slot.map_or(1, |slot| slot.sequence + 1);
        let slot = DurableSlot {
            sequence,
            position: found.position,
            end_offset: end,
            chain: found.chain,
        };
        let (disk, of) = (&*self.env.disk, (segment.base_offset, &*file));
        let span = (HEADER_PAGE_BYTES, found.position);
        tail_rewrite::rewrite_safely(disk, self.dir, of, span).await?;
        let sealed = write_slot(&*file, &id, &slot).await;
        sealed.map_err(LogError::io(&segment.path))?;
        let name = segment.path.display();
        self.report
            .rebuilt
            .push(format!("the final slot of {name}"));
        Ok(())
    }

    async fn page(
        &self,
        segment: &SegmentFile,
        file: &dyn File,
    ) -> Result<(SegmentId, Option<DurableSlot>), LogError> {
        let page = read_page(file).await;
        let page = page.map_err(LogError::io(&segment.path))?;
        let expected = format!(
            "segment {} of {}",
            segment.base_offset, self.options.identity.topic_partition
        );
        let (id, slot) =
            decode_page(&page).map_err(|found| segment.corrupt(0, found, &expected))?;
        if SegmentId::new(&self.options.identity, segment.base_offset, id.generation) != id {
            return Err(LogError::Foreign {
                path: segment.path.clone(),
                reason: format!("it is {}, not {expected}", foreign(&id)),
            });
        }
        Ok((id, slot))
    }

    /// The last segment's file and newest slot. One whose creation did not finish is made anew: it
    /// has its name because the one before it ends where it begins. The only one (`alone`) was
    /// finished before the log had its identity, or before those ahead of it were removed.
    async fn open_last(
        &mut self,
        mut segment: SegmentFile,
        alone: bool,
    ) -> Result<OpenedLast, LogError> {
        let disk = &*self.env.disk;
        let opened = disk.open(&segment.path, OpenMode::Existing).await;
        let mut file = opened.map_err(LogError::io(&segment.path))?;
        match self.page(&segment, &*file).await {
            Ok((id, Some(slot))) => Ok(((segment, id), file, slot)),
            Err(LogError::Corrupt(_)) | Ok((_, None))
                if segment.file_bytes <= HEADER_PAGE_BYTES && !alone =>
            {
                tracing::trace!(target: "klamm::probe", name = "unfinished-segment-remade");
                let id = SegmentId::new(&self.options.identity, segment.base_offset, 0);
                file = create_segment(disk, self.dir, &id).await?;
                segment.file_bytes = HEADER_PAGE_BYTES;
                let name = segment.path.display();
                self.report
                    .rebuilt
                    .push(format!("the empty segment {name}"));
                let slot = DurableSlot::empty(segment.base_offset);
                Ok(((segment, id), file, slot))
            }
            Ok((_, None)) => Err(segment.corrupt(512, "no valid durable slot", "one of two")),
            Err(error) => Err(error),
        }
    }

    /// Checks the last segment, and cuts its end where that was never durable.
    async fn recover_last(
        &mut self,
        (segment, id): &(SegmentFile, SegmentId),
        file: &dyn File,
        Proven { slot, floor, clean }: Proven,
        point: Option<&RecoveryPoint>,
        replay: &mut Replay,
    ) -> Result<Last, LogError> {
        let whole = clean.is_some_and(|clean| {
            slot.position == segment.file_bytes && slot.end_offset == clean.log_end_offset
                || crate::mutant!("clean-marker-kept")
        });
        let replayed = replay.producers_end() >= slot.end_offset || slot.end_offset == Offset::ZERO;
        if whole && replayed && !replay.wants_epochs {
            let loaded = SegmentIndex::load(&*self.env.disk, self.dir, segment.base_offset).await;
            if let Some((of, index)) = loaded
                && of.generation == id.generation
                && of.file_bytes == slot.position
                && of.chain == slot.chain
            {
                tracing::trace!(target: "klamm::probe", name = "log-opened-clean");
                return Ok(Last::new(index, *id, slot, true));
            }
            let base = segment.base_offset;
            tracing::trace!(target: "klamm::probe", name = "index-rebuilt-at-start");
            self.report
                .rebuilt
                .push(format!("the index of segment {base}"));
        }
        tracing::trace!(target: "klamm::probe", name = "log-scanned-at-start");
        let scan = Scan {
            file,
            base_offset: segment.base_offset,
            file_bytes: segment.file_bytes,
            index_interval_bytes: self.options.config.index_interval_bytes,
            from: point,
            chain_position: floor.position,
            limit: None,
        };
        let found = scan.run(&mut |header| replay.visit(header)).await;
        let found = found.map_err(LogError::io(&segment.path))?;
        self.report.scanned_bytes += found.position - point.map_or(0, |point| point.at.position);
        judge(segment, &found, &floor, whole)?;
        self.settle(segment, file, &found, &floor).await?;
        let mut end = Point {
            offset: found.end_offset,
            position: found.position,
            chain: found.chain,
        };
        if end.position == slot.position {
            // A roll may have begun that leaves a gap before the next batch.
            end.offset = end.offset.max(slot.end_offset);
        }
        let mut index = found.index;
        index.appended_at = self.env.wall();
        Ok(Last {
            index,
            writer: Writer::new(*id, end, slot),
            clean: whole,
        })
    }

    /// Cuts the torn end off, if there is one, and makes what stays beyond `slot` durable.
    async fn settle(
        &mut self,
        segment: &SegmentFile,
        file: &dyn File,
        found: &Scanned,
        slot: &DurableSlot,
    ) -> Result<(), LogError> {
        if slot.position == segment.file_bytes {
            return Ok(());
        }
        let (disk, of) = (&*self.env.disk, (segment.base_offset, file));
        let span = (slot.position, found.position);
        tail_rewrite::rewrite_safely(disk, self.dir, of, span).await?;
        if let Some(reason) = &found.damage {
            tracing::trace!(target: "klamm::probe", name = "torn-tail-cut");
            let truncated = file.truncate(found.position).await;
            truncated.map_err(LogError::io(&segment.path))?;
            self.report.cut = Some(Cut {
                path: segment.path.clone(),
                position: found.position,
                bytes: segment.file_bytes - found.position,
                from_offset: found.end_offset,
                reason: reason.clone(),
            });
        }
        file.sync().await.map_err(LogError::io(&segment.path))
    }

    /// `None`: to be made again from the log.
    async fn load_epochs(&mut self) -> Result<Option<EpochCache>, LogError> {
        match EpochCache::load(&*self.env.disk, self.dir).await {
            Ok(epochs) => Ok(epochs),
            Err(CheckpointError::Damaged { path, reason }) => {
                let path = path.display();
                self.report.rebuilt.push(format!("{path}: {reason}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn load_clean_point(&mut self) -> Result<Option<CleanPoint>, LogError> {
        match CleanPoint::load(&*self.env.disk, self.dir).await {
            Ok(point) => Ok(point),
            Err(CheckpointError::Damaged { path, reason }) => {
                let path = path.display();
                self.report.rebuilt.push(format!("{path}: {reason}"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Last {
    fn new(index: SegmentIndex, id: SegmentId, slot: DurableSlot, clean: bool) -> Self {
        let end = Point {
            offset: slot.end_offset,
            position: slot.position,
            chain: slot.chain,
        };
        Self {
            index,
            writer: Writer::new(id, end, slot),
            clean,
        }
    }
}
