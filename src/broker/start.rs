//! How a broker starts, step by step.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc};

use super::clean_shutdown::{self, Ends};
use super::drain::Drain;
use super::fetch_session::FetchSessions;
use super::hosting::Hosting;
use super::log_dir::{self, LogDir, OpenError};
use super::metrics::Metrics;
use super::partitions::Partitions;
use super::quorum_admin::QuorumDesk;
use super::{Broker, http, listener, maintenance, self_check};
use crate::config::{Advertised, BrokerConfig};
use crate::controller::{
    BrokerEndpoint, Controller, ControllerError, ImageUpdate, LocalQuorum, LocalQuorumError,
    Refusal, RegisterBroker,
};
use crate::env::{DiskStats, Env, Listener, Task};
use crate::group::{GroupConfig, GroupCoordinator};
use crate::log::TailCache;
use crate::log::checkpoint::CheckpointError;
use crate::replication::ShardHandle;
use crate::types::Uuid;

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
    config: BrokerConfig,
    disk_stats: Option<Arc<DiskStats>>,
) -> Result<Arc<Broker>, StartError> {
    let began = env.now();
    let log_dirs = log_dir::open_all(&env, &config).await?;
    // Bound before anything else is done, so that a port that is taken is said at once; nobody is
    // accepted before the logs are open.
    let listeners = listen(&env, &config).await?;
    let admin = listen_admin(&env, &config).await?;
    let ends = take_markers(&env, &log_dirs).await?;
    let after_clean_shutdown = ends.is_some();
    if after_clean_shutdown {
        tracing::trace!(target: "klamm::probe", name = "clean-start");
    }
    let (updates, mut incoming) = mpsc::channel(UPDATES_MAX);
    let (controller, task) = open_controller(&env, &config, &log_dirs, updates).await?;
    let mut tasks = Vec::new();
    let partitions = Partitions::new(start_shards(&env, &config, &mut tasks));
    let drain = Arc::new(Drain::default());
    tasks.push(env.spawn("controller", control(task, drain.clone())));
    register(
        &env,
        &config,
        &controller,
        &log_dirs,
        after_clean_shutdown,
        &mut incoming,
    )
    .await?;
    let groups = start_groups(&env, &config);
    let tail_bytes = usize::try_from(config.tail_cache_bytes).unwrap_or(usize::MAX);
    let directory_id = log_dirs[0].meta.directory_id;
    let broker = Arc::new(Broker {
        quorum: QuorumDesk::alone(&env, config.node_id, directory_id, controller.clone()),
        fetch_sessions: Mutex::new(FetchSessions::new(config.network.fetch_session_cache_slots)),
        tail_cache: TailCache::new(tail_bytes),
        produce_memory: Arc::new(Semaphore::new(super::PRODUCE_KIB_MAX as usize)),
        rng: Mutex::new(env.entropy.stream("broker")),
        metrics: Metrics::default(),
        drain,
        ready: AtomicBool::new(false),
        tasks: Mutex::default(),
        addresses: Mutex::default(),
        env,
        config,
        log_dirs,
        partitions,
        controller,
        groups,
        disk_stats,
    });
    if let Some(admin) = admin {
        // Health is told from here on: opening the logs may take long.
        tasks.push(
            broker
                .env
                .spawn("admin-listener", http::serve(broker.clone(), admin)),
        );
    }
    host(&broker, ends.unwrap_or_default(), incoming, &mut tasks).await?;
    serve(&broker, listeners, &mut tasks);
    *broker.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
    announce(&broker, began);
    Ok(broker)
}

/// Runs the controller; where it fails, the broker stops.
async fn control(task: crate::controller::ControllerTask, drain: Arc<Drain>) {
    if let Err(error) = task.run().await {
        tracing::trace!(target: "klamm::probe", name = "controller-failed");
        // What the metadata says can no longer be trusted, and so neither can this broker.
        tracing::error!(%error, "the controller failed: the broker stops");
        drain.start();
    }
}

async fn listen(env: &Env, config: &BrokerConfig) -> Result<Vec<Box<dyn Listener>>, StartError> {
    let mut listeners = Vec::with_capacity(config.listeners.len());
    for wanted in &config.listeners {
        listeners.push(bind(env, "listeners", &wanted.host, wanted.port).await?);
    }
    Ok(listeners)
}

