//! Questions between the nodes of a quorum, and their answers.
//!
//! A question is the kind byte [`RAFT_QUESTION`], then what follows here: what is asked (8 bits),
//! the version of its form (8 bits, 0), and
//!
//! | what | question | answer |
//! | --- | --- | --- |
//! | 1 append | vote, previous, commit, count (32), entries | 0, 1 and last, 2, or 3 and vote |
//! | 2 vote, 3 pre-vote | vote, last, by hand-over (8) | vote, granted (8), last |
//! | 4 snapshot | vote, total (64), sum (32), position (64), length (32), bytes | vote |
//! | 5 hand over | vote, candidate (32), last | will (8) |
//!
//! *Previous*, *commit* and *last* are optional log ids: of the entry before those sent, of the
//! newest that is committed, of the newest in a log. An append is answered 0: done; 1: done up to
//! *last*; 2: the previous entry is another one here; 3: there is a higher vote. A snapshot is the
//! content of its file in parts; *total* and *sum* (CRC-32C) are those of the whole.

use bytes::{BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use super::RAFT_QUESTION;
use super::codec;
use super::types::{TypeConfig, Vote};
use crate::types::BrokerId;
use crate::wire::{DecodeError, Reader};

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const PRE_VOTE: u8 = 3;
const SNAPSHOT: u8 = 4;
const HAND_OVER: u8 = 5;
const VERSION: u8 = 0;

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub vote: Vote,
    /// Of the whole snapshot.
    pub total_bytes: u64,
    pub total_sum: u32,
    pub position: u64,
    pub bytes: Bytes,
}

pub(super) enum Question {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    Snapshot(Part),
    HandOver(TransferLeaderRequest<TypeConfig>),
}

impl Question {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(RAFT_QUESTION);
        match self {
            Self::Append(request) => {
                out.put_slice(&[APPEND, VERSION]);
                put_append(&mut out, request);
            }
            Self::Vote(request) => {
                out.put_slice(&[VOTE, VERSION]);
                put_vote_request(&mut out, request);
            }
            Self::PreVote(request) => {
                out.put_slice(&[PRE_VOTE, VERSION]);
                put_vote_request(&mut out, request);
            }
            Self::Snapshot(part) => {
                out.put_slice(&[SNAPSHOT, VERSION]);
                codec::put_vote(&mut out, part.vote);
                out.put_u64(part.total_bytes);
                out.put_u32(part.total_sum);
                out.put_u64(part.position);
                out.put_u32(length(part.bytes.len()));
                out.put_slice(&part.bytes);
            }
            Self::HandOver(request) => {
                out.put_slice(&[HAND_OVER, VERSION]);
                codec::put_vote(&mut out, *request.from_leader());
                out.put_i32(request.to_node_id().0);
                codec::put_option(&mut out, request.last_log_id().copied(), codec::put_log_id);
            }
        }
        out.freeze()
    }

    /// Reads what follows the kind byte.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        let what = from.u8()?;
        if from.u8()? != VERSION {
            return Err(DecodeError::Invalid("an unknown version of a question"));
        }
        let question = match what {
            APPEND => Self::Append(read_append(&mut from)?),
            VOTE => Self::Vote(read_vote_request(&mut from)?),
            PRE_VOTE => Self::PreVote(read_vote_request(&mut from)?),
            SNAPSHOT => Self::Snapshot(Part {
                vote: codec::read_vote(&mut from)?,
                total_bytes: codec::read_u64(&mut from)?,
                total_sum: from.u32()?,
                position: codec::read_u64(&mut from)?,
                bytes: codec::read_bytes(&mut from)?,
            }),
            HAND_OVER => {
                let vote = codec::read_vote(&mut from)?;
                let to = BrokerId(from.i32()?);
                let last = codec::read_option(&mut from, codec::read_log_id)?;
                Self::HandOver(TransferLeaderRequest::new(vote, to, last))
            }
            _ => return Err(DecodeError::Invalid("an unknown question")),
        };
        from.finish()?;
        Ok(question)
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).expect("questions are shorter than 4 GiB")
}

