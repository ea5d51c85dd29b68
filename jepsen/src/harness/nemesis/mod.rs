//! Carries out a [`Plan`] against a cluster.

mod filled;
mod plan;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use klamm::client::Admin;
use tokio::runtime::Handle;

use super::clients::Shared;
use super::cluster::Cluster;
use super::network::CLIENTS;
use super::progress::Progress;
use crate::history::NodeEvent;

use filled::Filled;

pub use plan::{Aim, Fault, KINDS, Kind, Plan, Round, ring};

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a round of resets ends the connections.
const RESET_EVERY: Duration = Duration::from_millis(400);
/// How long those that come back first have without the leader that was left alone.
const WITHOUT_THE_LAST: Duration = Duration::from_secs(4);
const LOOKUP_LIMIT: Duration = Duration::from_millis(1500);

/// Does harm.
pub struct Nemesis<'a> {
    pub cluster: &'a mut Cluster,
    pub shared: &'a Shared,
    pub runtime: Handle,
    pub progress: &'a Progress,
    /// How often each kind struck.
    pub hits: BTreeMap<&'static str, u64>,
    /// Nodes that are down because they lost power: what they lose is drawn from this.
    without_power: BTreeMap<usize, u64>,
    filled: Filled,
    /// The leader that was left alone: it is killed before those that were killed come back.
    last: Option<usize>,
}

impl<'a> Nemesis<'a> {
    pub fn new(
        cluster: &'a mut Cluster,
        shared: &'a Shared,
        runtime: Handle,
        progress: &'a Progress,
    ) -> Self {
        Self {
            cluster,
            shared,
            runtime,
            progress,
            hits: BTreeMap::new(),
            without_power: BTreeMap::new(),
            filled: Filled::default(),
            last: None,
        }
    }

    /// Carries out all of `plan`, from `began` on, for `time` at least.
    pub fn run(&mut self, plan: &Plan, began: Instant, time: Duration) -> Result<(), String> {
        for round in &plan.rounds {
            self.wait_until(began + round.begins);
            for fault in &round.faults {
                self.strike(fault)?;
            }
            let ends = Instant::now() + round.lasts;
            let resets = round
                .faults
                .iter()
                .filter(|fault| fault.kind == Kind::Reset);
            let resets: Vec<&Fault> = resets.collect();
            while !resets.is_empty() && Instant::now() + RESET_EVERY < ends {
                self.wait_until(Instant::now() + RESET_EVERY);
                for fault in &resets {
                    self.reset_again(fault)?;
                }
            }
            self.wait_until(ends);
            self.heal()?;
        }
        self.wait_until(began + time);
        Ok(())
    }

    fn wait_until(&mut self, at: Instant) {
        loop {
            self.look();
            let Some(rest) = at.checked_duration_since(Instant::now()) else {
                return;
            };
            std::thread::sleep(rest.min(LOOK_EVERY));
        }
    }

    fn look(&mut self) {
        for (id, how) in self.cluster.look(&self.shared.recorder) {
            if !self.filled.may_end(id, Instant::now()) {
                let text = format!("ended by itself: {how}");
                let name = super::cluster::name(id);
                self.shared.recorder.broken(&name, "exit", text);
            }
        }
        let up = self.cluster.nodes.iter().map(|node| match () {
            () if node.is_ready() => '#',
            () if node.is_paused => 'p',
            () if node.is_up() => '+',
            () => '-',
        });
        self.progress.set_nodes(up.collect());
    }

    /// Everything is as it was, and what is down starts again.
    pub fn heal(&mut self) -> Result<(), String> {
        let recorder = &self.shared.recorder;
        self.cluster.network.heal()?;
        self.cluster.resume(recorder);
        for node in &self.cluster.nodes {
            node.empty_disk();
        }
        self.filled.heal(Instant::now());
        if let Some(last) = self.last.take() {
            self.cluster.kill(&[last], &NodeEvent::Kill, recorder);
            self.start_all_but(Some(last))?;
            self.wait_until(Instant::now() + WITHOUT_THE_LAST);
        }
        self.start_all_but(None)?;
        self.progress.set_fault(String::new());
        Ok(())
    }

    /// Starts what is down.
    fn start_all_but(&mut self, but: Option<usize>) -> Result<(), String> {
        for id in self.cluster.ids() {
            if Some(id) != but && !self.cluster.node_mut(id).is_up() {
                let power = self.without_power.remove(&id);
                self.cluster.start(id, power, &self.shared.recorder)?;
            }
        }
        Ok(())
    }

