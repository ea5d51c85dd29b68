//! How a broker starts, step by step.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{Semaphore, mpsc};

use super::clean_shutdown::{self, Ends};
use super::cluster::ClusterError;
use super::cluster::lifecycle::Registrar;
use super::connection::Serving;
use super::door::{Door, NodeDoor};
use super::drain::Drain;
use super::fetch_session::FetchSessions;
use super::ground::{self, Bound};
use super::hosting::Hosting;
use super::log_dir::{self, LogDir, OpenError};
use super::metrics::Metrics;
use super::partitions::Partitions;
use super::{Broker, high_watermarks, http, isr_proposals, listener, maintenance, self_check};
use crate::config::{Advertised, BrokerConfig};
use crate::controller::{
    BrokerEndpoint, ClusterImage, ControllerError, ImageUpdate, LocalQuorumError, Refusal,
    RegisterBroker,
};
use crate::env::{DiskStats, Env, Listener, Task};
use crate::group::{GroupConfig, GroupCoordinator};
use crate::log::TailCache;
use crate::log::checkpoint::CheckpointError;
use crate::mirror::MirrorStatuses;
use crate::replication::{ReplicationEvent, ReplicationSettings, ShardHandle, UnusableLog};
use crate::types::{BrokerEpoch, Uuid};

/// Changes of the metadata that may wait to be carried out.
const UPDATES_MAX: usize = 64;

/// Tasks that share the shards of the group coordinator.
const GROUP_TASKS: usize = 2;

/// Why a broker did not start. The text names the thing and the fix.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    LogDir(#[from] OpenError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Metadata(#[from] LocalQuorumError),
    #[error("{0}")]
    Controller(#[from] ControllerError),
    #[error("the controller refused this broker: {0}")]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("the broker was stopped before it had started")]
    Stopped,
    #[error("hosted partitions: {0}")]
    Hosting(std::io::Error),
    #[error(
        "{name}: cannot listen on {address}: {source}: change the {name} setting, or stop what \
         uses the port"
    )]
    Listen {
        name: &'static str,
        address: String,
        source: std::io::Error,
    },
}

pub(super) async fn start(
    env: Env,
    mut config: BrokerConfig,
    disk_stats: Option<Arc<DiskStats>>,
) -> Result<Arc<Broker>, StartError> {
    let began = env.now();
    let dirs = log_dir::take_all(&env, &config).await?;
    // Bound before anything else is done, so that a port that is taken is said at once; no client
    // is served before the logs are open.
    let bound = Bound::listen(&env, &mut config).await?;
    let incarnation = Uuid::from_random(env.entropy.stream("incarnation").bytes());
    let (updates, incoming) = mpsc::channel(UPDATES_MAX);
    let metrics = Arc::new(Metrics::default());
    let drain = Arc::new(Drain::default());
    let ground = match config.quorum.is_alone() {
        true => ground::alone(&env, &config, dirs, bound, updates).await?,
        false => {
            let served = (metrics.clone(), drain.clone());
            ground::in_cluster(&env, &config, dirs, incarnation, bound, served, updates).await?
        }
    };
    let ends = take_markers(&env, &ground.log_dirs).await?;
    let mut tasks = Vec::new();
    let (replication_events, proposals) = mpsc::unbounded_channel();
    let partitions = start_partitions(&env, &config, &replication_events, &mut tasks);
    let failure = start_controller(&env, ground.task, &drain, &mut tasks);
    let tail_bytes = usize::try_from(config.tail_cache_bytes).unwrap_or(usize::MAX);
    let broker = Arc::new(Broker {
        quorum: ground.desk,
        fetch_sessions: Mutex::new(FetchSessions::new(config.network.fetch_session_cache_slots)),
        mirrors: MirrorStatuses::default(),
        tail_cache: TailCache::new(tail_bytes),
        produce_memory: Arc::new(Semaphore::new(config.network.queued_max_kib as usize)),
        rng: Mutex::new(env.entropy.stream("broker")),
        metrics,
        drain,
        ready: AtomicBool::new(false),
        tasks: Mutex::default(),
        addresses: ground.bound.addresses,
        groups: start_groups(&env, &config),
        env,
        config,
        log_dirs: ground.log_dirs,
        partitions,
        controller: ground.controller,
        broker_epoch: Arc::new(AtomicI64::new(-1)),
        replication_events,
        cluster: ground.cluster,
        disk_stats,
    });
    let opening = Opening {
        broker: broker.clone(),
        incarnation,
        after_clean_shutdown: ends.is_some(),
        ends: ends.unwrap_or_default(),
        admin: ground.bound.admin,
        proposals,
        incoming,
    };
    let why = |error| because(error, &failure);
    opening.open(&mut tasks).await.map_err(why)?;
    let door = ground.door.as_deref();
    serve(&broker, ground.bound.clients, door, &mut tasks);
    *broker.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
    unfenced(&broker).await.map_err(why)?;
    broker.ready.store(true, Ordering::Release);
    announce(&broker, began);
    Ok(broker)
}

