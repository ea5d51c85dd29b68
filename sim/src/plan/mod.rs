//! A run as data: what is built, who does what, what goes wrong when.
//!
//! A seed and a scenario's name give a plan; a plan and its seed give the run. Because the plan is
//! data, a failure can be kept as a file that survives changes of the code that draws plans, and
//! can be made smaller by taking parts away.

mod client;
mod clusters;
mod fault;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use client::{ClientPlan, Role, Versions};
pub use clusters::{ClusterPlan, LinkPlan};
pub use fault::{Fault, FileKind, LinkOptions, SyncFailure, Target, TimedFault};

/// Everything that decides a run, beside the code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub scenario: String,
    /// Of everything that is drawn while the plan is carried out.
    pub seed: u64,
    /// Milliseconds of the part with faults.
    pub length_ms: u64,
    /// Most milliseconds that the part without faults may take to reach what it must.
    pub liveness_ms: u64,
    /// Settings of the broker, as in its settings file; of every node, if there are several.
    #[serde(default)]
    pub broker: BTreeMap<String, String>,
    /// The nodes that run it. None stands for one that is called [`SERVER`] and has no settings of
    /// its own: a cluster by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodePlan>,
    /// Of every link that has no fault.
    #[serde(default)]
    pub link: LinkOptions,
    #[serde(default)]
    pub disk: DiskOptions,
    #[serde(default)]
    pub clock: ClockOptions,
    #[serde(default)]
    pub topics: Vec<TopicPlan>,
    #[serde(default)]
    pub clients: Vec<ClientPlan>,
    #[serde(default)]
    pub faults: Vec<TimedFault>,
    /// Links of this cluster, by which it copies from others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkPlan>,
    /// Other clusters, which this one reaches over links of another kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<ClusterPlan>,
    /// Of links between nodes of different clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wide: Option<LinkOptions>,
    /// Which of several clusters this is the plan of: the first has no name.
    #[serde(skip)]
    pub cluster: Option<String>,
    /// Topics that links bring, so that nobody makes them.
    #[serde(skip)]
    pub mirrored: Vec<TopicPlan>,
}

/// The node of a plan that names none.
pub const SERVER: &str = "server";

/// A node among others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Of its host.
    pub name: String,
    /// Its own settings, over those of all.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Whether it waits for an operator to start it first: `add-node` does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

impl NodePlan {
    /// Whether clients can reach it.
    #[must_use]
    pub fn is_broker(&self) -> bool {
        let roles = self.settings.get("process.roles");
        roles.is_none_or(|roles| roles.contains("broker"))
    }

    /// Whether it is one of the voters at first.
    #[must_use]
    pub fn is_controller(&self) -> bool {
        let roles = self.settings.get("process.roles");
        roles.is_none_or(|roles| roles.contains("controller"))
    }
}

impl Plan {
    /// The nodes, also where the plan names none.
    #[must_use]
    pub fn all_nodes(&self) -> Vec<NodePlan> {
        if !self.nodes.is_empty() {
            return self.nodes.clone();
        }
        vec![NodePlan {
            name: SERVER.to_owned(),
            settings: BTreeMap::new(),
            late: false,
        }]
    }

    /// Whether there are several nodes, or one that has a quorum of its own.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// Where clients find the brokers: `host:port`, with commas between.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let nodes = self.all_nodes().into_iter();
        let brokers = nodes.filter(NodePlan::is_broker);
        let each: Vec<String> = brokers.map(|node| format!("{}:9092", node.name)).collect();
        each.join(",")
    }
}

fn one() -> i16 {
    1
}

fn is_one(number: &i16) -> bool {
    *number == 1
}

/// A topic that exists before the clients start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPlan {
    pub name: String,
    pub partitions: i32,
    /// Copies of each partition.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub replicas: i16,
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

/// How a healthy disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskOptions {
    /// Most milliseconds of a read or write; most are faster.
    pub latency_max_ms: u64,
    /// Most milliseconds of a sync.
    pub sync_max_ms: u64,
    pub capacity_bytes: u64,
    pub crash: CrashOptions,
}

/// What a loss of power does to what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashOptions {
    /// Percent of pending writes of which nothing is kept.
    pub drop_percent: u8,
    /// Percent of pending writes of which some sectors are kept; the rest is kept whole.
    pub tear_percent: u8,
    /// Percent of torn sectors that hold garbage instead of old bytes.
    pub garbage_percent: u8,
    /// Percent of pending changes of names that are lost.
    pub names_percent: u8,
    /// Whether what is kept is a prefix in time instead of any subset.
    pub in_order: bool,
}

/// How far a node's clocks are from the world's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockOptions {
    /// Parts per million by which a node's clocks run fast; negative for slow.
    pub drift_ppm: i32,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            latency_max_ms: 2,
            sync_max_ms: 6,
            capacity_bytes: 1 << 40,
            crash: CrashOptions::default(),
        }
    }
}

impl Default for CrashOptions {
    fn default() -> Self {
        Self {
            drop_percent: 34,
            tear_percent: 33,
            garbage_percent: 10,
            names_percent: 50,
            in_order: false,
        }
    }
}
