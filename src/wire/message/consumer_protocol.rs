//! What consumers put into the opaque fields of JoinGroup and SyncGroup when the protocol type is
//! `consumer`: a subscription and an assignment, each behind a 2-byte version of its own.
//!
//! Brokers never interpret these (except to show them); consumers and assignors do. Version 1
//! added the partitions a member still owns (cooperative rebalancing, KIP-429), 2 the generation
//! they were owned in, 3 the rack.

use bytes::Bytes;

use crate::wire::primitive::Str;

message! {
    pub struct ConsumerProtocolSubscription {
        topics: Vec<Str> [0..],
        user_data: Option<Bytes> [0..],
        owned_partitions: Vec<OwnedPartitions> [1..],
        generation_id: i32 [2..] = -1,
        rack_id: Option<Str> [3..],
    }

    pub struct ConsumerProtocolAssignment {
        assigned_partitions: Vec<OwnedPartitions> [0..],
        user_data: Option<Bytes> [0..],
    }

    /// Partitions of one topic.
    pub struct OwnedPartitions {
        topic: Str [0..],
        partitions: Vec<i32> [0..],
    }
}
