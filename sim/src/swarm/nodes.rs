//! The nodes of a cluster, their settings, and its topics.

use std::collections::BTreeMap;

use super::draw::Draw;
use crate::plan::{NodePlan, Plan, TopicPlan};

/// Who is what.
struct Part {
    is_broker: bool,
    is_controller: bool,
}

/// How many nodes of which kind: controllers that are brokers too, controllers alone, brokers
/// alone.
const SIZES: &[(u64, u64, u64)] = &[
    (3, 0, 0),
    (3, 0, 0),
    (3, 0, 0),
    (3, 0, 0),
    (3, 0, 0),
    (3, 0, 0),
    (1, 0, 0),
    (2, 0, 0),
    (3, 0, 1),
    (3, 0, 2),
    (5, 0, 0),
    (0, 3, 3),
    (3, 0, 4),
];

const SEVERAL: &[(u64, u64, u64)] = &[
    (3, 0, 0),
    (3, 0, 0),
    (3, 0, 0),
    (3, 0, 0),
    (3, 0, 1),
    (0, 3, 3),
];

/// Nodes with `late` more that wait to be started.
pub(super) fn nodes(draw: &mut Draw, sizes: Sizes, late: u64) -> Vec<NodePlan> {
    let (both, controllers, brokers) = match sizes {
        Sizes::Any => draw.one_of(SIZES),
        Sizes::Three => (3, 0, 0),
        Sizes::Several => draw.one_of(SEVERAL),
        Sizes::Apart => (0, 3, 3),
        Sizes::OneOrThree => draw.one_of(&[(1, 0, 0), (3, 0, 0)]),
    };
    let kinds = [
        (both, true, true),
        (controllers, false, true),
        (brokers, true, false),
    ];
    let mut parts = Vec::new();
    for (count, is_broker, is_controller) in kinds {
        parts.extend((0..count).map(|_| Part {
            is_broker,
            is_controller,
        }));
    }
    let in_time = parts.len();
    parts.extend((0..late).map(|_| Part {
        is_broker: true,
        is_controller: true,
    }));
    let voters = parts[..in_time].iter().enumerate();
    let voters = voters.filter(|(_, part)| part.is_controller);
    let voters: Vec<usize> = voters.map(|(at, _)| at).collect();
    let each = voters.iter().map(|at| format!("{}:9093", name(*at)));
    let bootstrap = each.collect::<Vec<String>>().join(",");
    let each = voters
        .iter()
        .map(|at| format!("{}@{}:9093", at + 1, name(*at)));
    let voters = each.collect::<Vec<String>>().join(",");
    let each = parts.iter().enumerate();
    each.map(|(at, part)| NodePlan {
        name: name(at),
        settings: settings(at, part, (at < in_time).then_some(&*voters), &bootstrap),
        late: at >= in_time,
    })
    .collect()
}

/// Which sizes of clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    Any,
    /// Enough brokers for three copies, and few more.
    Several,
    /// Three controllers, and three brokers beside them.
    Apart,
    /// Three nodes that are all controllers and brokers.
    Three,
    /// One node, or three, that are controllers and brokers.
    OneOrThree,
}

fn name(at: usize) -> String {
    format!("n{}", at + 1)
}

