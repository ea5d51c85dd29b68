//! The fast checkers of a log against the general search, on small histories.
//!
//! One partition, sends of a few records each with one attempt or two, refusals, unknown ends,
//! reads that may be old, and a final phase that reads everything. What the fast checkers say of
//! such a history, as it is or spoilt in any way, is what the search for an order says.
//!
//! Processes do one thing each: what holds between operations of one process (P8, P9) is not what
//! a log is, but what a consumer is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tell::{Tell, appended, batch, fetched, reading, retried, seen};
use crate::checker::check;
use crate::checker::linear::model::{Appended, LogOperation, Placed};
use crate::checker::linear::{self, Budget, Outcome, search};
use crate::history::outcome::{self, Class};
use crate::history::{Answer, Attempt, Call, Ending, History, Note, Operation, Phase, What};

/// A thing that happens, or nothing where it does not fit.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A client sends so many records, once or with an attempt before of which nothing is known.
    Send(u8, bool),
    /// A client reads from about there, at most so many, as it was so many appends ago.
    Read(u8, u8, u8),
    /// What one of those under way asked for happens.
    Effect(u8),
    /// The copy of an earlier attempt comes in.
    Late(u8),
    /// One of those under way is told.
    End(u8),
    /// One of those under way is refused, or nobody knows.
    Fail(u8),
    Lose(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..4_u8, prop::bool::weighted(0.2))
            .prop_map(|(count, twice)| Step::Send(count, twice)),
        3 => (0..8_u8, 1..6_u8, 0..3_u8).prop_map(|(from, most, lag)| Step::Read(from, most, lag)),
        6 => any::<u8>().prop_map(Step::Effect),
        1 => any::<u8>().prop_map(Step::Late),
        6 => any::<u8>().prop_map(Step::End),
        1 => any::<u8>().prop_map(Step::Fail),
        2 => any::<u8>().prop_map(Step::Lose),
    ];
    prop::collection::vec(step, 0..40)
}

/// What is under way.
struct Open {
    op: u64,
    /// The records of a send.
    ids: Vec<u64>,
    twice: bool,
    /// Where a read begins, how much it takes, how old it may be.
    read: Option<(usize, usize, usize)>,
    /// What it is answered with, once it happened.
    answer: Option<Answer>,
}

/// A log and who uses it.
#[derive(Default)]
struct Broker {
    tell: Tell,
    log: Vec<u64>,
    /// How long the log was after each append.
    lengths: Vec<usize>,
    open: Vec<Open>,
    /// Copies that may still come in.
    late: Vec<Vec<u64>>,
    next_id: u64,
    clients: u64,
}

impl Broker {
    fn client(&mut self) -> String {
        self.clients += 1;
        format!("c{}", self.clients)
    }

    fn append(&mut self, ids: &[u64]) -> i64 {
        let base = i64::try_from(self.log.len()).expect("small");
        self.log.extend(ids);
        self.lengths.push(self.log.len());
        base
    }

    fn begin(
        &mut self,
        call: Call,
        ids: Vec<u64>,
        twice: bool,
        read: Option<(usize, usize, usize)>,
    ) {
        if self.open.len() == 4 {
            return;
        }
        let client = self.client();
        let op = self.tell.invoke(&client, call);
        self.open.push(Open {
            op,
            ids,
            twice,
            read,
            answer: None,
        });
    }

    fn pick(&self, of: u8) -> Option<usize> {
        (!self.open.is_empty()).then(|| usize::from(of) % self.open.len())
    }

