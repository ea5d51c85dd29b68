//! One mirror partition, where this broker leads it, as a pure machine: where its copy stands, what
//! is to be asked of the source, and what an answer means.
//!
//! There is one thing under way at a time ([`Turn`]): an answer to anything but that is ignored.
//! Only while an append is, what follows it is fetched already, and taken up once that is safe.
//!
//! **Invariant.** A batch is appended only at the end of the log, only in the leader epoch of the
//! source that the committed lineage says for its offset, and only if the source has just said
//! that what is there below is its own. Batches of a new epoch of the source wait until that
//! is in the lineage. So whoever leads this partition later knows which of the source's records it
//! has; and what the source cannot continue becomes a [`Fault`], never a gap and never a mix.

mod answers;

use std::time::Duration;

use bytes::Bytes;

use crate::types::{BrokerId, ErrorCode, Instant, LeaderEpoch, Offset};
use crate::wire::batch::{BatchHeader, RecordBatch};

/// Pauses after failures in a row: the first, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// Damaged answers in a row after which it is the source that is damaged. A source that finds its
/// damage itself has another leader within less.
const DAMAGED_MAX: u32 = 12;

/// Counts what was asked. An outcome is of the turn in which it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Turn(pub u64);

/// Why nothing more can be copied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// What was copied, up to `at`, is not what the source has from `source_end` on.
    Truncated { at: Offset, source_end: Offset },
    /// From `at` up to `source_start` the source has no records any more; they were not copied.
    Expired { at: Offset, source_start: Offset },
    /// The source has nothing left of before `at`, where the copy ends, and another leader than the
    /// one that was known to have what was copied: whether this one had it cannot be told.
    Unverified { at: Offset },
    /// At `at` there is a batch of a transaction.
    Transactional { at: Offset },
    /// At `at` there is nothing that can be a batch of the source.
    Damaged { at: Offset, reason: String },
}

/// Where the copy stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// All below is safe here.
    pub log_end_offset: Offset,
    pub log_start_offset: Offset,
    pub high_watermark: Offset,
}

/// Where the source's log begins, and how far consumers may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub start: Offset,
    pub end: Offset,
}

/// Something to be done, whose outcome is to be told.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Ask the owner of the log: [`MirrorPartition::placed`].
    Place,
    /// Ask the source's leader: [`MirrorPartition::bounded`].
    Probe {
        leader: BrokerId,
        leader_epoch: LeaderEpoch,
    },
    /// Give these to the owner of the log, as fetched from `fetch_offset`:
    /// [`MirrorPartition::placed`].
    Append {
        fetch_offset: Offset,
        batches: Vec<RecordBatch>,
        source_log_start_offset: Offset,
    },
    /// Have this entered into the lineage: [`MirrorPartition::entered`].
    Enter { epoch: LeaderEpoch, start: Offset },
    /// Have this noted for good: [`MirrorPartition::failed`].
    Fail(Fault),
}

/// A fetch from one partition of the source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub fetch_offset: Offset,
    pub last_fetched_epoch: LeaderEpoch,
}

/// What the source's leader answered to a fetch.
#[derive(Clone, Debug)]
pub struct Answer {
    pub error: ErrorCode,
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
    /// The largest epoch not above the one asked for, and its end.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    pub records: Bytes,
}

#[derive(Debug)]
enum Phase {
    Paused {
        until: Instant,
    },
    Due(Effect),
    /// An effect, or a fetch, is under way.
    Awaiting,
    /// The next fetch may ask.
    Ready,
    /// No more is copied.
    Ended,
}

/// What the source was last seen to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceSeen {
    pub log_start_offset: Offset,
    pub high_watermark: Offset,
    pub at: Instant,
}

/// An append that is under way: where it ends, in which of the source's epochs, and its size.
#[derive(Clone, Copy, Debug)]
struct Appending {
    end: Offset,
    epoch: LeaderEpoch,
    bytes: usize,
}

