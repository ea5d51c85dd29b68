//! A replica of a partition, as a pure machine: leader, follower, or neither.
//!
//! It knows how far the log reaches, how much of it is safe here, what the controller said of the
//! partition, and who waits for which offset. As a leader it moves the high watermark by what
//! its followers have (see the `leader` module); as a follower by what its leader says. With this
//! broker as the only replica the high watermark is the local durable end.
//!
//! The invariant: `high_watermark <= durable_end <= log_end_offset`; within a leader epoch the high
//! watermark never goes back; and a waiter is acknowledged exactly when the offset it waits for is
//! below the high watermark (or, for `acks=1`, durable here).
//!
//! **An epoch is led once.** A leader whose log was cut back by a failure may have given followers
//! what it lost; going on, it would put other records in their place under the same epoch, and
//! nobody could see the difference. So it leads again only in a newer epoch; and so does one that
//! starts with a log that an earlier process had, since that may have led, and have lost or cut
//! what it appended. (Whoever hosts a replica does so from metadata in which the present process
//! is registered: epochs that an earlier one led are not newer than that.)

mod damage;
mod deleting;
mod following;
mod foreign;
mod mirroring;
mod serving;

use std::sync::Arc;
use std::time::Duration;

use super::assignment::{Assignment, EligibleBrokers, IsrOutcome};
use super::command::{Past, WantedAcks};
use super::leader::{Leader, Proposal};
use super::view::Leadership;
use crate::types::{BrokerEpoch, BrokerId, ErrorCode, Instant, LeaderEpoch, Offset};
use damage::Damage;
pub use foreign::Useless;
pub use serving::Oldest;

/// What happened to the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<W> {
    /// A batch that ends at `end` was given to the log; `waiter` wants to know when it is safe.
    Appended {
        end: Offset,
        waiter: Option<(W, WantedAcks)>,
    },
    /// A batch that is in the log already was sent again; `waiter` wants to know when it is safe.
    Repeated {
        end: Offset,
        waiter: Option<(W, WantedAcks)>,
    },
    /// A batch of the leader that ends at `end` was given to the log.
    Copied { end: Offset },
    /// The leader's high watermark, and where its log begins or is to begin: told in the epoch in
    /// which this broker follows, after whatever differs from the leader's log was cut off.
    Told {
        high_watermark: Offset,
        log_start_offset: Offset,
    },
    /// Everything below `end` is durable on this broker.
    Durable { end: Offset },
    /// The log was cut back to `end`, where it differed from the leader's; all of it is durable.
    Truncated { end: Offset },
    /// The log was emptied and begins at `start`, where the leader's does; or it had no record, and
    /// the first may not be before `start`.
    Restarted { start: Offset },
    /// A write or sync failed, or another attempt to recover from that: nothing past the durable
    /// end can be relied on.
    StorageFailed,
    /// The log was cut back to its durable end and takes appends again.
    StorageRecovered { end: Offset, now: Instant },
}

/// Why a waiter was not told that its batch is safe. It may be, or become so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    Storage,
    /// Another broker leads now, or nobody.
    NotLeader,
    /// Fewer replicas are in sync than are needed.
    TooFewInSync,
}

/// What the driver must do, in the order given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<W> {
    /// Enter into the log's epochs that this one begins at `start`, before anything is appended or
    /// answered.
    BeginEpoch { epoch: LeaderEpoch, start: Offset },
    /// Let readers see everything below this offset.
    Expose(Offset),
    /// The waiter's batch is safe.
    Acknowledge(W),
    /// The waiter's batch may or may not survive.
    Refuse(W, Doubt),
    /// Propose these in-sync replicas to the controller.
    Propose(Proposal),
    /// Have another leader elected, or this one in a newer epoch.
    GiveUp(LeaderEpoch),
}

/// What a machine is told about its surroundings at a step.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    pub now: Instant,
    pub eligible: &'a EligibleBrokers,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
}

