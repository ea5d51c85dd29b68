//! A client's way to the broker: one connection at a time, opened again when it ended, in the
//! versions the client is to speak; and the pen with which it writes its part of the history.
//!
//! Every failed attempt is followed by a drawn pause before the next connection, so that no driver
//! spins however it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use klamm::client::{ClientError, Connection, ConnectionOptions, PendingCall};
use klamm::env::{Env, Rng};
use klamm::types::{ErrorCode, Instant, Uuid};
use klamm::wire::api::ApiRequest;
use klamm::wire::message::find_coordinator::FindCoordinatorRequest;
use klamm::wire::message::metadata::{MetadataRequest, MetadataRequestTopic};
use klamm::wire::{ApiKey, Request, Str};
use klamm_jepsen::history::{Answer, Attempt, Call, Note};

use crate::plan::Versions;
use crate::record::Recorder;

const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// First version of Metadata that tells the ids of topics.
const TOPIC_IDS_SINCE: i16 = 10;

/// The request was not sent.
pub(super) const NOT_SENT: &str = "NOT_SENT";
/// No answer came in time.
pub(super) const TIMEOUT: &str = "TIMEOUT";
/// The connection ended first.
pub(super) const DISCONNECTED: &str = "DISCONNECTED";

/// See the module.
pub(super) struct Line {
    pub(super) env: Env,
    recorder: Recorder,
    process: String,
    broker: String,
    versions: Versions,
    rng: Rng,
    connection: Option<Connection>,
    /// Versions drawn for this connection, by API key.
    caps: BTreeMap<i16, i16>,
    ids: BTreeMap<String, Uuid>,
    /// Groups whose coordinator was found over this connection.
    coordinated: BTreeSet<String>,
    not_before: Instant,
    setup_timeout: Duration,
    call_timeout: Duration,
}

impl Line {
    pub(super) fn new(
        env: Env,
        recorder: Recorder,
        process: &str,
        broker: &str,
        mut rng: Rng,
    ) -> Self {
        let setup_timeout = Duration::from_millis(2000 + rng.below(3000));
        let call_ms = match rng.below(8) {
            0 => 8000 + rng.below(22_000),
            _ => 2000 + rng.below(6000),
        };
        Self {
            not_before: env.now(),
            env,
            recorder,
            process: process.to_owned(),
            broker: broker.to_owned(),
            versions: Versions::Newest,
            rng,
            connection: None,
            caps: BTreeMap::new(),
            ids: BTreeMap::new(),
            coordinated: BTreeSet::new(),
            setup_timeout,
            call_timeout: Duration::from_millis(call_ms),
        }
    }

