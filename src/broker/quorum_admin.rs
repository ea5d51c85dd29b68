//! The controller quorum as administrators see and change it, from any node.
//!
//! [`QuorumAdmin`] is what a node can say and do by itself; [`QuorumDesk`] takes what is asked to
//! the node that leads, over [`Peers`], and answers for this node what others ask of it.
//!
//! **Promise.** A change that is answered with success is committed by the quorum. One that is
//! refused with another code than REQUEST_TIMED_OUT was not made.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::controller::{
    Controller, Peer, PeerError, PeerService, Peers, QuorumDescription, RaftError, RaftHandle,
    Refusal, ReplicaDescription,
};
use crate::env::{BoxFuture, Clock, Env};
use crate::types::{BrokerId, ErrorCode, Offset, Timestamp, Uuid};

/// First byte of every question that a desk asks another node. The answer has no such byte.
pub const QUORUM_QUESTION: u8 = 4;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// A member heard of within this span counts as alive.
const ALIVE: Duration = Duration::from_secs(2);

/// Within this span a new leader hears of every voter that is alive.
const FIRST_CONTACT: Duration = Duration::from_secs(2);

/// Time a question of another node may take here.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What administrators ask of the quorum.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum QuorumQuestion {
    Describe,
    /// Gives a node a vote, once it has caught up.
    AddVoter(Peer),
    RemoveVoter {
        id: BrokerId,
        /// Zero: whichever it has.
        directory_id: Uuid,
    },
}

/// The quorum as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QuorumStatus {
    pub leader: Option<BrokerId>,
    pub leader_epoch: i32,
    pub high_watermark: Offset,
    pub voters: Vec<MemberStatus>,
    /// Those that follow without a vote.
    pub observers: Vec<MemberStatus>,
}

/// How far a member of the quorum is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    pub peer: Peer,
    /// The offset after the last batch it is known to have.
    pub end: Option<Offset>,
    /// When the leader last heard of it, in milliseconds by the leader's clock; `None` for the
    /// leader itself.
    pub last_fetch_ms: Option<i64>,
    /// When it was last seen to have everything committed.
    pub last_caught_up_ms: Option<i64>,
}

/// A node's own part in the quorum.
pub trait QuorumAdmin: Send + Sync + 'static {
    /// Who leads, as far as this node knows.
    fn leader(&self) -> Option<Peer>;

    /// Answers with what holds afterwards. A node that does not lead says NOT_CONTROLLER.
    fn carry_out(
        &self,
        question: QuorumQuestion,
    ) -> BoxFuture<'static, Result<QuorumStatus, Refusal>>;
}

/// Where administrators ask.
#[derive(Clone)]
pub struct QuorumDesk {
    node: BrokerId,
    here: Arc<dyn QuorumAdmin>,
    env: Env,
    /// `None` where this node is the whole quorum.
    peers: Option<Arc<dyn Peers>>,
}

impl QuorumDesk {
    /// For a node that is a cluster by itself; its metadata is kept in `directory_id`.
    #[must_use]
    pub fn alone(env: &Env, node: BrokerId, directory_id: Uuid, controller: Controller) -> Self {
        let me = Peer {
            id: node,
            directory_id,
            ..Peer::default()
        };
        let here = Alone {
            me,
            controller,
            clock: env.clock.clone(),
        };
        Self {
            node,
            here: Arc::new(here),
            env: env.clone(),
            peers: None,
        }
    }

    /// For a node of a cluster.
    #[must_use]
    pub fn in_cluster(env: &Env, node: BrokerId, raft: RaftHandle, peers: Arc<dyn Peers>) -> Self {
        let here = Member {
            node,
            raft,
            env: env.clone(),
        };
        Self::new(env, node, Arc::new(here), Some(peers))
    }

    fn new(
        env: &Env,
        node: BrokerId,
        here: Arc<dyn QuorumAdmin>,
        peers: Option<Arc<dyn Peers>>,
    ) -> Self {
        Self {
            node,
            here,
            env: env.clone(),
            peers,
        }
    }

    /// Asks the leader, wherever it is.
    pub async fn ask(
        &self,
        question: QuorumQuestion,
        timeout: Duration,
    ) -> Result<QuorumStatus, Refusal> {
        let deadline = self.env.now().plus(timeout);
        loop {
            let left = deadline.since(self.env.now());
            let refusal = match self.env.timeout(left, self.attempt(&question, left)).await {
                Ok(Err(refusal)) if refusal.code == ErrorCode::NotController => refusal,
                Ok(done) => return done,
                Err(_) => return Err(timed_out("the quorum's leader did not answer in time")),
            };
            if self.env.now().plus(PAUSE) >= deadline {
                return Err(refusal);
            }
            self.env.sleep(PAUSE).await;
        }
    }

