//! Plans from seeds: which of everything that could be there is there this time.
//!
//! *Swarm* options: a run with every fault and every client at once reaches less than many runs
//! that each leave most of them out. So a seed first draws which kinds are on, then how strong.
//!
//! The fault budget is kept here: what is drawn stays inside what one node promises. Damage to
//! synced bytes is only drawn where the scenario says that detection is all that is expected.

mod clients;
mod draw;
mod faults;
mod mirrors;
mod nemeses;
mod nodes;
mod settings;

use crate::plan::Plan;
use draw::Draw;

/// A family of plans.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    shape: Shape,
}

/// What a scenario leans to.
#[derive(Debug, Clone, Copy)]
struct Shape {
    clients: clients::Mix,
    faults: &'static [faults::Class],
    topics: settings::Topics,
    cluster: Option<Cluster>,
}

/// What a cluster's scenario has instead of the faults of one node.
#[derive(Debug, Clone, Copy)]
struct Cluster {
    faults: &'static [nemeses::Class],
    sizes: nodes::Sizes,
    /// Nodes that wait for an operator.
    late: u64,
    lean: Lean,
}

/// What a cluster's scenario has besides, with a promise of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lean {
    Nothing,
    /// Replicas confirm what they have in memory; one node alone loses its power.
    Memory,
    /// The metadata of one node is damaged.
    Relics,
    /// So it is, with most of it in a snapshot, and next to none in the log besides.
    Snapshots,
    /// Leaders change quickly while links stand still.
    Races,
    /// A fetch of an earlier leadership comes late.
    Delayed,
    /// Brokers and readers are in racks.
    Racks,
    /// Coordinators of groups that are replaced, and asked all the same.
    Coordinators,
    /// What leaders propose of the in-sync replicas is late, or its answer is.
    Proposals,
    /// Segments of one node are damaged, while others are away.
    Damaged,
    /// Records are deleted while replicas are away.
    Deleted,
    /// Topics are compacted.
    Compacted,
    /// A second cluster copies from this one.
    Mirrored,
    /// The same, as MirrorMaker names it.
    Maker,
    /// A third copies from one of the two.
    Ring,
}

impl Scenario {
    /// Whether there is more than one node.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.shape.cluster.is_some()
    }
}

/// One node.
const fn alone(
    clients: clients::Mix,
    faults: &'static [faults::Class],
    topics: settings::Topics,
) -> Shape {
    Shape {
        clients,
        faults,
        topics,
        cluster: None,
    }
}

/// Several nodes, of which `late` begin when the others have long been there.
const fn cluster(
    clients: clients::Mix,
    faults: &'static [nemeses::Class],
    sizes: nodes::Sizes,
    late: u64,
) -> Shape {
    Shape {
        clients,
        faults: &[],
        topics: settings::Topics::Kept,
        cluster: Some(Cluster {
            faults,
            sizes,
            late,
            lean: Lean::Nothing,
        }),
    }
}

/// Several nodes, and a scenario that leans to one thing.
const fn leaning(
    lean: Lean,
    clients: clients::Mix,
    faults: &'static [nemeses::Class],
    sizes: nodes::Sizes,
) -> Shape {
    Shape {
        clients,
        faults: &[],
        topics: settings::Topics::Kept,
        cluster: Some(Cluster {
            faults,
            sizes,
            late: 0,
            lean,
        }),
    }
}

/// As `shape`, with topics that are compacted.
const fn compacted(shape: Shape) -> Shape {
    Shape {
        topics: settings::Topics::Compacted,
        ..shape
    }
}

/// As `shape`, with topics that nobody takes records of by age or size.
const fn mirrored(shape: Shape) -> Shape {
    Shape {
        topics: settings::Topics::Mirrored,
        ..shape
    }
}

