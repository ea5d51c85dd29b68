//! What a person does to a cluster while it runs.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use klamm::env::{Env, Rng};
use tokio::sync::Semaphore;

use super::Stage;
use super::nemesis::Nemesis;
use super::server::{End, Server};
use crate::plan::Fault;
use crate::workload::operator::Operator;

/// How long an operator tries.
const OPERATION_MAX: Duration = Duration::from_secs(60);

/// Operators and what they have begun. Cloning shares it.
#[derive(Clone)]
pub(super) struct Operators {
    env: Env,
    broker: String,
    root: [u8; 32],
    begun: Arc<AtomicU64>,
    under_way: Arc<AtomicU64>,
    /// One after another: a disk that is lost while another voter is out would be one of two.
    turn: Arc<Semaphore>,
}

impl Operators {
    pub(super) fn new(env: Env, broker: String, root: [u8; 32]) -> Self {
        Self {
            env,
            broker,
            root,
            begun: Arc::default(),
            under_way: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    fn operator(&self) -> Operator {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let rng = Rng::derived(self.root, "operator", number);
        Operator::new(&self.env, &self.broker, rng, OPERATION_MAX)
    }

    /// Carries out `what` to its end.
    pub(super) fn whole(&self, what: impl Future<Output = ()> + Send + 'static) {
        let under_way = Arc::clone(&self.under_way);
        under_way.fetch_add(1, Ordering::Relaxed);
        let doing = async move {
            what.await;
            under_way.fetch_sub(1, Ordering::Relaxed);
        };
        self.env.spawn("operator", doing).detach();
    }

    /// Waits until everything that was begun has ended.
    pub(super) async fn end(&self) {
        while self.under_way.load(Ordering::Relaxed) > 0 {
            self.env.sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Stage {
    /// What operators began has to be ended before progress can be asked for.
    pub(super) async fn operators_end(&self) {
        let within = OPERATION_MAX + Duration::from_secs(10);
        let ended = self.observer.timeout(within, self.operators.end()).await;
        if ended.is_err() {
            let detail = "what an operator asked for has no end";
            self.cluster.first().broken("V6", detail);
        }
    }
}

impl Nemesis {
    pub(super) async fn by_operator(&self, fault: Fault) {
        let mut operator = self.operators.operator();
        match fault {
            Fault::Reassign { topic } => {
                // Nobody promised that it works: the topic may be gone.
                let _ = operator.reassign(&topic).await;
            }
            Fault::Elect { topic } => {
                let found = self.plan.topics.iter().find(|of| of.name == topic);
                let count = found.map_or(1, |of| of.partitions);
                let _ = operator.elect(&topic, count).await;
            }
            Fault::Lead { topic, node } => {
                for id in self.cluster.find(&node).iter().filter_map(Server::id) {
                    let _ = operator.lead(&topic, id).await;
                }
            }
            Fault::Revote {
                node,
                wipe,
                down_ms,
            } => {
                let nemesis = self.clone();
                for server in self.cluster.find(&node) {
                    let down = Duration::from_millis(down_ms);
                    self.whole(nemesis.clone().revote(server, wipe, down));
                }
            }
            Fault::AddNode { node } => {
                let nemesis = self.clone();
                for server in self.cluster.find(&node) {
                    self.whole(nemesis.clone().add(server));
                }
            }
            _ => {}
        }
    }

    /// Carries it out to its end, also when the faults end before, and once what was begun before
    /// has ended.
    fn whole(&self, what: impl Future<Output = ()> + Send + 'static) {
        let under_way = Arc::clone(&self.operators.under_way);
        under_way.fetch_add(1, Ordering::Relaxed);
        let turn = Arc::clone(&self.operators.turn);
        let doing = async move {
            let _turn = turn.acquire().await;
            what.await;
            under_way.fetch_sub(1, Ordering::Relaxed);
        };
        self.observer.spawn("operator", doing).detach();
    }

    async fn revote(self, server: Server, wipe: bool, down: Duration) {
        let (Some(id), mut operator) = (server.id(), self.operators.operator()) else {
            return;
        };
        let mut gone = None;
        if wipe {
            server.park(End::PowerLoss).await;
            server.node().disk().lose_all();
            self.cluster.watch().wiped(server.name());
            gone = operator.directory(id).await;
        }
        let removed = operator.remove_voter(id).await;
        if let Err(error) = &removed {
            let detail = format!("voter {id} could not be taken out: {error}");
            self.cluster.first().broken("V6", &detail);
        }
        self.observer.sleep(down).await;
        server.unpark();
        let mut operator = self.operators.operator();
        if let Err(error) = operator.add_voter(id, server.name(), gone).await {
            let detail = format!("voter {id} could not be added: {error}");
            self.cluster.first().broken("V6", &detail);
        }
    }

    async fn add(self, server: Server) {
        let (Some(id), mut operator) = (server.id(), self.operators.operator()) else {
            return;
        };
        server.unpark();
        if let Err(error) = operator.add_voter(id, server.name(), None).await {
            let detail = format!("voter {id} could not be added: {error}");
            self.cluster.first().broken("V6", &detail);
        }
    }
}
