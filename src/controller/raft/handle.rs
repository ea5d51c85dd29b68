//! What the node does with its quorum besides proposing: founding, voters, peers, description.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::controller::peers::{Peer, PeerService};
use crate::env::BoxFuture;
use crate::types::{BrokerId, Offset, Uuid};

/// Why a change of the quorum's members, or of its state, did not happen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RaftError {
    /// Nothing was done; the leader, if one is known, can do it.
    #[error("this node does not lead the quorum")]
    NotLeader { leader: Option<Peer> },
    /// Nothing was done, and asking again unchanged will not help soon.
    #[error("{0}")]
    Refused(String),
    /// May or may not have been done.
    #[error("{0}")]
    Unavailable(String),
}

/// What a node knows of the quorum's agreement, on disk.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RaftState {
    /// Of the newest vote; 0: it never voted.
    pub term: u64,
    /// The offset after the last batch; 0: none.
    pub end: Offset,
    /// The voters of the newest membership; empty: it knows none.
    pub voters: Vec<Peer>,
    /// The nodes that only follow.
    pub observers: Vec<Peer>,
}

impl RaftState {
    /// Whether nothing was ever written: the node belongs to no quorum yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How far a member of the quorum is, as the leader knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaDescription {
    pub peer: Peer,
    /// The offset after the last batch it is known to have; `None`: unknown.
    pub end: Option<Offset>,
    /// How long ago it was last heard of; zero for the leader itself, `None`: unknown.
    pub last_contact: Option<Duration>,
}

/// The quorum as one node sees it. Only the leader's `voters` and `observers` have figures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumDescription {
    pub leader: Option<BrokerId>,
    pub term: u64,
    pub high_watermark: Offset,
    pub voters: Vec<ReplicaDescription>,
    pub observers: Vec<ReplicaDescription>,
}

/// Handle on this node's part of the quorum. Cloning shares it.
#[derive(Clone)]
pub struct RaftHandle {}

impl RaftHandle {
    /// Answers the questions of other nodes' quorums: the bytes after the kind byte
    /// [`RAFT_QUESTION`](super::RAFT_QUESTION).
    #[must_use]
    pub fn service(&self) -> Arc<dyn PeerService> {
        Arc::new(NoService)
    }

    /// Whether this node has ever belonged to a quorum: something is in its log or it has voted.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        !self.state().is_empty()
    }

    /// What is on disk.
    #[must_use]
    pub fn state(&self) -> RaftState {
        RaftState::default()
    }

    /// Founds the quorum with these voters, this node among them. Only for a node that
    /// [is not founded](Self::is_founded), and only once all voters agreed on it.
    pub async fn found(&self, _voters: Vec<Peer>) -> Result<(), RaftError> {
        Err(missing())
    }

    /// Lets `peer` follow without a vote; returns once that is committed, not once it has caught
    /// up. Fine when it follows already; a new address or directory replaces the old one.
    pub async fn add_learner(&self, _peer: Peer) -> Result<(), RaftError> {
        Err(missing())
    }

    /// Gives `peer` a vote, after it has caught up.
    pub async fn add_voter(&self, _peer: Peer) -> Result<(), RaftError> {
        Err(missing())
    }

    /// Takes the vote from the node `id`, and forgets it. The leader may remove itself.
    pub async fn remove_voter(
        &self,
        _id: BrokerId,
        _directory_id: Option<Uuid>,
    ) -> Result<(), RaftError> {
        Err(missing())
    }

    /// Lets the node `id` follow no longer.
    pub async fn remove_learner(&self, _id: BrokerId) -> Result<(), RaftError> {
        Err(missing())
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<Peer> {
        None
    }

    #[must_use]
    pub fn describe(&self) -> QuorumDescription {
        QuorumDescription {
            leader: None,
            term: 0,
            high_watermark: Offset::ZERO,
            voters: Vec::new(),
            observers: Vec::new(),
        }
    }

    /// Says that the process of the node `id` is proven dead. If it leads, this node stands for
    /// election early, a little later the later it stands among the voters. Returns at once.
    pub fn suspect_leader(&self, _id: BrokerId) {}

    /// Hands the leadership to another voter, if this node leads and another is up to date.
    pub async fn resign(&self) -> Result<(), RaftError> {
        Err(missing())
    }

    /// Stops this node's part; nothing is answered from then on.
    pub async fn shut_down(&self) {}
}

fn missing() -> RaftError {
    RaftError::Unavailable("the quorum does not run yet".to_owned())
}

struct NoService;

impl PeerService for NoService {
    fn answer(&self, _: BrokerId, _: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(std::future::ready(Err(missing().to_string())))
    }
}
