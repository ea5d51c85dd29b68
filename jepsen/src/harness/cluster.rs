//! All nodes, and the network between them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::network::Network;
use super::node::{Node, PowerSeed};
use super::recorder::Recorder;
use crate::history::{NodeEvent, Note};

/// How long all nodes may take until they serve.
const READY_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Starts that may fail until a cluster serves.
const EXITS_MAX: usize = 10;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Settings {
    pub nodes: usize,
    pub binary: PathBuf,
    pub mutant: Option<String>,
    /// Where its nodes' data and logs go.
    pub folder: PathBuf,
    /// Megabytes of each node's disk, if that is to be small.
    pub disk_megabytes: Option<u64>,
    /// `namespaces` or `proxy`; whatever works if absent.
    pub network: Option<String>,
    /// More settings of every node.
    pub overrides: Vec<(String, String)>,
}

/// Nodes 1 to n.
#[derive(Debug)]
pub struct Cluster {
    // Before the network: nodes end before what they live in.
    pub nodes: Vec<Node>,
    pub network: Network,
    pub network_kind: String,
    settings: Settings,
    mounts: Vec<PathBuf>,
}

impl Cluster {
    /// A cluster that is not started yet.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let wish = settings.network.as_deref();
        let (network, network_kind) = Network::new(settings.nodes, wish)?;
        let mut cluster = Self {
            nodes: Vec::new(),
            network,
            network_kind,
            settings,
            mounts: Vec::new(),
        };
        let each = (1..=cluster.settings.nodes).map(|id| cluster.network.addresses(id).told);
        let voters: Vec<String> = each
            .enumerate()
            .map(|(at, [_, controller])| format!("{}@{controller}", at + 1))
            .collect();
        let voters = voters.join(",");
        for id in 1..=cluster.settings.nodes {
            let node = cluster.node(id, &voters)?;
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    fn node(&mut self, id: usize, voters: &str) -> Result<Node, String> {
        let folder = self.settings.folder.clone();
        let home = folder.join(format!("node-{id}"));
        let fail = |error: std::io::Error| format!("{}: {error}", home.display());
        std::fs::create_dir_all(&home).map_err(fail)?;
        if let Some(megabytes) = self.settings.disk_megabytes {
            mount(&home, megabytes)?;
            self.mounts.push(home.clone());
        }
        std::fs::create_dir_all(home.join("faults")).map_err(fail)?;
        let log = folder.join(format!("node-{id}.log"));
        let mut node = Node::new(id, home.clone(), log, self.settings.mutant.clone());
        let addresses = self.network.addresses(id);
        let listeners = |of: &[String; 2]| {
            let [client, controller] = of;
            format!("PLAINTEXT://{client},CONTROLLER://{controller}")
        };
        node.set("node.id", id.to_string());
        node.set("process.roles", "broker,controller");
        node.set("listeners", listeners(&addresses.bound));
        node.set("advertised.listeners", listeners(&addresses.told));
        node.set("klamm.admin.listener", addresses.admin.clone());
        node.set("controller.listener.names", "CONTROLLER");
        node.set("controller.quorum.voters", voters);
        node.set("log.dirs", home.join("data").display().to_string());
        node.set("group.initial.rebalance.delay.ms", "0");
        node.set("auto.create.topics.enable", "false");
        node.set("offsets.topic.num.partitions", "4");
        node.set("group.min.session.timeout.ms", "1000");
        for (key, value) in &self.settings.overrides {
            node.set(key, value.clone());
        }
        Ok(node)
    }

    #[must_use]
    pub fn ids(&self) -> Vec<usize> {
        (1..=self.nodes.len()).collect()
    }

    pub fn node_mut(&mut self, id: usize) -> &mut Node {
        &mut self.nodes[id - 1]
    }

    /// What clients take as `bootstrap.servers`: all nodes.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let each = self.ids().into_iter();
        let each = each.map(|id| self.network.addresses(id).told[0].clone());
        each.collect::<Vec<_>>().join(",")
    }

