//! Random histories of the model, as they are and spoilt.

use proptest::prelude::*;

use super::model::{Draws, run};
use super::tell::{Tell, fetched, seen};
use crate::checker::{CHECKS, check};
use crate::history::{Answer, Call, Fetched, History, Note, Seen, What, Written};

fn broken(tell: &Tell) -> Vec<&'static str> {
    let found = check(&tell.history());
    found.iter().map(|one| one.property).collect()
}

/// The answers of the final reads.
fn finals(tell: &mut Tell) -> Vec<&mut Fetched> {
    let of_reader = tell
        .events
        .iter_mut()
        .filter(|event| event.process == "reader");
    let fetched = of_reader.filter_map(|event| match &mut event.what {
        What::Ok {
            answer: Answer::Read { partitions },
            ..
        } => partitions.first_mut(),
        _ => None,
    });
    fetched.collect()
}

/// Records of the final reads with their places.
fn scanned(tell: &mut Tell) -> Vec<(usize, usize, Seen)> {
    let mut all = Vec::new();
    for (read, fetched) in finals(tell).into_iter().enumerate() {
        for (place, seen) in fetched.records.iter().enumerate() {
            all.push((read, place, seen.clone()));
        }
    }
    all
}

/// Sends that ended as `wanted` says: their records and, if acknowledged, where.
fn sends(tell: &Tell, wanted: fn(&What) -> Option<i64>) -> Vec<(i64, Vec<Written>)> {
    let mut found = Vec::new();
    for event in &tell.events {
        let (What::Ok { op, .. } | What::Fail { op, .. }) = &event.what else {
            continue;
        };
        let Some(base) = wanted(&event.what) else {
            continue;
        };
        for begun in &tell.events {
            if let What::Invoke { op: of, call } = &begun.what
                && of == op
                && let Call::Send { records, .. } = call
            {
                found.push((base, records.clone()));
            }
        }
    }
    found
}

fn acknowledged(what: &What) -> Option<i64> {
    match what {
        What::Ok {
            answer: Answer::Send { base_offset, .. },
            ..
        } if *base_offset >= 0 => Some(*base_offset),
        _ => None,
    }
}

fn sent_once(what: &What) -> Option<i64> {
    match what {
        What::Ok {
            answer: Answer::Send { attempts, .. },
            ..
        } if attempts.is_empty() => acknowledged(what),
        _ => None,
    }
}

fn refused(what: &What) -> Option<i64> {
    matches!(what, What::Fail { .. }).then_some(-1)
}

/// Records of the final reads that were acknowledged there.
fn promised(tell: &mut Tell, wanted: fn(&What) -> Option<i64>) -> Vec<(usize, usize, Seen)> {
    let mut known = Vec::new();
    for (base, records) in sends(tell, wanted) {
        known.extend((base..).zip(records.iter().map(|record| record.id)));
    }
    let mut scanned = scanned(tell);
    scanned.retain(|(_, _, seen)| known.contains(&(seen.offset, seen.id.expect("has one"))));
    scanned
}

fn choice<T>(draws: &mut Draws, of: Vec<T>) -> Option<T> {
    let at = draws.below(of.len());
    of.into_iter().nth(at)
}

/// A history by its seed and length, and what to draw its fault with.
#[derive(Debug, Clone, Copy)]
struct Case {
    seed: u64,
    steps: usize,
    fault: u64,
}