    fn effect(&mut self, at: usize) {
        if self.open[at].answer.is_some() {
            return;
        }
        let answer = match self.open[at].read {
            Some((from, most, lag)) => {
                let known = self.lengths.len().checked_sub(lag + 1);
                let end = known.map_or(0, |known| self.lengths[known]);
                let shown = self.log[..end].iter().enumerate().skip(from).take(most);
                let records: Vec<Placed> = shown
                    .map(|(at, id)| (i64::try_from(at).expect("small"), *id))
                    .collect();
                let from = i64::try_from(from).expect("small");
                let partitions = vec![fetched(from, &records)];
                Answer::Read { partitions }
            }
            None => {
                let ids = self.open[at].ids.clone();
                let base = self.append(&ids);
                match self.open[at].twice {
                    true => retried(base, &["TIMEOUT"]),
                    false => appended(base),
                }
            }
        };
        self.open[at].answer = Some(answer);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(count, twice) => {
                let first = self.next_id + 1;
                let ids: Vec<u64> = (first..first + u64::from(count)).collect();
                self.next_id += u64::from(count);
                self.begin(batch(&ids), ids, twice, None);
            }
            Step::Read(from, most, lag) => {
                let read = (usize::from(from), usize::from(most), usize::from(lag));
                self.begin(reading(), Vec::new(), false, Some(read));
            }
            Step::Effect(of) => {
                if let Some(at) = self.pick(of) {
                    self.effect(at);
                }
            }
            Step::Late(of) => {
                if !self.late.is_empty() {
                    let at = usize::from(of) % self.late.len();
                    let ids = self.late.remove(at);
                    self.append(&ids);
                }
            }
            Step::End(of) => {
                if let Some(at) = self.pick(of) {
                    self.effect(at);
                    let ended = self.open.remove(at);
                    let answer = ended.answer.expect("it happened");
                    self.tell.ok(ended.op, answer);
                    if ended.twice {
                        self.late.push(ended.ids);
                    }
                }
            }
            Step::Fail(of) => {
                let fitting = self.pick(of).filter(|at| self.open[*at].answer.is_none());
                if let Some(at) = fitting {
                    let ended = self.open.remove(at);
                    self.tell.fail(ended.op, &["NOT_ENOUGH_REPLICAS"]);
                }
            }
            Step::Lose(of) => {
                if let Some(at) = self.pick(of) {
                    let ended = self.open.remove(at);
                    self.tell.info(ended.op, &["TIMEOUT"]);
                    if ended.answer.is_none() && !ended.ids.is_empty() {
                        self.late.push(ended.ids);
                    }
                }
            }
        }
    }
}

/// A history that a log gave.
fn told(steps: &[Step]) -> Tell {
    let mut broker = Broker::default();
    steps.iter().for_each(|step| broker.step(*step));
    while !broker.open.is_empty() {
        broker.step(Step::End(0));
    }
    let Broker { mut tell, log, .. } = broker;
    tell.final_phase();
    let placed = |range: std::ops::Range<usize>| -> Vec<Placed> {
        let offsets = range.clone().map(|at| i64::try_from(at).expect("small"));
        offsets.zip(log[range].iter().copied()).collect()
    };
    let middle = log.len() / 2;
    if middle > 0 {
        tell.read("final-1", 0, &placed(0..middle));
    }
    tell.read(
        "final-2",
        i64::try_from(middle).expect("small"),
        &placed(middle..log.len()),
    );
    tell.ends(0, i64::try_from(log.len()).expect("small"));
    tell
}

/// A way to spoil a history, or to change it so that nobody can mind.
#[derive(Debug, Clone, Copy)]
enum Spoil {
    /// A read does not show a record.
    Lose(u8, u8),
    /// A read shows a record again at its end, one further on.
    Repeat(u8, u8),
    /// A read shows two neighbours in the other order.
    Swap(u8, u8),
    /// A read shows a record that another send has, or none.
    Replace(u8, u8, u8),
    /// A read shows less at its end; nothing, if it shows little.
    Shorten(u8, u8),
    /// A read shows one more.
    Lengthen(u8, u8),
    /// An acknowledgement tells another offset.
    Shift(u8, i8),
    /// Two events that are not of one operation change their times.
    Reorder(u8),
    /// What was acknowledged was refused instead.
    Refuse(u8),
    /// Nobody knows of what was acknowledged or refused.
    Doubt(u8),
}

