//! One connection to one broker: requests go out in the order they were started, answers come
//! back in that order and find their callers.
//!
//! Promises: a call ends by its deadline; at most `in_flight_max` requests wait for an answer;
//! a response larger than `response_max` ends the connection before it is buffered; and when the
//! connection ends, every waiting call ends with [`ClientError::Disconnected`]. A call that runs
//! out of time ends the connection, because answers are in order and the next ones would wait
//! behind it. Whether a request that got no answer had its effect is not known.

use std::collections::BTreeMap;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::error::ClientError;
use super::socket::{Outgoing, Socket, Then, Waiting};
use crate::env::{Env, Stream, Task};
use crate::types::ErrorCode;
use crate::wire::api::{ApiKey, ApiRequest};
use crate::wire::frame::{RequestHeader, read_response_header};
use crate::wire::message::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::{Reader, Request, Str, Wire};

/// Bounds of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    pub client_id: String,
    /// Time for TCP and the ApiVersions handshake together.
    pub setup_timeout: Duration,
    /// Requests that may wait for their answer.
    pub in_flight_max: usize,
    /// Bytes of the largest response.
    pub response_max: usize,
}

/// Ranges of versions a broker serves, by API key, both ends included.
pub type ApiRanges = BTreeMap<i16, (i16, i16)>;

/// A handle on a connection; cloning shares it, dropping the last closes it.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    env: Env,
    address: String,
    client_id: Str,
    ranges: OnceLock<ApiRanges>,
    outbox: mpsc::UnboundedSender<Outgoing>,
    in_flight: Arc<Semaphore>,
    next_correlation_id: AtomicI32,
    ended: Arc<OnceLock<String>>,
    task: Mutex<Option<Task>>,
}

/// The right to have one more call under way on a connection.
pub struct CallPermit(OwnedSemaphorePermit);

/// An answer that is awaited.
pub struct PendingCall<R> {
    shared: Arc<Shared>,
    version: i16,
    reply: oneshot::Receiver<Bytes>,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Connects to `address` (`host:port`) and learns which versions the broker serves.
    pub async fn open(
        env: &Env,
        address: &str,
        options: &ConnectionOptions,
    ) -> Result<Self, ClientError> {
        let setup = async {
            let newest = *ApiKey::ApiVersions.versions().end();
            match Self::open_once(env, address, options, newest).await {
                // Some brokers hang up on a version of ApiVersions they do not know.
                Err(ClientError::Disconnected { .. }) => {
                    Self::open_once(env, address, options, 0).await
                }
                done => done,
            }
        };
        env.timeout(options.setup_timeout, setup)
            .await
            .unwrap_or_else(|_| {
                let millis = options.setup_timeout.as_millis();
                Err(ClientError::Connect {
                    address: address.to_owned(),
                    reason: format!("no connection within {millis} ms"),
                })
            })
    }

    async fn open_once(
        env: &Env,
        address: &str,
        options: &ConnectionOptions,
        version: i16,
    ) -> Result<Self, ClientError> {
        let stream = env.net.connect(address).await;
        let stream = stream.map_err(|error| ClientError::Connect {
            address: address.to_owned(),
            reason: error.to_string(),
        })?;
        Self::over(env, stream, address, options, version).await
    }

    /// Over a stream to a broker that speaks `version` of ApiVersions, already connected to
    /// `address`. Waits for the broker without a deadline.
    pub async fn over(
        env: &Env,
        stream: Box<dyn Stream>,
        address: &str,
        options: &ConnectionOptions,
        version: i16,
    ) -> Result<Self, ClientError> {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let ended = Arc::new(OnceLock::new());
        let socket = Socket::new(stream, inbox, options.response_max);
        let task = env.spawn("client-connection", socket.run(Arc::clone(&ended)));
        let connection = Self {
            shared: Arc::new(Shared {
                env: env.clone(),
                address: address.to_owned(),
                client_id: Str::from(options.client_id.as_str()),
                ranges: OnceLock::new(),
                outbox,
                in_flight: Arc::new(Semaphore::new(options.in_flight_max)),
                next_correlation_id: AtomicI32::new(0),
                ended,
                task: Mutex::new(Some(task)),
            }),
        };
        connection.handshake(version).await?;
        Ok(connection)
    }

