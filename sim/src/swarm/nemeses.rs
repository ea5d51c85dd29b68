//! What goes wrong in a cluster.

mod sequences;

use super::draw::Draw;
use super::faults::{self, FAULTS_MAX};
use super::{Cluster, Lean};
use crate::plan::{Fault, FileKind, NodePlan, Plan, Target, TimedFault};

/// A kind of fault that a seed turns on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Of one node, as with one node alone.
    Node(faults::Class),
    /// Several nodes at the same moment, maybe all.
    Together(faults::Class),
    /// One way between two nodes.
    CutNodes,
    Isolate,
    Split,
    Rolling,
    /// The disk of one node is lost, and its power with it.
    LoseDisk,
    /// Bits of what one node has synced flip.
    RotOne,
    Revote,
    Wipe,
    AddNode,
    Reassign,
    Elect,
    /// A sequence in which one node forgets what it had in memory while others count on it.
    Forgets,
    /// The metadata of one node is damaged, and it is started on that.
    Relic,
    /// A link between nodes is held up for a moment.
    StallNodes,
    /// A sequence in which a leader is held up, another takes its place, and it comes back.
    ToAndFro,
    /// A sequence in which a fetch or its answer comes when its leader leads again.
    Delayed,
    /// A sequence in which what a leader proposes of its in-sync replicas is late.
    Proposal,
    /// A sequence in which a coordinator of groups is replaced.
    Deposed,
    /// A sequence in which one node leads with damaged segments.
    Rotten,
    /// A sequence in which an answer comes when who asked leads.
    Crossed,
}

use Class::{Node, Together};
use faults::Class as C;

pub(super) const CRASHES: &[Class] = &[
    Node(C::Kill),
    Node(C::Power),
    Node(C::PowerInside),
    Node(C::Stop),
    Node(C::Pause),
    Together(C::Kill),
    Together(C::Power),
    Together(C::Stop),
];
pub(super) const PARTITIONS: &[Class] = &[
    Class::CutNodes,
    Class::Isolate,
    Class::Isolate,
    Class::Split,
    Node(C::Swizzle),
    Node(C::Cut),
    Node(C::Stall),
    Node(C::Reset),
    Node(C::Slow),
    Node(C::Refuse),
    Node(C::Kill),
    Node(C::Pause),
];
pub(super) const ROLLING: &[Class] =
    &[Class::Rolling, Class::Rolling, Node(C::Stop), Node(C::Kill)];
pub(super) const DISKS: &[Class] = &[
    Node(C::FailSync),
    Node(C::FailWrite),
    Node(C::FailRead),
    Node(C::Full),
    Node(C::SlowDisk),
    Node(C::StallDisk),
    Node(C::Kill),
    Together(C::Power),
    Class::LoseDisk,
    Class::RotOne,
];
pub(super) const VOTERS: &[Class] = &[
    Class::Revote,
    Class::Wipe,
    Class::AddNode,
    Node(C::Kill),
    Node(C::Power),
    Class::CutNodes,
    Class::Isolate,
];
pub(super) const METADATA: &[Class] = &[
    Class::Reassign,
    Class::Elect,
    Node(C::Kill),
    Node(C::Power),
    Node(C::Stop),
    Node(C::Pause),
    Class::Isolate,
    Together(C::Power),
];

pub(super) const MEMORY: &[Class] = &[
    Class::Forgets,
    Class::Forgets,
    Class::Forgets,
    Node(C::Power),
    Node(C::PowerInside),
    Node(C::Kill),
    Node(C::Stop),
    Node(C::Pause),
    Together(C::Kill),
    Class::Isolate,
    Class::CutNodes,
    Class::StallNodes,
    Class::Elect,
];
pub(super) const RELICS: &[Class] = &[
    Class::Relic,
    Node(C::Kill),
    Node(C::Stop),
    Node(C::Power),
    Node(C::Pause),
    Class::Isolate,
];
pub(super) const RACES: &[Class] = &[
    Class::ToAndFro,
    Class::ToAndFro,
    Class::StallNodes,
    Class::StallNodes,
    Class::Reassign,
    Class::Elect,
    Node(C::Kill),
    Node(C::Stop),
    Node(C::Pause),
    Node(C::Reset),
    Class::Isolate,
    Node(C::StallDisk),
];

pub(super) const DELAYED: &[Class] = &[
    Class::Delayed,
    Class::StallNodes,
    Class::Elect,
    Node(C::Kill),
    Node(C::Pause),
];
pub(super) const RACKS: &[Class] = &[
    Class::ToAndFro,
    Class::StallNodes,
    Class::Isolate,
    Class::CutNodes,
    Class::Elect,
    Node(C::Kill),
    Node(C::Power),
    Node(C::Stop),
    Node(C::Pause),
    Node(C::StallDisk),
    Together(C::Power),
];

