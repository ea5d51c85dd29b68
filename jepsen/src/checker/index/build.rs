//! How an index is made: sends and polls first, then what they tell, then what follows from it.

use std::collections::BTreeMap;

use super::log::{Fact, Log, NEVER, rising};
use super::topic::{Topic, is_of_any_era, topics};
use super::{Index, Poll, Sent};
use crate::checker::Options;
use crate::checker::leaders::{Leads, leads};
use crate::history::outcome::{self, Class};
use crate::history::{
    Answer, Attempt, Call, Ending, History, Library, ListedAt, Note, Operation, Partition, Phase,
};

/// A log start that somebody was told, or asked for.
struct Start<'a> {
    of: &'a Partition,
    /// Absent: it may have come true in any.
    era: Option<usize>,
    time: u64,
    value: i64,
    /// Whether a client asked for it.
    asked: bool,
}

pub(super) fn index(history: &History, options: Options) -> Index<'_> {
    let mut notes = history.notes.iter();
    let is_final = |note: &Note| matches!(note, Note::Phase { phase } if *phase == Phase::Final);
    let last_phase = notes.find(|(_, _, note)| is_final(note));
    let mut index = Index {
        history,
        options,
        final_from: last_phase.map(|note| note.0),
        sends: Vec::new(),
        polls: Vec::new(),
        logs: Vec::new(),
        by_id: Vec::new(),
        by_place: BTreeMap::new(),
        topics: topics(history),
        untold: Topic::default(),
    };
    make_logs(&mut index);
    let leads = leads(history);
    for operation in &history.operations {
        add_operation(&mut index, operation, &leads);
    }
    index.by_id.sort_unstable();
    index.by_id.dedup_by_key(|one| one.0);
    tell_acknowledged(&mut index);
    tell_seen(&mut index);
    for log in &mut index.logs {
        log.facts = settled(std::mem::take(&mut log.facts));
    }
    tell_implied(&mut index);
    index.logs.iter_mut().for_each(arrange);
    add_floors(&mut index);
    add_damage(&mut index);
    index
}

/// A log for each partition and era that anything names.
fn make_logs(index: &mut Index<'_>) {
    let history = index.history;
    for operation in &history.operations {
        match (&operation.call, operation.answer()) {
            (Call::Send { to, .. }, Some(_)) => make_log(index, to, operation),
            (Call::Read { .. }, Some(Answer::Read { partitions })) => {
                for fetched in partitions {
                    make_log(index, &fetched.of, operation);
                }
            }
            (Call::ListOffsets { of, .. } | Call::DeleteRecords { of, .. }, Some(_)) => {
                make_log(index, of, operation);
            }
            _ => {}
        }
    }
    let places = std::mem::take(&mut index.by_place);
    for (at, ((of, era), _)) in places.into_iter().enumerate() {
        let compacted = index.topic(&of.topic).compacted;
        index.logs.push(Log::new(of, era, compacted));
        index.by_place.insert((of, era), at);
    }
}

fn make_log<'a>(index: &mut Index<'a>, of: &'a Partition, operation: &Operation) {
    let topic = index.topic(&of.topic);
    if let Some(era) = topic.era(operation.invoked, operation.effect_until()) {
        index.by_place.insert((of, era), 0);
    }
}

fn add_operation<'a>(
    index: &mut Index<'a>,
    operation: &'a Operation,
    leads: &BTreeMap<&Partition, Leads>,
) {
    match (&operation.call, operation.answer()) {
        (Call::Send { .. }, _) => add_send(index, operation),
        (Call::Read { .. }, Some(Answer::Read { partitions })) => {
            for fetched in partitions {
                // Who was not told of a deletion goes on to serve the topic that it knows. All are
                // told before the final phase.
                let is_stale = |leads: &Leads| {
                    let (from, until) = (operation.invoked, operation.effect_until());
                    index.final_from.is_none_or(|last| from < last)
                        && leads.may_be_stale(from, until)
                        && index.topic(&fetched.of.topic).was_deleted()
                };
                let log = match leads.get(&fetched.of).is_some_and(is_stale) {
                    true => None,
                    false => index.log_of(&fetched.of, operation),
                };
                if let Some(log) = log {
                    index.logs[log].polls.push(index.polls.len());
                }
                index.polls.push(Poll {
                    operation,
                    fetched,
                    log,
                });
            }
        }
        _ => {}
    }
}

