//! A quorum of one: this node's disk.

mod format;
mod store;

use std::collections::VecDeque;
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
    end: Offset,
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
        let (store, recovered) = MetadataStore::open(disk, log_dirs).await?;
        let mut kept: VecDeque<Committed> = recovered.into();
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
            if let Some(Writing { proposal, end, .. }) = self.writing.take() {
                return self.written(outcome, proposal, end);
            }
        }
    }

    /// Starts to write a proposal; one that has no binary form is refused.
    fn begin(&mut self, proposal: Proposal) {
        match self.store.append(&proposal.records) {
            Ok((durable, end)) => {
                self.writing = Some(Writing {
                    durable,
                    proposal,
                    end,
                });
            }
            Err(error) => {
                let refused = ProposeError::Unavailable(error.to_string());
                proposal.answer.send(Err(refused)).ok();
            }
        }
    }

    fn written(
        &mut self,
        outcome: std::io::Result<()>,
        proposal: Proposal,
        end: Offset,
    ) -> Result<Committed, String> {
        let Proposal { records, answer } = proposal;
        // The receivers below may have been dropped: the batch is committed all the same.
        match outcome {
            Ok(()) => {
                self.store.synced();
                answer.send(Ok(end)).ok();
                Ok(Committed::Batch { end, records })
            }
            Err(error) => {
                let reason = format!("writing metadata failed: {error}");
                answer
                    .send(Err(ProposeError::Unavailable(reason.clone())))
                    .ok();
                self.failed = Some(reason.clone());
                Err(reason)
            }
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
            let is_due = self.store.bytes_since_snapshot() >= self.snapshot_bytes;
            let is_idle = self.writing.is_none() && self.kept.is_empty();
            if !is_due || !is_idle || image.end() != self.store.end() {
                return Ok(());
            }
            self.store
                .snapshot(image)
                .await
                .map_err(|error| error.to_string())
        })
    }
}
