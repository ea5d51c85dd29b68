//! Finds the cluster this node belongs to, or founds it: asks the other nodes, and does what
//! [`decide`](super::decide) says.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::ClusterError;
use super::calls::PeerCalls;
use super::decide::{Decision, Heard, decide};
use super::gate::{Gate, Offer};
use super::identity::Identity;
use super::question::{self, NodeAnswer, NodeQuestion, View};
use crate::broker::log_dir::{LogDir, TakenDirs};
use crate::config::{Membership, QuorumConfig, Voter, address};
use crate::controller::{Peer, PeerError, RaftHandle};
use crate::env::Env;
use crate::types::{BrokerId, Instant, Uuid};

/// Time for one question.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two lines that say what is waited for.
const TELL: Duration = Duration::from_secs(5);

/// Looks for the cluster.
pub(super) struct Finder {
    pub env: Env,
    pub quorum: QuorumConfig,
    pub identity: Arc<Identity>,
    pub calls: Arc<PeerCalls>,
    pub gate: Arc<Gate>,
    pub offers: mpsc::Receiver<Offer>,
    /// When it was last said what is waited for.
    pub told: Option<Instant>,
}

impl Finder {
    /// Refuses a directory of another cluster than that of the nodes which the settings name. Not
    /// where one of them knows this cluster, nor where none answers.
    pub(super) async fn check_cluster(&self, directory: &Path) -> Result<(), ClusterError> {
        let Some(ours) = self.identity.cluster_id() else {
            return Ok(());
        };
        let me = self.gate.view();
        let question = question::question(&NodeQuestion::Hello(me.clone()));
        let places = self.places().into_iter();
        let others = places.filter(|(_, voter)| voter.as_ref().is_none_or(|one| one.id != me.node));
        let mut asked: FuturesUnordered<_> = others
            .map(|(at, _)| {
                let asked =
                    self.calls
                        .ask_at(at.clone(), None, Uuid::ZERO, question.clone(), PATIENCE);
                async move { (at, read(asked.await)) }
            })
            .collect();
        let mut stranger = None;
        while let Some((at, answer)) = asked.next().await {
            let Ok(NodeAnswer::Hello(view)) = answer else {
                continue;
            };
            match view.cluster_id.filter(|_| view.has_metadata) {
                Some(theirs) if theirs == ours => return Ok(()),
                Some(theirs) => stranger = Some((view.node, at, theirs)),
                None => {}
            }
        }
        let Some((node, at, theirs)) = stranger else {
            return Ok(());
        };
        Err(ClusterError::Settings(format!(
            "log.dirs: {} belongs to cluster {ours}, and node {node} at {at} to cluster {theirs}: \
             point log.dirs at this cluster's directory, or correct the addresses of the quorum",
            directory.display()
        )))
    }

    /// Makes the data directories those of this node's cluster, once it is known which it is.
    pub(super) async fn settle(&mut self, dirs: TakenDirs) -> Result<Vec<LogDir>, ClusterError> {
        let (cluster_id, offer) = match (dirs.membership(), dirs.cluster_id) {
            (Some(_), Some(cluster_id)) => (cluster_id, None),
            _ => self.cluster_id(dirs.new_cluster_id).await?,
        };
        let settled = dirs
            .settle(&self.env, cluster_id, Membership::Joining)
            .await?;
        self.identity.joined(cluster_id);
        if let Some(offer) = offer {
            // The founder may have gone; it will ask again.
            let _ = offer.taken.send(Ok(()));
        }
        Ok(settled)
    }

    /// The id of the cluster that exists, that all voters are about to found, or that a founder
    /// offers.
    async fn cluster_id(&mut self, new: Uuid) -> Result<(Uuid, Option<Offer>), ClusterError> {
        let wanted = self.gate.view().cluster_id;
        loop {
            let asking = ask_all(
                self.env.clone(),
                self.calls.clone(),
                self.gate.view(),
                self.places(),
            );
            let heard = tokio::select! {
                biased;
                Some(offer) = self.offers.recv() => {
                    match wanted.filter(|wanted| *wanted != offer.cluster_id) {
                        None => return Ok((offer.cluster_id, Some(offer))),
                        Some(wanted) => {
                            let node = self.identity.node;
                            let text = format!("cluster.id of node {node} is {wanted}");
                            let _ = offer.taken.send(Err(text));
                            continue;
                        }
                    }
                }
                heard = asking => heard,
            };
            match decide(&self.gate.view(), &self.quorum.voters, &heard) {
                Decision::Refuse(text) => return Err(ClusterError::Settings(text)),
                Decision::Join { cluster_id, .. } => return Ok((cluster_id, None)),
                Decision::Found { cluster_id } => return Ok((cluster_id.unwrap_or(new), None)),
                Decision::Wait(why) => self.wait(&why).await,
            }
        }
    }