/// Who fetches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetcher {
    pub id: BrokerId,
    pub broker_epoch: BrokerEpoch,
}

#[derive(Debug)]
enum Role<W> {
    /// There is no leader, or this broker is to lead and must not.
    Idle,
    Leader(Leader<W>),
    Follower(Following),
}

#[derive(Clone, Copy, Default, Debug)]
struct Following {
    /// The leader's high watermark, and where its log is to begin, as told in this epoch.
    told: Offset,
    told_start: Offset,
    /// The leader's log begins here, beyond the end of this one, and perhaps within a batch: this
    /// one begins anew with that batch.
    restart_at: Option<Offset>,
    /// This log is damaged, and copied anew.
    begins_anew: bool,
    /// Nothing of this log is known to be the leader's: it begins anew at `restart_at`.
    is_unverified: bool,
    /// See the `foreign` module.
    is_foreign: bool,
    looked_below: bool,
    /// The furthest position that the leader was told in this epoch and may count on.
    vouched: Option<Offset>,
}

/// What a log says of itself when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    pub log_start_offset: Offset,
    /// All of it is durable.
    pub log_end_offset: Offset,
    pub past: Past,
}

/// A replica on this broker.
#[derive(Debug)]
pub struct Partition<W> {
    assignment: Arc<Assignment>,
    log_end_offset: Offset,
    durable_end: Offset,
    high_watermark: Offset,
    role: Role<W>,
    damage: Damage,
    /// It leads in no epoch up to this one.
    barred: Option<LeaderEpoch>,
    storage_failed: bool,
}

impl<W: Copy> Partition<W> {
    /// A replica whose log was just opened.
    #[must_use]
    pub fn new(
        assignment: &Arc<Assignment>,
        opened: Opened,
        now: Instant,
        effects: &mut Vec<Effect<W>>,
    ) -> Self {
        let (start, end) = (opened.log_start_offset, opened.log_end_offset);
        let alone = assignment.is_alone();
        let may_have_led = !alone && !opened.past.is_new;
        let mut partition = Self {
            assignment: assignment.clone(),
            log_end_offset: end,
            durable_end: end,
            high_watermark: match alone {
                true => end,
                false => opened
                    .past
                    .high_watermark
                    .unwrap_or(start)
                    .max(start)
                    .min(end),
            },
            role: Role::Idle,
            damage: Damage::default(),
            barred: may_have_led.then_some(assignment.leader_epoch),
            storage_failed: false,
        };
        if crate::mutant!("epoch-led-again-after-restart") {
            partition.barred = None;
        }
        partition.take_role(now, effects);
        if assignment.is_leader() && matches!(partition.role, Role::Idle) {
            effects.push(Effect::GiveUp(assignment.leader_epoch));
        }
        partition.advance(effects);
        partition
    }

    #[must_use]
    pub fn assignment(&self) -> &Arc<Assignment> {
        &self.assignment
    }

    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    #[must_use]
    pub fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    #[must_use]
    pub fn leadership(&self) -> Leadership {
        let epoch_start = match &self.role {
            Role::Leader(leader) => leader.epoch_start,
            _ => self.high_watermark,
        };
        Leadership {
            leader: self.assignment.leader,
            is_leader: self.is_leader(),
            leader_epoch: self.assignment.leader_epoch,
            epoch_start,
        }
    }

    /// Up to where a follower is counted on by this broker as the leader, and in which life of it.
    #[must_use]
    pub fn counted(&self, follower: BrokerId) -> Option<(Offset, BrokerEpoch)> {
        match &self.role {
            Role::Leader(leader) => leader.counted(follower),
            _ => None,
        }
    }

    /// Whether appends are refused until the storage has recovered.
    #[must_use]
    pub fn is_storage_failed(&self) -> bool {
        self.storage_failed
    }

