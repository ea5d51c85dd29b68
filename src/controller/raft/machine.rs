//! The consensus library's state machine: hands batches on, and keeps snapshots.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder};

use super::outbox::Outbox;
use super::snapshot::{KeptSnapshot, SnapshotFiles};
use super::types::{Batch, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

pub struct StateMachine {
    outbox: Arc<Outbox>,
    files: SnapshotFiles,
}

impl StateMachine {
    pub(super) fn new(outbox: Arc<Outbox>, files: SnapshotFiles) -> Self {
        Self { outbox, files }
    }

    /// Makes a snapshot, durable; `None` where there is nothing new to put into one.
    async fn make_snapshot(&self) -> io::Result<KeptSnapshot> {
        let snapshot = self.outbox.make_snapshot().map_err(io::Error::other)?;
        let before = self.outbox.snapshot().map(|before| before.end());
        if before < Some(snapshot.end()) {
            let written = self.files.write(&snapshot, before).await;
            written.map_err(|error| io::Error::other(error.to_string()))?;
            self.outbox.made(snapshot.clone());
        }
        Ok(snapshot)
    }
}

/// A snapshot that was made.
pub struct Built(io::Result<KeptSnapshot>);

impl RaftSnapshotBuilder<TypeConfig> for Built {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        match &self.0 {
            Ok(snapshot) => Ok(snapshot.to_snapshot()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Built;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.outbox.applied(), self.outbox.membership()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let log_id = entry.log_id;
            match entry.payload {
                Payload::Blank => self.outbox.apply_empty(log_id, None),
                Payload::Membership(membership) => {
                    let stored = StoredMembership::new(Some(log_id), membership);
                    self.outbox.apply_empty(log_id, Some(stored));
                }
                Payload::Normal(batch) => {
                    let records = batch.decode().map_err(io::Error::other)?;
                    self.outbox.apply_batch(log_id, records, batch.0.len());
                }
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, is_forced: bool) -> Option<Built> {
        match self.make_snapshot().await {
            Err(error) if !is_forced => {
                // The records it would replace are all there.
                tracing::warn!(%error, "no snapshot of the metadata was written");
                None
            }
            made => Some(Built(made)),
        }
    }

    async fn get_snapshot_builder(&mut self) -> Built {
        Built(self.make_snapshot().await)
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Bytes) -> io::Result<()> {
        let records = Batch(data.clone()).decode().map_err(io::Error::other)?;
        let snapshot = KeptSnapshot {
            meta: meta.clone(),
            records: data,
        };
        let before = self.outbox.snapshot().map(|before| before.end());
        if before < Some(snapshot.end()) {
            let written = self.files.write(&snapshot, before).await;
            written.map_err(|error| io::Error::other(error.to_string()))?;
            tracing::trace!(target: "klamm::probe", name = "raft-snapshot-installed");
        } else {
            tracing::trace!(target: "klamm::probe", name = "raft-snapshot-loaded");
        }
        self.outbox.install(snapshot, records);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let snapshot = self.outbox.snapshot();
        Ok(snapshot.map(|snapshot| snapshot.to_snapshot()))
    }
}
