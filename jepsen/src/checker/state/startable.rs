//! K8: a broker starts on what a crash left.
//!
//! A node does not refuse to start. A node that had served and gives up later may have had to
//! (a failed sync). Silent once anything was damaged, and in the phase of safety also after any
//! fault of a disk that makes calls fail: a start may have met it.

use std::collections::BTreeSet;

use crate::checker::{Violation, Violations};
use crate::history::{History, NodeEvent, Note, Phase};

/// Parts of names of faults that make calls of a disk fail.
const DISK_FAULTS: &[&str] = &["fail", "full", "rot", "misdirect", "lose"];

/// Names of faults that change or lose what was synced.
const DAMAGE: &[&str] = &["Rot", "Misdirect", "LoseWrite", "LoseDisk"];

pub(super) fn check(history: &History, violations: &mut Violations) {
    let is_damage = |(_, _, note): &(u64, String, Note)| match note {
        Note::Damaged { .. } => true,
        Note::Fault { kind, .. } => DAMAGE.contains(&kind.as_str()),
        _ => false,
    };
    let is_damaged = history.notes.iter().any(is_damage);
    let mut phase = Phase::Safety;
    let mut may_fail = false;
    let mut starting: BTreeSet<&str> = BTreeSet::new();
    for (time, process, note) in &history.notes {
        match note {
            Note::Phase { phase: begun } => phase = *begun,
            Note::Fault { kind, .. } => {
                let kind = kind.to_lowercase();
                may_fail |= DISK_FAULTS.iter().any(|fault| kind.contains(fault));
            }
            Note::Node { event } => match event {
                NodeEvent::Start => {
                    starting.insert(process);
                }
                NodeEvent::Failed(why) => {
                    let is_excused = is_damaged || (may_fail && phase == Phase::Safety);
                    if starting.remove(process.as_str()) && !is_excused {
                        violations.add(Violation {
                            property: "K8",
                            time: *time,
                            partition: None,
                            operations: Vec::new(),
                            detail: format!("{process} refused to start: {why}"),
                        });
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
