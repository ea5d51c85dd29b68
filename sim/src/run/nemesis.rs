//! Carries out the faults of a plan, each at its time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use klamm::env::{Env, Rng, Task};
use klamm_jepsen::history::{NodeEvent, Note};

use super::cluster::Cluster;
use super::operator::Operators;
use super::server::{End, Server};
use crate::net::NetworkControl;
use crate::plan::{Fault, Plan, Target};
use crate::record::Recorder;

/// How long it takes to put in another disk.
const LOST_DISK_DOWN_MS: u64 = 500;
/// Longest that a rolling restart waits for a node.
const ROLLING_MAX: Duration = Duration::from_secs(20);

/// Who brings the faults.
#[derive(Clone)]
pub(super) struct Nemesis {
    pub(super) cluster: Cluster,
    pub(super) operators: Operators,
    pub(super) plan: Arc<Plan>,
    pub(super) network: NetworkControl,
    pub(super) recorder: Recorder,
    pub(super) observer: Env,
    /// For a swizzle's order.
    pub(super) rng: Arc<Mutex<Rng>>,
    pub(super) done: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Nemesis {
    /// Starts the clock of every fault. Dropping the tasks ends what has not begun.
    pub(super) fn begin(&self, plan: &Plan) -> Vec<Task> {
        plan.faults
            .iter()
            .map(|timed| {
                let (nemesis, timed) = (self.clone(), timed.clone());
                self.observer.spawn("fault", async move {
                    nemesis.pass(timed.at_ms).await;
                    nemesis.tell(&timed.fault);
                    nemesis.carry_out(timed.fault).await;
                })
            })
            .collect()
    }

    async fn pass(&self, millis: u64) {
        self.observer.sleep(Duration::from_millis(millis)).await;
    }

    fn tell(&self, fault: &Fault) {
        let text = format!("{fault:?}");
        let kind = text.split([' ', '{']).next().unwrap_or_default().to_owned();
        self.count(&kind);
        let note = Note::Fault { kind, detail: text };
        self.recorder.note("nemesis", note);
    }

    fn count(&self, kind: &str) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done.entry(kind.to_owned()).or_default() += 1;
    }

    async fn carry_out(&self, fault: Fault) {
        match fault {
            Fault::Kill { node, down_ms } => self.outages(&node, End::Kill, down_ms).await,
            Fault::PowerLoss { node, down_ms } => {
                self.outages(&node, End::PowerLoss, down_ms).await;
            }
            Fault::Stop { node, down_ms } => self.outages(&node, End::Stop, down_ms).await,
            Fault::PowerLossAt {
                node,
                operation,
                down_ms,
            } => {
                self.each(&node, |nemesis, server| async move {
                    let disk = server.node().disk();
                    disk.power_loss_at(operation);
                    disk.power_out().await;
                    nemesis.outage(&server, End::PowerLoss, down_ms).await;
                })
                .await;
            }
            Fault::Pause { node, for_ms } => {
                self.each(&node, |nemesis, server| async move {
                    nemesis.pause(&server, for_ms).await;
                })
                .await;
            }
            Fault::StepClock { node, by_ms } => {
                for server in self.cluster.find(&node) {
                    server.node().step_wall(by_ms);
                    server.note_clock();
                }
            }
            Fault::DriftClock { node, ppm } => {
                for server in self.cluster.find(&node) {
                    server.node().set_drift(ppm);
                    server.note_clock();
                }
            }
            Fault::Rolling { down_ms, pause_ms } => self.roll(down_ms, pause_ms).await,
            Fault::Cut { .. }
            | Fault::Stall { .. }
            | Fault::Reset { .. }
            | Fault::Slow { .. }
            | Fault::Refuse { .. }
            | Fault::Swizzle { .. }
            | Fault::Split { .. }
            | Fault::Isolate { .. } => self.on_network(fault).await,
            Fault::Revote { .. }
            | Fault::AddNode { .. }
            | Fault::Reassign { .. }
            | Fault::Elect { .. }
            | Fault::Lead { .. } => self.by_operator(fault).await,
            on_disk => self.on_disk(on_disk).await,
        }
    }

    /// Does the same to every node that `node` stands for, at once.
    async fn each<F>(&self, node: &str, what: impl Fn(Self, Server) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let servers = self.cluster.find(node);
        if let [server] = &servers[..] {
            return what(self.clone(), server.clone()).await;
        }
        let started = servers.into_iter().map(|server| {
            let doing = what(self.clone(), server);
            self.observer.spawn("fault", doing)
        });
        for doing in started.collect::<Vec<Task>>() {
            doing.join().await;
        }
    }

    async fn outages(&self, node: &str, how: End, down_ms: u64) {
        self.each(node, |nemesis, server| async move {
            nemesis.outage(&server, how, down_ms).await;
        })
        .await;
    }

    async fn outage(&self, server: &Server, how: End, down_ms: u64) {
        server.hold(how).await;
        self.pass(down_ms).await;
        server.release();
    }

    async fn pause(&self, server: &Server, for_ms: u64) {
        let tell = |event: NodeEvent| {
            let note = Note::Node { event };
            self.recorder.note(server.node().name(), note);
        };
        tell(NodeEvent::Pause);
        server.node().pause();
        self.pass(for_ms).await;
        server.node().resume();
        tell(NodeEvent::Resume);
    }

    /// Every node stops in order and starts again, each once the one before serves.
    async fn roll(&self, down_ms: u64, pause_ms: u64) {
        for server in self.cluster.servers() {
            self.outage(server, End::Stop, down_ms).await;
            let serving = server.wait_until_serving(&self.observer);
            // Whoever does not come back is for the end of the run to judge.
            let _ = self.observer.timeout(ROLLING_MAX, serving).await;
            self.pass(pause_ms).await;
        }
    }