impl Case {
    fn run(self) -> (Tell, u64) {
        (run(self.seed, self.steps, false), self.fault)
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let parts = (any::<u64>(), 60usize..300, any::<u64>());
    parts.prop_map(|(seed, steps, fault)| Case { seed, steps, fault })
}

/// Appends `record` to the last final read, and to the ends.
fn append(tell: &mut Tell, id: u64, like: Option<&Seen>) {
    let mut reads = finals(tell);
    let read = reads.last_mut().expect("something was read");
    let offset = read.records.last().expect("not empty").offset + 1;
    let mut record = like.map_or_else(|| seen(offset, id), Clone::clone);
    record.offset = offset;
    read.records.push(record);
    read.high_watermark = -1;
    for event in &mut tell.events {
        match &mut event.what {
            What::Note {
                note: Note::Ends { ends },
            } => ends.log_end_offset = offset + 1,
            What::Note {
                note: Note::Log { state, .. },
            } => state.high_watermark += 1,
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_the_model_does_is_legal(seed: u64, steps in 0usize..400, topics: bool) {
        let found = check(&run(seed, steps, topics).history());
        prop_assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn an_acknowledged_record_that_is_dropped_is_missed(case in cases()) {
        let (mut tell, fault) = case.run();
        let candidates = promised(&mut tell, acknowledged);
        prop_assume!(!candidates.is_empty());
        let last = scanned(&mut tell).last().expect("one").2.offset;
        let (read, place, seen) = choice(&mut Draws(fault), candidates).expect("one");
        finals(&mut tell)[read].records.remove(place);
        let expected = if seen.offset == last { "P3" } else { "P2" };
        // A read that ends with it is passed over by none, and the next begins above it.
        let broken = broken(&tell);
        prop_assert!(broken.contains(&expected) || broken.contains(&"P3"), "{broken:?}");
    }

    #[test]
    fn two_records_that_change_places_are_noticed(case in cases()) {
        let (mut tell, fault) = case.run();
        let candidates = promised(&mut tell, acknowledged);
        let all = scanned(&mut tell);
        prop_assume!(!candidates.is_empty() && all.len() > 1);
        let mut draws = Draws(fault);
        let (read, place, one) = choice(&mut draws, candidates).expect("one");
        let others = all.into_iter().filter(|(.., other)| other.id != one.id).collect();
        let other = choice(&mut draws, others);
        prop_assume!(other.is_some());
        let (other_read, other_place, other) = other.expect("one");
        let mut reads = finals(&mut tell);
        reads[read].records[place] = Seen { offset: one.offset, ..other.clone() };
        reads[other_read].records[other_place] = Seen { offset: other.offset, ..one };
        let broken = broken(&tell);
        prop_assert!(broken.contains(&"P1"), "{broken:?}");
    }

    #[test]
    fn a_record_twice_is_noticed(case in cases()) {
        let (mut tell, fault) = case.run();
        let candidates = promised(&mut tell, sent_once);
        prop_assume!(!candidates.is_empty());
        let (.., seen) = choice(&mut Draws(fault), candidates).expect("one");
        append(&mut tell, 0, Some(&seen));
        let broken = broken(&tell);
        prop_assert!(broken.contains(&"P4"), "{broken:?}");
    }

    #[test]
    fn a_changed_value_is_noticed(case in cases()) {
        let (mut tell, fault) = case.run();
        let all = scanned(&mut tell);
        prop_assume!(!all.is_empty());
        let (read, place, _) = choice(&mut Draws(fault), all).expect("one");
        let mut other = tell.clone();
        finals(&mut tell)[read].records[place].digest ^= 1;
        let found = broken(&tell);
        prop_assert!(found == ["P15"], "{found:?}");
        finals(&mut other)[read].records[place].id = Some(1_000_000);
        let found = broken(&other);
        prop_assert!(found.contains(&"P5"), "{found:?}");
    }

    #[test]
    fn a_send_that_failed_and_is_read_is_noticed(case in cases()) {
        let (mut tell, fault) = case.run();
        let candidates = sends(&tell, refused);
        prop_assume!(!candidates.is_empty() && !scanned(&mut tell).is_empty());
        let (_, records) = choice(&mut Draws(fault), candidates).expect("one");
        append(&mut tell, records[0].id, None);
        let broken = broken(&tell);
        prop_assert!(broken.contains(&"P5"), "{broken:?}");
    }

    #[test]
    fn records_out_of_order_in_an_answer_are_noticed(case in cases()) {
        let (mut tell, fault) = case.run();
        let reads = finals(&mut tell);
        let long = reads.into_iter().filter(|read| read.records.len() > 1).collect();
        let read = choice(&mut Draws(fault), long);
        prop_assume!(read.is_some());
        read.expect("one").records.swap(0, 1);
        let broken = broken(&tell);
        prop_assert!(broken.contains(&"P7"), "{broken:?}");
    }

    #[test]
    fn a_read_that_begins_late_is_noticed(case in cases()) {
        let (mut tell, fault) = case.run();
        let reads = finals(&mut tell);
        let later = reads.into_iter().skip(1).filter(|read| read.records.len() > 1).collect();
        let read = choice(&mut Draws(fault), later);
        prop_assume!(read.is_some());
        let read = read.expect("one");
        read.records.remove(0);
        // Nobody else knows the record, perhaps: then it was not there.
        let found = broken(&tell);
        let is_noticed = found.contains(&"P8") && found.contains(&"P6") && found.contains(&"P2");
        prop_assert!(found.is_empty() || is_noticed, "{found:?}");
    }

    #[test]
    fn an_acknowledgement_of_another_offset_is_noticed(case in cases()) {
        let (mut tell, fault) = case.run();
        let candidates = promised(&mut tell, sent_once);
        prop_assume!(!candidates.is_empty());
        let (.., seen) = choice(&mut Draws(fault), candidates).expect("one");
        let sends = sends(&tell, sent_once).into_iter();
        let mut sends = sends.filter(|(_, records)| records.iter().any(|one| Some(one.id) == seen.id));
        let (base, records) = sends.next().expect("it was sent");
        let above = base + 1_000;
        for event in &mut tell.events {
            if let What::Ok { answer: Answer::Send { base_offset, .. }, .. } = &mut event.what
                && *base_offset == base
            {
                *base_offset = above;
            }
        }
        let broken = broken(&tell);
        prop_assert!(broken.contains(&"P16"), "{broken:?} {records:?}");
    }

    #[test]
    fn a_high_watermark_that_falls_is_noticed(case in cases()) {
        let (mut tell, _) = case.run();
        let mut reads = finals(&mut tell);
        prop_assume!(reads.len() > 1);
        reads.last_mut().expect("two").high_watermark -= 1;
        let broken = broken(&tell);
        prop_assert!(broken.contains(&"P14"), "{broken:?}");
    }
}

#[test]
fn no_checker_minds_an_empty_history() {
    assert!(!CHECKS.is_empty());
    assert!(check(&History::default()).is_empty());
}

#[test]
fn a_hundred_thousand_operations_are_checked() {
    let mut tell = Tell::new();
    let mut next = 0;
    for round in 0..25_000u64 {
        let ids = [2 * round + 1, 2 * round + 2];
        tell.send("a", &ids, next);
        tell.send("b", &[1_000_000 + round], next + 2);
        let mut answer = fetched(next, &[(next, ids[0]), (next + 1, ids[1])]);
        answer.high_watermark = next + 3;
        tell.answer("c", answer.clone());
        answer.from += 1;
        answer.records.remove(0);
        tell.answer("d", answer);
        next += 3;
    }
    let history = tell.history();
    assert_eq!(history.operations.len(), 100_000);
    let found: Vec<_> = check(&history)
        .into_iter()
        .map(|one| one.property)
        .collect();
    assert_eq!(found[0], "P8", "{found:?}");
}
