//! A cluster as one thing to talk to: finds brokers from the bootstrap list, keeps connections
//! and what is known of topics, finds leaders and coordinators, and tries again with growing
//! pauses where an error may pass.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::backoff::Backoff;
use super::config::ClientConfig;
use super::connection::{Connection, ConnectionOptions};
use super::error::{ApiError, ClientError};
use super::metadata::ClusterView;
use crate::env::{Env, Rng};
use crate::types::{BrokerId, ErrorCode, Instant, LeaderEpoch, TopicPartition};
use crate::wire::api::ApiRequest;
use crate::wire::message::find_coordinator::FindCoordinatorRequest;
use crate::wire::message::metadata::{MetadataRequest, MetadataRequestTopic};
use crate::wire::{Request, Str};

/// Which connection to a broker: brokers answer one connection in order, so requests that wait
/// long have connections of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Metadata, admin and offsets.
    Control,
    /// Produce.
    Data,
    /// Fetch.
    Fetch,
    /// JoinGroup, SyncGroup, Heartbeat.
    Group,
}

/// A handle on a cluster; cloning shares connections and knowledge.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    config: ClientConfig,
    slots: Mutex<BTreeMap<(String, Lane), Arc<Slot>>>,
    view: Mutex<Arc<ClusterView>>,
    coordinators: Mutex<BTreeMap<String, BrokerId>>,
    random: Mutex<Rng>,
}

/// Place for one connection. `turn` lets one task dial while the others wait for it.
struct Slot {
    turn: Semaphore,
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    connection: Option<Connection>,
    failures: u32,
    retry_at: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which topics to ask about.
#[derive(Clone, Debug)]
pub enum Topics {
    All,
    /// Brokers and controller only.
    None,
    Named(Vec<Arc<str>>),
}

impl Cluster {
    /// A cluster to talk to; nothing is sent yet.
    pub fn new(env: &Env, config: ClientConfig) -> Result<Self, ClientError> {
        config.check()?;
        Ok(Self {
            inner: Arc::new(Inner {
                env: env.clone(),
                slots: Mutex::default(),
                view: Mutex::default(),
                coordinators: Mutex::default(),
                random: Mutex::new(env.entropy.stream("client-cluster")),
                config,
            }),
        })
    }

