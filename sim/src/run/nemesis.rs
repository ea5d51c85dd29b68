//! Carries out the faults of a plan, each at its time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use klamm::env::{Env, Rng, Task};
use klamm_jepsen::history::{NodeEvent, Note};

use super::server::{End, Server};
use crate::net::NetworkControl;
use crate::plan::{Fault, Plan, Target};
use crate::record::Recorder;

/// Who brings the faults.
#[derive(Clone)]
pub(super) struct Nemesis {
    pub(super) server: Server,
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
            Fault::Kill { down_ms, .. } => self.outage(End::Kill, down_ms).await,
            Fault::PowerLoss { down_ms, .. } => self.outage(End::PowerLoss, down_ms).await,
            Fault::Stop { down_ms, .. } => self.outage(End::Stop, down_ms).await,
            Fault::PowerLossAt {
                operation, down_ms, ..
            } => {
                let disk = self.server.node().disk();
                disk.power_loss_at(operation);
                disk.power_out().await;
                self.outage(End::PowerLoss, down_ms).await;
            }
            Fault::Pause { for_ms, .. } => self.pause(for_ms).await,
            Fault::Cut { .. }
            | Fault::Stall { .. }
            | Fault::Reset { .. }
            | Fault::Slow { .. }
            | Fault::Refuse { .. }
            | Fault::Swizzle { .. } => self.on_network(fault).await,
            Fault::StepClock { by_ms, .. } => {
                self.server.node().step_wall(by_ms);
                self.server.note_clock();
            }
            Fault::DriftClock { ppm, .. } => {
                self.server.node().set_drift(ppm);
                self.server.note_clock();
            }
            on_disk => self.on_disk(on_disk).await,
        }
    }

    async fn outage(&self, how: End, down_ms: u64) {
        self.server.hold(how).await;
        self.pass(down_ms).await;
        self.server.release();
    }

    async fn pause(&self, for_ms: u64) {
        self.node_event(NodeEvent::Pause);
        self.server.node().pause();
        self.pass(for_ms).await;
        self.server.node().resume();
        self.node_event(NodeEvent::Resume);
    }

    fn node_event(&self, event: NodeEvent) {
        let note = Note::Node { event };
        self.recorder.note(self.server.node().name(), note);
    }

    async fn on_network(&self, fault: Fault) {
        let network = &self.network;
        match fault {
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
            _ => {}
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
        let disk = self.server.node().disk();
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
            Fault::LoseDisk { .. } => disk.lose_all(),
            _ => {}
        }
    }
}
