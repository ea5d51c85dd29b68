//! A cluster under load to which things are done, and what must hold in the end.

use std::time::{Duration, Instant};

use super::environment;
use super::eyes::wait;
use super::load::{Load, TOPIC};
use super::process::ClusterProcess;
use super::replicas;

/// How long a cluster with a node less may take until all partitions take writes again.
const WRITES_LIMIT: Duration = Duration::from_secs(60);
/// How long replicas may take to catch up after a restart.
const WHOLE_LIMIT: Duration = Duration::from_secs(60);

pub struct Trouble {
    pub cluster: ClusterProcess,
    pub load: Load,
    name: &'static str,
}

impl Trouble {
    /// A cluster with a load on it. `KLAMM_CLUSTER_NODES` says of how many nodes (3).
    pub fn start(name: &'static str) -> Self {
        let nodes = environment("KLAMM_CLUSTER_NODES").unwrap_or(3);
        let cluster = ClusterProcess::start(nodes, &[]);
        let replicas = i16::try_from(nodes.min(3)).expect("a few");
        let load = Load::start(&cluster.bootstrap(), replicas);
        let trouble = Self {
            cluster,
            load,
            name,
        };
        trouble.wait_for_writes(Instant::now());
        trouble.wait_until_whole();
        trouble
    }

    /// Waits until every partition has acknowledged something after `then`.
    pub fn wait_for_writes(&self, then: Instant) {
        wait("writes to every partition", WRITES_LIMIT, || {
            match self.load.pulse().silent_since(then) {
                None => Ok(()),
                Some(at) => {
                    let silent = then.elapsed();
                    Err(format!(
                        "nothing was written to {TOPIC}-{at} for {silent:.1?}"
                    ))
                }
            }
        });
    }

    /// Waits until all nodes see all replicas in sync.
    pub fn wait_until_whole(&self) {
        let eyes = self.cluster.eyes();
        eyes.wait_until_whole(self.cluster.ids(), WHOLE_LIMIT);
    }

    /// Ends the load, judges what its clients saw, and compares the replicas.
    pub fn finish(self) {
        let Self {
            mut cluster,
            load,
            name,
        } = self;
        eprintln!("{name}: {}", load.finish(name));
        cluster.eyes().wait_until_whole(cluster.ids(), WHOLE_LIMIT);
        cluster.stop_all();
        let bytes = replicas::compare(&cluster, TOPIC);
        eprintln!("{name}: {bytes} bytes of records are the same on every replica");
    }
}
