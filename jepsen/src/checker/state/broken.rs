//! What the run saw broken, and K8: a broker starts on what a crash left.
//!
//! Each note of a broken rule is a violation of the property it names: white-box findings such as
//! CG7 (a coordinator's state is what its log says), K4, K9 and K10 come this way.
//!
//! K8: a node does not refuse to start. A node that had served and gives up later may have had to
//! (a failed sync). Silent once anything was damaged, and in the phase of safety also after any
//! fault of a disk that makes calls fail: a start may have met it.

use std::collections::BTreeSet;

use crate::checker::{Violation, Violations};
use crate::history::{History, Note, NodeEvent, Phase};

/// Properties that notes may name. Another name is kept in the detail.
const PROPERTIES: &[&str] = &[
    "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11", "P12", "P13", "P14", "P15",
    "P16", "P17", "P18", "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R12",
    "R13", "R14", "R15", "R16", "R17", "R18", "CG1", "CG2", "CG3", "CG4", "CG5", "CG6", "CG7",
    "CG8", "CG9", "K1", "K2", "K3", "K4", "K5", "K6", "K7", "K8", "K9", "K10", "V1", "V2", "V3",
    "V4", "V5", "V6", "V7", "V8", "V9", "V10", "H1", "H2", "H3", "H4", "H5",
];

/// Parts of names of faults that make calls of a disk fail.
const DISK_FAULTS: &[&str] = &["fail", "full", "rot", "misdirect", "lose"];

pub(super) fn check(history: &History, violations: &mut Violations) {
    let is_damage = |(_, _, note): &(u64, String, Note)| matches!(note, Note::Damaged { .. });
    let is_damaged = history.notes.iter().any(is_damage);
    let mut phase = Phase::Safety;
    let mut may_fail = false;
    let mut starting: BTreeSet<&str> = BTreeSet::new();
    for (time, process, note) in &history.notes {
        let mut add = |property, detail| {
            violations.add(Violation {
                property,
                time: *time,
                partition: None,
                operations: Vec::new(),
                detail,
            });
        };
        match note {
            Note::Phase { phase: begun } => phase = *begun,
            Note::Fault { kind, .. } => {
                let kind = kind.to_lowercase();
                may_fail |= DISK_FAULTS.iter().any(|fault| kind.contains(fault));
            }
            Note::Broken { property, detail } => {
                let known = PROPERTIES.iter().find(|known| **known == property.as_str());
                match known {
                    Some(known) => add(known, detail.clone()),
                    None => add("BROKEN", format!("{property}: {detail}")),
                }
            }
            Note::Node { event } => match event {
                NodeEvent::Start => {
                    starting.insert(process);
                }
                NodeEvent::Failed(why) => {
                    let is_excused = is_damaged || (may_fail && phase == Phase::Safety);
                    if starting.remove(process.as_str()) && !is_excused {
                        add("K8", format!("{process} refused to start: {why}"));
                    }
                }
                NodeEvent::Pause | NodeEvent::Resume => {}
                _ => {
                    starting.remove(process.as_str());
                }
            },
            _ => {}
        }
    }
}
