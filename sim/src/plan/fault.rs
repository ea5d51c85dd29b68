//! What can go wrong.

use serde::{Deserialize, Serialize};

/// A fault and its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimedFault {
    /// Milliseconds since the clients started.
    pub at_ms: u64,
    #[serde(flatten)]
    pub fault: Fault,
}

/// The hosts at the ends of links: names, `*` for any. Faults are one-way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub from: String,
    pub to: String,
}

/// A fault. What has a `for_ms` ends by itself after that many milliseconds; `node` is the name of
/// a host, or says whom to look for when the time comes: `controller` for the active controller,
/// `leader TOPIC-PARTITION` for who leads that partition, `all` for every node of the cluster. So
/// may the ends of links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9`; started again after `down_ms`.
    Kill { node: String, down_ms: u64 },
    /// The machine loses power.
    PowerLoss { node: String, down_ms: u64 },
    /// The machine loses power at the `operation`-th change of its disk from now, so inside
    /// whatever is being done then.
    PowerLossAt {
        node: String,
        operation: u64,
        down_ms: u64,
    },
    /// Stopped in order.
    Stop { node: String, down_ms: u64 },
    /// As SIGSTOP: nothing of it runs; the network goes on to take bytes for it.
    Pause { node: String, for_ms: u64 },

    /// What is sent one way is lost until the cut heals; connections time out, no reset is seen.
    Cut {
        #[serde(flatten)]
        link: Target,
        for_ms: u64,
    },
    /// What is sent one way waits.
    Stall {
        #[serde(flatten)]
        link: Target,
        for_ms: u64,
    },
    /// Established connections are reset, with what is under way cut anywhere, also in mid-frame.
    Reset {
        #[serde(flatten)]
        link: Target,
    },
    /// The link is as bad as this for a while.
    Slow {
        #[serde(flatten)]
        link: Target,
        options: LinkOptions,
        for_ms: u64,
    },
    /// New connections are refused; those that exist go on.
    Refuse { node: String, for_ms: u64 },
    /// Links of the node are stalled one by one and released in another order.
    Swizzle { node: String, for_ms: u64 },

    /// Nothing passes between nodes of different sides. A node that is on no side sees all.
    Split {
        sides: Vec<Vec<String>>,
        for_ms: u64,
    },
    /// Nothing passes between the node and the other nodes, one way or both; nor between it and
    /// the clients, if `clients`.
    Isolate {
        node: String,
        inbound: bool,
        outbound: bool,
        clients: bool,
        for_ms: u64,
    },

    /// Every node is stopped in order and started again, one after another: each once the one
    /// before it serves again.
    Rolling { down_ms: u64, pause_ms: u64 },
    /// An operator takes the node out of the quorum's voters and adds it again after `down_ms`.
    /// With `wipe` its disk is empty in between.
    Revote {
        node: String,
        wipe: bool,
        down_ms: u64,
    },
    /// An operator starts a node that waits to be, and adds it to the voters if it is one.
    AddNode { node: String },
    /// The partitions of `topic` move to drawn nodes.
    Reassign { topic: String },
    /// The preferred replicas of `topic` are made leaders.
    Elect { topic: String },
    /// Every partition of `topic` that has a copy on the node, a name, prefers and elects it.
    Lead { topic: String, node: String },

    /// The next `count` syncs of files of this kind fail.
    FailSync {
        node: String,
        kind: FileKind,
        count: u32,
        how: SyncFailure,
    },
    /// The next `count` writes of files of this kind fail with EIO, having written a part.
    FailWrite {
        node: String,
        kind: FileKind,
        count: u32,
    },
    /// The next `count` reads of files of this kind fail with EIO.
    FailRead {
        node: String,
        kind: FileKind,
        count: u32,
    },
    /// No room: writes that make a file longer, and new names, fail with ENOSPC.
    Full { node: String, for_ms: u64 },
    /// Every call of the disk takes up to `latency_max_ms` longer.
    SlowDisk {
        node: String,
        latency_max_ms: u64,
        for_ms: u64,
    },
    /// No call of the disk answers for a while.
    StallDisk { node: String, for_ms: u64 },
    /// `bits` bits of synced bytes of one drawn file of this kind flip.
    Rot {
        node: String,
        kind: FileKind,
        bits: u32,
    },
    /// The next write of a file of this kind goes to another place of a file of the same kind.
    Misdirect { node: String, kind: FileKind },
    /// The next write of a file of this kind is reported as written and synced, and is not.
    LoseWrite { node: String, kind: FileKind },
    /// The disk is empty at the next start.
    LoseDisk { node: String },

    /// The wall clock of the node jumps.
    StepClock { node: String, by_ms: i64 },
    /// The node's clocks run fast by this many parts per million from now on.
    DriftClock { node: String, ppm: i32 },
}

/// Files by what they are for; each by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    Any,
    /// `.log`, also while it is `.cleaned` or `.swap`.
    Segment,
    /// `.index`
    Index,
    /// `.snapshot` of producers.
    Snapshot,
    /// Of the metadata log.
    Metadata,
    /// Everything else: checkpoints, markers.
    Checkpoint,
}

/// What is left of the pages of a failed sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncFailure {
    /// Readers see the new bytes until a restart; the disk has the old ones, and a later sync
    /// succeeds without writing them (ext4, XFS).
    KeepInCache,
    /// Readers see the old bytes again at once (Btrfs).
    Revert,
}

/// How good a link is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkOptions {
    /// Milliseconds one way: at least, and on average above that (exponential).
    pub latency_min_ms: u64,
    pub latency_mean_ms: u64,
    /// Bytes in a second; 0 for no bound.
    pub bandwidth: u64,
    /// Bytes that may be under way before a writer waits.
    pub window: u64,
    /// Percent of reads and writes that move fewer bytes than they could.
    pub split_percent: u8,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            latency_min_ms: 1,
            latency_mean_ms: 2,
            bandwidth: 0,
            window: 256 << 10,
            split_percent: 25,
        }
    }
}
