//! Consumer coordination: the classic group protocol and committed offsets.
//!
//! [`GroupLedger`] is the machine: hosted by a coordinator shard on each partition of
//! `__consumer_offsets`, it answers the group APIs and records what must survive in Kafka's own
//! record formats. [`GroupCoordinator`] is the broker's handle: it finds a group's partition and
//! asks the ledger there.
//!
//! What is recorded: each generation when it begins (members known, assignment still open) and
//! again when its assignment arrives, the replacement of a static member, the emptying of a group,
//! and committed offsets. What is not: sessions, waiting joins and syncs, rebalance timers. A
//! generation number is recorded before any member learns it, so it never names two generations.

mod carried;
mod classic;
mod describe;
mod handle;
mod heartbeat;
mod join;
mod leave;
mod ledger;
mod offsets;
mod record;
mod state;
mod subscription;
mod sync;

#[cfg(test)]
mod classic_tests;
#[cfg(test)]
mod handle_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod offsets_tests;
#[cfg(test)]
mod test_group;

use std::time::Duration;

pub use carried::Carried;
pub use handle::GroupCoordinator;
pub use ledger::{GroupLedger, GroupSnapshot, GroupSoft, Reply, Request};
pub use record::GroupRecord;
pub use state::{CommittedOffset, Group, GroupMetadata, GroupState, RecordedMember};

/// The internal topic that groups are recorded in.
pub const TOPIC: &str = "__consumer_offsets";

/// Settings of the group coordinator, named after Kafka's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout: Duration,
    /// `group.initial.rebalance.delay.ms`
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`
    pub max_size: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval: Duration,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_bytes_max: usize,
    /// Most bytes the record of a group may take, all members with their subscriptions and
    /// assignments: less than the internal topic's `max.message.bytes`.
    pub record_bytes_max: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::from_secs(3),
            max_size: i32::MAX as usize,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_retention_check_interval: Duration::from_secs(10 * 60),
            offset_metadata_bytes_max: 4096,
            record_bytes_max: 1_000_000,
        }
    }
}

/// The partition of the internal topic, of `count` partitions, that holds a group: Java's
/// `String.hashCode` of the id (over UTF-16 units), made non-negative by dropping the sign bit.
#[must_use]
pub fn partition_for(group_id: &str, count: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    (hash & i32::MAX) % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lives_where_java_hashing_puts_it() {
        assert_eq!(partition_for("", 50), 0);
        assert_eq!(partition_for("a", 50), 97 % 50);
        // Hash codes -1906497762, 158455506 and 1772899.
        assert_eq!(partition_for("my-group", 50), 240_985_886 % 50);
        assert_eq!(partition_for("console-consumer-12345", 50), 6);
        assert_eq!(partition_for("\u{1F600}", 50), 49);
    }
}