pub(super) const COORDINATORS: &[Class] = &[
    Class::Deposed,
    Class::Deposed,
    Node(C::Kill),
    Node(C::Pause),
    Class::Isolate,
    Class::StallNodes,
];
pub(super) const PROPOSALS: &[Class] = &[
    Class::Proposal,
    Class::Proposal,
    Class::StallNodes,
    Class::Reassign,
    Node(C::Kill),
    Node(C::Stop),
    Node(C::Pause),
    Class::Isolate,
];
pub(super) const DAMAGED: &[Class] = &[
    Class::Rotten,
    Node(C::Kill),
    Node(C::Stop),
    Node(C::Pause),
    Class::StallNodes,
    Class::Elect,
];
pub(super) const DELETED: &[Class] = &[
    Class::Crossed,
    Class::LoseDisk,
    Class::Delayed,
    Node(C::Kill),
    Node(C::Power),
    Node(C::Pause),
    Class::StallNodes,
    Class::CutNodes,
    Class::Elect,
    Together(C::Kill),
    Together(C::Power),
];
pub(super) const COMPACTED: &[Class] = &[
    Class::ToAndFro,
    Class::StallNodes,
    Class::StallNodes,
    Class::Elect,
    Node(C::Kill),
    Node(C::Power),
    Node(C::StallDisk),
    Together(C::Power),
];

pub(super) const MIRRORED: &[Class] = &[
    Node(C::Kill),
    Node(C::Power),
    Node(C::PowerInside),
    Node(C::Stop),
    Node(C::Pause),
    Node(C::Reset),
    Node(C::StallDisk),
    Class::Isolate,
    Class::CutNodes,
    Class::StallNodes,
    Class::Elect,
    Together(C::Kill),
    Together(C::Power),
];

/// What a scenario leans to is always on: these classes.
const LEADING: &[(Lean, Class)] = &[
    (Lean::Memory, Class::Forgets),
    (Lean::Memory, Node(C::Power)),
    (Lean::Relics, Class::Relic),
    (Lean::Races, Class::ToAndFro),
    (Lean::Snapshots, Class::Relic),
    (Lean::Delayed, Class::Delayed),
    (Lean::Delayed, Class::Delayed),
    (Lean::Delayed, Class::Delayed),
    (Lean::Racks, Class::StallNodes),
    (Lean::Coordinators, Class::Deposed),
    (Lean::Coordinators, Class::Deposed),
    (Lean::Proposals, Class::Proposal),
    (Lean::Proposals, Class::Proposal),
    (Lean::Proposals, Class::Proposal),
    (Lean::Damaged, Class::Rotten),
    (Lean::Damaged, Class::Rotten),
    (Lean::Deleted, Class::Crossed),
    (Lean::Deleted, Class::Delayed),
    (Lean::Deleted, Class::LoseDisk),
    (Lean::Compacted, Class::StallNodes),
];

pub(super) fn draw(draw: &mut Draw, cluster: Cluster, plan: &Plan) -> Vec<TimedFault> {
    let (classes, lean) = (cluster.faults, cluster.lean);
    let on: Vec<Class> = classes
        .iter()
        .copied()
        .filter(|_| draw.chance(40))
        .collect();
    let on = match (on.is_empty(), classes.first()) {
        (true, Some(first)) => vec![*first],
        _ => on,
    };
    let mut on = on;
    let leading = LEADING.iter().filter(|(of, _)| *of == lean);
    on.extend(leading.map(|(_, class)| *class));
    let count = draw.between(1, FAULTS_MAX);
    // The one node that may lose its power, or its metadata.
    let able = plan.nodes.iter().filter(|node| match lean {
        Lean::Relics | Lean::Snapshots => node.is_controller(),
        _ => node.is_broker(),
    });
    let names: Vec<String> = able.map(|node| node.name.clone()).collect();
    let one = draw.numbered("one", 0).one_of(&names);
    let mut faults = Vec::new();
    if matches!(lean, Lean::Relics | Lean::Snapshots) {
        let mut draw = draw.numbered("relic", 0);
        let at_ms = draw.between(1500, plan.length_ms / 2);
        let drawn = sequences::relic(&mut draw, &one).into_iter();
        faults.extend(drawn.map(|(after, fault)| TimedFault {
            at_ms: at_ms + after,
            fault,
        }));
    }
    for number in 0..count {
        let mut draw = draw.numbered("fault", number);
        let class = draw.one_of(&on);
        let at_ms = draw.between(300, plan.length_ms - 500);
        let drawn = match class {
            Class::Forgets => sequences::forgets(&mut draw, plan, &one),
            Class::ToAndFro => sequences::to_and_fro(&mut draw, plan),
            Class::Delayed => sequences::delayed(&mut draw, plan),
            Class::Proposal => sequences::proposal(&mut draw, plan),
            Class::Deposed => sequences::deposed(&mut draw, plan),
            Class::Rotten => sequences::rotten(&mut draw, plan, &one),
            Class::Crossed => sequences::crossed(&mut draw, plan),
            _ => {
                let drawn = fault(&mut draw, class, plan).into_iter();
                drawn.map(|fault| (0, fault)).collect()
            }
        };
        faults.extend(drawn.into_iter().map(|(after, fault)| TimedFault {
            at_ms: at_ms + after,
            fault,
        }));
    }
    faults.sort_by_key(|fault| fault.at_ms);
    match lean {
        Lean::Memory => power_of_one(&mut faults, &one),
        // The budget is kept by there being one.
        Lean::Relics | Lean::Snapshots => return faults,
        _ => {}
    }
    keep_budget(&mut faults, plan);
    faults
}

