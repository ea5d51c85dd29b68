//! Snapshots on disk: `<offset>.snapshot`, where the offset is that after the last entry in it.
//!
//! Magic (8 bytes), format (32 bits), checksum of the rest (CRC-32C, 32), and the rest: the id of
//! the last entry (optional), the membership and the id of its entry (optional, first), length (32)
//! and bytes of a batch of records, from which the metadata is rebuilt.
//!
//! A snapshot is made whole under another name; so one that is damaged was durable once, and is
//! never taken for missing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::RaftOpenError;
use super::codec;
use super::directory::{damaged, failed, make, read_whole};
use super::types::{Snapshot, SnapshotMeta, end_of};
use crate::env::{Disk, OpenMode};
use crate::types::Offset;
use crate::wire::{DecodeError, Reader};

pub(super) const SNAPSHOT: &str = "snapshot";
const MAGIC: &[u8; 8] = b"klammrs\n";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 16;

/// A snapshot, cheap to copy.
#[derive(Clone, Debug)]
pub(super) struct KeptSnapshot {
    pub meta: SnapshotMeta,
    pub records: Bytes,
}

impl KeptSnapshot {
    pub fn end(&self) -> Offset {
        end_of(self.meta.last_log_id.as_ref())
    }

    pub fn to_snapshot(&self) -> Snapshot {
        Snapshot {
            meta: self.meta.clone(),
            snapshot: self.records.clone(),
        }
    }

    pub fn encode(&self) -> Bytes {
        let mut rest = BytesMut::new();
        codec::put_option(&mut rest, self.meta.last_log_id, codec::put_log_id);
        codec::put_stored_membership(&mut rest, &self.meta.last_membership);
        rest.put_u32(u32::try_from(self.records.len()).expect("bounded where it is made"));
        rest.put_slice(&self.records);
        let mut file = BytesMut::with_capacity(HEADER_BYTES + rest.len());
        file.put_slice(MAGIC);
        file.put_u32(FORMAT);
        file.put_u32(crc32c::crc32c(&rest));
        file.put_slice(&rest);
        file.freeze()
    }

    pub fn decode(file: &Bytes) -> Result<Self, String> {
        let cut_off = |error: DecodeError| error.to_string();
        let mut from = Reader::new(file.clone());
        if from.take(MAGIC.len()).map_err(cut_off)? != MAGIC[..] {
            return Err("its beginning is damaged or not Klamm's".to_owned());
        }
        let format = from.u32().map_err(cut_off)?;
        if format != FORMAT {
            return Err(format!(
                "it has format {format}, which this version does not know"
            ));
        }
        let sum = from.u32().map_err(cut_off)?;
        if sum != crc32c::crc32c(&file[HEADER_BYTES..]) {
            return Err("its checksum is wrong".to_owned());
        }
        let meta = SnapshotMeta {
            last_log_id: codec::read_option(&mut from, codec::read_log_id).map_err(cut_off)?,
            last_membership: codec::read_stored_membership(&mut from).map_err(cut_off)?,
        };
        let records = codec::read_bytes(&mut from).map_err(cut_off)?;
        from.finish().map_err(cut_off)?;
        Ok(Self { meta, records })
    }
}

/// The snapshots of a metadata directory.
#[derive(Clone)]
pub(super) struct SnapshotFiles {
    pub disk: Arc<dyn Disk>,
    pub directory: PathBuf,
}

impl SnapshotFiles {
    fn path(&self, end: Offset) -> PathBuf {
        self.directory.join(format!("{:020}.{SNAPSHOT}", end.0))
    }

    pub async fn read(&self, end: Offset) -> Result<KeptSnapshot, RaftOpenError> {
        let path = self.path(end);
        let file = self.disk.open(&path, OpenMode::Read).await;
        let bytes = read_whole(&*file.map_err(failed(&path))?).await;
        let snapshot = KeptSnapshot::decode(&bytes.map_err(failed(&path))?);
        let snapshot = snapshot.map_err(|reason| damaged(&path, reason))?;
        if snapshot.end() != end {
            return Err(damaged(&path, "it is that of another offset"));
        }
        Ok(snapshot)
    }

    /// Makes a snapshot durable, and removes the one before.
    pub async fn write(
        &self,
        snapshot: &KeptSnapshot,
        before: Option<Offset>,
    ) -> Result<(), RaftOpenError> {
        let end = snapshot.end();
        make(
            &*self.disk,
            &self.directory,
            &self.path(end),
            snapshot.encode(),
        )
        .await?;
        tracing::trace!(target: "klamm::probe", name = "raft-snapshot-written");
        if let Some(before) = before.filter(|before| *before < end) {
            self.remove(&self.path(before)).await?;
        }
        Ok(())
    }

    async fn remove(&self, path: &Path) -> Result<(), RaftOpenError> {
        self.disk.remove(path).await.map_err(failed(path))
    }
}