fn start_partitions(
    env: &Env,
    config: &BrokerConfig,
    events: &mpsc::UnboundedSender<ReplicationEvent>,
    tasks: &mut Vec<Task>,
) -> Partitions {
    let settings = ReplicationSettings {
        lag_time_max: config.replication.lag_time_max,
        events: events.clone(),
    };
    Partitions::new(start_shards(env, config, &settings, tasks))
}

/// A broker that has its metadata and not yet its partitions.
struct Opening {
    broker: Arc<Broker>,
    incarnation: Uuid,
    after_clean_shutdown: bool,
    ends: Ends,
    admin: Option<Box<dyn Listener>>,
    proposals: mpsc::UnboundedReceiver<ReplicationEvent>,
    incoming: mpsc::Receiver<ImageUpdate>,
}

impl Opening {
    /// Registers the broker, opens every log, and keeps following the metadata.
    async fn open(mut self, tasks: &mut Vec<Task>) -> Result<(), StartError> {
        let broker = self.broker.clone();
        if let Some(admin) = self.admin.take() {
            // Health is told from here on: opening the logs may take long.
            let serving = http::serve(broker.clone(), admin);
            tasks.push(broker.env.spawn("admin-listener", serving));
        }
        if let Some(cluster) = &broker.cluster {
            tasks.extend(cluster.watch(&broker.env, &broker.config, &broker.controller));
        }
        if !broker.config.quorum.is_broker {
            tasks.push(broker.env.spawn("metadata", ignore(self.incoming)));
            return Ok(());
        }
        let registrar = Registrar::new(
            &broker.env,
            &broker.config,
            &broker.controller,
            broker.log_dirs[0].meta.cluster_id,
            self.request(),
        );
        let (epoch, image) = register(&broker, &registrar, &mut self.incoming).await?;
        // Before the logs are opened: their owners may propose at once.
        let (told, unusable) = mpsc::unbounded_channel();
        let proposals = isr_proposals::run(broker.clone(), self.proposals, told);
        tasks.push(broker.env.spawn("isr-proposals", proposals));
        broker.broker_epoch.store(epoch.0, Ordering::Release);
        let marks = high_watermarks::read(&broker.env, &broker.log_dirs).await;
        let hosting = Hosting::new(broker.clone(), &image, self.ends, marks).await;
        let mut hosting = hosting.map_err(StartError::Hosting)?;
        hosting.host_all(&image).await;
        if let Some(cluster) = &broker.cluster {
            let checkpoints = high_watermarks::run(broker.clone());
            tasks.push(broker.env.spawn("high-watermarks", checkpoints));
            cluster.standing.registered(epoch);
            cluster.standing.carried_out(image.end());
            tasks.push(
                broker
                    .env
                    .spawn("heartbeats", live(broker.clone(), registrar)),
            );
        }
        let following = follow(broker.clone(), (hosting, image), self.incoming, unusable);
        tasks.push(broker.env.spawn("hosting", following));
        Ok(())
    }

    fn request(&self) -> RegisterBroker {
        let config = &self.broker.config;
        let dirs = self.broker.log_dirs.iter();
        RegisterBroker {
            id: config.node_id,
            incarnation: self.incarnation,
            endpoints: endpoints(config),
            rack: config.rack.clone(),
            directories: dirs.map(|dir| dir.meta.directory_id).collect(),
            after_clean_shutdown: self.after_clean_shutdown,
        }
    }
}

