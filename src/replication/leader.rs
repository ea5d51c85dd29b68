//! What the leader of a partition knows of its followers, and what it makes of it: how far the
//! partition is committed, and which replicas should be in sync.
//!
//! The high watermark is the smallest durable end over the *maximal* in-sync replicas: those that
//! the controller committed and those proposed to it, as the proposal may be committed already. It
//! stands still while fewer are in sync than `min.insync.replicas` asks (KIP-966). By the same rule
//! the log's start moves: no further than on every one of them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::assignment::{Assignment, EligibleBrokers};
use super::command::WantedAcks;
use crate::types::{BrokerEpoch, BrokerId, Instant, LeaderEpoch, Offset};

/// Pause before another proposal after one was refused, could not be made, or remained unanswered.
pub(super) const PROPOSAL_PAUSE: Duration = Duration::from_millis(250);

/// In-sync replicas to be proposed to the controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    pub recovering: bool,
}

/// A fetch of a follower, as far as its leader's bookkeeping goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub follower: BrokerId,
    pub broker_epoch: BrokerEpoch,
    pub fetch_offset: Offset,
    /// Where its log begins, and the leader's.
    pub starts_at: Offset,
    pub log_start_offset: Offset,
    pub log_end_offset: Offset,
    pub now: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Follower {
    /// The durable end of its log; unknown until it has fetched in this epoch.
    fetch_offset: Option<Offset>,
    /// Where its log begins, durably; known with the end.
    starts_at: Offset,
    /// Nothing in its log is older than the leader's, and thereby compared with nothing.
    has_deleted: bool,
    broker_epoch: BrokerEpoch,
    /// When it had all that the leader had, at the latest.
    caught_up_at: Instant,
    /// Its last fetch, and the leader's log end then.
    last_fetch: Option<(Instant, Offset)>,
}

#[derive(Debug)]
struct Pending {
    proposal: Proposal,
    /// Who may be in sync by what was proposed to this state of the partition.
    named: Vec<BrokerId>,
    /// It was perhaps carried out, or may yet be.
    in_doubt: bool,
    /// In doubt, and refused for good: the committed replicas are proposed instead, as any change
    /// of the partition decides what was proposed before.
    gives_up: bool,
}

#[derive(Debug)]
pub(super) struct Leader<W> {
    pub epoch_start: Offset,
    /// Records before this one are to go, once every replica in sync has let go of them.
    wanted_start: Offset,
    /// Ascending by end: those who wait for the leader's own durability, and for the high
    /// watermark.
    local: VecDeque<(Offset, W)>,
    in_sync: VecDeque<(Offset, W)>,
    followers: BTreeMap<BrokerId, Follower>,
    pending: Option<Pending>,
    retry_at: Option<Instant>,
}

impl<W: Copy> Leader<W> {
    pub fn new(assignment: &Assignment, epoch_start: Offset, now: Instant) -> Self {
        let mut leader = Self {
            epoch_start,
            wanted_start: Offset::ZERO,
            local: VecDeque::new(),
            in_sync: VecDeque::new(),
            followers: BTreeMap::new(),
            pending: None,
            retry_at: None,
        };
        leader.assigned(assignment, now);
        leader
    }

    /// Goes on in a newer epoch: nothing is known of the followers in it. Who waited goes on
    /// waiting, as the log stays.
    pub fn renewed(self, assignment: &Assignment, epoch_start: Offset, now: Instant) -> Self {
        Self {
            wanted_start: self.wanted_start,
            local: self.local,
            in_sync: self.in_sync,
            ..Self::new(assignment, epoch_start, now)
        }
    }

    /// The replicas changed, within this epoch. What was proposed to the state before is decided.
    pub fn assigned(&mut self, assignment: &Assignment, now: Instant) {
        self.pending = None;
        self.retry_at = assignment.recovering.then_some(now);
        let others = |id: &&BrokerId| **id != assignment.me;
        self.followers
            .retain(|id, _| assignment.replicas.contains(id));
        for id in assignment.replicas.iter().filter(others) {
            self.followers.entry(*id).or_insert(Follower {
                fetch_offset: None,
                starts_at: Offset::ZERO,
                has_deleted: false,
                broker_epoch: BrokerEpoch(-1),
                caught_up_at: now,
                last_fetch: None,
            });
        }
    }

