//! What was committed, on its way to the controller; and the images that come back.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::snapshot::KeptSnapshot;
use super::types::{LogId, SnapshotMeta, StoredMembership, offset_after};
use crate::controller::image::ClusterImage;
use crate::controller::local::format as batch_format;
use crate::controller::quorum::Committed;
use crate::controller::record::MetadataRecord;
use crate::types::{BrokerId, Offset};

/// Shared by the state machine, which fills it, and the quorum, which empties it.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Committed>,
    /// What went wrong; nothing is handed out any more.
    failed: Option<String>,
    leader: Option<(Option<BrokerId>, u64)>,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// The newest image that came back.
    image: Option<ClusterImage>,
    /// The entry up to which `image` is the whole state, and the membership at it.
    settled: Option<(LogId, StoredMembership)>,
    /// Entries applied since, in order.
    unsettled: VecDeque<Applied>,
    snapshot: Option<KeptSnapshot>,
    /// Of batches applied since the last snapshot.
    bytes: u64,
    /// Bytes at which the next snapshot is due.
    due: u64,
}

struct Applied {
    log_id: LogId,
    membership: Option<StoredMembership>,
    is_batch: bool,
}

impl State {
    /// Moves on to the newest entry of which `image` is the whole state.
    fn settle(&mut self) {
        let end = self.image.as_ref().map_or(Offset::ZERO, ClusterImage::end);
        while let Some(next) = self.unsettled.front()
            && (!next.is_batch || offset_after(next.log_id.index) <= end)
            && let Some(next) = self.unsettled.pop_front()
        {
            let before = self.settled.take().map(|(_, membership)| membership);
            let membership = next.membership.or(before).unwrap_or_default();
            self.settled = Some((next.log_id, membership));
        }
    }

    /// An entry takes effect. If its leader came after the one that was said to lead, nobody knows
    /// before what follows that this one leads no longer.
    fn advance(&mut self, log_id: LogId) {
        self.applied = Some(log_id);
        let term = log_id.leader_id.term;
        if self.leader.is_some_and(|(_, said)| said < term) {
            self.say_leader(None, term);
        }
    }

    fn say_leader(&mut self, leader: Option<BrokerId>, term: u64) {
        self.leader = Some((leader, term));
        self.queue.push_back(Committed::Leader { leader, term });
    }
}

impl Outbox {
    /// Of a node that has a snapshot, or none.
    pub fn new(snapshot: Option<KeptSnapshot>) -> Self {
        let state = State {
            snapshot,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            ready: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes next; waits for it. May be dropped and called again.
    pub async fn next(&self) -> Result<Committed, String> {
        loop {
            {
                let mut state = self.state();
                if let Some(next) = state.queue.pop_front() {
                    return Ok(next);
                }
                if let Some(reason) = &state.failed {
                    return Err(reason.clone());
                }
            }
            self.ready.notified().await;
        }
    }

    /// Nothing follows what is there.
    pub fn fail(&self, reason: String) {
        let mut state = self.state();
        if state.failed.is_none() {
            state.failed = Some(reason);
        }
        self.ready.notify_one();
    }

    /// The newest entry that was applied.
    pub fn applied(&self) -> Option<LogId> {
        self.state().applied
    }

    pub fn membership(&self) -> StoredMembership {
        self.state().membership.clone()
    }

    /// An entry without records takes effect.
    pub fn apply_empty(&self, log_id: LogId, membership: Option<StoredMembership>) {
        let mut state = self.state();
        state.advance(log_id);
        if let Some(membership) = &membership {
            state.membership = membership.clone();
        }
        state.unsettled.push_back(Applied {
            log_id,
            membership,
            is_batch: false,
        });
        self.ready.notify_one();
    }

    /// A batch, of so many bytes, takes effect.
    pub fn apply_batch(&self, log_id: LogId, records: Vec<MetadataRecord>, bytes: usize) {
        let mut state = self.state();
        state.advance(log_id);
        state.bytes += bytes as u64;
        state.unsettled.push_back(Applied {
            log_id,
            membership: None,
            is_batch: true,
        });
        state.queue.push_back(Committed::Batch {
            end: offset_after(log_id.index),
            records,
        });
        self.ready.notify_one();
    }

    /// A snapshot takes the place of everything before.
    pub fn install(&self, snapshot: KeptSnapshot, records: Vec<MetadataRecord>) {
        let mut state = self.state();
        let end = snapshot.end();
        match snapshot.meta.last_log_id {
            Some(last) => state.advance(last),
            None => state.applied = None,
        }
        state.membership = snapshot.meta.last_membership.clone();
        state.image = None;
        let membership = snapshot.meta.last_membership.clone();
        state.settled = snapshot.meta.last_log_id.map(|id| (id, membership));
        state.unsettled.clear();
        state.snapshot = Some(snapshot);
        state.bytes = 0;
        state.due = 0;
        state.queue.push_back(Committed::Snapshot { end, records });
        self.ready.notify_one();
    }

    /// Says who leads, if that is news: terms only grow.
    pub fn lead(&self, leader: Option<BrokerId>, term: u64) {
        let mut state = self.state();
        let is_old = state.leader.is_some_and(|(_, said)| term < said);
        if !is_old && state.leader != Some((leader, term)) {
            state.say_leader(leader, term);
            self.ready.notify_one();
        }
    }

    /// Takes an image back. Whether a snapshot of it is due: it is only said once.
    pub fn take_image(&self, image: &ClusterImage, snapshot_bytes: u64) -> bool {
        let mut state = self.state();
        let snapshot_end = state.snapshot.as_ref().map(KeptSnapshot::end);
        if Some(image.end()) < snapshot_end {
            // From before a snapshot that is still in the queue.
            return false;
        }
        state.image = Some(image.clone());
        state.settle();
        let is_due = state.bytes >= state.due.max(snapshot_bytes);
        if is_due {
            state.due = state.bytes.saturating_add(snapshot_bytes);
        }
        is_due
    }

    pub fn snapshot(&self) -> Option<KeptSnapshot> {
        self.state().snapshot.clone()
    }

    /// Makes a snapshot of the newest image. `Err` where that has no binary form.
    pub fn make_snapshot(&self) -> Result<KeptSnapshot, String> {
        let mut state = self.state();
        state.settle();
        let settled = state.settled.clone();
        let records = match (&state.image, &state.snapshot) {
            // Nothing but entries without records was settled since.
            (None, Some(snapshot)) => Ok(snapshot.records.clone()),
            (image, _) => {
                let image = image.clone().unwrap_or_default();
                drop(state);
                batch_format::encode_body(&image.to_records())
            }
        };
        let (last, membership) = settled.unzip();
        Ok(KeptSnapshot {
            meta: SnapshotMeta {
                last_log_id: last,
                last_membership: membership.unwrap_or_default(),
            },
            records: records.map_err(|error| error.to_string())?,
        })
    }

    /// A snapshot that was made is durable.
    pub fn made(&self, snapshot: KeptSnapshot) {
        let mut state = self.state();
        let before = state.snapshot.as_ref().map(KeptSnapshot::end);
        if before < Some(snapshot.end()) {
            state.snapshot = Some(snapshot);
            state.bytes = 0;
            state.due = 0;
        }
    }
}