    /// Whether a batch may be appended, with these acks.
    pub fn may_append(&self, acks: WantedAcks) -> Result<(), ErrorCode> {
        if self.storage_failed {
            return Err(ErrorCode::KafkaStorageError);
        }
        if !self.is_leader() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        match acks {
            WantedAcks::InSync if self.too_few_in_sync() => Err(ErrorCode::NotEnoughReplicas),
            _ => Ok(()),
        }
    }

    fn too_few_in_sync(&self) -> bool {
        self.assignment.isr.len() < self.assignment.wanted_in_sync()
            && !crate::mutant!("high-watermark-below-min-isr")
    }

    pub fn step(&mut self, event: Event<W>, effects: &mut Vec<Effect<W>>) {
        match event {
            Event::Appended { end, waiter } => {
                assert!(
                    end > self.log_end_offset,
                    "an append must move the log end forward"
                );
                self.log_end_offset = end;
                self.wait_for(end, waiter, effects);
            }
            Event::Repeated { waiter, .. } if crate::mutant!("duplicate-acked-before-durable") => {
                effects.extend(waiter.map(|(waiter, _)| Effect::Acknowledge(waiter)));
            }
            Event::Repeated { end, waiter } => self.wait_for(end, waiter, effects),
            Event::Copied { end } => {
                assert!(
                    end > self.log_end_offset,
                    "a copy must move the log end forward"
                );
                self.log_end_offset = end;
            }
            Event::Told {
                high_watermark,
                log_start_offset,
            } => {
                if let Role::Follower(following) = &mut self.role {
                    // What is to be replaced was not compared with the leader's log: nothing of it
                    // is known to be committed that was not before.
                    if following.restart_at.is_none() {
                        following.told = following.told.max(high_watermark);
                    }
                    following.told_start = following.told_start.max(log_start_offset);
                    self.advance(effects);
                }
            }
            Event::Durable { end } => self.on_durable(end, effects),
            Event::Truncated { end } => {
                self.log_end_offset = self.log_end_offset.min(end);
                self.durable_end = self.log_end_offset;
                if self.high_watermark > end {
                    self.high_watermark = end;
                    effects.push(Effect::Expose(end));
                }
            }
            Event::Restarted { start } => {
                self.log_end_offset = start;
                self.durable_end = start;
                self.begun_anew();
                if let Role::Leader(leader) = &mut self.role {
                    leader.epoch_start = start;
                    let epoch = self.assignment.leader_epoch;
                    effects.push(Effect::BeginEpoch { epoch, start });
                }
                if !crate::mutant!("restart-leaves-high-watermark") {
                    self.high_watermark = start;
                    effects.push(Effect::Expose(start));
                }
            }
            Event::StorageFailed => self.on_storage_failed(effects),
            Event::StorageRecovered { end, now } => self.on_storage_recovered(end, now, effects),
        }
    }

    fn wait_for(
        &mut self,
        end: Offset,
        waiter: Option<(W, WantedAcks)>,
        effects: &mut Vec<Effect<W>>,
    ) {
        let (Some((waiter, acks)), Role::Leader(leader)) = (waiter, &mut self.role) else {
            return;
        };
        let safe = match acks {
            WantedAcks::Leader => self.durable_end,
            WantedAcks::InSync => self.high_watermark,
        };
        match end <= safe {
            true => effects.push(Effect::Acknowledge(waiter)),
            false => leader.wait(end, waiter, acks),
        }
    }

    fn on_durable(&mut self, end: Offset, effects: &mut Vec<Effect<W>>) {
        if self.storage_failed || end <= self.durable_end {
            return;
        }
        assert!(
            end <= self.log_end_offset,
            "more is durable than was appended"
        );
        self.durable_end = end;
        self.advance(effects);
    }

