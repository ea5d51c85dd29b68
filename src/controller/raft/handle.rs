//! What the node does with its quorum besides proposing: founding, voters, peers, description.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, ForwardToLeader, InitializeError, RaftError as Failure};
use openraft::{ChangeMembers, Instant as _, RaftMetrics};

use super::RaftOptions;
use super::ambient::within;
use super::service::Service;
use super::store::LogStore;
use super::suspicion;
use super::types::{Membership, Raft, TypeConfig, end_of};
use crate::controller::peers::{Peer, PeerService};
use crate::env::Env;
use crate::types::{BrokerId, Offset, Uuid};

/// Longest name of a host, as in the domain name system.
const HOST_BYTES_MAX: usize = 255;
/// How long a node that is to have a vote may take to catch up.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);

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
    /// The offset after the last entry; 0: none.
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
    /// The offset after the last entry it is known to have; `None`: unknown.
    pub end: Option<Offset>,
    /// How long ago it last answered; zero for the leader itself, `None`: unknown.
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
    /// Whether the members above are not committed yet: they may be others again.
    pub is_changing: bool,
}

/// Handle on this node's part of the quorum. Cloning shares it.
#[derive(Clone)]
pub struct RaftHandle {
    env: Arc<Env>,
    raft: Raft,
    store: LogStore,
    options: Arc<RaftOptions>,
    service: Service,
}

impl RaftHandle {
    pub(super) fn new(
        env: Arc<Env>,
        raft: Raft,
        store: LogStore,
        options: Arc<RaftOptions>,
    ) -> Self {
        let service = Service::new(env.clone(), raft.clone(), store.clone());
        Self {
            env,
            raft,
            store,
            options,
            service,
        }
    }

    /// Answers the questions of other nodes' quorums: the bytes after the kind byte
    /// [`RAFT_QUESTION`](super::RAFT_QUESTION).
    #[must_use]
    pub fn service(&self) -> Arc<dyn PeerService> {
        Arc::new(self.service.clone())
    }

    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    fn membership(&self) -> Membership {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().clone()
    }

