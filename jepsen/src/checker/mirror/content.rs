//! X1, X2 and X8: what a mirror holds is what its source held, each record where it was.
//!
//! - X1: a record that clients of the source sent is in the mirror at the offset at which the
//!   source had it, with the same key, value, headers, timestamp and producer; below the mirror's
//!   end nothing is missing that the source still has or had to keep; the mirror begins no later
//!   than its source ever did; and until somebody asks for its promotion it holds nothing that
//!   clients of the target sent.
//! - X2: two records of one partition are in the mirror in the order of the source.
//! - X8: all records of a mirror are of one topic: when the source's was deleted and made again
//!   under its name, nothing of the two is ever in one log.
//!
//! That nothing is missing is asked of the final reads of both clusters, and not beyond where a
//! promotion says that the copy ends, or the first record that clients of the target wrote. Where
//! either log is compacted a record may be missing if a later one has its key: also one that was
//! not copied, where the source is compacted, and in a promoted mirror one of the target's
//! clients. A mirror that says that its source lost or exchanged records (it has a fault in the
//! end) may hold what the source has no more. Silent about logs that were damaged on purpose;
//! about where a mirror begins if its topic deletes by age or size; and about a log of which no
//! record tells the era of the source. Of a partition of the source that lost records, as it may
//! (`Clustered::lost`), X1 knows what the final reads found there, and X2 nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Link;
use super::violation;
use crate::checker::{Fact, Log, Timestamps, Violations};
use crate::history::{Answer, Call, ListedAt, Mirrored, Operation, Seen, Written};

pub(super) fn check(link: &Link<'_>, found: &mut Violations) {
    for mirror in link.mirrors() {
        let eras = eras(link, mirror);
        if let [(one, by), (other, then), ..] = &eras.iter().collect::<Vec<_>>()[..] {
            let detail = format!(
                "{} holds records of the source's topic before and after it was made again \
                 (era {one} and era {other})",
                link.name
            );
            found.add(violation(
                "X8",
                0,
                Some(mirror.of),
                vec![**by, **then],
                detail,
            ));
            continue;
        }
        not_written(link, mirror, found);
        let Some(era) = eras.keys().next() else {
            continue;
        };
        let logs = link.source.index.logs.iter();
        let source = logs.filter(|log| log.of == mirror.of && log.era == *era);
        for source in source.filter(|source| !source.damaged && !mirror.damaged) {
            same(link, source, mirror, found);
            if !link.source.lost.contains(source.of) {
                in_order(link, source, mirror, found);
            }
            whole(link, source, mirror, found);
            begins(link, source, mirror, found);
        }
    }
}

/// The eras of the source that records of the mirror are of, and for each who read one.
fn eras(link: &Link<'_>, mirror: &Log<'_>) -> BTreeMap<usize, u64> {
    let logs: Vec<&Log<'_>> = {
        let logs = link.source.index.logs.iter();
        logs.filter(|log| log.of == mirror.of).collect()
    };
    let mut eras = BTreeMap::new();
    for fact in mirror.facts.iter().filter(|fact| fact.is_told()) {
        let of = logs.iter().filter(|log| {
            let mut told = log.facts_of(fact.id);
            told.any(Fact::is_told)
        });
        let of: Vec<usize> = of.map(|log| log.era).collect();
        // A send that was tried in both may be in both.
        if let [era] = of[..] {
            eras.entry(era).or_insert(fact.told_by);
        }
    }
    eras
}

/// Clients write to no mirror.
fn not_written(link: &Link<'_>, mirror: &Log<'_>, found: &mut Violations) {
    let promoted = link.promoted_from(&mirror.of.topic).unwrap_or(u64::MAX);
    let told = mirror.facts.iter().filter(|fact| fact.is_told());
    for fact in told.filter(|fact| link.target.sent(fact.id) && fact.known() < promoted) {
        let detail = format!(
            "record {} at offset {} was written to a mirror of {} that nobody had promoted",
            fact.id, fact.offset, link.name
        );
        let time = fact.known();
        found.add(violation(
            "X1",
            time,
            Some(mirror.of),
            vec![fact.told_by],
            detail,
        ));
    }
}

