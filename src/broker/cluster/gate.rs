//! Answers the questions of other nodes.
//!
//! A node refuses what is not meant for it: another cluster's question, one for another node, or
//! one for a metadata directory that this node no longer has.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::calls::PeerCalls;
use super::decide;
use super::identity::Identity;
use super::question::{self, NodeAnswer, NodeQuestion, View};
use crate::broker::quorum_admin::QuorumDesk;
use crate::config::{QuorumConfig, address};
use crate::controller::{Controller, Peer, PeerService as _, RaftError, RaftHandle};
use crate::env::BoxFuture;
use crate::types::{BrokerId, ErrorCode, Uuid};
use crate::wire::message::ask_peer::{AskPeerRequest, AskPeerResponse};

/// A cluster's id that a founder offers; answered once it is durable here.
pub(super) struct Offer {
    pub cluster_id: Uuid,
    pub taken: oneshot::Sender<Result<(), String>>,
}

/// Answers other nodes in the name of this one. What is not there yet is refused for now.
pub struct Gate {
    identity: Arc<Identity>,
    calls: Arc<PeerCalls>,
    voters: Vec<(BrokerId, String, u16)>,
    is_controller: bool,
    wanted_cluster: Option<Uuid>,
    raft: OnceLock<RaftHandle>,
    desk: OnceLock<QuorumDesk>,
    controller: OnceLock<Controller>,
    offers: mpsc::Sender<Offer>,
}