    /// Whether this node has ever belonged to a quorum: something is in its log or it has voted.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        !self.state().is_empty()
    }

    /// What is on disk.
    #[must_use]
    pub fn state(&self) -> RaftState {
        let (voters, observers) = members(&self.membership());
        let kept = self.store.kept();
        RaftState {
            term: kept.vote.map_or(0, |vote| vote.leader_id.term),
            end: end_of(kept.last().as_ref()),
            voters,
            observers,
        }
    }

    /// Founds the quorum with these voters, this node among them. Only for a node that
    /// [is not founded](Self::is_founded), and only once all voters agreed on it.
    pub async fn found(&self, voters: Vec<Peer>) -> Result<(), RaftError> {
        for voter in &voters {
            check(voter)?;
        }
        let voters: BTreeMap<BrokerId, Peer> =
            voters.into_iter().map(|peer| (peer.id, peer)).collect();
        let founded = within(&self.env, self.raft.initialize(voters)).await;
        founded.map_err(|error| match error {
            Failure::APIError(InitializeError::NotAllowed(_)) => {
                RaftError::Refused("this node belongs to a quorum already".to_owned())
            }
            Failure::APIError(error) => RaftError::Refused(error.to_string()),
            Failure::Fatal(fatal) => RaftError::Unavailable(fatal.to_string()),
        })
    }

    /// Carries out one change of the members, to its end.
    async fn change(
        &self,
        change: ChangeMembers<BrokerId, Peer>,
        keeps_removed: bool,
    ) -> Result<(), RaftError> {
        let changed = within(
            &self.env,
            self.raft.change_membership(change, keeps_removed),
        );
        self.finished(self.options.request_timeout * 5, changed)
            .await
    }

    async fn finished<T>(
        &self,
        timeout: Duration,
        changed: impl Future<Output = Result<T, Failure<TypeConfig, ClientWriteError<TypeConfig>>>>,
    ) -> Result<(), RaftError> {
        match self.env.timeout(timeout, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(refusal(error)),
            Err(elapsed) => Err(RaftError::Unavailable(elapsed.to_string())),
        }
    }

    /// Lets `peer` follow without a vote; returns once that is committed, not once it has caught
    /// up. Fine when it follows already; a new address replaces the old one, and so does a new
    /// directory, unless the node has a vote.
    pub async fn add_learner(&self, peer: Peer) -> Result<(), RaftError> {
        check(&peer)?;
        let membership = self.membership();
        let known = membership.get_node(&peer.id).cloned();
        let is_voter = membership.voter_ids().any(|voter| voter == peer.id);
        let set = |peer: Peer| BTreeMap::from([(peer.id, peer)]);
        match known {
            Some(known) if known == peer => Ok(()),
            Some(known) if known.directory_id == peer.directory_id => {
                self.change(ChangeMembers::SetNodes(set(peer)), true).await
            }
            Some(known) if is_voter => Err(RaftError::Refused(format!(
                "node {} has a vote with directory {}: remove that voter first",
                peer.id, known.directory_id
            ))),
            Some(_) => {
                // What is known of its log was that of the other directory.
                let gone = ChangeMembers::RemoveNodes(BTreeSet::from([peer.id]));
                self.change(gone, true).await?;
                self.change(ChangeMembers::AddNodes(set(peer)), true).await
            }
            None => self.change(ChangeMembers::AddNodes(set(peer)), true).await,
        }
    }

    /// Gives `peer` a vote, after it has caught up.
    pub async fn add_voter(&self, peer: Peer) -> Result<(), RaftError> {
        let id = peer.id;
        if self.metrics().current_leader != Some(self.options.me.id) {
            return Err(RaftError::NotLeader {
                leader: self.leader(),
            });
        }
        self.add_learner(peer.clone()).await?;
        if self.membership().voter_ids().any(|voter| voter == id) {
            return Ok(());
        }
        self.caught_up(&peer).await?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true)
            .await
    }

    /// Waits until `peer` has everything that is in the log by now. The library would take a node
    /// for ready that is some thousand entries behind, which one that was never there is too.
    async fn caught_up(&self, peer: &Peer) -> Result<(), RaftError> {
        let me = self.options.me.id;
        let last = self.metrics().last_log_index;
        let is_over = |metrics: &RaftMetrics<TypeConfig>| {
            metrics.current_leader != Some(me)
                || metrics.membership_config.get_node(&peer.id) != Some(peer)
        };
        let has_all = |metrics: &RaftMetrics<TypeConfig>| {
            let matched = metrics
                .replication
                .as_ref()
                .and_then(|all| all.get(&peer.id));
            let matched = matched.and_then(|matched| matched.as_ref().map(|id| id.index));
            peer.id == me || matched >= last
        };
        let waited = within(&self.env, async {
            let mut metrics = self.raft.metrics();
            let reached = metrics.wait_until(|metrics| is_over(metrics) || has_all(metrics));
            reached.await.map(|metrics| is_over(&metrics)).ok()
        });
        match self.env.timeout(CATCH_UP_MAX, waited).await {
            Ok(Some(false)) => Ok(()),
            Ok(_) => Err(RaftError::Unavailable(format!(
                "the quorum changed before node {} had caught up",
                peer.id
            ))),
            Err(_) => Err(RaftError::Unavailable(format!(
                "node {} with directory {} did not catch up: is it running, and can it be reached \
                 at {}:{}?",
                peer.id, peer.directory_id, peer.host, peer.port
            ))),
        }
    }

    /// Takes the vote from the node `id`, and forgets it. The leader may remove itself. With a
    /// directory id: only if the voter has that directory.
    pub async fn remove_voter(
        &self,
        id: BrokerId,
        directory_id: Option<Uuid>,
    ) -> Result<(), RaftError> {
        let membership = self.membership();
        let directory = membership.get_node(&id).map(|peer| peer.directory_id);
        let is_meant = directory_id.is_none() || directory_id == directory;
        let mut others = membership.voter_ids().filter(|voter| *voter != id);
        let has_others = others.next().is_some();
        let is_voter = membership.voter_ids().any(|voter| voter == id);
        match (is_voter && is_meant, has_others) {
            (false, _) => Err(RaftError::Refused(format!(
                "node {id} has no vote with such a directory"
            ))),
            (true, false) => Err(RaftError::Refused(format!("node {id} is the last voter"))),
            (true, true) => {
                let removed = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
                self.change(removed, false).await
            }
        }
    }

    /// Lets the node `id` follow no longer.
    pub async fn remove_learner(&self, id: BrokerId) -> Result<(), RaftError> {
        if self.membership().get_node(&id).is_none() {
            return Ok(());
        }
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])), true)
            .await
    }

    /// For how long this node knows of no leader that a majority follows; zero while it leads so
    /// itself.
    #[must_use]
    pub fn silence(&self) -> Duration {
        let metrics = self.metrics();
        let heard = self.env.now().since(self.service.heard());
        let me = metrics.id;
        if metrics.current_leader != Some(me) {
            return heard;
        }
        let mut voters = metrics.membership_config.voter_ids();
        if voters.all(|voter| voter == me) {
            return Duration::ZERO;
        }
        let acked = super::ambient::call(&self.env, || {
            let acked = metrics.last_quorum_acked.as_ref();
            acked.map(|acked| acked.elapsed())
        });
        acked.map_or(heard, |acked| acked.min(heard))
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leader(&self) -> Option<Peer> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        metrics.membership_config.get_node(&leader).cloned()
    }

    #[must_use]
    pub fn describe(&self) -> QuorumDescription {
        let metrics = self.metrics();
        let (voters, observers) = members(metrics.membership_config.membership());
        let describe = |peer: Peer| {
            let is_me = peer.id == self.options.me.id;
            let matched = metrics
                .replication
                .as_ref()
                .and_then(|all| all.get(&peer.id));
            let end = matched.map(|matched| end_of(matched.as_ref()));
            let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(&peer.id));
            let last_contact = super::ambient::call(&self.env, || {
                heard.and_then(Option::as_ref).map(|heard| heard.elapsed())
            });
            ReplicaDescription {
                end: if is_me { Some(self.state().end) } else { end },
                last_contact: if is_me {
                    Some(Duration::ZERO)
                } else {
                    last_contact
                },
                peer,
            }
        };
        QuorumDescription {
            leader: metrics.current_leader,
            term: metrics.current_term,
            high_watermark: end_of(metrics.cluster_committed.as_ref()),
            voters: voters.into_iter().map(describe).collect(),
            observers: observers.into_iter().map(describe).collect(),
            is_changing: *metrics.membership_config.log_id() > metrics.cluster_committed,
        }
    }

    /// Says that the process of the node `id` is proven dead. If it leads, this node stands for
    /// election early, a little later the later it stands among the voters. Returns at once.
    pub fn suspect_leader(&self, id: BrokerId) {
        let standing = suspicion::stand(self.env.clone(), self.raft.clone(), id);
        self.env
            .spawn("raft-suspicion", within(&self.env, standing))
            .detach();
    }

    /// Hands the leadership to the voter that is furthest, if this node leads; returns once it
    /// leads no longer.
    pub async fn resign(&self) -> Result<(), RaftError> {
        let me = self.options.me.id;
        let metrics = self.metrics();
        if metrics.current_leader != Some(me) {
            return Err(RaftError::NotLeader {
                leader: self.leader(),
            });
        }
        let matched = metrics.replication.iter().flatten();
        let voters = metrics
            .membership_config
            .voter_ids()
            .filter(|voter| *voter != me);
        let voters: BTreeSet<BrokerId> = voters.collect();
        let candidates = matched.filter(|(id, _)| voters.contains(id));
        let Some((furthest, _)) = candidates.max_by_key(|(_, matched)| **matched) else {
            return Err(RaftError::Refused("there is no other voter".to_owned()));
        };
        let asked = within(&self.env, async {
            let handed = self.raft.trigger().transfer_leader(*furthest).await;
            handed.map_err(|fatal| RaftError::Unavailable(fatal.to_string()))?;
            let mut metrics = self.raft.metrics();
            let gone = metrics
                .wait_until(|metrics| metrics.current_leader != Some(me))
                .await;
            gone.map(|_| ())
                .map_err(|_| RaftError::Unavailable("stopped".to_owned()))
        });
        let timeout = self.options.election_timeout * 2;
        let Ok(handed) = self.env.timeout(timeout, asked).await else {
            return Err(RaftError::Unavailable(
                "no other voter took over".to_owned(),
            ));
        };
        handed
    }

    /// Stops this node's part; nothing is answered from then on.
    pub async fn shut_down(&self) {
        // It fails only where it had stopped before.
        within(&self.env, self.raft.shutdown()).await.ok();
    }
}

fn members(membership: &Membership) -> (Vec<Peer>, Vec<Peer>) {
    let voters: BTreeSet<BrokerId> = membership.voter_ids().collect();
    let all = membership.nodes().map(|(_, peer)| peer.clone());
    all.partition(|peer| voters.contains(&peer.id))
}

fn check(peer: &Peer) -> Result<(), RaftError> {
    if peer.host.len() > HOST_BYTES_MAX {
        let reason = format!("the name of the host of node {} is too long", peer.id);
        return Err(RaftError::Refused(reason));
    }
    Ok(())
}

fn refusal(error: Failure<TypeConfig, ClientWriteError<TypeConfig>>) -> RaftError {
    match error {
        Failure::APIError(ClientWriteError::ForwardToLeader(ForwardToLeader {
            leader_node,
            ..
        })) => RaftError::NotLeader {
            leader: leader_node,
        },
        Failure::APIError(
            error @ (ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_)),
        ) => RaftError::Refused(error.to_string()),
        Failure::APIError(error @ ClientWriteError::LogEntryDiscarded(_)) => {
            RaftError::Unavailable(error.to_string())
        }
        Failure::Fatal(fatal) => RaftError::Unavailable(fatal.to_string()),
    }
}
