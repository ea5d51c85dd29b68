//! What befalls the nodes, and when: drawn from a seed, before anything runs.
//!
//! Faults come in rounds with calm between. A round has one kind of fault or two at once; a quarter
//! of the rounds have none. Whom "the leader" and "the controller" name is looked up when the round
//! begins.

use std::fmt;
use std::time::Duration;

use klamm::env::Rng;

/// Kinds of faults, by what they are called on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Kill,
    Pause,
    Isolate,
    OneWay,
    Ring,
    Slow,
    Reset,
    Clock,
    DiskFull,
    Power,
    KillAll,
    PowerAll,
    LastStand,
    Stop,
}

/// All kinds.
pub const KINDS: &[Kind] = &[
    Kind::Kill,
    Kind::Pause,
    Kind::Isolate,
    Kind::OneWay,
    Kind::Ring,
    Kind::Slow,
    Kind::Reset,
    Kind::Clock,
    Kind::DiskFull,
    Kind::Power,
    Kind::KillAll,
    Kind::PowerAll,
    Kind::LastStand,
    Kind::Stop,
];

/// Names that stand for several kinds.
const FAMILIES: &[(&str, &[Kind])] = &[
    ("partition", &[Kind::Isolate, Kind::OneWay, Kind::Ring]),
    (
        "network",
        &[
            Kind::Isolate,
            Kind::OneWay,
            Kind::Ring,
            Kind::Slow,
            Kind::Reset,
        ],
    ),
    ("all", KINDS),
    ("none", &[]),
];

impl Kind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Isolate => "isolate",
            Self::OneWay => "one-way",
            Self::Ring => "ring",
            Self::Slow => "slow",
            Self::Reset => "reset",
            Self::Clock => "clock",
            Self::DiskFull => "disk-full",
            Self::Power => "power",
            Self::KillAll => "kill-all",
            Self::PowerAll => "power-all",
            Self::LastStand => "last-stand",
            Self::Stop => "stop",
        }
    }

    /// Whether the broker has to be built with the feature `faults`.
    #[must_use]
    pub fn needs_faults(self) -> bool {
        matches!(self, Self::Clock | Self::Power | Self::PowerAll)
    }

    /// The kinds that a list of names, separated by commas, stands for.
    pub fn parse(list: &str) -> Result<Vec<Self>, String> {
        let mut kinds = Vec::new();
        for name in list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let family = FAMILIES.iter().find(|(family, _)| *family == name);
            let own = KINDS.iter().find(|kind| kind.name() == name);
            match (family, own) {
                (Some((_, several)), _) => kinds.extend(*several),
                (None, Some(kind)) => kinds.push(*kind),
                (None, None) => {
                    let all = KINDS.iter().map(|kind| kind.name());
                    let all = all.chain(FAMILIES.iter().map(|(name, _)| *name));
                    let all: Vec<&str> = all.collect();
                    return Err(format!("no nemesis '{name}': one of {}", all.join(", ")));
                }
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        Ok(kinds)
    }
}

/// Whom a fault befalls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// These nodes.
    Nodes(Vec<usize>),
    /// Whoever leads a partition then: the drawn number picks it.
    Leader(u64),
    /// The active controller.
    Controller,
    All,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub aim: Aim,
    /// For what the kind leaves open: an offset, an order, a seed.
    pub drawn: u64,
}

/// Faults that begin together and end together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Since the beginning of the run.
    pub begins: Duration,
    pub lasts: Duration,
    pub faults: Vec<Fault>,
}

/// Rounds in the order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub rounds: Vec<Round>,
}

/// Faults begin after this, and the last ends so long before the end.
const CALM: Duration = Duration::from_secs(3);

impl Plan {
    /// What `seed` draws for a run of `time`.
    #[must_use]
    pub fn draw(seed: u64, nodes: usize, time: Duration, kinds: &[Kind]) -> Self {
        let mut root = [0; 32];
        root[..8].copy_from_slice(&seed.to_be_bytes());
        let mut rng = Rng::derived(root, "nemesis", 0);
        let mut rounds = Vec::new();
        let mut begins = CALM;
        while !kinds.is_empty() {
            let lasts = Duration::from_millis(800 + rng.below(6000));
            if begins + lasts + CALM > time {
                break;
            }
            let mut faults = Vec::new();
            // The first round is never empty: a short run has few.
            if rounds.is_empty() || rng.below(4) > 0 {
                faults.push(fault(&mut rng, nodes, kinds));
                if rng.below(3) == 0 {
                    let second = fault(&mut rng, nodes, kinds);
                    if second.kind != faults[0].kind {
                        faults.push(second);
                    }
                }
            }
            rounds.push(Round {
                begins,
                lasts,
                faults,
            });
            begins += lasts + Duration::from_millis(500 + rng.below(4000));
        }
        Self { rounds }
    }
}