impl Gate {
    pub(super) fn new(
        calls: Arc<PeerCalls>,
        quorum: &QuorumConfig,
        wanted_cluster: Option<Uuid>,
        offers: mpsc::Sender<Offer>,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity: calls.identity().clone(),
            calls,
            voters: question::told(&quorum.voters),
            is_controller: quorum.is_controller,
            wanted_cluster,
            raft: OnceLock::new(),
            desk: OnceLock::new(),
            controller: OnceLock::new(),
            offers,
        })
    }

    pub(super) fn open_raft(&self, raft: RaftHandle, desk: QuorumDesk) {
        let _ = self.raft.set(raft);
        let _ = self.desk.set(desk);
    }

    pub(super) fn open_controller(&self, controller: Controller) {
        let _ = self.controller.set(controller);
    }

    /// What this node says of itself.
    pub(super) fn view(&self) -> View {
        let state = self.raft.get().map(RaftHandle::state).unwrap_or_default();
        View {
            node: self.identity.node,
            incarnation: self.identity.incarnation,
            directory_id: self.identity.directory_id,
            is_controller: self.is_controller,
            cluster_id: self.identity.cluster_id().or(self.wanted_cluster),
            voters: self.voters.clone(),
            has_metadata: !state.is_empty(),
            members: state.voters,
            leader: self.raft.get().and_then(RaftHandle::leader),
        }
    }

    /// The answer to `request`; a refusal says what to fix.
    pub(in crate::broker) fn answer(
        self: Arc<Self>,
        request: AskPeerRequest,
    ) -> BoxFuture<'static, AskPeerResponse> {
        Box::pin(async move {
            match self.outcome(request).await {
                Ok(answer) => AskPeerResponse {
                    answer,
                    ..Default::default()
                },
                Err(text) => refused(text),
            }
        })
    }

    async fn outcome(&self, request: AskPeerRequest) -> Result<Bytes, String> {
        let mut rest = request.question.clone();
        if rest.is_empty() {
            return Err("an empty question".to_owned());
        }
        let kind = rest.split_to(1)[0];
        if kind == question::NODE {
            // Judged by its text, which both ends can explain better than a refusal here.
            return self.node_question(&rest).await;
        }
        self.check(&request)?;
        let from = BrokerId(request.from_node);
        match kind {
            question::RAFT => match self.raft.get() {
                Some(raft) => raft.service().answer(from, rest).await,
                None => Err(self.not_yet()),
            },
            question::FORWARDED => match self.controller.get() {
                Some(controller) => Ok(controller.answer_forwarded(rest).await),
                None => Err(self.not_yet()),
            },
            question::ADMIN => match self.desk.get() {
                Some(desk) => desk.answer(from, rest).await,
                None => Err(self.not_yet()),
            },
            other => Err(format!(
                "question {other} is not known here: run the same version of klamm on every node"
            )),
        }
    }

    fn not_yet(&self) -> String {
        format!("node {} is starting", self.identity.node)
    }

    fn check(&self, request: &AskPeerRequest) -> Result<(), String> {
        let node = self.identity.node;
        let theirs = request.cluster_id;
        if let Some(ours) = self.identity.cluster_id()
            && !theirs.is_zero()
            && theirs != ours
        {
            return Err(format!(
                "node {node} belongs to cluster {ours}, and node {} to {theirs}: correct the \
                 addresses of the quorum, or point log.dirs at this cluster's directory",
                request.from_node
            ));
        }
        if request.to_node != -1 && request.to_node != node.0 {
            return Err(format!(
                "node {node} listens here, not node {}: correct controller.quorum.voters, or \
                 node.id here",
                request.to_node
            ));
        }
        let directory = self.identity.directory_id;
        if !request.to_directory.is_zero() && request.to_directory != directory {
            return Err(format!(
                "directory {} of node {node} is gone, here is {directory}: restore it, or remove \
                 the voter and add it again",
                request.to_directory
            ));
        }
        Ok(())
    }

    async fn node_question(&self, bytes: &[u8]) -> Result<Bytes, String> {
        let answer = match question::read(bytes)? {
            NodeQuestion::Hello(_) => NodeAnswer::Hello(self.view()),
            NodeQuestion::Found { cluster_id } => self.take(cluster_id).await?,
            NodeQuestion::Join(peer) => self.join(peer).await?,
        };
        Ok(Bytes::from(question::json(&answer)))
    }

    async fn take(&self, cluster_id: Uuid) -> Result<NodeAnswer, String> {
        if self.identity.cluster_id() != Some(cluster_id) {
            let (taken, outcome) = oneshot::channel();
            let offer = Offer { cluster_id, taken };
            // Once the node knows its cluster nobody takes offers any more.
            self.offers
                .send(offer)
                .await
                .map_err(|_| self.other_cluster(cluster_id))?;
            outcome
                .await
                .unwrap_or_else(|_| Err(self.other_cluster(cluster_id)))?;
        }
        Ok(NodeAnswer::Found {
            directory_id: self.identity.directory_id,
        })
    }

    fn other_cluster(&self, cluster_id: Uuid) -> String {
        let ours = self.identity.cluster_id();
        let ours = ours.map_or_else(|| "none yet".to_owned(), |id| id.to_string());
        let node = self.identity.node;
        format!("node {node} cannot take cluster {cluster_id}: its cluster is {ours}")
    }

    async fn join(&self, peer: Peer) -> Result<NodeAnswer, String> {
        let Some(raft) = self.raft.get() else {
            return Err(self.not_yet());
        };
        let state = raft.state();
        if let Some(voter) = state.voters.iter().find(|voter| voter.id == peer.id) {
            if voter.directory_id != peer.directory_id {
                let leader = raft.leader();
                if leader
                    .as_ref()
                    .is_none_or(|leader| leader.id != self.identity.node)
                {
                    // What it knows of the voters may be old.
                    return Ok(NodeAnswer::NotLeader { leader });
                }
                let text = decide::directory_gone(voter, peer.directory_id);
                return Ok(NodeAnswer::Refused(text));
            }
            return Ok(NodeAnswer::Joined);
        }
        match state.observers.iter().find(|known| known.id == peer.id) {
            Some(known) if *known == peer => return Ok(NodeAnswer::Joined),
            Some(known) => {
                if let Some(text) = self.runs_elsewhere(known, &peer).await {
                    return Ok(NodeAnswer::Refused(text));
                }
            }
            None => {}
        }
        match raft.add_learner(peer).await {
            Ok(()) => Ok(NodeAnswer::Joined),
            Err(RaftError::NotLeader { leader }) => Ok(NodeAnswer::NotLeader { leader }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Why `peer` cannot come in the place of `known`: that one still runs at another address.
    async fn runs_elsewhere(&self, known: &Peer, peer: &Peer) -> Option<String> {
        const PATIENCE: Duration = Duration::from_millis(500);
        let at = address(&known.host, known.port);
        if at == address(&peer.host, peer.port) {
            return None;
        }
        let question = question::question(&NodeQuestion::Hello(self.view()));
        let asked = self
            .calls
            .ask_at(at.clone(), None, Uuid::ZERO, question, PATIENCE);
        match question::read(&asked.await.ok()?) {
            Ok(NodeAnswer::Hello(view)) if view.node == peer.id => Some(format!(
                "another node with node.id={} runs at {at}: give each node an id of its own",
                peer.id
            )),
            _ => None,
        }
    }
}

/// A refusal that says what to fix.
pub(in crate::broker) fn refused(text: String) -> AskPeerResponse {
    AskPeerResponse {
        error_code: ErrorCode::InvalidRequest.code(),
        error_message: Some(text.into()),
        ..Default::default()
    }
}
