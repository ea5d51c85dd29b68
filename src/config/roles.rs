//! A node's part in its cluster, from the settings: what it is, who votes, where the others are.
//!
//! A node whose settings name no other node is a cluster by itself. Anything that would make a
//! node run as a second, separate cluster by mistake is refused here, with the setting and the fix.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::broker::Typed;
use super::cluster::{QuorumConfig, ReplicationConfig, Voter};
use super::listener::{self, Advertised, Listener, Listeners};
use crate::types::BrokerId;

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;

const ROLES: &str = "process.roles";
const VOTERS: &str = "controller.quorum.voters";
const BOOTSTRAP: &str = "controller.quorum.bootstrap.servers";
const CONTROLLERS: &str = "controller.listener.names";
const INTER_BROKER: &str = "inter.broker.listener.name";

/// What the settings say of the cluster, before listeners are looked at.
pub(super) struct Part {
    pub(super) is_broker: bool,
    pub(super) is_controller: bool,
    voters: Vec<Voter>,
    bootstrap: Vec<(String, u16)>,
}

impl Part {
    pub(super) fn of(typed: &mut Typed<'_>) -> Self {
        let roles: BTreeSet<String> = typed.list(ROLES).into_iter().collect();
        Self {
            is_broker: roles.is_empty() || roles.contains("broker"),
            is_controller: roles.is_empty() || roles.contains("controller"),
            voters: voters(typed),
            bootstrap: bootstrap(typed),
        }
    }

    /// Whether no other node is named. `own` are this node's addresses for controllers, `hosts`
    /// the names it is known by.
    pub(super) fn is_alone(&self, node: BrokerId, own: &[Listener], hosts: &[String]) -> bool {
        let is_own = |(host, port): &(String, u16)| {
            let local = matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1" | "");
            // Without a listener for controllers the port tells nothing.
            let port_fits = own.is_empty() || own.iter().any(|one| told_port(one) == *port);
            port_fits && (local || hosts.contains(host))
        };
        let alone_by_voters = self.voters.iter().all(|voter| voter.id == node);
        let alone_by_servers = self.bootstrap.iter().all(is_own);
        self.is_broker && self.is_controller && alone_by_voters && alone_by_servers
    }

    /// The name other nodes know this one by, where the settings say.
    pub(super) fn own_host(&self, node: BrokerId) -> Option<&str> {
        let own = self.voters.iter().find(|voter| voter.id == node)?;
        Some(&own.host)
    }
}

/// The port others are told to connect to.
fn told_port(listener: &Listener) -> u16 {
    match &listener.advertised {
        Advertised::Echo { port } | Advertised::Fixed { port, .. } => *port,
    }
}

fn voters(typed: &mut Typed<'_>) -> Vec<Voter> {
    const WANTED: &str = "write id@host:port for each controller, for instance \
                          1@a:9093,2@b:9093,3@c:9093, the same on every node";
    let mut voters: BTreeMap<BrokerId, Voter> = BTreeMap::new();
    let mut addresses = BTreeSet::new();
    for text in typed.list(VOTERS) {
        let voter = match voter(&text) {
            Ok(voter) => voter,
            Err(reason) => {
                typed.refuse(VOTERS, &reason, WANTED);
                continue;
            }
        };
        if !addresses.insert((voter.host.clone(), voter.port)) {
            let reason = format!("{}:{} is given to two voters", voter.host, voter.port);
            typed.refuse(VOTERS, &reason, "give each voter an address of its own");
        }
        let id = voter.id;
        if voters.insert(id, voter).is_some() {
            let reason = format!("voter {id} is given twice");
            typed.refuse(VOTERS, &reason, "give each node an id of its own");
        }
    }
    voters.into_values().collect()
}

fn voter(text: &str) -> Result<Voter, String> {
    let (id, address) = text
        .split_once('@')
        .ok_or_else(|| format!("'{text}' is not of the form id@host:port"))?;
    let id = id
        .trim()
        .parse()
        .ok()
        .filter(|id| *id >= 0)
        .ok_or_else(|| format!("'{id}' is not a node id"))?;
    let (host, port) = reachable(address)?;
    let id = BrokerId(id);
    Ok(Voter { id, host, port })
}

/// Host and port of an address that others connect to.
fn reachable(text: &str) -> Result<(String, u16), String> {
    let (host, port) = listener::host_and_port(text)?;
    if listener::is_wildcard(&host) {
        return Err(format!(
            "'{text}' names no host that others could connect to"
        ));
    }
    if port == 0 {
        return Err(format!("'{text}' has port 0, to which nobody can connect"));
    }
    Ok((host, port))
}

fn bootstrap(typed: &mut Typed<'_>) -> Vec<(String, u16)> {
    let mut servers = Vec::new();
    for text in typed.list(BOOTSTRAP) {
        match listener::host_and_port(&text) {
            Ok(server) if !servers.contains(&server) => servers.push(server),
            Ok(_) => {}
            Err(reason) => typed.refuse(
                BOOTSTRAP,
                &reason,
                "write the host:port of controller listeners, comma-separated",
            ),
        }
    }
    servers
}

