//! `klamm cluster`: info, health, metadata, api-versions, log-dirs, elect, reassign, drain,
//! unregister.

mod drain;
mod drain_plan;
mod elect;
mod reassign;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::options::Seconds;
use super::report::{Table, error_json, listed, or_dash, pairs, size};
use super::session::Session;
use crate::client::admin::ClusterDescription;
use crate::client::{Admin, Lane};
use crate::types::BrokerId;
use crate::wire::ApiKey;

/// Brokers, health, metadata, versions, log directories, where partitions are
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  klamm cluster info
  klamm cluster health --wait 30     0 once healthy, 3 if it is not within 30 s
  klamm cluster metadata
  klamm cluster api-versions
  klamm cluster log-dirs
  klamm cluster elect --all              give every partition its preferred leader
  klamm cluster reassign orders:0 --to 1,2,3 --wait
  klamm cluster reassign                 what is on the move
  klamm cluster drain 3                  move all that broker 3 holds to others
  klamm cluster unregister 3             forget broker 3, once it has stopped for good")]
pub struct ClusterCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// The cluster's id, controller and brokers
    Info,
    /// Whether every broker answers and every partition has its leader and replicas
    Health {
        /// Ask again until it is healthy, at most this long
        #[arg(long, value_name = "SECONDS")]
        wait: Option<Seconds>,
    },
    /// All brokers, topics and partitions
    Metadata,
    /// Versions of each API that brokers serve and this client speaks
    ApiVersions,
    /// Log directories of brokers and what they hold
    LogDirs {
        /// Only of these brokers
        #[arg(long, value_name = "ID")]
        broker: Vec<i32>,
    },
    /// Elect leaders: the preferred replicas, or with --unclean whatever replica is left
    Elect(elect::ElectOptions),
    /// Move partitions to other brokers; without arguments, show what is on the move
    Reassign(reassign::ReassignOptions),
    /// Move everything a broker holds to others, before it is stopped for good
    Drain(drain::DrainOptions),
    /// Forget a broker that has stopped for good and holds nothing
    Unregister {
        /// The broker's node.id
        broker: i32,
    },
}

pub async fn run(session: &mut Session, command: ClusterCommand) -> Result<(), Failure> {
    match command.action {
        Action::Health { wait } => return health(session, wait).await,
        action => {
            let admin = session.admin().await?;
            match action {
                Action::Info => info(session, &admin).await,
                Action::Metadata => metadata(session, &admin).await,
                Action::ApiVersions => api_versions(session, &admin).await,
                Action::LogDirs { broker } => log_dirs(session, &admin, &broker).await,
                Action::Elect(options) => elect::run(session, &admin, options).await,
                Action::Reassign(options) => reassign::run(session, &admin, options).await,
                Action::Drain(options) => drain::run(session, &admin, options).await,
                Action::Unregister { broker } => unregister(session, &admin, broker).await,
                Action::Health { .. } => Ok(()),
            }
        }
    }
}

fn brokers_json(cluster: &ClusterDescription) -> Vec<Value> {
    let brokers = cluster.brokers.iter().map(|broker| {
        json!({
            "id": broker.id.0, "host": broker.host, "port": broker.port, "rack": broker.rack,
        })
    });
    brokers.collect()
}

fn brokers_text(cluster: &ClusterDescription) -> String {
    let mut table = Table::new(&[">id", "address", "rack", "role"]);
    for broker in &cluster.brokers {
        let is_controller = cluster.controller == Some(broker.id);
        table.row(vec![
            broker.id.to_string(),
            broker.address(),
            or_dash(broker.rack.as_ref()),
            if is_controller {
                "controller".to_owned()
            } else {
                "-".to_owned()
            },
        ]);
    }
    table.text()
}

async fn info(session: &mut Session, admin: &Admin) -> Result<(), Failure> {
    let cluster = session.call(admin.describe_cluster()).await?;
    let json = json!({
        "cluster_id": cluster.cluster_id,
        "controller": cluster.controller.map(|id| id.0),
        "brokers": brokers_json(&cluster),
    });
    let head = pairs(&[
        ("Cluster", or_dash(cluster.cluster_id.as_ref())),
        ("Controller", or_dash(cluster.controller)),
        ("Brokers", cluster.brokers.len().to_string()),
    ]);
    session.answer(&json, &format!("{head}\n\n{}", brokers_text(&cluster)))
}

