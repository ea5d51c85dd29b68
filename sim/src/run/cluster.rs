//! The nodes of a run, and whom a fault means.

use std::sync::Arc;
use std::time::Duration;

use klamm::env::Env;
use klamm_jepsen::history::Partition;

use super::server::{End, Server};
use crate::plan::{Fault, Target};
use crate::watch::Watch;

/// All nodes that run the broker. Cloning shares them.
#[derive(Clone)]
pub(super) struct Cluster {
    servers: Arc<Vec<Server>>,
    watch: Watch,
}

impl Cluster {
    pub(super) fn new(servers: Vec<Server>, watch: Watch) -> Self {
        Self {
            servers: Arc::new(servers),
            watch,
        }
    }

    pub(super) fn servers(&self) -> &[Server] {
        &self.servers
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(super) fn names(&self) -> Vec<String> {
        let each = self.servers.iter();
        each.map(|server| server.name().to_owned()).collect()
    }

    /// Where what concerns the whole cluster is told.
    pub(super) fn first(&self) -> &Server {
        self.servers.first().expect("a plan has a node")
    }

    /// The nodes that a fault means. Who is asked for by its part and not known is the first.
    pub(super) fn find(&self, node: &str) -> Vec<Server> {
        if node == "all" {
            return self.servers.to_vec();
        }
        let name = self.name(node);
        let found = self.servers.iter().find(|server| server.name() == name);
        vec![found.unwrap_or(self.first()).clone()]
    }

    /// The name of the host that is meant.
    fn name(&self, node: &str) -> String {
        if node == "controller" {
            let active = self.watch.controller();
            return active.unwrap_or_else(|| self.first().name().to_owned());
        }
        let Some(partition) = node.strip_prefix("leader ") else {
            return node.to_owned();
        };
        let of = partition.rsplit_once('-').and_then(|(topic, number)| {
            Some(Partition {
                topic: topic.to_owned(),
                partition: number.parse().ok()?,
            })
        });
        let leader = of.and_then(|of| self.watch.leader(&of));
        leader.unwrap_or_else(|| self.first().name().to_owned())
    }

    /// The fault of the network with the names of those it means.
    pub(super) fn named(&self, mut fault: Fault) -> Fault {
        match &mut fault {
            Fault::Cut { link, .. }
            | Fault::Stall { link, .. }
            | Fault::Reset { link }
            | Fault::Slow { link, .. } => {
                let Target { from, to } = link;
                (*from, *to) = (self.name(from), self.name(to));
            }
            Fault::Refuse { node, .. }
            | Fault::Swizzle { node, .. }
            | Fault::Isolate { node, .. } => *node = self.name(node),
            Fault::Split { sides, .. } => {
                for node in sides.iter_mut().flatten() {
                    *node = self.name(node);
                }
            }
            _ => {}
        }
        fault
    }

    /// Whether every node serves that is not kept down.
    pub(super) fn is_serving(&self) -> bool {
        let mut wanted = self.servers.iter().filter(|server| !server.is_parked());
        wanted.all(Server::is_serving)
    }

    /// Stops all nodes in order at once.
    pub(super) async fn stop(&self, observer: &Env) {
        if let [server] = &self.servers[..] {
            return server.hold(End::Stop).await;
        }
        let stopping = self.servers.iter().map(|server| {
            let server = server.clone();
            observer.spawn("stop", async move { server.hold(End::Stop).await })
        });
        for stop in stopping.collect::<Vec<_>>() {
            stop.join().await;
        }
    }

    /// Stops and starts those whose log may be offline for an error of its disk, one after another.
    pub(super) async fn restart_failed(&self, observer: &Env, within: Duration) {
        for server in self.servers.iter().filter(|server| server.met_errors()) {
            if server.is_serving() {
                server.hold(End::Stop).await;
            } else if server.is_starting() {
                // What it has met already would stay offline with it.
                server.hold(End::Kill).await;
            } else {
                continue;
            }
            server.release();
            if self.servers.len() > 1 {
                let serving = server.wait_until_serving(observer);
                // Who does not come back is judged by the phase that follows.
                let _ = observer.timeout(within, serving).await;
            }
        }
    }
}
