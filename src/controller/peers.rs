//! The way between the controllers of a cluster, as the quorum and the forwarding of requests see
//! it: whole questions and whole answers, each with a deadline.

use std::time::Duration;

use bytes::Bytes;

use crate::env::BoxFuture;
use crate::types::{BrokerId, Uuid};

/// A node of the cluster and where its controller listener is.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Peer {
    pub id: BrokerId,
    /// Of its metadata directory; zero where it is not known yet. A node refuses what is meant for
    /// another directory: one that was wiped must not vote in the name of what it has forgotten.
    pub directory_id: Uuid,
    pub host: String,
    pub port: u16,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PeerError {
    /// Nobody listens there: the process is gone, though its host answers. Nothing was done.
    #[error("nobody listens at {0}")]
    NobodyListens(String),
    /// The node there is not who was meant, or does not know this one. Nothing was done.
    #[error("{0}")]
    Refused(String),
    /// What was asked may or may not have been done.
    #[error("{0}")]
    Lost(String),
}

/// Asks other nodes.
pub trait Peers: Send + Sync + 'static {
    /// `question`'s answer, or an error once `timeout` has passed. Questions to one peer may
    /// overtake each other.
    fn ask(
        &self,
        to: &Peer,
        question: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// Answers other nodes.
pub trait PeerService: Send + Sync + 'static {
    /// The answer to the question of node `from`. An error tells it why it was refused.
    fn answer(&self, from: BrokerId, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;
}
