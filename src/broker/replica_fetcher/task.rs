//! The task that copies from one broker: one connection, one fetch at a time, and the answers
//! carried to the shards that own the logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::plan::{FetchPlan, Followed, Key, Task, Work};
use crate::broker::Broker;
use crate::client::{Backoff, ClientError, Connection, ConnectionOptions};
use crate::env::Rng;
use crate::replication::{Command, FollowerPosition};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, Instant};
use crate::wire::message::fetch::{FetchRequest, FetchResponse};

/// First pause after the connection failed.
const REDIAL_FIRST: Duration = Duration::from_millis(20);

/// A leader that cannot be reached is told of after so many failures in a row, and then again after
/// every so many more: seconds, and then half a minute, with the usual pauses.
const UNREACHABLE_TOLD_FIRST: u32 = 8;
const UNREACHABLE_TOLD_EVERY: u32 = 30;

/// What an answer may hold beside records.
const ANSWER_OVERHEAD_BYTES: usize = 4 << 20;

/// Something new for a fetcher.
#[derive(Clone, Debug)]
pub enum Change {
    Follow(Key, Followed),
    Leave(Key),
    /// The broker is reached at this `host:port` from now on.
    Address(String),
}

/// See the module.
pub struct Fetcher {
    pub(super) broker: Arc<Broker>,
    pub(super) source: BrokerId,
    pub(super) address: String,
    pub(super) plan: FetchPlan,
    pub(super) changes: mpsc::UnboundedReceiver<Vec<Change>>,
    pub(super) connection: Option<Connection>,
    /// Of the connection, in a row.
    pub(super) failures: u32,
    pub(super) random: Rng,
}

/// How waiting ended.
enum Waited<T> {
    Done(T),
    /// The partitions to fetch are others now.
    Overtaken,
    /// Nobody will send changes any more.
    Dismissed,
}

type Placed = Result<FollowerPosition, ErrorCode>;

/// What became of tasks, each by its partition and assignment.
type Outcomes = Vec<((Key, u64), Placed)>;

/// The tasks of one shard: whose each is, and what is to be done.
type ForShard<T> = (Vec<(Key, u64)>, Vec<T>);

/// A command for one shard, with its items and where their outcomes go.
type ToCommand<T> = fn(Vec<T>, oneshot::Sender<Vec<Placed>>) -> Command;

impl Fetcher {
    /// Copies until the sender of changes is gone.
    pub async fn run(mut self) {
        loop {
            while let Ok(changes) = self.changes.try_recv() {
                self.change(changes);
            }
            if self.plan.is_empty() {
                match self.changes.recv().await {
                    Some(changes) => self.change(changes),
                    None => return,
                };
                continue;
            }
            match self.round().await {
                Waited::Done(()) | Waited::Overtaken => {}
                Waited::Dismissed => return,
            }
        }
    }

    /// Takes changes in; answers whether a fetch under way asks for too little.
    fn change(&mut self, changes: Vec<Change>) -> bool {
        let mut is_more = false;
        for change in changes {
            match change {
                Change::Follow(key, followed) => is_more |= self.plan.follow(key, followed),
                Change::Leave(key) => self.plan.leave(key),
                Change::Address(address) => {
                    if self.address != address {
                        self.address = address;
                        self.disconnect();
                        self.failures = 0;
                        is_more = true;
                    }
                }
            }
        }
        is_more
    }

    fn disconnect(&mut self) {
        self.connection = None;
        self.plan.abandon_session();
    }

