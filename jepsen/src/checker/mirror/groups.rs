//! X3, X4 and X7: committed offsets that come over a link.
//!
//! An exact copy has its records at the offsets of the source, so an offset of the source means the
//! same in the mirror. Of what the target tells of a group that the link copies, in a mirror:
//!
//! - X4: it is no further than the source's clients ever asked to commit: whoever goes on from
//!   there passes over nothing that was not read.
//! - X7: the mirror holds all that is below it: it is not beyond the highest high watermark that a
//!   node of the target told by then, or beyond the end that the final reads found.
//! - X3: it goes back only after the source's clients asked for that; and in the end, where the
//!   mirror is active, it is what the source tells.
//!
//! Silent from the target's own first commit for that group and partition on, about topics of
//! the source that were ever deleted, and at the end also where a group of the target had members.

use std::collections::BTreeMap;

use super::facts::Link;
use super::{Side, violation};
use crate::checker::Violations;
use crate::history::{Answer, Call, Committed, Note, Operation, Partition};

/// A group's committed offset of one partition.
type Place<'a> = (&'a str, &'a Partition);

pub(super) fn check(link: &Link<'_>, found: &mut Violations) {
    let (asked, told) = (commits(link.source), answers(link.target));
    let own = commits(link.target);
    let marks = high_watermarks(link.target);
    for (place, answers) in told {
        let (group, of) = place;
        let source = link.source.index.topic(&of.topic);
        if !link.wants_group(group) || !link.is_mirror(&of.topic) || source.was_deleted() {
            continue;
        }
        let own = own.get(&place).and_then(|own| own.first());
        let own = own.map_or(u64::MAX, |(operation, _)| operation.invoked);
        let none = Vec::new();
        let asked = asked.get(&place).unwrap_or(&none);
        let of_link = answers.iter().filter(|(one, _)| one.returned < own);
        let of_link: Vec<&Commit<'_>> = of_link.collect();
        for (operation, offset) in of_link.iter().filter(|(_, offset)| *offset >= 0) {
            let end = end_by(link, of, marks.get(of), operation);
            judge(group, of, (operation, *offset), asked, end, found);
        }
        goes_back(group, of, &of_link, asked, found);
        if own == u64::MAX {
            followed(link, group, of, found);
        }
    }
}

/// A commit, or an answer, and the offset.
type Commit<'a> = (&'a Operation, i64);

fn commits<'a>(side: &Side<'a>) -> BTreeMap<Place<'a>, Vec<Commit<'a>>> {
    let mut commits: BTreeMap<Place<'a>, Vec<Commit<'a>>> = BTreeMap::new();
    for operation in side
        .index
        .history
        .operations
        .iter()
        .filter(|one| !one.failed())
    {
        if let Call::Commit { by, offsets } = &operation.call {
            for Committed { of, offset, .. } in offsets {
                let known = commits.entry((by.group.as_str(), of)).or_default();
                known.push((operation, *offset));
            }
        }
    }
    commits
}

fn answers<'a>(side: &Side<'a>) -> BTreeMap<Place<'a>, Vec<Commit<'a>>> {
    let mut answers: BTreeMap<Place<'a>, Vec<Commit<'a>>> = BTreeMap::new();
    for operation in &side.index.history.operations {
        let (Call::FetchCommitted { group, .. }, Some(Answer::FetchCommitted { offsets })) =
            (&operation.call, operation.answer())
        else {
            continue;
        };
        for Committed { of, offset, .. } in offsets {
            let known = answers.entry((group.as_str(), of)).or_default();
            known.push((operation, *offset));
        }
    }
    answers
}

/// Times and high watermarks that nodes told.
fn high_watermarks<'a>(side: &Side<'a>) -> BTreeMap<&'a Partition, Vec<(u64, i64)>> {
    let mut marks: BTreeMap<&Partition, Vec<(u64, i64)>> = BTreeMap::new();
    for (time, _, note) in &side.index.history.notes {
        if let Note::Log { of, state } = note {
            let known = marks.entry(of).or_default();
            known.push((*time, state.high_watermark));
        }
    }
    marks
}

