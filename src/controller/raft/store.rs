//! The vote and the log of a node, for the consensus library.
//!
//! All of it is in memory; a task of its own writes it to the log file, in the order of the calls,
//! and answers each once it is synced. After a failed write or sync nobody knows what the file
//! holds: nothing is written or answered well any more, and the node must stop.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::{mpsc, oneshot};

use super::codec::entry_bytes;
use super::kept::Kept;
use super::log_file;
use super::types::{Entry, LogId, TypeConfig, Vote};
use super::writer::{Done, Order, Writer};
use crate::env::Env;

/// Entries are handed out for replication in portions of about so many bytes.
const PORTION_BYTES: u64 = 1 << 20;

/// Cloning shares it.
#[derive(Clone)]
pub(super) struct LogStore {
    kept: Arc<Mutex<Kept>>,
    orders: mpsc::UnboundedSender<Order>,
}

impl LogStore {
    /// Starts the task that writes.
    pub fn start(env: &Arc<Env>, kept: Kept, writer: Writer) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        env.spawn(
            "raft-log",
            super::ambient::within(env, writer.run(receiver)),
        )
        .detach();
        Self {
            kept: Arc::new(Mutex::new(kept)),
            orders,
        }
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) -> Result<(), io::Error> {
        let sent = self.orders.send(order);
        sent.map_err(|_| io::Error::other("the metadata log is closed"))
    }

    /// Writes `bodies`, and waits until they are synced.
    async fn write(&self, bodies: Vec<Bytes>, is_synced: bool) -> Result<(), io::Error> {
        let (done, written) = oneshot::channel();
        let standing = self.kept().standing();
        self.order(Order::Write {
            bodies,
            done: Done::Answer(done),
            standing,
            is_synced,
        })?;
        let outcome = written.await;
        outcome.map_err(|_| io::Error::other("the metadata log is closed"))?
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let kept = self.kept();
        let entries = kept.entries.range(range);
        Ok(entries.map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.kept().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let kept = self.kept();
        let (mut portion, mut bytes) = (Vec::new(), 0);
        for (_, entry) in kept.entries.range(start..end) {
            bytes += entry_bytes(entry);
            if bytes > PORTION_BYTES && !portion.is_empty() {
                break;
            }
            portion.push(entry.clone());
        }
        Ok(portion)
    }
}

/// Whether a range holds nothing: a map would panic when asked for it.
fn is_empty(range: &impl RangeBounds<u64>) -> bool {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    match range.end_bound() {
        Bound::Included(end) => start > *end,
        Bound::Excluded(end) => start >= *end,
        Bound::Unbounded => false,
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let kept = self.kept();
        Ok(LogState {
            last_purged_log_id: kept.purged,
            last_log_id: kept.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.kept().vote = Some(*vote);
        let is_synced = !crate::mutant!("vote-not-synced");
        self.write(vec![log_file::vote_body(*vote)], is_synced)
            .await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.kept().committed = committed;
        self.order(Order::Committed(committed))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.kept().committed_here())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut bodies = Vec::new();
        let standing = {
            let mut kept = self.kept();
            for entry in entries {
                bodies.push(log_file::entry_body(&entry));
                kept.append(entry).map_err(io::Error::other)?;
            }
            kept.standing()
        };
        self.order(Order::Write {
            bodies,
            done: Done::Callback(callback),
            standing,
            is_synced: !crate::mutant!("raft-log-not-synced"),
        })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1);
        self.kept().truncate(from);
        tracing::trace!(target: "klamm::probe", name = "raft-log-truncated");
        self.write(vec![log_file::truncate_body(from)], true).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let kept = {
            let mut kept = self.kept();
            kept.purge(upto);
            kept.clone()
        };
        // Not waited for: until the new file is there, the old one has the same and more.
        self.order(Order::Rewrite(Box::new(kept)))
    }
}
