//! A partition's life on this broker: what is acknowledged, what readers may see, and when.
//!
//! [`Partition`] decides and has no IO; [`shard`] owns partitions together with their logs and
//! carries out what they decide; [`PartitionView`] is what readers see of a partition.

mod assignment;
mod command;
mod follower;
mod following;
mod leader;
mod mirroring;
mod partition;
mod replica;
mod shard;
mod view;

pub use assignment::{
    Assignment, EligibleBrokers, IsrOutcome, IsrProposal, ReplicationEvent, ReplicationSettings,
    UnusableLog,
};
pub use command::{
    AppendItem, AppendOutcome, AppendRefused, Closing, Command, CompactionRound, Past, Placed,
    Slot, WantedAcks, WantedDurability,
};
pub use follower::{FollowerAppend, FollowerFetch, FollowerPosition, FollowerTruncate, Served};
pub use leader::Proposal;
pub use mirroring::MirrorAppend;
pub use partition::{Doubt, Effect, Event, Fetcher, Opened, Partition, Surroundings, Useless};
pub use shard::ShardHandle;
pub use view::{FetchSignal, Leadership, PartitionView};
