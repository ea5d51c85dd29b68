//! What an answer of the source means: what of it fits the end of the copy, and what is wrong if
//! nothing does.

use bytes::Bytes;

use super::{
    Answer, Asked, At, DAMAGED_MAX, Effect, Fault, MirrorPartition, Phase, Position, SourceSeen,
};
use crate::types::{ErrorCode, LeaderEpoch, Offset};
use crate::wire::batch::{BatchError, BatchHeader, RecordBatch};

impl MirrorPartition {
    pub(super) fn take_answer(&mut self, at: At, asked: &Asked, answer: Answer) {
        match answer.error {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => {
                self.from = None;
                return self.probe(at);
            }
            code => {
                self.wants_refresh = true;
                return self.pause(at, format!("the source refuses: {code}"));
            }
        }
        let Some(position) = self.position else {
            return;
        };
        let end = position.log_end_offset;
        self.seen = Some(SourceSeen {
            log_start_offset: answer.log_start_offset,
            high_watermark: answer.high_watermark,
            at: at.0,
        });
        if let Some((_, parts)) = answer.diverging
            && asked.last_fetched_epoch != LeaderEpoch::NONE
            && !crate::mutant!("mirror-diverging-ignored")
        {
            return self.fail(Fault::Truncated {
                at: end,
                source_end: parts.min(end).max(Offset::ZERO),
            });
        }
        let batches = match split(answer.records.clone()) {
            Ok(batches) => batches,
            Err(error) => return self.take_damage(at, asked.fetch_offset, &error),
        };
        if let Some(late) = batches.iter().find(|batch| is_late(&batch.header, asked)) {
            let of = late.header.leader_epoch.0;
            self.wants_refresh = true;
            return self.pause(
                at,
                format!("the source sent a batch of a later epoch, {of}"),
            );
        }
        if !self.agrees(asked, end, &answer, batches.first()) {
            return self.fail(Fault::Unverified { at: end });
        }
        (self.failures, self.damaged, self.error) = (0, 0, None);
        match (self.from, self.lineage.is_empty()) {
            (Some(from), true) => self.begin(at, asked, from, &batches, &answer),
            (Some(from), false) => self.bridge(from, position, batches, &answer),
            (None, _) => self.append(position, batches, &answer),
        }
    }

    /// Whether the log of the source's leader goes on from the copy, or nothing of it was given
    /// yet.
    ///
    /// A leader that still has what was copied last says by itself if it is not the same. One whose
    /// log begins at the copy's end cannot: it may have been elected without those records, taken
    /// others in their place, and deleted them. It is believed if this very leader agreed before;
    /// if what it gives, or leads in, is of an epoch of which the lineage says that it goes on from
    /// the copy, for then all before is the same, too; or if one that agreed had been empty.
    fn agrees(
        &mut self,
        asked: &Asked,
        end: Offset,
        answer: &Answer,
        first: Option<&RecordBatch>,
    ) -> bool {
        let is_copied = self.lineage.first().is_some_and(|(_, start)| *start < end);
        if self.from.is_some() || !is_copied {
            return true;
        }
        let leader_epoch = asked.leader_epoch;
        let has_none_before = answer.log_start_offset >= end;
        let known = [Some(self.epoch_before(end)), self.epoch_at(end).0];
        let given = first.map(|batch| batch.header.leader_epoch.max(LeaderEpoch(0)));
        let is_believed = !has_none_before
            || self.agreed == Some(leader_epoch)
            || self.emptied == Some(end)
            || known.contains(&Some(leader_epoch))
            || given.is_some_and(|given| known.contains(&Some(given)));
        if is_believed {
            self.agreed = Some(leader_epoch);
            let is_empty = has_none_before && answer.high_watermark == end;
            self.emptied = is_empty.then_some(end);
        }
        is_believed || given.is_none()
    }

    fn take_damage(&mut self, at: At, offset: Offset, error: &BatchError) {
        self.damaged += 1;
        let reason = error.to_string();
        if self.damaged >= DAMAGED_MAX {
            return self.fail(Fault::Damaged { at: offset, reason });
        }
        self.wants_refresh = true;
        self.pause(at, format!("the source sent a damaged batch: {reason}"));
    }

    /// Nothing was copied yet, and the source begins at `from`.
    fn begin(
        &mut self,
        at: At,
        asked: &Asked,
        from: Offset,
        batches: &[RecordBatch],
        answer: &Answer,
    ) {
        let (epoch, start) = match batches.first() {
            // The source's log may begin within a batch, which is copied whole.
            Some(batch) => (
                batch.header.leader_epoch,
                batch.header.base_offset.min(from),
            ),
            None if from == Offset::ZERO => {
                self.phase = Phase::Ready;
                return;
            }
            None if answer.high_watermark <= from => (asked.leader_epoch, from),
            None => return self.pause(at, "the source kept its first records back".to_owned()),
        };
        self.from = None;
        self.enter(epoch, start);
    }

