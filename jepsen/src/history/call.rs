//! Operations of clients: what was asked, and what was answered.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::Partition;

/// How often a client library may have sent a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Library {
    /// Once.
    Once,
    /// Any number of times, and the broker can tell that it is the same.
    Idempotent,
    /// Any number of times.
    Repeats,
}

/// What a client asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Call {
    /// One batch to one partition.
    Send {
        to: Partition,
        /// -1 for all.
        acks: i16,
        records: Vec<Written>,
        /// Absent for a producer without idempotence, and for a library.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stamp: Option<Stamp>,
        /// Set if a client library sent it: the stamp and the attempts are not known, and a log
        /// append time is told only where it is not the record's own timestamp.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        library: Option<Library>,
    },
    /// One fetch. The positions asked for are in the answer too: it is judged by those.
    Read {
        from: Vec<Position>,
        /// Whether only records of committed transactions may come.
        committed: bool,
        /// Of a client library: the stamps of the records are not known.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        library: bool,
    },
    /// The consumer now reads these partitions from these positions, whatever it read before.
    Assign {
        positions: Vec<Position>,
    },
    ListOffsets {
        of: Partition,
        at: ListedAt,
    },
    /// JoinGroup and SyncGroup together, up to an assignment.
    Join(Join),
    Heartbeat(Membership),
    Leave(Membership),
    Commit {
        /// The group, with an empty member id for a commit without membership.
        by: Membership,
        offsets: Vec<Committed>,
    },
    FetchCommitted {
        group: String,
        of: Vec<Partition>,
    },
    DescribeGroup {
        group: String,
    },
    DeleteGroup {
        group: String,
    },
    /// Deletes committed offsets.
    DeleteOffsets {
        group: String,
        of: Vec<Partition>,
    },
    CreateTopic {
        topic: String,
        partitions: i32,
        #[serde(default)]
        config: BTreeMap<String, String>,
    },
    DeleteTopic {
        topic: String,
    },
    CreatePartitions {
        topic: String,
        partitions: i32,
    },
    /// By Metadata, or whatever tells the same.
    DescribeTopic {
        topic: String,
    },
    /// Moves the log's start up to `before`.
    DeleteRecords {
        of: Partition,
        before: i64,
    },
    AlterConfig {
        topic: String,
        key: String,
        value: Option<String>,
    },
    DescribeConfig {
        topic: String,
        key: String,
    },
    /// Without a transactional id.
    InitProducer,
    /// From now on the cluster copies topics, and the committed offsets of groups, from another.
    CreateLink {
        link: String,
        /// The cluster that is copied from, as events name it.
        from: Option<String>,
        /// Patterns: `*` stands for any characters.
        topics: Vec<String>,
        groups: Vec<String>,
    },
    /// Has clients write to mirrors: to these topics, or to all of the link.
    Promote {
        link: String,
        topics: Option<Vec<String>>,
    },
    DescribeLink {
        link: String,
    },
}

impl Call {
    /// What it is called in a file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Send { .. } => "send",
            Self::Read { .. } => "read",
            Self::Assign { .. } => "assign",
            Self::ListOffsets { .. } => "list-offsets",
            Self::Join(_) => "join",
            Self::Heartbeat(_) => "heartbeat",
            Self::Leave(_) => "leave",
            Self::Commit { .. } => "commit",
            Self::FetchCommitted { .. } => "fetch-committed",
            Self::DescribeGroup { .. } => "describe-group",
            Self::DeleteGroup { .. } => "delete-group",
            Self::DeleteOffsets { .. } => "delete-offsets",
            Self::CreateTopic { .. } => "create-topic",
            Self::DeleteTopic { .. } => "delete-topic",
            Self::CreatePartitions { .. } => "create-partitions",
            Self::DescribeTopic { .. } => "describe-topic",
            Self::DeleteRecords { .. } => "delete-records",
            Self::AlterConfig { .. } => "alter-config",
            Self::DescribeConfig { .. } => "describe-config",
            Self::InitProducer => "init-producer",
            Self::CreateLink { .. } => "create-link",
            Self::Promote { .. } => "promote",
            Self::DescribeLink { .. } => "describe-link",
        }
    }
}

