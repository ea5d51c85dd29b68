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
    /// Records acknowledged earlier may be lost.
    pub unclean: bool,
}

/// Elects among the replicas of `state` that are alive: the first in sync; else the first eligible
/// one (KIP-966); else, only where `unclean_allowed`, the first at all; else nobody, and the
/// in-sync replicas stay what they were.
pub fn elect(
    state: &PartitionState,
    is_alive: impl Fn(BrokerId) -> bool,
    unclean_allowed: bool,
) -> Election {
    let first = |eligible: &dyn Fn(&BrokerId) -> bool| {
        let usable = |id: &&BrokerId| is_alive(**id) && eligible(id);
        state.replicas.iter().find(usable).copied()
    };
    if let Some(leader) = first(&|id| state.isr.contains(id)) {
        return Election {
            leader: Some(leader),
            isr: state.isr.clone(),
            unclean: false,
        };
    }
    let eligible = first(&|id| state.elr.contains(id));
    let any = eligible.or_else(|| first(&|_| unclean_allowed));
    match any {
        Some(leader) => Election {
            leader: Some(leader),
            isr: vec![leader],
            unclean: eligible.is_none(),
        },
        None => Election {
            leader: None,
            isr: state.isr.clone(),
            unclean: false,
        },
    }
}
