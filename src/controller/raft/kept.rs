//! What a node remembers of the consensus, besides snapshots.

use std::collections::BTreeMap;

use super::types::{Entry, LogId, Vote};

/// The vote and the log. The log is contiguous from the entry after `purged`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub vote: Option<Vote>,
    /// The newest entry known to be committed; may lag behind.
    pub committed: Option<LogId>,
    /// The newest entry that only a snapshot has.
    pub purged: Option<LogId>,
    /// By index.
    pub entries: BTreeMap<u64, Entry>,
}

/// Where a vote and a log stand, for those who listen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Of the vote; 0 for none.
    term: u64,
    /// The index after the newest entry.
    end: u64,
    /// What is below is in a snapshot alone.
    first: u64,
}

impl Standing {
    /// The index after the newest entry.
    pub fn end(self) -> u64 {
        self.end
    }

    /// Tells listeners of `klamm::metadata` that this is `event`: `confirmed` when it was answered
    /// that it is durable, `opened` when it was found, `cutting` before it may be all that is left.
    pub fn tell(self, event: &str, snapshot: Option<u64>) {
        tracing::trace!(
            target: "klamm::metadata", event, vote_term = self.term, log_end = self.end,
            log_first = self.first, snapshot_end = snapshot,
        );
    }
}

impl Kept {
    pub fn standing(&self) -> Standing {
        Standing {
            term: self.vote.map_or(0, |vote| vote.leader_id().term),
            end: self.last().map_or(0, |last| last.index + 1),
            first: self.purged.map_or(0, |purged| purged.index + 1),
        }
    }

    pub fn last(&self) -> Option<LogId> {
        let last = self.entries.last_key_value();
        last.map(|(_, entry)| entry.log_id).or(self.purged)
    }

    pub fn append(&mut self, entry: Entry) -> Result<(), String> {
        let index = entry.log_id.index;
        if let Some(last) = self.last()
            && index != last.index + 1
        {
            return Err(format!(
                "entry {index} does not follow entry {}",
                last.index
            ));
        }
        self.entries.insert(index, entry);
        Ok(())
    }

    /// Forgets the entries from the index `from` on.
    pub fn truncate(&mut self, from: u64) {
        self.entries.split_off(&from);
    }

    /// Forgets the entries up to `upto`, and where the log does not reach that far, all.
    pub fn purge(&mut self, upto: LogId) {
        self.entries = self.entries.split_off(&upto.index.saturating_add(1));
        self.purged = self.purged.max(Some(upto));
    }

    /// `committed` of those entries that are here: the newest entries may have been lost before
    /// they were durable, while the note that they are committed was not.
    pub fn committed_here(&self) -> Option<LogId> {
        let committed = self.committed?;
        let upto = self.entries.range(..=committed.index).next_back();
        upto.map(|(_, entry)| entry.log_id).or(self.purged)
    }
}
