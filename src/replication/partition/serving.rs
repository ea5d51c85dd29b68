//! A leader is asked by a follower.

use super::{Effect, Fetcher, Partition, Role, Surroundings};
use crate::replication::follower::{FollowerFetch, Served};
use crate::replication::leader::Seen;
use crate::types::{ErrorCode, LeaderEpoch, Offset};

impl<W: Copy> Partition<W> {
    /// A follower fetches; `oldest` is where the log begins and the oldest epoch known there, and
    /// `epochs` the log's end of an epoch. Nothing of a fetch counts unless it is of this leader's
    /// epoch, and of a log that agrees with this one.
    pub fn fetched(
        &mut self,
        fetcher: Fetcher,
        fetch: &FollowerFetch,
        oldest: Oldest,
        epochs: impl Fn(LeaderEpoch) -> (LeaderEpoch, Offset),
        around: Surroundings<'_>,
        effects: &mut Vec<Effect<W>>,
    ) -> Result<Served, ErrorCode> {
        let log_start_offset = oldest.log_start_offset;
        let wrong_epoch = wrong_epoch(fetch.leader_epoch, self.assignment.leader_epoch);
        let late = crate::mutant!("fetch-epoch-checked-late");
        if let Some(code) = wrong_epoch
            && !late
            && !crate::mutant!("fetch-epoch-not-checked")
        {
            return Err(code);
        }
        let (log_end_offset, high_watermark) = (self.log_end_offset, self.high_watermark);
        let mut served = Served {
            diverging: None,
            log_end_offset: self.log_end_offset,
            high_watermark,
            log_start_offset,
        };
        let Role::Leader(leader) = &mut self.role else {
            return Err(ErrorCode::NotLeaderOrFollower);
        };
        served.log_start_offset = leader.start_to_tell(fetch.fetch_offset, log_start_offset);
        if !self.assignment.replicas.contains(&fetcher.id) || fetcher.id == self.assignment.me {
            // It may know more of the partition than this leader does yet.
            return Err(ErrorCode::UnknownLeaderEpoch);
        }
        served.diverging = diverging(fetch, oldest, epochs)?;
        if served.diverging.is_some() && !crate::mutant!("diverging-fetch-counts") {
            // It may begin anew there, and ask for what follows before it has let go of what it
            // has: what is yet to go here must not count as being there.
            served.log_start_offset = log_start_offset;
            return Ok(served);
        }
        if fetch.fetch_offset < log_start_offset || fetch.fetch_offset > log_end_offset {
            return match served.diverging {
                Some(_) => Ok(served),
                None => Err(ErrorCode::OffsetOutOfRange),
            };
        }
        let current = leader.seen(Seen {
            follower: fetcher.id,
            broker_epoch: fetcher.broker_epoch,
            fetch_offset: fetch.fetch_offset,
            starts_at: fetch.log_start_offset,
            log_start_offset,
            log_end_offset,
            now: around.now,
        });
        if !current {
            return Err(ErrorCode::StaleBrokerEpoch);
        }
        self.advance(effects);
        if !self.assignment.isr.contains(&fetcher.id) {
            self.check_isr(around, effects);
        }
        if let Some(code) = wrong_epoch.filter(|_| late) {
            return Err(code);
        }
        served.high_watermark = self.high_watermark;
        Ok(served)
    }
}

/// How a fetch of another leader epoch is refused (KIP-320).
fn wrong_epoch(asked: LeaderEpoch, mine: LeaderEpoch) -> Option<ErrorCode> {
    match asked.cmp(&mine) {
        std::cmp::Ordering::Less => Some(ErrorCode::FencedLeaderEpoch),
        std::cmp::Ordering::Greater => Some(ErrorCode::UnknownLeaderEpoch),
        std::cmp::Ordering::Equal => None,
    }
}

/// Where a leader's log begins, and the oldest epoch that it knows of.
#[derive(Clone, Copy, Debug)]
pub struct Oldest {
    pub log_start_offset: Offset,
    pub epoch: Option<LeaderEpoch>,
}

/// Where a follower's log parts from this one, if it does (KIP-595).
///
/// A follower whose last batch is older than all that this log knows of, and which has records from
/// before this log's start, may have had them from a leader that nobody else followed. Nobody can
/// tell: it is told that they part where this log begins, even if its own ends there.
fn diverging(
    fetch: &FollowerFetch,
    oldest: Oldest,
    epochs: impl Fn(LeaderEpoch) -> (LeaderEpoch, Offset),
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    let last = fetch.last_fetched_epoch;
    if last == LeaderEpoch::NONE || crate::mutant!("epoch-end-of-whatever-was-asked") {
        return Ok(None);
    }
    let (epoch, end) = epochs(last);
    if epoch == LeaderEpoch::NONE {
        return Err(ErrorCode::UnknownLeaderEpoch);
    }
    let is_older_than_known = oldest.epoch.is_none_or(|oldest| last < oldest);
    let is_unverified = is_older_than_known
        && fetch.log_start_offset < oldest.log_start_offset
        && !crate::mutant!("unverified-kept-below-start");
    let parts = epoch < last || end < fetch.fetch_offset || is_unverified;
    Ok(parts.then_some((epoch, end)))
}
