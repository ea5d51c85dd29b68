//! A client's way to the brokers: one connection to each of those that it needs, opened again when
//! it ended, in the versions the client is to speak; and the pen with which it writes its part of
//! the history.
//!
//! Whom a request is for is said before it: [`Line::leader`], [`Line::coordinator`], or
//! [`Line::anyone`]. With one broker that is always the same. After a failure of one connection a
//! line hangs up on all brokers, forgets who leads what, and asks the next broker that it was told
//! of. Every failed attempt is followed by a drawn pause before the next connection, so that no
//! driver spins however it is written.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm::client::{ClientError, Connection, ConnectionOptions, PendingCall};
use klamm::env::{Env, Rng};
use klamm::types::{ErrorCode, Instant, Uuid};
use klamm::wire::api::ApiRequest;
use klamm::wire::message::find_coordinator::FindCoordinatorRequest;
use klamm::wire::message::metadata::{MetadataRequest, MetadataRequestTopic};
use klamm::wire::{ApiKey, Request, Str};
use klamm_jepsen::history::{Answer, Call, Note, Partition};

use super::errors::{attempt, error_name};
use crate::plan::Versions;
use crate::record::Recorder;

const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// First version of Metadata that tells the ids of topics.
const TOPIC_IDS_SINCE: i16 = 10;
/// First version of Metadata that can ask without making a topic.
const NO_CREATION_SINCE: i16 = 4;

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
    /// The brokers it was told of.
    bootstrap: Vec<String>,
    /// Which of them is asked next.
    turn: usize,
    versions: Versions,
    rng: Rng,
    /// By address.
    connections: BTreeMap<String, Connection>,
    /// Whom the next request is for; anyone if absent.
    wanted: Option<String>,
    /// Whose connection was opened or chosen last.
    present: String,
    /// Versions drawn for these connections, by API key.
    caps: BTreeMap<i16, i16>,
    ids: BTreeMap<String, Uuid>,
    /// Groups whose coordinator was found over these connections, and where it is if there are
    /// several brokers.
    coordinated: BTreeMap<String, Option<String>>,
    leaders: BTreeMap<Partition, String>,
    /// Addresses by id.
    brokers: BTreeMap<i32, String>,
    not_before: Instant,
    setup_timeout: Duration,
    call_timeout: Duration,
}