/// Each record that was read is as the source has it, where the source has it.
fn same(link: &Link<'_>, source: &Log<'_>, mirror: &Log<'_>, found: &mut Violations) {
    let at_source = link.source.seen(source);
    let ends = link.source.ends(source.of).map(|(_, ends)| ends);
    // The final reads may be of a topic that was made since, or nobody knows.
    let ends = ends.filter(|_| source.facts.iter().any(|fact| fact.in_final));
    let was_read = |offset: i64| {
        ends.is_some_and(|ends| ends.log_start_offset <= offset && offset < ends.log_end_offset)
    };
    let has_lost = link.source.lost.contains(source.of);
    let may_differ = may_differ(link, source, mirror);
    for (operation, seen) in link.target.all_seen(mirror) {
        let Some(id) = seen.id.filter(|id| link.source.sent(*id)) else {
            continue;
        };
        let offset = seen.offset;
        let told = source.within(offset..offset + 1).iter();
        let told = told.filter(|fact| fact.is_told() && (!has_lost || fact.in_final));
        let told: Vec<&Fact> = told.collect();
        let wrong = if let Some(other) = told.iter().find(|fact| fact.id != id) {
            (!may_differ).then(|| (other.told_by, format!("record {} there", other.id)))
        } else if !told.is_empty() {
            differs(link, at_source.get(&offset), id, seen)
        } else if may_differ {
            None
        } else if was_read(offset) && !source.compacted {
            Some((operation.op, "nothing there".to_owned()))
        } else if has_lost {
            None
        } else {
            let place = only_place(link, source, id);
            place.map(|place| (operation.op, format!("it at offset {place}")))
        };
        if let Some((by, what)) = wrong {
            let detail =
                format!("the mirror has record {id} at offset {offset}; the source has {what}");
            let operations = vec![operation.op, by];
            let time = operation.returned;
            found.add(violation("X1", time, Some(mirror.of), operations, detail));
        }
    }
}

/// Whether the mirror may hold what the source has no more.
fn may_differ(link: &Link<'_>, source: &Log<'_>, mirror: &Log<'_>) -> bool {
    let has_lost = link.source.lost.contains(source.of);
    let may_differ = |told: &&Mirrored| {
        // One that was promoted asks its source no more.
        told.state == "failed" || told.fault.is_some() || has_lost && told.state == "promoted"
    };
    link.told_on_the_way(mirror.of).iter().any(may_differ)
}

/// Where the source has the record, if it was sent once and is told to be at one offset.
fn only_place(link: &Link<'_>, source: &Log<'_>, id: u64) -> Option<i64> {
    let sent = link.source.index.sent(id);
    let copies = sent.map_or(0, |(sent, _)| sent.copies());
    source.only_place(id).filter(|_| copies <= 1)
}

/// How a record of the mirror differs from what the source gave, or was given.
fn differs(
    link: &Link<'_>,
    at_source: Option<&(&Operation, &Seen)>,
    id: u64,
    seen: &Seen,
) -> Option<(u64, String)> {
    if let Some((operation, original)) = at_source {
        let stamps = original.stamp.is_some() && seen.stamp.is_some();
        let same = original.digest == seen.digest
            && original.key == seen.key
            && original.tombstone == seen.tombstone
            && original.timestamp == seen.timestamp
            && (!stamps || original.stamp == seen.stamp);
        return (!same).then(|| {
            (
                operation.op,
                format!("it as {original:?}, here it is {seen:?}"),
            )
        });
    }
    let (sent, position) = link.source.index.sent(id)?;
    let written: &Written = &sent.records[position];
    let stamped = link.source.index.topic(&sent.to.topic).timestamps;
    let same = written.digest == seen.digest
        && written.key == seen.key
        && written.tombstone == seen.tombstone
        && (stamped != Timestamps::Create || written.timestamp == seen.timestamp);
    (!same).then(|| {
        (
            sent.operation.op,
            format!("it as {written:?}, here it is {seen:?}"),
        )
    })
}

/// X2.
fn in_order(link: &Link<'_>, source: &Log<'_>, mirror: &Log<'_>, found: &mut Violations) {
    let mut last: Option<(i64, &Fact)> = None;
    let told = mirror.facts.iter().filter(|fact| fact.is_told());
    for fact in told.filter(|fact| link.source.sent(fact.id)) {
        let Some(place) = only_place(link, source, fact.id) else {
            continue;
        };
        if let Some((before, other)) = last.filter(|(before, _)| place <= *before) {
            let detail = format!(
                "record {} is behind record {} in the mirror; at the source they are at {place} \
                 and {before}",
                fact.id, other.id
            );
            let operations = vec![other.told_by, fact.told_by];
            found.add(violation(
                "X2",
                fact.known(),
                Some(mirror.of),
                operations,
                detail,
            ));
        }
        last = Some((place, fact));
    }
}