    /// Waits for `work`, unless changes make it useless.
    async fn unless_changed<T>(&mut self, work: impl Future<Output = T>) -> Waited<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                changes = self.changes.recv() => match changes {
                    None => return Waited::Dismissed,
                    Some(changes) => {
                        let is_more = self.change(changes);
                        let is_late = is_more
                            && !crate::mutant!("older-leader-believed")
                            && !crate::mutant!("session-keeps-first-epoch");
                        if is_late || self.plan.is_empty() {
                            return Waited::Overtaken;
                        }
                    }
                },
                done = &mut work => return Waited::Done(done),
            }
        }
    }

    async fn pause(&mut self, span: Duration) -> Waited<()> {
        let env = self.broker.env.clone();
        self.unless_changed(async move { env.sleep(span).await })
            .await
    }

    /// One fetch and all that comes of it.
    async fn round(&mut self) -> Waited<()> {
        let connection = match self.connected().await {
            Waited::Done(Some(connection)) => connection,
            Waited::Done(None) | Waited::Overtaken => return Waited::Overtaken,
            Waited::Dismissed => return Waited::Dismissed,
        };
        self.place().await;
        let env = self.broker.env.clone();
        let broker_epoch = BrokerEpoch(self.broker.broker_epoch.load(Ordering::Acquire));
        let Some((request, round)) = self.plan.request(env.now(), broker_epoch) else {
            let until = self.plan.wakes_at().unwrap_or(Instant(u64::MAX));
            return self.pause(until.since(env.now())).await;
        };
        let within = self.patience();
        let fetch = ask(connection, request, within);
        match self.unless_changed(fetch).await {
            Waited::Done(Ok(response)) => {
                let at = (env.now(), self.random.u64());
                match self.plan.answered(at, round, response) {
                    Ok(work) => {
                        self.failures = 0;
                        self.carry_out(work).await;
                        Waited::Done(())
                    }
                    Err(code) => {
                        tracing::debug!(source = %self.source, %code, "a fetch was refused");
                        self.back_off().await
                    }
                }
            }
            Waited::Done(Err(error)) => {
                tracing::trace!(target: "klamm::probe", name = "replica-fetch-failed");
                tracing::debug!(source = %self.source, %error, "a fetch failed");
                self.disconnect();
                self.back_off().await
            }
            Waited::Overtaken => {
                // An answer that waits for other partitions' records would hold up the new ones.
                tracing::trace!(target: "klamm::probe", name = "replica-fetch-overtaken");
                self.disconnect();
                Waited::Overtaken
            }
            Waited::Dismissed => Waited::Dismissed,
        }
    }

    fn patience(&self) -> Duration {
        let settings = &self.broker.config.replication;
        settings.fetch_wait_max + settings.socket_timeout
    }

    /// `None` when there is no connection and a pause has passed.
    async fn connected(&mut self) -> Waited<Option<Connection>> {
        if let Some(connection) = self.connection.as_ref().filter(|open| open.is_open()) {
            return Waited::Done(Some(connection.clone()));
        }
        self.disconnect();
        let config = &self.broker.config;
        let response_max = usize::try_from(config.replication.fetch_response_max_bytes)
            .unwrap_or(0)
            .saturating_add(config.network.request_max_bytes)
            .saturating_add(ANSWER_OVERHEAD_BYTES);
        let options = ConnectionOptions {
            client_id: format!("broker-{}-fetcher", config.node_id),
            setup_timeout: config.replication.socket_timeout,
            in_flight_max: 1,
            response_max,
        };
        let (env, address) = (self.broker.env.clone(), self.address.clone());
        let dialled = async move { Connection::open(&env, &address, &options).await };
        match self.unless_changed(dialled).await {
            Waited::Done(Ok(connection)) => {
                self.connection = Some(connection.clone());
                Waited::Done(Some(connection))
            }
            Waited::Done(Err(error)) => {
                self.tell_unreachable(&error);
                match self.back_off().await {
                    Waited::Done(()) => Waited::Done(None),
                    Waited::Overtaken => Waited::Overtaken,
                    Waited::Dismissed => Waited::Dismissed,
                }
            }
            Waited::Overtaken => Waited::Overtaken,
            Waited::Dismissed => Waited::Dismissed,
        }
    }

    /// A leader that is gone has another within a moment: one that stays unreachable and leads all
    /// the same is told to others by an address that does not work.
    fn tell_unreachable(&self, error: &ClientError) {
        let (source, address) = (self.source, &self.address);
        tracing::debug!(%source, %error, "a leader cannot be reached");
        if self.failures % UNREACHABLE_TOLD_EVERY == UNREACHABLE_TOLD_FIRST {
            tracing::warn!(
                %error,
                "what broker {source} leads cannot be copied: nobody answers at {address}, which \
                 broker {source} says it is reached at. Correct advertised.listeners of broker \
                 {source}, or the network between"
            );
        }
    }

    async fn back_off(&mut self) -> Waited<()> {
        let longest = self.broker.config.replication.fetch_backoff;
        let backoff = Backoff {
            first: REDIAL_FIRST.min(longest),
            longest,
        };
        self.failures = self.failures.saturating_add(1);
        let span = backoff.pause(self.failures, self.random.u64());
        self.pause(span).await
    }

    /// Asks the owners of logs where to fetch.
    async fn place(&mut self) {
        let tasks = self.plan.unplaced(self.broker.env.now());
        if tasks.is_empty() {
            return;
        }
        let asked = self.ask_shards(tasks, |partitions, reply| Command::FollowerPosition {
            partitions,
            reply,
        });
        let placed = asked.await;
        self.take(placed, false);
    }

    /// Has the logs take in an answer; every shard at the same time.
    async fn carry_out(&mut self, work: Work) {
        let appends = self.ask_shards(work.appends, |items, reply| Command::FollowerAppend {
            items,
            reply,
        });
        let truncations = self.ask_shards(work.truncations, |items, reply| {
            Command::FollowerTruncate { items, reply }
        });
        let (appended, truncated) = futures_util::future::join(appends, truncations).await;
        self.take(appended, true);
        self.take(truncated, true);
    }

    fn take(&mut self, outcomes: Outcomes, is_progress: bool) {
        let now = self.broker.env.now();
        for (of, outcome) in outcomes {
            if let Err(code) = &outcome {
                let ((topic_id, partition), source) = (of.0, self.source);
                tracing::debug!(%topic_id, partition, %source, %code, "not copied; tried again");
            }
            let at = (now, self.random.u64());
            self.plan.placed(at, of, outcome, is_progress);
        }
    }

    /// One command for every shard that has tasks; the answers in the order of the tasks of each.
    fn ask_shards<T>(
        &self,
        tasks: Vec<Task<T>>,
        command: ToCommand<T>,
    ) -> impl Future<Output = Outcomes> + Send + use<T> {
        let mut by_shard: BTreeMap<usize, ForShard<T>> = BTreeMap::new();
        for task in tasks {
            let (of, items) = by_shard.entry(task.shard).or_default();
            of.push((task.key, task.assignment));
            items.push(task.work);
        }
        let mut asked = Vec::with_capacity(by_shard.len());
        for (shard, (of, items)) in by_shard {
            let (reply, answer) = oneshot::channel();
            // A shard that has ended drops the command, and with it the reply.
            let _ = self.broker.partitions.shards()[shard].submit(command(items, reply));
            asked.push((of, answer));
        }
        async move {
            let mut outcomes = Vec::new();
            for (of, answer) in asked {
                let placed = answer.await.unwrap_or_default();
                let gone = std::iter::repeat(Err(ErrorCode::NotLeaderOrFollower));
                outcomes.extend(of.into_iter().zip(placed.into_iter().chain(gone)));
            }
            outcomes
        }
    }
}

async fn ask(
    connection: Connection,
    request: FetchRequest,
    within: Duration,
) -> Result<FetchResponse, ClientError> {
    connection.call(request, within).await
}