    /// Takes note of where a follower is. `false` when the fetch is of an earlier registration of
    /// it, which may have had what this one lost.
    pub fn seen(&mut self, seen: Seen) -> bool {
        let Some(follower) = self.followers.get_mut(&seen.follower) else {
            return false;
        };
        if seen.broker_epoch < follower.broker_epoch && !crate::mutant!("broker-epoch-ignored") {
            return false;
        }
        if seen.fetch_offset >= seen.log_end_offset {
            follower.caught_up_at = seen.now;
        } else if let Some((at, end)) = follower.last_fetch
            && seen.fetch_offset >= end
        {
            follower.caught_up_at = follower.caught_up_at.max(at);
        }
        follower.fetch_offset = Some(seen.fetch_offset);
        follower.starts_at = seen.starts_at;
        follower.has_deleted = seen.starts_at >= seen.log_start_offset;
        follower.broker_epoch = seen.broker_epoch;
        follower.last_fetch = Some((seen.now, seen.log_end_offset));
        true
    }

    /// The durable end of a follower, if it has fetched in this epoch, and the life that told it.
    pub fn counted(&self, follower: BrokerId) -> Option<(Offset, BrokerEpoch)> {
        let known = self.followers.get(&follower)?;
        Some((known.fetch_offset?, known.broker_epoch))
    }

    /// Adds a waiter for everything below `end`.
    pub fn wait(&mut self, end: Offset, waiter: W, acks: WantedAcks) {
        let waiting = match acks {
            WantedAcks::Leader => &mut self.local,
            WantedAcks::InSync if crate::mutant!("acks-all-as-acks-one") => &mut self.local,
            WantedAcks::InSync => &mut self.in_sync,
        };
        let at = waiting.partition_point(|(waited, _)| *waited <= end);
        waiting.insert(at, (end, waiter));
    }

    /// Takes out who waits for no more than these ends.
    pub fn satisfied(
        &mut self,
        durable_end: Offset,
        high_watermark: Offset,
        mut tell: impl FnMut(W),
    ) {
        for (waiting, end) in [
            (&mut self.local, durable_end),
            (&mut self.in_sync, high_watermark),
        ] {
            while let Some((waited, waiter)) = waiting.front().copied()
                && waited <= end
            {
                waiting.pop_front();
                tell(waiter);
            }
        }
    }