/// A fetch of what follows an append that is under way.
#[derive(Debug)]
struct Ahead {
    turn: Turn,
    asked: Asked,
    answer: Option<Answer>,
}

/// See the module.
#[derive(Debug)]
pub struct MirrorPartition {
    lineage: Vec<(LeaderEpoch, Offset)>,
    position: Option<Position>,
    leader: Option<(BrokerId, LeaderEpoch)>,
    /// Where the source's log begins, where that is beyond the copy's end.
    from: Option<Offset>,
    phase: Phase,
    turn: Turn,
    last_turn: Turn,
    appending: Option<Appending>,
    ahead: Option<Ahead>,
    /// In a row.
    failures: u32,
    damaged: u32,
    wants_refresh: bool,
    seen: Option<SourceSeen>,
    /// The leader of the source, by its epoch, whose log is known to go on from the copy's.
    agreed: Option<LeaderEpoch>,
    /// Where the copy ended when such a leader had no record: then none of its successors has, or
    /// could lose, any from before.
    emptied: Option<Offset>,
    error: Option<String>,
}

/// A moment, and a random number for it.
pub type At = (Instant, u64);

impl MirrorPartition {
    /// A partition that this broker begins to lead, with its committed lineage. Outcomes of turns
    /// up to `before` are not its own.
    #[must_use]
    pub fn new(lineage: Vec<(LeaderEpoch, Offset)>, before: Turn) -> Self {
        Self {
            lineage,
            position: None,
            leader: None,
            from: None,
            phase: Phase::Due(Effect::Place),
            turn: before,
            last_turn: before,
            appending: None,
            ahead: None,
            failures: 0,
            damaged: 0,
            wants_refresh: false,
            seen: None,
            agreed: None,
            emptied: None,
            error: None,
        }
    }

