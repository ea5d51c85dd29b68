//! A judgement in lines of text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::judge::Judgement;

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
    let mut broken: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in &judgement.violations {
        *broken.entry(violation.property).or_default() += 1;
        line(&mut text, &format!("  {violation}"));
    }
    for (property, count) in broken {
        line(
            &mut text,
            &format!("  violated: {property} ({count} shown)"),
        );
    }
    text
}

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