/// Nothing is missing between the ends of the mirror.
fn whole(link: &Link<'_>, source: &Log<'_>, mirror: &Log<'_>, found: &mut Violations) {
    let Some((time, ends)) = link.target.ends(mirror.of) else {
        return;
    };
    let held = mirror.facts.iter().filter(|fact| fact.in_final);
    let held: BTreeSet<i64> = held.map(|fact| fact.offset).collect();
    let own = mirror.facts.iter().filter(|fact| link.target.sent(fact.id));
    let own = own.map(|fact| fact.offset).min().unwrap_or(i64::MAX);
    let end = ends.log_end_offset.min(own).min(copied(link, mirror));
    let is_compacted = source.compacted || mirror.compacted;
    // A copy that is behind is of what the source had left when it was asked.
    let until = if source.compacted { i64::MAX } else { end };
    let latest = latest(link, [(source, until), (mirror, end)]);
    let replacing = keys_sent_here(link, mirror);
    let has_lost = link.source.lost.contains(source.of);
    if has_lost && may_differ(link, source, mirror) {
        // What the source has since may be where the mirror has what was lost.
        return;
    }
    for fact in source.within(ends.log_start_offset..end.max(ends.log_start_offset)) {
        let is_gone = has_lost && !fact.in_final;
        if !fact.is_told() || is_gone || held.contains(&fact.offset) {
            continue;
        }
        let replaced = key(link, fact.id).is_some_and(|key| {
            let latest = latest.get(key);
            let is_replaced = latest.is_some_and(|offset| *offset > fact.offset);
            is_compacted && (is_replaced || replacing.contains(key))
        });
        if !replaced && !is_removed(link, source, fact) {
            let detail = format!(
                "the source has record {} at offset {}; the mirror, from {} to {}, does not",
                fact.id, fact.offset, ends.log_start_offset, ends.log_end_offset
            );
            found.add(violation(
                "X1",
                time,
                Some(mirror.of),
                vec![fact.told_by],
                detail,
            ));
        }
    }
}

/// Where the target said that what it copied ends, of a mirror that is promoted: what its own
/// clients wrote there may be gone by compaction before anybody read it.
fn copied(link: &Link<'_>, mirror: &Log<'_>) -> i64 {
    let told = link.told_finally(mirror.of);
    let told = told.filter(|(_, told)| told.state == "promoted" && told.log_end_offset >= 0);
    told.map_or(i64::MAX, |(_, told)| told.log_end_offset)
}

/// Keys that clients of the target wrote, all of it behind what came from the source.
fn keys_sent_here<'a>(link: &Link<'a>, mirror: &Log<'_>) -> BTreeSet<&'a str> {
    let operations = link.target.index.history.operations.iter();
    let sent = operations.filter_map(|operation| match &operation.call {
        Call::Send { to, records, .. } if to == mirror.of && !operation.failed() => Some(records),
        _ => None,
    });
    sent.flatten()
        .filter_map(|one| one.key.as_deref())
        .collect()
}

/// A tombstone that compaction took: it is the last of its key and may go.
fn is_removed(link: &Link<'_>, source: &Log<'_>, fact: &Fact) -> bool {
    let sent = link.source.index.sent(fact.id);
    source.compacted && sent.is_some_and(|(sent, position)| sent.records[position].tombstone)
}

fn key<'a>(link: &Link<'a>, id: u64) -> Option<&'a str> {
    let (sent, position) = link.source.index.sent(id)?;
    sent.records[position].key.as_deref()
}

/// The highest offset of each key in either log below what is given with it: what nobody was told
/// of at the source may have been copied.
fn latest<'a>(link: &Link<'a>, logs: [(&Log<'_>, i64); 2]) -> BTreeMap<&'a str, i64> {
    let mut latest = BTreeMap::new();
    let facts = logs.into_iter().flat_map(|(log, end)| {
        let facts = log.facts.iter();
        facts.filter(move |fact| fact.offset < end)
    });
    for fact in facts {
        if let Some(key) = key(link, fact.id) {
            let known = latest.entry(key).or_insert(fact.offset);
            *known = fact.offset.max(*known);
        }
    }
    latest
}

/// The mirror's log begins nowhere beyond where its source's log did by then.
fn begins(link: &Link<'_>, source: &Log<'_>, mirror: &Log<'_>, found: &mut Violations) {
    let (target, of) = (&link.target.index, mirror.of);
    let promoted = link.promoted_from(&of.topic).unwrap_or(u64::MAX);
    if link.source.index.is_retained(of) {
        return;
    }
    let mut told: Vec<(&Operation, i64)> = Vec::new();
    for poll in mirror.polls.iter().map(|poll| &target.polls[*poll]) {
        told.push((poll.operation, poll.fetched.log_start_offset));
    }
    for operation in &target.history.operations {
        if let (
            Call::ListOffsets {
                of: asked,
                at: ListedAt::Earliest,
            },
            Some(Answer::ListOffsets { offset, .. }),
        ) = (&operation.call, operation.answer())
            && asked == of
        {
            told.push((operation, *offset));
        }
    }
    for (operation, start) in told {
        let floor = source.floor(operation.returned);
        if start > floor && operation.returned < promoted {
            let detail = format!(
                "the mirror begins at {start}; nobody asked for the source to begin beyond {floor}"
            );
            let time = operation.returned;
            found.add(violation("X1", time, Some(of), vec![operation.op], detail));
        }
    }
}