    fn on_storage_failed(&mut self, effects: &mut Vec<Effect<W>>) {
        self.storage_failed = true;
        let Role::Leader(leader) = &mut self.role else {
            if self.assignment.is_leader() {
                effects.push(Effect::GiveUp(self.assignment.leader_epoch));
            }
            return;
        };
        let waiting = leader.drain().into_iter();
        effects.extend(waiting.map(|waiter| Effect::Refuse(waiter, Doubt::Storage)));
        if !self.assignment.is_alone() && !crate::mutant!("leads-on-after-storage-failure") {
            let epoch = self.assignment.leader_epoch;
            self.barred = Some(epoch);
            self.role = Role::Idle;
            effects.push(Effect::GiveUp(epoch));
        }
    }

    fn on_storage_recovered(&mut self, end: Offset, now: Instant, effects: &mut Vec<Effect<W>>) {
        assert!(
            end >= self.high_watermark,
            "recovery cut what readers had seen"
        );
        self.storage_failed = false;
        self.damage_is_out_of_the_way();
        self.log_end_offset = end;
        // A batch whose completion was not taken in before the failure may be in it, and when it
        // is sent again nothing more is appended that could expose it.
        self.durable_end = end;
        if let Role::Leader(leader) = &mut self.role {
            // The cut may have taken the entry of an epoch that has no records any more.
            leader.epoch_start = leader.epoch_start.min(end);
            let (epoch, start) = (self.assignment.leader_epoch, leader.epoch_start);
            effects.push(Effect::BeginEpoch { epoch, start });
        }
        self.take_role(now, effects);
        self.advance(effects);
    }

    /// The controller's word on the partition. Older ones than what is known are ignored.
    pub fn assign(
        &mut self,
        assignment: &Arc<Assignment>,
        around: Surroundings<'_>,
        effects: &mut Vec<Effect<W>>,
    ) {
        let known = &self.assignment;
        if assignment.partition_epoch < known.partition_epoch
            || assignment.leader_epoch < known.leader_epoch
        {
            return;
        }
        let new_state = assignment.partition_epoch > known.partition_epoch;
        let new_epoch = assignment.leader_epoch > known.leader_epoch;
        self.assignment = assignment.clone();
        if new_epoch {
            self.take_new_role(around.now, effects);
        } else if let Role::Leader(leader) = &mut self.role
            && new_state
        {
            leader.assigned(assignment, around.now);
        }
        if !crate::mutant!("high-watermark-forgotten-on-isr-change") {
            self.advance(effects);
        }
        if self.too_few_in_sync()
            && let Role::Leader(leader) = &mut self.role
        {
            let waiting = leader.drain_in_sync();
            effects.extend(waiting.map(|waiter| Effect::Refuse(waiter, Doubt::TooFewInSync)));
        }
        self.check_isr(around, effects);
    }

    /// The partition is let go of: nobody who waits will be told more.
    pub fn resign(&mut self, effects: &mut Vec<Effect<W>>) {
        if let Role::Leader(leader) = &mut self.role {
            let waiting = leader.drain().into_iter();
            effects.extend(waiting.map(|waiter| Effect::Refuse(waiter, Doubt::NotLeader)));
        }
        self.role = Role::Idle;
    }

    fn take_new_role(&mut self, now: Instant, effects: &mut Vec<Effect<W>>) {
        let role = std::mem::replace(&mut self.role, Role::Idle);
        let leads_on = self.assignment.is_leader() && !self.storage_failed;
        match role {
            Role::Leader(leader) if leads_on => {
                let (epoch, start) = (self.assignment.leader_epoch, self.log_end_offset);
                self.role = Role::Leader(leader.renewed(&self.assignment, start, now));
                effects.push(Effect::BeginEpoch { epoch, start });
            }
            Role::Leader(mut leader) => {
                let waiting = leader.drain().into_iter();
                effects.extend(waiting.map(|waiter| Effect::Refuse(waiter, Doubt::NotLeader)));
                self.take_role(now, effects);
            }
            _ => self.take_role(now, effects),
        }
    }