    fn enter(&mut self, epoch: LeaderEpoch, start: Offset) {
        let epoch = epoch.max(LeaderEpoch(0));
        self.phase = Phase::Due(Effect::Enter { epoch, start });
    }

    /// The source begins beyond the copy's end. Where it begins within the batch that is next, and
    /// that is of the epoch copied last, nothing is missing.
    fn bridge(
        &mut self,
        from: Offset,
        position: Position,
        batches: Vec<RecordBatch>,
        answer: &Answer,
    ) {
        let end = position.log_end_offset;
        self.from = None;
        let known = self.epoch_at(end).0;
        match batches.first() {
            Some(first)
                if first.header.base_offset == end && Some(first.header.leader_epoch) == known =>
            {
                self.append(position, batches, answer);
            }
            _ => self.fail(Fault::Expired {
                at: end,
                source_start: from,
            }),
        }
    }

    fn append(&mut self, position: Position, batches: Vec<RecordBatch>, answer: &Answer) {
        let fetch_offset = position.log_end_offset;
        let mut end = fetch_offset;
        let mut fitting = Vec::with_capacity(batches.len());
        for batch in batches {
            match self.fit(end, &batch.header) {
                None => {
                    end = batch.header.end_offset();
                    fitting.push(batch);
                }
                // What comes before it is appended first.
                Some(_) if !fitting.is_empty() => break,
                Some(effect) => {
                    self.phase = Phase::Due(effect);
                    return;
                }
            }
        }
        if let Some(epoch) = self.worth_noting(end).filter(|_| fitting.is_empty()) {
            return self.enter(epoch, end);
        }
        let source_log_start_offset = answer.log_start_offset.max(Offset::ZERO);
        let is_start_news = source_log_start_offset > position.log_start_offset;
        self.phase = match fitting.is_empty() && !is_start_news {
            true => Phase::Ready,
            false => Phase::Due(Effect::Append {
                fetch_offset,
                batches: fitting,
                source_log_start_offset,
            }),
        };
    }

    /// The epoch of a leader that agreed and has no record: noted, as whoever leads this partition
    /// next could not find out.
    fn worth_noting(&self, end: Offset) -> Option<LeaderEpoch> {
        let last = self.lineage.last().map(|(epoch, _)| *epoch);
        let agreed = self.agreed.filter(|_| self.emptied == Some(end));
        agreed.filter(|agreed| last.is_some_and(|last| *agreed > last))
    }

    /// Whether a batch can be appended at `end`; what is to be done if not.
    fn fit(&self, end: Offset, header: &BatchHeader) -> Option<Effect> {
        let base = header.base_offset;
        if base < end {
            let reason = format!("a batch begins at {base}, before the copy's end");
            return Some(Effect::Fail(Fault::Damaged { at: end, reason }));
        }
        if header.attributes.is_transactional() || header.attributes.is_control() {
            return Some(Effect::Fail(Fault::Transactional { at: base }));
        }
        let epoch = header.leader_epoch.max(LeaderEpoch(0));
        let (known, known_end) = self.epoch_at(base);
        if known == Some(epoch) && header.end_offset() <= known_end {
            return None;
        }
        if known.is_some() && crate::mutant!("mirror-lineage-not-kept") {
            return None;
        }
        let before = self.epoch_before(end);
        if epoch < before {
            let reason = format!("leader epoch {} follows {}", epoch.0, before.0);
            return Some(Effect::Fail(Fault::Damaged { at: base, reason }));
        }
        // What the lineage says from the end on is of records that are not here.
        Some(Effect::Enter { epoch, start: end })
    }
}

/// Whether a batch is of a later epoch than its leader.
fn is_late(header: &BatchHeader, asked: &Asked) -> bool {
    asked.leader_epoch != LeaderEpoch::NONE && header.leader_epoch > asked.leader_epoch
}

/// The whole batches of an answer, checked; one cut short at the end is left alone.
fn split(mut records: Bytes) -> Result<Vec<RecordBatch>, BatchError> {
    let mut batches = Vec::new();
    while !records.is_empty() {
        match RecordBatch::split_first(&mut records) {
            Ok(batch) => batches.push(batch),
            Err(BatchError::Truncated { .. }) if !batches.is_empty() => break,
            // What is good is taken first.
            Err(_) if !batches.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(batches)
}
