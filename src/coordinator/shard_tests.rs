//! A shard over a ledger that adds numbers.

use bytes::Bytes;

use super::*;
use crate::types::{ErrorCode, Instant, Offset, Timestamp};

/// A sum. `Add` records; `Read` answers the sum; `Wait` is answered by the next `Add`, or by time.
#[derive(Debug, Default)]
struct Sum(i64);

#[derive(Clone, Copy, Debug)]
enum Ask {
    Add(i64),
    Read,
    Wait,
    Many(usize),
}

#[derive(Debug, Default)]
struct Waiting {
    waiting: Vec<ReplyTo>,
    until: Option<Instant>,
    loads: usize,
}

impl Ledger for Sum {
    type Request = Ask;
    type Reply = i64;
    type Record = i64;
    type Soft = Waiting;

    fn blank(&self) -> Self {
        Self(0)
    }

    fn encode(record: &i64, timestamp: Timestamp) -> KeyValue {
        KeyValue {
            timestamp,
            key: Bytes::from_static(b"k"),
            value: Some(Bytes::copy_from_slice(&record.to_be_bytes())),
        }
    }

    fn decode(_: Option<Bytes>, value: Option<Bytes>) -> Option<i64> {
        let bytes = value?.as_ref().try_into().ok()?;
        Some(i64::from_be_bytes(bytes))
    }

    fn handle(
        &self,
        soft: &mut Waiting,
        at: Moment,
        from: ReplyTo,
        request: Ask,
    ) -> Outcome<i64, i64> {
        let mut out = Outcome::default();
        match request {
            Ask::Add(more) => {
                out.record(more);
                out.reply(from, self.0 + more);
                for to in soft.waiting.drain(..) {
                    out.reply(to, self.0 + more);
                }
            }
            Ask::Many(count) => {
                out.records = vec![1; count];
                out.reply(from, 0);
            }
            Ask::Read => out.reply(from, self.0),
            Ask::Wait => {
                soft.waiting.push(from);
                soft.until = Some(Instant(at.now.0 + 10));
            }
        }
        out
    }

    fn replay(&mut self, _: &mut Waiting, _: Offset, _: Timestamp, record: i64) {
        self.0 += record;
    }

    fn loaded(&self, soft: &mut Waiting, _: Moment) {
        soft.loads += 1;
    }

    fn deadline(&self, soft: &Waiting) -> Option<Instant> {
        soft.until
    }

    fn tick(&self, soft: &mut Waiting, _: Moment) -> Outcome<i64, i64> {
        let mut out = Outcome::default();
        soft.until = None;
        for to in soft.waiting.drain(..) {
            out.reply(to, -1);
        }
        out
    }
}

type Effects = Vec<Effect<i64>>;

fn at(now: u64) -> Moment {
    Moment {
        now: Instant(now),
        wall: Timestamp(now.cast_signed()),
    }
}

fn batch(values: &[i64], from: i64, end: bool) -> LoadedBatch {
    let record = |(number, value): (i64, &i64)| LoadedRecord {
        offset: Offset(from + number),
        timestamp: Timestamp(0),
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::copy_from_slice(&value.to_be_bytes())),
    };
    LoadedBatch {
        records: (0..).zip(values).map(record).collect(),
        next: Offset(from + i64::try_from(values.len()).expect("a few")),
        end,
    }
}

fn leading(values: &[i64]) -> Shard<Sum> {
    let mut effects = Effects::new();
    let mut shard = Shard::load(Sum(0), &mut effects);
    shard.read(at(0), Ok(batch(values, 0, true)), &mut effects);
    assert!(shard.is_leading());
    shard
}

fn ask(shard: &mut Shard<Sum>, to: u64, request: Ask) -> Effects {
    let mut effects = Effects::new();
    shard.request(at(0), ReplyTo(to), request, &mut effects);
    effects
}

fn appended(shard: &mut Shard<Sum>, result: Result<i64, ErrorCode>) -> Effects {
    let mut effects = Effects::new();
    shard.appended(result.map(Offset), &mut effects);
    effects
}

fn reply(to: u64, answer: i64) -> Effect<i64> {
    Effect::Reply(ReplyTo(to), Ok(answer))
}

fn refusal(to: u64, error: ErrorCode) -> Effect<i64> {
    Effect::Reply(ReplyTo(to), Err(error))
}

#[test]
fn a_shard_serves_once_its_log_is_replayed() {
    let mut effects = Effects::new();
    let mut shard = Shard::load(Sum(0), &mut effects);
    assert_eq!(effects, [Effect::Read(Offset(0))]);
    let early = ask(&mut shard, 1, Ask::Read);
    assert_eq!(early, [refusal(1, ErrorCode::CoordinatorLoadInProgress)]);
    effects.clear();
    shard.read(at(0), Ok(batch(&[1, 2], 0, false)), &mut effects);
    assert_eq!(effects, [Effect::Read(Offset(2))]);
    effects.clear();
    shard.read(at(0), Ok(batch(&[4], 2, true)), &mut effects);
    assert!(effects.is_empty());
    assert_eq!(ask(&mut shard, 2, Ask::Read), [reply(2, 7)]);
    assert_eq!(shard.soft().loads, 1);
}

#[test]
fn a_failed_read_is_tried_again_later() {
    let mut effects = Effects::new();
    let mut shard = Shard::load(Sum(0), &mut effects);
    effects.clear();
    shard.read(at(0), Err(ErrorCode::KafkaStorageError), &mut effects);
    assert!(effects.is_empty());
    let due = shard.deadline().expect("it tries again");
    shard.tick(at(due.0 - 1), &mut effects);
    assert!(effects.is_empty());
    shard.tick(at(due.0), &mut effects);
    assert_eq!(effects, [Effect::Read(Offset(0))]);
    assert_eq!(shard.deadline(), None);
    // A read that brings nothing and is not the end would spin.
    shard.read(at(due.0), Ok(batch(&[], 0, false)), &mut effects);
    assert!(shard.deadline().is_some());
}