fn spoils() -> impl Strategy<Value = Vec<Spoil>> {
    let spoil = prop_oneof![
        (any::<u8>(), any::<u8>()).prop_map(|(read, at)| Spoil::Lose(read, at)),
        (any::<u8>(), any::<u8>()).prop_map(|(read, at)| Spoil::Repeat(read, at)),
        (any::<u8>(), any::<u8>()).prop_map(|(read, at)| Spoil::Swap(read, at)),
        (any::<u8>(), any::<u8>(), 0..20_u8)
            .prop_map(|(read, at, id)| Spoil::Replace(read, at, id)),
        (any::<u8>(), 0..4_u8).prop_map(|(read, by)| Spoil::Shorten(read, by)),
        (any::<u8>(), 0..20_u8).prop_map(|(read, id)| Spoil::Lengthen(read, id)),
        (any::<u8>(), -3..4_i8).prop_map(|(send, by)| Spoil::Shift(send, by)),
        any::<u8>().prop_map(Spoil::Reorder),
        any::<u8>().prop_map(Spoil::Refuse),
        any::<u8>().prop_map(Spoil::Doubt),
    ];
    prop::collection::vec(spoil, 1..3)
}

fn spoil(tell: &mut Tell, spoil: Spoil) {
    let is_read = |what: &What| {
        matches!(
            what,
            What::Ok {
                answer: Answer::Read { .. },
                ..
            }
        )
    };
    let is_sent = |what: &What| {
        matches!(
            what,
            What::Ok {
                answer: Answer::Send { .. },
                ..
            }
        )
    };
    let places = |tell: &Tell, wanted: fn(&What) -> bool| -> Vec<usize> {
        let numbered = tell.events.iter().enumerate();
        let fitting = numbered.filter(|(_, event)| wanted(&event.what));
        fitting.map(|(at, _)| at).collect()
    };
    let pick = |places: Vec<usize>, of: u8| match places.is_empty() {
        true => None,
        false => Some(places[usize::from(of) % places.len()]),
    };
    match spoil {
        Spoil::Shift(of, by) => {
            if let Some(at) = pick(places(tell, is_sent), of)
                && let What::Ok {
                    answer: Answer::Send { base_offset, .. },
                    ..
                } = &mut tell.events[at].what
            {
                *base_offset = (*base_offset + i64::from(by)).max(0);
            }
        }
        Spoil::Refuse(of) | Spoil::Doubt(of) => {
            let Some(at) = pick(places(tell, is_sent), of) else {
                return;
            };
            let What::Ok {
                op,
                answer: Answer::Send { attempts, .. },
            } = &tell.events[at].what
            else {
                return;
            };
            let (op, mut attempts) = (*op, attempts.clone());
            let is_refused = matches!(spoil, Spoil::Refuse(_));
            let error = if is_refused {
                "NOT_ENOUGH_REPLICAS"
            } else {
                "TIMEOUT"
            };
            let is_sure = is_refused && attempts.is_empty();
            attempts.extend(super::tell::attempts(&[error]));
            tell.events[at].what = match is_sure {
                true => What::Fail { op, attempts },
                false => What::Info { op, attempts },
            };
        }
        Spoil::Reorder(of) => {
            let at = usize::from(of) % tell.events.len();
            reorder(tell, at);
        }
        Spoil::Lose(of, ..)
        | Spoil::Repeat(of, ..)
        | Spoil::Swap(of, ..)
        | Spoil::Replace(of, ..)
        | Spoil::Shorten(of, ..)
        | Spoil::Lengthen(of, ..) => {
            if let Some(at) = pick(places(tell, is_read), of)
                && let What::Ok {
                    answer: Answer::Read { partitions },
                    ..
                } = &mut tell.events[at].what
            {
                spoil_read(&mut partitions[0], spoil);
            }
        }
    }
}

