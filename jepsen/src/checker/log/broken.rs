//! P18, and every other rule that the run judged itself: what [`Note::Broken`] says is broken, is.
//!
//! P18 is the sanity of the wire: replies in the order of requests, each with the correlation id
//! of one, and no partial batch but at the end of an answer. Clients see it, histories do not.

use crate::checker::{Index, Violation, Violations};
use crate::history::Note;

/// What a rule that is not in [`RULES`] is reported as.
const OTHER: &str = "other";

/// All that `docs/simulation.md` numbers.
#[rustfmt::skip]
const RULES: &[&str] = &[
    "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11a", "P11b", "P12", "P13",
    "P14", "P15", "P16", "P17", "P18",
    "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R12", "R13", "R14",
    "R15", "R16", "R17", "R18",
    "M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", "M9", "M10", "M11", "M12", "M13", "M14",
    "CG1", "CG2", "CG3", "CG4", "CG5", "CG6", "CG7", "CG8", "CG9", "CG10",
    "T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12",
    "K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K10",
    "X1", "X2", "X3", "X4", "X5", "X6", "X7", "X8", "X9", "X10", "X11",
    "V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8", "V9", "V10", "V11",
    "H1", "H2", "H3", "H4", "H5",
];

pub fn check(index: &Index<'_>, found: &mut Violations) {
    for (time, process, note) in &index.history.notes {
        let Note::Broken {
            property,
            detail,
            of,
        } = note
        else {
            continue;
        };
        let rule = RULES.iter().find(|rule| *rule == property).copied();
        let detail = match rule {
            Some(_) => format!("{process}: {detail}"),
            None => format!("{process}: {property}: {detail}"),
        };
        found.add(Violation {
            property: rule.unwrap_or(OTHER),
            time: *time,
            partition: of.clone(),
            operations: Vec::new(),
            detail,
        });
    }
}
