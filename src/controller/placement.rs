//! Which brokers hold a new partition.

use crate::types::BrokerId;

/// Replicas of `count` partitions numbered from `first`, over `brokers`, `replication_factor` each
/// (at most the number of brokers; callers refuse more).
///
/// Leaders go round the brokers from `start`; the other replicas follow at a distance that grows by
/// one each time round, so that a broker's followers spread over all others.
#[must_use]
pub(super) fn place(
    brokers: &[BrokerId],
    first: usize,
    count: usize,
    replication_factor: usize,
    start: usize,
) -> Vec<Vec<BrokerId>> {
    let total = brokers.len();
    if total == 0 {
        return vec![Vec::new(); count];
    }
    let replicas = |partition: usize| {
        let leader = (start + partition) % total;
        let shift = start + partition / total;
        let place = |follower: usize| match follower {
            0 => brokers[leader],
            _ => brokers[(leader + 1 + (shift + follower - 1) % (total - 1)) % total],
        };
        (0..replication_factor.min(total)).map(place).collect()
    };
    (first..first + count).map(replicas).collect()
}
