//! Faults that follow one another: what single draws at single times would meet too rarely.

use crate::plan::{Fault, FileKind, LinkOptions, Plan, Target};
use crate::swarm::draw::Draw;

/// Faults with the milliseconds after which each comes.
type Sequence = Vec<(u64, Fault)>;

fn stall(from: &str, to: &str, for_ms: u64) -> Fault {
    Fault::Stall {
        link: Target {
            from: from.to_owned(),
            to: to.to_owned(),
        },
        for_ms,
    }
}

fn power_loss(node: &str) -> Fault {
    Fault::PowerLoss {
        node: node.to_owned(),
        down_ms: 0,
    }
}

fn kill(node: &str, down_ms: u64) -> Fault {
    Fault::Kill {
        node: node.to_owned(),
        down_ms,
    }
}

/// Who leads a drawn partition.
fn leader(draw: &mut Draw, plan: &Plan) -> (String, String) {
    let topic = draw.one_of(&plan.topics);
    let count = u64::try_from(topic.partitions).unwrap_or(1);
    let number = draw.between(0, count - 1);
    (format!("leader {}-{number}", topic.name), topic.name)
}

fn another(draw: &mut Draw, plan: &Plan, one: &str) -> String {
    let brokers = plan.nodes.iter().filter(|node| node.is_broker());
    let names = brokers.map(|node| node.name.clone());
    let names: Vec<String> = names.filter(|name| name != one).collect();
    draw.one_of(&names)
}

/// `one` loses its power while others count on what it had:
///
/// - another follower had fallen behind, and then the leader dies: who is left is the one that
///   forgot (KIP-966);
/// - the leader's proposal to take it in sync is on its way while it loses its power again
///   (KIP-903);
/// - its link to the leader is held up, so that nothing tells the leader that it has less now.
pub(super) fn forgets(draw: &mut Draw, plan: &Plan, one: &str) -> Sequence {
    let lag = plan.broker.get("replica.lag.time.max.ms");
    let lag = lag.and_then(|lag| lag.parse::<u64>().ok()).unwrap_or(1000);
    let lag = lag.min(3000);
    let (leader, _) = leader(draw, plan);
    let other = another(draw, plan, one);
    match draw.between(0, 2) {
        0 => vec![
            (0, stall(&other, &leader, lag + draw.between(2000, 5000))),
            (lag + draw.between(300, 1000), power_loss(one)),
            (lag + draw.between(1300, 3000), kill(&leader, 2000)),
        ],
        1 => vec![
            (0, power_loss(one)),
            (draw.between(300, 900), stall(&leader, "controller", 2200)),
            (draw.between(1000, 1700), power_loss(one)),
        ],
        _ => {
            let before = draw.between(300, 2500).min(lag);
            vec![
                (0, stall(&other, &leader, lag + 3000)),
                (lag - before, stall(one, &leader, 4000)),
                (lag - before, power_loss(one)),
            ]
        }
    }
}

/// The metadata of `one` is damaged, it is started on that, and an operator takes it out, wipes its
/// disk and adds it again.
pub(super) fn relic(draw: &mut Draw, one: &str) -> Sequence {
    let rot = Fault::Rot {
        node: one.to_owned(),
        kind: FileKind::Metadata,
        bits: 1,
    };
    let mut sequence = vec![(0, rot.clone())];
    if draw.chance(50) {
        sequence.push((1, rot));
    }
    let end = match draw.between(0, 2) {
        0 => power_loss(one),
        1 => kill(one, 100),
        _ => Fault::Stop {
            node: one.to_owned(),
            down_ms: 100,
        },
    };
    let at = draw.between(50, 1500);
    sequence.push((at, end));
    let revote = Fault::Revote {
        node: one.to_owned(),
        wipe: true,
        down_ms: draw.one_of(&[100, 1000]),
    };
    sequence.push((at + draw.between(1000, 4000), revote));
    sequence
}

