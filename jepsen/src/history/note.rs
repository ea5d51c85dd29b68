//! What a history says beside its operations.

use serde::{Deserialize, Serialize};

use super::{Partition, Wanted};

/// Something that happened and is no operation of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "kebab-case")]
pub enum Note {
    /// The part of the run that begins.
    Phase { phase: Phase },
    /// Of the node that is the event's process.
    Node { event: NodeEvent },
    /// What the wall clock of the node that is the event's process shows, in milliseconds. Emitted
    /// when the node starts, and whenever its clock was stepped or its rate changed; between two of
    /// them it runs at a rate that is off by a twentieth at most.
    Clock { wall_ms: i64 },
    /// What the nemesis did, for people.
    Fault { kind: String, detail: String },
    /// Synced bytes of this partition were damaged on purpose: of what it held the broker may
    /// refuse records, with an error, and must still serve no wrong ones.
    Damaged { of: Partition },
    /// A partition's log as its node sees it (white box). Emitted when any part of it changes.
    Log { of: Partition, state: LogState },
    /// The node leads the partition from now on, in this leader epoch, with a log that begins at
    /// `start` (white box, of clusters).
    Leading {
        of: Partition,
        leader_epoch: i32,
        start: i64,
    },
    /// The node has let go of its copy of the partition: it serves nothing of it any more (white
    /// box, of clusters).
    Closed { of: Partition },
    /// What the final reads found as the ends of a partition: they read all between.
    Ends { ends: Wanted },
    /// A client that took part in a group is gone without having left.
    Gone,
    /// A rule that the run itself saw broken, and in which partition, where that is one's.
    Broken {
        property: String,
        detail: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<Partition>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Faults happen.
    Safety,
    /// What the promises need has been healed; progress is required.
    Liveness,
    /// Everything is read.
    Final,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeEvent {
    Start,
    /// It serves clients.
    Ready,
    /// It ended in order.
    Stop,
    Kill,
    PowerLoss,
    Pause,
    Resume,
    /// It refused to start or gave up, and why.
    Failed(String),
}

/// Offsets of a log. `start <= high_watermark <= end` and `recovery_point <= end` (R10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    pub start: i64,
    pub high_watermark: i64,
    pub end: i64,
    /// Up to where the log is durable.
    pub recovery_point: i64,
    pub leader_epoch: i32,
}