fn reorder(tell: &mut Tell, at: usize) {
    let op = |what: &What| match what {
        What::Invoke { op, .. } | What::Ok { op, .. } | What::Fail { op, .. } => Some(*op),
        What::Info { op, .. } => Some(*op),
        What::Note { .. } => None,
    };
    let Some(next) = tell.events.get(at + 1) else {
        return;
    };
    let (one, other) = (&tell.events[at], next);
    let both_begin = [one, other]
        .iter()
        .all(|event| matches!(event.what, What::Invoke { .. }));
    let (one, other) = (op(&one.what), op(&other.what));
    // Phases stay where they are, operations begin in their order, and end after they began.
    if both_begin || one.is_none() || other.is_none() || one == other {
        return;
    }
    let times = (tell.events[at].time, tell.events[at + 1].time);
    tell.events.swap(at, at + 1);
    (tell.events[at].time, tell.events[at + 1].time) = times;
}

fn spoil_read(fetched: &mut crate::history::Fetched, spoil: Spoil) {
    let records = &mut fetched.records;
    let place = |of: u8| usize::from(of) % records.len().max(1);
    match spoil {
        Spoil::Lose(_, of) if !records.is_empty() => {
            let at = place(of);
            records.remove(at);
        }
        Spoil::Repeat(_, of) if !records.is_empty() => {
            let mut again = records[place(of)].clone();
            again.offset = records[records.len() - 1].offset + 1;
            records.push(again);
        }
        Spoil::Swap(_, of) if records.len() > 1 => {
            let at = usize::from(of) % (records.len() - 1);
            let offsets = (records[at].offset, records[at + 1].offset);
            records.swap(at, at + 1);
            (records[at].offset, records[at + 1].offset) = offsets;
        }
        Spoil::Replace(_, of, id) if !records.is_empty() => {
            let at = place(of);
            records[at] = seen(records[at].offset, u64::from(id));
        }
        Spoil::Shorten(_, by) => {
            let kept = records.len().saturating_sub(usize::from(by));
            records.truncate(kept);
        }
        Spoil::Lengthen(_, id) => {
            let next = records.last().map_or(fetched.from, |last| last.offset + 1);
            records.push(seen(next, u64::from(id)));
        }
        _ => {}
    }
}

/// The history as the general search takes it.
fn calls(history: &History) -> Vec<linear::Call<LogOperation>> {
    let end = history.notes.iter().find_map(|(_, _, note)| match note {
        Note::Ends { ends } => Some(ends.log_end_offset),
        _ => None,
    });
    let end = end.expect("the end was found");
    let begun = history.notes.iter().find_map(|(time, _, note)| match note {
        Note::Phase {
            phase: Phase::Final,
        } => Some(*time),
        _ => None,
    });
    let final_from = begun.expect("there is a final phase");
    let sightings = sightings(history);
    let mut calls = Vec::new();
    let mut all = BTreeSet::new();
    for operation in &history.operations {
        match (&operation.call, operation.answer()) {
            (Call::Send { records, .. }, _) => {
                let ids: Vec<u64> = records.iter().map(|record| record.id).collect();
                calls.extend(appends(operation, &ids, &sightings));
            }
            (Call::Read { .. }, Some(Answer::Read { partitions })) => {
                let fetched = &partitions[0];
                let shown: Vec<Placed> = fetched
                    .records
                    .iter()
                    .map(|seen| (seen.offset, seen.id.expect("has one")))
                    .collect();
                let is_final = operation.invoked >= final_from;
                if is_final {
                    all.extend(shown.iter().copied().filter(|(offset, _)| *offset < end));
                }
                let is_empty = shown.is_empty();
                calls.push(linear::Call {
                    id: operation.op,
                    invoked: if is_final { operation.invoked } else { 0 },
                    returned: Some(operation.returned),
                    operation: match is_final && is_empty {
                        true => LogOperation::ReadAll(fetched.from, shown),
                        false => LogOperation::Read(fetched.from, shown),
                    },
                });
            }
            _ => {}
        }
    }
    // What the final reads found together, up to the end, is all there was then.
    calls.push(linear::Call {
        id: 0,
        invoked: final_from,
        returned: Some(u64::MAX - 1),
        operation: LogOperation::ReadAll(0, all.into_iter().collect()),
    });
    calls
}

