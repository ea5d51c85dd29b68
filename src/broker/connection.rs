//! One client connection: frames in, answers out, in the order of the requests.
//!
//! Produce requests are pipelined: each is handed to its partitions before the next one is read,
//! and many may wait for their sync at once. Every other request is carried out before the next
//! one on the same connection starts, as clients of Kafka expect.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream::{FuturesOrdered, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Drain;
use super::door::Door;
use super::handler::{self, Handling, RequestContext};
use super::metrics::Metrics;
use super::receive_memory::{Block, ReceiveMemory};
use crate::config::NetworkConfig;
use crate::env::{BoxFuture, Env, Stream};
use crate::types::Instant;
use crate::wire::api::ApiKey;
use crate::wire::frame::{self, LENGTH_BYTES, RequestError};
use crate::wire::{Part, Str};

/// Requests of one connection that may be under way at once.
const IN_FLIGHT_MAX: usize = 128;

/// The same after one that produces. All of these wait for the same few syncs, so a client that
/// sends many small ones gets as many of them answered by a sync; what they hold of memory is
/// bounded by `queued.max.request.bytes`, and their answers are short.
const PRODUCING_MAX: usize = 1024;

/// Bytes read ahead of what is being served.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// Most memory reserved on the word of a length prefix alone; more is taken as bytes arrive.
const RESERVE_ON_TRUST_BYTES: usize = 256 << 10;

/// Most memory reserved on the word of a length prefix for one that sent as large a frame before.
const RESERVE_ON_RECORD_BYTES: usize = 1 << 20;

/// Bytes of an API key, with which every frame begins.
const KEY_BYTES: usize = 2;