async fn listen_admin(
    env: &Env,
    config: &BrokerConfig,
) -> Result<Option<Box<dyn Listener>>, StartError> {
    match &config.admin_listener {
        None => Ok(None),
        Some(at) => Ok(Some(
            bind(env, "klamm.admin.listener", &at.host, at.port).await?,
        )),
    }
}

async fn bind(
    env: &Env,
    name: &'static str,
    host: &str,
    port: u16,
) -> Result<Box<dyn Listener>, StartError> {
    let address = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let listening = env.net.listen(&address).await;
    listening.map_err(|source| StartError::Listen {
        name,
        address,
        source,
    })
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
    Ok(all)
}

async fn open_controller(
    env: &Env,
    config: &BrokerConfig,
    dirs: &[LogDir],
    updates: mpsc::Sender<ImageUpdate>,
) -> Result<(Controller, crate::controller::ControllerTask), StartError> {
    let paths: Vec<PathBuf> = dirs.iter().map(|dir| dir.path.clone()).collect();
    let snapshot_bytes = config.metadata_snapshot_bytes;
    let quorum =
        LocalQuorum::open(env.disk.clone(), &paths, config.node_id, snapshot_bytes).await?;
    let defaults = config.defaults().clone();
    Ok(Controller::open(env, Box::new(quorum), config.node_id, defaults, updates).await?)
}

fn start_shards(env: &Env, config: &BrokerConfig, tasks: &mut Vec<Task>) -> Vec<ShardHandle> {
    let count = config.worker_threads.max(1);
    let start = |_| {
        let (shard, task) = ShardHandle::start(env);
        tasks.push(task);
        shard
    };
    (0..count).map(start).collect()
}

/// Founds or rejoins the cluster. Changes of the metadata that come up are not carried out here:
/// the hosting starts from the image that results.
async fn register(
    env: &Env,
    config: &BrokerConfig,
    controller: &Controller,
    dirs: &[LogDir],
    after_clean_shutdown: bool,
    incoming: &mut mpsc::Receiver<ImageUpdate>,
) -> Result<(), StartError> {
    let incarnation = Uuid::from_random(env.entropy.stream("incarnation").bytes());
    let request = RegisterBroker {
        id: config.node_id,
        incarnation,
        endpoints: endpoints(config),
        rack: config.rack.clone(),
        directories: Vec::new(),
        after_clean_shutdown,
    };
    let registered = async {
        controller.found(dirs[0].meta.cluster_id).await?;
        controller.register_broker(request).await
    };
    let mut registered = std::pin::pin!(registered);
    loop {
        tokio::select! {
            biased;
            Some(update) = incoming.recv() => { let _ = update.done.send(()); }
            outcome = &mut registered => {
                outcome?;
                return Ok(());
            }
        }
    }
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

/// Opens every log, then keeps following the metadata.
async fn host(
    broker: &Arc<Broker>,
    ends: Ends,
    mut incoming: mpsc::Receiver<ImageUpdate>,
    tasks: &mut Vec<Task>,
) -> Result<(), StartError> {
    let image = broker.controller.image();
    let hosting = Hosting::new(broker.clone(), &image, ends).await;
    let mut hosting = hosting.map_err(StartError::Hosting)?;
    hosting.host_all(&image).await;
    tasks.push(broker.env.spawn("hosting", async move {
        while let Some(update) = incoming.recv().await {
            hosting.apply(&update.image, &update.delta).await;
            let _ = update.done.send(());
        }
    }));
    Ok(())
}

fn serve(broker: &Arc<Broker>, listeners: Vec<Box<dyn Listener>>, tasks: &mut Vec<Task>) {
    let env = &broker.env;
    tasks.push(env.spawn("maintenance", maintenance::run(broker.clone())));
    if broker.config.cleaner.enable {
        tasks.push(env.spawn("log-cleaner", maintenance::clean(broker.clone())));
    }
    let addresses = listeners
        .iter()
        .map(|listener| listener.local_address())
        .collect();
    *broker
        .addresses
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = addresses;
    for (index, listener) in listeners.into_iter().enumerate() {
        tasks.push(env.spawn("listener", listener::serve(broker.clone(), listener, index)));
    }
    tasks.push(env.spawn("advertised-check", self_check::run(broker.clone())));
    broker.ready.store(true, Ordering::Release);
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