/// Scenarios whose findings are not all judged yet: for them a name has to be given, as for planted
/// ones. In what they find the harness may be at fault.
pub const ON_TRIAL: &[&str] = &["ring"];

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "node",
        about: "everything at once, each part on or off by the seed",
        shape: alone(clients::Mix::Everything, faults::ALL, settings::Topics::Any),
    },
    Scenario {
        name: "power",
        about: "kills, losses of power at any moment and inside any disk operation",
        shape: alone(clients::Mix::Logs, faults::CRASHES, settings::Topics::Any),
    },
    Scenario {
        name: "net",
        about: "cuts, stalls, resets, slow and half-open links, old and new protocol versions",
        shape: alone(
            clients::Mix::Everything,
            faults::NETWORK,
            settings::Topics::Any,
        ),
    },
    Scenario {
        name: "disk",
        about: "syncs, writes and reads that fail, full, slow and stalled disks",
        shape: alone(clients::Mix::Logs, faults::DISK, settings::Topics::Any),
    },
    Scenario {
        name: "rot",
        about: "synced bytes that change: detection only, one node has nothing to repair from",
        shape: alone(clients::Mix::Logs, faults::DAMAGE, settings::Topics::Kept),
    },
    Scenario {
        name: "group",
        about: "members that join, leave, vanish and freeze, commits, a coordinator that restarts",
        shape: alone(
            clients::Mix::Groups,
            faults::CRASHES_AND_NETWORK,
            settings::Topics::Kept,
        ),
    },
    Scenario {
        name: "clean",
        about: "compaction, retention and DeleteRecords under crashes and clocks that jump",
        shape: alone(
            clients::Mix::Cleaning,
            faults::CRASHES_AND_CLOCK,
            settings::Topics::Cleaned,
        ),
    },
    Scenario {
        name: "admin",
        about: "topics made, changed, deleted and made again under crashes",
        shape: alone(
            clients::Mix::Admin,
            faults::CRASHES_AND_NETWORK,
            settings::Topics::Any,
        ),
    },
    Scenario {
        name: "cluster",
        about: "nodes that are killed, lose power, stop and freeze, alone and all together",
        shape: cluster(
            clients::Mix::Cluster,
            nemeses::CRASHES,
            nodes::Sizes::Any,
            0,
        ),
    },
    Scenario {
        name: "partition",
        about: "nodes that cannot reach each other, one way, both ways, all from one, half from half",
        shape: cluster(
            clients::Mix::Cluster,
            nemeses::PARTITIONS,
            nodes::Sizes::Any,
            0,
        ),
    },
    Scenario {
        name: "rolling",
        about: "nodes that are restarted in order, one after another",
        shape: cluster(
            clients::Mix::Cluster,
            nemeses::ROLLING,
            nodes::Sizes::Any,
            0,
        ),
    },
    Scenario {
        name: "disks",
        about: "syncs, writes and reads that fail on some nodes, full disks, a disk that is lost",
        shape: cluster(clients::Mix::Cluster, nemeses::DISKS, nodes::Sizes::Any, 0),
    },
    Scenario {
        name: "voters",
        about: "voters that are taken out, wiped, added again, and new ones",
        shape: cluster(clients::Mix::Logs, nemeses::VOTERS, nodes::Sizes::Three, 1),
    },
    Scenario {
        name: "metadata",
        about: "topics made and deleted, partitions moved and leaders elected while nodes fail",
        shape: cluster(clients::Mix::Admin, nemeses::METADATA, nodes::Sizes::Any, 0),
    },
    Scenario {
        name: "memory",
        about: "replicas that confirm what they have in memory, and one node that loses its power",
        shape: leaning(
            Lean::Memory,
            clients::Mix::Cluster,
            nemeses::MEMORY,
            nodes::Sizes::Several,
        ),
    },
    Scenario {
        name: "relics",
        about: "damage to the metadata of one node, which an operator takes out and adds again",
        shape: leaning(
            Lean::Relics,
            clients::Mix::Logs,
            nemeses::RELICS,
            nodes::Sizes::Several,
        ),
    },
    Scenario {
        name: "races",
        about: "leaders that change to and fro while requests between nodes are held up",
        shape: leaning(
            Lean::Races,
            clients::Mix::Cluster,
            nemeses::RACES,
            nodes::Sizes::Several,
        ),
    },
    Scenario {
        name: "snapshots",
        about: "as relics, where a metadata log keeps next to nothing that its snapshot has",
        shape: leaning(
            Lean::Snapshots,
            clients::Mix::Cluster,
            nemeses::RELICS,
            nodes::Sizes::Several,
        ),
    },
    Scenario {
        name: "delayed",
        about: "fetches and answers that come when their leader was replaced and leads again",
        shape: leaning(
            Lean::Delayed,
            clients::Mix::Cluster,
            nemeses::DELAYED,
            nodes::Sizes::Apart,
        ),
    },
    Scenario {
        name: "racks",
        about: "readers that are served by the copy in their rack",
        shape: leaning(
            Lean::Racks,
            clients::Mix::Cluster,
            nemeses::RACKS,
            nodes::Sizes::Several,
        ),
    },
    Scenario {
        name: "coordinators",
        about: "coordinators of groups that are replaced, paused, cut off, and asked all the same",
        shape: leaning(
            Lean::Coordinators,
            clients::Mix::Coordinated,
            nemeses::COORDINATORS,
            nodes::Sizes::Several,
        ),
    },
    Scenario {
        name: "proposals",
        about: "in-sync replicas that are proposed, and what else happens until that is answered",
        shape: leaning(
            Lean::Proposals,
            clients::Mix::Cluster,
            nemeses::PROPOSALS,
            nodes::Sizes::Apart,
        ),
    },
    Scenario {
        name: "damaged",
        about: "segments of a leader that rot, with all copies in sync or some away",
        shape: leaning(
            Lean::Damaged,
            clients::Mix::Cluster,
            nemeses::DAMAGED,
            nodes::Sizes::Several,
        ),
    },
    Scenario {
        name: "deleted",
        about: "records deleted while replicas are away, and leaders that change to and fro",
        shape: leaning(
            Lean::Deleted,
            clients::Mix::Deleting,
            nemeses::DELETED,
            nodes::Sizes::Apart,
        ),
    },
    Scenario {
        name: "compacted",
        about: "compacted topics with copies that fall behind, and leaders that change",
        shape: compacted(leaning(
            Lean::Compacted,
            clients::Mix::Keyed,
            nemeses::COMPACTED,
            nodes::Sizes::Several,
        )),
    },
    Scenario {
        name: "mirror",
        about: "a second cluster that copies from the first, and may be promoted",
        shape: mirrored(leaning(
            Lean::Mirrored,
            clients::Mix::Mirrored,
            nemeses::MIRRORED,
            nodes::Sizes::OneOrThree,
        )),
    },
    Scenario {
        name: "maker",
        about: "the same, with links that keep what MirrorMaker would write beside",
        shape: mirrored(leaning(
            Lean::Maker,
            clients::Mix::Mirrored,
            nemeses::MIRRORED,
            nodes::Sizes::OneOrThree,
        )),
    },
    Scenario {
        name: "ring",
        about: "a third cluster that copies from the first or the second, and may be copied",
        shape: mirrored(leaning(
            Lean::Ring,
            clients::Mix::Mirrored,
            nemeses::MIRRORED,
            nodes::Sizes::OneOrThree,
        )),
    },
];

