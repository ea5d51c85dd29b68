//! A second cluster that copies from the first over a wide-area link, and a third beside them.

use super::draw::Draw;
use super::{Cluster, clients, nemeses, nodes, settings};
use crate::plan::{
    ClientPlan, ClusterPlan, Fault, LinkOptions, LinkPlan, Plan, Role, Target, TimedFault,
    TopicPlan,
};

/// The second cluster and the third; names of their hosts begin with these.
const SECOND: &str = "b";
const THIRD: &str = "c";
const LINK: &str = "west";
/// The link of the third cluster.
const ONWARD: &str = "onward";
/// Most faults between the clusters.
const WIDE_FAULTS_MAX: u64 = 6;

/// What may happen between the clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wide {
    /// Nothing passes between them.
    Apart,
    /// Nothing passes one way between two nodes.
    Cut,
    Stall,
    Reset,
    Slow,
}

const WIDE: &[Wide] = &[
    Wide::Apart,
    Wide::Apart,
    Wide::Cut,
    Wide::Stall,
    Wide::Reset,
    Wide::Reset,
    Wide::Slow,
];

/// Adds the second cluster to a plan that has its clients.
pub(super) fn add(draw: &Draw, plan: &mut Plan, cluster: Cluster) {
    let auto = ("auto.create.topics.enable".to_owned(), "false".to_owned());
    plan.broker.extend([auto.clone()]);
    for topic in &mut plan.topics {
        // Each cluster's own clock would say when it is over.
        if let Some(horizon) = topic.config.get_mut("delete.retention.ms") {
            "86400000".clone_into(horizon);
        }
    }
    plan.wide = Some(wide(&mut draw.part("wide")));
    let mut second = empty(draw, cluster, SECOND, "second", "discovery");
    let mut drawn = draw.part("link");
    second.links = vec![LinkPlan {
        name: LINK.to_owned(),
        topics: vec!["*".to_owned()],
        groups: vec!["*".to_owned()],
        at_ms: drawn.one_of(&[0, 0, 500, 3000]),
        promote_ms: drawn
            .chance(45)
            .then(|| drawn.between(plan.length_ms / 3, plan.length_ms * 3 / 4)),
        bytes_per_second: drawn.chance(20).then_some(20_000),
        ..LinkPlan::default()
    }];
    let mut drawn = draw.part("both ways");
    if drawn.chance(25) {
        both_ways(&mut drawn, plan, &mut second);
    }
    let mut drawn = draw.part("loses");
    if plan.nodes.len() > 1 && drawn.chance(25) {
        loses(&mut drawn, plan);
    }
    let seen = seen_from(plan, &second);
    second.clients = others(&mut draw.part("second clients"), plan, &seen, SECOND);
    second.faults = nemeses::draw(&mut draw.part("second faults"), cluster, &seen);
    let between = between(&mut draw.part("between"), plan, &second);
    second.faults.extend(between);
    second.faults.sort_by_key(|fault| fault.at_ms);
    plan.beside = vec![second];
}

/// A cluster without topics, links or clients. The labels are those of what is drawn for it.
fn empty(draw: &Draw, cluster: Cluster, name: &str, label: &str, interval: &str) -> ClusterPlan {
    let part = |of: &str| draw.part(&format!("{label}{of}"));
    let mut plan = ClusterPlan {
        name: name.to_owned(),
        broker: settings::broker(&mut part("")),
        disk: settings::disk(&mut part(" disk")),
        clock: settings::clock(&mut part(" clock")),
        nodes: nodes::nodes(&mut part(" nodes"), cluster.sizes, 0),
        ..ClusterPlan::default()
    };
    let brokers = plan.nodes.len();
    nodes::broker(&mut part(" cluster"), &mut plan.broker, brokers);
    let auto = ("auto.create.topics.enable".to_owned(), "false".to_owned());
    plan.broker.extend([auto]);
    let interval = draw.part(interval).one_of(&["200", "500", "2000"]);
    let discovery = "klamm.mirror.discovery.interval.ms".to_owned();
    plan.broker.extend([(discovery, interval.to_owned())]);
    rename(&mut plan);
    plan
}

