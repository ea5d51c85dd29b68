//! What is known of one partition: R1, R3 to R7, R9.

use std::collections::{BTreeMap, BTreeSet};

use klamm_jepsen::history::LogState;

use super::{Broken, Fields, now};

/// Ids of brokers.
type Ids = BTreeSet<i32>;
/// Names of nodes by id.
type Names = BTreeMap<i32, String>;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Who led in which epoch.
    leaders: BTreeMap<i32, String>,
    /// The highest that a leader told, since the last unclean election.
    pub high_watermark: i64,
    /// Every time that it rose, in nanoseconds.
    rises: Vec<(u64, i64)>,
    /// As the controller has it.
    isr: Ids,
    elr: Ids,
    leader: Option<i32>,
    /// Of running nodes.
    pub logs: BTreeMap<String, LogState>,
    /// As the latest leader knows them.
    isr_of_leader: Option<Ids>,
}

impl Known {
    /// The node's process ended.
    pub fn forget(&mut self, node: &str) {
        self.logs.remove(node);
    }

    pub fn leader(&self) -> Option<String> {
        self.leaders.values().next_back().cloned()
    }

    /// `None` before the first was told.
    pub fn high_watermark_at(&self, time: u64) -> Option<i64> {
        let before = self.rises.partition_point(|(at, _)| *at <= time);
        let (_, offset) = self.rises[..before].last()?;
        Some(*offset)
    }

    fn take_back(&mut self, to: i64) {
        if to < self.high_watermark {
            self.high_watermark = to;
            self.rises.push((now(), to));
        }
    }

    pub fn on_replica(
        &mut self,
        node: &str,
        fields: &Fields,
        least: usize,
        names: &Names,
    ) -> Vec<Broken> {
        match fields.name() {
            "leader" => self.on_leader(node, fields),
            "isr" => {
                self.isr_of_leader = fields.ids("isr");
                Vec::new()
            }
            "truncated" => self.on_truncated(node, fields, names),
            "high-watermark" => self.on_high_watermark(node, fields, least, names),
            _ => Vec::new(),
        }
    }

    fn on_leader(&mut self, node: &str, fields: &Fields) -> Vec<Broken> {
        let mut broken = Vec::new();
        let Some(epoch) = fields.small("epoch") else {
            return broken;
        };
        let first = self.leaders.entry(epoch).or_insert_with(|| node.to_owned());
        if first != node {
            let detail = format!("{first} and {node} both lead in epoch {epoch}");
            broken.push(("R1", detail));
        }
        self.isr_of_leader = None;
        if let Some(start) = fields.number("start")
            && start < self.high_watermark
        {
            let detail = format!(
                "{node} begins epoch {epoch} at {start}; the high watermark was {}",
                self.high_watermark
            );
            broken.push(("R3", detail));
        }
        broken
    }

    fn on_truncated(&mut self, node: &str, fields: &Fields, names: &Names) -> Vec<Broken> {
        let Some(to) = fields.number("to") else {
            return Vec::new();
        };
        let counts = |ids: &Ids| {
            let mut members = ids.iter().filter_map(|id| names.get(id));
            members.any(|name| name == node)
        };
        if to < self.high_watermark && (counts(&self.isr) || counts(&self.elr)) {
            let detail = format!(
                "{node} truncates to {to}; the high watermark is {} and it counts as having all \
                 below",
                self.high_watermark
            );
            return vec![("R9", detail)];
        }
        Vec::new()
    }

    fn on_high_watermark(
        &mut self,
        node: &str,
        fields: &Fields,
        least: usize,
        names: &Names,
    ) -> Vec<Broken> {
        let mut broken = Vec::new();
        let Some(offset) = fields.number("offset") else {
            return broken;
        };
        if offset <= self.high_watermark {
            return broken;
        }
        let isr = self.isr_of_leader.as_ref().unwrap_or(&self.isr);
        if !isr.is_empty() && isr.len() < least {
            let detail = format!(
                "the high watermark rises to {offset} with {isr:?} in sync; {least} are needed"
            );
            broken.push(("R7", detail));
        }
        for id in isr {
            let Some(member) = names.get(id).filter(|name| *name != node) else {
                continue;
            };
            if let Some(log) = self.logs.get(member)
                && log.recovery_point < offset
            {
                let detail = format!(
                    "the high watermark rises to {offset}; {member}, in sync, is durable to {}",
                    log.recovery_point
                );
                broken.push(("R6", detail));
            }
        }
        self.high_watermark = offset;
        self.rises.push((now(), offset));
        broken
    }

    /// The controller's state of the partition changed.
    pub fn on_metadata(
        &mut self,
        fields: &Fields,
        fenced: &Ids,
        least: Option<usize>,
        names: &Names,
    ) -> Vec<Broken> {
        let mut broken = Vec::new();
        let replicas = fields.ids("replicas").unwrap_or_default();
        let isr = fields.ids("isr").unwrap_or_default();
        let elr = fields.ids("elr").unwrap_or_default();
        let leader = fields.small("leader").filter(|id| *id >= 0);
        let cause = fields.text("cause").unwrap_or_default();
        let is_unclean = cause.to_lowercase().contains("unclean");
        if !isr.is_subset(&replicas) || !elr.is_subset(&replicas) {
            broken.push((
                "R7",
                format!("{isr:?} in sync and {elr:?} eligible, of replicas {replicas:?}"),
            ));
        }
        if let Some(leader) = leader
            && !isr.contains(&leader)
        {
            broken.push(("R7", format!("leader {leader} is not in sync: {isr:?}")));
        }
        if let Some(least) = least
            && isr.len() >= least
            && !elr.is_empty()
        {
            let detail = format!("{elr:?} stay eligible though {isr:?} are enough in sync");
            broken.push(("R7", detail));
        }
        let is_known = !self.isr.is_empty();
        for id in isr.difference(&self.isr).filter(|_| is_known) {
            if fenced.contains(id) {
                broken.push(("R7", format!("{id} comes in sync while it is fenced")));
            }
            if let Some(log) = names.get(id).and_then(|name| self.logs.get(name))
                && log.end < self.high_watermark
                && !is_unclean
            {
                let detail = format!(
                    "{id} comes in sync with a log that ends at {}; the high watermark is {}",
                    log.end, self.high_watermark
                );
                broken.push(("R4", detail));
            }
        }
        if is_unclean && let Some(leader) = leader.filter(|id| self.leader != Some(*id)) {
            let log = names.get(&leader).and_then(|name| self.logs.get(name));
            self.take_back(log.map_or(0, |log| log.end));
        }
        (self.isr, self.elr, self.leader) = (isr, elr, leader);
        broken
    }
}