fn put_append(out: &mut BytesMut, request: &AppendEntriesRequest<TypeConfig>) {
    codec::put_vote(out, request.vote);
    codec::put_option(out, request.prev_log_id, codec::put_log_id);
    codec::put_option(out, request.leader_commit, codec::put_log_id);
    out.put_u32(length(request.entries.len()));
    for entry in &request.entries {
        codec::put_entry(out, entry);
    }
}

fn read_append(from: &mut Reader) -> Result<AppendEntriesRequest<TypeConfig>, DecodeError> {
    let vote = codec::read_vote(from)?;
    let prev_log_id = codec::read_option(from, codec::read_log_id)?;
    let leader_commit = codec::read_option(from, codec::read_log_id)?;
    let count = usize::try_from(from.u32()?).unwrap_or(usize::MAX);
    from.claim_elements(count)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(codec::read_entry(from)?);
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

fn put_vote_request(out: &mut BytesMut, request: &VoteRequest<TypeConfig>) {
    codec::put_vote(out, request.vote);
    codec::put_option(out, request.last_log_id, codec::put_log_id);
    out.put_u8(u8::from(request.leadership_transfer));
}

fn read_vote_request(from: &mut Reader) -> Result<VoteRequest<TypeConfig>, DecodeError> {
    Ok(VoteRequest {
        vote: codec::read_vote(from)?,
        last_log_id: codec::read_option(from, codec::read_log_id)?,
        leadership_transfer: codec::read_bool(from)?,
    })
}

const DONE: u8 = 0;
const PARTLY: u8 = 1;
const CONFLICT: u8 = 2;
const HIGHER_VOTE: u8 = 3;

pub(super) fn encode_append_answer(answer: &AppendEntriesResponse<TypeConfig>) -> Bytes {
    let mut out = BytesMut::new();
    match answer {
        AppendEntriesResponse::Success => out.put_u8(DONE),
        AppendEntriesResponse::PartialSuccess(last) => {
            out.put_u8(PARTLY);
            codec::put_option(&mut out, *last, codec::put_log_id);
        }
        AppendEntriesResponse::Conflict => out.put_u8(CONFLICT),
        AppendEntriesResponse::HigherVote(vote) => {
            out.put_u8(HIGHER_VOTE);
            codec::put_vote(&mut out, *vote);
        }
    }
    out.freeze()
}

pub(super) fn decode_append_answer(
    bytes: Bytes,
) -> Result<AppendEntriesResponse<TypeConfig>, DecodeError> {
    let mut from = Reader::new(bytes);
    let answer = match from.u8()? {
        DONE => AppendEntriesResponse::Success,
        PARTLY => {
            let last = codec::read_option(&mut from, codec::read_log_id)?;
            AppendEntriesResponse::PartialSuccess(last)
        }
        CONFLICT => AppendEntriesResponse::Conflict,
        HIGHER_VOTE => AppendEntriesResponse::HigherVote(codec::read_vote(&mut from)?),
        _ => return Err(DecodeError::Invalid("an unknown answer")),
    };
    from.finish()?;
    Ok(answer)
}

pub(super) fn encode_vote_answer(answer: &VoteResponse<TypeConfig>) -> Bytes {
    let mut out = BytesMut::new();
    codec::put_vote(&mut out, answer.vote);
    out.put_u8(u8::from(answer.vote_granted));
    codec::put_option(&mut out, answer.last_log_id, codec::put_log_id);
    out.freeze()
}

pub(super) fn decode_vote_answer(bytes: Bytes) -> Result<VoteResponse<TypeConfig>, DecodeError> {
    let mut from = Reader::new(bytes);
    let answer = VoteResponse {
        vote: codec::read_vote(&mut from)?,
        vote_granted: codec::read_bool(&mut from)?,
        last_log_id: codec::read_option(&mut from, codec::read_log_id)?,
    };
    from.finish()?;
    Ok(answer)
}

pub(super) fn encode_vote(vote: Vote) -> Bytes {
    let mut out = BytesMut::new();
    codec::put_vote(&mut out, vote);
    out.freeze()
}

pub(super) fn decode_vote(bytes: Bytes) -> Result<Vote, DecodeError> {
    let mut from = Reader::new(bytes);
    let vote = codec::read_vote(&mut from)?;
    from.finish()?;
    Ok(vote)
}