    /// Starts a node that is down.
    pub fn start(
        &mut self,
        id: usize,
        power: Option<PowerSeed>,
        recorder: &Recorder,
    ) -> Result<(), String> {
        let command = self.network.command(id, &self.settings.binary);
        note(recorder, id, NodeEvent::Start);
        let node = &mut self.nodes[id - 1];
        node.start(command, power)?;
        if let Some(process) = node.process() {
            self.network.runs_as(id, process);
        }
        Ok(())
    }

    /// Kills these at once: none learns of another's death in time to do anything about it.
    pub fn kill(&mut self, ids: &[usize], event: &NodeEvent, recorder: &Recorder) {
        for id in ids {
            note(recorder, *id, event.clone());
            self.nodes[id - 1].signal(Signal::KILL);
        }
        for id in ids {
            self.nodes[id - 1].reap();
        }
    }

    pub fn pause(&mut self, ids: &[usize], recorder: &Recorder) {
        for id in ids {
            note(recorder, *id, NodeEvent::Pause);
            self.nodes[id - 1].signal(Signal::STOP);
        }
    }

    pub fn resume(&mut self, recorder: &Recorder) {
        for node in self.nodes.iter_mut().filter(|node| node.is_paused) {
            node.signal(Signal::CONT);
            note(recorder, node.id, NodeEvent::Resume);
        }
    }

    /// Takes in which nodes became ready, and which ended by themselves: those, and how.
    pub fn look(&mut self, recorder: &Recorder) -> Vec<(usize, String)> {
        let mut ended = Vec::new();
        for node in &mut self.nodes {
            if let Some(exit) = node.exit() {
                let text = match &exit.panic {
                    Some(panic) => {
                        recorder.broken(&name(node.id), "panic", panic.clone());
                        panic.clone()
                    }
                    None => exit.status.clone(),
                };
                note(recorder, node.id, NodeEvent::Failed(text.clone()));
                ended.push((node.id, text));
            } else if node.became_ready() {
                note(recorder, node.id, NodeEvent::Ready);
            }
        }
        ended
    }

    /// Starts what is down, and waits until all serve.
    pub fn await_ready(&mut self, recorder: &Recorder) -> Result<(), String> {
        let began = Instant::now();
        let mut exits = 0;
        loop {
            for (id, how) in self.look(recorder) {
                exits += 1;
                if exits >= EXITS_MAX {
                    let output = self.nodes[id - 1].output();
                    let last = output.lines().last().unwrap_or_default();
                    return Err(format!("node {id} does not start: {how}: {last}"));
                }
            }
            for id in self.ids() {
                if !self.nodes[id - 1].is_up() {
                    self.start(id, None, recorder)?;
                }
            }
            let lacking: Vec<usize> = self.ids();
            let lacking = lacking
                .into_iter()
                .filter(|id| !self.nodes[id - 1].is_ready());
            let lacking: Vec<usize> = lacking.collect();
            if lacking.is_empty() {
                return Ok(());
            }
            if began.elapsed() > READY_LIMIT {
                return Err(format!(
                    "nodes {lacking:?} do not serve within {READY_LIMIT:?}"
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends these in order. Those that had to be forced.
    pub fn stop(&mut self, ids: &[usize], recorder: &Recorder) -> Vec<usize> {
        for id in ids {
            self.nodes[id - 1].tell_to_stop();
        }
        let mut forced = Vec::new();
        for id in ids {
            let node = &mut self.nodes[id - 1];
            if node.is_up() {
                let is_good = node.await_end(STOP_LIMIT);
                if !is_good {
                    forced.push(*id);
                }
                let event = if is_good {
                    NodeEvent::Stop
                } else {
                    NodeEvent::Kill
                };
                note(recorder, *id, event);
            }
        }
        forced
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Node::reap);
        for path in &self.mounts {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

/// What a node is called in a history.
#[must_use]
pub fn name(id: usize) -> String {
    format!("node-{id}")
}

fn note(recorder: &Recorder, id: usize, event: NodeEvent) {
    recorder.note(&name(id), Note::Node { event });
}

/// A file system of its own for a node, in memory.
fn mount(path: &Path, megabytes: u64) -> Result<(), String> {
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
        .arg(path)
        .output()
        .map_err(|error| format!("mount: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!(
            "a small disk needs mount(8) and root: {}",
            String::from_utf8_lossy(&done.stderr).trim()
        )),
    }
}