/// What nodes ask a leader of is held up, or what it answers, while it is replaced once or more and
/// leads again.
pub(super) fn to_and_fro(draw: &mut Draw, plan: &Plan) -> Sequence {
    let (leader, topic) = leader(draw, plan);
    let other = another(draw, plan, "");
    let for_ms = draw.between(300, 3000);
    let held_up = match draw.between(0, 4) {
        0 | 1 => stall(&other, &leader, for_ms),
        2 => stall(&leader, &other, for_ms),
        3 => stall(&leader, "controller", for_ms),
        _ => stall("controller", &leader, for_ms),
    };
    let mut sequence = vec![(0, held_up)];
    let mut at = 0;
    for _ in 0..draw.between(2, 5) {
        at += draw.between(20, 500);
        let topic = topic.clone();
        let change = match draw.between(0, 9) {
            0..4 => Fault::Reassign { topic },
            4..8 => Fault::Elect { topic },
            8 => kill(&leader, 0),
            _ => Fault::Stop {
                node: leader.clone(),
                down_ms: 0,
            },
        };
        sequence.push((at, change));
    }
    if draw.chance(40) {
        let after = for_ms + draw.between(5, 300);
        sequence.push((after, kill(&leader, draw.one_of(&[0, 500]))));
    }
    sequence
}

/// A fetch comes late (or its answer): a leader has records that another replica copied, and a
/// third did not. The third leads, the copy is cut off by its word, and the first leads again, with
/// all it had, since nothing reached it meanwhile. Then comes the fetch that tells of the copy.
pub(super) fn delayed(draw: &mut Draw, plan: &Plan) -> Sequence {
    let topic = draw.one_of(&plan.topics).name;
    let brokers = plan.nodes.iter().filter(|node| node.is_broker());
    let mut left: Vec<String> = brokers.map(|node| node.name.clone()).collect();
    let mut taken = || {
        let at = draw.between(0, left.len() as u64 - 1);
        left.swap_remove(usize::try_from(at).unwrap_or(0))
    };
    let (first, copies, third) = (taken(), taken(), taken());
    let lead = |node: &str| Fault::Lead {
        topic: topic.clone(),
        node: node.to_owned(),
    };
    let behind = draw.between(500, 1200);
    let late = behind + draw.between(10, 300);
    let replaced = late + draw.between(10, 150);
    let again = replaced + draw.between(50, 800);
    let end = again + draw.between(20, 400);
    let held_up = match draw.between(0, 3) {
        0 => stall(&first, &copies, end - late),
        _ => stall(&copies, &first, end - late),
    };
    vec![
        (0, lead(&first)),
        (behind, stall(&first, &third, end + 300 - behind)),
        (late, held_up),
        (replaced, lead(&third)),
        (again, lead(&first)),
    ]
}

/// A setting of all nodes, in milliseconds.
fn setting(plan: &Plan, name: &str, or: u64) -> u64 {
    let told = plan.broker.get(name);
    told.and_then(|told| told.parse().ok()).unwrap_or(or)
}

/// A leader's proposal of in-sync replicas is late, or its answer is:
///
/// - a follower comes in sync, as of a life that is over when the controller hears of it
///   (KIP-903);
/// - it comes in sync, falls behind at once, and the leader is not told that it did;
/// - it leaves, and the partition is another one when the controller hears of it (KIP-497).
pub(super) fn proposal(draw: &mut Draw, plan: &Plan) -> Sequence {
    let lag = setting(plan, "replica.lag.time.max.ms", 1000).min(3000);
    let (_, topic) = leader(draw, plan);
    let leader = another(draw, plan, "");
    let other = another(draw, plan, &leader);
    let lead = Fault::Lead {
        topic: topic.clone(),
        node: leader.clone(),
    };
    let begins = draw.between(200, 500);
    let late = match draw.between(0, 2) {
        0 => {
            let again = draw.between(900, 1500);
            let end = again + draw.between(800, 1600);
            vec![
                (0, kill(&other, 0)),
                (draw.between(20, 100), stall(&leader, "controller", end)),
                (again, kill(&other, 0)),
            ]
        }
        1 => {
            let back = lag + draw.between(300, 800);
            let for_ms = draw.between(500, 2500);
            let behind = stall(&other, &leader, for_ms + 1000);
            vec![
                (0, stall(&other, &leader, back)),
                (
                    back - draw.between(0, 20),
                    stall("controller", &leader, for_ms),
                ),
                (back + draw.between(50, 400), behind),
            ]
        }
        _ => {
            let for_ms = draw.between(500, 1500);
            vec![
                (0, stall(&other, &leader, lag + for_ms)),
                (lag - 200, stall(&leader, "controller", for_ms)),
                (lag + draw.between(50, 300), Fault::Reassign { topic }),
            ]
        }
    };
    let late = late
        .into_iter()
        .map(|(after, fault)| (begins + after, fault));
    [(0, lead)].into_iter().chain(late).collect()
}