/// A third cluster, which copies from the first or, at second hand, from the second. Sometimes the
/// first copies from it in turn: what is its own must not come back to it round the ring.
pub(super) fn add_third(draw: &Draw, plan: &mut Plan, cluster: Cluster) {
    let mut third = empty(draw, cluster, THIRD, "third", "third discovery");
    let mut drawn = draw.part("third link");
    let from = drawn.one_of(&["", SECOND, SECOND]);
    third.links = vec![LinkPlan {
        name: ONWARD.to_owned(),
        from: from.to_owned(),
        topics: vec!["*".to_owned()],
        groups: vec!["*".to_owned()],
        at_ms: drawn.one_of(&[0, 1000]),
        ..LinkPlan::default()
    }];
    if drawn.chance(50) {
        third.topics = vec![own_topic(plan, &third)];
        let mut links = plan.beside.iter().flat_map(|other| &other.links);
        // See `both_ways`.
        let topics = match links.any(|link| link.promote_ms.is_some()) {
            true => format!("{THIRD}-*"),
            false => "*".to_owned(),
        };
        plan.links.push(LinkPlan {
            name: "round".to_owned(),
            from: THIRD.to_owned(),
            topics: vec![topics],
            at_ms: drawn.one_of(&[0, 2000]),
            ..LinkPlan::default()
        });
        let interval = "klamm.mirror.discovery.interval.ms".to_owned();
        plan.broker.extend([(interval, "300".to_owned())]);
    }
    let seen = seen_from(plan, &third);
    third.clients = others(&mut draw.part("third clients"), plan, &seen, THIRD);
    third.faults = nemeses::draw(&mut draw.part("third faults"), cluster, &seen);
    let between = between(&mut draw.part("third between"), plan, &third);
    third.faults.extend(between);
    third.faults.sort_by_key(|fault| fault.at_ms);
    plan.beside.push(third);
}

/// A topic like the first cluster's first, under a name of its own.
fn own_topic(plan: &Plan, of: &ClusterPlan) -> TopicPlan {
    let mut own = plan.topics[0].clone();
    own.name = format!("{}-{}", of.name, own.name);
    own.replicas = i16::try_from(of.nodes.len().min(3)).unwrap_or(1);
    own.config.remove("min.insync.replicas");
    own
}

/// All links keep MirrorMaker's topics. Names stay as they are, by which histories know mirrors.
pub(super) fn like_mirror_maker(plan: &mut Plan) {
    let beside = plan.beside.iter_mut().flat_map(|other| &mut other.links);
    for link in plan.links.iter_mut().chain(beside) {
        link.identity = true;
    }
}

/// The first cluster copies from the second as well, which has a topic of its own. Where the second
/// is promoted, all that it has is its own from then on: a topic that the first one's clients made
/// and deleted may come to it from there, and is no concern of the plan.
fn both_ways(draw: &mut Draw, plan: &mut Plan, second: &mut ClusterPlan) {
    second.topics = vec![own_topic(plan, second)];
    let is_promoted = second.links.iter().any(|link| link.promote_ms.is_some());
    let topics = match is_promoted {
        true => format!("{SECOND}-*"),
        false => "*".to_owned(),
    };
    plan.links = vec![LinkPlan {
        name: "back".to_owned(),
        from: SECOND.to_owned(),
        topics: vec![topics],
        at_ms: draw.one_of(&[0, 2000]),
        ..LinkPlan::default()
    }];
    let interval = "klamm.mirror.discovery.interval.ms".to_owned();
    plan.broker.extend([(interval, "300".to_owned())]);
}

/// The first cluster's topics are safe in memory alone, and all of it is lost at once: whoever
/// copied them may have what is gone.
fn loses(draw: &mut Draw, plan: &mut Plan) {
    for topic in &mut plan.topics {
        let durability = ("klamm.durability".to_owned(), "replicated".to_owned());
        topic.config.extend([durability]);
    }
    for _ in 0..draw.between(1, 3) {
        let at_ms = draw.between(1000, plan.length_ms - 500);
        let fault = Fault::PowerLoss {
            node: "all".to_owned(),
            down_ms: draw.one_of(&[100, 1000]),
        };
        plan.faults.push(TimedFault { at_ms, fault });
    }
    plan.faults.sort_by_key(|fault| fault.at_ms);
}

