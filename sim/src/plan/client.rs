//! Who does what.

use serde::{Deserialize, Serialize};

/// One client, on a host of its own with the client's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientPlan {
    /// Unique, and the process in the history.
    pub name: String,
    /// Milliseconds since the clients started.
    #[serde(default)]
    pub start_ms: u64,
    /// Which versions of each API it speaks.
    #[serde(default)]
    pub versions: Versions,
    /// Whether it begins only once what its cluster copies from others was promoted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_promotion: bool,
    #[serde(flatten)]
    pub role: Role,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versions {
    #[default]
    Newest,
    Oldest,
    /// Drawn for each connection and API.
    Mixed,
}

/// What a client does until the part with faults ends. All pauses are drawn up to the figure named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "kebab-case")]
pub enum Role {
    /// Sends batches to drawn partitions of a topic.
    Producer {
        topic: String,
        /// -1, 0 or 1.
        acks: i16,
        idempotent: bool,
        /// Batches under way at once, over one connection; 1 to 5.
        in_flight: u32,
        batch_records: u32,
        value_bytes: u32,
        /// Different keys; 0 for records without.
        keys: u32,
        tombstone_percent: u8,
        /// `none`, `gzip`, `snappy`, `lz4`, `zstd`.
        compression: String,
        pause_ms: u64,
        /// Percent of sends that are sent again though they were answered, or over a second
        /// connection while the first is under way (idempotent producers only).
        repeat_percent: u8,
        /// Whether it retries what is not known to have happened (with the same sequence if
        /// idempotent).
        retries: bool,
        /// Whether the project's own client library does it.
        library: bool,
    },
    /// Reads all partitions of a topic, from their starts, for ever; begins again now and then.
    Reader {
        topic: String,
        max_bytes: i32,
        partition_max_bytes: i32,
        max_wait_ms: i32,
        /// Whether it keeps a fetch session (KIP-227).
        session: bool,
        committed: bool,
        pause_ms: u64,
        restart_percent: u8,
        library: bool,
        /// Where it is: it may be sent to the copy there (KIP-392).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rack: Option<String>,
    },
    /// A member of a group: joins, reads what it is assigned, commits, leaves or vanishes, and
    /// comes back.
    Member {
        group: String,
        topics: Vec<String>,
        instance: Option<String>,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32,
        commit_ms: u64,
        /// Percent of rounds after which it leaves, vanishes, or sits still past its session and
        /// then goes on as if nothing had happened.
        leave_percent: u8,
        vanish_percent: u8,
        freeze_percent: u8,
        library: bool,
    },
    /// Commits and reads back offsets of a group without being a member.
    Committer {
        group: String,
        topic: String,
        pause_ms: u64,
        /// Only reads.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        only_reads: bool,
    },
    /// Makes, changes, deletes and makes again topics of its own, named from its own name, and
    /// writes to and reads from them.
    Admin {
        pause_ms: u64,
        /// Whether it commits offsets of its topics for groups as well.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        commits: bool,
    },
    /// Deletes records of a topic up to drawn offsets.
    Deleter { topic: String, pause_ms: u64 },
    /// Asks where a topic's partitions begin and end, and what offset a time has.
    Lister { topic: String, pause_ms: u64 },
}