fn fault(rng: &mut Rng, nodes: usize, kinds: &[Kind]) -> Fault {
    let kind = kinds[usize::try_from(rng.below(kinds.len() as u64)).unwrap_or(0)];
    let one = || Aim::Nodes(vec![1]);
    let drawn_node = |rng: &mut Rng| {
        let node = usize::try_from(rng.below(nodes as u64)).unwrap_or(0) + 1;
        Aim::Nodes(vec![node])
    };
    let aim = match (kind, rng.below(10)) {
        (Kind::Ring, _) => one(),
        (Kind::KillAll | Kind::PowerAll, _) => Aim::All,
        (Kind::LastStand, _) => Aim::Leader(rng.u64()),
        (Kind::Kill | Kind::Pause | Kind::Slow | Kind::DiskFull, 0..2) => Aim::All,
        (_, 0..5) => Aim::Leader(rng.u64()),
        (_, 5..7) => Aim::Controller,
        _ => drawn_node(rng),
    };
    Fault {
        kind,
        aim,
        drawn: rng.u64(),
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes(nodes) => write!(f, "{nodes:?}"),
            Self::Leader(_) => write!(f, "a leader"),
            Self::Controller => write!(f, "the controller"),
            Self::All => write!(f, "all"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for round in &self.rounds {
            let begins = round.begins.as_secs_f64();
            let lasts = round.lasts.as_secs_f64();
            write!(f, "{begins:7.1} s for {lasts:4.1} s:")?;
            if round.faults.is_empty() {
                write!(f, " nothing")?;
            }
            for fault in &round.faults {
                match fault.kind {
                    Kind::Ring | Kind::KillAll | Kind::PowerAll | Kind::LastStand => {
                        write!(f, " {};", fault.kind.name())?;
                    }
                    kind => write!(f, " {} {};", kind.name(), fault.aim)?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The links that leave every node a majority, but none the same: directed pairs to cut.
#[must_use]
pub fn ring(nodes: usize, drawn: u64) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (1..=nodes).collect();
    let mut rest = drawn;
    for at in (1..nodes).rev() {
        let bound = at as u64 + 1;
        order.swap(at, usize::try_from(rest % bound).unwrap_or(0));
        rest /= bound;
    }
    // On a ring each keeps as many neighbours on both sides as make a majority with itself.
    let kept = (nodes / 2).div_ceil(2);
    let mut cut = Vec::new();
    for one in 0..nodes {
        for other in one + 1..nodes {
            let way = other - one;
            let is_kept = way.min(nodes - way) <= kept;
            // Of three all are neighbours: the ends of the order lose each other.
            if !is_kept || (nodes == 3 && way == 2) {
                cut.push((order[one], order[other]));
                cut.push((order[other], order[one]));
            }
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::{KINDS, Kind, Plan, ring};
    use std::time::Duration;

    #[test]
    fn a_seed_draws_the_same_plan_again() {
        let time = Duration::from_secs(120);
        let one = Plan::draw(7, 3, time, KINDS);
        assert_eq!(one, Plan::draw(7, 3, time, KINDS));
        assert_ne!(one, Plan::draw(8, 3, time, KINDS));
        assert!(one.rounds.len() > 10, "{one}");
        let last = one.rounds.last().expect("rounds");
        assert!(last.begins + last.lasts < time);
    }

    #[test]
    fn a_ring_leaves_everyone_a_majority_and_nobody_all() {
        for nodes in [3, 5] {
            for drawn in 0..50 {
                let cut = ring(nodes, drawn * 977);
                for node in 1..=nodes {
                    let lost = cut.iter().filter(|(from, _)| *from == node).count();
                    assert!(nodes - lost > nodes / 2, "{nodes} {drawn} {cut:?}");
                }
                assert!(!cut.is_empty());
            }
        }
    }

    #[test]
    fn families_are_their_kinds_and_unknown_names_are_refused() {
        let parsed = Kind::parse("kill,partition").expect("known names");
        let wanted = [Kind::Kill, Kind::Isolate, Kind::OneWay, Kind::Ring];
        assert_eq!(parsed, wanted);
        assert!(Kind::parse("flood").is_err());
    }
}
