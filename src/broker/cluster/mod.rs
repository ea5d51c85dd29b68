//! This node among others: how it finds or founds its cluster, how nodes ask each other, and how a
//! broker stays registered.
//!
//! - [`calls`]: asks other nodes; [`gate`]: answers them.
//! - [`decide`]: pure: what a starting node does about its cluster; [`founding`] carries it out.
//! - [`lifecycle`]: registration, heartbeats, controlled shutdown.
//! - [`staying`]: sees to it that this node stays a member, and tells of a lost majority.
//! - [`watch`]: notices at once when the process of another node is gone.
//!
//! **Promises.** A cluster is founded only once, when all of its voters agree. A node that has been
//! a member and finds its metadata gone refuses to start; nothing is ever made anew in its place.

mod calls;
mod decide;
mod founding;
pub mod gate;
mod identity;
mod lease;
pub mod lifecycle;
mod question;
mod staying;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::drain::Drain;
use super::log_dir::{self, LogDir, OpenError, TakenDirs};
use super::quorum_admin::QuorumDesk;
use crate::config::{Advertised, BrokerConfig, LogDirError, Membership, address};
use crate::controller::{
    Controller, Forward, Peer, PeerError, RaftHandle, RaftOpenError, RaftOptions, RaftQuorum,
};
use crate::env::{BoxFuture, Env, Task};
use crate::types::{BrokerId, Uuid};

use calls::PeerCalls;
use founding::Finder;
use gate::Gate;
use identity::Identity;
pub use lifecycle::Standing;

/// Directory of the cluster's metadata, in the first data directory.
const METADATA_DIR: &str = "__cluster_metadata-0";

/// How long a step of leaving the quorum may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why a node is no part of its cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The settings cannot be right; the text says what to change.
    #[error("{0}")]
    Settings(String),
    #[error(transparent)]
    LogDir(#[from] OpenError),
    #[error(transparent)]
    Raft(#[from] RaftOpenError),
}

/// What a node of a cluster has besides what every node has.
pub struct ClusterPart {
    pub raft: RaftHandle,
    /// Where administrators ask about the quorum.
    pub desk: QuorumDesk,
    /// Ends the connections of other nodes, after those of clients.
    peer_drain: Arc<Drain>,
    pub standing: Standing,
    calls: Arc<PeerCalls>,
    gate: Arc<Gate>,
    identity: Arc<Identity>,
    me: Peer,
    /// Accept other nodes.
    listening: Mutex<Vec<Task>>,
}

/// A node before it knows its cluster: it answers the others already.
pub struct Arriving {
    identity: Arc<Identity>,
    calls: Arc<PeerCalls>,
    gate: Arc<Gate>,
    finder: Finder,
    me: Peer,
}

impl Arriving {
    pub fn new(env: &Env, config: &BrokerConfig, dirs: &TakenDirs, incarnation: Uuid) -> Self {
        let (_, directory_id) = dirs.first();
        let known = dirs.membership().and(dirs.cluster_id);
        let identity = Identity::new(config.node_id, directory_id, incarnation, known);
        let identity = Arc::new(identity);
        let calls = PeerCalls::new(env, identity.clone());
        let (offers, incoming) = mpsc::channel(1);
        let gate = Gate::new(calls.clone(), &config.quorum, dirs.cluster_id, offers);
        let (host, port) = own_address(config);
        let finder = Finder {
            env: env.clone(),
            quorum: config.quorum.clone(),
            identity: identity.clone(),
            calls: calls.clone(),
            gate: gate.clone(),
            offers: incoming,
            told: None,
        };
        let me = Peer {
            id: config.node_id,
            directory_id,
            host,
            port,
        };
        Self {
            identity,
            calls,
            gate,
            finder,
            me,
        }
    }

    /// Answers other nodes from now on.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate.clone()
    }

    /// Finds or founds the cluster; returns once this node's quorum has its metadata.
    pub async fn arrive(
        mut self,
        env: &Env,
        config: &BrokerConfig,
        dirs: TakenDirs,
        peer_drain: Arc<Drain>,
        listening: Vec<Task>,
    ) -> Result<(Vec<LogDir>, RaftQuorum, ClusterPart), ClusterError> {
        let has_joined = dirs.membership() == Some(Membership::Joined);
        let (first, directory_id) = dirs.first();
        let path = first.join(METADATA_DIR);
        let gone = LogDirError::MetadataGone {
            directory_id,
            node: config.node_id,
            path: path.display().to_string(),
        };
        if has_joined && !log_dir::holds(env, first, METADATA_DIR).await? {
            return Err(dirs.refused(gone).into());
        }
        if has_joined {
            self.finder.check_cluster(first).await?;
        }
        let mut log_dirs = self.finder.settle(dirs).await?;
        let options = RaftOptions {
            me: self.me.clone(),
            dir: path,
            snapshot_bytes: config.metadata_snapshot_bytes,
            kept_entries: config.metadata_kept_entries,
            election_timeout: config.quorum.election_timeout,
            fetch_timeout: config.quorum.fetch_timeout,
            request_timeout: config.quorum.request_timeout,
        };
        let (quorum, raft) = RaftQuorum::open(env, options, self.calls.clone()).await?;
        if has_joined && !raft.is_founded() {
            let path = log_dirs[0].path.clone();
            return Err(OpenError::Refused { path, reason: gone }.into());
        }
        let desk = QuorumDesk::in_cluster(env, self.me.id, raft.clone(), self.calls.clone());
        self.gate.open_raft(raft.clone(), desk.clone());
        self.finder.join(&raft, &self.me).await?;
        for dir in &mut log_dirs {
            if dir.meta.membership != Membership::Joined {
                dir.set_membership(env, Membership::Joined).await?;
            }
        }
        let part = ClusterPart {
            raft,
            desk,
            peer_drain,
            standing: Standing::default(),
            calls: self.calls,
            gate: self.gate,
            identity: self.identity,
            me: self.me,
            listening: Mutex::new(listening),
        };
        Ok((log_dirs, quorum, part))
    }
}