    async fn handshake(&self, version: i16) -> Result<(), ClientError> {
        let mut answer = self.ask_versions(version).await?;
        if answer.error_code == ErrorCode::UnsupportedVersion.code() && version > 0 {
            let key = ApiKey::ApiVersions as i16;
            let listed = answer.api_keys.iter().find(|api| api.api_key == key);
            let highest = listed.map_or(0, |api| api.max_version.clamp(0, version - 1));
            answer = self.ask_versions(highest).await?;
        }
        if answer.error_code != ErrorCode::None.code() {
            return Err(self.protocol(format!("ApiVersions failed with {}", answer.error_code)));
        }
        let ranges = answer.api_keys.iter();
        let ranges = ranges.map(|api| (api.api_key, (api.min_version, api.max_version)));
        self.shared.ranges.get_or_init(|| ranges.collect());
        Ok(())
    }

    async fn ask_versions(&self, version: i16) -> Result<ApiVersionsResponse, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("klamm"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let permit = self.permit().await?;
        let pending = self.start_with::<ApiVersionsRequest>(&request.into(), version, permit)?;
        let shared = Arc::clone(&pending.shared);
        let frame = pending.frame().await?;
        // A broker that does not know the version answers in version 0 (KIP-511); the error code
        // comes first in every version.
        let mut from = Reader::new(frame.clone());
        let peeked =
            read_response_header(&mut from, ApiKey::ApiVersions, version).and_then(|_| from.i16());
        let version = match peeked {
            Ok(code) if code == ErrorCode::UnsupportedVersion.code() => 0,
            _ => version,
        };
        decode::<ApiVersionsRequest>(&shared, frame, version)
    }

    /// The other end, `host:port` as it was dialled.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// What the broker serves.
    #[must_use]
    pub fn ranges(&self) -> &ApiRanges {
        static NONE: ApiRanges = ApiRanges::new();
        self.shared.ranges.get().unwrap_or(&NONE)
    }

