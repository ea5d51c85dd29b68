//! A replica in whose log a read found damage.
//!
//! What is damaged is served to nobody, so that whoever reads there is stuck while this replica
//! leads: it leaves the lead to another one in sync, or to an eligible one that lives, if there is
//! one. It is repaired by beginning
//! anew with what the leader has, where nobody counts on what it holds: it is neither in sync nor
//! eligible, and `min.insync.replicas` others are in sync. Nothing of the log goes before an answer
//! of the leader is there to begin with.
//!
//! That is decided when it begins to follow in an epoch, before its first fetch: had it told the
//! leader of that epoch where its damaged log ends, it might come in sync by that.
//!
//! A log that has to be cut where it is damaged cannot be used at all. It is taken away then, and
//! made anew as at a start of the process, by whoever hosts it: under the same conditions, and
//! where the leader of this epoch cannot count on what it was told of the log. That is so where it
//! was told nothing; where its answer was that the logs part, as a fetch that is answered so does
//! not count; and where its high watermark was beyond what it had been told, as it was not waiting
//! for this replica then, and lets nobody in who has less.

use std::time::Duration;

use super::{Doubt, Effect, Following, Partition, Role, Surroundings, Useless};
use crate::types::{BrokerId, Instant, LeaderEpoch, Offset};

/// It leaves the lead once in this time: were all replicas damaged, it would go round with every
/// read.
const RESIGN_PAUSE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Damage {
    /// Something in the log cannot be read.
    is_known: bool,
    /// The log cannot be cut for it.
    is_in_the_way: bool,
    resigned_at: Option<Instant>,
}

impl<W: Copy> Partition<W> {
    /// A read found damage while this broker led in `leader_epoch`.
    pub fn damaged(
        &mut self,
        leader_epoch: LeaderEpoch,
        around: Surroundings<'_>,
        effects: &mut Vec<Effect<W>>,
    ) {
        let now = around.now;
        let me = self.assignment.me;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if self.assignment.leader_epoch != leader_epoch {
            return;
        }
        self.damage.is_known = true;
        let mut in_sync = self.assignment.isr.iter();
        let mut eligible = self.assignment.elr.iter();
        let lives = |id: &BrokerId| around.eligible.contains_key(id);
        let has_another = in_sync.any(|id| *id != me) || eligible.any(|id| *id != me && lives(id));
        let resigned_at = self.damage.resigned_at;
        let is_soon = resigned_at.is_some_and(|at| now < at.plus(RESIGN_PAUSE));
        if !has_another || is_soon || crate::mutant!("leads-on-with-a-damaged-log") {
            return;
        }
        self.damage.resigned_at = Some(now);
        let waiting = leader.drain().into_iter();
        effects.extend(waiting.map(|waiter| Effect::Refuse(waiter, Doubt::NotLeader)));
        self.barred = Some(leader_epoch);
        self.role = Role::Idle;
        effects.push(Effect::GiveUp(leader_epoch));
    }

    /// The log could not be cut back for damage in it.
    pub fn damage_is_in_the_way(&mut self) {
        self.damage.is_known = true;
        self.damage.is_in_the_way = true;
    }

    /// The log can be used as it is.
    pub(super) fn damage_is_out_of_the_way(&mut self) {
        self.damage.is_in_the_way = false;
    }

    /// The leader epoch in which the log may be taken away and copied anew, if it cannot be used
    /// otherwise and nobody counts on it.
    #[must_use]
    pub fn wants_another_log(&self) -> Option<(LeaderEpoch, Useless)> {
        let Role::Follower(following) = &self.role else {
            return None;
        };
        let epoch = self.assignment.leader_epoch;
        if self.is_foreign() {
            return self
                .may_go_as_foreign()
                .then_some((epoch, Useless::Foreign));
        }
        let is_useless = self.storage_failed
            && self.damage.is_in_the_way
            && !crate::mutant!("unusable-log-stays");
        let is_told_of =
            following.vouched.is_some() && !crate::mutant!("unusable-log-goes-at-once");
        let may_go = !is_told_of && self.may_begin_anew();
        (is_useless && may_go).then_some((epoch, Useless::Damaged))
    }

    /// How it begins to follow in an epoch.
    pub(super) fn begin_following(&self) -> Following {
        Following {
            begins_anew: self.may_begin_anew(),
            ..Following::default()
        }
    }

    /// Whether nobody counts on what this replica holds, and others hold it often enough.
    fn may_begin_anew(&self) -> bool {
        let assignment = &self.assignment;
        let is_led_elsewhere = assignment.leader.is_some() && !assignment.is_leader();
        let is_enough = assignment.isr.len() >= assignment.wanted_in_sync();
        let is_safe = !self.is_counted_on() && is_led_elsewhere && is_enough;
        self.damage.is_known && (is_safe || crate::mutant!("repaired-while-counted-on"))
    }

    /// Where it begins anew, as the log and the assignment are now: to be called before it is said
    /// where this replica fetches, and before an answer is taken in. One that may not any more
    /// follows with the log that it has.
    pub fn prepare_anew(&mut self, log_start_offset: Offset) {
        let may = self.may_begin_anew();
        let Role::Follower(following) = &mut self.role else {
            return;
        };
        if !following.begins_anew {
            return self.look_below(log_start_offset);
        }
        following.begins_anew = may;
        following.restart_at = may.then(|| {
            let known = following.restart_at.unwrap_or(log_start_offset);
            known.max(log_start_offset)
        });
    }

    /// The log was emptied: what was damaged is gone.
    pub(super) fn begun_anew(&mut self) {
        self.damage.is_known = false;
        if let Role::Follower(following) = &mut self.role {
            following.begins_anew = false;
            following.is_unverified = false;
            following.restart_at = None;
        }
    }
}

impl Following {
    /// See [`Partition::restart_for`], of a replica that begins anew at `from`.
    pub(super) fn restart_anew(
        &mut self,
        from: Offset,
        (leader_log_start_offset, leader_high_watermark): (Offset, Offset),
        first: Option<Offset>,
    ) -> Option<Offset> {
        if let Some(first) = first {
            return Some(first.min(from));
        }
        if leader_log_start_offset < from {
            return None;
        }
        if super::following::is_empty(leader_log_start_offset, leader_high_watermark) {
            return Some(leader_log_start_offset);
        }
        self.restart_at = Some(leader_log_start_offset);
        None
    }
}