    pub(super) fn speaking(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    pub(super) fn process(&self) -> &str {
        &self.process
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(super) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    pub(super) fn invoke(&self, call: Call) -> u64 {
        self.recorder.invoke(&self.process, call)
    }

    pub(super) fn ok(&self, op: u64, answer: Answer) {
        self.recorder.ok(&self.process, op, answer);
    }

    /// The operation, which is no send, ended with `error`, which is given back.
    pub(super) fn refused(&mut self, op: u64, error: impl Into<String>) -> String {
        let error = error.into();
        if error == "NOT_COORDINATOR" {
            self.coordinated.clear();
        }
        self.not_ok(op, &[&error]);
        error
    }

    pub(super) fn not_ok(&self, op: u64, errors: &[&str]) {
        let attempts = errors.iter().map(|error| attempt(*error)).collect();
        self.recorder.not_ok(&self.process, op, false, attempts);
    }

    /// A rule that this client saw broken.
    pub(super) fn broken(&self, property: &str, detail: impl Into<String>) {
        let note = Note::Broken {
            property: property.to_owned(),
            detail: detail.into(),
        };
        self.recorder.note(&self.process, note);
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_open)
    }

    /// Opens the connection unless it is open: one attempt, after the pause that is due.
    pub(super) async fn open(&mut self) -> Result<(), String> {
        if self.is_open() {
            return Ok(());
        }
        self.connection = None;
        self.env.sleep_until(self.not_before).await;
        let options = ConnectionOptions {
            client_id: self.process.clone(),
            setup_timeout: self.setup_timeout,
            in_flight_max: 64,
            response_max: RESPONSE_BYTES_MAX,
        };
        match Connection::open(&self.env, &self.broker, &options).await {
            Ok(connection) => {
                self.connection = Some(connection);
                self.caps.clear();
                self.coordinated.clear();
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(NOT_SENT.to_owned())
            }
        }
    }

    /// Hangs up. What had no answer gets none.
    pub(super) fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close("given up");
        }
        self.back_off();
    }

    /// The next connection is not opened before a drawn while has passed.
    fn back_off(&mut self) {
        let pause = Duration::from_millis(50 + self.rng.below(450));
        self.not_before = self.env.now().plus(pause);
    }

    /// Waits as after an error that may be over soon.
    pub(super) async fn wait_a_little(&mut self) {
        let pause = Duration::from_millis(20 + self.rng.below(200));
        self.env.sleep(pause).await;
    }

    /// Takes in that a call failed: the connection is given up. The name of the error.
    pub(super) fn failed(&mut self, error: &ClientError) -> String {
        let name = match error {
            ClientError::TimedOut { .. } => TIMEOUT,
            ClientError::Disconnected { reason, .. } => {
                if reason.starts_with("response ") || reason.starts_with("a response") {
                    self.broken("P18", error.to_string());
                }
                DISCONNECTED
            }
            ClientError::Protocol { .. } => {
                self.broken("P18", error.to_string());
                DISCONNECTED
            }
            _ => NOT_SENT,
        };
        self.close();
        name.to_owned()
    }

    /// The version that a request is sent in over the present connection: at least `floor`, where
    /// both ends have that.
    pub(super) fn version(&mut self, key: ApiKey, floor: i16) -> i16 {
        let cap = self.cap(key, floor);
        let connection = self.connection.as_ref();
        connection
            .and_then(|connection| connection.version_of(key, cap).ok())
            .unwrap_or(floor)
    }

    fn cap(&mut self, key: ApiKey, floor: i16) -> i16 {
        let ours = key.versions();
        let served = self.connection.as_ref().map(Connection::ranges);
        let served = served.and_then(|ranges| ranges.get(&(key as i16)).copied());
        let (low, high) = served.unwrap_or((*ours.start(), *ours.end()));
        let (low, high) = (low.max(*ours.start()), high.min(*ours.end()));
        let cap = match self.versions {
            Versions::Newest => i16::MAX,
            Versions::Oldest => low,
            Versions::Mixed => match self.caps.get(&(key as i16)) {
                Some(drawn) => *drawn,
                None => {
                    let count = u64::try_from(high - low).unwrap_or(0) + 1;
                    let drawn = low + i16::try_from(self.rng.below(count)).unwrap_or(0);
                    self.caps.insert(key as i16, drawn);
                    drawn
                }
            },
        };
        cap.max(floor)
    }

    /// One request and its answer, or the name of what went wrong. The request is in version
    /// `floor` or above.
    pub(super) async fn call<R>(&mut self, request: R, floor: i16) -> Result<R::Response, String>
    where
        R: ApiRequest + Into<Request>,
    {
        let within = self.call_timeout;
        self.call_within(request, floor, within).await
    }

    /// As [`Line::call`], waiting at most `within`.
    pub(super) async fn call_within<R>(
        &mut self,
        request: R,
        floor: i16,
        within: Duration,
    ) -> Result<R::Response, String>
    where
        R: ApiRequest + Into<Request>,
    {
        self.open().await?;
        let cap = self.cap(R::KEY, floor);
        let Some(connection) = self.connection.clone() else {
            return Err(NOT_SENT.to_owned());
        };
        let answer = connection.call_capped(request, cap, within).await;
        answer.map_err(|error| self.failed(&error))
    }

    /// Sends a request whose answer is awaited later. The connection has to be open.
    pub(super) fn start<R>(&mut self, request: R, floor: i16) -> Result<PendingCall<R>, String>
    where
        R: ApiRequest + Into<Request>,
    {
        let cap = self.cap(R::KEY, floor);
        let connection = self.connection.as_ref();
        let permit = connection.and_then(|open| Some((open, open.try_permit()?)));
        let Some((connection, permit)) = permit else {
            return Err(NOT_SENT.to_owned());
        };
        let started = connection.start(permit, request, cap);
        started.map_err(|error| self.failed(&error))
    }

    /// Sends a request that has no answer. Whether it was handed to the system.
    pub(super) async fn tell<R>(&mut self, request: R, floor: i16) -> Result<(), String>
    where
        R: ApiRequest + Into<Request>,
    {
        let cap = self.cap(R::KEY, floor);
        let connection = self.connection.as_ref();
        let permit = connection.and_then(|open| Some((open, open.try_permit()?)));
        let Some((connection, permit)) = permit else {
            return Err(NOT_SENT.to_owned());
        };
        let done = match connection.tell(permit, request, cap) {
            Ok(written) => self.env.timeout(self.call_timeout, written).await,
            Err(error) => Ok(Err(error)),
        };
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => {
                self.close();
                Err(TIMEOUT.to_owned())
            }
        }
    }

    /// Learns the ids of topics it does not know yet.
    pub(super) async fn learn_ids(&mut self, topics: &[&str]) -> Result<(), String> {
        let unknown = topics
            .iter()
            .filter(|topic| !self.ids.contains_key(**topic));
        let asked: Vec<MetadataRequestTopic> = unknown
            .map(|topic| MetadataRequestTopic {
                name: Some(Str::from(*topic)),
                ..Default::default()
            })
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let request = MetadataRequest {
            topics: Some(asked),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let answer = self.call(request, TOPIC_IDS_SINCE).await?;
        for topic in answer.topics {
            if let Some(name) = topic.name
                && topic.error_code == ErrorCode::None.code()
            {
                self.ids.insert(name.as_str().to_owned(), topic.topic_id);
            }
        }
        Ok(())
    }

    /// Opens the connection and asks over it who coordinates a group, as clients do first: a broker
    /// makes its topic of groups only when it is asked.
    pub(super) async fn coordinator(&mut self, group: &str) -> Result<(), String> {
        self.open().await?;
        if self.coordinated.contains(group) {
            return Ok(());
        }
        let request = FindCoordinatorRequest {
            key: group.into(),
            coordinator_keys: vec![group.into()],
            ..Default::default()
        };
        let answer = self.call(request, 0).await?;
        let single = answer
            .coordinators
            .first()
            .map_or(0, |found| found.error_code);
        match error_name(answer.error_code).or_else(|| error_name(single)) {
            Some(error) => Err(error),
            None => {
                self.coordinated.insert(group.to_owned());
                Ok(())
            }
        }
    }

    /// What is known of ids is out of date.
    pub(super) fn forget_ids(&mut self) {
        self.ids.clear();
    }

    /// The id of a topic; zero if it is not known.
    pub(super) fn id(&self, topic: &str) -> Uuid {
        self.ids.get(topic).copied().unwrap_or_default()
    }

    /// The name of a topic that an answer names by name or by id.
    pub(super) fn name_of(&self, name: &Str, id: Uuid) -> Option<String> {
        if !name.is_empty() {
            return Some(name.as_str().to_owned());
        }
        let known = self.ids.iter().find(|(_, known)| **known == id);
        known.map(|(name, _)| name.clone())
    }
}

/// An error by its name in the protocol; `None` for no error.
pub(super) fn error_name(code: i16) -> Option<String> {
    match ErrorCode::from_wire(code) {
        Some(ErrorCode::None) => None,
        Some(code) => Some(code.name().to_owned()),
        None => Some(format!("ERROR_{code}")),
    }
}

pub(super) fn attempt(error: impl Into<String>) -> Attempt {
    Attempt {
        error: error.into(),
    }
}
