//! Bringing producer state and leader epochs up to date from the batches of a log.

use std::path::{Path, PathBuf};

use super::checkpoint::CheckpointError;
use super::epoch_cache::EpochCache;
use super::error::{Corruption, LogError};
use super::files;
use super::producer_snapshot;
use super::producer_state::ProducerState;
use super::recovery_point::RecoveryPoint;
use super::roll::remove_if_there;
use super::scan::{Scan, Scanned};
use crate::env::{Env, OpenMode};
use crate::types::{LeaderEpoch, Offset};
use crate::wire::batch::BatchHeader;

/// A segment file as the directory lists it.
pub(super) struct SegmentFile {
    pub path: PathBuf,
    pub base_offset: Offset,
    pub file_bytes: u64,
    /// The next segment's base offset; `None` for the last.
    pub end: Option<Offset>,
}

impl SegmentFile {
    pub fn new(dir: &Path, base_offset: Offset, file_bytes: u64, end: Option<Offset>) -> Self {
        Self {
            path: files::path(dir, base_offset, files::LOG),
            base_offset,
            file_bytes,
            end,
        }
    }

    pub fn corrupt(&self, position: u64, found: impl Into<String>, expected: &str) -> LogError {
        LogError::Corrupt(Corruption {
            path: self.path.clone(),
            position,
            offset: self.base_offset,
            found: found.into(),
            expected: expected.to_owned(),
        })
    }
}

pub(super) fn corrupt(path: &Path, found: &Scanned, damage: &str) -> Corruption {
    Corruption {
        path: path.to_owned(),
        position: found.position,
        offset: found.end_offset,
        found: damage.to_owned(),
        expected: "a whole batch, which a sync had covered".to_owned(),
    }
}

/// Brings producer state (and, on request, epochs) up to the log's end.
pub(super) struct Replay {
    env: Env,
    dir: PathBuf,
    producers: ProducerState,
    snapshots: Vec<Offset>,
    /// Epochs are taken from the batches seen.
    epochs: EpochCache,
    /// Whether all batches are to be shown, for the epochs' sake.
    pub wants_epochs: bool,
    pub scanned_bytes: u64,
    pub rebuilt: Vec<String>,
}

impl Replay {
    /// Begins with the newest snapshot at or below `bound`.
    pub async fn begin(env: &Env, dir: &Path, bound: Offset) -> Result<Self, LogError> {
        let listed = env.disk.list(dir).await.map_err(LogError::io(dir))?;
        let names = listed.iter();
        let snapshots: Vec<Offset> = names
            .filter_map(|entry| producer_snapshot::offset_in(&entry.name))
            .collect();
        let mut replay = Self {
            env: env.clone(),
            dir: dir.to_owned(),
            producers: ProducerState::default(),
            snapshots,
            epochs: EpochCache::default(),
            wants_epochs: false,
            scanned_bytes: 0,
            rebuilt: Vec::new(),
        };
        let usable: Vec<Offset> = replay.snapshots.clone();
        for offset in usable.into_iter().rev().filter(|offset| *offset <= bound) {
            match producer_snapshot::load(&*env.disk, dir, offset).await {
                Ok(Some(state)) => {
                    tracing::trace!(target: "klamm::probe", name = "producer-snapshot-used");
                    replay.producers = state;
                    break;
                }
                Ok(None) => {}
                Err(error @ CheckpointError::Io { .. }) => {
                    return Err(error.into());
                }
                Err(error) => {
                    tracing::trace!(target: "klamm::probe", name = "producer-snapshot-skipped");
                    replay.rebuilt.push(error.to_string());
                    replay.drop_snapshot(offset).await?;
                }
            }
        }
        Ok(replay)
    }

    /// Goes on from `point` if that is later than the snapshot.
    pub fn begin_at(&mut self, point: &RecoveryPoint) {
        if point.producers.end() > self.producers.end() {
            self.producers = point.producers.clone();
        }
    }

    /// The state holds all batches below it.
    pub fn producers_end(&self) -> Offset {
        self.producers.end()
    }

    async fn drop_snapshot(&mut self, offset: Offset) -> Result<(), LogError> {
        let path = self.dir.join(producer_snapshot::file_name(offset));
        self.snapshots.retain(|other| *other != offset);
        remove_if_there(&*self.env.disk, &path).await
    }

    pub fn visit(&mut self, header: &BatchHeader) {
        if header.base_offset >= self.producers.end() {
            self.producers.append(header);
        }
        if header.leader_epoch == LeaderEpoch(0) && crate::mutant!("epoch-zero-not-rebuilt") {
            return;
        }
        let latest = self.epochs.latest();
        if latest.is_none_or(|latest| header.leader_epoch > latest.epoch) {
            self.epochs.assign(header.leader_epoch, header.base_offset);
        }
    }

    /// The epochs known, corrected by what the batches said.
    pub fn joined_to(&self, mut known: EpochCache) -> EpochCache {
        for entry in self.epochs.entries() {
            if known.epoch_of(entry.start_offset) != entry.epoch {
                known.assign(entry.epoch, entry.start_offset);
            }
        }
        known
    }

    /// Shows the batches of closed segments that are not yet accounted for.
    pub async fn catch_up(&mut self, files: &[SegmentFile], interval: u64) -> Result<(), LogError> {
        for file in files {
            let from = match self.wants_epochs {
                true => Offset::ZERO,
                false => self.producers.end(),
            };
            if file.end.is_some_and(|end| end > from) {
                self.scan_closed(file, interval).await?;
            }
        }
        Ok(())
    }

    /// Scans a closed segment, where nothing may be wrong.
    pub async fn scan_closed(
        &mut self,
        segment: &SegmentFile,
        interval: u64,
    ) -> Result<Scanned, LogError> {
        let opened = self.env.disk.open(&segment.path, OpenMode::Read).await;
        let file = opened.map_err(LogError::io(&segment.path))?;
        let scan = Scan {
            file: &*file,
            base_offset: segment.base_offset,
            file_bytes: segment.file_bytes,
            index_interval_bytes: interval,
            from: None,
            chain_position: segment.file_bytes,
            limit: segment.end,
        };
        let found = scan.run(&mut |header| self.visit(header)).await;
        let found = found.map_err(LogError::io(&segment.path))?;
        self.scanned_bytes += found.position;
        match &found.damage {
            Some(damage) => Err(corrupt(&segment.path, &found, damage).into()),
            None => Ok(found),
        }
    }

    /// Removes snapshots of what is no longer in the log, which ends at `end`.
    pub async fn finish(mut self, end: Offset) -> Result<(ProducerState, Vec<Offset>), LogError> {
        let later: Vec<Offset> = self
            .snapshots
            .iter()
            .copied()
            .filter(|offset| *offset > end)
            .collect();
        if !later.is_empty() {
            tracing::trace!(target: "klamm::probe", name = "producer-snapshot-beyond-end");
            for offset in later {
                self.drop_snapshot(offset).await?;
            }
            // One that came back after a power loss would speak of batches that were cut.
            let synced = self.env.disk.sync_dir(&self.dir).await;
            synced.map_err(LogError::io(&self.dir))?;
        }
        Ok((self.producers, self.snapshots))
    }
}