    async fn on_network(&self, fault: Fault) {
        let network = &self.network;
        match self.cluster.named(fault) {
            Fault::Cut {
                link: Target { from, to },
                for_ms,
            } => {
                network.cut(&from, &to);
                self.pass(for_ms).await;
                network.heal(&from, &to);
            }
            Fault::Stall {
                link: Target { from, to },
                for_ms,
            } => {
                network.stall(&from, &to);
                self.pass(for_ms).await;
                network.unstall(&from, &to);
            }
            Fault::Reset {
                link: Target { from, to },
            } => network.reset(&from, &to),
            Fault::Slow {
                link: Target { from, to },
                options,
                for_ms,
            } => {
                network.set_link(&from, &to, Some(options));
                self.pass(for_ms).await;
                network.set_link(&from, &to, None);
            }
            Fault::Refuse { node, for_ms } => {
                network.refuse(&node, true);
                self.pass(for_ms).await;
                network.refuse(&node, false);
            }
            Fault::Swizzle { node, for_ms } => self.swizzle(&node, for_ms).await,
            Fault::Split { sides, for_ms } => {
                let mut links = Vec::new();
                for (at, side) in sides.iter().enumerate() {
                    let others = sides.iter().enumerate().filter(|(other, _)| *other != at);
                    for other in others.flat_map(|(_, side)| side) {
                        links.extend(side.iter().map(|one| (one.clone(), other.clone())));
                    }
                }
                self.cut_all(links, for_ms).await;
            }
            Fault::Isolate {
                node,
                inbound,
                outbound,
                clients,
                for_ms,
            } => {
                let others = match clients {
                    true => network.hosts(),
                    false => self.cluster.names(),
                };
                let others = others.into_iter().filter(|other| *other != node);
                let links = others.flat_map(|other| {
                    let out = outbound.then(|| (node.clone(), other.clone()));
                    let back = inbound.then(|| (other, node.clone()));
                    out.into_iter().chain(back)
                });
                self.cut_all(links.collect(), for_ms).await;
            }
            _ => {}
        }
    }

    async fn cut_all(&self, links: Vec<(String, String)>, for_ms: u64) {
        for (from, to) in &links {
            self.network.cut(from, to);
        }
        self.pass(for_ms).await;
        for (from, to) in &links {
            self.network.heal(from, to);
        }
    }

    /// Stalls a drawn part of the links to `node` one by one, and lets them go in another order.
    async fn swizzle(&self, node: &str, for_ms: u64) {
        let mut hosts = self.network.hosts();
        hosts.retain(|host| host != node);
        self.shuffle(&mut hosts);
        hosts.truncate(hosts.len().div_ceil(2));
        let step = for_ms / (2 * hosts.len().max(1) as u64);
        for host in &hosts {
            self.network.stall(host, node);
            self.pass(step).await;
        }
        self.shuffle(&mut hosts);
        for host in &hosts {
            self.network.unstall(host, node);
            self.pass(step).await;
        }
    }

    fn shuffle(&self, hosts: &mut [String]) {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        for at in (1..hosts.len()).rev() {
            let other = usize::try_from(rng.below(at as u64 + 1)).unwrap_or_default();
            hosts.swap(at, other);
        }
    }

    async fn on_disk(&self, fault: Fault) {
        let Some(node) = of_disk(&fault) else {
            return;
        };
        self.each(node, |nemesis, server| {
            let fault = fault.clone();
            async move { nemesis.on_disk_of(&server, fault).await }
        })
        .await;
    }

    async fn on_disk_of(&self, server: &Server, fault: Fault) {
        let disk = server.node().disk();
        match fault {
            Fault::FailSync {
                kind, count, how, ..
            } => disk.fail_syncs(kind, count, how),
            Fault::FailWrite { kind, count, .. } => disk.fail_writes(kind, count),
            Fault::FailRead { kind, count, .. } => disk.fail_reads(kind, count),
            Fault::Full { for_ms, .. } => {
                disk.set_full(true);
                self.pass(for_ms).await;
                disk.set_full(false);
            }
            Fault::SlowDisk {
                latency_max_ms,
                for_ms,
                ..
            } => {
                disk.slow(latency_max_ms);
                self.pass(for_ms).await;
                disk.slow(0);
            }
            Fault::StallDisk { for_ms, .. } => {
                disk.stall(true);
                self.pass(for_ms).await;
                disk.stall(false);
            }
            Fault::Rot { kind, bits, .. } => {
                // None when no file of the kind has a byte yet.
                let _rotten = disk.rot(kind, bits);
            }
            Fault::Misdirect { kind, .. } => disk.misdirect(kind),
            Fault::LoseWrite { kind, .. } => disk.lose_write(kind),
            Fault::LoseDisk { .. } => {
                server.hold(End::PowerLoss).await;
                disk.lose_all();
                self.cluster.watch().wiped(server.name());
                self.pass(LOST_DISK_DOWN_MS).await;
                server.release();
            }
            _ => {}
        }
    }
}

/// The node of a fault of a disk.
fn of_disk(fault: &Fault) -> Option<&str> {
    match fault {
        Fault::FailSync { node, .. }
        | Fault::FailWrite { node, .. }
        | Fault::FailRead { node, .. }
        | Fault::Full { node, .. }
        | Fault::SlowDisk { node, .. }
        | Fault::StallDisk { node, .. }
        | Fault::Rot { node, .. }
        | Fault::Misdirect { node, .. }
        | Fault::LoseWrite { node, .. }
        | Fault::LoseDisk { node } => Some(node),
        _ => None,
    }
}