/// The plan of `seed`, the same for ever on the same code; `None` when no scenario has this name.
#[must_use]
pub fn plan(scenario: &str, seed: u64) -> Option<Plan> {
    let found = SCENARIOS.iter().find(|known| known.name == scenario)?;
    let mut draw = Draw::new(seed, found.name);
    let length_ms = draw.between(6_000, 20_000);
    let mut plan = Plan {
        scenario: found.name.to_owned(),
        seed,
        length_ms,
        liveness_ms: 60_000,
        broker: settings::broker(&mut draw.part("broker")),
        nodes: Vec::new(),
        link: settings::link(&mut draw.part("link")),
        disk: settings::disk(&mut draw.part("disk")),
        clock: settings::clock(&mut draw.part("clock")),
        topics: settings::topics(&mut draw.part("topics"), found.shape.topics),
        clients: Vec::new(),
        faults: Vec::new(),
        ..Plan::default()
    };
    if let Some(cluster) = found.shape.cluster {
        among_others(&mut plan, &draw, cluster);
    }
    plan.clients = clients::draw(&mut draw.part("clients"), found.shape.clients, &plan);
    if let Some(cluster) = found.shape.cluster {
        match cluster.lean {
            Lean::Races | Lean::Delayed | Lean::Proposals | Lean::Damaged | Lean::Compacted => {
                clients::hurry(&mut plan.clients);
            }
            Lean::Deleted => {
                clients::hurry(&mut plan.clients);
                clients::deleting(&mut plan.clients);
            }
            Lean::Coordinators => {
                clients::coordinated(&mut draw.part("coordinators"), &mut plan.clients);
            }
            Lean::Racks => clients::in_racks(&mut draw.part("racks"), &mut plan.clients),
            Lean::Nothing | Lean::Memory | Lean::Relics | Lean::Snapshots => {}
            Lean::Mirrored | Lean::Maker | Lean::Ring => {}
        }
        plan.faults = nemeses::draw(&mut draw.part("faults"), cluster, &plan);
        if matches!(cluster.lean, Lean::Mirrored | Lean::Maker | Lean::Ring) {
            mirrors::add(&draw.part("mirrors"), &mut plan, cluster);
        }
        if cluster.lean == Lean::Maker {
            mirrors::like_mirror_maker(&mut plan);
        }
        if cluster.lean == Lean::Ring {
            mirrors::add_third(&draw.part("ring"), &mut plan, cluster);
        }
        return Some(plan);
    }
    plan.faults = faults::draw(&mut draw.part("faults"), found.shape.faults, &plan);
    Some(plan)
}

