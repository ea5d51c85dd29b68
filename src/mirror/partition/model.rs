//! A source, in memory, that truncates, expires, compacts, moves its leader and answers from old
//! leaders; and a mirror of it whose leader fails over at any moment.
//!
//! Every batch knows the one that was before it when it was written. So whatever the mirror holds
//! can be checked: between two neighbours nothing was left out but what the source had compacted,
//! and all of it is of one history.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::types::Timestamp;
use crate::wire::batch::{BatchBuilder, Compression};

type Move = (u8, u8, u8);

const LEADERS: i32 = 3;

/// A batch of the source, by its place in [`World::batches`].
type Id = usize;

#[derive(Clone, Debug)]
struct Written {
    base: Offset,
    end: Offset,
    epoch: LeaderEpoch,
    before: Option<Id>,
}

/// A leader of the source, perhaps deposed since.
#[derive(Clone, Debug, Default)]
struct Source {
    log: Vec<Id>,
    /// With what was compacted, and what is before the start.
    history: Vec<Id>,
    epochs: Vec<(LeaderEpoch, Offset)>,
    epoch: i32,
    start: Offset,
    end: Offset,
    high_watermark: Offset,
}

impl Source {
    fn end_of_epoch(&self, asked: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let above = self.epochs.partition_point(|(epoch, _)| *epoch <= asked);
        let next = self.epochs.get(above).map(|entry| entry.1);
        match (above.checked_sub(1), next) {
            (Some(at), None) if self.epochs[at].0 == asked => Some((asked, self.end)),
            (_, None) => None,
            (None, Some(first)) => Some((asked, first)),
            (Some(at), Some(next)) => Some((self.epochs[at].0, next)),
        }
    }

    fn leader(&self) -> (BrokerId, LeaderEpoch) {
        (BrokerId(self.epoch % LEADERS), LeaderEpoch(self.epoch))
    }
}

/// The mirror, as its owner has it.
#[derive(Default)]
struct Copy {
    log: Vec<Id>,
    start: Offset,
    end: Offset,
    high_watermark: Offset,
    lineage: Vec<(LeaderEpoch, Offset)>,
    fault: Option<Fault>,
}

enum UnderWay {
    Effect(Effect),
    Fetch(Asked),
}

struct World {
    batches: Vec<Written>,
    /// The committed batches that compaction took, in any history.
    compacted: BTreeSet<Id>,
    /// Committed batches that went with the log's start.
    expired: BTreeSet<Id>,
    source: Source,
    deposed: Vec<Source>,
    is_gone: bool,
    copy: Copy,
    machine: MirrorPartition,
    under_way: Option<(Turn, UnderWay)>,
    /// A fetch of what follows an append.
    ahead: Option<(Turn, Asked)>,
    now: Instant,
}

fn bytes_of(id: Id, batch: &Written) -> Bytes {
    let mut builder = BatchBuilder::new(batch.base, Compression::None, None);
    builder = builder.leader_epoch(batch.epoch);
    let stamp = Timestamp(i64::try_from(id).expect("few"));
    for _ in batch.base.0..batch.end.0 {
        builder.push(stamp, None, Some(b"x"), &[]);
    }
    builder.build().bytes().clone()
}