/// What was answered, for calls that worked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Answer {
    Send {
        /// -1 where the broker said that it has the batch already and not where.
        base_offset: i64,
        /// -1 unless the topic says LogAppendTime and the answer told it.
        log_append_time: i64,
        /// -1 where the version has none.
        log_start_offset: i64,
        /// Attempts before the one that was answered.
        #[serde(default)]
        attempts: Vec<Attempt>,
    },
    Read {
        partitions: Vec<Fetched>,
    },
    Assign,
    /// -1 and -1 where there is no such record.
    ListOffsets {
        offset: i64,
        timestamp: i64,
        leader_epoch: i32,
    },
    Join {
        member: String,
        generation: i32,
        leader: bool,
        assigned: Vec<Partition>,
    },
    Heartbeat,
    Leave,
    /// Errors of single partitions; those not named were committed.
    Commit {
        refused: Vec<(Partition, String)>,
    },
    /// -1 where nothing is committed.
    FetchCommitted {
        offsets: Vec<Committed>,
    },
    DescribeGroup {
        /// As the protocol spells it: `Stable`, `Empty`, ...
        state: String,
        members: BTreeMap<String, Vec<Partition>>,
    },
    DeleteGroup,
    DeleteOffsets,
    CreateTopic,
    DeleteTopic,
    CreatePartitions,
    /// 0 where it was said that there is no such topic.
    DescribeTopic {
        partitions: i32,
    },
    DeleteRecords {
        log_start_offset: i64,
    },
    AlterConfig,
    DescribeConfig {
        value: Option<String>,
    },
    InitProducer {
        producer_id: i64,
        producer_epoch: i16,
    },
    CreateLink,
    /// Up to where each partition was copied.
    Promote {
        mirrors: Vec<Mirrored>,
    },
    DescribeLink {
        mirrors: Vec<Mirrored>,
    },
}

/// What a cluster tells of a partition that a link fills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirrored {
    pub of: Partition,
    /// `active`, `failed` or `promoted`.
    pub state: String,
    /// -1 where nobody tells, as is the next.
    pub log_end_offset: i64,
    /// What was seen last as the end of the source.
    pub source_end_offset: i64,
    /// Why nothing is copied any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A record as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Unique in the history; the record carries it.
    pub id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether the value is null.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tombstone: bool,
    /// A checksum of key, value and headers.
    pub digest: u32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub offset: i64,
    /// Absent where the record carries none that can be read: that is corruption.
    pub id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tombstone: bool,
    pub digest: u32,
    pub timestamp: i64,
    /// Of the batch around it, with the sequence of this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

/// Who sent a batch and which it is (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Of the first record.
    pub sequence: i32,
}

/// One partition of a fetch's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fetched {
    pub of: Partition,
    /// The position asked for.
    pub from: i64,
    /// As the protocol spells it. Absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// -1 where unknown, as are the next two.
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// In the order of the answer. Those of a batch that begins before `from` are left out.
    pub records: Vec<Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub of: Partition,
    pub offset: i64,
}

/// What ListOffsets was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListedAt {
    Earliest,
    Latest,
    /// The first record at or after this time.
    Timestamp(i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    pub group: String,
    /// Empty for a new member.
    pub member: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    pub topics: Vec<String>,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
}

/// Whom a request of a group says it is from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Membership {
    pub group: String,
    pub member: String,
    /// -1 for a commit without membership.
    pub generation: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    pub of: Partition,
    pub offset: i64,
    /// The workloads make it unique, so that an answer names the commit it came from.
    pub metadata: String,
}

/// One try of an operation that did not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// An error of the protocol as it spells it, or one of [`super::outcome::LOCAL`].
    pub error: String,
}

/// What a history asks of a partition at its end: see [`super::Note::Ends`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub of: Partition,
    pub log_start_offset: i64,
    pub log_end_offset: i64,
}
