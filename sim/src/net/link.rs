//! One-way links between hosts: how good each is, and what is done to it.
//!
//! Every link draws from a stream of its own, so that what happens on one never shifts another's.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm::env::Rng;

use crate::plan::LinkOptions;

/// Any host, in the name of a link.
const ANY: &str = "*";
/// Spans in which a lost segment is sent again once the way is free (RFC 6298 and its back-off).
const RETRANSMISSION_MIN_MS: u64 = 200;
const RETRANSMISSION_MAX_MS: u64 = 1000;

/// Whether segments get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// They wait.
    Stalled,
    /// They are lost.
    Cut,
}

/// The way from one host to another.
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) gate: Gate,
    pub(super) options: LinkOptions,
    rng: Rng,
    /// When the last byte so far has left.
    free_at: Duration,
    /// Reads and writes that moved fewer bytes than they could.
    pub(super) splits: u64,
}

impl Link {
    /// From below `bound`.
    pub(super) fn draw(&mut self, bound: usize) -> usize {
        usize::try_from(self.rng.below(bound as u64)).unwrap_or_default()
    }

    fn is_loopback(&self) -> bool {
        self.from == self.to
    }

    /// How long a segment takes.
    ///
    /// The span above the minimum falls off by half every 2/3 of its mean, evenly in between: as
    /// near to exponential as whole numbers come, and the same on every machine.
    pub(super) fn latency(&mut self) -> Duration {
        if self.is_loopback() {
            return Duration::ZERO;
        }
        let half = self.options.latency_mean_ms.saturating_mul(2000) / 3;
        let halves = u64::from(self.rng.u64().leading_zeros().min(20));
        let above = halves.saturating_mul(half) + self.rng.below(half);
        let least = self.options.latency_min_ms.saturating_mul(1000);
        Duration::from_micros(least.saturating_add(above))
    }

    /// How long after the way is free a lost segment is sent once more and arrives.
    pub(super) fn retransmission(&mut self) -> Duration {
        let span = RETRANSMISSION_MAX_MS - RETRANSMISSION_MIN_MS;
        Duration::from_millis(RETRANSMISSION_MIN_MS + self.rng.below(span))
    }

    /// When the last of `len` bytes that are ready at `ready` has left.
    pub(super) fn departure(&mut self, ready: Duration, len: usize) -> Duration {
        if self.options.bandwidth == 0 || self.is_loopback() {
            return ready;
        }
        let nanoseconds = (len as u128 * 1_000_000_000) / u128::from(self.options.bandwidth);
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(ready) + takes;
        self.free_at
    }

    /// `count`, or now and then a part of it; never 0 unless `count` is.
    pub(super) fn part(&mut self, count: usize) -> usize {
        if count < 2 || self.rng.below(100) >= u64::from(self.options.split_percent) {
            return count;
        }
        self.splits += 1;
        1 + self.draw(count - 1)
    }

    pub(super) fn window(&self) -> usize {
        usize::try_from(self.options.window.max(1)).unwrap_or(usize::MAX)
    }
}

/// Names of hosts at the ends of links, `*` for any.
type Ends = (String, String);

/// What holds for links, whether they are in use or not.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) default: LinkOptions,
    /// The latest come last.
    options: Vec<(Ends, LinkOptions)>,
    /// How many of each are in force.
    cuts: BTreeMap<Ends, u32>,
    stalls: BTreeMap<Ends, u32>,
    refused: BTreeMap<String, u32>,
    wide: Wide,
}

/// Links over which clusters reach each other.
#[derive(Default)]
struct Wide {
    /// The clusters of hosts, by their names.
    clusters: BTreeMap<String, usize>,
    options: LinkOptions,
}

impl Wide {
    /// How good the link is, if its ends are of different clusters.
    fn between(&self, from: &str, to: &str) -> Option<LinkOptions> {
        let cluster = |host: &str| self.clusters.get(host);
        (cluster(from)? != cluster(to)?).then_some(self.options)
    }
}

/// Whether hosts named `from` and `to` are ends of `ends`.
pub(super) fn matches(ends: (&str, &str), from: &str, to: &str) -> bool {
    (ends.0 == ANY || ends.0 == from) && (ends.1 == ANY || ends.1 == to)
}