/// Errors that may say that a partition is led by another broker than was known.
const LED_BY_OTHERS: &[&str] = &[
    "NOT_LEADER_OR_FOLLOWER",
    "LEADER_NOT_AVAILABLE",
    "FENCED_LEADER_EPOCH",
    "UNKNOWN_LEADER_EPOCH",
    "UNKNOWN_TOPIC_OR_PARTITION",
    "UNKNOWN_TOPIC_ID",
    "REPLICA_NOT_AVAILABLE",
    "KAFKA_STORAGE_ERROR",
];

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
        let bootstrap: Vec<String> = broker.split(',').map(str::to_owned).collect();
        let turn = match bootstrap.len() {
            1 => 0,
            several => usize::try_from(rng.below(several as u64)).unwrap_or(0),
        };
        Self {
            not_before: env.now(),
            env,
            recorder,
            process: process.to_owned(),
            bootstrap,
            turn,
            versions: Versions::Newest,
            rng,
            connections: BTreeMap::new(),
            wanted: None,
            present: String::new(),
            caps: BTreeMap::new(),
            ids: BTreeMap::new(),
            coordinated: BTreeMap::new(),
            leaders: BTreeMap::new(),
            brokers: BTreeMap::new(),
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
        self.take_in(&error);
        self.not_ok(op, &[&error]);
        error
    }

    pub(super) fn not_ok(&self, op: u64, errors: &[&str]) {
        let attempts = errors.iter().map(|error| attempt(*error)).collect();
        self.recorder.not_ok(&self.process, op, false, attempts);
    }

    /// A rule that this client saw broken, of no partition in particular.
    pub(super) fn broken(&self, property: &str, detail: impl Into<String>) {
        self.saw_broken(None, property, detail.into());
    }

    /// A rule that this client saw broken in a partition.
    pub(super) fn broken_in(&self, of: &Partition, property: &str, detail: impl Into<String>) {
        self.saw_broken(Some(of.clone()), property, detail.into());
    }

    fn saw_broken(&self, of: Option<Partition>, property: &str, detail: String) {
        let note = Note::Broken {
            property: property.to_owned(),
            detail,
            of,
        };
        self.recorder.note(&self.process, note);
    }

    /// Whether there are several brokers.
    pub(super) fn is_cluster(&self) -> bool {
        self.bootstrap.len() > 1
    }

    /// Whether no connection that it had has ended; with one broker, whether it has one.
    pub(super) fn is_open(&self) -> bool {
        (self.is_cluster() || !self.connections.is_empty())
            && self.connections.values().all(Connection::is_open)
    }

    /// Whose connection [`Line::open`] would open or choose now.
    fn address(&self) -> String {
        if let Some(wanted) = &self.wanted {
            return wanted.clone();
        }
        let is_open = |of: &String| self.connections.get(of).is_some_and(Connection::is_open);
        if is_open(&self.present) {
            return self.present.clone();
        }
        let other = self.connections.keys().find(|of| is_open(of));
        other.unwrap_or(&self.bootstrap[self.turn]).clone()
    }

    fn connection(&self) -> Option<&Connection> {
        self.connections.get(&self.present)
    }

    /// Opens the connection to whom the next request is for unless it is open: one attempt, after
    /// the pause that is due.
    pub(super) async fn open(&mut self) -> Result<(), String> {
        let address = self.address();
        self.present.clone_from(&address);
        if self.connection().is_some_and(Connection::is_open) {
            return Ok(());
        }
        self.connections.remove(&address);
        self.env.sleep_until(self.not_before).await;
        let options = ConnectionOptions {
            client_id: self.process.clone(),
            setup_timeout: self.setup_timeout,
            in_flight_max: 64,
            response_max: RESPONSE_BYTES_MAX,
        };
        match Connection::open(&self.env, &address, &options).await {
            Ok(connection) => {
                if self.connections.is_empty() {
                    self.caps.clear();
                    self.coordinated.clear();
                }
                self.connections.insert(address, connection);
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
        for connection in std::mem::take(&mut self.connections).into_values() {
            connection.close("given up");
        }
        if self.is_cluster() {
            self.wanted = None;
            self.leaders.clear();
            self.coordinated.clear();
            self.turn = (self.turn + 1) % self.bootstrap.len();
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
        self.connection()
            .and_then(|connection| connection.version_of(key, cap).ok())
            .unwrap_or(floor)
    }

    fn cap(&mut self, key: ApiKey, floor: i16) -> i16 {
        let ours = key.versions();
        let served = self.connection().map(Connection::ranges);
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
        let Some(connection) = self.connection().cloned() else {
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
        let connection = self.connection().cloned();
        let permit = connection.and_then(|open| open.try_permit().map(|permit| (open, permit)));
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
        let connection = self.connection().cloned();
        let permit = connection.and_then(|open| open.try_permit().map(|permit| (open, permit)));
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

    /// Opens a connection and asks over it who coordinates a group, as clients do first: a broker
    /// makes its topic of groups only when it is asked. The next request is for that broker.
    pub(super) async fn coordinator(&mut self, group: &str) -> Result<(), String> {
        if let (true, Some(at)) = (self.is_cluster(), self.coordinated.get(group)) {
            self.wanted.clone_from(at);
            return self.open().await;
        }
        self.anyone();
        self.open().await?;
        if self.coordinated.contains_key(group) {
            return Ok(());
        }
        let request = FindCoordinatorRequest {
            key: group.into(),
            coordinator_keys: vec![group.into()],
            ..Default::default()
        };
        let answer = self.call(request, 0).await?;
        let single = answer.coordinators.first();
        let code = single.map_or(0, |found| found.error_code);
        if let Some(error) = error_name(answer.error_code).or_else(|| error_name(code)) {
            return Err(error);
        }
        let (host, port) = match single {
            Some(found) => (found.host.as_str(), found.port),
            None => (answer.host.as_str(), answer.port),
        };
        let at = self.is_cluster().then(|| format!("{host}:{port}"));
        self.coordinated.insert(group.to_owned(), at.clone());
        if at.is_some() {
            self.wanted = at;
            self.open().await?;
        }
        Ok(())
    }

    /// Any broker may answer the next request.
    pub(super) fn anyone(&mut self) {
        self.wanted = None;
    }

    /// The next request is for who leads the partition, which is asked for if it is not known.
    pub(super) async fn leader(&mut self, of: &Partition) -> Result<(), String> {
        if !self.is_cluster() {
            return Ok(());
        }
        if !self.leaders.contains_key(of) {
            self.learn_leaders(&[&of.topic]).await?;
        }
        match self.leaders.get(of) {
            Some(address) => {
                self.wanted = Some(address.clone());
                Ok(())
            }
            None => {
                self.wait_a_little().await;
                Err("LEADER_NOT_AVAILABLE".to_owned())
            }
        }
    }

    /// As [`Line::leader`], if the leader is known and there is an open connection to it.
    pub(super) fn turn_to(&mut self, of: &Partition) -> bool {
        if !self.is_cluster() {
            return true;
        }
        let Some(address) = self.leaders.get(of).cloned() else {
            return false;
        };
        let is_open = self
            .connections
            .get(&address)
            .is_some_and(Connection::is_open);
        if is_open {
            self.present.clone_from(&address);
            self.wanted = Some(address);
        }
        is_open
    }

    /// These partitions by who leads them, as far as that is known after asking; all under an empty
    /// address where there is one broker.
    pub(super) async fn by_leader(
        &mut self,
        of: Vec<Partition>,
    ) -> Result<BTreeMap<String, Vec<Partition>>, String> {
        if !self.is_cluster() {
            return Ok(BTreeMap::from([(String::new(), of)]));
        }
        let unknown = of.iter().filter(|of| !self.leaders.contains_key(of));
        let mut unknown: Vec<&str> = unknown.map(|of| of.topic.as_str()).collect();
        unknown.dedup();
        if !unknown.is_empty() {
            self.learn_leaders(&unknown).await?;
        }
        let mut found: BTreeMap<String, Vec<Partition>> = BTreeMap::new();
        for of in of {
            if let Some(address) = self.leaders.get(&of) {
                found.entry(address.clone()).or_default().push(of);
            }
        }
        if found.is_empty() {
            self.wait_a_little().await;
            return Err("LEADER_NOT_AVAILABLE".to_owned());
        }
        Ok(found)
    }

    /// Where a broker is, if that was told.
    pub(super) fn address_of(&self, id: i32) -> Option<String> {
        self.brokers.get(&id).cloned()
    }

    /// The next request is for the broker at `address`; for anyone if that is empty.
    pub(super) fn toward(&mut self, address: &str) {
        self.wanted = (!address.is_empty()).then(|| address.to_owned());
    }

    async fn learn_leaders(&mut self, topics: &[&str]) -> Result<(), String> {
        let asked = topics.iter().map(|topic| MetadataRequestTopic {
            name: Some(Str::from(*topic)),
            ..Default::default()
        });
        let request = MetadataRequest {
            topics: Some(asked.collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        self.anyone();
        let answer = self.call(request, NO_CREATION_SINCE).await?;
        let brokers = answer.brokers.iter();
        let brokers: BTreeMap<i32, String> = brokers
            .map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port)))
            .collect();
        self.brokers.extend(brokers.clone());
        for topic in answer.topics {
            let Some(name) = topic.name else { continue };
            for found in topic.partitions {
                if let Some(address) = brokers.get(&found.leader_id) {
                    let of = super::partition(&name, found.partition_index);
                    self.leaders.insert(of, address.clone());
                }
            }
        }
        Ok(())
    }

    /// An error came that may say that others lead by now.
    pub(super) fn take_in(&mut self, error: &str) {
        if LED_BY_OTHERS.contains(&error) {
            self.leaders.clear();
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
