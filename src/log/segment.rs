//! The segments of a log as its owner and its readers see them.
//!
//! The owner changes the [`View`] under a short lock that is never held across an await; readers
//! take what they need from it and read files without it. [`View::changes`] grows whenever
//! something is taken away or replaced, so that a reader whose file went missing under it can tell
//! a change from damage, and look again.
//!
//! Closed segments cost a few words until somebody reads them: file and index are opened on first
//! use and a log keeps only the last few open.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::epoch_cache::EpochCache;
use super::error::{Corruption, ReadError};
use super::files;
use super::header_page::{DurableSlot, HEADER_PAGE_BYTES, SegmentId, decode_page};
use super::identity::LogIdentity;
use super::index::{IndexOf, SegmentIndex};
use super::scan::Scan;
use super::tail_cache::TailHold;
use crate::env::{Disk, File, OpenMode};
use crate::types::{Offset, Timestamp};

/// Closed segments that a log keeps open.
const OPEN_SEGMENTS_MAX: usize = 4;

/// A closed segment.
pub(super) struct Segment {
    pub base_offset: Offset,
    /// The next segment's base offset.
    pub end_offset: Offset,
    /// Length of the file.
    pub file_bytes: u64,
    state: Mutex<SegmentState>,
}

#[derive(Default)]
struct SegmentState {
    opened: Option<Arc<OpenSegment>>,
    /// Kept open while its name goes away.
    pinned: Option<Arc<OpenSegment>>,
    times: Option<SegmentTimes>,
    /// Where the last read ended: the next one of that reader begins there.
    read_to: Option<(Offset, u64)>,
}

/// When the records of a segment were made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentTimes {
    pub first: Timestamp,
    /// The largest timestamp, or when the last batch was appended if none has one. `NONE` for a
    /// segment without batches.
    pub largest: Timestamp,
}

impl SegmentTimes {
    pub fn of(index: &SegmentIndex) -> Self {
        let largest = index.max_timestamp;
        Self {
            first: index.first_timestamp,
            largest: if largest.0 >= 0 {
                largest
            } else {
                index.appended_at
            },
        }
    }
}

/// A closed segment's file and index.
pub(super) struct OpenSegment {
    pub file: Arc<dyn File>,
    pub index: SegmentIndex,
    pub generation: u64,
}

impl Segment {
    pub fn new(base_offset: Offset, end_offset: Offset, file_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            base_offset,
            end_offset,
            file_bytes,
            state: Mutex::default(),
        })
    }

    /// Bytes of batches.
    pub fn bytes(&self) -> u64 {
        self.file_bytes.saturating_sub(HEADER_PAGE_BYTES)
    }

    fn lock(&self) -> MutexGuard<'_, SegmentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn times(&self) -> Option<SegmentTimes> {
        self.lock().times
    }

    /// What is known before the file is ever opened.
    pub fn set_times(&self, times: SegmentTimes) {
        self.lock().times = Some(times);
    }

    /// Keeps the segment open for readers until it leaves the log.
    pub fn pin(&self, opened: Arc<OpenSegment>) {
        self.lock().pinned = Some(opened);
    }

    pub fn opened(&self) -> Option<Arc<OpenSegment>> {
        let state = self.lock();
        state.opened.clone().or_else(|| state.pinned.clone())
    }

    pub fn read_to(&self) -> Option<(Offset, u64)> {
        self.lock().read_to
    }

    pub fn set_read_to(&self, offset: Offset, position: u64) {
        self.lock().read_to = Some((offset, position));
    }
}

/// The segment being written.
pub(super) struct Active {
    pub base_offset: Offset,
    /// Where the next batch goes.
    pub position: u64,
    pub index: SegmentIndex,
    pub file: Option<Arc<dyn File>>,
    /// What was written, not only submitted: reads from the file stop here.
    pub written: (Offset, u64),
}

impl Active {
    pub fn bytes(&self) -> u64 {
        self.position.saturating_sub(HEADER_PAGE_BYTES)
    }
}

/// A log's present state. See the module.
pub(super) struct View {
    /// Ascending, without holes: each ends where the next begins.
    pub sealed: Vec<Arc<Segment>>,
    pub active: Active,
    pub log_start_offset: Offset,
    pub log_end_offset: Offset,
    pub epochs: EpochCache,
    pub changes: u64,
}

impl View {
    /// The closed segment that covers `offset`; `None` when it is the active one.
    pub fn sealed_at(&self, offset: Offset) -> Option<&Arc<Segment>> {
        if offset >= self.active.base_offset {
            return None;
        }
        let at = self
            .sealed
            .partition_point(|segment| segment.end_offset <= offset);
        self.sealed.get(at)
    }

    pub fn size_bytes(&self) -> u64 {
        let sealed = self.sealed.iter().map(|segment| segment.bytes());
        sealed.sum::<u64>() + self.active.bytes()
    }
}

/// What owner and readers of a log share.
pub(super) struct Shared {
    pub dir: PathBuf,
    pub disk: Arc<dyn Disk>,
    pub identity: LogIdentity,
    pub tail: TailHold,
    pub index_interval_bytes: u64,
    view: Mutex<View>,
    /// Least recently opened first.
    open: Mutex<VecDeque<Arc<Segment>>>,
    is_in_doubt: AtomicBool,
}