/// A fault of each kind is about this node: by name, or by what it does then.
fn whom(draw: &mut Draw, plan: &Plan) -> String {
    let names: Vec<String> = plan.nodes.iter().map(|node| node.name.clone()).collect();
    match draw.between(0, 9) {
        0..4 => draw.one_of(&names),
        4..7 => "controller".to_owned(),
        _ => {
            let topic = draw.one_of(&plan.topics);
            let count = u64::try_from(topic.partitions).unwrap_or(1);
            let number = draw.between(0, count - 1);
            format!("leader {}-{number}", topic.name)
        }
    }
}

/// One fault of several nodes at once.
fn together(draw: &mut Draw, class: faults::Class, plan: &Plan, names: &[String]) -> Vec<Fault> {
    let mut some: Vec<String> = names.iter().filter(|_| draw.chance(60)).cloned().collect();
    if some.len() < 2 || draw.chance(40) {
        some = vec!["all".to_owned()];
    }
    let fault = faults::fault(draw, class, plan);
    some.iter().map(|node| aimed(fault.clone(), node)).collect()
}

fn fault(draw: &mut Draw, class: Class, plan: &Plan) -> Vec<Fault> {
    let names: Vec<String> = plan.nodes.iter().map(|node| node.name.clone()).collect();
    let for_ms = draw.one_of(&[300, 1000, 3000, 8000]);
    let down_ms = draw.one_of(&[0, 100, 1000, 4000]);
    let topic = draw.one_of(&plan.topics).name;
    match class {
        Node(class) => {
            let node = whom(draw, plan);
            vec![aimed(faults::fault(draw, class, plan), &node)]
        }
        Together(class) => together(draw, class, plan, &names),
        Class::CutNodes => vec![Fault::Cut {
            link: Target {
                from: whom(draw, plan),
                to: whom(draw, plan),
            },
            for_ms,
        }],
        Class::Isolate => vec![Fault::Isolate {
            node: whom(draw, plan),
            inbound: draw.chance(75),
            outbound: draw.chance(75),
            clients: draw.chance(30),
            for_ms,
        }],
        Class::Split => vec![Fault::Split {
            sides: sides(draw, names),
            for_ms,
        }],
        Class::Rolling => vec![Fault::Rolling {
            down_ms: draw.one_of(&[0, 100, 1000]),
            pause_ms: draw.one_of(&[0, 500, 2000]),
        }],
        Class::LoseDisk => vec![lose_disk(draw.one_of(&names), plan, down_ms)],
        Class::RotOne => vec![Fault::Rot {
            node: draw.one_of(&names),
            kind: FileKind::Segment,
            bits: draw.one_of(&[1, 8]),
        }],
        Class::Revote | Class::Wipe => vec![Fault::Revote {
            node: draw.one_of(&names),
            wipe: class == Class::Wipe,
            down_ms,
        }],
        Class::AddNode => {
            let late = plan.nodes.iter().find(|node| node.late);
            let late = late.map(|node| node.name.clone());
            late.map(|node| Fault::AddNode { node })
                .into_iter()
                .collect()
        }
        Class::StallNodes => vec![stall_nodes(draw, plan)],
        // These are sequences, or begin with the scenario.
        Class::Forgets
        | Class::ToAndFro
        | Class::Relic
        | Class::Delayed
        | Class::Proposal
        | Class::Deposed
        | Class::Rotten
        | Class::Crossed => Vec::new(),
        Class::Reassign => vec![Fault::Reassign { topic }],
        Class::Elect => vec![Fault::Elect { topic }],
    }
}