#[test]
fn answers_wait_for_their_records_and_reads_for_what_they_saw() {
    let mut shard = leading(&[10]);
    let effects = ask(&mut shard, 1, Ask::Add(1));
    assert!(matches!(effects[..], [Effect::Append(_)]));
    assert!(ask(&mut shard, 2, Ask::Read).is_empty());
    let effects = ask(&mut shard, 3, Ask::Add(2));
    assert!(
        matches!(effects[..], [Effect::Append(_)]),
        "appends are pipelined"
    );
    assert!(ask(&mut shard, 4, Ask::Read).is_empty());
    assert_eq!(appended(&mut shard, Ok(1)), [reply(1, 11), reply(2, 11)]);
    assert_eq!(appended(&mut shard, Ok(2)), [reply(3, 13), reply(4, 13)]);
    assert_eq!(ask(&mut shard, 5, Ask::Read), [reply(5, 13)]);
}

#[test]
fn records_share_appends_when_many_are_under_way() {
    let mut shard = leading(&[]);
    let mut appends = 0;
    for to in 0..100 {
        appends += ask(&mut shard, to, Ask::Add(1)).len();
    }
    assert_eq!(appends, 16);
    let effects = appended(&mut shard, Ok(0));
    let [Effect::Reply(..), Effect::Append(records)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(records.len(), 84);
    for offset in 1..16 {
        assert_eq!(appended(&mut shard, Ok(offset)).len(), 1);
    }
    assert_eq!(appended(&mut shard, Ok(16)).len(), 84);
}

#[test]
fn an_append_is_bounded_and_its_answer_waits_for_the_last_part() {
    let mut shard = leading(&[]);
    let effects = ask(&mut shard, 1, Ask::Many(100_000));
    let sizes: Vec<usize> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Append(records) => records.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(
        sizes.len() > 1 && sizes.iter().sum::<usize>() == 100_000,
        "{sizes:?}"
    );
    let mut base = 0;
    for (number, size) in sizes.iter().enumerate() {
        let effects = appended(&mut shard, Ok(base));
        assert_eq!(effects.len(), usize::from(number + 1 == sizes.len()));
        base += i64::try_from(*size).expect("a few");
    }
}

#[test]
fn after_a_failed_append_everybody_is_told_and_the_log_decides() {
    let mut shard = leading(&[10]);
    ask(&mut shard, 1, Ask::Wait);
    // Answers the one that waits as well.
    ask(&mut shard, 2, Ask::Add(1));
    ask(&mut shard, 3, Ask::Wait);
    ask(&mut shard, 4, Ask::Add(2));
    let unknown = ErrorCode::CoordinatorNotAvailable;
    let told = appended(&mut shard, Err(ErrorCode::NotEnoughReplicasAfterAppend));
    assert_eq!(told, [1, 2, 3, 4].map(|to| refusal(to, unknown)));
    let early = ask(&mut shard, 5, Ask::Read);
    assert_eq!(early, [refusal(5, ErrorCode::CoordinatorLoadInProgress)]);
    assert_eq!(shard.deadline(), None);
    // It reads only when its other append has ended: that one may still reach the log.
    assert_eq!(appended(&mut shard, Ok(2)), [Effect::Read(Offset(0))]);
    let mut effects = Effects::new();
    shard.read(at(0), Ok(batch(&[10, 1, 2], 0, true)), &mut effects);
    assert_eq!(ask(&mut shard, 6, Ask::Read), [reply(6, 13)]);
}

#[test]
fn an_append_at_another_offset_than_expected_is_a_failure() {
    let mut shard = leading(&[10]);
    ask(&mut shard, 1, Ask::Add(1));
    let effects = appended(&mut shard, Ok(7));
    let unknown = ErrorCode::CoordinatorNotAvailable;
    assert_eq!(effects, [refusal(1, unknown), Effect::Read(Offset(0))]);
}

#[test]
fn a_deposed_shard_sends_everybody_elsewhere() {
    let mut shard = leading(&[10]);
    ask(&mut shard, 1, Ask::Add(1));
    ask(&mut shard, 2, Ask::Wait);
    let mut effects = Effects::new();
    shard.resign(&mut effects);
    let elsewhere = ErrorCode::NotCoordinator;
    assert_eq!(effects, [refusal(1, elsewhere), refusal(2, elsewhere)]);
    assert!(appended(&mut shard, Ok(1)).is_empty());
    assert_eq!(ask(&mut shard, 3, Ask::Read), [refusal(3, elsewhere)]);
    assert_eq!(shard.deadline(), None);
}

#[test]
fn lost_leadership_seen_by_an_append_is_named() {
    let mut shard = leading(&[]);
    ask(&mut shard, 1, Ask::Add(1));
    let effects = appended(&mut shard, Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(effects[0], refusal(1, ErrorCode::NotCoordinator));
}

#[test]
fn time_answers_what_waits_for_it() {
    let mut shard = leading(&[]);
    ask(&mut shard, 1, Ask::Wait);
    assert_eq!(shard.deadline(), Some(Instant(10)));
    let mut effects = Effects::new();
    shard.tick(at(10), &mut effects);
    assert_eq!(effects, [reply(1, -1)]);
    assert_eq!(shard.deadline(), None);
}
