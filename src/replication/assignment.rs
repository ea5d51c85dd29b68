//! What the controller says of a partition, and what its leader proposes in return.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::command::Slot;
use super::partition::Useless;
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, TopicId};

/// The brokers that may join in-sync replicas, with the epochs of their registrations: they are
/// registered, not fenced, and not shutting down (KIP-841, KIP-903).
pub type EligibleBrokers = Arc<BTreeMap<BrokerId, BrokerEpoch>>;

/// The state of a partition as the controller committed it, seen by the broker `me`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    pub me: BrokerId,
    pub replicas: Vec<BrokerId>,
    /// In-sync replicas.
    pub isr: Vec<BrokerId>,
    /// Eligible leader replicas: they left the ISR and have everything committed (KIP-966).
    pub elr: Vec<BrokerId>,
    /// Replicas that a reassignment adds and takes away.
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change of this state.
    pub partition_epoch: i32,
    /// The leader was elected uncleanly and has not finished recovering.
    pub recovering: bool,
    /// The topic's `min.insync.replicas`.
    pub min_insync_replicas: usize,
}

impl Assignment {
    /// A partition that `me` holds alone.
    #[must_use]
    pub fn alone(me: BrokerId, leader_epoch: LeaderEpoch) -> Self {
        Self {
            me,
            replicas: vec![me],
            isr: vec![me],
            elr: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            leader: Some(me),
            leader_epoch,
            partition_epoch: 0,
            recovering: false,
            min_insync_replicas: 1,
        }
    }

    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.me)
    }

    /// Whether this broker is the only replica, so that there is nobody to wait for.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.replicas == [self.me]
    }

    /// How many in-sync replicas an `acks=all` append needs: never more than there are replicas.
    #[must_use]
    pub fn wanted_in_sync(&self) -> usize {
        self.min_insync_replicas.min(self.replicas.len()).max(1)
    }
}

/// The in-sync replicas that a leader wants. Answered with [`super::Command::IsrAnswered`], or
/// overtaken by a [`super::Command::Assign`]; there is one under way per partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrProposal {
    pub slot: Slot,
    pub topic_id: TopicId,
    pub partition: i32,
    pub leader_epoch: LeaderEpoch,
    /// Of the state that is to be changed.
    pub partition_epoch: i32,
    /// Each with the epoch of the registration in which it was seen in sync.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    pub recovering: bool,
}

/// What came of a proposal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IsrOutcome {
    /// The partition's state, with the proposed in-sync replicas.
    Accepted(Arc<Assignment>),
    /// `IneligibleReplica` and `InvalidRequest` say that the partition still has the state that
    /// the proposal named, and that it was not carried out. Anything else proves nothing, as the
    /// refused request may be a repetition of one that was.
    Refused(ErrorCode),
    /// No answer came.
    Unknown,
}

/// What a shard tells the rest of the broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplicationEvent {
    Isr(IsrProposal),
    /// A leader that has followers cannot rely on its storage: it does not lead any more in this
    /// epoch and another must be elected, or the same in a new epoch.
    StorageFailed {
        slot: Slot,
        topic_id: TopicId,
        partition: i32,
        leader_epoch: LeaderEpoch,
    },
    /// The log of a follower cannot be used, and its leader in this epoch does not count on it: it
    /// may be taken away, and copied anew. Told again until that is done.
    LogUnusable(UnusableLog),
}

/// See [`ReplicationEvent::LogUnusable`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnusableLog {
    pub slot: Slot,
    pub topic_id: TopicId,
    pub partition: i32,
    pub leader_epoch: LeaderEpoch,
    pub why: Useless,
}

/// What a shard needs for partitions that other brokers hold, too.
#[derive(Clone)]
pub struct ReplicationSettings {
    /// A follower that was not caught up for this long leaves the in-sync replicas
    /// (`replica.lag.time.max.ms`).
    pub lag_time_max: Duration,
    pub events: mpsc::UnboundedSender<ReplicationEvent>,
}
