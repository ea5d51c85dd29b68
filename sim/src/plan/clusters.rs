//! Several clusters in one plan.

use std::collections::BTreeMap;

use klamm::controller::pattern_matches;
use serde::{Deserialize, Serialize};

use super::{ClientPlan, ClockOptions, DiskOptions, NodePlan, Plan, TimedFault, TopicPlan};

/// A cluster beside the first of a plan. Names of hosts are unique in the whole plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterPlan {
    pub name: String,
    /// Settings of each of its nodes.
    #[serde(default)]
    pub broker: BTreeMap<String, String>,
    #[serde(default)]
    pub disk: DiskOptions,
    #[serde(default)]
    pub clock: ClockOptions,
    /// At least one, each with settings that tell of a quorum.
    pub nodes: Vec<NodePlan>,
    #[serde(default)]
    pub topics: Vec<TopicPlan>,
    #[serde(default)]
    pub clients: Vec<ClientPlan>,
    #[serde(default)]
    pub faults: Vec<TimedFault>,
    #[serde(default)]
    pub links: Vec<LinkPlan>,
}

/// A link of a cluster, which its operator makes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkPlan {
    pub name: String,
    /// The cluster that it copies from; empty for the first.
    #[serde(default)]
    pub from: String,
    /// `*` stands for any characters, here and in the next.
    pub topics: Vec<String>,
    #[serde(default)]
    pub groups: Vec<String>,
    /// Milliseconds since the clients started.
    #[serde(default)]
    pub at_ms: u64,
    /// When all of it is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promote_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Whether it names mirrors as MirrorMaker does, with its policy that leaves names as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub identity: bool,
    /// Where it finds brokers of its source.
    #[serde(skip)]
    pub bootstrap: String,
}

impl LinkPlan {
    /// Its source, as histories name it.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        (!self.from.is_empty()).then_some(self.from.as_str())
    }

    #[must_use]
    pub fn wants(&self, topic: &str) -> bool {
        let mut patterns = self.topics.iter();
        !topic.starts_with("__") && patterns.any(|pattern| pattern_matches(pattern, topic))
    }
}

impl Plan {
    /// A plan for each cluster, the first before the others.
    #[must_use]
    pub fn of_clusters(&self) -> Vec<Self> {
        let first = Self {
            beside: Vec::new(),
            ..self.clone()
        };
        let beside = self.beside.iter().map(|cluster| Self {
            scenario: self.scenario.clone(),
            seed: self.seed,
            length_ms: self.length_ms,
            liveness_ms: self.liveness_ms,
            broker: cluster.broker.clone(),
            nodes: cluster.nodes.clone(),
            link: self.link,
            disk: cluster.disk,
            clock: cluster.clock,
            topics: cluster.topics.clone(),
            clients: cluster.clients.clone(),
            faults: cluster.faults.clone(),
            beside: Vec::new(),
            wide: self.wide,
            cluster: Some(cluster.name.clone()),
            mirrored: Vec::new(),
            links: cluster.links.clone(),
        });
        let mut plans: Vec<Self> = std::iter::once(first).chain(beside).collect();
        // Once around all clusters for each that a topic may come through.
        for at in (0..plans.len()).cycle().take(plans.len() * plans.len()) {
            for link in 0..plans[at].links.len() {
                let from = plans[at].links[link].source();
                let source = plans.iter().find(|plan| plan.cluster.as_deref() == from);
                let Some(source) = source.cloned() else {
                    continue;
                };
                let plan = &mut plans[at];
                plan.links[link].bootstrap = source.bootstrap();
                let mirrored = mirrored(&plan.links[link], &source, plan);
                plan.mirrored.extend(mirrored);
            }
        }
        plans
    }

    /// The topics that a cluster has from the beginning, or is to have by links.
    pub fn all_topics(&self) -> impl Iterator<Item = &TopicPlan> {
        self.topics.iter().chain(&self.mirrored)
    }
}

/// The topics of `source` that the link makes in the cluster of `target`.
fn mirrored(link: &LinkPlan, source: &Plan, target: &Plan) -> Vec<TopicPlan> {
    let copies = target.broker.get("default.replication.factor");
    let copies = copies.and_then(|copies| copies.parse().ok()).unwrap_or(1);
    let wanted = source.all_topics().filter(|topic| link.wants(&topic.name));
    let new = wanted.filter(|topic| {
        let mut known = target.all_topics();
        !known.any(|known| known.name == topic.name)
    });
    new.map(|topic| {
        let mut config = topic.config.clone();
        for own in ["min.insync.replicas", "klamm.durability"] {
            config.remove(own);
        }
        TopicPlan {
            replicas: copies,
            config,
            ..topic.clone()
        }
    })
    .collect()
}
