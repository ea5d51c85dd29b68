//! A run as data: what is built, who does what, what goes wrong when.
//!
//! A seed and a scenario's name give a plan; a plan and its seed give the run. Because the plan is
//! data, a failure can be kept as a file that survives changes of the code that draws plans, and
//! can be made smaller by taking parts away.

mod client;
mod fault;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use client::{ClientPlan, Role, Versions};
pub use fault::{Fault, FileKind, LinkOptions, SyncFailure, Target, TimedFault};

/// Everything that decides a run, beside the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub scenario: String,
    /// Of everything that is drawn while the plan is carried out.
    pub seed: u64,
    /// Milliseconds of the part with faults.
    pub length_ms: u64,
    /// Most milliseconds that the part without faults may take to reach what it must.
    pub liveness_ms: u64,
    /// Settings of the broker, as in its settings file.
    #[serde(default)]
    pub broker: BTreeMap<String, String>,
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
}

/// A topic that exists before the clients start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicPlan {
    pub name: String,
    pub partitions: i32,
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
