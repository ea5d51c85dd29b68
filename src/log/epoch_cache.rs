//! Where each leader epoch begins in a partition.
//!
//! The entries are strictly increasing in epoch and in start offset. With the log's end they
//! answer which offsets an epoch covers, by which a follower or a consumer finds the point where
//! its log and the leader's part (KIP-101, KIP-279, KIP-320).
//!
//! The cache is a function of the log: every batch carries its epoch. It is kept in a file all the
//! same ([`FILE_NAME`]), because an epoch without a surviving batch, and one older than the
//! oldest batch, can still be asked for.

use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::checkpoint::{self, CheckpointError};
use crate::env::Disk;
use crate::types::{LeaderEpoch, Offset};

/// The checkpoint that holds the cache.
pub const FILE_NAME: &str = "leader-epoch-checkpoint";

const VERSION: u16 = 1;
const ENTRY_BYTES: usize = 12;

/// An epoch and the offset of its first record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    pub epoch: LeaderEpoch,
    pub start_offset: Offset,
}

/// The epochs of one partition. See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EpochCache {
    entries: Vec<EpochStart>,
}

impl EpochCache {
    /// Says that records from `start_offset` on are of `epoch`. Returns whether that was news.
    ///
    /// An epoch that is the latest already keeps its start. Entries that would break the order
    /// give way, as in Kafka: their records were never written, or were truncated.
    /// Negative numbers (a batch without an epoch) are not entered.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        if epoch < LeaderEpoch(0) || start_offset < Offset::ZERO {
            return false;
        }
        if let Some(last) = self.entries.last()
            && last.epoch == epoch
            && last.start_offset <= start_offset
        {
            return false;
        }
        while let Some(last) = self.entries.last()
            && (last.epoch >= epoch || last.start_offset >= start_offset)
        {
            self.entries.pop();
        }
        self.entries.push(EpochStart {
            epoch,
            start_offset,
        });
        true
    }

    /// The largest known epoch not above `asked` and the offset at which it ends, given the log
    /// ends at `log_end_offset`:
    ///
    /// - the latest epoch ends where the log ends;
    /// - an epoch older than all known ends where the oldest known begins, and is answered as
    ///   `asked`;
    /// - an epoch newer than all known, or none, is answered `(-1, -1)`.
    #[must_use]
    pub fn end_of_epoch(
        &self,
        asked: LeaderEpoch,
        log_end_offset: Offset,
    ) -> (LeaderEpoch, Offset) {
        let unknown = (LeaderEpoch::NONE, Offset(-1));
        if asked < LeaderEpoch(0) {
            return unknown;
        }
        let above = self.entries.partition_point(|entry| entry.epoch <= asked);
        match (above.checked_sub(1), self.entries.get(above)) {
            (Some(at), None) if self.entries[at].epoch == asked => (asked, log_end_offset),
            (_, None) => unknown,
            (None, Some(first)) => (asked, first.start_offset),
            (Some(at), Some(next)) => (self.entries[at].epoch, next.start_offset),
        }
    }

    /// The epoch of the record at `offset`; [`LeaderEpoch::NONE`] below the first entry.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> LeaderEpoch {
        let after = self
            .entries
            .partition_point(|entry| entry.start_offset <= offset);
        match after.checked_sub(1) {
            Some(at) => self.entries[at].epoch,
            None => LeaderEpoch::NONE,
        }
    }

    /// The newest epoch, if any.
    #[must_use]
    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// All entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// Forgets epochs that begin at or after `end`: the log was cut there. Returns whether any did.
    pub fn truncate_from_end(&mut self, end: Offset) -> bool {
        let keep = self
            .entries
            .partition_point(|entry| entry.start_offset < end);
        let cut = keep < self.entries.len();
        self.entries.truncate(keep);
        cut
    }

    /// Forgets epochs that end at or before `start`, the log's new start. The epoch that covers
    /// `start` stays and begins there. Returns whether anything changed.
    pub fn truncate_from_start(&mut self, start: Offset) -> bool {
        let above = self
            .entries
            .partition_point(|entry| entry.start_offset <= start);
        let Some(covering) = above.checked_sub(1) else {
            return false;
        };
        if covering == 0 && self.entries[0].start_offset == start {
            return false;
        }
        self.entries.drain(..covering);
        self.entries[0].start_offset = start;
        true
    }

    /// The bytes [`decode`](Self::decode) reads.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut to = BytesMut::with_capacity(6 + self.entries.len() * ENTRY_BYTES);
        to.put_u16(VERSION);
        to.put_u32(u32::try_from(self.entries.len()).expect("epochs are i32, each entered once"));
        for entry in &self.entries {
            to.put_i32(entry.epoch.0);
            to.put_i64(entry.start_offset.0);
        }
        to.freeze()
    }

    /// Reads what [`encode`](Self::encode) wrote; the reason when it cannot be that.
    pub fn decode(mut from: Bytes) -> Result<Self, String> {
        if from.len() < 6 {
            return Err(format!("{} bytes are too few", from.len()));
        }
        let version = from.get_u16();
        if version != VERSION {
            return Err(format!(
                "its version is {version}, this program knows {VERSION}"
            ));
        }
        let count = usize::try_from(from.get_u32()).unwrap_or(usize::MAX);
        if count.checked_mul(ENTRY_BYTES) != Some(from.len()) {
            return Err(format!("{count} epochs do not take {} bytes", from.len()));
        }
        let mut entries: Vec<EpochStart> = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = EpochStart {
                epoch: LeaderEpoch(from.get_i32()),
                start_offset: Offset(from.get_i64()),
            };
            let in_order = entries.last().is_none_or(|last| {
                last.epoch < entry.epoch && last.start_offset < entry.start_offset
            });
            if !in_order || entry.epoch < LeaderEpoch(0) || entry.start_offset < Offset::ZERO {
                return Err("its epochs are not in order".to_owned());
            }
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// Makes the cache durable in `dir`.
    pub async fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), CheckpointError> {
        checkpoint::write(disk, dir, FILE_NAME, self.encode()).await
    }

    /// The cache kept in `dir`; `None` when there is none.
    pub async fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, CheckpointError> {
        let Some(body) = checkpoint::read(disk, dir, FILE_NAME).await? else {
            return Ok(None);
        };
        Self::decode(body)
            .map(Some)
            .map_err(|reason| CheckpointError::damaged(dir, FILE_NAME, reason))
    }
}

#[cfg(test)]
mod tests;