/// Where the batch of each record would begin, by where the record was seen.
fn sightings(history: &History) -> BTreeMap<u64, BTreeSet<i64>> {
    let mut seen: BTreeMap<u64, BTreeSet<i64>> = BTreeMap::new();
    for operation in &history.operations {
        if let Some(Answer::Read { partitions }) = operation.answer() {
            for record in &partitions[0].records {
                let id = record.id.expect("has one");
                seen.entry(id).or_default().insert(record.offset);
            }
        }
    }
    seen
}

/// The appends that a send may have come to: one that is certain if it was acknowledged, and for
/// each attempt that may have come in one where its records were seen.
fn appends(
    operation: &Operation,
    ids: &[u64],
    sightings: &BTreeMap<u64, BTreeSet<i64>>,
) -> Vec<linear::Call<LogOperation>> {
    let mut bases: BTreeSet<i64> = BTreeSet::new();
    for (back, id) in (0_i64..).zip(ids) {
        let of_it = sightings.get(id).into_iter().flatten();
        bases.extend(of_it.map(|offset| offset - back));
    }
    let append = |base: i64, returned: Option<u64>| linear::Call {
        id: operation.op,
        invoked: operation.invoked,
        returned,
        operation: LogOperation::Append((base..).zip(ids.iter().copied()).collect()),
    };
    let unknown = |attempts: &[Attempt]| {
        let is_unknown = |one: &&Attempt| outcome::of_send(&one.error) == Class::Unknown;
        attempts.iter().filter(is_unknown).count()
    };
    let mut appends = Vec::new();
    let unknown = match &operation.ending {
        Ending::Fail(_) => 0,
        Ending::Unknown(attempts) => unknown(attempts),
        Ending::Ok(Answer::Send {
            base_offset,
            attempts,
            ..
        }) => {
            appends.push(append(*base_offset, Some(operation.returned)));
            bases.remove(base_offset);
            unknown(attempts)
        }
        Ending::Ok(_) => 0,
    };
    // More places than attempts: no choice of them explains all.
    if bases.len() <= unknown {
        appends.extend(bases.into_iter().map(|base| append(base, None)));
    }
    appends
}

/// A history in a few lines, for people.
fn shown(history: &History) -> Vec<String> {
    let calls = calls(history);
    let mut lines: Vec<String> = calls.iter().map(|call| format!("{call:?}")).collect();
    for operation in &history.operations {
        if let Call::Send { records, .. } = &operation.call {
            let ids: Vec<u64> = records.iter().map(|record| record.id).collect();
            lines.push(format!(
                "send {} of {ids:?}: {:?}",
                operation.op, operation.ending
            ));
        }
    }
    lines
}

/// Whether each of the two accepts the history; the fast one's reasons.
fn verdicts(tell: &Tell) -> (bool, bool, Vec<&'static str>) {
    let history = tell.history();
    let mut broken: Vec<&str> = check(&history).iter().map(|one| one.property).collect();
    broken.sort_unstable();
    broken.dedup();
    let general = match search(&Appended, &calls(&history), Budget::default()) {
        Outcome::Linearizable(_) => true,
        Outcome::Violated(_) => false,
        Outcome::Unknown => panic!("small enough"),
    };
    (broken.is_empty(), general, broken)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: ProptestConfig::default().cases.max(800),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_a_log_gave_is_accepted_by_both(steps in steps()) {
        let (fast, general, broken) = verdicts(&told(&steps));
        prop_assert!(fast, "{:?}", broken);
        prop_assert!(general);
    }

    #[test]
    fn what_is_spoilt_gets_one_verdict_from_both(steps in steps(), spoils in spoils()) {
        let mut tell = told(&steps);
        for one in spoils {
            spoil(&mut tell, one);
        }
        let (fast, general, broken) = verdicts(&tell);
        let text = || shown(&tell.history()).join("\n");
        prop_assert_eq!(fast, general, "fast: {:?}\n{}", broken, text());
    }
}
