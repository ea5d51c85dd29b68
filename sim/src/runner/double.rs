//! The double run: one plan in two processes that differ in all that no run may depend on.

use std::io::BufRead;

use super::job::Job;
use super::process::Processes;
use super::report::{Report, Verdict};
use super::{Failed, files};

/// Lines shown before the first that differs.
const CONTEXT: usize = 5;

/// Pairs of runs with their traces made to see a difference again: chance may make two alike.
const PAIRS: usize = 5;

/// Carries out `job` a second time in a disturbed process. If what it gives is not what `first`
/// tells, the report becomes one of nondeterminism and shows the first event that differs.
pub(crate) fn compare(processes: &Processes, job: &Job, first: Report) -> Result<Report, Failed> {
    if matches!(first.verdict, Verdict::Timeout | Verdict::Died) {
        return Ok(first);
    }
    let mut again = job.clone();
    (again.trace, again.history, again.disturbed) = (None, None, true);
    let second = processes.run(&again)?;
    if same(&first, &second) {
        return Ok(first);
    }
    let mut report = first;
    report.last = vec![format!(
        "two runs differ: {} with {} events and hash {:016x}, {} with {} events and hash {:016x}",
        report.verdict.name(),
        report.events,
        report.hash,
        second.verdict.name(),
        second.events,
        second.hash,
    )];
    report.verdict = Verdict::Nondeterminism;
    report.last.extend(trace_both(processes, job)?);
    Ok(report)
}

fn same(first: &Report, second: &Report) -> bool {
    let witness = |report: &Report| (report.verdict, report.hash, report.events);
    witness(first) == witness(second) && first.violations == second.violations
}

/// Carries the job out in pairs, with traces, until two differ; says where.
fn trace_both(processes: &Processes, job: &Job) -> Result<Vec<String>, Failed> {
    let dir = files::TemporaryDir::new()?;
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    for _ in 0..PAIRS {
        for (path, disturbed) in [(&one, false), (&other, true)] {
            let mut traced = job.clone();
            traced.history = None;
            traced.trace = Some(path.clone());
            traced.disturbed = disturbed;
            processes.run(&traced)?;
        }
        let difference = first_difference(files::open(&one)?, files::open(&other)?);
        if let Some(difference) = difference.map_err(|error| Failed(error.to_string()))? {
            return Ok(difference);
        }
    }
    Ok(vec![format!(
        "{PAIRS} more pairs of runs had the same trace: what differs is rare, or is not in it"
    )])
}

/// The first line in which two traces differ, after a few that both have; none if they are equal.
pub(crate) fn first_difference(
    one: impl BufRead,
    other: impl BufRead,
) -> std::io::Result<Option<Vec<String>>> {
    let (mut one, mut other) = (one.lines(), other.lines());
    let mut shown: Vec<String> = Vec::new();
    loop {
        let (left, right) = (one.next().transpose()?, other.next().transpose()?);
        if left == right {
            let Some(line) = left else {
                return Ok(None);
            };
            if shown.len() == CONTEXT {
                shown.remove(0);
            }
            shown.push(format!("  {line}"));
            continue;
        }
        let number = [&left, &right]
            .into_iter()
            .flatten()
            .find_map(|line| line.split(' ').next())
            .unwrap_or("1")
            .to_owned();
        shown.insert(
            0,
            format!("the first event that differs is number {number}:"),
        );
        let end = || "(the trace ends)".to_owned();
        shown.push(format!("- {}", left.unwrap_or_else(end)));
        shown.push(format!("+ {}", right.unwrap_or_else(end)));
        return Ok(Some(shown));
    }
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    fn difference(one: &str, other: &str) -> Option<Vec<String>> {
        first_difference(one.as_bytes(), other.as_bytes()).expect("memory can be read")
    }

    #[test]
    fn equal_traces_have_no_difference() {
        assert_eq!(difference("1 a\n2 b\n", "1 a\n2 b\n"), None);
        assert_eq!(difference("", ""), None);
    }

    #[test]
    fn the_first_event_that_differs_is_named_with_those_before_it() {
        let found = difference("1 a\n2 b\n3 c\n", "1 a\n2 b\n3 x\n").expect("they differ");
        let expected = [
            "the first event that differs is number 3:",
            "  1 a",
            "  2 b",
            "- 3 c",
            "+ 3 x",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_trace_that_ends_earlier_differs() {
        let found = difference("1 a\n", "1 a\n2 b\n").expect("they differ");
        assert_eq!(found[0], "the first event that differs is number 2:");
        assert_eq!(found[2..], ["- (the trace ends)", "+ 2 b"]);
    }
}
