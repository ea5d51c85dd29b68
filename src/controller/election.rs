//! Who leads a partition.

use super::record::PartitionState;
use crate::types::BrokerId;

/// The outcome of an election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Election {
    /// `None`: nobody may lead; the partition is offline.
    pub leader: Option<BrokerId>,
    /// In-sync replicas afterwards.
    pub isr: Vec<BrokerId>,
    pub kind: Kind,
}

/// What an elected leader is known to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Every record that was acknowledged to `acks=all`. So is an election that elects nobody.
    Clean,
    /// Nobody holds more: it led last, all others had fallen behind before, and it came back with
    /// its data directories. It may have lost records that it held in memory only (KIP-966).
    LastKnown,
    /// Nothing: records acknowledged earlier may be lost.
    Unclean,
}

/// Elects among the replicas of `state` that `may_lead`, in the order of preference: the first in
/// sync; else the first eligible one (KIP-966); else, where neither kind has a member even among
/// the absent, the last leader; else, only where `unclean_allowed`, the first at all; else nobody,
/// and the in-sync replicas stay what they were.
pub fn elect(
    state: &PartitionState,
    may_lead: impl Fn(BrokerId) -> bool,
    unclean_allowed: bool,
) -> Election {
    let first = |qualifies: &dyn Fn(&BrokerId) -> bool| {
        let usable = |id: &&BrokerId| may_lead(**id) && qualifies(id);
        state.replicas.iter().find(usable).copied()
    };
    let elected = |leader, kind| Election {
        leader: Some(leader),
        isr: vec![leader],
        kind,
    };
    if let Some(leader) = first(&|id| state.isr.contains(id)) {
        return Election {
            isr: state.isr.clone(),
            ..elected(leader, Kind::Clean)
        };
    }
    if let Some(leader) = first(&|id| state.elr.contains(id)) {
        return elected(leader, Kind::Clean);
    }
    let is_nobody_absent = state.isr.is_empty() && state.elr.is_empty();
    if is_nobody_absent && let Some(leader) = first(&|id| state.last_known_elr.contains(id)) {
        return elected(leader, Kind::LastKnown);
    }
    match first(&|_| unclean_allowed) {
        Some(leader) => elected(leader, Kind::Unclean),
        None => Election {
            leader: None,
            isr: state.isr.clone(),
            kind: Kind::Clean,
        },
    }
}
