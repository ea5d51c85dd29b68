//! Asks other nodes, over connections to their listeners for nodes.
//!
//! **Promises.** A call ends by its deadline. A connection carries one call at a time, so that no
//! call waits for the answer to another: what takes long never delays the quorum's heartbeats. Idle
//! connections are kept for the next call. One that brought no answer for [`LINGER`] or longer is
//! closed.
//! After a failed attempt to connect, the next one to the same place waits a little.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use super::identity::Identity;
use crate::client::{ClientError, Connection, ConnectionOptions};
use crate::config::address;
use crate::controller::{Peer, PeerError, Peers};
use crate::env::{BoxFuture, Env};
use crate::types::{BrokerId, ErrorCode, Instant, Uuid};
use crate::wire::message::ask_peer::{AskPeerRequest, AskPeerResponse};

/// Calls under way to one place, for each kind of question.
const CALLS_MAX: usize = 16;

/// Bytes of the largest answer.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// Pause after a failed attempt to connect, doubled with each.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A call of less patience than this goes on so long without its caller: a connection is not given
/// up because one heartbeat was late.
const LINGER: Duration = Duration::from_millis(300);

/// The version of ApiVersions that nodes open their connections with.
const API_VERSIONS: i16 = 3;

/// Asks other nodes in the name of this one.
pub(super) struct PeerCalls {
    env: Env,
    identity: Arc<Identity>,
    /// By address and kind of question.
    places: Mutex<BTreeMap<(String, u8), Arc<Place>>>,
}

/// Connections to one address, for one kind of question.
struct Place {
    address: String,
    room: Semaphore,
    state: Mutex<PlaceState>,
}

#[derive(Default)]
struct PlaceState {
    idle: Vec<Connection>,
    /// When the next attempt to connect may begin, and the pause after it should it fail.
    wait: Option<(Instant, Duration)>,
}

impl Place {
    fn state(&self) -> MutexGuard<'_, PlaceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut state = self.state();
        while let Some(connection) = state.idle.pop() {
            if connection.is_open() {
                return Some(connection);
            }
        }
        None
    }

    fn failed(&self, now: Instant) {
        let mut state = self.state();
        let pause = state.wait.map_or(PAUSE_MIN, |(_, pause)| pause);
        state.wait = Some((now.plus(pause), (pause * 2).min(PAUSE_MAX)));
    }
}

impl PeerCalls {
    pub(super) fn new(env: &Env, identity: Arc<Identity>) -> Arc<Self> {
        Arc::new(Self {
            env: env.clone(),
            identity,
            places: Mutex::default(),
        })
    }

    /// In whose name it asks.
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    fn place(&self, address: String, kind: u8) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (address, kind);
        if let Some(place) = places.get(&key) {
            return place.clone();
        }
        let place = Arc::new(Place {
            address: key.0.clone(),
            room: Semaphore::new(CALLS_MAX),
            state: Mutex::default(),
        });
        places.insert(key, place.clone());
        place
    }

    /// Asks whoever is at `address`; `to` and `directory` say who it must be.
    pub(super) fn ask_at(
        &self,
        address: String,
        to: Option<BrokerId>,
        directory: Uuid,
        question: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let kind = question.first().copied().unwrap_or(0);
        let place = self.place(address, kind);
        let env = self.env.clone();
        let request = AskPeerRequest {
            cluster_id: self.identity.cluster_id().unwrap_or(Uuid::ZERO),
            from_node: self.identity.node.0,
            to_node: to.map_or(-1, |to| to.0),
            to_directory: directory,
            question,
            ..Default::default()
        };
        let identity = self.identity.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let patience = timeout.max(LINGER);
            let (calling, called) = (env.clone(), place.clone());
            let work = async move {
                let deadline = calling.now().plus(patience);
                let work = call(&calling, &identity, &called, request, deadline);
                if let Ok(outcome) = calling.timeout(patience, work).await {
                    // Whoever asked may wait no longer.
                    let _ = reply.send(outcome);
                }
            };
            env.spawn("peer-call", work).detach();
            match env.timeout(timeout, answer).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) | Err(_) => Err(late(&place)),
            }
        })
    }
}

impl Peers for PeerCalls {
    fn ask(
        &self,
        to: &Peer,
        question: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let at = address(&to.host, to.port);
        self.ask_at(at, Some(to.id), to.directory_id, question, timeout)
    }
}

fn late(place: &Place) -> PeerError {
    PeerError::Lost(format!("{}: no answer in time", place.address))
}

async fn call(
    env: &Env,
    identity: &Identity,
    place: &Arc<Place>,
    request: AskPeerRequest,
    deadline: Instant,
) -> Result<Bytes, PeerError> {
    let Ok(_room) = place.room.acquire().await else {
        return Err(late(place));
    };
    let connection = match place.take_idle() {
        Some(connection) => connection,
        None => connect(env, identity, place).await?,
    };
    let left = deadline.since(env.now());
    let response = match connection.call(request, left).await {
        Ok(response) => response,
        Err(error) => return Err(PeerError::Lost(error.to_string())),
    };
    place.state().idle.push(connection);
    answer(place, response)
}

fn answer(place: &Place, response: AskPeerResponse) -> Result<Bytes, PeerError> {
    match ErrorCode::from_wire(response.error_code) {
        Some(ErrorCode::None) => Ok(response.answer),
        _ => {
            let text = response.error_message.map(|text| text.to_string());
            let text = text.unwrap_or_else(|| "refused".to_owned());
            Err(PeerError::Refused(format!("{}: {text}", place.address)))
        }
    }
}

async fn connect(env: &Env, identity: &Identity, place: &Place) -> Result<Connection, PeerError> {
    let wait = place.state().wait;
    if let Some((until, _)) = wait {
        env.sleep_until(until).await;
    }
    let stream = match env.net.connect(&place.address).await {
        Ok(stream) => stream,
        Err(error) => {
            place.failed(env.now());
            return Err(match error.kind() {
                ErrorKind::ConnectionRefused => PeerError::NobodyListens(place.address.clone()),
                _ => PeerError::Lost(format!("{}: {error}", place.address)),
            });
        }
    };
    let options = ConnectionOptions {
        client_id: format!("klamm-node-{}", identity.node.0),
        setup_timeout: Duration::MAX,
        in_flight_max: 1,
        response_max: ANSWER_BYTES_MAX,
    };
    let opened = Connection::over(env, stream, &place.address, &options, API_VERSIONS).await;
    match opened {
        Ok(connection) => {
            place.state().wait = None;
            Ok(connection)
        }
        Err(error) => {
            place.failed(env.now());
            // Nothing was asked yet.
            Err(match error {
                ClientError::UnsupportedVersion { .. } | ClientError::Protocol { .. } => {
                    PeerError::Refused(format!("{}: {error}", place.address))
                }
                _ => PeerError::Lost(error.to_string()),
            })
        }
    }
}
