//! The broker: puts the parts together and serves clients.
//!
//! [`Broker::start`] takes the data directories, replays the metadata, opens the logs, and only
//! then listens. [`Broker::stop`] does the reverse: connections are drained, logs closed, and a
//! marker left that says so.

mod acceptance;
mod clean_shutdown;
mod cluster;
mod connection;
mod door;
mod drain;
mod endpoints;
mod fetch_session;
mod ground;
mod group_log;
mod handler;
mod high_watermarks;
mod hosted_register;
mod hosting;
mod http;
mod isr_proposals;
mod listener;
mod log_dir;
mod maintenance;
mod metrics;
mod mirror;
mod partitions;
mod quorum_admin;
mod receive_memory;
mod replica_fetcher;
mod scrape;
mod self_check;
mod start;
mod topics;

#[cfg(test)]
mod replication_tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{Semaphore, mpsc};

use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::env::{DiskStats, Env, Rng, Task};
use crate::group::GroupCoordinator;
use crate::log::{CleanEnd, TailCache};
use crate::mirror::MirrorStatuses;
use crate::replication::ReplicationEvent;

use cluster::ClusterPart;
use drain::Drain;
use fetch_session::FetchSessions;
use log_dir::LogDir;
use metrics::Metrics;
use partitions::{Hosted, Partitions};
use quorum_admin::QuorumDesk;
pub use start::StartError;

/// How long a stopping broker waits for requests under way.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Pause between looks at whether the connections are gone.
const DRAIN_LOOK: Duration = Duration::from_millis(10);

/// Logs that are closed at once.
const CLOSING_MAX: usize = 32;

/// A running broker.
pub struct Broker {
    env: Env,
    config: BrokerConfig,
    log_dirs: Vec<LogDir>,
    tail_cache: Arc<TailCache>,
    partitions: Partitions,
    controller: Controller,
    quorum: QuorumDesk,
    /// Of this run's registration; -1 before it.
    broker_epoch: Arc<AtomicI64>,
    /// To the task that asks the controller for what leaders here want.
    replication_events: mpsc::UnboundedSender<ReplicationEvent>,
    /// `None` on a node that is a cluster by itself.
    cluster: Option<Arc<ClusterPart>>,
    groups: GroupCoordinator,
    fetch_sessions: Mutex<FetchSessions>,
    /// Of the mirrors that are led here.
    mirrors: MirrorStatuses,
    produce_memory: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    disk_stats: Option<Arc<DiskStats>>,
    rng: Mutex<Rng>,
    drain: Arc<Drain>,
    ready: AtomicBool,
    /// Stopped in reverse order of their start.
    tasks: Mutex<Vec<Task>>,
    /// `ip:port` of each client listener, in the order of the settings.
    addresses: Vec<String>,
}

impl Broker {
    /// Starts a broker; it serves when this returns.
    pub async fn start(
        env: Env,
        config: BrokerConfig,
        disk_stats: Option<Arc<DiskStats>>,
    ) -> Result<Arc<Self>, StartError> {
        let started = start::start(env, config, disk_stats).await;
        if started.is_err() {
            tracing::trace!(target: "klamm::probe", name = "start-refused");
        }
        started
    }

    /// The addresses clients are served on, `ip:port`, with the ports that were bound.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    /// Completes when the broker can serve no more: it was stopped, or its controller failed.
    pub async fn draining(&self) {
        self.drain.started().await;
    }

    /// Whether clients are served; the text says why not.
    pub fn readiness(&self) -> Result<(), &'static str> {
        if self.drain.is_on() {
            return Err("draining");
        }
        let is_fenced = |cluster: &Arc<ClusterPart>| !cluster.standing.is_unfenced();
        match self.ready.load(Ordering::Acquire) {
            true if self.config.quorum.is_broker
                && self.cluster.as_ref().is_some_and(is_fenced) =>
            {
                Err("fenced by the controller")
            }
            true => Ok(()),
            false => Err("starting"),
        }
    }

    /// Stops in order: no new connections, requests under way are answered, logs are closed and
    /// the clean-shutdown markers are left.
    pub async fn stop(&self) {
        tracing::info!("stopping");
        self.hand_over().await;
        if let Some(cluster) = &self.cluster {
            // What was asked of the controller is answered, by this one or the next.
            cluster.hand_on(&self.env).await;
        }
        self.drain.start();
        let deadline = self.env.now().plus(DRAIN_MAX);
        while self.metrics.connections() > 0 && self.env.now() < deadline {
            self.env.sleep(DRAIN_LOOK).await;
        }
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        // The shards were started first and are kept: they close the logs.
        let shards = self.partitions.shards().len();
        let mut tasks = tasks.into_iter();
        let kept: Vec<Task> = tasks.by_ref().take(shards).collect();
        drop(tasks.rev().collect::<Vec<_>>());
        if self.cluster.is_some() {
            high_watermarks::write(self).await;
        }
        self.close_logs().await;
        drop(kept);
        if let Some(cluster) = &self.cluster {
            cluster.leave_quorum(&self.env).await;
        }
        tracing::info!("stopped");
    }

    /// In a cluster: lets others lead first, while clients are still served.
    async fn hand_over(&self) {
        let is_serving = self.ready.load(Ordering::Acquire) && !self.drain.is_on();
        let id = self.config.node_id;
        let is_wanted = self.config.controlled_shutdown_enable
            && self.config.quorum.is_broker
            // Without another there is nobody to lead.
            && self.controller.image().alive().any(|other| other != id);
        if let Some(cluster) = self.cluster.as_ref().filter(|_| is_serving && is_wanted) {
            cluster.standing.hand_over(&self.env).await;
        }
    }

    async fn close_logs(&self) {
        let topics = self.partitions.table().topics();
        let hosted = topics.iter().flat_map(|topic| topic.partitions.values());
        let closing: Vec<_> = hosted.map(|hosted| self.close_log(hosted)).collect();
        let mut closing = stream::iter(closing).buffer_unordered(CLOSING_MAX);
        let mut ends: BTreeMap<usize, clean_shutdown::Ends> = BTreeMap::new();
        let mut all_clean = true;
        while let Some((hosted, end)) = closing.next().await {
            let dir = self
                .log_dirs
                .iter()
                .position(|dir| hosted.dir.starts_with(&dir.path));
            match (end, dir) {
                (Some(end), Some(dir)) => {
                    let name = hosted.topic_partition.to_string();
                    ends.entry(dir).or_default().insert(name, end);
                }
                _ => all_clean = false,
            }
        }
        if !all_clean {
            tracing::trace!(target: "klamm::probe", name = "unclean-stop");
            tracing::warn!("not every log was closed well: the next start looks through them");
            return;
        }
        for (at, dir) in self.log_dirs.iter().enumerate() {
            let ends = ends.remove(&at).unwrap_or_default();
            if let Err(error) = clean_shutdown::leave(&self.env, dir, &ends).await {
                tracing::warn!(%error, "no clean-shutdown marker: the next start takes longer");
            }
        }
    }

    /// The partition and how its log ended, if well.
    async fn close_log<'a>(&self, hosted: &'a Hosted) -> (&'a Hosted, Option<CleanEnd>) {
        (hosted, self.partitions.close(hosted).await)
    }

    fn random_bytes<const N: usize>(&self) -> [u8; N] {
        self.rng
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes()
    }
}
