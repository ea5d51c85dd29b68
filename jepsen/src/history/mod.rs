//! What happened in a run, as its clients saw it.
//!
//! A history is a list of [`Event`]s in the order of their times; in a file, one JSON object a
//! line ([`file`]). An operation is an `invoke` and, if its client learnt how it ended, one `ok`,
//! `fail` or `info` with the same `op`:
//!
//! - `ok`: it happened, and this is the answer;
//! - `fail`: it certainly did not happen;
//! - `info`: nobody knows. So is an operation that has no second event.
//!
//! Which errors are which is decided in [`outcome`], once. A process has at most one operation
//! under way unless it pipelines sends, and then the sends were invoked in the order in which they
//! were written to the connection. Times are nanoseconds of one clock that all processes share.

mod call;
mod clusters;
mod event;
pub mod file;
mod note;
mod operation;
pub mod outcome;
mod summary;

use serde::{Deserialize, Serialize};

pub use call::{
    Answer, Attempt, Call, Committed, Fetched, Join, Library, ListedAt, Membership, Mirrored,
    Position, Seen, Stamp, Wanted, Written,
};
pub use clusters::{clusters, of_cluster};
pub use note::{LogState, NodeEvent, Note, Phase};
pub use operation::{Ending, History, Joining, MalformedHistory, Operation};
pub use summary::{Counts, Summary, summary};

/// A partition by the name of its topic. A topic that was deleted and made again has the same
/// name: see [`crate::checker`] for how the checkers tell the two apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    pub topic: String,
    pub partition: i32,
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// Nanoseconds.
    pub time: u64,
    /// The client, the node, or `nemesis`.
    pub process: String,
    /// The cluster that it is of, where there are several: the first has no name. Topics, groups
    /// and processes of different clusters are different, also where they have the same names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(flatten)]
    pub what: What,
}

/// What an event tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum What {
    Invoke {
        /// Unique in the history; later invocations have higher numbers.
        op: u64,
        call: Call,
    },
    Ok {
        op: u64,
        answer: Answer,
    },
    Fail {
        op: u64,
        attempts: Vec<Attempt>,
    },
    Info {
        op: u64,
        attempts: Vec<Attempt>,
    },
    /// Not an operation.
    Note {
        note: Note,
    },
}