/// Up to where the mirror was known to reach when the operation ended.
fn end_by(
    link: &Link<'_>,
    of: &Partition,
    marks: Option<&Vec<(u64, i64)>>,
    operation: &Operation,
) -> Option<i64> {
    let Some(marks) = marks else {
        let is_final = link.target.index.is_final(operation);
        let ends = link.target.ends(of).filter(|_| is_final)?;
        return Some(ends.1.log_end_offset);
    };
    let by_then = marks.iter().filter(|(time, _)| *time <= operation.returned);
    by_then.map(|(_, mark)| *mark).max()
}

fn judge(
    group: &str,
    of: &Partition,
    (operation, offset): (&Operation, i64),
    asked: &[Commit<'_>],
    end: Option<i64>,
    found: &mut Violations,
) {
    let before = asked
        .iter()
        .filter(|(one, _)| one.invoked < operation.returned);
    let furthest = before.map(|(_, offset)| *offset).max().unwrap_or(-1);
    let mut add = |property, detail| {
        let (time, operations) = (operation.returned, vec![operation.op]);
        found.add(violation(property, time, Some(of), operations, detail));
    };
    if offset > furthest {
        let detail = format!(
            "group {group} has {offset}; the most that was committed at the source is {furthest}"
        );
        add("X4", detail);
    }
    if let Some(end) = end.filter(|end| offset > *end) {
        let detail = format!("group {group} has {offset}; the mirror reaches to {end}");
        add("X7", detail);
    }
}

/// X3.
fn goes_back(
    group: &str,
    of: &Partition,
    answers: &[&Commit<'_>],
    asked: &[Commit<'_>],
    found: &mut Violations,
) {
    let mut highest: Option<&Commit<'_>> = None;
    for answer in answers {
        let (operation, offset) = *answer;
        if let Some((earlier, before)) = highest
            && earlier.returned < operation.invoked
            && offset < before
        {
            let is_asked = asked.iter().any(|(back, to)| {
                let first = asked.iter().filter(|(_, up)| up >= before);
                let first = first.map(|(one, _)| one.invoked).min();
                *to <= *offset
                    && back.invoked < operation.returned
                    && first.is_some_and(|first| back.effect_until() > first)
            });
            if !is_asked {
                let detail = format!(
                    "group {group} goes back from {before} to {offset}, for which nobody asked"
                );
                let operations = vec![earlier.op, operation.op];
                let time = operation.returned;
                found.add(violation("X3", time, Some(of), operations, detail));
            }
        }
        if highest.is_none_or(|(_, before)| offset >= before) {
            highest = Some(answer);
        }
    }
}

/// In the end both clusters tell the same.
fn followed(link: &Link<'_>, group: &str, of: &Partition, found: &mut Violations) {
    let finally = |side: &Side<'_>| {
        let all = answers(side);
        let told = all.get(&(group, of))?.last().copied();
        told.filter(|(operation, _)| side.index.is_final(operation))
            .map(|(operation, offset)| (operation.op, operation.returned, offset))
    };
    let is_active = link
        .told_finally(of)
        .is_some_and(|(_, told)| told.state == "active" && told.fault.is_none());
    if !is_active || has_members(link.target, group) {
        return;
    }
    let (Some((by, _, source)), Some((then, time, target))) =
        (finally(link.source), finally(link.target))
    else {
        return;
    };
    let end = link
        .target
        .ends(of)
        .map_or(i64::MAX, |(_, ends)| ends.log_end_offset);
    // Offsets that were deleted at the source are not deleted here.
    if source >= 0 && source.min(end) != target {
        let detail = format!("group {group} ends at {source} at the source, and at {target} here");
        found.add(violation("X3", time, Some(of), vec![by, then], detail));
    }
}

fn has_members(side: &Side<'_>, group: &str) -> bool {
    let mut operations = side.index.history.operations.iter();
    operations.any(|one| matches!(&one.call, Call::Join(join) if join.group == group))
}
