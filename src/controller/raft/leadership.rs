//! Who leads, as the controller is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, LogIdOptionExt as _, RaftMetrics};

use super::outbox::Outbox;
use super::types::{LogId, Raft, TypeConfig};
use crate::env::Env;
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
    fn look_again(&self, view: &View) -> Option<Duration> {
        if view.leader != Some(self.me) || view.is_only_voter {
            return None;
        }
        let left = self.lease_left(view) + Duration::from_millis(1);
        Some(left.min(self.pause()).max(self.lease / 8))
    }
}

fn view(metrics: &RaftMetrics<TypeConfig>) -> View {
    let mut voters = metrics.membership_config.voter_ids();
    let is_only_voter = voters.next() == Some(metrics.id) && voters.next().is_none();
    let majority_heard = metrics
        .last_quorum_acked
        .as_ref()
        .map(|acked| acked.elapsed());
    View {
        leader: metrics.current_leader,
        term: metrics.current_term,
        applied: metrics.last_applied,
        committed: metrics.cluster_committed,
        majority_heard: majority_heard.filter(|_| metrics.current_leader == Some(metrics.id)),
        is_only_voter,
    }
}

/// Tells the outbox who leads, until the consensus has stopped. To be run within `env`.
pub(super) async fn watch(
    env: Arc<Env>,
    raft: Raft,
    outbox: Arc<Outbox>,
    mut leadership: Leadership,
    mute: Arc<AtomicBool>,
) {
    let mut metrics = raft.metrics();
    loop {
        let view = {
            let metrics = metrics.borrow_and_update();
            if let Err(fatal) = &metrics.running_state {
                outbox.fail(format!("the quorum stopped: {fatal}"));
                return;
            }
            view(&metrics)
        };
        let leader = leadership.leader(&view);
        outbox.lead(leader, view.term);
        mute.store(leadership.is_mute(&view), Ordering::Relaxed);
        let changed = match leadership.look_again(&view) {
            Some(wait) => env.timeout(wait, metrics.changed()).await.unwrap_or(Ok(())),
            None => metrics.changed().await,
        };
        if changed.is_err() {
            outbox.fail("the quorum stopped".to_owned());
            return;
        }
    }
}