fn add_send<'a>(index: &mut Index<'a>, operation: &'a Operation) {
    let Call::Send {
        to,
        acks,
        records,
        stamp,
        library,
    } = &operation.call
    else {
        return;
    };
    let (appends, late) = match library {
        // It tells no attempts.
        Some(Library::Idempotent | Library::Repeats) if !operation.failed() => (u32::MAX, true),
        _ => attempts(&operation.ending, operation.returned),
    };
    let mut sent = Sent {
        operation,
        to,
        acks: *acks,
        records,
        stamp: *stamp,
        library: *library,
        log: None,
        base_offset: None,
        appends,
        late,
    };
    if let Some(Answer::Send { base_offset, .. }) = operation.answer() {
        sent.log = index.log_of(to, operation);
        if sent.is_promised(index.options) && *base_offset >= 0 {
            sent.base_offset = Some(*base_offset);
        }
    }
    for (position, record) in records.iter().enumerate() {
        index.by_id.push((record.id, index.sends.len(), position));
    }
    index.sends.push(sent);
}

/// How many attempts may have been appended, and whether one may be so later than the end.
fn attempts(ending: &Ending, returned: u64) -> (u32, bool) {
    let unknown = |attempts: &[Attempt]| {
        let unknown = attempts
            .iter()
            .filter(|attempt| outcome::of_send(&attempt.error) == Class::Unknown);
        u32::try_from(unknown.count()).unwrap_or(u32::MAX)
    };
    match ending {
        Ending::Fail(_) => (0, false),
        Ending::Ok(Answer::Send { attempts, .. }) => {
            let before = unknown(attempts);
            (before.saturating_add(1), before > 0)
        }
        Ending::Ok(_) => (1, false),
        // A client that is gone may have tried any number of times.
        Ending::Unknown(attempts) if returned == NEVER || attempts.is_empty() => (u32::MAX, true),
        Ending::Unknown(attempts) => (unknown(attempts), true),
    }
}

/// A fact that nobody has told yet.
fn untold(offset: i64, id: u64, by: u64) -> Fact {
    Fact {
        offset,
        id,
        acked: NEVER,
        seen: NEVER,
        implied: NEVER,
        in_final: false,
        told_by: by,
    }
}

fn tell_acknowledged(index: &mut Index<'_>) {
    for sent in &index.sends {
        let (Some(log), Some(base)) = (sent.log, sent.base_offset) else {
            continue;
        };
        for (offset, record) in (base..).zip(sent.records) {
            let mut fact = untold(offset, record.id, sent.operation.op);
            fact.acked = sent.operation.returned;
            index.logs[log].facts.push(fact);
        }
    }
}

fn tell_seen(index: &mut Index<'_>) {
    let final_from = index.final_from.unwrap_or(NEVER);
    let mut settled_at = vec![0; index.logs.len()];
    for poll in &index.polls {
        let Some(log) = poll.log else { continue };
        let facts = &mut index.logs[log].facts;
        for seen in &poll.fetched.records {
            let Some(id) = seen.id else { continue };
            let mut fact = untold(seen.offset, id, poll.operation.op);
            fact.seen = poll.operation.returned;
            fact.in_final = poll.operation.invoked >= final_from;
            facts.push(fact);
        }
        // Many read the same: what is known is kept once, at a cost that stays linear.
        if facts.len() > 2 * settled_at[log] + 65_536 {
            *facts = settled(std::mem::take(facts));
            settled_at[log] = facts.len();
        }
    }
}

/// Facts by offset, then id, each once with all that tells it.
fn settled(mut facts: Vec<Fact>) -> Vec<Fact> {
    facts.sort_by_key(|fact| (fact.offset, fact.id));
    facts.dedup_by(|next, kept| {
        if (next.offset, next.id) != (kept.offset, kept.id) {
            return false;
        }
        if next.known() < kept.known() {
            kept.told_by = next.told_by;
        }
        kept.acked = kept.acked.min(next.acked);
        kept.seen = kept.seen.min(next.seen);
        kept.implied = kept.implied.min(next.implied);
        kept.in_final |= next.in_final;
        true
    });
    facts
}