/// Where the other nodes reach this one.
fn own_address(config: &BrokerConfig) -> (String, u16) {
    let quorum = &config.quorum;
    if let Some(voter) = quorum.voters.iter().find(|one| one.id == config.node_id) {
        return (voter.host.clone(), voter.port);
    }
    let by_brokers = config
        .listeners
        .iter()
        .find(|one| one.name == quorum.inter_broker_listener);
    let listener = quorum.listeners.first().or(by_brokers);
    match listener.map(|listener| &listener.advertised) {
        Some(Advertised::Fixed { host, port }) => (host.clone(), *port),
        Some(Advertised::Echo { port }) => (String::new(), *port),
        None => (String::new(), 0),
    }
}

impl ClusterPart {
    /// The way to the active controller.
    pub fn forward(&self) -> Arc<dyn Forward> {
        Arc::new(ToController {
            raft: self.raft.clone(),
            calls: self.calls.clone(),
        })
    }

    /// Lets other nodes reach the controller here.
    pub fn open_controller(&self, controller: Controller) {
        self.gate.open_controller(controller);
    }

    /// Sees to it that the others know where this node is; and starts to watch them, where it may
    /// lead the quorum.
    pub fn watch(
        self: &Arc<Self>,
        env: &Env,
        config: &BrokerConfig,
        controller: &Controller,
    ) -> Vec<Task> {
        let quorum = &config.quorum;
        let voters = quorum.voters.iter();
        let places = voters.map(|voter| address(&voter.host, voter.port));
        let places = places.chain(quorum.bootstrap_servers.iter().cloned());
        let staying = staying::run(env.clone(), self.clone(), places.collect());
        let mut tasks = vec![env.spawn("stay-member", staying)];
        if quorum.is_controller {
            let watching = watch::run(env.clone(), self.clone(), controller.clone());
            tasks.push(env.spawn("watch-nodes", watching));
        }
        tasks
    }

    /// Hands the lead of the quorum on, if this node has it.
    pub async fn hand_on(&self, env: &Env) {
        let is_leader = self
            .raft
            .leader()
            .is_some_and(|it| it.id == self.identity.node);
        if is_leader && let Ok(Err(error)) = env.timeout(PATIENCE, self.raft.resign()).await {
            tracing::debug!(%error, "the lead of the quorum was not handed on");
        }
    }

    /// Takes no more part in the quorum.
    pub async fn leave_quorum(&self, env: &Env) {
        if env.timeout(PATIENCE, self.raft.shut_down()).await.is_err() {
            tracing::warn!("the quorum did not stop in time");
        }
        self.peer_drain.start();
        let mut listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listening.clear();
    }
}

/// Carries requests to the active controller.
struct ToController {
    raft: RaftHandle,
    calls: Arc<PeerCalls>,
}

impl Forward for ToController {
    fn forward(
        &self,
        leader: BrokerId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let known = self.raft.leader().filter(|peer| peer.id == leader);
        let voters = self.raft.state().voters;
        let peer = known.or_else(|| voters.into_iter().find(|peer| peer.id == leader));
        let Some(peer) = peer else {
            let text = format!("nobody knows where node {leader} is");
            return Box::pin(std::future::ready(Err(PeerError::Refused(text))));
        };
        let question = question::framed(question::FORWARDED, &request);
        let at = address(&peer.host, peer.port);
        self.calls
            .ask_at(at, Some(peer.id), peer.directory_id, question, timeout)
    }
}
