//! A partition's life on this broker: what is acknowledged, what readers may see, and when.
//!
//! [`Partition`] decides and has no IO; [`shard`] owns partitions together with their logs and
//! carries out what they decide; [`PartitionView`] is what readers see of a partition.

mod partition;
mod replica;
pub mod shard;
mod view;

pub use partition::{Effect, Event, Partition};
pub use shard::{
    AppendItem, AppendOutcome, AppendRefused, Command, CompactionRound, Placed, ShardHandle, Slot,
    WantedDurability,
};
pub use view::{FetchSignal, PartitionView};