/// Founds or rejoins the cluster. Changes of the metadata that come up are not carried out here:
/// the hosting starts from the image that is returned, which has the registration, and from which
/// on every further change comes in.
async fn register(
    broker: &Broker,
    registrar: &Registrar,
    incoming: &mut mpsc::Receiver<ImageUpdate>,
) -> Result<(BrokerEpoch, Arc<ClusterImage>), StartError> {
    let id = broker.config.node_id;
    let mut registered = std::pin::pin!(registrar.register());
    let mut epoch = None;
    let mut last: Option<Arc<ClusterImage>> = None;
    loop {
        // As it was when the process began: it may say that this broker leads.
        let is_early = crate::mutant!("epoch-led-again-after-restart") && last.is_some();
        if let (Some(epoch), Some(image)) = (epoch, &last)
            && (is_early || image.broker(id).is_some_and(|broker| broker.epoch >= epoch))
        {
            return Ok((epoch, image.clone()));
        }
        tokio::select! {
            biased;
            update = incoming.recv(), if !is_early => match update {
                Some(update) => {
                    last = Some(update.image);
                    let _ = update.done.send(());
                }
                None => return Err(StartError::Stopped),
            },
            outcome = &mut registered, if epoch.is_none() => epoch = Some(outcome?),
            () = broker.drain.started() => return Err(StartError::Stopped),
        }
    }
}

/// Carries out what changes, from `image` on.
async fn follow(
    broker: Arc<Broker>,
    (mut hosting, mut image): (Hosting, Arc<ClusterImage>),
    mut incoming: mpsc::Receiver<ImageUpdate>,
    mut unusable: mpsc::UnboundedReceiver<UnusableLog>,
) {
    loop {
        let update = tokio::select! {
            biased;
            update = incoming.recv() => match update {
                Some(update) => update,
                None => return,
            },
            Some(log) = unusable.recv() => {
                hosting.copy_anew(&image, log).await;
                continue;
            }
        };
        hosting.apply(&update.image, &update.delta).await;
        if let Some(cluster) = &broker.cluster {
            cluster.standing.carried_out(update.image.end());
        }
        image = update.image;
        let _ = update.done.send(());
    }
}

/// For a node without partitions.
async fn ignore(mut incoming: mpsc::Receiver<ImageUpdate>) {
    while let Some(update) = incoming.recv().await {
        let _ = update.done.send(());
    }
}

/// Keeps the broker registered; where another process took its place, the broker stops.
async fn live(broker: Arc<Broker>, registrar: Registrar) {
    let Some(cluster) = broker.cluster.clone() else {
        return;
    };
    let refusal = registrar
        .keep_alive(&cluster.standing, &broker.broker_epoch)
        .await;
    tracing::error!(
        %refusal,
        "this broker is not registered any more: it stops. Is there another node with node.id={}?",
        broker.config.node_id
    );
    broker.drain.start();
}

/// In a cluster: waits until the controller lets this broker lead.
async fn unfenced(broker: &Broker) -> Result<(), StartError> {
    match &broker.cluster {
        Some(cluster) if broker.config.quorum.is_broker => tokio::select! {
            biased;
            () = cluster.standing.unfenced() => Ok(()),
            () = broker.drain.started() => Err(StartError::Stopped),
        },
        _ => Ok(()),
    }
}

/// Starts the controller's task; what is given back says why it failed, once it has.
fn start_controller(
    env: &Env,
    task: crate::controller::ControllerTask,
    drain: &Arc<Drain>,
    tasks: &mut Vec<Task>,
) -> Arc<OnceLock<ControllerError>> {
    let failure = Arc::new(OnceLock::new());
    let controlling = control(task, drain.clone(), failure.clone());
    tasks.push(env.spawn("controller", controlling));
    failure
}

/// A start that ended with the controller says why that did.
fn because(error: StartError, failure: &OnceLock<ControllerError>) -> StartError {
    match (error, failure.get()) {
        (StartError::Stopped, Some(failure)) => failure.clone().into(),
        (error, _) => error,
    }
}

/// Runs the controller; where it fails, the broker stops.
async fn control(
    task: crate::controller::ControllerTask,
    drain: Arc<Drain>,
    failure: Arc<OnceLock<ControllerError>>,
) {
    if let Err(error) = task.run().await {
        tracing::trace!(target: "klamm::probe", name = "controller-failed");
        // What the metadata says can no longer be trusted, and so neither can this broker.
        tracing::error!(%error, "the controller failed: the broker stops");
        let _ = failure.set(error);
        drain.start();
    }
}