/// Names hosts and nodes after their cluster.
fn rename(cluster: &mut ClusterPlan) {
    let (count, name) = (cluster.nodes.len(), &cluster.name);
    for node in &mut cluster.nodes {
        node.name = node.name.replacen('n', name, 1);
        for value in node.settings.values_mut() {
            for at in 1..=count {
                *value = value.replace(&format!("n{at}:"), &format!("{name}{at}:"));
            }
        }
    }
}

/// A plan of the second cluster alone, with the topics that it is going to have.
fn seen_from(plan: &Plan, second: &ClusterPlan) -> Plan {
    let copies = i16::try_from(second.nodes.len().min(3)).unwrap_or(1);
    let mut topics = plan.topics.clone();
    for topic in &mut topics {
        topic.replicas = copies;
    }
    topics.extend(second.topics.clone());
    Plan {
        scenario: plan.scenario.clone(),
        seed: plan.seed,
        length_ms: plan.length_ms,
        broker: second.broker.clone(),
        nodes: second.nodes.clone(),
        topics,
        ..Plan::default()
    }
}

fn wide(draw: &mut Draw) -> LinkOptions {
    let latency_min_ms = draw.one_of(&[1, 5, 20, 80]);
    LinkOptions {
        latency_min_ms,
        latency_mean_ms: latency_min_ms + draw.one_of(&[1, 10, 40]),
        bandwidth: draw.one_of(&[0, 0, 16 << 10, 64 << 10, 1 << 20]),
        window: draw.one_of(&[8 << 10, 64 << 10, 256 << 10]),
        split_percent: draw.one_of(&[0, 5, 25]),
    }
}

/// Who reads mirrors, and who writes to them: refused until they are promoted. Members of the
/// source's groups come once that is so.
fn others(draw: &mut Draw, plan: &Plan, seen: &Plan, name: &str) -> Vec<ClientPlan> {
    let mut all = clients::draw(draw, clients::Mix::Following, seen);
    for client in &mut all {
        client.name = format!("{name}-{}", client.name);
        if let Role::Member { group, .. } = &mut client.role {
            let named = plan.clients.iter().find_map(|other| match &other.role {
                Role::Member { group, .. } => Some(group.clone()),
                _ => None,
            });
            *group = named.unwrap_or_else(|| group.clone());
            client.after_promotion = true;
        }
        client.after_promotion |= matches!(client.role, Role::Deleter { .. });
    }
    all
}

fn between(draw: &mut Draw, plan: &Plan, second: &ClusterPlan) -> Vec<TimedFault> {
    let names = |nodes: &[crate::plan::NodePlan]| -> Vec<String> {
        nodes.iter().map(|node| node.name.clone()).collect()
    };
    let (theirs, ours) = (names(&plan.nodes), names(&second.nodes));
    let mut faults = Vec::new();
    for number in 0..draw.between(0, WIDE_FAULTS_MAX) {
        let mut draw = draw.numbered("wide", number);
        let at_ms = draw.between(300, plan.length_ms - 500);
        let for_ms = draw.one_of(&[300, 1000, 3000, 8000]);
        let ends = [draw.one_of(&theirs), draw.one_of(&ours)];
        let [from, to] = match draw.chance(50) {
            true => ends,
            false => [ends[1].clone(), ends[0].clone()],
        };
        let link = Target { from, to };
        let fault = match draw.one_of(WIDE) {
            Wide::Apart => Fault::Split {
                sides: vec![theirs.clone(), ours.clone()],
                for_ms,
            },
            Wide::Cut => Fault::Cut { link, for_ms },
            Wide::Stall => Fault::Stall { link, for_ms },
            Wide::Reset => Fault::Reset { link },
            Wide::Slow => Fault::Slow {
                link,
                options: wide(&mut draw),
                for_ms,
            },
        };
        faults.push(TimedFault { at_ms, fault });
    }
    let promoted = second.links.iter().find_map(|link| link.promote_ms);
    if let Some(promote_ms) = promoted.filter(|_| draw.chance(60)) {
        // The source is out of reach before, and for the rest of the time.
        faults.push(TimedFault {
            at_ms: promote_ms.saturating_sub(draw.between(0, 2000)),
            fault: Fault::Split {
                sides: vec![theirs, ours],
                for_ms: plan.length_ms,
            },
        });
    }
    faults
}