    async fn attempt(
        &self,
        question: &QuorumQuestion,
        left: Duration,
    ) -> Result<QuorumStatus, Refusal> {
        let Some(leader) = self.here.leader() else {
            return Err(not_leading("the quorum has no leader at the moment"));
        };
        match &self.peers {
            Some(peers) if leader.id != self.node => {
                match peers.ask(&leader, encode(question)?, left).await {
                    Ok(answer) => decode_answer(&answer),
                    Err(error @ (PeerError::NobodyListens(_) | PeerError::Refused(_))) => {
                        Err(not_leading(error.to_string()))
                    }
                    Err(PeerError::Lost(text)) => Err(timed_out(text)),
                }
            }
            _ => self.here.carry_out(question.clone()).await,
        }
    }
}

/// Answers other nodes' desks: the bytes after [`QUORUM_QUESTION`].
impl PeerService for QuorumDesk {
    fn answer(&self, _: BrokerId, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let question: QuorumQuestion = match serde_json::from_slice(&question) {
            Ok(question) => question,
            Err(error) => {
                let text = format!("a question about the quorum cannot be read: {error}");
                return Box::pin(ready(Err(text)));
            }
        };
        // Not passed on a second time: two nodes that take each other for the leader would go on.
        let (env, done) = (self.env.clone(), self.here.carry_out(question));
        Box::pin(async move {
            let outcome = env
                .timeout(TIMEOUT, done)
                .await
                .unwrap_or_else(|_| Err(timed_out("the change was not finished in time")));
            serde_json::to_vec(&outcome)
                .map(Bytes::from)
                .map_err(|error| format!("the answer has no form to be sent in: {error}"))
        })
    }
}

fn encode(question: &QuorumQuestion) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(QUORUM_QUESTION);
    let json = serde_json::to_vec(question).map_err(|error| {
        let text = format!("the question has no form to be sent in: {error}");
        Refusal::new(ErrorCode::UnknownServerError, text)
    })?;
    bytes.put_slice(&json);
    Ok(bytes.freeze())
}

fn decode_answer(bytes: &[u8]) -> Result<QuorumStatus, Refusal> {
    serde_json::from_slice(bytes).unwrap_or_else(|error| {
        Err(timed_out(format!(
            "the answer of the quorum's leader cannot be read: {error}"
        )))
    })
}

fn not_leading(text: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::NotController, text)
}

/// It may have happened: the code that says so.
fn timed_out(text: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::RequestTimedOut, text)
}

/// A quorum of one that never changes.
struct Alone {
    me: Peer,
    controller: Controller,
    clock: Arc<dyn Clock>,
}

impl QuorumAdmin for Alone {
    fn leader(&self) -> Option<Peer> {
        Some(self.me.clone())
    }

    fn carry_out(
        &self,
        question: QuorumQuestion,
    ) -> BoxFuture<'static, Result<QuorumStatus, Refusal>> {
        let outcome = match question {
            QuorumQuestion::Describe => {
                let end = self.controller.image().end();
                let now = self.clock.wall().0;
                Ok(QuorumStatus {
                    leader: Some(self.me.id),
                    leader_epoch: 1,
                    high_watermark: end,
                    voters: vec![MemberStatus {
                        peer: self.me.clone(),
                        end: Some(end),
                        last_fetch_ms: None,
                        last_caught_up_ms: Some(now),
                    }],
                    observers: Vec::new(),
                })
            }
            QuorumQuestion::AddVoter(_) | QuorumQuestion::RemoveVoter { .. } => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                "this node is a cluster by itself and its quorum cannot be changed: a cluster of \
                 several nodes is founded with controller.quorum.voters",
            )),
        };
        Box::pin(ready(outcome))
    }
}

/// A member of a quorum of several.
struct Member {
    node: BrokerId,
    raft: RaftHandle,
    env: Env,
}

impl QuorumAdmin for Member {
    fn leader(&self) -> Option<Peer> {
        self.raft.leader()
    }

    fn carry_out(
        &self,
        question: QuorumQuestion,
    ) -> BoxFuture<'static, Result<QuorumStatus, Refusal>> {
        let (node, raft, env) = (self.node, self.raft.clone(), self.env.clone());
        Box::pin(async move {
            let description = raft.describe();
            if description.leader != Some(node) {
                // What it knows of the voters may be old.
                let text = format!("node {node} does not lead the quorum");
                return Err(not_leading(text));
            }
            if description.is_changing && question != QuorumQuestion::Describe {
                // As in Kafka: what the voters are is not known.
                return Err(timed_out("another change of the quorum is under way"));
            }
            check(&description, &question)?;
            match question {
                QuorumQuestion::Describe => {}
                QuorumQuestion::AddVoter(peer) => raft.add_voter(peer).await.map_err(refusal)?,
                QuorumQuestion::RemoveVoter { id, .. } => {
                    remove(&env, &raft, &description, id).await?
                }
            }
            Ok(status(&raft.describe(), env.wall()))
        })
    }
}