/// How logs ended, if every data directory says that they ended in order.
async fn take_markers(env: &Env, dirs: &[LogDir]) -> Result<Option<Ends>, StartError> {
    let mut all = Some(Ends::new());
    for dir in dirs {
        let ends = clean_shutdown::take(env, dir).await?;
        all = match (all, ends) {
            (Some(mut all), Some(ends)) => {
                all.extend(ends);
                Some(all)
            }
            _ => None,
        };
    }
    if all.is_some() {
        tracing::trace!(target: "klamm::probe", name = "clean-start");
    }
    Ok(all)
}

fn start_shards(
    env: &Env,
    config: &BrokerConfig,
    settings: &ReplicationSettings,
    tasks: &mut Vec<Task>,
) -> Vec<ShardHandle> {
    let count = config.worker_threads.max(1);
    let start = |_| {
        let (shard, task) = ShardHandle::start(env, Some(settings.clone()));
        tasks.push(task);
        shard
    };
    (0..count).map(start).collect()
}

fn endpoints(config: &BrokerConfig) -> Vec<BrokerEndpoint> {
    let endpoint = |listener: &crate::config::Listener| {
        let (host, port) = match &listener.advertised {
            Advertised::Fixed { host, port } => (host.clone(), *port),
            Advertised::Echo { port } => (String::new(), *port),
        };
        BrokerEndpoint {
            listener: listener.name.clone(),
            host,
            port,
            protocol: 0,
        }
    };
    config.listeners.iter().map(endpoint).collect()
}

fn start_groups(env: &Env, config: &BrokerConfig) -> GroupCoordinator {
    let millis = std::time::Duration::from_millis;
    let session = |value: i32| millis(u64::try_from(value).unwrap_or(0));
    let group = GroupConfig {
        min_session_timeout: session(config.group.min_session_timeout_ms),
        max_session_timeout: session(config.group.max_session_timeout_ms),
        initial_rebalance_delay: millis(config.group.initial_rebalance_delay_ms),
        max_size: config.group.max_size,
        offsets_retention: millis(u64::try_from(config.offsets.retention_ms).unwrap_or(u64::MAX)),
        offsets_retention_check_interval: millis(config.offsets.retention_check_interval_ms),
        offset_metadata_bytes_max: config.offsets.metadata_max_bytes,
        ..GroupConfig::default()
    };
    GroupCoordinator::start(env, &group, config.offsets.topic_partitions, GROUP_TASKS)
}

fn serve(
    broker: &Arc<Broker>,
    listeners: Vec<(usize, Box<dyn Listener>)>,
    door: Option<&NodeDoor>,
    tasks: &mut Vec<Task>,
) {
    let env = &broker.env;
    tasks.push(env.spawn("maintenance", maintenance::run(broker.clone())));
    if broker.config.cleaner.enable {
        tasks.push(env.spawn("log-cleaner", maintenance::clean(broker.clone())));
    }
    let serving = Arc::new(Serving {
        env: env.clone(),
        network: broker.config.network.clone(),
        metrics: broker.metrics.clone(),
        drain: broker.drain.clone(),
        door: Door::Clients(broker.clone()),
        memory: Arc::default(),
    });
    for (index, listener) in listeners {
        tasks.push(env.spawn(
            "listener",
            listener::serve(serving.clone(), listener, index),
        ));
    }
    if let Some(door) = door {
        door.open(broker);
    }
    tasks.push(env.spawn("advertised-check", self_check::run(broker.clone())));
}

/// The lines that people and test harnesses wait for.
fn announce(broker: &Broker, began: crate::types::Instant) {
    let took = broker.env.now().since(began);
    let table = broker.partitions.table();
    tracing::info!(
        listeners = %broker.addresses().join(","),
        cluster_id = %broker.log_dirs[0].meta.cluster_id,
        node_id = broker.config.node_id.0,
        partitions = table.partition_count(),
        millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "serving the Kafka protocol"
    );
    let node = broker.config.node_id;
    tracing::info!("The broker has been unfenced. Transitioning from RECOVERY to RUNNING.");
    tracing::info!("[KafkaServer id={node}] started");
    tracing::info!("Kafka Server started");
}