/// Typed settings.
impl Typed<'_> {
    pub(super) fn quorum(&mut self, part: Part, listeners: &Listeners) -> QuorumConfig {
        let node = self.node_id();
        let inter_broker_listener = self.inter_broker_listener(&part, listeners);
        let (voters, bootstrap) = match listeners.is_alone {
            true => (Vec::new(), Vec::new()),
            false => {
                self.check_part(&part, node, &listeners.controllers);
                (part.voters, part.bootstrap)
            }
        };
        let address = |(host, port): &(String, u16)| super::cluster::address(host, *port);
        QuorumConfig {
            is_broker: part.is_broker,
            is_controller: part.is_controller,
            voters,
            bootstrap_servers: bootstrap.iter().map(address).collect(),
            listeners: match listeners.is_alone {
                true => Vec::new(),
                false => listeners.controllers.clone(),
            },
            inter_broker_listener,
            election_timeout: self.millis("controller.quorum.election.timeout.ms"),
            fetch_timeout: self.millis("controller.quorum.fetch.timeout.ms"),
            request_timeout: self.millis("controller.quorum.request.timeout.ms"),
        }
    }

    fn check_part(&mut self, part: &Part, node: BrokerId, own: &[Listener]) {
        if part.voters.is_empty() && part.bootstrap.is_empty() {
            let role = if part.is_broker {
                "broker"
            } else {
                "controller"
            };
            let reason = format!("a node with only the role {role} needs others");
            let fix = "set controller.quorum.voters (or controller.quorum.bootstrap.servers) to \
                       where the controllers are, or use broker,controller for a single node";
            self.refuse(ROLES, &reason, fix);
        }
        if !part.is_controller {
            self.check_not_voter(part, node);
            return;
        }
        if own.is_empty() {
            let fix = "name one of the listeners, for instance \
                       listeners=PLAINTEXT://:9092,CONTROLLER://:9093 and \
                       controller.listener.names=CONTROLLER";
            let reason = "a controller needs a listener for the other nodes";
            self.refuse(CONTROLLERS, reason, fix);
        }
        let Some(voter) = part.voters.iter().find(|voter| voter.id == node) else {
            // Without voters it joins those that the bootstrap servers know.
            if !part.voters.is_empty() {
                let reason = format!("this node ({node}) is a controller and not among the voters");
                let fix = format!(
                    "add {node}@host:port to controller.quorum.voters on every node, correct \
                     node.id, or set process.roles=broker"
                );
                self.refuse(VOTERS, &reason, &fix);
            }
            return;
        };
        let (host, port) = (&voter.host, voter.port);
        if !own.is_empty() && !own.iter().any(|listener| told_port(listener) == port) {
            let ours: Vec<String> = own
                .iter()
                .map(|listener| format!("{} on port {}", listener.name, told_port(listener)))
                .collect();
            let reason = format!(
                "it says that this node is reached at {host}:{port}, but its controller listener \
                 is {}",
                ours.join(", ")
            );
            let fix = "give the voter the port of the listener named by controller.listener.names";
            self.refuse(VOTERS, &reason, fix);
        }
    }

    fn check_not_voter(&mut self, part: &Part, node: BrokerId) {
        if part.voters.iter().any(|voter| voter.id == node) {
            let reason = format!("this node ({node}) is among the voters and not a controller");
            let fix = "add controller to process.roles, or take the node out of the voters";
            self.refuse(ROLES, &reason, fix);
        }
    }

    /// The listener by which brokers reach each other: the named one, or the first for clients.
    fn inter_broker_listener(&mut self, part: &Part, listeners: &Listeners) -> String {
        let first = || listeners.clients.first().map(|first| first.name.clone());
        let Some(name) = self.text(INTER_BROKER) else {
            return first().unwrap_or_default();
        };
        let name = name.to_ascii_uppercase();
        let is_known = listeners.clients.iter().any(|one| one.name == name);
        if !is_known && part.is_broker && !listeners.is_alone {
            let reason = format!("there is no listener named {name} for brokers");
            self.refuse(INTER_BROKER, &reason, "name one of the listeners");
        }
        name
    }

    pub(super) fn replication(&mut self) -> ReplicationConfig {
        let session_timeout = self.millis("broker.session.timeout.ms");
        let heartbeat_interval = self.millis("broker.heartbeat.interval.ms");
        if heartbeat_interval >= session_timeout {
            self.refuse(
                "broker.heartbeat.interval.ms",
                &format!("it is not below broker.session.timeout.ms ({session_timeout:?})"),
                "use at most a third of broker.session.timeout.ms",
            );
        }
        ReplicationConfig {
            fetchers: self.number("num.replica.fetchers"),
            rack_aware_reads: self
                .text("replica.selector.class")
                .is_some_and(|class| class.ends_with("RackAwareReplicaSelector")),
            high_watermark_checkpoint_interval: self
                .millis("replica.high.watermark.checkpoint.interval.ms"),
            lag_time_max: self.millis("replica.lag.time.max.ms"),
            fetch_max_bytes: self.number("replica.fetch.max.bytes"),
            fetch_response_max_bytes: self.number("replica.fetch.response.max.bytes"),
            fetch_min_bytes: self.number("replica.fetch.min.bytes"),
            fetch_wait_max: self.millis("replica.fetch.wait.max.ms"),
            fetch_backoff: self.millis("replica.fetch.backoff.ms"),
            socket_timeout: self.millis("replica.socket.timeout.ms"),
            mirror_discovery_interval: self.millis("klamm.mirror.discovery.interval.ms"),
            session_timeout,
            heartbeat_interval,
            registration_timeout: self.millis("initial.broker.registration.timeout.ms"),
            auto_leader_rebalance: self.boolean("auto.leader.rebalance.enable"),
            leader_imbalance_check_interval: Duration::from_secs(
                self.number("leader.imbalance.check.interval.seconds"),
            ),
            leader_imbalance_per_broker_percentage: self
                .number("leader.imbalance.per.broker.percentage"),
        }
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name))
    }
}
