//! The consensus library's network: questions to peers, each with a deadline.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::message::{self, Part, Question};
use super::snapshot::KeptSnapshot;
use super::types::{Snapshot, TypeConfig, Vote};
use crate::controller::peers::{Peer, PeerError, Peers};
use crate::env::Env;
use crate::types::BrokerId;
use crate::wire::DecodeError;

/// A snapshot is sent in parts of so many bytes.
const PART_BYTES: usize = 1 << 20;

/// Reaches all peers.
pub(super) struct Network {
    pub env: Arc<Env>,
    pub peers: Arc<dyn Peers>,
    pub me: BrokerId,
    /// For a question that the other's disk has to follow.
    pub request_timeout: Duration,
    /// While set nothing is replicated: this node leads without a majority.
    pub mute: Arc<AtomicBool>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, _: BrokerId, to: &Peer) -> Client {
        Client {
            env: self.env.clone(),
            peers: self.peers.clone(),
            me: self.me,
            to: to.clone(),
            request_timeout: self.request_timeout,
            mute: self.mute.clone(),
        }
    }
}

/// Reaches one peer.
pub struct Client {
    env: Arc<Env>,
    peers: Arc<dyn Peers>,
    me: BrokerId,
    to: Peer,
    request_timeout: Duration,
    mute: Arc<AtomicBool>,
}

/// No majority answers this node.
#[derive(Debug, thiserror::Error)]
#[error("this node keeps still: no majority answers it")]
struct Mute;

type Failure = RPCError<TypeConfig>;

impl Client {
    async fn ask<T>(
        &self,
        action: RPCTypes,
        question: Question,
        timeout: Duration,
        decode: fn(Bytes) -> Result<T, DecodeError>,
    ) -> Result<T, Failure> {
        let asked = self.peers.ask(&self.to, question.encode(), timeout);
        let Ok(answer) = self.env.timeout(timeout, asked).await else {
            return Err(RPCError::Timeout(Timeout {
                action,
                id: self.me,
                target: self.to.id,
                timeout,
            }));
        };
        match answer {
            Ok(answer) => {
                decode(answer).map_err(|error| RPCError::Network(NetworkError::new(&error)))
            }
            Err(error @ (PeerError::NobodyListens(_) | PeerError::Refused(_))) => {
                Err(RPCError::Unreachable(Unreachable::new(&error)))
            }
            Err(error @ PeerError::Lost(_)) => Err(RPCError::Network(NetworkError::new(&error))),
        }
    }

    /// Sends a snapshot part by part; the answer to the last says that it was installed.
    async fn send_snapshot(&self, vote: Vote, whole: &Bytes) -> Result<Vote, Failure> {
        let total_sum = crc32c::crc32c(whole);
        let mut position = 0;
        loop {
            let end = whole.len().min(position + PART_BYTES);
            let part = Question::Snapshot(Part {
                vote,
                total_bytes: whole.len() as u64,
                total_sum,
                position: position as u64,
                bytes: whole.slice(position..end),
            });
            let timeout = self.request_timeout;
            let decode = message::decode_vote;
            let answer = self
                .ask(RPCTypes::InstallSnapshot, part, timeout, decode)
                .await?;
            position = end;
            if position == whole.len() || answer != vote {
                return Ok(answer);
            }
        }
    }

    /// A vote's answer as a broken library would read it: whatever it says, it is a vote gained.
    fn misread(asked: Vote, answer: VoteResponse<TypeConfig>) -> VoteResponse<TypeConfig> {
        match crate::mutant!("higher-vote-is-granted") {
            true => VoteResponse {
                vote: asked,
                vote_granted: true,
                last_log_id: answer.last_log_id,
            },
            false => answer,
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failure> {
        if self.mute.load(Ordering::Relaxed) && !request.entries.is_empty() {
            return Err(RPCError::Unreachable(Unreachable::new(&Mute)));
        }
        let timeout = match request.entries.is_empty() {
            true => option.hard_ttl(),
            false => self.request_timeout,
        };
        let question = Question::Append(request);
        let decode = message::decode_append_answer;
        self.ask(RPCTypes::AppendEntries, question, timeout, decode)
            .await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let asked = request.vote;
        let question = Question::Vote(request);
        let decode = message::decode_vote_answer;
        let answer = self
            .ask(RPCTypes::Vote, question, option.hard_ttl(), decode)
            .await?;
        Ok(Self::misread(asked, answer))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failure> {
        let asked = request.vote;
        let question = Question::PreVote(request);
        let decode = message::decode_vote_answer;
        let answer = self
            .ask(RPCTypes::Vote, question, option.hard_ttl(), decode)
            .await?;
        Ok(Self::misread(asked, answer))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let snapshot = KeptSnapshot {
            meta: snapshot.meta,
            records: snapshot.snapshot,
        };
        let whole = snapshot.encode();
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, &whole) => Ok(SnapshotResponse::new(sent?)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failure> {
        let question = Question::HandOver(request);
        let decode = |_| Ok(());
        self.ask(
            RPCTypes::TransferLeader,
            question,
            option.hard_ttl(),
            decode,
        )
        .await?;
        Ok(Ok(()))
    }
}