fn id_of(batch: &RecordBatch) -> Id {
    usize::try_from(batch.header.base_timestamp.0).expect("an id")
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            batches: Vec::new(),
            compacted: BTreeSet::new(),
            expired: BTreeSet::new(),
            source: Source::default(),
            deposed: Vec::new(),
            is_gone: false,
            copy: Copy::default(),
            machine: MirrorPartition::new(Vec::new(), Turn(0)),
            under_way: None,
            ahead: None,
            now: Instant(0),
        };
        world.elect(Offset::ZERO);
        world
    }

    fn append(&mut self, records: i64) {
        let source = &mut self.source;
        let id = self.batches.len();
        let batch = Written {
            base: source.end,
            end: Offset(source.end.0 + records),
            epoch: LeaderEpoch(source.epoch),
            before: source.history.last().copied(),
        };
        self.source.end = batch.end;
        self.source.log.push(id);
        self.source.history.push(id);
        self.batches.push(batch);
    }

    /// A leader with everything before `end` begins to lead.
    fn elect(&mut self, end: Offset) {
        self.deposed.push(self.source.clone());
        let (batches, source) = (&self.batches, &mut self.source);
        source.log.retain(|id| batches[*id].end <= end);
        source.history.retain(|id| batches[*id].end <= end);
        let last = source.history.last();
        source.end = last.map_or(source.start, |id| batches[*id].end.max(source.start));
        source.high_watermark = source.high_watermark.min(source.end);
        source.epoch += 1;
        let end = source.end;
        source.epochs.retain(|(_, start)| *start < end);
        source.epochs.push((LeaderEpoch(source.epoch), end));
    }

    fn expire(&mut self, amount: usize) {
        let committed = self.committed();
        let Some(id) = committed.get(amount % committed.len().max(1)) else {
            return;
        };
        let end = self.batches[*id].end;
        // Some leave a part of the batch.
        self.source.start = match amount % 3 {
            0 => Offset(end.0 - 1).max(self.source.start),
            _ => end,
        };
        let start = self.source.start;
        let (batches, expired) = (&self.batches, &mut self.expired);
        self.source.log.retain(|id| {
            let stays = batches[*id].end > start;
            if !stays {
                expired.insert(*id);
            }
            stays
        });
        let source = &mut self.source;
        let covering = source.epochs.partition_point(|(_, at)| *at <= start);
        if covering > 0 {
            source.epochs.drain(..covering - 1);
            source.epochs[0].1 = start;
        }
    }

    fn committed(&self) -> Vec<Id> {
        let source = &self.source;
        let is_committed = |id: &&Id| self.batches[**id].end <= source.high_watermark;
        source.log.iter().filter(is_committed).copied().collect()
    }

    /// Takes a committed batch that is not the last.
    fn compact(&mut self, which: usize) {
        let committed = self.committed();
        if committed.len() > 1 {
            let id = committed[which % (committed.len() - 1)];
            self.source.log.retain(|other| *other != id);
            self.compacted.insert(id);
        }
    }

    fn serve(&self, source: &Source, asked: &Asked) -> Answer {
        let refuse = |error| Answer {
            error,
            high_watermark: Offset(-1),
            log_start_offset: Offset(-1),
            diverging: None,
            records: Bytes::new(),
        };
        let mut answer = Answer {
            error: ErrorCode::None,
            high_watermark: source.high_watermark,
            log_start_offset: source.start,
            ..refuse(ErrorCode::None)
        };
        if self.is_gone {
            return refuse(ErrorCode::UnknownTopicId);
        }
        match asked.leader_epoch.0.cmp(&source.epoch) {
            std::cmp::Ordering::Less => return refuse(ErrorCode::FencedLeaderEpoch),
            std::cmp::Ordering::Greater => return refuse(ErrorCode::UnknownLeaderEpoch),
            std::cmp::Ordering::Equal => {}
        }
        let from = asked.fetch_offset;
        if asked.last_fetched_epoch != LeaderEpoch::NONE {
            match source.end_of_epoch(asked.last_fetched_epoch) {
                None => return refuse(ErrorCode::OffsetOutOfRange),
                Some((epoch, end)) if epoch < asked.last_fetched_epoch || end < from => {
                    answer.diverging = Some((epoch, end));
                    return answer;
                }
                Some(_) => {}
            }
        }
        if from < source.start || from > source.end {
            return refuse(ErrorCode::OffsetOutOfRange);
        }
        let mut records = Vec::new();
        let visible = |batch: &Written| batch.end > from && batch.end <= source.high_watermark;
        let served = source.log.iter().filter(|id| visible(&self.batches[**id]));
        for id in served.take(3) {
            records.extend_from_slice(&bytes_of(*id, &self.batches[*id]));
        }
        answer.records = records.into();
        answer
    }

    /// Starts what is due.
    fn start(&mut self) {
        if self.under_way.is_some() {
            if let Some(asked) = self.machine.asks() {
                let turn = self.machine.sent(asked);
                assert!(self.ahead.replace((turn, asked)).is_none());
            }
            return;
        }
        if let Some((turn, effect)) = self.machine.poll(self.now) {
            self.under_way = Some((turn, UnderWay::Effect(effect)));
        } else if let Some(asked) = self.machine.asks() {
            let turn = self.machine.sent(asked);
            self.under_way = Some((turn, UnderWay::Fetch(asked)));
        }
    }

    /// Lets what is under way come to its end, or to none.
    fn finish(&mut self, how: u8) {
        let at = (self.now, u64::from(how));
        let is_lost = how.is_multiple_of(7);
        if let Some((turn, asked)) = self.ahead.filter(|_| how.is_multiple_of(2)) {
            self.ahead = None;
            return self.answer(turn, at, asked, is_lost);
        }
        let Some((turn, what)) = self.under_way.take() else {
            return;
        };
        match what {
            UnderWay::Fetch(asked) => self.answer(turn, at, asked, is_lost),
            UnderWay::Effect(effect) => self.carry_out(turn, at, effect, is_lost),
        }
        // What followed an append is what is under way now.
        if let Some((turn, asked)) = self.ahead.filter(|_| self.under_way.is_none()) {
            self.ahead = None;
            self.under_way = Some((turn, UnderWay::Fetch(asked)));
        }
    }

    fn answer(&mut self, turn: Turn, at: At, asked: Asked, is_lost: bool) {
        match is_lost {
            true => self.machine.interrupted(turn, at, "lost".to_owned()),
            false => {
                let old = self
                    .deposed
                    .iter()
                    .find(|one| one.leader() == (asked.leader, asked.leader_epoch));
                let source = old.unwrap_or(&self.source);
                let answer = self.serve(source, &asked);
                self.machine.fetched(turn, at, &asked, answer);
            }
        }
    }

    fn carry_out(&mut self, turn: Turn, at: At, effect: Effect, is_lost: bool) {
        match effect {
            Effect::Place => {
                // Its log is moved once the metadata says so.
                if let Some((_, first)) = self.copy.lineage.first()
                    && self.copy.end < *first
                    && !is_lost
                {
                    assert!(self.copy.log.is_empty());
                    (self.copy.start, self.copy.end) = (*first, *first);
                    self.copy.high_watermark = *first;
                }
                self.machine.placed(turn, at, Ok(self.position()));
            }
            Effect::Probe { leader_epoch, .. } => {
                let old = self
                    .deposed
                    .iter()
                    .find(|one| one.leader().1 == leader_epoch);
                let source = old.unwrap_or(&self.source);
                let bounds = Bounds {
                    start: source.start,
                    end: source.high_watermark,
                };
                let outcome = match is_lost || self.is_gone {
                    true => Err(ErrorCode::RequestTimedOut),
                    false => Ok(bounds),
                };
                self.machine.bounded(turn, at, outcome);
            }
            Effect::Append {
                fetch_offset,
                batches,
                source_log_start_offset,
            } => {
                assert_eq!(fetch_offset, self.copy.end);
                for batch in &batches {
                    assert!(batch.header.base_offset >= self.copy.end);
                    self.copy.log.push(id_of(batch));
                    self.copy.end = batch.header.end_offset();
                }
                let start = source_log_start_offset.min(self.copy.high_watermark);
                self.copy.start = self.copy.start.max(start);
                let outcome = match is_lost {
                    true => Err(ErrorCode::KafkaStorageError),
                    false => Ok(self.position()),
                };
                self.machine.placed(turn, at, outcome);
            }
            Effect::Enter { epoch, start } => {
                let lineage = &mut self.copy.lineage;
                lineage.retain(|(_, at)| *at < start);
                let last = lineage.last().map(|entry| entry.0);
                assert!(last.is_none_or(|last| last <= epoch), "refused");
                if last != Some(epoch) {
                    lineage.push((epoch, start));
                }
                let outcome = match is_lost {
                    true => Err("no answer".to_owned()),
                    false => Ok(lineage.clone()),
                };
                self.machine.entered(turn, at, outcome);
            }
            Effect::Fail(fault) => {
                self.check_fault(&fault);
                self.copy.fault = Some(fault);
                self.machine.failed(turn, at, Ok(()));
            }
        }
    }

    fn position(&self) -> Position {
        Position {
            log_end_offset: self.copy.end,
            log_start_offset: self.copy.start,
            high_watermark: self.copy.high_watermark,
        }
    }

    /// Another broker leads the mirror, which has what was committed, and perhaps more.
    fn fail_over(&mut self, kept: usize) {
        let (batches, copy) = (&self.batches, &mut self.copy);
        let high_watermark = copy.high_watermark;
        let safe = copy
            .log
            .iter()
            .filter(|id| batches[**id].end <= high_watermark)
            .count();
        let open = copy.log.len() - safe;
        copy.log.truncate(safe + kept % (open + 1));
        copy.end = copy
            .log
            .last()
            .map_or(copy.start, |id| batches[*id].end)
            .max(copy.start);
        self.machine = MirrorPartition::new(copy.lineage.clone(), Turn(0));
        (self.under_way, self.ahead) = (None, None);
        if copy.fault.is_none() {
            self.tell_leader(0);
        }
    }

    fn tell_leader(&mut self, behind: usize) {
        let at = self.deposed.len().checked_sub(behind);
        let source = match at.and_then(|at| self.deposed.get(at)) {
            Some(old) if behind > 0 && old.epoch > 0 => old,
            _ => &self.source,
        };
        self.machine.led_by(Some(source.leader()));
    }

    fn apply(&mut self, (kind, a, b): Move) {
        let a = usize::from(a);
        match kind {
            0..=39 => self.append(i64::from(b % 3) + 1),
            40..=69 => self.source.high_watermark = self.source.end,
            70..=119 if self.copy.fault.is_none() => self.start(),
            120..=179 => self.finish(b),
            180..=194 => self.tell_leader(a % 4),
            195..=204 => {
                let span = self.source.end.0 - self.source.high_watermark.0;
                let kept = i64::from(b) % (span + 1);
                self.elect(Offset(self.source.high_watermark.0 + kept));
            }
            205..=207 => {
                let span = self.source.end.0 - self.source.start.0;
                self.elect(Offset(self.source.start.0 + i64::from(b) % (span + 1)));
            }
            208..=214 => self.expire(a),
            215..=221 => self.compact(a),
            222..=231 => self.fail_over(a),
            232..=241 => self.copy.high_watermark = self.copy.end,
            242 if b < 20 => self.is_gone = true,
            _ => self.now = self.now.plus(Duration::from_millis(u64::from(b) * 40)),
        }
    }

    /// Whether everything that was between `earlier` and `later` may be missing.
    fn follows(&self, earlier: Option<Id>, later: Id) -> bool {
        let mut at = self.batches[later].before;
        while at != earlier {
            let Some(between) = at else {
                return false;
            };
            let is_before_all = earlier.is_none() && self.expired.contains(&between);
            if !self.compacted.contains(&between) && !is_before_all {
                return false;
            }
            at = self.batches[between].before;
        }
        true
    }

    fn check(&self) {
        let mut before = None;
        for id in &self.copy.log {
            assert!(
                self.follows(before, *id),
                "X: {:?} follows {:?} in {:?}",
                self.batches[*id],
                before.map(|id: Id| &self.batches[id]),
                self.copy.log
            );
            before = Some(*id);
        }
    }

    /// A fault is the truth.
    fn check_fault(&self, fault: &Fault) {
        let end = self.copy.end;
        match fault {
            Fault::Truncated { at, source_end } => {
                assert_eq!(*at, end);
                assert!(*source_end < end);
                if let Some(last) = self.copy.log.last() {
                    let is_kept = self.source.history.contains(last);
                    assert!(!is_kept, "{:?} is at the source", self.batches[*last]);
                }
            }
            Fault::Expired { at, source_start } => {
                assert_eq!(*at, end);
                assert!(*source_start > end);
                assert!(self.source.start >= *source_start);
            }
            Fault::Unverified { at } => {
                assert_eq!(*at, end);
                assert!(self.source.start >= end);
            }
            other => panic!("{other:?} of a source that is neither"),
        }
    }

    /// Nothing is lost any more: the copy catches up, or says why not.
    fn heal(&mut self) {
        self.source.high_watermark = self.source.end;
        for _ in 0..2000 {
            if self.copy.fault.is_some() || self.is_gone {
                return;
            }
            self.tell_leader(0);
            self.start();
            self.finish(1);
            self.check();
            let last = self.committed().last().copied();
            let is_caught_up = match last {
                Some(last) => self.copy.log.last() == Some(&last),
                // Compaction and a tail that was lost may leave offsets without a record.
                None => self.copy.end == self.source.end || self.source.start < self.source.end,
            };
            if is_caught_up && self.under_way.is_none() {
                return;
            }
            self.now = self.now.plus(Duration::from_millis(100));
        }
        panic!(
            "not caught up: {:?} of {:?}, copy {:?} lineage {:?} {:?}",
            self.copy.end, self.source, self.copy.log, self.copy.lineage, self.machine
        );
    }
}

fn run(moves: Vec<Move>) {
    let mut world = World::new();
    for next in moves {
        world.apply(next);
        world.check();
    }
    world.heal();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_mirror_is_a_part_of_one_history_of_its_source_or_says_why_not(
        moves in proptest::collection::vec(any::<Move>(), 1..300),
    ) {
        run(moves);
    }
}