    /// Bytes of records that came and are not in the log yet.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let ahead = self.ahead.as_ref().and_then(|ahead| ahead.answer.as_ref());
        let appending = self.appending.map_or(0, |appending| appending.bytes);
        appending + ahead.map_or(0, |answer| answer.records.len())
    }

    fn next_turn(&mut self) -> Turn {
        self.last_turn.0 += 1;
        self.last_turn
    }

    /// Where the copy stands, as far as is known.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    #[must_use]
    pub fn seen(&self) -> Option<SourceSeen> {
        self.seen
    }

    /// What stands in the way at the moment.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Whether the source's metadata is to be asked for, as its leader may be another; asked once.
    pub fn take_refresh(&mut self) -> bool {
        std::mem::take(&mut self.wants_refresh)
    }

    #[must_use]
    pub fn leader(&self) -> Option<(BrokerId, LeaderEpoch)> {
        self.leader
    }

    /// Who leads at the source. One of an earlier epoch than was known is an old answer.
    pub fn led_by(&mut self, leader: Option<(BrokerId, LeaderEpoch)>) {
        let known = self.leader.map(|(_, epoch)| epoch);
        match leader {
            Some((_, epoch)) if known.is_some_and(|known| epoch < known) => {}
            // One that is named without an epoch is believed: it will refuse if it is not.
            Some(leader) => {
                self.leader = Some(leader);
                if !self.is_believable(leader) {
                    let (said, copied) = (leader.1.0, self.lineage.last());
                    let copied = copied.map_or(-1, |(epoch, _)| epoch.0);
                    self.error = Some(format!(
                        "the source says that its leader epoch is {said}, and records of epoch \
                         {copied} were copied"
                    ));
                }
            }
            // Its epoch stays known.
            None => {}
        }
    }

    /// The next thing to be done, if one is due.
    pub fn poll(&mut self, now: Instant) -> Option<(Turn, Effect)> {
        match std::mem::replace(&mut self.phase, Phase::Awaiting) {
            Phase::Paused { until } if until <= now => {
                self.turn = self.next_turn();
                Some((self.turn, Effect::Place))
            }
            Phase::Due(effect) => {
                self.turn = self.next_turn();
                self.note_append(&effect);
                Some((self.turn, effect))
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    fn note_append(&mut self, effect: &Effect) {
        if let Effect::Append {
            fetch_offset,
            batches,
            ..
        } = effect
        {
            let last = batches.last().map(|batch| &batch.header);
            self.appending = Some(Appending {
                end: last.map_or(*fetch_offset, BatchHeader::end_offset),
                epoch: last.map_or(self.epoch_before(*fetch_offset), |last| last.leader_epoch),
                bytes: batches.iter().map(RecordBatch::total_bytes).sum(),
            });
        }
    }

    /// When [`Self::poll`] has something though nothing happens.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Paused { until } => Some(until),
            _ => None,
        }
    }

    /// What to fetch, if anything may be.
    #[must_use]
    pub fn asks(&self) -> Option<Asked> {
        let end = self.position?.log_end_offset;
        let (fetch_offset, last_fetched_epoch) = match (&self.phase, self.from) {
            // The record before it is not in the copy.
            (Phase::Ready, Some(from)) => (from, LeaderEpoch::NONE),
            (Phase::Ready, None) => (end, self.epoch_before(end)),
            (Phase::Awaiting, None) if self.ahead.is_none() => {
                let appending = self.appending?;
                (appending.end, appending.epoch)
            }
            _ => return None,
        };
        let (leader, leader_epoch) = self.leader.filter(|leader| self.is_believable(*leader))?;
        Some(Asked {
            leader,
            leader_epoch,
            fetch_offset,
            last_fetched_epoch,
        })
    }

    /// This, which it asks, was sent.
    pub fn sent(&mut self, asked: Asked) -> Turn {
        let turn = self.next_turn();
        if matches!(self.phase, Phase::Ready) {
            self.phase = Phase::Awaiting;
            self.turn = turn;
        } else {
            let answer = None;
            self.ahead = Some(Ahead {
                turn,
                asked,
                answer,
            });
        }
        turn
    }

    /// A leader of an earlier epoch than what was copied does not know better.
    fn is_believable(&self, (_, epoch): (BrokerId, LeaderEpoch)) -> bool {
        let last = self.lineage.last().map(|(epoch, _)| *epoch);
        epoch == LeaderEpoch::NONE || last.is_none_or(|last| epoch >= last)
    }

    /// The source's epoch of the record before `offset`.
    fn epoch_before(&self, offset: Offset) -> LeaderEpoch {
        let mut known = self.lineage.iter().rev();
        let found = known.find(|(_, start)| *start < offset);
        found.map_or(LeaderEpoch::NONE, |(epoch, _)| *epoch)
    }

    /// The source's epoch of a record at `offset`, as far as the lineage says, and where it ends.
    fn epoch_at(&self, offset: Offset) -> (Option<LeaderEpoch>, Offset) {
        let after = self.lineage.partition_point(|(_, start)| *start <= offset);
        let epoch = after.checked_sub(1).map(|at| self.lineage[at].0);
        let end = self.lineage.get(after);
        (epoch, end.map_or(Offset(i64::MAX), |(_, start)| *start))
    }

    fn pause(&mut self, (now, random): At, reason: String) {
        self.failures = self.failures.saturating_add(1);
        let doubled = PAUSE_FIRST.saturating_mul(1 << self.failures.min(10).saturating_sub(1));
        let span = doubled.min(PAUSE_LONGEST);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).max(2);
        // Somewhere between a half and all of it.
        let span = Duration::from_nanos(nanos / 2 + random % (nanos / 2));
        self.error = Some(reason);
        let until = now.plus(span);
        self.phase = Phase::Paused { until };
    }

    fn fail(&mut self, fault: Fault) {
        self.phase = Phase::Due(Effect::Fail(fault));
    }

    /// The source, or the way to it, failed whoever asked.
    pub fn interrupted(&mut self, turn: Turn, at: At, reason: String) {
        if self.is_current(turn) {
            self.wants_refresh = true;
            self.pause(at, reason);
        } else if self.ahead.as_ref().is_some_and(|ahead| ahead.turn == turn) {
            self.wants_refresh = true;
            self.ahead = None;
        }
    }

    fn is_current(&self, turn: Turn) -> bool {
        turn == self.turn && matches!(self.phase, Phase::Awaiting)
    }

    /// Where the log stands, or what became of an append.
    pub fn placed(&mut self, turn: Turn, at: At, outcome: Result<Position, ErrorCode>) {
        if !self.is_current(turn) {
            return;
        }
        let (appending, ahead) = (self.appending.take(), self.ahead.take());
        let position = match outcome {
            Ok(position) => position,
            Err(code) => return self.pause(at, format!("the mirror's log refuses: {code}")),
        };
        let end = position.log_end_offset;
        self.position = Some(position);
        match self.lineage.first() {
            Some((_, first)) if end < *first => {
                // Its log is being moved there.
                return self.pause(at, format!("the mirror is to begin at {first}"));
            }
            Some(_) => {}
            None if end > position.log_start_offset => {
                let reason = "the mirror has records that are not the link's".to_owned();
                return self.fail(Fault::Damaged { at: end, reason });
            }
            None if self.from.is_none() => {
                self.probe(at);
                return;
            }
            None => {}
        }
        self.phase = Phase::Ready;
        if let (Some(appending), Some(ahead)) = (appending, ahead)
            && appending.end == end
        {
            self.phase = Phase::Awaiting;
            self.turn = ahead.turn;
            if let Some(answer) = ahead.answer {
                self.take_answer(at, &ahead.asked, answer);
            }
        }
    }

    fn probe(&mut self, at: At) {
        match self.leader.filter(|leader| self.is_believable(*leader)) {
            Some((leader, leader_epoch)) => {
                self.phase = Phase::Due(Effect::Probe {
                    leader,
                    leader_epoch,
                });
            }
            None => {
                self.wants_refresh = true;
                self.pause(at, "the source has no leader for it".to_owned());
            }
        }
    }

    /// Between which offsets the source has records.
    pub fn bounded(&mut self, turn: Turn, at: At, outcome: Result<Bounds, ErrorCode>) {
        if !self.is_current(turn) {
            return;
        }
        let Some(position) = self.position else {
            return;
        };
        let end = position.log_end_offset;
        match outcome {
            Err(code) => {
                self.wants_refresh = true;
                self.pause(at, format!("the source refuses: {code}"));
            }
            Ok(bounds) if self.lineage.is_empty() || bounds.start > end => {
                self.from = Some(bounds.start);
                self.phase = Phase::Ready;
            }
            Ok(bounds) if bounds.end < end && !crate::mutant!("mirror-diverging-ignored") => self
                .fail(Fault::Truncated {
                    at: end,
                    source_end: bounds.end,
                }),
            Ok(_) => self.pause(at, "the source refused an offset that it has".to_owned()),
        }
    }

    /// What became of a new entry of the lineage: the lineage as it is committed now.
    pub fn entered(
        &mut self,
        turn: Turn,
        at: At,
        outcome: Result<Vec<(LeaderEpoch, Offset)>, String>,
    ) {
        if !self.is_current(turn) {
            return;
        }
        match outcome {
            Ok(lineage) => {
                self.lineage = lineage;
                // It may have to be moved there first.
                self.phase = Phase::Due(Effect::Place);
            }
            Err(reason) => self.pause(at, reason),
        }
    }

    /// What became of a fault.
    pub fn failed(&mut self, turn: Turn, at: At, outcome: Result<(), String>) {
        if !self.is_current(turn) {
            return;
        }
        match outcome {
            Ok(()) => self.phase = Phase::Ended,
            Err(reason) => self.pause(at, reason),
        }
    }

    /// The source's answer to `asked`.
    pub fn fetched(&mut self, turn: Turn, at: At, asked: &Asked, answer: Answer) {
        if self.is_current(turn) {
            self.take_answer(at, asked, answer);
        } else if let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.turn == turn) {
            ahead.answer = Some(answer);
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