/// Most bytes of a frame in which another node asks, whatever `socket.request.max.bytes` says of
/// clients: a node that turned down the metadata of its quorum could never catch up. An entry of
/// the metadata log is bounded, and a question holds one or little.
const NODES_FRAME_MAX: usize = crate::controller::QUESTION_BYTES_MAX + (64 << 10);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the peer closed it")]
    Closed,
    #[error("no traffic for {0:?}")]
    Idle(Duration),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(
        "a frame of {0} bytes was announced, socket.request.max.bytes allows {1}: raise it, or \
         check that the client speaks the Kafka protocol without TLS"
    )]
    FrameTooLarge(i64, usize),
    #[error("{0}")]
    Request(#[from] RequestError),
    #[error("a response could not be encoded: {0}")]
    Encode(#[from] crate::wire::EncodeError),
    #[error("an error that acks=0 leaves no other way to report")]
    Unacknowledged,
    #[error("the broker is shutting down")]
    Draining,
}

/// The answer to one request, ready to be written.
enum Reply {
    Frame(Vec<Part>),
    Nothing,
    Fail(Ended),
}

/// What the connections of a listener share.
pub struct Serving {
    pub env: Env,
    pub network: NetworkConfig,
    pub metrics: Arc<Metrics>,
    /// Ends them.
    pub drain: Arc<Drain>,
    pub door: Door,
    pub memory: Arc<ReceiveMemory>,
}

impl Serving {
    /// How long a connection may be silent.
    fn connections_max_idle(&self) -> Duration {
        const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
        self.network
            .connections_max_idle_ms
            .map_or(NEVER, Duration::from_millis)
    }
}

struct Connection {
    serving: Arc<Serving>,
    stream: Box<dyn Stream>,
    local_address: Arc<str>,
    peer_address: Arc<str>,
    received: BytesMut,
    /// What `received` was made as.
    block: Block,
    /// What the last request called the client: a text of its own, so that a request under way
    /// keeps nothing of the frame by it.
    client_id: Option<Str>,
    /// Length of the last frame, where that is large: the next one may be trusted to be.
    large: usize,
    replies: FuturesOrdered<BoxFuture<'static, Reply>>,
    /// The last request started must be answered before another starts.
    exclusive: bool,
    /// So many may be under way before another starts.
    in_flight_max: usize,
    listener: usize,
}

/// Serves `stream` until either side ends it.
pub async fn serve(serving: Arc<Serving>, stream: Box<dyn Stream>, listener: usize) {
    let local_address: Arc<str> = stream.local_address().into();
    let peer_address: Arc<str> = stream.peer_address().into();
    serving.metrics.connection_opened();
    let mut connection = Connection {
        serving: serving.clone(),
        stream,
        local_address,
        peer_address,
        received: BytesMut::new(),
        block: Block::default(),
        client_id: None,
        large: 0,
        replies: FuturesOrdered::new(),
        exclusive: false,
        in_flight_max: IN_FLIGHT_MAX,
        listener,
    };
    let ended = connection.run(&serving.drain).await;
    let peer = &connection.peer_address;
    if matches!(ended, Ended::FrameTooLarge(..)) {
        tracing::trace!(target: "klamm::probe", name = "oversized-request-refused");
    }
    match ended {
        Ended::FrameTooLarge(..) | Ended::Request(_) | Ended::Encode(_) => {
            tracing::warn!(%peer, reason = %ended, "connection closed");
        }
        _ => tracing::debug!(%peer, reason = %ended, "connection closed"),
    }
    let _ = connection.stream.shutdown().await;
    let (received, block) = (connection.received, connection.block);
    serving.memory.give(received, block);
    serving.metrics.connection_closed();
}

impl Connection {
    async fn run(&mut self, drain: &Drain) -> Ended {
        let idle = self.serving.connections_max_idle();
        let env = self.serving.env.clone();
        let mut timer = env.clock.timer();
        timer.reset(env.now().plus(idle));
        loop {
            if let Err(ended) = self.start_requests().await {
                return ended;
            }
            if drain.is_on() && self.replies.is_empty() {
                return Ended::Draining;
            }
            let may_read = self.received.len() < self.read_limit() && !drain.is_on();
            if may_read {
                self.reserve();
            }
            tokio::select! {
                biased;
                Some(reply) = self.replies.next(), if !self.replies.is_empty() => {
                    if let Err(ended) = self.write(reply, idle).await {
                        return ended;
                    }
                    timer.reset(env.now().plus(idle));
                }
                read = self.stream.read_buf(&mut self.received), if may_read => match read {
                    Ok(0) => return Ended::Closed,
                    Ok(_) => timer.reset(env.now().plus(idle)),
                    Err(error) => return error.into(),
                },
                () = drain.started(), if !drain.is_on() => {}
                () = std::future::poll_fn(|cx| timer.poll_fired(cx)) => {
                    if self.replies.is_empty() {
                        tracing::trace!(target: "klamm::probe", name = "idle-connection-closed");
                        return Ended::Idle(idle);
                    }
                    timer.reset(env.now().plus(idle));
                }
            }
        }
    }

    /// Starts every request that has arrived whole, as far as the limits allow.
    async fn start_requests(&mut self) -> Result<(), Ended> {
        loop {
            if self.replies.is_empty() {
                self.exclusive = false;
            }
            if self.exclusive || self.replies.len() >= self.in_flight_max {
                return Ok(());
            }
            let Some(frame) = self.take_frame()? else {
                return Ok(());
            };
            self.start_request(frame).await?;
        }
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, Ended> {
        let request_max = self.serving.network.request_max_bytes;
        let frame = take_frame(&mut self.received, request_max)?;
        if let Some(length) = frame.as_ref().map(Bytes::len) {
            self.large = match length > READ_AHEAD_BYTES {
                true => length.min(RESERVE_ON_RECORD_BYTES),
                false => 0,
            };
        }
        Ok(frame)
    }

    fn read_limit(&self) -> usize {
        let frame = announced(&self.received).and_then(|length| usize::try_from(length).ok());
        frame.map_or(READ_AHEAD_BYTES, |length| {
            (LENGTH_BYTES + length).max(READ_AHEAD_BYTES)
        })
    }

    /// Makes room for the next read.
    fn reserve(&mut self) {
        let missing = self.read_limit() - self.received.len();
        let spare = self.received.capacity() - self.received.len();
        if spare < missing.min(READ_AHEAD_BYTES / 4) {
            let room = room(missing, self.received.len(), self.large);
            let memory = &self.serving.memory;
            self.block = memory.reserve(&mut self.received, self.block, room);
        }
    }

    async fn start_request(&mut self, frame: Bytes) -> Result<(), Ended> {
        let started = self.serving.env.now();
        let (header, request) = match frame::decode_request(frame) {
            Ok(decoded) => decoded,
            Err(RequestError::UnsupportedVersion {
                key: ApiKey::ApiVersions,
                header,
            }) => {
                let response = handler::api_versions::unsupported_version();
                let frame = response.parts(header.correlation_id, 0)?;
                self.replies
                    .push_back(Box::pin(async { Reply::Frame(frame) }));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let key = request.api_key();
        let version = header.api_version;
        if self.client_id != header.client_id {
            self.client_id = header.client_id.as_ref().map(Str::detached);
        }
        let context = RequestContext {
            client_id: self.client_id.clone(),
            version,
            local_address: self.local_address.clone(),
            peer_address: self.peer_address.clone(),
            listener: self.listener,
        };
        let Handling {
            response,
            exclusive,
        } = self.serving.door.start(context, request).await;
        self.exclusive = exclusive;
        self.in_flight_max = match key {
            ApiKey::Produce => PRODUCING_MAX,
            _ => IN_FLIGHT_MAX,
        };
        let serving = self.serving.clone();
        let correlation_id = header.correlation_id;
        let reply: BoxFuture<'static, Reply> = Box::pin(async move {
            let response = response.await;
            observe(&serving, key, started, response.as_ref());
            match response {
                Some(handler::Answer::Response(response)) => {
                    match response.parts(correlation_id, version) {
                        Ok(frame) => Reply::Frame(frame),
                        Err(error) => Reply::Fail(error.into()),
                    }
                }
                Some(handler::Answer::CloseConnection) => Reply::Fail(Ended::Unacknowledged),
                None => Reply::Nothing,
            }
        });
        match crate::mutant!("responses-out-of-order") {
            true => self.replies.push_front(reply),
            false => self.replies.push_back(reply),
        }
        Ok(())
    }

    /// Writes `first` and every further answer that is ready.
    async fn write(&mut self, first: Reply, patience: Duration) -> Result<(), Ended> {
        let mut parts = Vec::new();
        let mut next = Some(first);
        let mut failed = None;
        while let Some(reply) = next {
            match reply {
                Reply::Frame(frame) => parts.extend(frame),
                Reply::Nothing => {}
                Reply::Fail(ended) => {
                    failed = Some(ended);
                    break;
                }
            }
            next = futures_util::FutureExt::now_or_never(self.replies.next()).flatten();
        }
        let mut slices = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Part::Bytes(bytes) => slices.push(bytes),
                Part::Later(later) => {
                    // Each piece goes before the next is read.
                    while let Some(piece) = later.next().await? {
                        slices.push(piece);
                        self.write_slices(&mut slices, patience).await?;
                    }
                }
            }
        }
        self.write_slices(&mut slices, patience).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn write_slices(
        &mut self,
        slices: &mut Vec<Bytes>,
        patience: Duration,
    ) -> Result<(), Ended> {
        let slices = std::mem::take(slices);
        let written = write_all(self.stream.as_mut(), slices);
        let written = self.serving.env.timeout(patience, written).await;
        Ok(written.map_err(|_| Ended::Idle(patience))??)
    }
}

/// How much room to make where `missing` bytes of a frame are to come and `arrived` are there. A
/// frame's length is trusted only for a first piece, or as far as the frame before was as `large`;
/// beyond that the buffer at most doubles what has really arrived. One that sends large frames gets
/// room for several: where a buffer ends amid a frame, what is there of it is copied to the next.
fn room(missing: usize, arrived: usize, large: usize) -> usize {
    let on_trust = RESERVE_ON_TRUST_BYTES.max(arrived).max(large);
    match large {
        0 => missing.min(on_trust),
        _ => missing.min(on_trust).max(RESERVE_ON_TRUST_BYTES),
    }
}

/// The length of the frame that `received` begins with.
fn announced(received: &[u8]) -> Option<i32> {
    let prefix = received.get(..LENGTH_BYTES)?;
    Some(i32::from_be_bytes(prefix.try_into().expect("four bytes")))
}

/// The API key of the frame that `received` begins with.
fn announced_key(received: &[u8]) -> Option<i16> {
    let key = received.get(LENGTH_BYTES..LENGTH_BYTES + KEY_BYTES)?;
    Some(i16::from_be_bytes(key.try_into().expect("two bytes")))
}

/// Takes the first frame out of `received` once all of it is there. One that no bound allows is
/// refused as soon as it is announced, so that nothing is read of it.
fn take_frame(received: &mut BytesMut, request_max: usize) -> Result<Option<Bytes>, Ended> {
    let Some(announced) = announced(received) else {
        return Ok(None);
    };
    let length = usize::try_from(announced)
        .ok()
        .filter(|length| *length <= request_max.max(NODES_FRAME_MAX))
        .ok_or(Ended::FrameTooLarge(i64::from(announced), request_max))?;
    if length > request_max
        && let Some(key) = announced_key(received)
        && key != ApiKey::AskPeer as i16
    {
        return Err(Ended::FrameTooLarge(i64::from(announced), request_max));
    }
    if received.len() < LENGTH_BYTES + length {
        return Ok(None);
    }
    received.advance(LENGTH_BYTES);
    Ok(Some(received.split_to(length).freeze()))
}

fn observe(serving: &Serving, key: ApiKey, started: Instant, response: Option<&handler::Answer>) {
    let took = serving.env.now().since(started);
    let failed = matches!(response, Some(handler::Answer::CloseConnection));
    serving.metrics.request_served(key, took, failed);
}

/// Most slices given to one vectored write.
const SLICES_MAX: usize = 64;

async fn write_all(stream: &mut dyn Stream, slices: Vec<Bytes>) -> io::Result<()> {
    let mut rest: std::collections::VecDeque<Bytes> = slices
        .into_iter()
        .filter(|slice| !slice.is_empty())
        .collect();
    while !rest.is_empty() {
        let vector: Vec<io::IoSlice<'_>> = rest
            .iter()
            .take(SLICES_MAX)
            .map(|slice| io::IoSlice::new(slice))
            .collect();
        let mut written = stream.write_vectored(&vector).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let front = rest.front_mut().expect("no more is written than was given");
            let step = written.min(front.len());
            front.advance(step);
            written -= step;
            if front.is_empty() {
                rest.pop_front();
            }
        }
    }
    stream.flush().await
}

#[cfg(test)]
mod tests;