/// Turns the node of a plan into several.
fn among_others(plan: &mut Plan, draw: &Draw, cluster: Cluster) {
    plan.nodes = nodes::nodes(&mut draw.part("nodes"), cluster.sizes, cluster.late);
    let in_time = plan.nodes.iter().filter(|node| !node.late);
    let brokers = in_time.filter(|node| node.is_broker()).count();
    nodes::broker(&mut draw.part("cluster"), &mut plan.broker, brokers);
    nodes::replicate(&mut draw.part("copies"), &mut plan.topics, brokers);
    match cluster.lean {
        Lean::Nothing | Lean::Mirrored | Lean::Maker | Lean::Ring => {}
        Lean::Memory => nodes::in_memory(&mut draw.part("memory"), plan),
        Lean::Relics => nodes::spare(plan),
        Lean::Races => nodes::racing(&mut draw.part("races"), plan),
        Lean::Snapshots => nodes::snapshots(&mut draw.part("snapshots"), plan),
        Lean::Delayed => nodes::delayed(&mut draw.part("delayed"), plan),
        Lean::Racks => nodes::in_racks(plan),
        Lean::Coordinators => nodes::coordinators(&mut draw.part("coordinators"), plan),
        Lean::Proposals => nodes::proposals(&mut draw.part("proposals"), plan),
        Lean::Damaged => nodes::spare(plan),
        Lean::Deleted => nodes::deleted(&mut draw.part("deleted"), plan),
        Lean::Compacted => nodes::compacted(&mut draw.part("compacted"), plan),
    }
}

#[cfg(test)]
mod tests {
    use super::{SCENARIOS, plan};

    #[test]
    fn a_seed_means_one_plan_and_a_plan_survives_its_file() {
        for scenario in SCENARIOS {
            for seed in 0..50 {
                let first = plan(scenario.name, seed).expect("known");
                assert_eq!(Some(&first), plan(scenario.name, seed).as_ref());
                let text = toml::to_string(&first).expect("a plan can be written");
                let read: crate::plan::Plan = toml::from_str(&text).expect("and read");
                assert_eq!(read, first, "{text}");
            }
        }
        assert_eq!(plan("no such scenario", 1), None);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(plan("node", 1), plan("node", 2));
    }
}