fn count<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K, more: bool) {
    if more {
        *counts.entry(key).or_default() += 1;
    } else if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

impl Rules {
    pub(super) fn set_options(&mut self, from: &str, to: &str, options: Option<LinkOptions>) {
        let ends = (from.to_owned(), to.to_owned());
        self.options.retain(|(other, _)| *other != ends);
        self.options.extend(options.map(|options| (ends, options)));
    }

    pub(super) fn set_wide(&mut self, clusters: BTreeMap<String, usize>, options: LinkOptions) {
        self.wide = Wide { clusters, options };
    }

    pub(super) fn set_cut(&mut self, from: &str, to: &str, more: bool) {
        count(&mut self.cuts, (from.to_owned(), to.to_owned()), more);
    }

    pub(super) fn set_stalled(&mut self, from: &str, to: &str, more: bool) {
        count(&mut self.stalls, (from.to_owned(), to.to_owned()), more);
    }

    pub(super) fn set_refused(&mut self, host: &str, more: bool) {
        count(&mut self.refused, host.to_owned(), more);
    }

    pub(super) fn refuses(&self, host: &str) -> bool {
        self.refused.contains_key(host)
    }

    /// Ends everything but the default.
    pub(super) fn clear(&mut self) {
        *self = Self {
            default: self.default,
            ..Self::default()
        };
    }

    fn options(&self, from: &str, to: &str) -> LinkOptions {
        let latest = self.options.iter().rev();
        latest
            .filter(|((one, other), _)| matches((one, other), from, to))
            .map(|(_, options)| *options)
            .next()
            .or_else(|| self.wide.between(from, to))
            .unwrap_or(self.default)
    }

    fn gate(&self, from: &str, to: &str) -> Gate {
        let among = |counts: &BTreeMap<Ends, u32>| {
            let mut ends = counts.keys();
            ends.any(|(one, other)| matches((one, other), from, to))
        };
        if among(&self.cuts) {
            Gate::Cut
        } else if among(&self.stalls) {
            Gate::Stalled
        } else {
            Gate::Open
        }
    }
}

pub(super) struct Host {
    pub(super) name: String,
    pub(super) address: String,
    /// Whether it is without power.
    pub(super) down: bool,
}

/// All hosts, and the links that are in use.
pub(super) struct Links {
    root: [u8; 32],
    pub(super) rules: Rules,
    pub(super) hosts: Vec<Host>,
    all: Vec<Link>,
    by_ends: BTreeMap<(usize, usize), usize>,
}

/// A link whose gate is another now.
pub(super) struct Change {
    pub(super) link: usize,
    pub(super) before: Gate,
}

impl Links {
    pub(super) fn new(root: [u8; 32]) -> Self {
        Self {
            root,
            rules: Rules::default(),
            hosts: Vec::new(),
            all: Vec::new(),
            by_ends: BTreeMap::new(),
        }
    }

    fn state(&self, from: usize, to: usize) -> (LinkOptions, Gate) {
        if from == to {
            return (LinkOptions::default(), Gate::Open);
        }
        let (one, other) = (&self.hosts[from], &self.hosts[to]);
        let gate = if one.down || other.down {
            Gate::Cut
        } else {
            self.rules.gate(&one.name, &other.name)
        };
        (self.rules.options(&one.name, &other.name), gate)
    }

    /// The number of the link between two hosts, made at its first use.
    pub(super) fn between(&mut self, from: usize, to: usize) -> usize {
        if let Some(number) = self.by_ends.get(&(from, to)) {
            return *number;
        }
        let name = format!("link {}>{}", self.hosts[from].name, self.hosts[to].name);
        let (options, gate) = self.state(from, to);
        self.all.push(Link {
            from,
            to,
            gate,
            options,
            rng: Rng::derived(self.root, &name, 0),
            free_at: Duration::ZERO,
            splits: 0,
        });
        let number = self.all.len() - 1;
        self.by_ends.insert((from, to), number);
        number
    }

    /// Applies the rules to every link.
    pub(super) fn refresh(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for number in 0..self.all.len() {
            let (options, gate) = self.state(self.all[number].from, self.all[number].to);
            let link = &mut self.all[number];
            link.options = options;
            if link.gate != gate {
                let before = std::mem::replace(&mut link.gate, gate);
                changes.push(Change {
                    link: number,
                    before,
                });
            }
        }
        changes
    }

    pub(super) fn splits(&self) -> u64 {
        self.all.iter().map(|link| link.splits).sum()
    }
}

impl std::ops::Index<usize> for Links {
    type Output = Link;

    fn index(&self, number: usize) -> &Link {
        &self.all[number]
    }
}

impl std::ops::IndexMut<usize> for Links {
    fn index_mut(&mut self, number: usize) -> &mut Link {
        &mut self.all[number]
    }
}
