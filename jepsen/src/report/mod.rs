//! What people are told of a judgement.

mod text;

use crate::history::History;
use crate::judge::Judgement;

pub use text::text;

/// The files of a report: names, and what is in them.
#[must_use]
pub fn files(_history: &History, judgement: &Judgement) -> Vec<(String, String)> {
    vec![("report.txt".to_owned(), text(judgement))]
}
