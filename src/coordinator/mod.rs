//! Coordinators: record-driven state machines hosted on partitions of an internal topic.
//!
//! A [`Ledger`] decides; a [`Shard`] holds one ledger on one partition, replays its log and keeps
//! every answer back until the records it rests on are durable and below the high watermark; a
//! [`ShardTask`] owns several shards and moves their bytes.
//!
//! Invariant: recorded state changes only in [`Ledger::replay`], so a coordinator that takes over
//! runs the same code as the one that wrote the records.

mod driver;
mod ledger;
mod shard;

#[cfg(test)]
mod shard_tests;
#[cfg(test)]
pub(crate) mod test_log;

pub use driver::{LoadedBatch, LoadedRecord, ShardLog, ShardTask};
pub use ledger::{KeyValue, Ledger, Moment, Outcome, ReplyTo};
pub use shard::{Effect, Shard};
