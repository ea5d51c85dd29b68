//! The next state of a partition: what follows from a change of its replicas or of who is alive.
//!
//! **Who stays eligible.** A replica that leaves the ISR while fewer than `min.insync.replicas`
//! remain keeps everything that was acknowledged to `acks=all`, because from then on the high
//! watermark stands still: it becomes an eligible leader replica (ELR, KIP-966) and may be elected
//! cleanly. With enough in-sync replicas there is no ELR. The last in-sync replica that goes
//! becomes eligible too: so the ISR of a partition without a leader may be empty.
//!
//! **Who comes back without having stopped in order** has lost what was in memory only. With
//! `klamm.durability=fsync` that is nothing that counts: an in-sync replica (a follower's fetch
//! offset is its durable end) has everything below the high watermark on its disk, so it stays
//! eligible, if its data directories are those it had. Otherwise ([`Loss`]) it leaves ISR and ELR.
//! With `replicated`, the one who led last may lead again once nobody is in sync or eligible any
//! more, and the record says that this was not clean. A broker that came back with other
//! directories has nothing: it is never elected but by an unclean election.
//!
//! **Promises.** The leader is in the ISR; the ISR and the ELR are disjoint and among the replicas;
//! a change of leader or the departure of a replica comes with a new leader epoch, every change
//! with a new partition epoch.

use super::election::{Kind, elect};
use super::record::{Cause, PartitionState};
use crate::types::{BrokerId, LeaderEpoch};

/// What the next state depends on besides the last.
pub(super) struct Rules<'a> {
    pub may_lead: &'a dyn Fn(BrokerId) -> bool,
    pub min_insync_replicas: usize,
    pub unclean_allowed: bool,
}

/// Whether the leader may stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leadership {
    /// While it is in sync and may lead.
    Stays,
    /// The first replica in sync leads.
    Preferred,
    /// A new leader epoch, even with the same leader.
    Anew,
    /// As [`Leadership::Stays`], but in a new leader epoch.
    Renewed,
}

/// What a broker that came back may lack.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Loss {
    Nothing,
    /// What was in memory only.
    Unsynced,
    Everything,
}

/// The state after `before` in which `wanted` is what a change asks for: its replicas, its ISR, its
/// cause. `lost` names a replica that does not hold what it held. `None` if nothing changes.
pub(super) fn next_state(
    before: &PartitionState,
    wanted: PartitionState,
    lost: Option<(BrokerId, Loss)>,
    leadership: Leadership,
    rules: &Rules<'_>,
) -> Option<PartitionState> {
    let mut next = wanted;
    complete_reassignment(&mut next);
    refresh_eligible(before, &mut next, lost, rules);
    hold_election(&mut next, leadership, rules);
    next.last_known_elr = match (next.leader, before.leader) {
        (Some(_), _) => Vec::new(),
        (None, Some(last)) if lost == Some((last, Loss::Everything)) => Vec::new(),
        (None, Some(last)) => vec![last],
        (None, None) => next.last_known_elr,
    };
    let has_new_epoch = next.leader != before.leader
        || matches!(leadership, Leadership::Anew | Leadership::Renewed)
        || before.replicas.iter().any(|id| !next.replicas.contains(id));
    if !has_new_epoch && is_same(before, &next) {
        return None;
    }
    if has_new_epoch && !crate::mutant!("leader-epoch-reused") {
        next.leader_epoch = LeaderEpoch(before.leader_epoch.0 + 1);
    }
    next.partition_epoch = before.partition_epoch + 1;
    Some(next)
}

/// Whether two states differ in nothing but their cause and epochs.
fn is_same(one: &PartitionState, other: &PartitionState) -> bool {
    let other = PartitionState {
        cause: one.cause,
        leader_epoch: one.leader_epoch,
        partition_epoch: one.partition_epoch,
        ..other.clone()
    };
    *one == other
}

/// Ends a reassignment once all wanted replicas are in sync (KAFKA-15665).
fn complete_reassignment(next: &mut PartitionState) {
    if !next.is_reassigning() {
        return;
    }
    let wanted: Vec<BrokerId> = next.wanted_replicas().collect();
    let in_sync = |id: &BrokerId| next.isr.contains(id);
    let is_complete = match crate::mutant!("reassignment-ends-early") {
        true => wanted.iter().any(in_sync),
        false => wanted.iter().all(in_sync),
    };
    if !is_complete {
        return;
    }
    next.isr.retain(|id| wanted.contains(id));
    next.replicas = wanted;
    next.adding.clear();
    next.removing.clear();
    next.cause = Cause::ReassignmentCompleted;
}

fn refresh_eligible(
    before: &PartitionState,
    next: &mut PartitionState,
    lost: Option<(BrokerId, Loss)>,
    rules: &Rules<'_>,
) {
    let is_enough = next.isr.len() >= next.min_isr(rules.min_insync_replicas);
    if is_enough && !next.isr.is_empty() && !crate::mutant!("eligible-for-ever") {
        next.elr.clear();
        return;
    }
    let was_complete = |id: &&BrokerId| before.isr.contains(id) || before.elr.contains(id);
    let still_is =
        |id: &&BrokerId| !next.isr.contains(id) && lost.is_none_or(|(lost, _)| lost != **id);
    let elr = next.replicas.iter().filter(was_complete).filter(still_is);
    next.elr = elr.copied().collect();
}

fn hold_election(next: &mut PartitionState, leadership: Leadership, rules: &Rules<'_>) {
    let is_good = |id: BrokerId| next.isr.contains(&id) && (rules.may_lead)(id);
    let may_stay = matches!(leadership, Leadership::Stays | Leadership::Renewed);
    if may_stay && next.leader.is_some_and(is_good) {
        return;
    }
    let election = elect(next, rules.may_lead, rules.unclean_allowed);
    next.leader = election.leader;
    next.isr = election.isr;
    match election.kind {
        Kind::Clean => {}
        Kind::LastKnown => {
            tracing::trace!(target: "klamm::probe", name = "elected-last-known");
            next.recovering = true;
            next.cause = Cause::LastKnownLeader;
        }
        Kind::Unclean => {
            tracing::trace!(target: "klamm::probe", name = "elected-uncleanly");
            next.elr.clear();
            next.recovering = true;
            next.cause = Cause::UncleanElection;
        }
    }
    let is_enough = next.isr.len() >= next.min_isr(rules.min_insync_replicas);
    if is_enough && !next.isr.is_empty() && !crate::mutant!("eligible-for-ever") {
        next.elr.clear();
    }
    let isr = &next.isr;
    next.elr.retain(|id| !isr.contains(id));
}
