//! A judgement in lines of text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::scene::Scene;
use super::words;
use crate::checker::Violation;
use crate::judge::Judgement;

/// Violations that are listed.
const LISTED_MAX: usize = 30;

/// Verdict, operations by kind and ending, faults, and each violation.
#[must_use]
pub fn text(judgement: &Judgement) -> String {
    let mut text = format!("{}\n", judgement.verdict().name());
    operations(judgement, &mut text);
    let summary = &judgement.summary;
    let (acknowledged, read) = (summary.records_acknowledged, summary.records_read);
    line(
        &mut text,
        &format!("  records: {acknowledged} acknowledged, {read} read"),
    );
    if !summary.faults.is_empty() {
        let faults: Vec<String> = summary
            .faults
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        line(&mut text, &format!("  faults: {}", faults.join(", ")));
    }
    if let Some(why) = &judgement.vacuous {
        line(&mut text, &format!("  it proves nothing: {why}"));
    }
    for what in &judgement.undecided {
        line(&mut text, &format!("  not decided: {what}"));
    }
    violations(judgement, &mut text);
    text
}

fn violations(judgement: &Judgement, text: &mut String) {
    let mut broken: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in &judgement.violations {
        *broken.entry(violation.property).or_default() += 1;
    }
    if broken.is_empty() {
        line(text, "  violated: none of the properties");
    }
    for (property, count) in &broken {
        let what = meaning(property);
        line(
            text,
            &format!("  violated {property} {count} times: {what}"),
        );
    }
    for violation in judgement.violations.iter().take(LISTED_MAX) {
        line(text, &format!("    {violation}"));
    }
    let left_out = judgement.violations.len().saturating_sub(LISTED_MAX) + judgement.dropped;
    if left_out > 0 {
        line(text, &format!("    and {left_out} more"));
    }
}

/// A violation, the operations that contradict each other, and what was around them.
pub(super) fn scene(violation: &Violation, scene: &Scene<'_>) -> String {
    let what = meaning(violation.property);
    let mut text = format!("{violation}\n  {}: {what}\n", violation.property);
    for operation in &scene.operations {
        if scene.offending.contains(&operation.op) {
            let sentence = words::sentence(operation, &scene.records);
            line(&mut text, &format!("  {sentence}"));
        }
    }
    for (time, who, note) in &scene.notes {
        if let Some(what) = words::note(note) {
            let time = words::seconds(*time);
            line(&mut text, &format!("  {time} {who}: {what}"));
        }
    }
    text
}

/// The name of the anomaly.
pub(super) fn meaning(property: &str) -> &'static str {
    let known = MEANINGS.iter().find(|(id, _)| *id == property);
    known.map_or("see docs/simulation.md", |(_, what)| *what)
}

/// What breaking a property is called: Jepsen's names where it has one.
const MEANINGS: &[(&str, &str)] = &[
    ("P1", "inconsistent offsets: two records at one offset"),
    (
        "P2",
        "lost write: a record that must be there was passed over",
    ),
    (
        "P3",
        "unseen: a record that must be there is not, at the end",
    ),
    (
        "P4",
        "duplicate: a record at more offsets than it was sent times",
    ),
    ("P5", "phantom: a record that nobody can have put there"),
    ("P6", "poll skip within an answer: records left out"),
    (
        "P7",
        "nonmonotonic poll within an answer: offsets do not rise",
    ),
    ("P8", "poll skip: records left out between two answers"),
    ("P9", "nonmonotonic poll: a consumer went back"),
    (
        "P10",
        "nonmonotonic send: a producer's later record lies before its earlier",
    ),
    ("P11a", "a batch out of order"),
    ("P11b", "a batch torn apart"),
    ("P12", "an append out of real-time order"),
    ("P13", "a stale read after all was healed"),
    (
        "P14",
        "offsets or watermarks that went back, or a wrong look-up by time",
    ),
    ("P15", "a record that is not as it was sent"),
    ("P16", "an acknowledgement that does not tell the truth"),
    ("P17", "a read at or above the high watermark"),
    ("P18", "answers in the wrong order or not whole"),
    ("CG1", "two members own one partition at once"),
    ("CG2", "a generation that went back"),
    ("CG3", "a fenced member had an effect"),
    (
        "CG4",
        "a committed offset that went back, or came from nowhere",
    ),
    ("CG5", "a committed offset that was lost"),
    ("CG6", "a stable group that does not assign everything once"),
    ("CG8", "a group that does not settle"),
    (
        "CG9",
        "a static member whose return made a rebalance, or who was fenced wrongly or not at all",
    ),
    (
        "M14",
        "topics or settings that no single copy of the metadata can have told",
    ),
    ("X1", "a mirror that does not hold what its source holds"),
    ("X2", "records of a mirror in another order"),
    (
        "X3",
        "an offset that went back, or was left behind, on its way over a link",
    ),
    (
        "X4",
        "an offset over a link beyond what was read at the source",
    ),
    ("X5", "a topic that a link brought home"),
    (
        "X6",
        "a mirror with other partitions or settings than its source",
    ),
    ("X7", "an offset over a link beyond what was copied"),
    ("X8", "a mirror with records of two topics of one name"),
    ("X10", "a mirror that does not say that its source is gone"),
    ("X11", "a promotion that told of another end"),
];

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn operations(judgement: &Judgement, text: &mut String) {
    let operations = &judgement.summary.operations;
    if operations.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "  {:<18}{:>10}{:>10}{:>10}",
        "operations", "ok", "fail", "info"
    );
    for (kind, counts) in operations {
        let (ok, fail, info) = (counts.ok, counts.fail, counts.info);
        let _ = writeln!(text, "  {kind:<18}{ok:>10}{fail:>10}{info:>10}");
    }
}