/// Nodes, each on one of two sides.
fn sides(draw: &mut Draw, names: Vec<String>) -> Vec<Vec<String>> {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for name in names {
        let side = if draw.chance(50) {
            &mut one
        } else {
            &mut other
        };
        side.push(name);
    }
    vec![one, other]
}

fn stall_nodes(draw: &mut Draw, plan: &Plan) -> Fault {
    Fault::Stall {
        link: Target {
            from: whom(draw, plan),
            to: whom(draw, plan),
        },
        for_ms: draw.between(300, 3000),
    }
}

/// What a voter voted for is gone with its disk, so an operator takes its vote before it starts.
fn lose_disk(node: String, plan: &Plan, down_ms: u64) -> Fault {
    let is_voter = |of: &NodePlan| of.name == node && of.is_controller();
    match plan.nodes.iter().any(is_voter) {
        true => Fault::Revote {
            node,
            wipe: true,
            down_ms,
        },
        false => Fault::LoseDisk { node },
    }
}

/// A fault of one node, aimed at this one.
fn aimed(mut fault: Fault, at: &str) -> Fault {
    let of_link = |target: &mut Target| {
        for end in [&mut target.from, &mut target.to] {
            if end == faults::SERVER {
                at.clone_into(end);
            }
        }
    };
    match &mut fault {
        Fault::Kill { node, .. }
        | Fault::PowerLoss { node, .. }
        | Fault::PowerLossAt { node, .. }
        | Fault::Stop { node, .. }
        | Fault::Pause { node, .. }
        | Fault::Refuse { node, .. }
        | Fault::Swizzle { node, .. }
        | Fault::FailSync { node, .. }
        | Fault::FailWrite { node, .. }
        | Fault::FailRead { node, .. }
        | Fault::Full { node, .. }
        | Fault::SlowDisk { node, .. }
        | Fault::StallDisk { node, .. }
        | Fault::Rot { node, .. }
        | Fault::Misdirect { node, .. }
        | Fault::LoseWrite { node, .. }
        | Fault::LoseDisk { node }
        | Fault::StepClock { node, .. }
        | Fault::DriftClock { node, .. } => at.clone_into(node),
        Fault::Cut { link, .. }
        | Fault::Stall { link, .. }
        | Fault::Reset { link }
        | Fault::Slow { link, .. } => of_link(link),
        _ => {}
    }
    fault
}

/// Has no node but `one` lose its power.
fn power_of_one(faults: &mut [TimedFault], one: &str) {
    for timed in faults {
        if let Fault::PowerLoss { node, .. } | Fault::PowerLossAt { node, .. } = &mut timed.fault {
            one.clone_into(node);
        }
    }
}

/// Takes away what the cluster does not promise to survive: a second lost or damaged disk, and one
/// where a topic has a single copy that counts. A voter's disk is lost through `revote`, by which
/// an operator says that it is gone.
fn keep_budget(faults: &mut Vec<TimedFault>, plan: &Plan) {
    let spare = plan.topics.iter().all(|topic| {
        let least = topic.config.get("min.insync.replicas");
        topic.replicas >= 3 && least.is_some_and(|least| least == "2")
    });
    let spare = spare
        && plan
            .broker
            .get("min.insync.replicas")
            .is_some_and(|least| least == "2");
    let voters = plan.nodes.iter().filter(|node| node.is_controller());
    let voters: Vec<&str> = voters.map(|node| node.name.as_str()).collect();
    let mut lost = 0;
    let mut rotten: Option<String> = None;
    faults.retain(|timed| match &timed.fault {
        Fault::Rot { node, .. } => {
            let first = rotten.get_or_insert_with(|| node.clone());
            spare && lost == 0 && first == node
        }
        Fault::LoseDisk { node } => {
            lost += 1;
            spare && lost == 1 && rotten.is_none() && !voters.contains(&node.as_str())
        }
        Fault::Revote { node, wipe, .. } => {
            lost += u32::from(*wipe);
            let is_voter = voters.contains(&node.as_str()) && voters.len() >= 3;
            is_voter && (!wipe || (spare && lost == 1 && rotten.is_none()))
        }
        _ => true,
    });
    if faults.is_empty() {
        let node = plan.nodes.first().map(|node| node.name.clone());
        faults.extend(node.map(|node| TimedFault {
            at_ms: plan.length_ms / 2,
            fault: Fault::Kill { node, down_ms: 500 },
        }));
    }
}
