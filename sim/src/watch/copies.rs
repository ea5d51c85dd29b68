//! What leaders count on, and what followers really hold: R2, R6, R7, R9, R15, as it happens.
//!
//! No node knows the logs of others but by what it is told, perhaps late; here all are known. So a
//! rule is judged at the moment when it is broken, not when the loss that may follow is seen.
//!
//! Where a log's leader epochs begin says which record of which leader lies at an offset: two logs
//! that have a record of the same epoch at an offset have the same records up to it. Logs that were
//! compacted do not tell the beginnings exactly, and are not compared.

use std::collections::{BTreeMap, BTreeSet};

use klamm_jepsen::history::LogState;

use super::partitions::Known;
use super::{Broken, Fields};

type Names = BTreeMap<i32, String>;

/// What is demanded of a partition's topic.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kind {
    /// What replicas confirm they have in memory: `klamm.durability=replicated`.
    pub in_memory: bool,
    pub is_compacted: bool,
    /// The plan says how many have to be in sync, and nobody changes that.
    pub is_own: bool,
    /// Least in-sync replicas that an acknowledgement needs.
    pub least: usize,
}

/// What was told of copies.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Where the leader epochs of each node's log begin.
    epochs: BTreeMap<String, Vec<(i64, i64)>>,
    /// The epoch in which each node leads, or led before it heard of another.
    leading: BTreeMap<String, i32>,
    /// The leader epoch that each node goes by.
    assigned: BTreeMap<String, i32>,
    /// The latest life of a follower that a leader has heard of in an epoch.
    counted: BTreeMap<(String, i32, i32), i64>,
    /// Members with their broker epochs, by the epochs of the state that they were proposed to.
    proposals: BTreeMap<(i32, i64), Vec<BTreeMap<i32, i64>>>,
    /// Whose log was cut while it led, and in which epoch.
    cut: BTreeSet<(String, i32)>,
}

impl Copies {
    /// The node's process ended.
    pub fn forget(&mut self, node: &str) {
        self.epochs.remove(node);
        self.leading.remove(node);
        self.assigned.remove(node);
        self.counted.retain(|(leader, ..), _| leader != node);
        self.cut.retain(|(leader, _)| leader != node);
    }

    pub fn on_epochs(&mut self, node: &str, fields: &Fields) {
        let told = fields.pairs("epochs").unwrap_or_default();
        self.epochs.insert(node.to_owned(), told);
    }

    pub fn on_assigned(&mut self, node: &str, fields: &Fields) {
        if let Some(epoch) = fields.small("leader_epoch") {
            self.assigned.insert(node.to_owned(), epoch);
        }
    }

    pub fn on_leading(&mut self, node: &str, epoch: i32) {
        self.leading.insert(node.to_owned(), epoch);
    }

    /// The epoch of the record at `offset` of a node's log, if that is known.
    fn epoch_at(&self, node: &str, offset: i64) -> Option<i64> {
        let epochs = self.epochs.get(node)?;
        let after = epochs.partition_point(|(_, start)| *start <= offset);
        Some(epochs[after.checked_sub(1)?].0)
    }

    /// Whether two logs are known to hold different records at `offset`; `Some(true)`.
    fn differ(&self, one: &str, other: &str, offset: i64) -> Option<bool> {
        Some(self.epoch_at(one, offset)? != self.epoch_at(other, offset)?)
    }

    pub fn leads(&self, node: &str, epoch: i32) -> bool {
        self.leading.get(node) == Some(&epoch)
            && self.assigned.get(node).is_none_or(|told| *told == epoch)
    }

