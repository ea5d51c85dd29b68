//! One partition's records on a disk.
//!
//! A [`Log`] belongs to one task, which appends, removes and closes; any number of [`LogReader`]s
//! read beside it. Batches are stored exactly as they travel on the wire, in segment files of a
//! bounded size.
//!
//! **Promises.**
//! - Everything below [`Log::durable_end`] survives a power loss.
//! - Recovery cuts only what no sync had covered; anything else that is not as it was written is
//!   reported as [`Corruption`] and never cut, skipped or served.
//! - One value per offset: an offset below the log's end is never assigned again, except after the
//!   truncation of what was not durable or not replicated.
//! - A crash at any step of a roll, a removal, a truncation or a compaction leaves the state before
//!   the step or after it.
//!
//! Files of a log (in `<log directory>/<topic>-<partition>/`):
//!
//! | name | content | if missing or damaged |
//! | --- | --- | --- |
//! | `partition.metadata` | the topic's id ([`identity`]) | refused |
//! | `%020d.log` | header page ([`header_page`]), then batches | [`Corruption`] |
//! | `%020d.index` | sparse index of a closed segment ([`index`]) | built again |
//! | `%020d.snapshot` | producer state ([`producer_snapshot`]) | an older one and the log |
//! | `leader-epoch-checkpoint` | [`epoch_cache`] | built again from the log |
//! | `log-start-offset` | where the log begins ([`log_start`]) | refused if damaged |
//! | `cleaner-offset-checkpoint` | where compaction goes on | compaction begins anew |
//! | `recovery-point` | where recovery begins ([`recovery_point`]) | the whole segment is read |
//! | `tail-rewrite` | bytes being written anew ([`tail_rewrite`]) | refused if damaged |

mod append;
pub mod checkpoint;
pub mod compaction;
mod compaction_io;
mod config;
pub mod epoch_cache;
mod error;
mod files;
mod header_page;
mod identity;
mod index;
mod log_start;
mod lookup;
mod owner;
pub mod producer_snapshot;
pub mod producer_state;
mod reader;
mod recovery;
mod recovery_point;
mod replay;
mod restarting;
mod retention;
mod roll;
mod scan;
mod segment;
mod stretch;
mod tail_cache;
mod tail_rewrite;
#[cfg(test)]
pub(crate) mod test_disk;
#[cfg(test)]
mod tests;
mod truncate;

pub use append::{Append, Appended, Ticket};
pub use compaction_io::SegmentCompaction;
pub use config::{CleanupPolicy, LogConfig};
pub use error::{AppendError, Corruption, LogError, ReadError};
pub use identity::LogIdentity;
pub use lookup::FoundRecord;
pub use owner::{CleanEnd, Log, OpenOptions};
pub use producer_state::{ProducerError, ProducerState};
pub use reader::{LogReader, ReadBatches};
pub use recovery::{Cut, Recovery};
pub use recovery_point::{Flushed, Flushing, SavingPoint};
pub use retention::Retained;
pub use stretch::Stretch;
pub use tail_cache::TailCache;