    /// Takes the role that the assignment gives, unless it has one.
    fn take_role(&mut self, now: Instant, effects: &mut Vec<Effect<W>>) {
        if !matches!(self.role, Role::Idle) {
            return;
        }
        let epoch = self.assignment.leader_epoch;
        let barred = self.barred.is_some_and(|barred| epoch <= barred);
        if self.assignment.is_leader() {
            if !barred && !self.storage_failed {
                let start = self.log_end_offset;
                self.role = Role::Leader(Leader::new(&self.assignment, start, now));
                effects.push(Effect::BeginEpoch { epoch, start });
            }
        } else if self.assignment.leader.is_some() {
            self.role = Role::Follower(self.begin_following());
        }
    }

    /// What came of a proposal. One that was overtaken is ignored.
    pub fn answered(
        &mut self,
        (leader_epoch, partition_epoch): (LeaderEpoch, i32),
        outcome: &IsrOutcome,
        around: Surroundings<'_>,
        effects: &mut Vec<Effect<W>>,
    ) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if !leader.expects_answer_to(leader_epoch, partition_epoch)
            && !crate::mutant!("stale-isr-answer-believed")
        {
            return;
        }
        match outcome {
            IsrOutcome::Accepted(assignment) => {
                self.assign(assignment, around, effects);
                return;
            }
            // Said of the very state that it was proposed to, which it did not change therefore.
            IsrOutcome::Refused(ErrorCode::IneligibleReplica | ErrorCode::InvalidRequest) => {
                leader.refused(true, around.now);
            }
            // Somebody else changed the partition since, or an earlier copy of the same proposal
            // did: what it is now comes as an assignment.
            IsrOutcome::Refused(_) | IsrOutcome::Unknown => {
                leader.refused(crate::mutant!("stale-isr-answer-believed"), around.now);
            }
        }
        self.advance(effects);
        self.check_isr(around, effects);
    }

    /// Proposes other in-sync replicas where there should be others. To be called at
    /// [`Self::next_check`].
    pub fn check_isr(&mut self, around: Surroundings<'_>, effects: &mut Vec<Effect<W>>) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let proposal = leader.propose(
            &self.assignment,
            (self.log_end_offset, self.high_watermark),
            around.eligible,
            around.lag_time_max,
            around.now,
        );
        if let Some(proposal) = proposal {
            effects.push(Effect::Propose(proposal));
            if crate::mutant!("proposed-shrink-believed") {
                self.advance(effects);
            }
        }
    }

    /// When [`Self::check_isr`] is due though nothing happens; never for a replica that is alone.
    #[must_use]
    pub fn next_check(&self, lag_time_max: Duration) -> Option<Instant> {
        match &self.role {
            Role::Leader(leader) => {
                leader.next_check(&self.assignment, self.log_end_offset, lag_time_max)
            }
            _ => None,
        }
    }

    /// Moves the high watermark as far as it may go, and tells who waited for that.
    fn advance(&mut self, effects: &mut Vec<Effect<W>>) {
        if self.storage_failed {
            return;
        }
        let counted = match crate::mutant!("leader-counts-unsynced") {
            true => self.log_end_offset,
            false => self.durable_end,
        };
        let reached = match &self.role {
            Role::Idle => None,
            Role::Leader(leader) => leader.committable(&self.assignment, counted),
            Role::Follower(following) => Some(following.told.min(self.durable_end)),
        };
        if let Some(reached) = reached
            && (reached > self.high_watermark
                || crate::mutant!("high-watermark-assigned-back") && reached != self.high_watermark)
        {
            self.high_watermark = reached;
            effects.push(Effect::Expose(reached));
        }
        if let Role::Leader(leader) = &mut self.role {
            let acknowledge = |waiter| effects.push(Effect::Acknowledge(waiter));
            leader.satisfied(self.durable_end, self.high_watermark, acknowledge);
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
