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

    /// Whether its mutant is one of these.
    pub(crate) fn is_of(&self, mutants: &[Mutant]) -> bool {
        mutants.iter().any(|mutant| mutant.name == self.mutant.name)
    }

    /// Searches that did not find it.
    pub(crate) fn missed(&self) -> usize {
        self.after.iter().filter(|after| after.is_none()).count()
    }

    /// Runs after which `percent` of the searches had found it, by nearest rank.
    fn percentile(&self, percent: usize, max_seeds: u64) -> String {
        let rank = (self.after.len() * percent).div_ceil(100).max(1);
        match self.after.get(rank - 1) {
            Some(Some(after)) => after.to_string(),
            _ => format!("> {max_seeds}"),
        }
    }

    /// Its line. Ends with a line feed.
    fn line(&self, searched: &Searched) -> String {
        let Mutant {
            name,
            about,
            expected,
        } = self.mutant;
        format!(
            "{}{} | {} | {} | {} | {} | {} of {} | {} | {} |\n",
            start(name),
            about.replace('|', "\\|"),
            expected.join(", "),
            names(&self.by),
            self.percentile(50, searched.max_seeds),
            self.percentile(95, searched.max_seeds),
            self.missed(),
            self.after.len(),
            searched.scenarios,
            names(&self.unexpected),
        )
    }
}

/// What the searches of all rows have in common.
#[derive(Debug)]
pub(crate) struct Searched {
    pub(crate) max_seeds: u64,
    /// As they were asked for.
    pub(crate) scenarios: String,
}

/// How the line of a mutant begins.
fn start(name: &str) -> String {
    format!("| `{name}` | ")
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

const HEAD: &str = "\
| Mutant | What it does | Must break | Broke (searches) | p50 | p95 | Not found | In | \
Beside that (runs) |
|---|---|---|---|---:|---:|---:|---|---|
";

/// The table of these mutants, in their order: of each the row if there is one, or else the line
/// that `before` has of it. Ends with a line feed.
pub(crate) fn table(mutants: &[Mutant], rows: &[Row], searched: &Searched, before: &str) -> String {
    let mut text = HEAD.to_owned();
    for mutant in mutants {
        let row = rows.iter().find(|row| row.mutant.name == mutant.name);
        let start = start(mutant.name);
        let kept = before.lines().find(|line| line.starts_with(&start));
        match (row, kept) {
            (Some(row), _) => text.push_str(&row.line(searched)),
            (None, Some(line)) => text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    text
}

/// Where the text between the marks for the mutants of this kind begins and ends.
fn marked(text: &str, kind: &str) -> Result<(usize, usize), Failed> {
    let mark = |what: &str| format!("<!-- mutants {kind}: {what} -->");
    let (first, last) = (mark("begin"), mark("end"));
    let begin = text.find(&first).map(|at| at + first.len());
    match (begin, text.find(&last)) {
        (Some(begin), Some(end)) if begin <= end => Ok((begin, end)),
        _ => Err(Failed(format!("no `{first}` with `{last}` behind it"))),
    }
}

/// The file with these rows in its table of the mutants of this kind, which are `mutants`. What it
/// says of others of them stays.
pub(crate) fn written(
    text: &str,
    kind: &str,
    mutants: &[Mutant],
    rows: &[Row],
    searched: &Searched,
) -> Result<String, Failed> {
    let (begin, end) = marked(text, kind)?;
    let table = table(mutants, rows, searched, &text[begin..end]);
    Ok(format!("{}\n\n{table}\n{}", &text[..begin], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::{Row, Searched, table, written};
    use crate::runner::matrix::Found;
    use crate::runner::mutants::Mutant;

    const MUTANT: Mutant = Mutant {
        name: "acks-early",
        about: "answers before the sync",
        expected: &["P2"],
    };
    const OTHER: Mutant = Mutant {
        name: "acks",
        ..MUTANT
    };

    fn searched() -> Searched {
        Searched {
            max_seeds: 200,
            scenarios: "power, disk".to_owned(),
        }
    }

    fn row(after: &[Option<u64>]) -> Row {
        let mut row = Row::new(MUTANT);
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
        let row = row(&[Some(9), Some(2), Some(4), Some(5), Some(3)]);
        let text = table(&[MUTANT], &[row], &searched(), "");
        let line = text.lines().last().expect("a row");
        let end = "| P2 | P2 (5) | 4 | 9 | 0 of 5 | power, disk | P9 (10) |";
        assert!(
            line.starts_with("| `acks-early` | ") && line.ends_with(end),
            "{line}"
        );
    }

    #[test]
    fn a_search_that_found_nothing_counts_as_the_longest() {
        let row = row(&[None, Some(2), Some(4)]);
        assert_eq!((row.missed(), row.percentile(50, 200).as_str()), (1, "4"));
        assert_eq!(row.percentile(95, 200), "> 200");
    }

    #[test]
    fn only_the_rows_that_are_new_are_replaced() {
        let text = "a\n<!-- mutants all: begin -->\n| `acks` | old\n| `acks-early` | old\n\
                    | `gone` | old\n<!-- mutants all: end -->\nb\n";
        let mutants = [OTHER, MUTANT];
        let write = |text: &str, rows: &[Row]| written(text, "all", &mutants, rows, &searched());
        let once = write(text, &[row(&[Some(1)])]).expect("it has marks");
        assert!(once.starts_with("a\n<!-- mutants all: begin -->\n\n| Mutant |"));
        assert!(once.ends_with(" |\n\n<!-- mutants all: end -->\nb\n"));
        assert!(once.contains("\n| `acks` | old\n| `acks-early` | answers"));
        assert!(!once.contains("gone"));
        assert_eq!(write(&once, &[]).expect("it has marks"), once);
        assert!(written(&once, "clusters", &mutants, &[], &searched()).is_err());
    }
}
