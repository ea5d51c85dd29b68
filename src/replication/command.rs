//! What a shard of partitions is asked to do, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::assignment::{Assignment, EligibleBrokers, IsrOutcome};
use super::follower::{FollowerAppend, FollowerFetch, FollowerPosition, FollowerTruncate, Served};
use super::mirroring::MirrorAppend;
use super::view::PartitionView;
use crate::log::compaction::{Compacted, CompactionJob};
use crate::log::{CleanEnd, Log, LogConfig, SegmentCompaction};
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, Timestamp};
use crate::wire::batch::RecordBatch;

/// Number of a hosted partition, given by whoever hosts it and never reused in a process.
pub type Slot = u64;

/// When an append counts as safe on this broker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WantedDurability {
    /// After `fdatasync`.
    Fsync,
    /// After the write, with a sync after this many records or this much time (Kafka's
    /// `flush.messages` and `flush.ms`).
    Replicated {
        flush_messages: i64,
        flush: Option<Duration>,
    },
}

/// When a producer is told that its batch is safe (`acks`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WantedAcks {
    /// Once it is safe on the leader (`acks=1`).
    Leader,
    /// Once it is safe on every in-sync replica, of which there must be enough (`acks=all`).
    InSync,
}

/// One batch for one partition.
pub struct AppendItem {
    pub slot: Slot,
    pub batch: RecordBatch,
    pub acks: WantedAcks,
    /// The memory the batch counts against, given back once it is written. `None` where the sender
    /// bounds itself.
    pub budget: Option<Arc<OwnedSemaphorePermit>>,
}

/// Where a batch went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    pub base_offset: Offset,
    /// `Timestamp::NONE` unless the topic stamps records on append.
    pub log_append_time: Timestamp,
    pub log_start_offset: Offset,
}

/// Why a batch was not, or perhaps not, stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendRefused {
    pub code: ErrorCode,
    pub reason: String,
}

impl AppendRefused {
    pub(super) fn storage(reason: &str) -> Self {
        Self {
            code: ErrorCode::KafkaStorageError,
            reason: reason.to_owned(),
        }
    }

    pub(super) fn not_here() -> Self {
        let reason = "this broker does not lead the partition any more".to_owned();
        Self {
            code: ErrorCode::NotLeaderOrFollower,
            reason,
        }
    }
}

pub type AppendOutcome = Result<Placed, AppendRefused>;

/// A round of compaction: what to do, and the files to do it on.
pub struct CompactionRound {
    pub job: CompactionJob,
    pub io: SegmentCompaction,
}

/// What is known of a replica besides its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Past {
    /// The high watermark that was checkpointed last.
    pub high_watermark: Option<Offset>,
    /// No earlier process of this broker had this replica.
    pub is_new: bool,
}

/// What a shard is asked to do.
pub enum Command {
    /// Take over a partition with its open log.
    ///
    /// Where an earlier process had it, `assignment` is to be from metadata in which this process
    /// is registered: this replica leads no sooner than in a newer leader epoch, unless it is the
    /// only one, and with older metadata that could be one that the earlier process led in.
    Host {
        slot: Slot,
        log: Box<Log>,
        assignment: Arc<Assignment>,
        durability: WantedDurability,
        past: Past,
        reply: oneshot::Sender<Arc<PartitionView>>,
    },
    /// The controller changed who holds, leads or is in sync with a partition. One that is older
    /// than what is known is ignored; one of the same partition epoch brings a changed
    /// `min_insync_replicas`. Answered once the view says what the assignment says.
    Assign {
        slot: Slot,
        assignment: Arc<Assignment>,
        reply: Option<oneshot::Sender<()>>,
    },
    /// Which brokers may join the in-sync replicas; for every partition of the shard, and for those
    /// hosted later. To be sent before the assignments that came with it.
    Eligible { brokers: EligibleBrokers },
    /// A read found damage in the log while this broker led in `leader_epoch`: another replica in
    /// sync is to lead, if there is one.
    Damaged {
        slot: Slot,
        leader_epoch: LeaderEpoch,
    },
    /// What came of an [`super::IsrProposal`].
    IsrAnswered {
        slot: Slot,
        leader_epoch: LeaderEpoch,
        partition_epoch: i32,
        outcome: IsrOutcome,
    },
    /// A follower fetches. Answers, in the order of `partitions`, what it may be served.
    FollowerFetch {
        follower: BrokerId,
        broker_epoch: BrokerEpoch,
        partitions: Vec<FollowerFetch>,
        reply: oneshot::Sender<Vec<Result<Served, ErrorCode>>>,
    },
    /// Append what was read from leaders. Answers, in the order of `items`, once all are safe here
    /// or refused.
    FollowerAppend {
        items: Vec<FollowerAppend>,
        reply: oneshot::Sender<Vec<Result<FollowerPosition, ErrorCode>>>,
    },
    /// Cut off what differs from the leader's log. Answers, in the order of `items`, where to fetch
    /// next.
    FollowerTruncate {
        items: Vec<FollowerTruncate>,
        reply: oneshot::Sender<Vec<Result<FollowerPosition, ErrorCode>>>,
    },
    /// Where a follower in this leader epoch fetches next.
    FollowerPosition {
        partitions: Vec<(Slot, LeaderEpoch)>,
        reply: oneshot::Sender<Vec<Result<FollowerPosition, ErrorCode>>>,
    },
    /// Append, as the leader, what was copied from another cluster. Answers, in the order of
    /// `items`, once all are safe here or refused.
    MirrorAppend {
        items: Vec<MirrorAppend>,
        reply: oneshot::Sender<Vec<Result<FollowerPosition, ErrorCode>>>,
    },
    /// Where what is copied from another cluster goes next, while this broker leads in this epoch.
    MirrorPosition {
        partitions: Vec<(Slot, LeaderEpoch)>,
        reply: oneshot::Sender<Vec<Result<FollowerPosition, ErrorCode>>>,
    },
    /// Append batches. With a `reply`, one answer for all of them once each is safe or refused,
    /// in the order of `items`; without, nobody is told.
    Append {
        items: Vec<AppendItem>,
        reply: Option<oneshot::Sender<Vec<AppendOutcome>>>,
    },
    /// Raise the log start to `before`, or to the high watermark. Answers the new log start once it
    /// is that on every replica in sync, durably: no replica that is or may be in sync begins
    /// before it.
    DeleteRecords {
        slot: Slot,
        before: Option<Offset>,
        reply: oneshot::Sender<Result<Offset, ErrorCode>>,
    },
    Configure {
        slot: Slot,
        config: Box<LogConfig>,
        durability: WantedDurability,
    },
    /// Roll, expire and remove what is due in every partition.
    Maintain { now: Timestamp },
    PlanCompaction {
        slot: Slot,
        now: Timestamp,
        map_bytes: usize,
        reply: oneshot::Sender<Option<CompactionRound>>,
    },
    InstallCompacted {
        slot: Slot,
        compacted: Box<Compacted>,
        reply: oneshot::Sender<bool>,
    },
    /// Let go of a partition after its writes have ended.
    Close { slot: Slot, closing: Closing },
}

/// How a partition is let go of.
pub struct Closing {
    /// Its files are removed next: nothing of it is made durable for that. Otherwise its log is
    /// closed cleanly.
    pub is_doomed: bool,
    pub reply: oneshot::Sender<Option<CleanEnd>>,
}
