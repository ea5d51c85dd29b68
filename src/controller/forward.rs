//! Requests that reach the active controller through another node.
//!
//! A question is the `serde_json` form of a [`Request`], an answer that of [`Answered`].

use std::time::Duration;

use bytes::Bytes;

use super::peers::PeerError;
use super::request::{Refusal, Reply, Request};
use crate::env::BoxFuture;
use crate::types::{BrokerId, ErrorCode, Offset};

/// A reply and the metadata offset from which on it holds, or a refusal of the whole request.
pub(super) type Answered = Result<(Reply, Offset), Refusal>;

/// The way to the controller of another node, as far as a [`super::Controller`] needs it.
pub trait Forward: Send + Sync + 'static {
    /// Hands `request` to [`super::Controller::answer_forwarded`] of node `leader` and brings its
    /// answer back, or an error once `timeout` has passed.
    fn forward(
        &self,
        leader: BrokerId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// The bytes of a question.
pub(super) fn question(request: &Request) -> Result<Bytes, Refusal> {
    let bytes = serde_json::to_vec(request);
    bytes.map(Bytes::from).map_err(|error| {
        let text = format!("the request has no form to be forwarded in: {error}");
        Refusal::new(ErrorCode::UnknownServerError, text)
    })
}

pub(super) fn read_question(bytes: &[u8]) -> Result<Request, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = format!("a forwarded request cannot be read: {error}");
        Refusal::new(ErrorCode::InvalidRequest, text)
    })
}

/// The bytes of an answer.
pub(super) fn answer(answered: &Answered) -> Bytes {
    let bytes = serde_json::to_vec(answered);
    Bytes::from(bytes.unwrap_or_else(|error| {
        tracing::error!(%error, "an answer has no form to be sent in");
        Vec::new()
    }))
}

pub(super) fn read_answer(bytes: &[u8]) -> Answered {
    serde_json::from_slice(bytes).unwrap_or_else(|error| {
        let text = format!("the controller's answer cannot be read: {error}");
        Err(Refusal::new(ErrorCode::RequestTimedOut, text))
    })
}

/// How far this node must be for an answer to be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Until {
    /// The answer is all there is.
    Answered,
    /// The change is in this node's image.
    Seen,
    /// The subscriber of this node carried the change out.
    CarriedOut,
}

/// What a request of this node waits for. A broker's own traffic with the controller must not wait
/// for what the broker is still carrying out.
pub(super) fn waits_until(request: &Request) -> Until {
    match request {
        Request::Heartbeat(_) | Request::FenceBroker { .. } => Until::Answered,
        Request::Found { .. }
        | Request::RegisterBroker(_)
        | Request::AlterPartition(_)
        | Request::LearnSource(_)
        | Request::EnterEpochs(_)
        | Request::FailMirror(_)
        | Request::AllocateProducerIds { .. } => Until::Seen,
        _ => Until::CarriedOut,
    }
}
