//! What a replica makes of what it knows: R2, R5, R7 and K1, as it happens.
//!
//! A high watermark may lag behind what was promised for good reasons, so the end of a run says
//! little about how it moved. Here each node is held to what it said itself: up to where it counts
//! on its followers, whom it knows to be there, what its high watermark was before.

use std::collections::{BTreeMap, BTreeSet};

use klamm_jepsen::history::LogState;

use super::copies::Kind;
use super::partitions::Known;
use super::{Broken, Fields, now};

/// What nodes told of themselves.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Up to where each leader counts on each follower, by leader, leader epoch and follower.
    counted: BTreeMap<(String, i32, i32), i64>,
    /// What a leader's high watermark is to be since its in-sync replicas changed.
    due: BTreeMap<String, Due>,
    /// The high watermark that each node has.
    high_watermarks: BTreeMap<String, i64>,
    /// What running processes have led.
    led: BTreeSet<(String, i32)>,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    /// In nanoseconds.
    since: u64,
    leader_epoch: i32,
    high_watermark: i64,
}

impl Standing {
    /// The node's process ended.
    pub fn forget(&mut self, node: &str) {
        self.counted.retain(|(leader, ..), _| leader != node);
        self.led.retain(|(leader, _)| leader != node);
        self.closed(node);
    }

    /// The node let go of its copy.
    pub fn closed(&mut self, node: &str) {
        self.due.remove(node);
        self.high_watermarks.remove(node);
    }

    pub fn on_counted(&mut self, node: &str, fields: &Fields) {
        if let (Some(epoch), Some(follower), Some(offset)) = (
            fields.small("leader_epoch"),
            fields.small("follower"),
            fields.number("offset"),
        ) {
            let by = (node.to_owned(), epoch, follower);
            self.counted.insert(by, offset);
        }
    }

    /// A node leads in an epoch that another process of it led; whether this one did before.
    pub fn led_before(&mut self, node: &str, epoch: i32) -> bool {
        !self.led.insert((node.to_owned(), epoch))
    }

    /// The high watermark never goes back while the log still has what is below: R5. It moves in
    /// the moment in which it may: R5.
    pub fn on_log(&mut self, node: &str, log: LogState) -> Vec<Broken> {
        let mut broken = Vec::new();
        let offset = log.high_watermark;
        let before = self.high_watermarks.insert(node.to_owned(), offset);
        if let Some(before) = before.filter(|before| offset < *before && *before <= log.end) {
            let detail = format!(
                "the high watermark of {node} goes back from {before} to {offset}; its log ends at \
                 {}",
                log.end
            );
            broken.push(("R5", detail));
        }
        let Some(due) = self.due.get(node).copied() else {
            return broken;
        };
        if due.leader_epoch != log.leader_epoch || due.high_watermark <= offset {
            self.due.remove(node);
        }
        let is_late = due.leader_epoch == log.leader_epoch
            && due.high_watermark <= offset
            && due.since < now();
        if is_late {
            let detail = format!(
                "the high watermark of {node} rises to {offset} now; since its in-sync replicas \
                 changed, {} ns ago, it could be {}",
                now() - due.since,
                due.high_watermark
            );
            broken.push(("R5", detail));
        }
        broken
    }
}

impl Known {
    /// What a leader may tell, by what it counts on, once its in-sync replicas have changed.
    pub fn on_replicas_changed(
        &mut self,
        node: &str,
        fields: &Fields,
        kind: Kind,
        names: &BTreeMap<i32, String>,
    ) {
        let (Some(epoch), Some(isr), Some(replicas)) = (
            fields.small("leader_epoch"),
            fields.ids("isr"),
            fields.ids("replicas"),
        ) else {
            return;
        };
        self.standing.due.remove(node);
        // It is no follower any more: whatever it had told is forgotten.
        let counted = &mut self.standing.counted;
        counted.retain(|(leader, _, follower), _| leader != node || replicas.contains(follower));
        let Some(log) = self.log_of(node).copied() else {
            return;
        };
        let me = |id: &&i32| names.get(id).is_some_and(|name| name == node);
        let is_enough = isr.len() >= kind.least.min(replicas.len());
        let is_told = kind.is_own && replicas.len() > 1 && is_enough;
        if !is_told || !self.copies.leads(node, epoch) || log.leader_epoch != epoch {
            return;
        }
        let others = isr.iter().filter(|id| !me(id));
        let mut least = log.recovery_point;
        for id in others {
            let by = (node.to_owned(), epoch, *id);
            let Some(offset) = self.standing.counted.get(&by) else {
                return;
            };
            least = least.min(*offset);
        }
        if log.high_watermark < least {
            let due = Due {
                since: now(),
                leader_epoch: epoch,
                high_watermark: least,
            };
            self.standing.due.insert(node.to_owned(), due);
        }
    }

    /// A node leads in an epoch that it led before its process ended, and may lack what it gave to
    /// followers then: R2.
    pub fn on_led(&mut self, node: &str, epoch: i32, is_new: bool) -> Option<Broken> {
        let is_known = self.standing.led_before(node, epoch);
        (!is_new && !is_known && self.has_others(node)).then(|| {
            let detail = format!("{node} leads in epoch {epoch} again, after its process ended");
            ("R2", detail)
        })
    }

    /// A leader proposes nobody anew whom it knows to be fenced or shutting down: R7.
    pub fn on_proposes(&self, node: &str, fields: &Fields) -> Vec<Broken> {
        let (Some(members), Some(eligible), Some(view)) = (
            fields.pairs("members"),
            fields.pairs("eligible"),
            self.assigned_to(node),
        ) else {
            return Vec::new();
        };
        let eligible: BTreeSet<i64> = eligible.into_iter().map(|(id, _)| id).collect();
        let is_member = |id: &i64| view.isr.iter().any(|member| i64::from(*member) == *id);
        let ids = members.into_iter().map(|(id, _)| id);
        let new = ids.filter(|id| !is_member(id) && !eligible.contains(id));
        new.map(|id| {
            let detail =
                format!("{node} proposes {id}, and knows it to be fenced or shutting down");
            ("R7", detail)
        })
        .collect()
    }

    /// A round of compaction covers nothing that is not committed: K1.
    pub fn on_compacting(&self, node: &str, fields: &Fields) -> Option<Broken> {
        let end = fields.number("end")?;
        let committed = self.committed_once();
        (committed < end).then(|| {
            let detail = format!(
                "{node} compacts what is below {end}; no leader told a high watermark beyond \
                 {committed}"
            );
            ("K1", detail)
        })
    }
}
