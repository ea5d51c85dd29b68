//! A quorum of one: this node's disk.

pub(super) mod format;
#[cfg(test)]
pub(super) mod memory_disk;
mod store;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

pub use store::LocalQuorumError;
use store::MetadataStore;

use super::image::ClusterImage;
use super::quorum::{Committed, ProposeError, Quorum};
use super::record::MetadataRecord;
use crate::env::{BoxFuture, Disk};
use crate::types::{BrokerId, Offset};

/// The metadata log of a node that is the whole quorum, under `__cluster_metadata-0` in its first
/// data directory. A batch is committed once it is synced.
pub struct LocalQuorum {
    store: MetadataStore,
    /// From earlier runs, still to be handed back.
    kept: VecDeque<Committed>,
    proposals: mpsc::UnboundedReceiver<Proposal>,
    propose: mpsc::UnboundedSender<Proposal>,
    /// The batch that is being written; kept here so that dropping `next_committed` loses nothing.
    writing: Option<Writing>,
    snapshot_bytes: u64,
    /// Bytes since the last snapshot at which the next is tried.
    snapshot_due: u64,
    /// What went wrong; nothing works from then on.
    failed: Option<String>,
}

struct Proposal {
    records: Vec<MetadataRecord>,
    answer: oneshot::Sender<Result<Offset, ProposeError>>,
}

struct Writing {
    durable: BoxFuture<'static, std::io::Result<()>>,
    proposal: Proposal,
    /// Where it begins, and the offset of its first record.
    position: u64,
    first: Offset,
    end: Offset,
    /// It was refused for this reason, and `durable` is cutting it off.
    refused: Option<String>,
}

impl LocalQuorum {
    /// Opens the metadata log in the first of `log_dirs`, or begins one when none of them holds
    /// anything yet. A snapshot is written every `snapshot_bytes` of records.
    pub async fn open(
        disk: Arc<dyn Disk>,
        log_dirs: &[PathBuf],
        node: BrokerId,
        snapshot_bytes: u64,
    ) -> Result<Self, LocalQuorumError> {
        let (store, mut kept) = MetadataStore::open(disk, log_dirs).await?;
        kept.push_back(Committed::Leader {
            leader: Some(node),
            term: 1,
        });
        let (propose, proposals) = mpsc::unbounded_channel();
        Ok(Self {
            store,
            kept,
            proposals,
            propose,
            writing: None,
            snapshot_bytes,
            snapshot_due: snapshot_bytes,
            failed: None,
        })
    }

    async fn next(&mut self) -> Result<Committed, String> {
        if let Some(reason) = &self.failed {
            return Err(reason.clone());
        }
        if let Some(kept) = self.kept.pop_front() {
            return Ok(kept);
        }
        loop {
            if self.writing.is_none() {
                let proposal = self.proposals.recv().await;
                self.begin(proposal.ok_or("nobody proposes any more")?);
            }
            let Some(writing) = &mut self.writing else {
                continue;
            };
            let outcome = (&mut writing.durable).await;
            if let Some(writing) = self.writing.take()
                && let Some(committed) = self.written(outcome, writing)?
            {
                return Ok(committed);
            }
        }
    }

    /// Starts to write a proposal; one that has no binary form is refused.
    fn begin(&mut self, proposal: Proposal) {
        let (position, first) = (self.store.position(), self.store.end());
        match self.store.append(&proposal.records) {
            Ok((durable, end)) => {
                self.writing = Some(Writing {
                    durable,
                    proposal,
                    position,
                    first,
                    end,
                    refused: None,
                });
            }
            Err(error) => {
                let refused = ProposeError::Refused(error.to_string());
                proposal.answer.send(Err(refused)).ok();
            }
        }
    }

    /// What a write came to. A full disk costs only the batch: it is cut off again. After any other
    /// failure nobody knows what the file holds, and nothing is written any more.
    fn written(
        &mut self,
        outcome: std::io::Result<()>,
        mut writing: Writing,
    ) -> Result<Option<Committed>, String> {
        // The receivers below may have been dropped: what happened has happened all the same.
        match (outcome, writing.refused.take()) {
            (Ok(()), None) => {
                self.store.synced();
                let Writing { proposal, end, .. } = writing;
                let Proposal { records, answer } = proposal;
                answer.send(Ok(end)).ok();
                Ok(Some(Committed::Batch { end, records }))
            }
            (Ok(()), Some(reason)) => {
                self.store.synced();
                let answer = writing.proposal.answer;
                answer.send(Err(ProposeError::Refused(reason))).ok();
                Ok(None)
            }
            (Err(error), None) if error.kind() == ErrorKind::StorageFull => {
                tracing::trace!(target: "klamm::probe", name = "metadata-disk-full");
                writing.durable = self.store.cut_back(writing.position, writing.first);
                writing.refused = Some(error.to_string());
                self.writing = Some(writing);
                Ok(None)
            }
            (Err(error), _) => {
                let reason = format!("writing metadata failed: {error}");
                let unknown = ProposeError::Unavailable(reason.clone());
                writing.proposal.answer.send(Err(unknown)).ok();
                self.failed = Some(reason.clone());
                Err(reason)
            }
        }
    }

    /// Writes a snapshot when one is due. One that fails is tried again after as many bytes: the
    /// records it would replace are all there.
    async fn snapshot_if_due(&mut self, image: &ClusterImage) {
        let is_due = self.store.bytes_since_snapshot() >= self.snapshot_due;
        let is_idle = self.writing.is_none() && self.kept.is_empty();
        if !is_due || !is_idle || image.end() != self.store.end() {
            return;
        }
        self.snapshot_due = self.snapshot_bytes;
        if let Err(error) = self.store.snapshot(image).await {
            tracing::warn!(%error, "no snapshot of the metadata was written");
            self.snapshot_due = self.store.bytes_since_snapshot() + self.snapshot_bytes;
        }
    }
}

impl Quorum for LocalQuorum {
    fn propose(
        &self,
        records: Vec<MetadataRecord>,
    ) -> BoxFuture<'static, Result<Offset, ProposeError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.propose.send(Proposal { records, answer });
        Box::pin(async move {
            let gone = || ProposeError::Unavailable("the metadata log is closed".to_owned());
            sent.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }

    fn next_committed(&mut self) -> BoxFuture<'_, Result<Committed, String>> {
        Box::pin(self.next())
    }

    fn applied<'a>(&'a mut self, image: &'a ClusterImage) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            self.snapshot_if_due(image).await;
            Ok(())
        })
    }
}
