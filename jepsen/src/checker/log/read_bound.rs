//! P17: nothing is read at or above the high watermark.
//!
//! White box: judged by the states of the log that the run noted ([`Note::Log`]). When a read
//! ended, a state with a high watermark above each record it returned had been noted. States of
//! an instant that overlaps a deletion of the topic count for the eras on both sides. Silent for
//! partitions without such notes.

use std::collections::BTreeMap;

use crate::checker::index::rising;
use crate::checker::{Index, Violation, Violations};
use crate::history::{Note, Partition};

pub fn check(index: &Index<'_>, found: &mut Violations) {
    let mut noted: BTreeMap<&Partition, Vec<(u64, i64)>> = BTreeMap::new();
    for (time, _, note) in &index.history.notes {
        if let Note::Log { of, state } = note {
            let states = noted.entry(of).or_default();
            states.push((*time, state.high_watermark));
        }
    }
    for log in &index.logs {
        let Some(states) = noted.get(log.of) else {
            continue;
        };
        let topic = index.topic(&log.of.topic);
        let is_its = |time: u64| topic.era(time, time).is_none_or(|era| era == log.era);
        let states = states.iter().filter(|state| is_its(state.0));
        let highest = rising(states.copied().collect());
        for poll in log.polls.iter().map(|at| &index.polls[*at]) {
            let Some(last) = poll.fetched.records.iter().map(|seen| seen.offset).max() else {
                continue;
            };
            let time = poll.operation.returned;
            let after = highest.partition_point(|(at, _)| *at <= time);
            let bound = after.checked_sub(1).map_or(0, |at| highest[at].1);
            if last < bound {
                continue;
            }
            found.add(Violation {
                property: "P17",
                time,
                partition: Some(log.of.clone()),
                operations: vec![poll.operation.op],
                detail: format!("offset {last} was read, and the high watermark was {bound}"),
            });
        }
    }
}