impl Shared {
    /// Something of it could not be read.
    pub fn doubt(&self) {
        self.is_in_doubt.store(true, Ordering::Relaxed);
    }

    /// Whether it may hold what cannot be read.
    pub fn is_in_doubt(&self) -> bool {
        self.is_in_doubt.load(Ordering::Relaxed)
    }

    pub fn new(
        dir: PathBuf,
        disk: Arc<dyn Disk>,
        identity: LogIdentity,
        tail: TailHold,
        index_interval_bytes: u64,
        view: View,
    ) -> Arc<Self> {
        Arc::new(Self {
            dir,
            disk,
            identity,
            tail,
            index_interval_bytes,
            view: Mutex::new(view),
            open: Mutex::default(),
            is_in_doubt: AtomicBool::new(false),
        })
    }

    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn path(&self, base_offset: Offset) -> PathBuf {
        files::path(&self.dir, base_offset, files::LOG)
    }

    /// The active segment's file, opened when nobody did before. Fails with `NotFound` when the
    /// segment was closed or removed meanwhile.
    pub async fn active_file(&self) -> std::io::Result<Arc<dyn File>> {
        let base_offset = {
            let view = self.view();
            if let Some(file) = &view.active.file {
                return Ok(file.clone());
            }
            view.active.base_offset
        };
        let path = self.path(base_offset);
        let opened = self.disk.open(&path, OpenMode::Existing).await?;
        let mut view = self.view();
        if view.active.base_offset != base_offset {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        // Of two that opened it at once, the first one's is everybody's: calls on one handle are
        // ordered, calls on two are not.
        Ok(view.active.file.get_or_insert(opened).clone())
    }

    /// The segment's file and index, opened and checked if need be.
    pub async fn open_segment(
        &self,
        segment: &Arc<Segment>,
    ) -> Result<Arc<OpenSegment>, ReadError> {
        if let Some(opened) = segment.opened() {
            return Ok(opened);
        }
        let opened = Arc::new(self.open_file(segment).await?);
        {
            let mut state = segment.lock();
            state.times = Some(SegmentTimes::of(&opened.index));
            state.opened = Some(opened.clone());
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| !Arc::ptr_eq(other, segment));
        open.push_back(segment.clone());
        if open.len() > OPEN_SEGMENTS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.lock().opened = None;
        }
        Ok(opened)
    }

    /// Closes what was kept open of segments that left the log.
    pub fn forget(&self, segments: &[Arc<Segment>]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|kept| !segments.iter().any(|gone| Arc::ptr_eq(kept, gone)));
        for segment in segments {
            let mut state = segment.lock();
            state.opened = None;
            state.pinned = None;
        }
    }

    async fn open_file(&self, segment: &Segment) -> Result<OpenSegment, ReadError> {
        let path = self.path(segment.base_offset);
        let opened = self.disk.open(&path, OpenMode::Read).await;
        let file = opened.map_err(ReadError::io(&path))?;
        let page_bytes = usize::try_from(HEADER_PAGE_BYTES).unwrap_or(usize::MAX);
        let page = file.read_at(0, page_bytes).await;
        let page = page.map_err(ReadError::io(&path))?;
        let expected = format!(
            "segment {} of {}",
            segment.base_offset, self.identity.topic_partition
        );
        let corrupt = |position, found: String| {
            ReadError::Corrupt(Corruption {
                path: path.clone(),
                position,
                offset: segment.base_offset,
                found,
                expected: expected.clone(),
            })
        };
        let (id, slot) = decode_page(&page).map_err(|found| corrupt(0, found))?;
        if SegmentId::new(&self.identity, segment.base_offset, id.generation) != id {
            return Err(corrupt(0, foreign(&id)));
        }
        let slot = slot.ok_or_else(|| corrupt(512, "no valid durable slot".to_owned()))?;
        if let Some((of, index)) =
            SegmentIndex::load(&*self.disk, &self.dir, segment.base_offset).await
            && matches(&of, segment, &slot, id.generation)
        {
            return Ok(OpenSegment {
                file,
                index,
                generation: id.generation,
            });
        }
        tracing::trace!(target: "klamm::probe", name = "index-rebuilt");
        let scan = Scan {
            file: &*file,
            base_offset: segment.base_offset,
            file_bytes: segment.file_bytes,
            index_interval_bytes: self.index_interval_bytes,
            from: None,
            chain_position: segment.file_bytes,
            limit: Some(segment.end_offset),
        };
        let found = scan.run(&mut |_| {}).await;
        let mut found = found.map_err(ReadError::io(&path))?;
        // Damage is told by the read that meets it: batches beside it can still be served.
        if found.damage.is_some() {
            found.index.has_gaps = true;
            // What lies behind may be of any time: who looks for one is to meet the damage.
            found.index.max_timestamp = Timestamp(i64::MAX);
        }
        Ok(OpenSegment {
            file,
            index: found.index,
            generation: id.generation,
        })
    }
}

/// How a segment of another log is described.
pub(super) fn foreign(id: &SegmentId) -> String {
    format!(
        "segment {} of partition {} of topic id {}",
        id.base_offset, id.partition, id.topic_id
    )
}

fn matches(of: &IndexOf, segment: &Segment, slot: &DurableSlot, generation: u64) -> bool {
    of.generation == generation
        && of.file_bytes == segment.file_bytes
        && of.chain == slot.chain
        && of.end_offset <= segment.end_offset
}