    /// Whether calls are still possible.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.ended.get().is_none()
    }

    /// The highest version of `key` that both ends know, at most `cap`.
    pub fn version_of(&self, key: ApiKey, cap: i16) -> Result<i16, ClientError> {
        let ours = key.versions();
        let theirs = self.ranges().get(&(key as i16)).copied();
        let shared = theirs.and_then(|(low, high)| {
            let best = high.min(*ours.end()).min(cap);
            (best >= low && best >= *ours.start()).then_some(best)
        });
        shared.ok_or_else(|| ClientError::UnsupportedVersion {
            api: key.name(),
            address: self.shared.address.clone(),
            ours: format!("{} to {}", ours.start(), ours.end().min(&cap)),
            theirs: theirs.map_or_else(
                || "not served".to_owned(),
                |(low, high)| format!("{low} to {high}"),
            ),
        })
    }

    /// Sends `request` in the highest version both ends know and waits `within` for the answer.
    pub async fn call<R>(&self, request: R, within: Duration) -> Result<R::Response, ClientError>
    where
        R: ApiRequest + Into<Request>,
    {
        self.call_capped(request, i16::MAX, within).await
    }

    /// As [`Connection::call`], in a version of at most `cap`.
    pub async fn call_capped<R>(
        &self,
        request: R,
        cap: i16,
        within: Duration,
    ) -> Result<R::Response, ClientError>
    where
        R: ApiRequest + Into<Request>,
    {
        let version = self.version_of(R::KEY, cap)?;
        let request = request.into();
        let work = async {
            let permit = self.permit().await?;
            self.start_with::<R>(&request, version, permit)?
                .answer()
                .await
        };
        match self.shared.env.timeout(within, work).await {
            Ok(done) => done,
            Err(_) => Err(self.timed_out(R::KEY, within)),
        }
    }

    /// Room for one more call; `None` when as many are under way as may be.
    #[must_use]
    pub fn try_permit(&self) -> Option<CallPermit> {
        let permit = Arc::clone(&self.shared.in_flight).try_acquire_owned();
        permit.ok().map(CallPermit)
    }

    /// Starts a call without waiting. The request is queued for the socket when this returns, so
    /// calls started one after another arrive in that order.
    pub fn start<R>(
        &self,
        permit: CallPermit,
        request: R,
        cap: i16,
    ) -> Result<PendingCall<R>, ClientError>
    where
        R: ApiRequest + Into<Request>,
    {
        let version = self.version_of(R::KEY, cap)?;
        self.start_with(&request.into(), version, permit.0)
    }

    /// Sends a request that is never answered (Produce with acks=0). It is queued for the socket
    /// when this returns; the future completes when the system has taken it, which says nothing
    /// about the broker.
    pub fn tell<R>(
        &self,
        permit: CallPermit,
        request: R,
        cap: i16,
    ) -> Result<impl Future<Output = Result<(), ClientError>> + Send + use<R>, ClientError>
    where
        R: ApiRequest + Into<Request>,
    {
        let version = self.version_of(R::KEY, cap)?;
        let (_, slices) = self.encode(&request.into(), version)?;
        let (written, awaited) = oneshot::channel();
        let outgoing = Outgoing {
            slices,
            permit: permit.0,
            then: Then::Written(written),
        };
        let sent = self.shared.outbox.send(outgoing);
        sent.map_err(|_| self.shared.disconnected())?;
        let shared = Arc::clone(&self.shared);
        Ok(async move { awaited.await.map_err(|_| shared.disconnected()) })
    }

    /// Ends the connection; waiting calls fail with `reason`.
    pub fn close(&self, reason: &str) {
        let _ = self.shared.ended.set(reason.to_owned());
        let task = self.shared.task.lock();
        task.unwrap_or_else(PoisonError::into_inner).take();
    }

    fn start_with<R: ApiRequest>(
        &self,
        request: &Request,
        version: i16,
        permit: OwnedSemaphorePermit,
    ) -> Result<PendingCall<R>, ClientError> {
        let (correlation_id, slices) = self.encode(request, version)?;
        let (reply, awaited) = oneshot::channel();
        let outgoing = Outgoing {
            slices,
            permit,
            then: Then::Answer(Waiting {
                correlation_id,
                reply,
            }),
        };
        let sent = self.shared.outbox.send(outgoing);
        sent.map_err(|_| self.shared.disconnected())?;
        Ok(PendingCall {
            shared: Arc::clone(&self.shared),
            version,
            reply: awaited,
            request: PhantomData,
        })
    }

    fn encode(&self, request: &Request, version: i16) -> Result<(i32, Vec<Bytes>), ClientError> {
        let next = &self.shared.next_correlation_id;
        let correlation_id = next.fetch_add(1, Ordering::Relaxed) & i32::MAX;
        let header = RequestHeader {
            api_key: request.api_key() as i16,
            api_version: version,
            correlation_id,
            client_id: Some(self.shared.client_id.clone()),
        };
        Ok((correlation_id, request.frame(&header)?))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, ClientError> {
        let permit = Arc::clone(&self.shared.in_flight).acquire_owned().await;
        permit.map_err(|_| self.shared.disconnected())
    }

    fn timed_out(&self, key: ApiKey, within: Duration) -> ClientError {
        self.close(&format!("{} got no answer in time", key.name()));
        ClientError::TimedOut {
            api: key.name(),
            address: self.shared.address.clone(),
            millis: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol {
            address: self.shared.address.clone(),
            reason,
        }
    }
}

impl Shared {
    fn disconnected(&self) -> ClientError {
        ClientError::Disconnected {
            address: self.address.clone(),
            reason: self
                .ended
                .get()
                .cloned()
                .unwrap_or_else(|| "closed".to_owned()),
        }
    }
}

impl<R: ApiRequest> PendingCall<R> {
    /// The version the request was sent in.
    #[must_use]
    pub fn version(&self) -> i16 {
        self.version
    }

    /// Waits for the answer, without a deadline.
    pub async fn answer(self) -> Result<R::Response, ClientError> {
        let (shared, version) = (Arc::clone(&self.shared), self.version);
        let frame = self.frame().await?;
        decode::<R>(&shared, frame, version)
    }

    /// Waits `within` for the answer; without one the connection is closed.
    pub fn answer_within(
        self,
        within: Duration,
    ) -> impl Future<Output = Result<R::Response, ClientError>> + Send + use<R> {
        let connection = Connection {
            shared: Arc::clone(&self.shared),
        };
        async move {
            let env = connection.shared.env.clone();
            match env.timeout(within, self.answer()).await {
                Ok(done) => done,
                Err(_) => Err(connection.timed_out(R::KEY, within)),
            }
        }
    }

    async fn frame(self) -> Result<Bytes, ClientError> {
        self.reply.await.map_err(|_| self.shared.disconnected())
    }
}

fn decode<R: ApiRequest>(
    shared: &Shared,
    frame: Bytes,
    version: i16,
) -> Result<R::Response, ClientError> {
    let mut from = Reader::new(frame);
    let read = read_response_header(&mut from, R::KEY, version).and_then(|_| {
        let response = R::Response::read(&mut from, R::KEY.version(version))?;
        from.finish()?;
        Ok(response)
    });
    read.map_err(|error| ClientError::Protocol {
        address: shared.address.clone(),
        reason: format!("{} version {version}: {error}", R::KEY.name()),
    })
}