/// One that is no voter at first finds the others by `bootstrap`.
fn settings(
    at: usize,
    part: &Part,
    voters: Option<&str>,
    bootstrap: &str,
) -> BTreeMap<String, String> {
    let name = name(at);
    let clients = format!("PLAINTEXT://{name}:9092");
    let nodes = format!("CONTROLLER://{name}:9093");
    let (roles, listeners) = match (part.is_broker, part.is_controller) {
        (true, true) => ("broker,controller", format!("{clients},{nodes}")),
        (false, _) => ("controller", nodes),
        (true, false) => ("broker", clients),
    };
    let quorum = match voters {
        Some(voters) => ("controller.quorum.voters", voters.to_owned()),
        None => ("controller.quorum.bootstrap.servers", bootstrap.to_owned()),
    };
    BTreeMap::from(
        [
            quorum,
            ("node.id", (at + 1).to_string()),
            ("process.roles", roles.to_owned()),
            ("listeners", listeners),
            ("controller.listener.names", "CONTROLLER".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    )
}

/// Adds to the settings of all nodes what only clusters need.
pub(super) fn broker(draw: &mut Draw, settings: &mut BTreeMap<String, String>, brokers: usize) {
    settings.remove("listeners");
    let mut set = |key: &str, value: u64| settings.insert(key.to_owned(), value.to_string());
    let copies = brokers.min(3) as u64;
    set("offsets.topic.replication.factor", copies);
    set("default.replication.factor", copies);
    let least = if copies == 3 { 2 } else { 1 };
    set("min.insync.replicas", least);
    set(
        "broker.heartbeat.interval.ms",
        draw.one_of(&[100, 300, 500]),
    );
    set(
        "broker.session.timeout.ms",
        draw.one_of(&[1000, 2000, 3000]),
    );
    set(
        "replica.lag.time.max.ms",
        draw.one_of(&[1000, 3000, 30_000]),
    );
    set("replica.fetch.wait.max.ms", draw.one_of(&[100, 200, 500]));
    set("replica.fetch.backoff.ms", draw.one_of(&[50, 200, 1000]));
    set(
        "replica.fetch.max.bytes",
        draw.one_of(&[1000, 20_000, 1 << 20]),
    );
    set(
        "controller.quorum.election.timeout.ms",
        draw.one_of(&[400, 400, 1000]),
    );
    set(
        "controller.quorum.fetch.timeout.ms",
        draw.one_of(&[400, 600, 2000]),
    );
    set(
        "controller.quorum.request.timeout.ms",
        draw.one_of(&[1000, 2000]),
    );
    if draw.chance(30) {
        set(
            "leader.imbalance.check.interval.seconds",
            draw.one_of(&[1, 3]),
        );
    }
}

/// Gives topics copies, and says how many an acknowledgement needs.
pub(super) fn replicate(draw: &mut Draw, topics: &mut [TopicPlan], brokers: usize) {
    for (number, topic) in topics.iter_mut().enumerate() {
        let mut draw = draw.numbered("topic", number as u64);
        let most = brokers.min(3);
        let copies = draw.one_of(&[3, 3, 3, 2, 1]).min(most);
        topic.replicas = i16::try_from(copies).unwrap_or(1);
        let least = match copies {
            3 => draw.one_of(&["2", "2", "2", "1"]),
            2 => draw.one_of(&["1", "2"]),
            _ => "1",
        };
        let config = &mut topic.config;
        config.insert("min.insync.replicas".to_owned(), least.to_owned());
    }
}

/// Three copies of everything, of which an acknowledgement needs two: one may be lost.
pub(super) fn spare(plan: &mut Plan) {
    for topic in &mut plan.topics {
        topic.replicas = 3;
        let least = ("min.insync.replicas".to_owned(), "2".to_owned());
        topic.config.extend([least]);
    }
}

/// Most topics confirm what replicas have in memory, and sometimes all do that do not say.
pub(super) fn in_memory(draw: &mut Draw, plan: &mut Plan) {
    spare(plan);
    let durability = "klamm.durability".to_owned();
    if draw.chance(40) {
        let by_default = (durability.clone(), "replicated".to_owned());
        plan.broker.extend([by_default]);
    }
    for (number, topic) in plan.topics.iter_mut().enumerate() {
        let mut draw = draw.numbered("topic", number as u64);
        let told = draw.one_of(&[
            "replicated",
            "replicated",
            "replicated",
            "replicated",
            "fsync",
        ]);
        topic.config.insert(durability.clone(), told.to_owned());
        let mut set =
            |key: &str, value: u64| topic.config.insert(key.to_owned(), value.to_string());
        if draw.chance(15) {
            set("flush.messages", draw.one_of(&[2, 20]));
        }
        if draw.chance(15) {
            set("flush.ms", draw.one_of(&[100, 1000]));
        }
    }
    let mut set = |key: &str, value: u64| plan.broker.insert(key.to_owned(), value.to_string());
    set(
        "replica.lag.time.max.ms",
        draw.one_of(&[1000, 1000, 3000, 30_000]),
    );
    set(
        "broker.session.timeout.ms",
        draw.one_of(&[2000, 3000, 3000]),
    );
    set("broker.heartbeat.interval.ms", draw.one_of(&[100, 300]));
}

/// Quick links, so that what holds them up stands out, and leaders that go back by themselves.
pub(super) fn racing(draw: &mut Draw, plan: &mut Plan) {
    spare(plan);
    plan.link.latency_min_ms = 1;
    plan.link.latency_mean_ms = draw.one_of(&[1, 2, 4]);
    plan.link.bandwidth = 0;
    let mut set = |key: &str, value: u64| plan.broker.insert(key.to_owned(), value.to_string());
    set(
        "replica.lag.time.max.ms",
        draw.one_of(&[600, 1000, 3000, 30_000, 30_000]),
    );
    set("broker.session.timeout.ms", draw.one_of(&[1000, 3000]));
    set("broker.heartbeat.interval.ms", draw.one_of(&[100, 300]));
    set("replica.fetch.backoff.ms", draw.one_of(&[50, 200]));
    if draw.chance(50) {
        set("leader.imbalance.check.interval.seconds", 1);
    }
}

/// Snapshots of the metadata follow each other closely, and take the place of the log.
pub(super) fn snapshots(draw: &mut Draw, plan: &mut Plan) {
    spare(plan);
    let mut set = |key: &str, value: u64| plan.broker.insert(key.to_owned(), value.to_string());
    set(
        "metadata.log.max.record.bytes.between.snapshots",
        draw.one_of(&[512, 2048]),
    );
    set("klamm.metadata.log.kept.entries", draw.one_of(&[0, 1, 10]));
}

/// As [`racing`], with leaders that change when they are asked to alone, and replicas that stay in
/// sync however late they are.
pub(super) fn delayed(draw: &mut Draw, plan: &mut Plan) {
    racing(draw, plan);
    let mut set = |key: &str, value: &str| plan.broker.insert(key.to_owned(), value.to_owned());
    // Whoever waits for records asks again and again, so that some of it is on its way.
    set(
        "replica.fetch.wait.max.ms",
        draw.one_of(&["20", "50", "200"]),
    );
    set("replica.lag.time.max.ms", "30000");
    set("auto.leader.rebalance.enable", "false");
    for topic in &mut plan.topics {
        topic.partitions = topic.partitions.min(2);
    }
}

/// Coordinators are replaced soon after they fell silent.
pub(super) fn coordinators(draw: &mut Draw, plan: &mut Plan) {
    spare(plan);
    let mut set = |key: &str, value: u64| plan.broker.insert(key.to_owned(), value.to_string());
    set("broker.session.timeout.ms", draw.one_of(&[1000, 2000]));
    set("broker.heartbeat.interval.ms", draw.one_of(&[100, 300]));
    set("offsets.topic.num.partitions", draw.between(1, 2));
    plan.broker.remove("connections.max.idle.ms");
}

/// As [`racing`], with replicas that leave soon, and leaders that stay however long their proposals
/// take.
pub(super) fn proposals(draw: &mut Draw, plan: &mut Plan) {
    racing(draw, plan);
    let mut set = |key: &str, value: u64| plan.broker.insert(key.to_owned(), value.to_string());
    set("replica.lag.time.max.ms", draw.one_of(&[500, 800]));
    set("broker.session.timeout.ms", 6000);
    set("broker.heartbeat.interval.ms", 100);
}

/// As [`racing`], with followers that leave soon or never.
pub(super) fn deleted(draw: &mut Draw, plan: &mut Plan) {
    racing(draw, plan);
    let lag = draw.one_of(&["600", "30000", "30000"]);
    let lag = ("replica.lag.time.max.ms".to_owned(), lag.to_owned());
    plan.broker.extend([lag]);
    for topic in &mut plan.topics {
        topic.partitions = topic.partitions.min(2);
    }
}

/// As [`racing`], with segments that are full soon, and compacted often.
pub(super) fn compacted(draw: &mut Draw, plan: &mut Plan) {
    racing(draw, plan);
    let backoff = draw.one_of(&["20", "100"]).to_owned();
    let backoff = ("log.cleaner.backoff.ms".to_owned(), backoff);
    plan.broker.extend([backoff]);
    for topic in &mut plan.topics {
        topic.partitions = topic.partitions.min(2);
        let mut set =
            |key: &str, value: &str| topic.config.insert(key.to_owned(), value.to_owned());
        set("segment.bytes", "4096");
        set("min.cleanable.dirty.ratio", "0.0");
    }
}

/// A rack for each broker, and readers may be served by the copy in theirs.
pub(super) fn in_racks(plan: &mut Plan) {
    spare(plan);
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let by_rack = ("replica.selector.class".to_owned(), selector.to_owned());
    plan.broker.extend([by_rack]);
    let brokers = plan.nodes.iter_mut().filter(|node| node.is_broker());
    for (at, node) in brokers.enumerate() {
        let rack = ("broker.rack".to_owned(), rack(at as u64));
        node.settings.extend([rack]);
    }
}

/// The name of a rack; there are three.
pub(super) fn rack(at: u64) -> String {
    format!("rack-{}", at % 3)
}

#[cfg(test)]
mod tests {
    use klamm::config::BrokerConfig;

    use crate::plan::Plan;
    use crate::swarm::{SCENARIOS, plan};

    /// The settings of each node, as it will load them.
    fn load(plan: &Plan) {
        for node in plan.all_nodes() {
            let mut settings = plan.broker.clone();
            settings.extend(node.settings.clone());
            if let Err(error) = BrokerConfig::load(None, [], settings) {
                panic!("{} of seed {}: {error}", node.name, plan.seed);
            }
        }
    }

    #[test]
    fn every_node_of_every_plan_has_settings_that_can_be_used() {
        for scenario in SCENARIOS {
            for seed in 0..100 {
                let plan = plan(scenario.name, seed).expect("known");
                plan.of_clusters().iter().for_each(load);
            }
        }
    }
}