/// Who coordinates groups is replaced: it is paused or cut off for longer than its session, or
/// another is elected while it is well.
pub(super) fn deposed(draw: &mut Draw, plan: &Plan) -> Sequence {
    let session = setting(plan, "broker.session.timeout.ms", 3000);
    let count = setting(plan, "offsets.topic.num.partitions", 1);
    let topic = "__consumer_offsets".to_owned();
    let node = format!("leader {topic}-{}", draw.between(0, count - 1));
    let for_ms = session + draw.between(1500, 6000);
    match draw.between(0, 3) {
        0 | 1 => vec![(0, Fault::Pause { node, for_ms })],
        2 => {
            let first = another(draw, plan, "");
            let second = another(draw, plan, &first);
            let lead = |node: String| Fault::Lead {
                topic: topic.clone(),
                node,
            };
            vec![(0, lead(first)), (draw.between(500, 2500), lead(second))]
        }
        _ => vec![(
            0,
            Fault::Isolate {
                node,
                inbound: true,
                outbound: draw.chance(50),
                clients: false,
                for_ms,
            },
        )],
    }
}

/// Segments of `one` are damaged, and it leads, with another replica away or not.
pub(super) fn rotten(draw: &mut Draw, plan: &Plan, one: &str) -> Sequence {
    let (_, topic) = leader(draw, plan);
    let rot = Fault::Rot {
        node: one.to_owned(),
        kind: FileKind::Segment,
        bits: 8,
    };
    let lead = Fault::Lead {
        topic,
        node: one.to_owned(),
    };
    let mut sequence = Vec::new();
    for _ in 0..draw.between(1, 4) {
        sequence.push((draw.between(0, 300), rot.clone()));
    }
    sequence.push((draw.between(0, 600), lead.clone()));
    if draw.chance(50) {
        let other = another(draw, plan, one);
        sequence.push((0, kill(&other, draw.between(1000, 5000))));
    }
    if draw.chance(50) {
        sequence.push((draw.between(1000, 4000), lead));
    }
    sequence
}

/// A leader has records that nobody copied, another one leads, and says so when the first leads
/// again: all that this one hears of the other is slow.
pub(super) fn crossed(draw: &mut Draw, plan: &Plan) -> Sequence {
    let (_, topic) = leader(draw, plan);
    let first = another(draw, plan, "");
    let second = another(draw, plan, &first);
    let lead = |node: &str| Fault::Lead {
        topic: topic.clone(),
        node: node.to_owned(),
    };
    let late_ms = draw.between(150, 400);
    let begins = draw.between(300, 700);
    let replaced = begins + late_ms + draw.between(300, 800);
    // It takes two answers until it can ask where their logs part.
    let again = replaced + 2 * late_ms + draw.between(10, late_ms + 100);
    let slow = Fault::Slow {
        link: Target {
            from: second.clone(),
            to: first.clone(),
        },
        options: LinkOptions {
            latency_min_ms: late_ms,
            latency_mean_ms: late_ms,
            ..plan.link
        },
        for_ms: again + 1000 - begins,
    };
    vec![
        (0, lead(&first)),
        (begins, slow),
        (replaced, lead(&second)),
        (again, lead(&first)),
    ]
}