    #[must_use]
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&lock(&self.inner.view))
    }

    pub(crate) fn random(&self) -> u64 {
        lock(&self.inner.random).u64()
    }

    /// Asks any broker about `topics` and returns what is known then.
    pub async fn refresh(&self, topics: &Topics) -> Result<Arc<ClusterView>, ClientError> {
        self.refresh_with(topics, self.inner.config.allow_auto_create_topics)
            .await
    }

    /// As [`Cluster::refresh`], saying whether the broker may create topics that do not exist.
    pub async fn refresh_with(
        &self,
        topics: &Topics,
        create: bool,
    ) -> Result<Arc<ClusterView>, ClientError> {
        let mut asked = match topics {
            Topics::All => None,
            Topics::None => Some(Vec::new()),
            Topics::Named(names) => Some(names.iter().map(|name| named(name)).collect()),
        };
        let connection = self.any_connection().await?;
        if connection.version_of(crate::wire::ApiKey::Metadata, i16::MAX)? == 0
            && asked.as_ref().is_some_and(Vec::is_empty)
        {
            // Version 0 has no way to ask for nothing.
            asked = Some(vec![named("__consumer_offsets")]);
        }
        let request = MetadataRequest {
            topics: asked,
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let within = self.inner.config.request_timeout;
        let answer = connection.call(request, within).await?;
        if let Some(error) = ApiError::from_wire(answer.error_code, None) {
            return Err(ClientError::refused("Metadata", error));
        }
        let whole = matches!(topics, Topics::All);
        let now = self.inner.env.now();
        let next = {
            let mut view = lock(&self.inner.view);
            *view = Arc::new(view.updated(&answer, whole, now));
            Arc::clone(&view)
        };
        self.prune(&next);
        Ok(next)
    }

    /// Takes in a leader that an answer told of.
    pub(crate) fn note_leader(
        &self,
        partition: &TopicPartition,
        leader: i32,
        leader_epoch: i32,
    ) -> bool {
        let mut view = lock(&self.inner.view);
        let next = view.with_leader(partition, BrokerId(leader), LeaderEpoch(leader_epoch));
        let changed = next.is_some();
        if let Some(next) = next {
            *view = Arc::new(next);
        }
        changed
    }

    /// Drops connections to addresses that are no longer of the cluster.
    fn prune(&self, view: &ClusterView) {
        let mut keep: Vec<String> = view.brokers.values().map(|b| b.address()).collect();
        keep.extend(self.inner.config.bootstrap_servers.iter().cloned());
        lock(&self.inner.slots).retain(|(address, _), _| keep.contains(address));
    }

    /// A connection to a broker, dialled if there is none.
    pub async fn connection(
        &self,
        broker: BrokerId,
        lane: Lane,
    ) -> Result<Connection, ClientError> {
        let known = self.view().brokers.get(&broker).map(|b| b.address());
        let address = match known {
            Some(address) => address,
            None => {
                let view = self.refresh(&Topics::None).await?;
                let known = view.brokers.get(&broker).map(|b| b.address());
                known.ok_or_else(|| ClientError::Missing {
                    what: format!("broker {broker}"),
                })?
            }
        };
        self.connection_to(&address, lane).await
    }

    /// A connection to any broker: one that is open, else the first that answers, beginning at a
    /// random one.
    pub async fn any_connection(&self) -> Result<Connection, ClientError> {
        let view = self.view();
        let mut addresses: Vec<String> = view.brokers.values().map(|b| b.address()).collect();
        if !addresses.is_empty() {
            let count = addresses.len() as u64;
            let first = usize::try_from(self.random() % count).unwrap_or(0);
            addresses.rotate_left(first);
        }
        for server in &self.inner.config.bootstrap_servers {
            if !addresses.contains(server) {
                addresses.push(server.clone());
            }
        }
        let open = addresses.iter().find_map(|address| {
            let slot = lock(&self.inner.slots)
                .get(&(address.clone(), Lane::Control))
                .cloned()?;
            slot.open()
        });
        if let Some(connection) = open {
            return Ok(connection);
        }
        let mut last = ClientError::Closed;
        for address in &addresses {
            match self.connection_to(address, Lane::Control).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(ClientError::NoBroker {
            tried: addresses.join(", "),
            last: Box::new(last),
        })
    }

    async fn connection_to(&self, address: &str, lane: Lane) -> Result<Connection, ClientError> {
        let slot = {
            let mut slots = lock(&self.inner.slots);
            let slot = slots.entry((address.to_owned(), lane));
            Arc::clone(slot.or_insert_with(|| Arc::new(Slot::new())))
        };
        if let Some(connection) = slot.open() {
            return Ok(connection);
        }
        // A task of its own: a caller that is not polled for a while, as what a consumer has under
        // way between two calls, must not keep others from a connection.
        let (dialed, answer) = oneshot::channel();
        let dial = Dial {
            env: self.inner.env.clone(),
            address: address.to_owned(),
            options: self.connection_options(lane),
            backoff: Backoff {
                first: self.inner.config.reconnect_backoff,
                longest: self.inner.config.reconnect_backoff_max,
            },
            random: self.random(),
        };
        let dialing = async move {
            if let Some(result) = dial.carry_out(&slot, &dialed).await {
                // Nobody may want it any more: the next caller finds it in its place.
                drop(dialed.send(result));
            }
        };
        self.inner.env.spawn("client-dial", dialing).detach();
        answer.await.map_err(|_| ClientError::Closed)?
    }

    fn connection_options(&self, lane: Lane) -> ConnectionOptions {
        let config = &self.inner.config;
        // Kafka lets a fetch exceed its limit by one batch, so the bound has room for one.
        let fetch_max = usize::try_from(config.fetch_max_bytes).unwrap_or(0);
        ConnectionOptions {
            client_id: config.client_id.clone(),
            setup_timeout: config.connection_setup_timeout,
            in_flight_max: match lane {
                Lane::Data => config.max_in_flight,
                Lane::Control | Lane::Fetch | Lane::Group => 64,
            },
            response_max: config
                .receive_message_max_bytes
                .max(fetch_max.saturating_add(1 << 20)),
        }
    }

    /// Calls any broker.
    pub async fn call_any<R>(&self, request: R) -> Result<R::Response, ClientError>
    where
        R: ApiRequest + Into<Request>,
    {
        let connection = self.any_connection().await?;
        let within = self.inner.config.request_timeout;
        connection.call(request, within).await
    }

    /// Calls one broker on the control lane.
    pub async fn call<R>(&self, broker: BrokerId, request: R) -> Result<R::Response, ClientError>
    where
        R: ApiRequest + Into<Request>,
    {
        let connection = self.connection(broker, Lane::Control).await?;
        let within = self.inner.config.request_timeout;
        connection.call(request, within).await
    }

    /// The broker that takes admin requests.
    pub async fn controller(&self) -> Result<BrokerId, ClientError> {
        if let Some(id) = self.view().controller {
            return Ok(id);
        }
        let view = self.refresh(&Topics::None).await?;
        view.controller
            .or_else(|| view.brokers.keys().next().copied())
            .ok_or_else(|| ClientError::refused("finding the controller", not_available()))
    }

    /// The leader of a partition, asking the cluster where it is not known.
    pub async fn leader(
        &self,
        partition: &TopicPartition,
    ) -> Result<(BrokerId, LeaderEpoch), ClientError> {
        if let Some(found) = self.view().leader(partition) {
            return Ok(found);
        }
        let topics = Topics::Named(vec![Arc::clone(&partition.topic)]);
        let view = self.refresh(&topics).await?;
        view.leader(partition).ok_or_else(|| {
            let error = view.topic_errors.get(&partition.topic).cloned();
            let absent = view
                .topics
                .get(&partition.topic)
                .is_some_and(|topic| !topic.partitions.contains_key(&partition.partition));
            let code = match absent {
                true => ErrorCode::UnknownTopicOrPartition,
                false => ErrorCode::LeaderNotAvailable,
            };
            let what = format!("finding the leader of {partition}");
            ClientError::refused(what, error.unwrap_or_else(|| code.into()))
        })
    }

    /// The coordinator of a group. One that is not among the brokers just then counts as not
    /// available: another broker takes its place, or it comes back.
    pub async fn coordinator(&self, group: &str) -> Result<BrokerId, ClientError> {
        let known = lock(&self.inner.coordinators).get(group).copied();
        let id = match known {
            Some(id) => id,
            None => self.find_coordinator(group).await?,
        };
        let is_there = self.view().brokers.contains_key(&id)
            || self.refresh(&Topics::None).await?.brokers.contains_key(&id);
        if !is_there {
            self.forget_coordinator(group);
            let what = format!("reaching broker {id}, the coordinator of group '{group}'");
            let error = ErrorCode::CoordinatorNotAvailable.into();
            return Err(ClientError::refused(what, error));
        }
        lock(&self.inner.coordinators).insert(group.to_owned(), id);
        Ok(id)
    }

    async fn find_coordinator(&self, group: &str) -> Result<BrokerId, ClientError> {
        let request = FindCoordinatorRequest {
            key: Str::from(group),
            coordinator_keys: vec![Str::from(group)],
            ..Default::default()
        };
        let answer = self.call_any(request).await?;
        let (node_id, code, text) = match answer.coordinators.first() {
            Some(found) => (found.node_id, found.error_code, &found.error_message),
            None => (answer.node_id, answer.error_code, &answer.error_message),
        };
        match ApiError::from_wire(code, text.as_deref()) {
            None => Ok(BrokerId(node_id)),
            Some(error) => {
                let what = format!("finding the coordinator of group '{group}'");
                Err(ClientError::refused(what, error))
            }
        }
    }

    /// Forgets where a group's coordinator is, after it answered that it is elsewhere or gone.
    pub fn forget_coordinator(&self, group: &str) {
        lock(&self.inner.coordinators).remove(group);
    }

    /// Runs `attempt` until it succeeds, fails for good, or `default.api.timeout.ms` has passed.
    /// Errors that may pass cause a pause; those that tell of moved leaders or controllers cause
    /// what is known to be asked for anew.
    pub async fn retry<T, F>(
        &self,
        what: &str,
        attempt: impl FnMut() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let within = self.inner.config.default_api_timeout;
        self.retry_within(what, within, attempt).await
    }

    /// As [`Cluster::retry`] with a time of its own.
    pub async fn retry_within<T, F>(
        &self,
        what: &str,
        within: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let deadline = self.inner.env.now().plus(within);
        let mut failures = 0;
        loop {
            let left = deadline.since(self.inner.env.now());
            let last = match self.inner.env.timeout(left, attempt()).await {
                Ok(Err(error)) if error.is_retriable() => error,
                Ok(done) => return done,
                Err(_) => ClientError::TimedOut {
                    api: "the cluster",
                    address: self.inner.config.bootstrap_servers.join(","),
                    millis: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                },
            };
            failures += 1;
            let pause = self.retry_pause(failures);
            if self.inner.env.now().plus(pause) >= deadline {
                return Err(ClientError::GaveUp {
                    what: what.to_owned(),
                    millis: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
                    last: Box::new(last),
                });
            }
            tracing::debug!(what, failures, error = %last, "trying again");
            self.inner.env.sleep(pause).await;
            self.forget_after(&last).await;
        }
    }

    pub(crate) fn retry_pause(&self, failures: u32) -> Duration {
        let backoff = Backoff {
            first: self.inner.config.retry_backoff,
            longest: self.inner.config.retry_backoff_max,
        };
        backoff.pause(failures, self.random())
    }

    /// Asks anew for what `error` shows to be outdated.
    async fn forget_after(&self, error: &ClientError) {
        let outdated = match error.code() {
            Some(ErrorCode::NotController) => true,
            Some(_) => false,
            None => matches!(
                error,
                ClientError::Connect { .. } | ClientError::Disconnected { .. }
            ),
        };
        if outdated && let Err(error) = self.refresh(&Topics::None).await {
            tracing::debug!(%error, "the cluster cannot be asked for its brokers");
        }
    }
}

/// One attempt to connect.
struct Dial {
    env: Env,
    address: String,
    options: ConnectionOptions,
    backoff: Backoff,
    random: u64,
}

impl Dial {
    /// Gives the connection in `slot`, a new one where there is none. `None` if its turn came when
    /// nobody waited for it any more.
    async fn carry_out(
        self,
        slot: &Slot,
        waiting: &oneshot::Sender<Result<Connection, ClientError>>,
    ) -> Option<Result<Connection, ClientError>> {
        let Ok(_turn) = slot.turn.acquire().await else {
            return Some(Err(ClientError::Closed));
        };
        if let Some(connection) = slot.open() {
            return Some(Ok(connection));
        }
        if waiting.is_closed() {
            return None;
        }
        let retry_at = lock(&slot.state).retry_at;
        if retry_at > self.env.now() {
            self.env.sleep_until(retry_at).await;
        }
        let opened = Connection::open(&self.env, &self.address, &self.options).await;
        let mut state = lock(&slot.state);
        match &opened {
            Ok(connection) => {
                *state = SlotState {
                    connection: Some(connection.clone()),
                    ..Default::default()
                };
            }
            Err(_) => {
                state.failures = state.failures.saturating_add(1);
                let pause = self.backoff.pause(state.failures, self.random);
                state.retry_at = self.env.now().plus(pause);
            }
        }
        Some(opened)
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            turn: Semaphore::new(1),
            state: Mutex::default(),
        }
    }

    fn open(&self) -> Option<Connection> {
        let state = lock(&self.state);
        state.connection.clone().filter(Connection::is_open)
    }
}

fn named(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic {
        name: Some(Str::from(name)),
        ..Default::default()
    }
}

fn not_available() -> ApiError {
    ErrorCode::BrokerNotAvailable.into()
}
