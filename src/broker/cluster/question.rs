//! What nodes ask each other besides the quorum's own questions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::broker::quorum_admin::QUORUM_QUESTION;
use crate::config::Voter;
use crate::controller::{Peer, RAFT_QUESTION};
use crate::types::{BrokerId, Uuid};

/// First byte of the quorum's questions, answered by the quorum.
pub(super) const RAFT: u8 = RAFT_QUESTION;
/// First byte of a request for the active controller.
pub(super) const FORWARDED: u8 = 2;
/// First byte of a [`NodeQuestion`].
pub(super) const NODE: u8 = 3;
/// First byte of an administrator's question about the quorum.
pub(super) const ADMIN: u8 = QUORUM_QUESTION;

/// A question of one node to another, as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum NodeQuestion {
    /// Who are you, and whom do you know? With the same about the one who asks.
    Hello(View),
    /// Take this cluster's id, for good: its founder has seen that all voters agree.
    Found { cluster_id: Uuid },
    /// Let this node follow the quorum.
    Join(Peer),
}

/// The answer to a [`NodeQuestion`], as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum NodeAnswer {
    Hello(View),
    /// The cluster's id is durable at the node with this directory.
    Found {
        directory_id: Uuid,
    },
    Joined,
    /// It cannot join, for the reason given, until somebody changes something.
    Refused(String),
    /// Only the leader of the quorum lets others join.
    NotLeader {
        leader: Option<Peer>,
    },
}

/// A node and what it knows of its cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct View {
    pub node: BrokerId,
    /// Of this run of its process.
    pub incarnation: Uuid,
    pub directory_id: Uuid,
    pub is_controller: bool,
    /// What it belongs to, or is configured to found.
    pub cluster_id: Option<Uuid>,
    /// From its settings.
    pub voters: Vec<(BrokerId, String, u16)>,
    /// Whether its quorum has state.
    pub has_metadata: bool,
    /// The quorum's voters, where it knows them.
    pub members: Vec<Peer>,
    pub leader: Option<Peer>,
}

/// The settings' voters as a [`View`] tells them.
pub(super) fn told(voters: &[Voter]) -> Vec<(BrokerId, String, u16)> {
    let told = |voter: &Voter| (voter.id, voter.host.clone(), voter.port);
    voters.iter().map(told).collect()
}

/// The bytes of `value` behind its kind.
pub(super) fn framed(kind: u8, rest: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(rest.len() + 1);
    bytes.push(kind);
    bytes.extend_from_slice(rest);
    Bytes::from(bytes)
}

/// The bytes of a question, kind and all.
pub(super) fn question(question: &NodeQuestion) -> Bytes {
    framed(NODE, &json(question))
}

/// The bytes of a question or answer.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("maps with text keys, numbers and texts have a JSON form")
}

pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        format!("it speaks another language ({error}): run the same version of klamm on every node")
    })
}
