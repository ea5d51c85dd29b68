//! Who is there.

use super::draw::Draw;
use super::nodes;
use crate::plan::{ClientPlan, Plan, Role, Versions};

/// What kind of clients a scenario has most of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mix {
    Everything,
    /// Producers and readers.
    Logs,
    Groups,
    /// Everybody but those who take records away.
    Cluster,
    /// Producers with few keys, readers, deleters.
    Cleaning,
    Admin,
    /// Those who commit offsets and read them, and topics that go.
    Coordinated,
    /// Producers, readers, and those who take records away.
    Deleting,
    /// Producers with keys, and readers.
    Keyed,
    /// Everybody whose work can be copied.
    Mirrored,
    /// Who is there where it is copied to.
    Following,
}

/// A kind of client, its name, and how many of it a mix has at most.
type Part = (&'static str, u64, u64);

const MIRRORED: &[Part] = &[
    ("producer", 1, 3),
    ("reader", 0, 1),
    ("member", 0, 2),
    ("committer", 0, 1),
    ("deleter", 0, 1),
    ("admin", 0, 1),
];
const FOLLOWING: &[Part] = &[
    ("producer", 0, 2),
    ("reader", 1, 2),
    ("member", 0, 2),
    ("lister", 0, 1),
    ("deleter", 0, 1),
];

impl Mix {
    /// Kinds with the least and the most of each.
    fn parts(self) -> &'static [Part] {
        match self {
            Self::Everything => &[
                ("producer", 1, 3),
                ("reader", 1, 2),
                ("member", 0, 3),
                ("committer", 0, 1),
                ("admin", 0, 1),
                ("deleter", 0, 1),
                ("lister", 0, 1),
            ],
            Self::Logs => &[
                ("producer", 1, 4),
                ("reader", 1, 2),
                ("committer", 0, 1),
                ("lister", 0, 1),
                ("deleter", 0, 1),
            ],
            Self::Groups => &[
                ("producer", 1, 1),
                ("member", 2, 5),
                ("committer", 1, 2),
                ("lister", 0, 1),
            ],
            Self::Cluster => &[
                ("producer", 1, 3),
                ("reader", 1, 2),
                ("member", 0, 3),
                ("committer", 0, 1),
                ("lister", 0, 1),
            ],
            Self::Cleaning => &[
                ("producer", 2, 4),
                ("reader", 1, 2),
                ("deleter", 0, 1),
                ("lister", 1, 1),
            ],
            Self::Coordinated => &[
                ("producer", 1, 1),
                ("member", 0, 2),
                ("committer", 5, 5),
                ("admin", 1, 2),
            ],
            Self::Deleting => &[
                ("producer", 2, 4),
                ("reader", 1, 2),
                ("lister", 0, 1),
                ("deleter", 1, 3),
            ],
            Self::Keyed => &[("producer", 2, 4), ("reader", 1, 2), ("committer", 0, 1)],
            Self::Mirrored => MIRRORED,
            Self::Following => FOLLOWING,
            Self::Admin => &[
                ("admin", 1, 3),
                ("producer", 0, 1),
                ("reader", 0, 1),
                ("committer", 0, 1),
            ],
        }
    }
}

pub(super) fn draw(draw: &mut Draw, mix: Mix, plan: &Plan) -> Vec<ClientPlan> {
    let mut clients = Vec::new();
    for (kind, least, most) in mix.parts() {
        let count = draw.between(*least, *most);
        for number in 0..count {
            let mut draw = draw.numbered(kind, number);
            clients.push(ClientPlan {
                after_promotion: false,
                name: format!("{kind}-{number}"),
                start_ms: draw.one_of(&[0, 0, 0, 500, 3000]),
                versions: draw.one_of(&[Versions::Newest, Versions::Mixed, Versions::Oldest]),
                role: role(&mut draw, kind, mix, plan),
            });
        }
    }
    clients
}

/// Has everybody send and read as fast as any do.
pub(super) fn hurry(clients: &mut [ClientPlan]) {
    for client in clients {
        client.start_ms = client.start_ms.min(500);
        if let Role::Producer { pause_ms, .. } | Role::Reader { pause_ms, .. } = &mut client.role {
            *pause_ms = (*pause_ms).min(20);
        }
    }
}

/// Has one committer commit all the time, and others read what it committed now and then, over the
/// connection that they have; and topics that go have offsets.
pub(super) fn coordinated(draw: &mut Draw, clients: &mut [ClientPlan]) {
    let asked = draw.one_of(&["loners", "others"]);
    let mut first: Option<String> = None;
    let mut count = 0;
    for client in clients {
        client.start_ms = 0;
        match &mut client.role {
            Role::Committer {
                group,
                topic,
                pause_ms,
                only_reads,
            } => {
                asked.clone_into(group);
                let shared = first.get_or_insert_with(|| topic.clone());
                topic.clone_from(shared);
                *only_reads = count > 1;
                *pause_ms = if *only_reads { 4000 } else { 50 };
                count += 1;
            }
            Role::Admin { commits, pause_ms } => {
                *commits = true;
                *pause_ms = 100;
            }
            _ => {}
        }
    }
}

