//! AlterLinks (key 20003): makes, changes and deletes links to other clusters, and promotes
//! mirrors. Version 1 adds how mirrors are named. Flexible; Klamm's own.

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct AlterLinksRequest {
        /// 0 create, 1 alter, 2 delete a link; 3 promote mirrors.
        operation: i8 [0..],
        timeout_ms: i32 [0..] = 60_000,
        /// Only check whether it could be done.
        validate_only: bool [0..],
        /// The link; promoting, null: whatever link the mirrors are of.
        name: Option<Str> [0..],
        /// To create: 0 exact, 1 as MirrorMaker does.
        mode: i8 [0..],
        /// To create or alter; null: it stays as it is.
        bootstrap: Option<Vec<Str>> [0..],
        topics: Option<Vec<Str>> [0..],
        groups: Option<Vec<Str>> [0..],
        /// To alter: 0 resumed, 1 paused, -1: it stays as it is.
        paused: i8 [0..] = -1,
        /// 0: as much as it can; -1: it stays as it is.
        bytes_per_second: i64 [0..] = -1,
        /// To create: of the mirrors that the link makes; -1: the default.
        replication_factor: i16 [0..] = -1,
        /// To delete: promote what the link still fills.
        force: bool [0..],
        /// To promote; null: all that are not promoted.
        mirrors: Option<Vec<Str>> [0..],
        /// To create in mode 1: 0 default, 1 identity.
        replication_policy: i8 [1..],
        /// Between an alias and a name; null: a dot.
        separator: Option<Str> [1..],
        /// What this cluster is called.
        alias: Option<Str> [1..],
        /// Whether heartbeats are written to the source too.
        source_heartbeats: bool [1..],
    }

    pub struct AlterLinksResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
        /// Of a link that was made.
        link_id: Uuid [0..],
        /// Mirrors that were promoted, or could not be.
        promoted: Vec<PromotedTopic> [0..],
    }

    pub struct PromotedTopic {
        topic: Str [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
        /// By partition, the leader epoch from which on clients write.
        leader_epochs: Vec<i32> [0..],
    }
}