    /// A leader proposes in-sync replicas: those that it heard of, as of the life that told it.
    pub fn on_proposed(&mut self, node: &str, fields: &Fields) -> Vec<Broken> {
        let (Some(epoch), Some(partition_epoch), Some(members)) = (
            fields.small("leader_epoch"),
            fields.number("partition_epoch"),
            fields.pairs("members"),
        ) else {
            return Vec::new();
        };
        let members = members.into_iter();
        let members: BTreeMap<i32, i64> = members
            .filter_map(|(id, epoch)| Some((i32::try_from(id).ok()?, epoch)))
            .collect();
        let known = self.proposals.entry((epoch, partition_epoch)).or_default();
        if known.contains(&members) {
            // The same again, as its outcome is not known. Others may have told something since.
            return Vec::new();
        }
        known.push(members.clone());
        let mut broken = Vec::new();
        for (id, named) in members {
            let heard = self.counted.get(&(node.to_owned(), epoch, id));
            if let Some(heard) = heard.filter(|heard| **heard != named) {
                let detail = format!(
                    "{node} proposes {id} as of its epoch {named}, having heard of it in {heard}"
                );
                broken.push(("R15", detail));
            }
        }
        broken
    }
}

impl Known {
    /// Who leads in the newest epoch, if it does and knows it.
    fn present_leader<'n>(&self, names: &'n Names) -> Option<&'n String> {
        let name = names.get(&self.leader_id()?)?;
        let epoch = self.present_epoch();
        let goes_on = self.copies.leads(name, epoch)
            && !self.copies.cut.contains(&(name.clone(), epoch))
            && self.log_of(name).is_some();
        goes_on.then_some(name)
    }

    /// A leader counts on a follower up to an offset.
    pub fn on_counted(
        &mut self,
        node: &str,
        fields: &Fields,
        kind: Kind,
        names: &Names,
        registered: impl Fn(i32) -> i64,
    ) -> Vec<Broken> {
        let (Some(epoch), Some(follower), Some(offset), Some(life)) = (
            fields.small("leader_epoch"),
            fields.small("follower"),
            fields.number("offset"),
            fields.number("broker_epoch"),
        ) else {
            return Vec::new();
        };
        let mut broken = Vec::new();
        let by = (node.to_owned(), epoch, follower);
        let latest = self.copies.counted.entry(by).or_insert(life);
        if life < *latest {
            let detail = format!(
                "{node} counts what {follower} told in its epoch {life}, having heard of it in \
                 {latest}"
            );
            broken.push(("R15", detail));
        }
        *latest = life.max(*latest);
        // One who was replaced and does not know it yet counts what was told to it before.
        if self
            .present_leader(names)
            .is_none_or(|leader| leader != node)
            || epoch != self.present_epoch()
        {
            return broken;
        }
        let Some(name) = names.get(&follower) else {
            return broken;
        };
        let (Some(mine), Some(theirs)) = (self.log_of(node), self.log_of(name)) else {
            return broken;
        };
        // What only memory held in a life that is over counts until the leader hears of that.
        if offset <= mine.start || (kind.in_memory && life < registered(follower)) {
            return broken;
        }
        let has = match kind.in_memory {
            true => theirs.end,
            false => theirs.recovery_point,
        };
        if has < offset {
            let detail = format!("{node} counts on {name} up to {offset}; it has up to {has}");
            broken.push(("R6", detail));
        } else if !kind.is_compacted
            && offset > theirs.start
            && self.copies.differ(node, name, offset - 1) == Some(true)
        {
            let detail = format!(
                "{node} counts on {name} up to {offset}, where that has records of another leader"
            );
            broken.push(("R6", detail));
        }
        broken
    }

    /// The end of a node's log moved from `before` to where it is.
    pub fn on_end(
        &mut self,
        node: &str,
        before: Option<LogState>,
        log: LogState,
        kind: Kind,
        names: &Names,
    ) -> Vec<Broken> {
        let epoch = log.leader_epoch;
        let mut broken = Vec::new();
        let rises = before.is_some_and(|before| before.end < log.end);
        let falls = before.is_some_and(|before| log.end < before.end);
        if (before.is_none() || falls) && log.end < self.high_watermark && self.counts(node, names)
        {
            let detail = format!(
                "the log of {node} ends at {}; the high watermark is {} and it counts as having \
                 all below",
                log.end, self.high_watermark
            );
            broken.push(("R4", detail));
        }
        if self.copies.leads(node, epoch) {
            let this = (node.to_owned(), epoch);
            if falls {
                self.copies.cut.insert(this);
            } else if rises && self.copies.cut.contains(&this) && self.has_others(node) {
                let detail = format!(
                    "{node} appends up to {} in epoch {epoch}, in which its log was cut",
                    log.end
                );
                broken.push(("R2", detail));
            }
            return broken;
        }
        if !rises || kind.is_compacted || epoch != self.present_epoch() {
            return broken;
        }
        let Some(leader) = self.present_leader(names).filter(|leader| *leader != node) else {
            return broken;
        };
        let theirs = self.log_of(leader).map_or(log.end, |log| log.end);
        if theirs < log.end {
            let detail = format!(
                "{node} copies up to {}; the log of its leader {leader} ends at {theirs}",
                log.end
            );
            broken.push(("R2", detail));
        } else if self.copies.differ(node, leader, log.end - 1) == Some(true) {
            let detail = format!(
                "{node} copies up to {}, where its leader {leader} has records of another epoch",
                log.end
            );
            broken.push(("R2", detail));
        }
        broken
    }

    /// A node cut its log by what another had said: never what it leads, nor what its leader has
    /// as well.
    pub fn on_cut(
        &self,
        node: &str,
        (from, to): (i64, i64),
        kind: Kind,
        names: &Names,
    ) -> Option<Broken> {
        let leader = self.present_leader(names)?;
        if leader == node {
            return Some(("R9", format!("{node} truncates to {to} what it leads")));
        }
        let epoch = self.present_epoch();
        let follows = self.copies.assigned.get(node) == Some(&epoch);
        let (mine, theirs) = (self.log_of(node)?, self.log_of(leader)?);
        let both_had = mine.start < to && to < from && theirs.start <= to && to < theirs.end;
        if !follows || kind.is_compacted || !both_had {
            return None;
        }
        (self.copies.differ(node, leader, to) == Some(false)).then(|| {
            let detail = format!(
                "{node} truncates from {from} to {to}, where it has what its leader {leader} has"
            );
            ("R9", detail)
        })
    }

    /// The controller took in-sync replicas that somebody proposed: they were proposed to the very
    /// state before, and those who are new as of the life that is registered.
    pub fn on_taken(
        &self,
        fields: &Fields,
        (was, isr): (&BTreeSet<i32>, &BTreeSet<i32>),
        registered: impl Fn(i32) -> i64,
    ) -> Vec<Broken> {
        let (Some(epoch), Some(after)) = (
            fields.small("leader_epoch"),
            fields.number("partition_epoch"),
        ) else {
            return Vec::new();
        };
        let proposed = self.copies.proposals.get(&(epoch, after - 1));
        let proposed = proposed.into_iter().flatten();
        let is_this = |members: &&BTreeMap<i32, i64>| {
            members.keys().copied().collect::<BTreeSet<_>>() == *isr
        };
        let others = |members: &BTreeMap<i32, i64>| {
            let new = members.iter().filter(|(id, _)| !was.contains(id));
            let other = new.filter(|(id, life)| registered(**id) != **life);
            other.map(|(id, life)| (*id, *life)).collect::<Vec<_>>()
        };
        // A leader that was refused proposes the same again as of a later life: which of them was
        // taken is not told.
        let closest = proposed.filter(is_this).map(others).min_by_key(Vec::len);
        let Some(others) = closest else {
            let detail = format!(
                "{isr:?} are in sync now, which nobody proposed to the partition epoch {}",
                after - 1
            );
            return vec![("R7", detail)];
        };
        let each = others.into_iter().map(|(id, life)| {
            let detail = format!(
                "{id} comes in sync as of its epoch {life}; it is registered with {}",
                registered(id)
            );
            ("R15", detail)
        });
        each.collect()
    }
}