    fn strike(&mut self, fault: &Fault) -> Result<(), String> {
        let nodes = self.aimed_at(&fault.aim);
        let detail = match fault.kind {
            Kind::Kill | Kind::KillAll | Kind::Power | Kind::PowerAll => self.kill(fault, &nodes),
            Kind::Pause => self.pause(&nodes),
            Kind::Isolate => self.isolate(nodes[0], fault.drawn)?,
            Kind::OneWay => self.one_way(nodes[0], fault.drawn)?,
            Kind::Ring => self.ring(fault.drawn)?,
            Kind::Slow => self.slow(&nodes)?,
            Kind::Reset => self.reset(nodes[0])?,
            Kind::Clock => self.step_clock(&nodes, fault.drawn)?,
            Kind::DiskFull => self.fill(&nodes)?,
            Kind::Stop => self.stop(&nodes),
            Kind::LastStand => match self.leave_alone(&fault.aim) {
                Some(detail) => detail,
                // Who leads cannot be found out.
                None => return Ok(()),
            },
        };
        let kind = fault.kind.name();
        self.shared.recorder.fault(kind, detail.clone());
        *self.hits.entry(kind).or_default() += 1;
        self.progress.add_fault(&format!("{kind} {detail}"));
        Ok(())
    }

    fn kill(&mut self, fault: &Fault, nodes: &[usize]) -> String {
        let without_power = matches!(fault.kind, Kind::Power | Kind::PowerAll);
        let event = match without_power {
            true => NodeEvent::PowerLoss,
            false => NodeEvent::Kill,
        };
        let up = nodes.iter().copied();
        let up: Vec<usize> = up.filter(|id| self.cluster.nodes[id - 1].is_up()).collect();
        self.cluster.kill(&up, &event, &self.shared.recorder);
        if without_power {
            for id in &up {
                let seed = fault.drawn.wrapping_add(*id as u64);
                self.without_power.insert(*id, seed);
            }
        }
        format!("{up:?}")
    }

    /// Kills all that have copies of a partition but its leader.
    fn leave_alone(&mut self, aim: &Aim) -> Option<String> {
        let Aim::Leader(drawn) = aim else { return None };
        let (leader, mut others) = self.led(*drawn)?;
        others.retain(|id| *id != leader && self.cluster.nodes[id - 1].is_up());
        let recorder = &self.shared.recorder;
        self.cluster.kill(&others, &NodeEvent::Kill, recorder);
        self.last = Some(leader);
        Some(format!("[{leader}], without {others:?}"))
    }

    /// They end in order, if they do in time.
    fn stop(&mut self, nodes: &[usize]) -> String {
        let forced = self.cluster.stop(nodes, &self.shared.recorder);
        match forced.is_empty() {
            true => format!("{nodes:?}"),
            false => format!("{nodes:?}, of which {forced:?} were too slow and killed"),
        }
    }

    fn pause(&mut self, nodes: &[usize]) -> String {
        self.cluster.pause(nodes, &self.shared.recorder);
        format!("{nodes:?}")
    }

    fn isolate(&mut self, node: usize, drawn: u64) -> Result<String, String> {
        let mut others: Vec<usize> = self.cluster.ids();
        others.retain(|other| *other != node);
        let with_clients = drawn.is_multiple_of(2);
        if with_clients {
            others.push(CLIENTS);
        }
        for other in others {
            self.cluster.network.cut(node, other)?;
            self.cluster.network.cut(other, node)?;
        }
        let from = if with_clients {
            "all"
        } else {
            "the other nodes"
        };
        Ok(format!("[{node}] from {from}"))
    }

    fn one_way(&mut self, node: usize, drawn: u64) -> Result<String, String> {
        let mut others: Vec<usize> = self.cluster.ids();
        others.retain(|other| *other != node);
        if drawn.is_multiple_of(2) {
            let at = usize::try_from(drawn / 4).unwrap_or(0) % others.len();
            others = vec![others[at]];
        }
        let outward = (drawn / 2).is_multiple_of(2);
        for other in &others {
            let (from, to) = if outward {
                (node, *other)
            } else {
                (*other, node)
            };
            self.cluster.network.cut(from, to)?;
        }
        let way = if outward { "to" } else { "hears nothing of" };
        Ok(format!("[{node}] {way} {others:?}"))
    }