/// What is wrong with a cluster.
#[derive(Default)]
struct Health {
    brokers: usize,
    unreachable: Vec<(BrokerId, String)>,
    partitions: usize,
    leaderless: Vec<String>,
    under_replicated: Vec<String>,
}

impl Health {
    fn is_healthy(&self) -> bool {
        self.unreachable.is_empty()
            && self.leaderless.is_empty()
            && self.under_replicated.is_empty()
    }

    fn json(&self) -> Value {
        let unreachable: Vec<Value> = self
            .unreachable
            .iter()
            .map(|(id, reason)| json!({ "broker": id.0, "reason": reason }))
            .collect();
        json!({
            "healthy": self.is_healthy(), "brokers": self.brokers, "unreachable": unreachable,
            "partitions": self.partitions, "leaderless_partitions": self.leaderless,
            "under_replicated_partitions": self.under_replicated,
        })
    }

    fn text(&self) -> String {
        let reasons = self
            .unreachable
            .iter()
            .map(|(id, reason)| format!("{id} ({reason})"));
        pairs(&[
            (
                "Healthy",
                if self.is_healthy() { "yes" } else { "no" }.to_owned(),
            ),
            ("Brokers", self.brokers.to_string()),
            ("Not answering", listed(reasons)),
            ("Partitions", self.partitions.to_string()),
            ("Without a leader", listed(&self.leaderless)),
            ("Under-replicated", listed(&self.under_replicated)),
        ])
    }
}

async fn health(session: &mut Session, wait: Option<Seconds>) -> Result<(), Failure> {
    let within = wait.map_or(Duration::ZERO, |wait| wait.0);
    let deadline = session.env.now().plus(within);
    loop {
        let seen = look(session).await;
        let late = session.env.now() >= deadline;
        match seen {
            Ok(health) if health.is_healthy() || late => {
                session.answer(&health.json(), &health.text())?;
                return match (health.is_healthy(), wait) {
                    (true, _) => Ok(()),
                    (false, None) => Err(Failure::Failed("the cluster is not healthy".to_owned())),
                    (false, Some(_)) => Err(Failure::OutOfTime(format!(
                        "the cluster did not become healthy within {} s",
                        within.as_secs_f64()
                    ))),
                };
            }
            Err(failure) if late || failure.exit_code() != 3 => return Err(failure),
            _ => {}
        }
        let pause = session.env.sleep(Duration::from_millis(200));
        session.interrupt.or(pause).await?;
    }
}

async fn look(session: &mut Session) -> Result<Health, Failure> {
    let admin = session.admin().await?;
    let topics = session.call(admin.list_topics()).await?;
    let view = admin.cluster().view();
    let mut health = Health {
        brokers: view.brokers.len(),
        ..Health::default()
    };
    let within = session.options.timeout.0.min(Duration::from_secs(5));
    for id in view.brokers.keys() {
        let connected = session
            .env
            .timeout(within, admin.cluster().connection(*id, Lane::Control));
        match session.interrupt.or(connected).await? {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => health.unreachable.push((*id, error.to_string())),
            Err(error) => health.unreachable.push((*id, error.to_string())),
        }
    }
    for topic in topics.values() {
        health.partitions += topic.partitions.len();
        for partition in topic.partitions.values() {
            let name = || format!("{}-{}", topic.name, partition.partition);
            if partition.leader.is_none() {
                health.leaderless.push(name());
            } else if partition.isr.len() < partition.replicas.len() {
                health.under_replicated.push(name());
            }
        }
    }
    Ok(health)
}

async fn metadata(session: &mut Session, admin: &Admin) -> Result<(), Failure> {
    let cluster = session.call(admin.describe_cluster()).await?;
    let topics = session.call(admin.list_topics()).await?;
    let columns = [
        "topic",
        ">partition",
        ">leader",
        ">epoch",
        "replicas",
        "isr",
    ];
    let mut table = Table::new(&columns);
    let mut list = Vec::new();
    for topic in topics.values() {
        let mut partitions = Vec::new();
        for p in topic.partitions.values() {
            table.row(vec![
                topic.name.to_string(),
                p.partition.to_string(),
                p.leader
                    .map_or_else(|| "none".to_owned(), |id| id.to_string()),
                p.leader_epoch.0.to_string(),
                listed(&p.replicas),
                listed(&p.isr),
            ]);
            partitions.push(json!({
                "partition": p.partition, "leader": p.leader.map(|id| id.0),
                "leader_epoch": p.leader_epoch.0,
                "replicas": p.replicas.iter().map(|id| id.0).collect::<Vec<_>>(),
                "isr": p.isr.iter().map(|id| id.0).collect::<Vec<_>>(),
            }));
        }
        list.push(json!({
            "name": &*topic.name, "internal": topic.is_internal,
            "id": (!topic.id.is_zero()).then(|| topic.id.to_string()),
            "partitions": partitions,
        }));
    }
    let json = json!({
        "cluster_id": cluster.cluster_id, "controller": cluster.controller.map(|id| id.0),
        "brokers": brokers_json(&cluster), "topics": list,
    });
    let text = match table.is_empty() {
        true => brokers_text(&cluster),
        false => format!("{}\n\n{}", brokers_text(&cluster), table.text()),
    };
    session.answer(&json, &text)
}