/// Has records be deleted often.
pub(super) fn deleting(clients: &mut [ClientPlan]) {
    for client in clients {
        if let Role::Deleter { pause_ms, .. } = &mut client.role {
            *pause_ms = 300;
        }
    }
}

/// Has readers be in racks, and read where they are.
pub(super) fn in_racks(draw: &mut Draw, clients: &mut [ClientPlan]) {
    for (number, client) in clients.iter_mut().enumerate() {
        let mut draw = draw.numbered("rack", number as u64);
        if let Role::Reader {
            rack,
            library,
            pause_ms,
            ..
        } = &mut client.role
        {
            *rack = Some(nodes::rack(draw.between(0, 2)));
            *library = false;
            *pause_ms = (*pause_ms).min(20);
        }
    }
}

fn role(draw: &mut Draw, kind: &str, mix: Mix, plan: &Plan) -> Role {
    let names: Vec<String> = plan.topics.iter().map(|topic| topic.name.clone()).collect();
    let topic = draw.one_of(&names);
    match kind {
        "producer" => producer(draw, topic, mix),
        "reader" => Role::Reader {
            topic,
            max_bytes: draw.one_of(&[1, 1000, 100_000, 50_000_000]),
            partition_max_bytes: draw.one_of(&[1, 500, 20_000, 1_048_576]),
            max_wait_ms: draw.one_of(&[0, 50, 500]),
            session: draw.chance(50),
            committed: draw.chance(30),
            pause_ms: draw.one_of(&[20, 100, 300]),
            restart_percent: draw.one_of(&[0, 2, 10]),
            library: draw.chance(20),
            rack: None,
        },
        "member" => member(draw, names),
        "committer" => Role::Committer {
            group: draw.one_of(&["loners", "others"]).to_owned(),
            topic,
            pause_ms: draw.one_of(&[50, 200]),
            only_reads: false,
        },
        "admin" => Role::Admin {
            pause_ms: draw.one_of(&[50, 300]),
            commits: false,
        },
        "deleter" => Role::Deleter {
            topic,
            pause_ms: draw.one_of(&[300, 2000]),
        },
        _ => Role::Lister {
            topic,
            pause_ms: draw.one_of(&[50, 300]),
        },
    }
}

fn producer(draw: &mut Draw, topic: String, mix: Mix) -> Role {
    // A compacted topic refuses records without a key.
    let keyed = topic.starts_with("compacted") || mix == Mix::Cleaning;
    let idempotent = draw.chance(75);
    Role::Producer {
        acks: if idempotent {
            -1
        } else {
            draw.one_of(&[-1, -1, 1, 0])
        },
        idempotent,
        in_flight: u32::try_from(draw.between(1, 5)).unwrap_or(1),
        batch_records: draw.one_of(&[1, 3, 10]),
        value_bytes: draw.one_of(&[0, 20, 300, 2000]),
        keys: match keyed {
            true => draw.one_of(&[1, 5, 40]),
            false => draw.one_of(&[0, 0, 10]),
        },
        tombstone_percent: if keyed { draw.one_of(&[0, 10, 40]) } else { 0 },
        compression: draw
            .one_of(&["none", "none", "none", "gzip", "snappy", "lz4", "zstd"])
            .to_owned(),
        pause_ms: draw.one_of(&[10, 40, 150]),
        repeat_percent: if idempotent {
            draw.one_of(&[0, 5, 30])
        } else {
            0
        },
        retries: draw.chance(80),
        library: draw.chance(20),
        topic,
    }
}

fn member(draw: &mut Draw, names: Vec<String>) -> Role {
    let group = draw.one_of(&["readers", "readers", "readers", "writers"]);
    let topics = if draw.chance(70) {
        names
    } else {
        vec![draw.one_of(&names)]
    };
    let instance = draw.chance(30);
    let instance = instance.then(|| format!("instance-{}", draw.between(0, 1_000_000)));
    Role::Member {
        group: group.to_owned(),
        topics,
        instance,
        session_timeout_ms: draw.one_of(&[300, 1000, 3000]),
        rebalance_timeout_ms: draw.one_of(&[500, 1500, 4000]),
        commit_ms: draw.one_of(&[50, 200, 1000]),
        leave_percent: draw.one_of(&[0, 5, 15]),
        vanish_percent: draw.one_of(&[0, 5, 10]),
        freeze_percent: draw.one_of(&[0, 5, 10]),
        library: draw.chance(15),
    }
}