    /// Takes out who waits for the in-sync replicas.
    pub fn drain_in_sync(&mut self) -> impl Iterator<Item = W> + '_ {
        self.in_sync.drain(..).map(|(_, waiter)| waiter)
    }

    /// Takes out everyone who waits, in the order of their ends.
    pub fn drain(&mut self) -> Vec<W> {
        let mut all: Vec<(Offset, W)> =
            self.local.drain(..).chain(self.in_sync.drain(..)).collect();
        all.sort_by_key(|(end, _)| *end);
        all.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// Up to where every replica that is or may be in sync has the log, where enough are.
    pub fn committable(&self, assignment: &Assignment, durable_end: Offset) -> Option<Offset> {
        self.least_in_sync(assignment, durable_end, |follower| follower.fetch_offset)
    }

    /// Where the log begins on every replica that is or may be in sync, or later, where enough are;
    /// `own` stands for this one.
    pub fn replicated_start(&self, assignment: &Assignment, own: Offset) -> Option<Offset> {
        if crate::mutant!("deleted-before-followers-have") {
            return Some(own);
        }
        self.least_in_sync(assignment, own, |follower| {
            follower.fetch_offset.map(|_| follower.starts_at)
        })
    }

    /// Records before `start` are to go.
    pub fn want_start(&mut self, start: Offset) {
        self.wanted_start = self.wanted_start.max(start);
    }

    /// What was to go stays.
    pub fn forget_wanted_start(&mut self) {
        self.wanted_start = Offset::ZERO;
    }

    pub fn wanted_start(&self) -> Offset {
        self.wanted_start
    }

    /// Where a follower that fetches from this offset is told that the log begins. One that lacks
    /// what is to go copies it yet: it would take a later start for a gap.
    pub fn start_to_tell(&self, fetch_offset: Offset, log_start_offset: Offset) -> Offset {
        match fetch_offset >= self.wanted_start {
            true => self.wanted_start.max(log_start_offset),
            false => log_start_offset,
        }
    }

    /// The least of `own` and what `of` says of every other replica that is or may be in sync;
    /// `None` where too few are, or one is not known.
    fn least_in_sync(
        &self,
        assignment: &Assignment,
        own: Offset,
        of: impl Fn(&Follower) -> Option<Offset>,
    ) -> Option<Offset> {
        if assignment.isr.len() < assignment.wanted_in_sync()
            && !crate::mutant!("high-watermark-below-min-isr")
        {
            return None;
        }
        let mut proposed = match &self.pending {
            Some(pending) => pending.named.as_slice(),
            None => &[],
        };
        let mut committed = assignment.isr.as_slice();
        if crate::mutant!("proposed-isr-not-waited-for") {
            proposed = &[];
        }
        if crate::mutant!("proposed-shrink-believed") && !proposed.is_empty() {
            committed = &[];
        }
        let mut least = own;
        for id in committed.iter().chain(proposed) {
            if *id != assignment.me {
                least = least.min(of(self.followers.get(id)?)?);
            }
        }
        Some(least)
    }

    /// In-sync followers that were not caught up for `lag_time_max`.
    fn lagging(
        &self,
        assignment: &Assignment,
        log_end_offset: Offset,
        lag_time_max: Duration,
        now: Instant,
    ) -> Vec<BrokerId> {
        let is_late = |id: &&BrokerId| {
            self.deadline(**id, log_end_offset, lag_time_max)
                .is_some_and(|at| at <= now)
        };
        assignment.isr.iter().filter(is_late).copied().collect()
    }

    /// When a follower leaves the in-sync replicas unless it moves.
    fn deadline(
        &self,
        id: BrokerId,
        log_end_offset: Offset,
        lag_time_max: Duration,
    ) -> Option<Instant> {
        let follower = self.followers.get(&id)?;
        let behind = follower.fetch_offset != Some(log_end_offset);
        behind.then(|| follower.caught_up_at.plus(lag_time_max))
    }

    /// Whether a replica that is not in sync may be.
    fn may_join(&self, id: BrokerId, high_watermark: Offset, eligible: &EligibleBrokers) -> bool {
        let Some(follower) = self.followers.get(&id) else {
            return false;
        };
        let from = match crate::mutant!("joins-before-epoch-start") {
            true => high_watermark,
            false => high_watermark.max(self.epoch_start),
        };
        let registered = match eligible.get(&id) {
            None => crate::mutant!("ineligible-joins"),
            Some(epoch) => {
                *epoch == follower.broker_epoch || crate::mutant!("broker-epoch-ignored")
            }
        };
        registered && follower.has_deleted && follower.fetch_offset.is_some_and(|end| end >= from)
    }

    /// The in-sync replicas that should be proposed now, if others than there are.
    pub fn propose(
        &mut self,
        assignment: &Assignment,
        (log_end_offset, high_watermark): (Offset, Offset),
        eligible: &EligibleBrokers,
        lag_time_max: Duration,
        now: Instant,
    ) -> Option<Proposal> {
        let nobody = self.followers.is_empty() && !assignment.recovering;
        if nobody || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        if self.pending.is_some() {
            // Due again only if its outcome is unknown.
            self.retry_at?;
            return self.propose_again(assignment, eligible, now);
        }
        let late = self.lagging(assignment, log_end_offset, lag_time_max, now);
        let members = assignment.isr.iter().copied();
        let mut isr: Vec<BrokerId> = members.filter(|id| !late.contains(id)).collect();
        if late.is_empty() {
            let joining = |id: &BrokerId| {
                // One that would be late at once is not let in, or it would go in and out.
                let deadline = self.deadline(*id, log_end_offset, lag_time_max);
                !assignment.isr.contains(id)
                    && deadline.is_none_or(|at| at > now)
                    && self.may_join(*id, high_watermark, eligible)
            };
            isr.extend(self.followers.keys().copied().filter(joining));
        }
        if isr == assignment.isr && !assignment.recovering {
            self.retry_at = None;
            return None;
        }
        let Some(isr) = self.with_epochs(&isr, eligible) else {
            // A member is being fenced: the controller will say so.
            self.retry_at = Some(now.plus(PROPOSAL_PAUSE));
            return None;
        };
        self.retry_at = None;
        let proposal = Proposal {
            leader_epoch: assignment.leader_epoch,
            partition_epoch: assignment.partition_epoch,
            isr,
            recovering: false,
        };
        self.pending = Some(Pending {
            named: proposal.isr.iter().map(|(id, _)| *id).collect(),
            proposal: proposal.clone(),
            in_doubt: false,
            gives_up: false,
        });
        Some(proposal)
    }

    fn propose_again(
        &mut self,
        assignment: &Assignment,
        eligible: &EligibleBrokers,
        now: Instant,
    ) -> Option<Proposal> {
        let committed = self.with_epochs(&assignment.isr, eligible);
        let pending = self.pending.as_mut()?;
        if pending.gives_up {
            let Some(isr) = committed else {
                self.retry_at = Some(now.plus(PROPOSAL_PAUSE));
                return None;
            };
            pending.proposal.isr = isr;
        }
        self.retry_at = None;
        Some(pending.proposal.clone())
    }

    /// Replicas with the epochs in which they were seen; `None` when one is not registered.
    fn with_epochs(
        &self,
        isr: &[BrokerId],
        eligible: &EligibleBrokers,
    ) -> Option<Vec<(BrokerId, BrokerEpoch)>> {
        let epoch_of = |id: BrokerId| match self.followers.get(&id) {
            Some(_) if crate::mutant!("broker-epoch-ignored") => eligible.get(&id).copied(),
            Some(follower) if follower.fetch_offset.is_some() => Some(follower.broker_epoch),
            Some(_) if crate::mutant!("ineligible-joins") => Some(BrokerEpoch(-1)),
            _ => eligible.get(&id).copied(),
        };
        isr.iter()
            .map(|id| epoch_of(*id).map(|epoch| (*id, epoch)))
            .collect()
    }

    /// Whether the proposal made to this state of the partition is under way.
    pub fn expects_answer_to(&self, leader_epoch: LeaderEpoch, partition_epoch: i32) -> bool {
        self.pending.as_ref().is_some_and(|pending| {
            let proposal = &pending.proposal;
            proposal.leader_epoch == leader_epoch && proposal.partition_epoch == partition_epoch
        })
    }

    /// The proposal was not carried out, as far as `certain`.
    pub fn refused(&mut self, certain: bool, now: Instant) {
        self.retry_at = Some(now.plus(PROPOSAL_PAUSE));
        match &mut self.pending {
            Some(pending) if !certain || pending.in_doubt => {
                pending.in_doubt = true;
                pending.gives_up |= certain;
            }
            _ => self.pending = None,
        }
    }

    /// When [`Self::propose`] should be asked again without anything having happened.
    pub fn next_check(
        &self,
        assignment: &Assignment,
        log_end_offset: Offset,
        lag_time_max: Duration,
    ) -> Option<Instant> {
        if self.followers.is_empty() || self.pending.is_some() || self.retry_at.is_some() {
            return self.retry_at;
        }
        let deadline = |id: &BrokerId| self.deadline(*id, log_end_offset, lag_time_max);
        assignment.isr.iter().filter_map(deadline).min()
    }
}
