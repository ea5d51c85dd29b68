//! What a node stands on: its listeners, its data directories, and the cluster's metadata, which it
//! keeps alone or with others.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::cluster::{Arriving, ClusterPart};
use super::connection::Serving;
use super::door::{Door, NodeDoor};
use super::drain::Drain;
use super::listener;
use super::log_dir::{LogDir, TakenDirs};
use super::metrics::Metrics;
use super::quorum_admin::QuorumDesk;
use super::start::StartError;
use crate::config::{Advertised, BrokerConfig, Membership, address};
use crate::controller::{Controller, ControllerTask, ImageUpdate, LocalQuorum};
use crate::env::{Env, Listener, Task};
use crate::types::Uuid;

/// Listeners that are bound and accept nobody yet.
pub struct Bound {
    /// With the place of each among the settings.
    pub clients: Vec<(usize, Box<dyn Listener>)>,
    /// `ip:port` of every listener for clients.
    pub addresses: Vec<String>,
    pub nodes: Vec<Box<dyn Listener>>,
    pub admin: Option<Box<dyn Listener>>,
}

impl Bound {
    /// Binds every listener of `config`. In a cluster the ports that were taken are what the node
    /// advertises where the settings left them open.
    pub async fn listen(env: &Env, config: &mut BrokerConfig) -> Result<Self, StartError> {
        let mut bound = Self {
            clients: Vec::with_capacity(config.listeners.len()),
            addresses: Vec::with_capacity(config.listeners.len()),
            nodes: Vec::with_capacity(config.quorum.listeners.len()),
            admin: None,
        };
        for (index, wanted) in config.listeners.iter_mut().enumerate() {
            let listener = bind(env, "listeners", &wanted.host, wanted.port).await?;
            let at = listener.local_address();
            if let Advertised::Fixed { port, .. } = &mut wanted.advertised
                && *port == 0
            {
                let taken = at.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
                *port = taken.unwrap_or(0);
            }
            bound.addresses.push(at);
            bound.clients.push((index, listener));
        }
        for wanted in &config.quorum.listeners {
            let listener = bind(env, "listeners", &wanted.host, wanted.port).await?;
            bound.nodes.push(listener);
        }
        if let Some(at) = &config.admin_listener {
            bound.admin = Some(bind(env, "klamm.admin.listener", &at.host, at.port).await?);
        }
        Ok(bound)
    }
}

async fn bind(
    env: &Env,
    name: &'static str,
    host: &str,
    port: u16,
) -> Result<Box<dyn Listener>, StartError> {
    let address = address(host, port);
    let listening = env.net.listen(&address).await;
    listening.map_err(|source| StartError::Listen {
        name,
        address,
        source,
    })
}

/// What a node stands on.
pub struct Ground {
    pub bound: Bound,
    pub log_dirs: Vec<LogDir>,
    pub controller: Controller,
    pub task: ControllerTask,
    pub cluster: Option<Arc<ClusterPart>>,
    /// Where administrators ask about the quorum.
    pub desk: QuorumDesk,
    /// By which other nodes ask already.
    pub door: Option<Arc<NodeDoor>>,
}

/// For a node that is a cluster by itself.
pub async fn alone(
    env: &Env,
    config: &BrokerConfig,
    dirs: TakenDirs,
    bound: Bound,
    updates: mpsc::Sender<ImageUpdate>,
) -> Result<Ground, StartError> {
    let cluster_id = dirs.cluster_id.unwrap_or(dirs.new_cluster_id);
    let log_dirs = dirs.settle(env, cluster_id, Membership::Alone).await?;
    let paths: Vec<PathBuf> = log_dirs.iter().map(|dir| dir.path.clone()).collect();
    let snapshot_bytes = config.metadata_snapshot_bytes;
    let quorum =
        LocalQuorum::open(env.disk.clone(), &paths, config.node_id, snapshot_bytes).await?;
    let defaults = config.defaults().clone();
    let quorum = Box::new(quorum);
    let (controller, task) =
        Controller::open(env, quorum, config.node_id, defaults, updates).await?;
    let directory_id = log_dirs[0].meta.directory_id;
    Ok(Ground {
        bound,
        desk: QuorumDesk::alone(env, config.node_id, directory_id, controller.clone()),
        log_dirs,
        controller,
        task,
        cluster: None,
        door: None,
    })
}

/// For a node of a cluster of several; returns once it has metadata of its cluster.
pub async fn in_cluster(
    env: &Env,
    config: &BrokerConfig,
    dirs: TakenDirs,
    incarnation: Uuid,
    mut bound: Bound,
    (metrics, drain): (Arc<Metrics>, Arc<Drain>),
    updates: mpsc::Sender<ImageUpdate>,
) -> Result<Ground, StartError> {
    let arriving = Arriving::new(env, config, &dirs, incarnation);
    let door = NodeDoor::new(arriving.gate());
    let peer_drain = Arc::new(Drain::default());
    let mut serving = Serving {
        env: env.clone(),
        network: config.network.clone(),
        metrics: Arc::new(Metrics::default()),
        drain: peer_drain.clone(),
        door: Door::Nodes(door.clone()),
        memory: Arc::default(),
    };
    let first = config.listeners.len();
    let mut listeners: Vec<(usize, Box<dyn Listener>)> =
        (first..).zip(std::mem::take(&mut bound.nodes)).collect();
    if !config.quorum.is_controller {
        // A broker is asked where other brokers reach it.
        let name = &config.quorum.inter_broker_listener;
        let at = config.listeners.iter().position(|one| one.name == *name);
        listeners.extend(
            bound
                .clients
                .extract_if(.., |(index, _)| Some(*index) == at),
        );
        (serving.metrics, serving.drain) = (metrics, drain);
    }
    let serving = Arc::new(serving);
    let serve = |(index, listener)| {
        env.spawn(
            "node-listener",
            listener::serve(serving.clone(), listener, index),
        )
    };
    let tasks: Vec<Task> = listeners.into_iter().map(serve).collect();
    let arrived = arriving
        .arrive(env, config, dirs, peer_drain, tasks)
        .await?;
    let (log_dirs, quorum, part) = arrived;
    let (controller, task) = Controller::open_in_cluster(
        env,
        Box::new(quorum),
        config.node_id,
        config.defaults().clone(),
        &config.replication,
        part.forward(),
        updates,
    );
    part.open_controller(controller.clone());
    Ok(Ground {
        bound,
        log_dirs,
        controller,
        task,
        desk: part.desk.clone(),
        cluster: Some(Arc::new(part)),
        door: Some(door),
    })
}
