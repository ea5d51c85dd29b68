//! DescribeLinks (key 20004): links to other clusters, and how far their mirrors are. Version 1
//! adds how mirrors are named. Flexible; Klamm's own.
//!
//! Every broker knows links and mirrors; how far a partition is, only the one that leads it: who
//! wants all of it asks every broker.

use crate::types::Uuid;
use crate::wire::primitive::Str;

message! {
    pub struct DescribeLinksRequest {
        /// By name; null: all.
        links: Option<Vec<Str>> [0..],
        /// Whether to tell of mirrors.
        include_mirrors: bool [0..],
    }

    pub struct DescribeLinksResponse {
        throttle_time_ms: i32 [0..],
        error_code: i16 [0..],
        error_message: Option<Str> [0..],
        links: Vec<DescribedLink> [0..],
        /// Of the links, and, where all were asked for, those whose link is gone.
        mirrors: Vec<DescribedMirror> [0..],
    }

    pub struct DescribedLink {
        link_id: Uuid [0..],
        name: Str [0..],
        mode: Str [0..],
        bootstrap: Vec<Str> [0..],
        /// The source's cluster id; null before the first contact.
        source_cluster: Option<Str> [0..],
        topics: Vec<Str> [0..],
        groups: Vec<Str> [0..],
        paused: bool [0..],
        /// -1: as much as it can.
        bytes_per_second: i64 [0..] = -1,
        replication_factor: i16 [0..] = -1,
        /// Whether the broker that answers looks after the link; the fields below are of it alone.
        looked_after: bool [0..],
        /// When the source last told which topics it has, in milliseconds; -1: never yet.
        seen_at_ms: i64 [0..] = -1,
        /// Why it did not the last time.
        error: Option<Str> [0..],
        skipped: Vec<SkippedTopic> [0..],
        /// Of a link that names as MirrorMaker does: `default` or `identity`.
        replication_policy: Option<Str> [1..],
        separator: Option<Str> [1..],
        /// What this cluster is called.
        alias: Option<Str> [1..],
        source_heartbeats: bool [1..],
    }

    /// A topic of the source that the patterns name and that is not copied.
    pub struct SkippedTopic {
        topic: Str [0..],
        reason: Str [0..],
    }

    pub struct DescribedMirror {
        topic: Str [0..],
        topic_id: Uuid [0..],
        link_id: Uuid [0..],
        source_topic: Str [0..],
        /// Zero where the source has no topic ids.
        source_topic_id: Uuid [0..],
        /// A name such as `ACTIVE`.
        state: Str [0..],
        /// Why nothing of it is copied any more.
        reason: Option<Str> [0..],
        partitions: Vec<DescribedMirrorPartition> [0..],
    }

    pub struct DescribedMirrorPartition {
        partition: i32 [0..],
        /// -1 where nobody leads.
        leader: i32 [0..] = -1,
        /// Of this cluster.
        leader_epoch: i32 [0..] = -1,
        /// Of the source, of the newest records; -1: none yet.
        source_epoch: i32 [0..] = -1,
        /// A name such as `TRUNCATED`; null: nothing is wrong.
        fault: Option<Str> [0..],
        /// What happened, at which offsets.
        fault_text: Option<Str> [0..],
        /// What an operator can do.
        choices: Option<Str> [0..],
        /// Whether the broker that answers leads it; the fields below are of it alone.
        led_here: bool [0..],
        log_start_offset: i64 [0..] = -1,
        log_end_offset: i64 [0..] = -1,
        /// Where what was copied ends: of a promoted mirror where clients' records begin; -1: not
        /// known.
        copied_end: i64 [0..] = -1,
        /// Of the source, when it was last heard of; -1: never yet.
        source_log_start: i64 [0..] = -1,
        source_log_end: i64 [0..] = -1,
        seen_at_ms: i64 [0..] = -1,
        /// When the copy last had all that the source had; -1: never yet.
        caught_up_at_ms: i64 [0..] = -1,
        /// Why nothing is copied at the moment.
        error: Option<Str> [0..],
    }
}
