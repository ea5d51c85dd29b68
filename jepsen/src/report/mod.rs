//! What people are told of a judgement: `report.txt`, and `report.html` with a time line of what
//! is wrong. Both are as short as a person can read, however long the history is.

mod page;
mod scene;
#[cfg(test)]
mod tests;
mod text;
mod timeline;
mod words;

use crate::checker::Violation;
use crate::history::History;
use crate::judge::Judgement;
use scene::Scene;

pub use text::text;

/// Violations that are drawn.
const DRAWN_MAX: usize = 12;

/// The files of a report: names, and what is in them. Each time line is a file too.
#[must_use]
pub fn files(history: &History, judgement: &Judgement) -> Vec<(String, String)> {
    let drawn = drawn(judgement);
    let scenes: Vec<(&Violation, Scene<'_>)> = drawn
        .into_iter()
        .map(|violation| (violation, Scene::of(history, violation)))
        .collect();
    let mut whole = text(judgement);
    for (violation, scene) in &scenes {
        whole.push('\n');
        whole.push_str(&text::scene(violation, scene));
    }
    let mut files = vec![
        ("report.txt".to_owned(), whole),
        ("report.html".to_owned(), page::page(judgement, &scenes)),
    ];
    for (number, (violation, scene)) in (1..).zip(&scenes) {
        let name = format!("{number}-{}.svg", violation.property);
        files.push((name, timeline::timeline(scene)));
    }
    files
}

/// The first of each property, then the second of each, as many as are drawn.
fn drawn(judgement: &Judgement) -> Vec<&Violation> {
    let mut seen: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    let numbered = judgement.violations.iter().map(|violation| {
        let earlier = seen.entry(violation.property).or_default();
        *earlier += 1;
        (*earlier, violation)
    });
    let mut numbered: Vec<(usize, &Violation)> = numbered.collect();
    numbered.sort_by_key(|(earlier, _)| *earlier);
    numbered.truncate(DRAWN_MAX);
    numbered
        .into_iter()
        .map(|(_, violation)| violation)
        .collect()
}
