//! Who leads: decided from what the consensus library knows.

use std::time::Duration;

use openraft::LogIdOptionExt as _;

use super::types::LogId;
use crate::types::BrokerId;

/// What is known at some moment.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub leader: Option<BrokerId>,
    pub term: u64,
    pub applied: Option<LogId>,
    /// The newest entry that this node knows a majority to have.
    pub committed: Option<LogId>,
    /// How long ago a majority last answered this node as leader; `None`: it does not lead, or
    /// they never did.
    pub majority_heard: Option<Duration>,
    pub is_only_voter: bool,
}

/// Decides who leads.
///
/// - This node does once an entry of its own term was applied: then everything of earlier leaders
///   was. And only while a majority answers it: another may be elected by the others meanwhile.
/// - Another node does, the first time, once everything is applied that this node had in its log
///   when it started and what is committed beyond: until then what it knows is of the past.
#[derive(Debug)]
pub(super) struct Leadership {
    me: BrokerId,
    /// How long the answer of a majority counts.
    lease: Duration,
    /// The last entry in the log when this node started.
    last_at_start: Option<LogId>,
    has_caught_up: bool,
}

impl Leadership {
    pub fn new(me: BrokerId, lease: Duration, last_at_start: Option<LogId>) -> Self {
        Self {
            me,
            lease,
            last_at_start,
            has_caught_up: false,
        }
    }

    /// How long the majority's last answer still counts; zero when it does not.
    fn lease_left(&self, view: &View) -> Duration {
        match (view.is_only_voter, view.majority_heard) {
            (true, _) => Duration::MAX,
            (false, None) => Duration::ZERO,
            (false, Some(heard)) => self.lease.saturating_sub(heard),
        }
    }

    /// Who leads.
    pub fn leader(&mut self, view: &View) -> Option<BrokerId> {
        let leader = view.leader?;
        if leader == self.me {
            let applied_term = view.applied.map(|applied| applied.leader_id.term);
            let applied =
                applied_term == Some(view.term) || crate::mutant!("leads-before-own-entry");
            let leads = applied && !self.lease_left(view).is_zero();
            self.has_caught_up |= leads;
            return leads.then_some(leader);
        }
        let knows_commit = view.committed.is_some() && view.committed >= self.last_at_start;
        self.has_caught_up |=
            knows_commit && view.applied.next_index() >= view.committed.next_index();
        self.has_caught_up.then_some(leader)
    }

    /// Whether this node, which leads without a majority, must keep still so that the others can
    /// elect another: for a time, and then again after it has tried for as long.
    pub fn is_mute(&self, view: &View) -> bool {
        let (Some(heard), false) = (view.majority_heard, view.is_only_voter) else {
            return false;
        };
        let lapsed = heard.saturating_sub(self.lease);
        let phase = lapsed.as_nanos() / self.pause().as_nanos().max(1);
        view.leader == Some(self.me) && !lapsed.is_zero() && phase.is_multiple_of(2)
    }

    /// How long it keeps still, and then tries.
    pub fn pause(&self) -> Duration {
        self.lease * 2
    }

    /// When to look again though nothing has changed.
    pub fn look_again(&self, view: &View) -> Option<Duration> {
        if view.leader != Some(self.me) || view.is_only_voter {
            return None;
        }
        let left = self.lease_left(view) + Duration::from_millis(1);
        Some(left.min(self.pause()).max(self.lease / 8))
    }
}