    fn ring(&mut self, drawn: u64) -> Result<String, String> {
        let cut = ring(self.cluster.nodes.len(), drawn);
        for (from, to) in &cut {
            self.cluster.network.cut(*from, *to)?;
        }
        let pairs = cut.iter().filter(|(from, to)| from < to);
        let pairs: Vec<String> = pairs.map(|(one, other)| format!("{one}|{other}")).collect();
        Ok(pairs.join(" "))
    }

    fn slow(&mut self, nodes: &[usize]) -> Result<String, String> {
        let mut how = String::new();
        for node in nodes {
            how = self.cluster.network.slow(*node)?;
        }
        Ok(format!("{nodes:?}: {how}"))
    }

    fn reset(&mut self, node: usize) -> Result<String, String> {
        let mut count = 0;
        for other in self.cluster.ids().into_iter().chain([CLIENTS]) {
            if other != node {
                count += self.cluster.network.reset(node, other)?;
            }
        }
        Ok(format!("[{node}]: {count} connections"))
    }

    /// The connections that were made since.
    fn reset_again(&mut self, fault: &Fault) -> Result<(), String> {
        let node = self.aimed_at(&fault.aim)[0];
        self.reset(node).map(drop)
    }

    fn step_clock(&mut self, nodes: &[usize], drawn: u64) -> Result<String, String> {
        const STEPS_MS: [i64; 4] = [300, 5_000, 120_000, 3_600_000];
        let step = STEPS_MS[usize::try_from(drawn % 4).unwrap_or(0)];
        let offset = if (drawn / 4).is_multiple_of(2) {
            step
        } else {
            -step
        };
        for id in nodes {
            self.cluster.nodes[id - 1].set_clock(offset)?;
        }
        Ok(format!("{nodes:?} by {offset} ms, until another step"))
    }

    fn fill(&mut self, nodes: &[usize]) -> Result<String, String> {
        self.filled.fill(nodes);
        let mut filled = 0;
        for id in nodes {
            filled += self.cluster.nodes[id - 1].fill_disk()?;
        }
        Ok(format!("{nodes:?}: {filled} bytes"))
    }

    /// Nodes, one at least.
    fn aimed_at(&self, aim: &Aim) -> Vec<usize> {
        match aim {
            Aim::Nodes(nodes) => nodes.clone(),
            Aim::All => self.cluster.ids(),
            Aim::Leader(drawn) => vec![self.leader(*drawn).unwrap_or(1)],
            Aim::Controller => vec![self.controller().unwrap_or(1)],
        }
    }

    fn admin(&self) -> Option<Admin> {
        let pairs = [
            ("default.api.timeout.ms", "1500"),
            ("request.timeout.ms", "1000"),
        ];
        let config = self.shared.config("nemesis", &pairs);
        Admin::new(&self.shared.env, config).ok()
    }

    fn leader(&self, drawn: u64) -> Option<usize> {
        self.led(drawn).map(|(leader, _)| leader)
    }

    /// Who leads the partition that is drawn, and who has copies of it.
    fn led(&self, drawn: u64) -> Option<(usize, Vec<usize>)> {
        let topics = self.shared.topics.iter().map(|(topic, _)| topic.clone());
        // Who leads a partition of this coordinates groups.
        let topics = topics.chain(["__consumer_offsets".to_owned()]);
        let topics: Vec<String> = topics.collect();
        let found = self.within(async {
            let admin = self.admin()?;
            admin.describe_topics(&topics).await.ok()
        })?;
        let views = found.into_values().flatten();
        let led = views.flat_map(|view| view.partitions.into_values());
        let led: Vec<_> = led.filter(|one| one.leader.is_some()).collect();
        let count = u64::try_from(led.len()).ok().filter(|count| *count > 0)?;
        let one = &led[usize::try_from(drawn % count).ok()?];
        let copies = one.replicas.iter().filter_map(|id| self.known(id.0));
        Some((self.known(one.leader?.0)?, copies.collect()))
    }

    fn controller(&self) -> Option<usize> {
        let found = self.within(async {
            let admin = self.admin()?;
            admin.describe_quorum().await.ok()?.leader
        })?;
        self.known(found.0)
    }

    fn known(&self, id: i32) -> Option<usize> {
        let id = usize::try_from(id).ok()?;
        (1..=self.cluster.nodes.len()).contains(&id).then_some(id)
    }

    fn within<T>(&self, asked: impl Future<Output = Option<T>>) -> Option<T> {
        let asked = async { tokio::time::timeout(LOOKUP_LIMIT, asked).await.ok()? };
        self.runtime.block_on(asked)
    }
}