async fn unregister(session: &mut Session, admin: &Admin, broker: i32) -> Result<(), Failure> {
    session
        .call(admin.unregister_broker(BrokerId(broker)))
        .await?;
    let text = format!("broker {broker} unregistered");
    session.answer(&json!({ "broker": broker }), &text)
}

async fn api_versions(session: &mut Session, admin: &Admin) -> Result<(), Failure> {
    let brokers = session.call(admin.api_versions()).await?;
    let mut table = Table::new(&[">broker", ">key", "api", "broker serves", "client speaks"]);
    let mut list = Vec::new();
    let mut failed = 0;
    for (id, ranges) in &brokers {
        let mut apis = Vec::new();
        let ranges = ranges.as_ref().inspect_err(|error| {
            failed += 1;
            session
                .terminal
                .note(&format!("klamm: broker {id}: {error}"));
        });
        for (key, (first, last)) in ranges.into_iter().flatten() {
            let known = ApiKey::from_wire(*key);
            let spoken = known.map(ApiKey::versions);
            let name = known.map(ApiKey::name);
            table.row(vec![
                id.to_string(),
                key.to_string(),
                or_dash(name),
                format!("{first}-{last}"),
                or_dash(
                    spoken
                        .as_ref()
                        .map(|r| format!("{}-{}", r.start(), r.end())),
                ),
            ]);
            apis.push(json!({
                "key": key, "name": name, "min": first, "max": last,
                "client_min": spoken.as_ref().map(|r| *r.start()),
                "client_max": spoken.as_ref().map(|r| *r.end()),
            }));
        }
        list.push(json!({ "broker": id.0, "apis": apis }));
    }
    session.answer(&json!({ "brokers": list }), &table.text())?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Partly {
            failed,
            all: brokers.len(),
        }),
    }
}

async fn log_dirs(session: &mut Session, admin: &Admin, brokers: &[i32]) -> Result<(), Failure> {
    let asked: Vec<BrokerId> = brokers.iter().map(|id| BrokerId(*id)).collect();
    let found = session.call(admin.describe_log_dirs(&asked)).await?;
    let mut table = Table::new(&[
        ">broker",
        "directory",
        ">partitions",
        ">size",
        ">free",
        "error",
    ]);
    let mut list = Vec::new();
    let (mut failed, mut all) = (0, 0);
    for (id, dirs) in &found {
        for (path, result) in dirs {
            all += 1;
            failed += usize::from(result.is_err());
            let dir = result.as_ref().ok();
            let held = dir.into_iter().flat_map(|dir| &dir.partitions);
            let bytes: i64 = held
                .clone()
                .map(|(_, partition)| partition.size_bytes)
                .sum();
            let count = held.clone().count();
            let usable = dir.and_then(|dir| dir.usable_bytes);
            table.row(vec![
                id.to_string(),
                path.clone(),
                count.to_string(),
                size(u64::try_from(bytes).unwrap_or(0)),
                or_dash(usable.map(size)),
                or_dash(result.as_ref().err()),
            ]);
            let partitions = held.map(|(key, partition)| {
                json!({
                    "topic": &*key.topic, "partition": key.partition,
                    "size_bytes": partition.size_bytes, "offset_lag": partition.offset_lag,
                    "future": partition.is_future,
                })
            });
            list.push(json!({
                "broker": id.0, "path": path, "size_bytes": bytes, "usable_bytes": usable,
                "total_bytes": dir.and_then(|dir| dir.total_bytes),
                "partitions": partitions.collect::<Vec<Value>>(),
                "error": error_json(result.as_ref().err()),
            }));
        }
    }
    session.answer(&json!({ "log_dirs": list }), &table.text())?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Partly { failed, all }),
    }
}