/// Takes the vote of `id`. A process that is alive goes on following the metadata: it may be a
/// broker. The leader first hands its lead on, and the next one removes it.
async fn remove(
    env: &Env,
    raft: &RaftHandle,
    quorum: &QuorumDescription,
    id: BrokerId,
) -> Result<(), Refusal> {
    let Some(voter) = quorum.voters.iter().find(|voter| voter.peer.id == id) else {
        return Ok(());
    };
    if quorum.leader == Some(id) && quorum.voters.len() > 1 {
        raft.resign().await.map_err(refusal)?;
        let text = format!("controller {id} has handed its lead on, to lose its vote");
        return Err(not_leading(text));
    }
    let is_alive = is_alive(env, raft, id).await;
    let directory_id = Some(voter.peer.directory_id);
    raft.remove_voter(id, directory_id).await.map_err(refusal)?;
    if is_alive && let Err(error) = raft.add_learner(voter.peer.clone()).await {
        tracing::warn!(node = %id, %error, "a former voter does not follow; start it again");
    }
    Ok(())
}

/// Whether voter `id` answers the leader. One that was just elected has not heard of all yet.
async fn is_alive(env: &Env, raft: &RaftHandle, id: BrokerId) -> bool {
    let deadline = env.now().plus(FIRST_CONTACT);
    loop {
        let voters = raft.describe().voters;
        let voter = voters.into_iter().find(|voter| voter.peer.id == id);
        match voter.and_then(|voter| voter.last_contact) {
            Some(ago) => return ago < ALIVE,
            None if env.now() >= deadline => return false,
            None => env.sleep(PAUSE).await,
        }
    }
}

/// Refuses what makes no sense with the voters there are.
fn check(quorum: &QuorumDescription, question: &QuorumQuestion) -> Result<(), Refusal> {
    let voter = |id: BrokerId| quorum.voters.iter().find(|voter| voter.peer.id == id);
    match question {
        QuorumQuestion::AddVoter(peer) => match voter(peer.id) {
            Some(known) if known.peer.directory_id == peer.directory_id => {
                let text = format!("controller {} has a vote already", peer.id);
                Err(Refusal::new(ErrorCode::DuplicateVoter, text))
            }
            Some(known) => {
                let text = format!(
                    "controller {} has a vote with directory {}: remove that voter first",
                    peer.id, known.peer.directory_id
                );
                Err(Refusal::new(ErrorCode::DuplicateVoter, text))
            }
            None => Ok(()),
        },
        QuorumQuestion::RemoveVoter { id, directory_id } => match voter(*id) {
            Some(known) if directory_id.is_zero() || known.peer.directory_id == *directory_id => {
                Ok(())
            }
            _ => {
                let text = format!("there is no voter {id} with directory {directory_id}");
                Err(Refusal::new(ErrorCode::VoterNotFound, text))
            }
        },
        QuorumQuestion::Describe => Ok(()),
    }
}

fn refusal(error: RaftError) -> Refusal {
    let code = match &error {
        RaftError::NotLeader { .. } => ErrorCode::NotController,
        RaftError::Refused(_) => ErrorCode::InvalidRequest,
        RaftError::Unavailable(_) => ErrorCode::RequestTimedOut,
    };
    Refusal::new(code, error.to_string())
}

fn status(quorum: &QuorumDescription, now: Timestamp) -> QuorumStatus {
    let member = |one: &ReplicaDescription| member(quorum, one, now);
    QuorumStatus {
        leader: quorum.leader,
        leader_epoch: i32::try_from(quorum.term).unwrap_or(i32::MAX),
        high_watermark: quorum.high_watermark,
        voters: quorum.voters.iter().map(member).collect(),
        observers: quorum.observers.iter().map(member).collect(),
    }
}

fn member(quorum: &QuorumDescription, one: &ReplicaDescription, now: Timestamp) -> MemberStatus {
    let is_leader = quorum.leader == Some(one.peer.id);
    let heard = one.last_contact.map(|ago| {
        let ago = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        now.0.saturating_sub(ago)
    });
    let has_all = one.end.is_some_and(|end| end >= quorum.high_watermark);
    MemberStatus {
        peer: one.peer.clone(),
        end: one.end,
        last_fetch_ms: heard.filter(|_| !is_leader),
        last_caught_up_ms: match is_leader {
            true => Some(now.0),
            false => heard.filter(|_| has_all),
        },
    }
}

#[cfg(test)]
#[path = "quorum_admin_tests.rs"]
mod tests;