    /// Returns once this node's quorum has state: it founded the cluster, or was let in.
    pub(super) async fn join(&mut self, raft: &RaftHandle, me: &Peer) -> Result<(), ClusterError> {
        while !raft.is_founded() {
            let heard = ask_all(
                self.env.clone(),
                self.calls.clone(),
                self.gate.view(),
                self.places(),
            )
            .await;
            if raft.is_founded() {
                break;
            }
            match decide(&self.gate.view(), &self.quorum.voters, &heard) {
                Decision::Refuse(text) => return Err(ClusterError::Settings(text)),
                Decision::Found { .. } => self.found(raft, me).await?,
                Decision::Join { members, .. } => {
                    match members.iter().any(|member| member.id == me.id) {
                        true => {
                            self.wait("the leader of the quorum to write to this one")
                                .await
                        }
                        false => self.ask_in(me, &heard, members).await?,
                    }
                }
                Decision::Wait(why) => self.wait(&why).await,
            }
        }
        Ok(())
    }

    /// Founds the cluster with every voter, each with the directory it has now.
    async fn found(&mut self, raft: &RaftHandle, me: &Peer) -> Result<(), ClusterError> {
        let Some(cluster_id) = self.identity.cluster_id() else {
            return Ok(());
        };
        let question = question::question(&NodeQuestion::Found { cluster_id });
        let mut voters = Vec::with_capacity(self.quorum.voters.len());
        for voter in self.quorum.voters.clone() {
            if voter.id == me.id {
                voters.push(me.clone());
                continue;
            }
            let at = address(&voter.host, voter.port);
            let asked =
                self.calls
                    .ask_at(at, Some(voter.id), Uuid::ZERO, question.clone(), PATIENCE);
            match read(asked.await) {
                Ok(NodeAnswer::Found { directory_id }) => voters.push(Peer {
                    id: voter.id,
                    directory_id,
                    host: voter.host,
                    port: voter.port,
                }),
                Ok(_) => return Ok(()),
                Err(why) => {
                    self.wait(&why).await;
                    return Ok(());
                }
            }
        }
        tracing::info!(%cluster_id, voters = voters.len(), "founding the cluster");
        match raft.found(voters).await {
            Ok(()) => {}
            Err(error) => self.wait(&error.to_string()).await,
        }
        Ok(())
    }

    /// Asks to follow the quorum, whoever leads it.
    async fn ask_in(
        &mut self,
        me: &Peer,
        heard: &[Heard],
        members: Vec<Peer>,
    ) -> Result<(), ClusterError> {
        let leaders = heard.iter().filter_map(|one| one.answer.as_ref().ok());
        let mut candidates: Vec<Peer> = leaders.filter_map(|view| view.leader.clone()).collect();
        candidates.extend(members);
        let question = question::question(&NodeQuestion::Join(me.clone()));
        let mut why = "a leader of the quorum".to_owned();
        for candidate in candidates {
            let at = address(&candidate.host, candidate.port);
            let asked = self.calls.ask_at(
                at,
                Some(candidate.id),
                Uuid::ZERO,
                question.clone(),
                5 * PATIENCE,
            );
            match read(asked.await) {
                Ok(NodeAnswer::Refused(text)) => return Err(ClusterError::Settings(text)),
                Ok(NodeAnswer::Joined) => {
                    self.env.sleep(PAUSE).await;
                    return Ok(());
                }
                Ok(_) => {}
                Err(text) => why = text,
            }
        }
        self.wait(&why).await;
        Ok(())
    }

    /// Everyone the settings name.
    fn places(&self) -> Vec<(String, Option<Voter>)> {
        let voters = self.quorum.voters.iter();
        let mut places: Vec<(String, Option<Voter>)> = voters
            .map(|voter| (address(&voter.host, voter.port), Some(voter.clone())))
            .collect();
        for server in &self.quorum.bootstrap_servers {
            if !places.iter().any(|(known, _)| known == server) {
                places.push((server.clone(), None));
            }
        }
        places
    }

    async fn wait(&mut self, why: &str) {
        let now = self.env.now();
        if self.told.is_none_or(|told| now.since(told) >= TELL) {
            self.told = Some(now);
            tracing::info!("waiting for the cluster: {why}");
        }
        self.env.sleep(PAUSE).await;
    }
}

/// Asks everyone at once.
async fn ask_all(
    env: Env,
    calls: Arc<PeerCalls>,
    me: View,
    places: Vec<(String, Option<Voter>)>,
) -> Vec<Heard> {
    let question = question::question(&NodeQuestion::Hello(me.clone()));
    let ask = |(address, expected): (String, Option<Voter>)| {
        let asked = calls.ask_at(
            address.clone(),
            None,
            Uuid::ZERO,
            question.clone(),
            PATIENCE,
        );
        async move {
            let answer = match read(asked.await) {
                Ok(NodeAnswer::Hello(view)) => Ok(view),
                Ok(_) => Err(format!("{address} answered another question")),
                Err(why) => Err(why),
            };
            Heard {
                address,
                expected,
                answer,
            }
        }
    };
    let asked = join_all(places.into_iter().map(ask));
    let mut heard = env.timeout(2 * PATIENCE, asked).await.unwrap_or_default();
    // A node need not be able to reach itself.
    let is_own = |expected: &Option<Voter>, node: BrokerId| {
        expected.as_ref().is_some_and(|voter| voter.id == node)
    };
    heard.retain(|one| one.answer.is_ok() || !is_own(&one.expected, me.node));
    heard
}

fn read(answer: Result<Bytes, PeerError>) -> Result<NodeAnswer, String> {
    let bytes = answer.map_err(|error| error.to_string())?;
    question::read(&bytes)
}
