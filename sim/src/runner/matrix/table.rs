//! The table of mutants in Markdown.

use std::collections::BTreeMap;

use super::Found;
use crate::runner::Failed;
use crate::runner::mutants::Mutant;

/// What the searches for one mutant gave.
#[derive(Debug)]
pub(crate) struct Row {
    mutant: Mutant,
    /// Runs that each search took; none where it failed. Sorted, with those that failed at the end.
    after: Vec<Option<u64>>,
    by: BTreeMap<String, u64>,
    unexpected: BTreeMap<String, u64>,
}

impl Row {
    pub(crate) fn new(mutant: Mutant) -> Self {
        Self {
            mutant,
            after: Vec::new(),
            by: BTreeMap::new(),
            unexpected: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, found: Found) {
        self.after.push(found.after);
        self.after.sort_by_key(|after| after.unwrap_or(u64::MAX));
        for name in found.by {
            *self.by.entry(name).or_default() += 1;
        }
        for (name, count) in found.unexpected {
            *self.unexpected.entry(name).or_default() += count;
        }
    }

    /// Searches that did not find it.
    pub(crate) fn missed(&self) -> usize {
        self.after.iter().filter(|after| after.is_none()).count()
    }

    /// Runs after which `percent` of the searches had found it, by nearest rank.
    fn percentile(&self, percent: usize) -> String {
        let rank = (self.after.len() * percent).div_ceil(100).max(1);
        match self.after.get(rank - 1) {
            Some(Some(after)) => after.to_string(),
            _ => "-".to_owned(),
        }
    }
}

fn names(of: &BTreeMap<String, u64>) -> String {
    let mut names: Vec<(&String, &u64)> = of.iter().collect();
    names.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
    let names: Vec<String> = names
        .into_iter()
        .map(|(name, count)| format!("{name} ({count})"))
        .collect();
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(", ")
    }
}

/// The whole table. Ends with a line feed.
pub(crate) fn table(rows: &[Row], max_seeds: u64, rounds: u64) -> String {
    let mut text = format!(
        "Runs until the mutant was found, in {rounds} searches of at most {max_seeds} runs with \
         seeds of their own; `-` where it was not.\n\n\
         | Mutant | What it does | Must break | Broke (searches) | p50 | p95 | Not found | \
         Beside that (runs) |\n|---|---|---|---|---:|---:|---:|---|\n"
    );
    for row in rows {
        let Mutant {
            name,
            about,
            expected,
        } = row.mutant;
        text.push_str(&format!(
            "| `{name}` | {} | {} | {} | {} | {} | {} of {} | {} |\n",
            about.replace('|', "\\|"),
            expected.join(", "),
            names(&row.by),
            row.percentile(50),
            row.percentile(95),
            row.missed(),
            row.after.len(),
            names(&row.unexpected),
        ));
    }
    text
}

/// The file with `table` in place of what was between the marks for these mutants.
pub(crate) fn between_marks(text: &str, mutants: &str, table: &str) -> Result<String, Failed> {
    let mark = |what: &str| format!("<!-- mutants {mutants}: {what} -->");
    let (first, last) = (mark("begin"), mark("end"));
    let begin = text.find(&first).map(|at| at + first.len());
    let end = text.find(&last);
    match (begin, end) {
        (Some(begin), Some(end)) if begin <= end => {
            let (before, after) = (&text[..begin], &text[end..]);
            Ok(format!("{before}\n\n{table}\n{after}"))
        }
        _ => Err(Failed(format!("no `{first}` with `{last}` behind it"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Row, between_marks, table};
    use crate::runner::matrix::Found;
    use crate::runner::mutants::Mutant;

    fn row(after: &[Option<u64>]) -> Row {
        let mut row = Row::new(Mutant {
            name: "acks-early",
            about: "answers before the sync",
            expected: &["P2"],
        });
        for after in after {
            row.add(Found {
                after: *after,
                by: after.iter().map(|_| "P2".to_owned()).collect(),
                unexpected: [("P9".to_owned(), 2)].into(),
            });
        }
        row
    }

    #[test]
    fn a_row_says_how_long_the_searches_took() {
        let text = table(
            &[row(&[Some(9), Some(2), Some(4), Some(5), Some(3)])],
            200,
            5,
        );
        let line = text.lines().last().expect("a row");
        let end = "| P2 | P2 (5) | 4 | 9 | 0 of 5 | P9 (10) |";
        assert!(
            line.starts_with("| `acks-early` | ") && line.ends_with(end),
            "{line}"
        );
    }

    #[test]
    fn a_search_that_found_nothing_counts_as_the_longest() {
        let row = row(&[None, Some(2), Some(4)]);
        assert_eq!((row.missed(), row.percentile(50).as_str()), (1, "4"));
        assert_eq!(row.percentile(95), "-");
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = "a\n<!-- mutants all: begin -->\nold\n<!-- mutants all: end -->\nb\n";
        let once = between_marks(text, "all", "new\n").expect("it has marks");
        let expected = "a\n<!-- mutants all: begin -->\n\nnew\n\n<!-- mutants all: end -->\nb\n";
        assert_eq!(once, expected);
        assert_eq!(
            between_marks(&once, "all", "new\n").expect("it has marks"),
            expected
        );
        assert!(between_marks(&once, "clusters", "new\n").is_err());
    }
}
