//! Which brokers hold a new partition.
//!
//! Leaders go round the brokers; the other replicas follow at a distance that grows each time
//! round, so that a broker's followers spread over all others. Where every broker has a rack, the
//! replicas of a partition are in as many racks as there are (KIP-36).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::types::BrokerId;

/// A broker that may get replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub id: BrokerId,
    pub rack: Option<String>,
}

/// Replicas of `count` partitions numbered from `first`, over `brokers`, `replication_factor` each
/// (at most the number of brokers; callers refuse more). The first leader is number `start`.
#[must_use]
pub(super) fn place(
    brokers: &[Place],
    first: usize,
    count: usize,
    replication_factor: usize,
    start: usize,
) -> Vec<Vec<BrokerId>> {
    let total = brokers.len();
    if total == 0 {
        return vec![Vec::new(); count];
    }
    let (brokers, racks) = alternated(brokers);
    let replicas = |partition: usize| {
        let leader = (start + partition) % total;
        let shift = (start + partition / total) * racks;
        let follower = |turn: usize| (leader + 1 + (shift + turn) % (total - 1)) % total;
        let order = [leader].into_iter().chain((0..total - 1).map(follower));
        spread(order.map(|at| brokers[at]), replication_factor.min(total))
    };
    (first..first + count).map(replicas).collect()
}

/// The brokers in an order in which neighbours are in different racks, and how many racks there
/// are. Without racks, or where somebody has none, all count as being in one.
fn alternated(brokers: &[Place]) -> (Vec<&Place>, usize) {
    let mut racks: BTreeMap<&str, VecDeque<&Place>> = BTreeMap::new();
    for broker in brokers {
        match &broker.rack {
            Some(rack) => racks.entry(rack).or_default().push_back(broker),
            None => return (brokers.iter().collect(), 1),
        }
    }
    let count = racks.len();
    let mut order = Vec::with_capacity(brokers.len());
    while order.len() < brokers.len() {
        order.extend(racks.values_mut().filter_map(VecDeque::pop_front));
    }
    (order, count)
}

/// The first `count` of `order`, but before any rack has a second one, every rack has a first.
fn spread<'a>(order: impl Iterator<Item = &'a Place>, count: usize) -> Vec<BrokerId> {
    let mut left: Vec<&Place> = order.collect();
    if left.iter().any(|place| place.rack.is_none()) {
        return left.iter().take(count).map(|place| place.id).collect();
    }
    let mut chosen = Vec::with_capacity(count);
    let mut used = BTreeSet::new();
    while chosen.len() < count && !left.is_empty() {
        let at = left.iter().position(|place| !used.contains(&place.rack));
        match at {
            Some(at) => {
                let place = left.remove(at);
                used.insert(place.rack.clone());
                chosen.push(place.id);
            }
            None => used.clear(),
        }
    }
    chosen
}
