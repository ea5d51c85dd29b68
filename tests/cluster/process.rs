//! Several nodes that are one cluster, each a process of its own, each broker and controller.
//!
//! Promises: as [`BrokerProcess`]; and when the test that owns a cluster panics, everything its
//! nodes wrote is kept in files, and so is their data.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use super::super::broker_process::{BrokerProcess, free_port};
use super::eyes::Eyes;

/// How long a cluster may take until all of its nodes serve.
pub const READY_LIMIT: Duration = Duration::from_secs(60);

/// Nodes 1 to n.
pub struct ClusterProcess {
    nodes: Vec<BrokerProcess>,
    controller_ports: Vec<u16>,
    directory: TempDir,
}

impl ClusterProcess {
    /// Starts a cluster of `count` nodes with empty directories and waits until all serve.
    pub fn start(count: usize, overrides: &[(&str, &str)]) -> Self {
        let mut cluster = Self::new(count, overrides);
        cluster.start_all();
        cluster
    }

    /// A cluster that is not started yet. A single node is told of no quorum.
    pub fn new(count: usize, overrides: &[(&str, &str)]) -> Self {
        let directory = tempfile::Builder::new().prefix("klamm-cluster-").tempdir();
        let directory = directory.expect("a temporary directory can be made");
        let controller_ports: Vec<u16> = (0..count).map(|_| free_port()).collect();
        let mut cluster = Self {
            nodes: Vec::new(),
            controller_ports,
            directory,
        };
        for number in 1..=count {
            let id = i32::try_from(number).expect("few nodes");
            let data = cluster.directory.path().join(format!("node-{id}"));
            let node = cluster.prepare(id, &data, overrides);
            cluster.nodes.push(node);
        }
        cluster
    }

    /// A node with this id and directory as the settings of this cluster make it, on ports of its
    /// own unless the id is of the cluster.
    pub fn prepare(&self, id: i32, data: &Path, overrides: &[(&str, &str)]) -> BrokerProcess {
        let mut node = BrokerProcess::new(data.to_path_buf(), &[]);
        node.set("node.id", &id.to_string());
        if self.controller_ports.len() > 1 {
            let place = usize::try_from(id - 1).ok();
            let known = place.and_then(|place| self.controller_ports.get(place).copied());
            let controller = known.unwrap_or_else(free_port);
            let client = node.port();
            let listeners =
                format!("PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}");
            node.set("process.roles", "broker,controller");
            node.set("listeners", &listeners);
            node.set("controller.listener.names", "CONTROLLER");
            node.set("controller.quorum.voters", &self.voters());
        }
        for (key, value) in overrides {
            node.set(key, value);
        }
        node
    }

    /// As `controller.quorum.voters` has it.
    pub fn voters(&self) -> String {
        let ports = self.controller_ports.iter().enumerate();
        let voters = ports.map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1));
        voters.collect::<Vec<_>>().join(",")
    }

    /// Starts every node that does not run, and waits until all serve.
    pub fn start_all(&mut self) {
        for node in &mut self.nodes {
            if !node.is_running() {
                node.spawn().unwrap_or_else(|why| panic!("{why}"));
            }
        }
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let ready = node.await_ready(READY_LIMIT);
            ready.unwrap_or_else(|why| panic!("node {}: {why}", at + 1));
        }
    }

    /// Where all of this cluster's data is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn ids(&self) -> impl Iterator<Item = i32> + use<> {
        1..=i32::try_from(self.nodes.len()).expect("few nodes")
    }

    pub fn node(&self, id: i32) -> &BrokerProcess {
        &self.nodes[place(id)]
    }

    pub fn node_mut(&mut self, id: i32) -> &mut BrokerProcess {
        &mut self.nodes[place(id)]
    }

    /// What clients take as `bootstrap.servers`: all nodes.
    pub fn bootstrap(&self) -> String {
        let each: Vec<String> = self.nodes.iter().map(BrokerProcess::bootstrap).collect();
        each.join(",")
    }

    /// What can be seen of this cluster from outside, whichever of its nodes run.
    pub fn eyes(&self) -> Eyes {
        Eyes::new(self.nodes.iter().map(BrokerProcess::port).collect())
    }

    /// Kills every node where it stands, all at once: none learns of another's death in time to do
    /// anything about it.
    pub fn kill9_all(&mut self) {
        let running = self.nodes.iter_mut().filter_map(|node| {
            let runs = node.is_running();
            runs.then(|| node.process_id())
        });
        let running: Vec<_> = running.collect();
        for process in running {
            kill_process(process, Signal::KILL).expect("a child of ours can be killed");
        }
        self.nodes.iter_mut().for_each(BrokerProcess::kill9);
    }

    /// Ends every node in order (SIGTERM), all at once.
    pub fn stop_all(&mut self) {
        thread::scope(|scope| {
            let stopping = self.nodes.iter_mut().filter_map(|node| {
                let runs = node.is_running();
                runs.then(|| scope.spawn(|| node.sigterm()))
            });
            let stopping: Vec<_> = stopping.collect();
            for node in stopping {
                let status = node.join().expect("a node that is told to stop stops");
                assert!(status.success(), "a drain ended with {status}");
            }
        });
    }

    /// Writes all that the nodes wrote to files, and says where.
    fn keep_output(&self) -> std::io::Result<PathBuf> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let name = self.directory.path().file_name().unwrap_or_default();
        let kept = target.join("failures").join(name);
        std::fs::create_dir_all(&kept)?;
        for (at, node) in self.nodes.iter().enumerate() {
            let path = kept.join(format!("node-{}.log", at + 1));
            std::fs::write(path, node.output())?;
        }
        Ok(kept)
    }
}

fn place(id: i32) -> usize {
    usize::try_from(id - 1).expect("nodes count from 1")
}

impl Drop for ClusterProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            self.nodes.iter_mut().for_each(BrokerProcess::kill9);
            let data = self.directory.path().display().to_string();
            match self.keep_output() {
                Ok(kept) => eprintln!("--- output of all nodes: {} ---", kept.display()),
                Err(error) => eprintln!("--- the nodes' output cannot be kept: {error} ---"),
            }
            self.directory.disable_cleanup(true);
            eprintln!("--- data of all nodes: {data} ---");
        }
    }
}
