//! Answers the questions of other nodes' quorums.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use openraft::raft::{AppendEntriesResponse, SnapshotResponse};
use openraft::storage::RaftLogStorage as _;

use super::ambient::within;
use super::message::{self, Part, Question};
use super::snapshot::KeptSnapshot;
use super::store::LogStore;
use super::types::{LogId, Raft, TypeConfig, Vote};
use crate::controller::peers::PeerService;
use crate::env::{BoxFuture, Env};
use crate::types::{BrokerId, Instant};

/// Most bytes of a snapshot.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

/// The part of a snapshot that has arrived.
pub(super) struct Arriving {
    from: BrokerId,
    vote: Vote,
    total_bytes: u64,
    total_sum: u32,
    bytes: BytesMut,
}

/// Keeps a part of a snapshot; the whole once it is complete. A first part begins anew.
pub(super) fn take_part(
    arriving: &mut Option<Arriving>,
    from: BrokerId,
    part: Part,
) -> Result<Option<Bytes>, String> {
    let before = match part.position {
        0 => None,
        _ => arriving.take(),
    };
    let mut snapshot = before.unwrap_or_else(|| Arriving {
        from,
        vote: part.vote,
        total_bytes: part.total_bytes,
        total_sum: part.total_sum,
        bytes: BytesMut::new(),
    });
    let follows = snapshot.from == from
        && snapshot.vote == part.vote
        && snapshot.total_bytes == part.total_bytes
        && snapshot.total_sum == part.total_sum
        && snapshot.bytes.len() as u64 == part.position;
    let end = part.position.saturating_add(part.bytes.len() as u64);
    if !follows || end > part.total_bytes || part.total_bytes > SNAPSHOT_BYTES_MAX {
        return Err("a part of a snapshot does not follow those before".to_owned());
    }
    snapshot.bytes.extend_from_slice(&part.bytes);
    if end < part.total_bytes {
        *arriving = Some(snapshot);
        return Ok(None);
    }
    let whole = snapshot.bytes.freeze();
    match crc32c::crc32c(&whole) == part.total_sum {
        true => Ok(Some(whole)),
        false => Err("a snapshot was damaged on its way".to_owned()),
    }
}

/// Answers for a node.
#[derive(Clone)]
pub(super) struct Service {
    env: Arc<Env>,
    raft: Raft,
    store: LogStore,
    arriving: Arc<Mutex<Option<Arriving>>>,
    heard: Arc<Mutex<Instant>>,
}

impl Service {
    pub fn new(env: Arc<Env>, raft: Raft, store: LogStore) -> Self {
        let heard = Arc::new(Mutex::new(env.now()));
        Self {
            env,
            raft,
            store,
            arriving: Arc::default(),
            heard,
        }
    }

    /// When a leader last wrote to this node, or when this began.
    pub fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = self.env.now();
    }

    /// What a broken library does: whatever lies after the entries of a request goes, though a
    /// later request brought it.
    async fn cut_after(&self, last: Option<LogId>) {
        let is_late = last.is_some() && self.store.kept().last() > last;
        if is_late {
            let _ = self.store.clone().truncate_after(last).await;
        }
    }

    async fn carry_out(self, from: BrokerId, question: Question) -> Result<Bytes, String> {
        let failed = |error: &dyn std::error::Error| error.to_string();
        match question {
            Question::Append(request) => {
                let last = request.entries.last().map(|entry| entry.log_id);
                let answer = self.raft.append_entries(request).await;
                let answer = answer.map_err(|error| failed(&error))?;
                if crate::mutant!("append-cuts-what-follows")
                    && matches!(answer, AppendEntriesResponse::Success)
                {
                    self.cut_after(last).await;
                }
                if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                    self.hear();
                }
                Ok(message::encode_append_answer(&answer))
            }
            Question::Vote(request) => {
                let answer = self.raft.vote(request).await;
                let answer = answer.map_err(|error| failed(&error))?;
                Ok(message::encode_vote_answer(&answer))
            }
            Question::PreVote(request) => {
                let answer = self.raft.pre_vote(request).await;
                let answer = answer.map_err(|error| failed(&error))?;
                Ok(message::encode_vote_answer(&answer))
            }
            Question::HandOver(request) => {
                let answer = self.raft.handle_transfer_leader(request).await;
                let will = answer.map_err(|error| failed(&error))?.is_ok();
                Ok(Bytes::copy_from_slice(&[u8::from(will)]))
            }
            Question::Snapshot(part) => {
                let vote = part.vote;
                self.hear();
                let whole = {
                    let arriving = self.arriving.lock();
                    let mut arriving = arriving.unwrap_or_else(PoisonError::into_inner);
                    take_part(&mut arriving, from, part)?
                };
                let Some(whole) = whole else {
                    return Ok(message::encode_vote(vote));
                };
                let snapshot = KeptSnapshot::decode(&whole)?;
                let installed = self
                    .raft
                    .install_full_snapshot(vote, snapshot.to_snapshot());
                let answer: SnapshotResponse<TypeConfig> =
                    installed.await.map_err(|error| failed(&error))?;
                Ok(message::encode_vote(answer.vote))
            }
        }
    }
}

impl PeerService for Service {
    fn answer(&self, from: BrokerId, question: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let question = match Question::decode(question) {
            Ok(question) => question,
            Err(error) => return Box::pin(std::future::ready(Err(error.to_string()))),
        };
        let answered = self.clone().carry_out(from, question);
        Box::pin(within(&self.env, answered))
    }
}
