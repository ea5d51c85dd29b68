//! One partition's bytes on a disk.

pub mod checkpoint;
pub mod compaction;
pub mod epoch_cache;
pub mod producer_snapshot;
pub mod producer_state;
#[cfg(test)]
mod test_disk;
