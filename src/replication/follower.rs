//! What passes between a follower and its leader, one partition at a time.

use bytes::Bytes;

use super::command::Slot;
use crate::types::{LeaderEpoch, Offset};

/// A follower's fetch from one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerFetch {
    pub slot: Slot,
    /// The leader epoch in which it follows.
    pub leader_epoch: LeaderEpoch,
    /// Its durable log end.
    pub fetch_offset: Offset,
    /// The epoch of its last batch; [`LeaderEpoch::NONE`] where its log is empty.
    pub last_fetched_epoch: LeaderEpoch,
    pub log_start_offset: Offset,
}

/// What a follower may be told. To be read from the view afterwards, up to `log_end_offset`; once
/// read, the view must still lead in the epoch of the fetch, or the bytes are not to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    /// The largest epoch not above the follower's that is known here, and its end: the follower
    /// must truncate and gets no records.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Exclusive end of what it may read.
    pub log_end_offset: Offset,
    pub high_watermark: Offset,
    /// Where the follower's log is to begin: never beyond where it fetches, unless that is before
    /// the leader's own start.
    pub log_start_offset: Offset,
}

/// What a leader answered to a fetch, to be taken in. `records` may be empty.
#[derive(Clone, Debug)]
pub struct FollowerAppend {
    pub slot: Slot,
    /// The epoch in which it was fetched, and the offset from which.
    pub leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    /// Whole batches as the leader has them; a part of one at the end is left alone.
    pub records: Bytes,
    pub leader_high_watermark: Offset,
    pub leader_log_start_offset: Offset,
}

/// A leader's word on where the logs part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerTruncate {
    pub slot: Slot,
    /// The epoch in which it was fetched, and the position that was told then.
    pub leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    pub last_fetched_epoch: LeaderEpoch,
    /// An epoch and its end in the leader's log.
    pub diverging: (LeaderEpoch, Offset),
    pub leader_log_start_offset: Offset,
}

/// Where a follower stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowerPosition {
    /// Where it fetches next: everything below is safe here.
    pub fetch_offset: Offset,
    pub last_fetched_epoch: LeaderEpoch,
    pub log_start_offset: Offset,
    pub high_watermark: Offset,
}