/// What was seen of a batch tells where its other records are.
fn tell_implied(index: &mut Index<'_>) {
    for log in 0..index.logs.len() {
        // Of each record seen: its send, where that begins, when it was seen, and by whom.
        let mut seen: Vec<(usize, i64, u64, u64)> = Vec::new();
        let facts = index.logs[log].facts.iter();
        for fact in facts.filter(|fact| fact.seen != NEVER) {
            let Some((send, position)) = index.place_of(fact.id) else {
                continue;
            };
            if index.sends[send].records.len() > 1 {
                let back = i64::try_from(position).unwrap_or(i64::MAX);
                let base = fact.offset.saturating_sub(back);
                seen.push((send, base, fact.seen, fact.told_by));
            }
        }
        seen.sort_unstable();
        seen.dedup_by_key(|one| (one.0, one.1));
        for (send, base, time, by) in seen {
            for (offset, record) in (base..).zip(index.sends[send].records) {
                let mut fact = untold(offset, record.id, by);
                fact.implied = time;
                index.logs[log].facts.push(fact);
            }
        }
        let facts = std::mem::take(&mut index.logs[log].facts);
        index.logs[log].facts = settled(facts);
    }
}

/// Brings what a log knows into its orders.
fn arrange(log: &mut Log<'_>) {
    let told = log.facts.iter().filter(|fact| fact.is_told());
    let told: Vec<i64> = told.map(|fact| fact.offset).collect();
    // What is told of an offset goes before what only follows from other offsets.
    log.facts
        .retain(|fact| fact.is_told() || told.binary_search(&fact.offset).is_err());
    log.by_id = (0..log.facts.len()).collect();
    let facts = &log.facts;
    log.by_id
        .sort_unstable_by_key(|at| (facts[*at].id, facts[*at].offset));
    let ends = facts.iter().map(|fact| (fact.known(), fact.offset));
    log.ends = rising(ends.collect());
}

/// Up to where records may be missing because the log's start moved: where somebody asked for it
/// or the broker deletes by itself. A log start that has no such cause excuses nothing.
fn add_floors(index: &mut Index<'_>) {
    let mut marks: Vec<Vec<(u64, i64)>> = vec![Vec::new(); index.logs.len()];
    for start in starts(index) {
        let retained = index.is_retained(start.of);
        if !start.asked && !retained {
            continue;
        }
        let time = if retained { 0 } else { start.time };
        let eras = start.era.map_or((0, usize::MAX), |era| (era, era));
        let logs = index
            .by_place
            .range((start.of, eras.0)..=(start.of, eras.1));
        for log in logs.map(|(_, log)| *log) {
            marks[log].push((time, start.value));
        }
    }
    for (log, marks) in index.logs.iter_mut().zip(marks) {
        log.floors = rising(marks);
    }
}

fn starts<'a>(index: &Index<'a>) -> Vec<Start<'a>> {
    let mut starts = Vec::new();
    let mut add = |of: &'a Partition, operation: &Operation, value: i64, asked: bool| {
        let topic = index.topic(&of.topic);
        let era = topic.era(operation.invoked, operation.effect_until());
        let anywhere = asked && is_of_any_era(operation, era);
        if value > 0 && (era.is_some() || anywhere) {
            starts.push(Start {
                of,
                era: if anywhere { None } else { era },
                time: operation.invoked,
                value,
                asked,
            });
        }
    };
    for operation in index.history.operations.iter().filter(|one| !one.failed()) {
        match (&operation.call, operation.answer()) {
            (Call::DeleteRecords { of, before }, answer) => {
                // -1 asks for all there is.
                let before = if *before < 0 { i64::MAX } else { *before };
                match answer {
                    Some(Answer::DeleteRecords { log_start_offset }) if before == i64::MAX => {
                        add(of, operation, *log_start_offset, true);
                    }
                    _ => add(of, operation, before, true),
                }
            }
            (
                Call::Send { to, .. },
                Some(Answer::Send {
                    log_start_offset, ..
                }),
            ) => add(to, operation, *log_start_offset, false),
            (
                Call::ListOffsets {
                    of,
                    at: ListedAt::Earliest,
                },
                Some(Answer::ListOffsets { offset, .. }),
            ) => add(of, operation, *offset, false),
            (Call::Read { .. }, Some(Answer::Read { partitions })) => {
                for fetched in partitions {
                    add(&fetched.of, operation, fetched.log_start_offset, false);
                }
            }
            _ => {}
        }
    }
    starts
}

fn add_damage(index: &mut Index<'_>) {
    for (time, _, note) in &index.history.notes {
        let Note::Damaged { of } = note else { continue };
        let era = index.topic(&of.topic).era(*time, *time);
        for log in index.logs.iter_mut().filter(|log| log.of == of) {
            log.damaged |= era.is_none_or(|era| era == log.era);
        }
    }
}
