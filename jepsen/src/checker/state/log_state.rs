//! R5, R8 and R10: a log's own offsets.
//!
//! Of each state that a node notes of a log:
//!
//! - R10: `start <= high_watermark <= end` and `recovery_point <= end`;
//! - R5: from one start of the node to the next, neither the high watermark nor the recovery point
//!   falls, and by R10 the end stays above both: nothing visible or durable is truncated without
//!   another replica. What lies beyond may go: after a failed write or sync a log falls back to
//!   what is durable. So it is not seen when a log cuts off, without need, what is neither;
//! - R5: the first state after a start ends where everything is that was acknowledged with acks=all
//!   before that start, and not below any high watermark noted before: what was visible was
//!   durable;
//! - R8: the leader epoch never falls.
//!
//! Where partitions have copies a follower cuts off what its leader does not have, and one that is
//! not in sync may have less than it showed after a start: of R5 then only the first rule is
//! judged, for the high watermark, within a leader epoch, and of a log that is not empty: one that
//! is damaged and counts for nothing is emptied to be copied anew. What must survive is known to no
//! single node. One that hears late of deletions makes the log of an earlier era after those who
//! asked have gone on to the next: an empty log of a topic that was deleted may be another one.
//!
//! That the start never falls is K6. All within one era of the topic. Silent on damaged partitions;
//! on topics that may lose what they showed, what crosses a start is not judged.

use std::collections::BTreeMap;

use crate::checker::cleaning::Topics;
use crate::checker::{Options, Violation, Violations};
use crate::history::{Answer, Call, History, LogState, NodeEvent, Note, Operation, Partition};

/// What is known of a log of one node in one era.
#[derive(Debug, Default)]
struct Known {
    /// Since the node's last start.
    latest: Option<LogState>,
    /// The highest of before.
    high_watermark: i64,
    /// How often the node had started when the last state was noted.
    start: u64,
}

/// Ends of acknowledged batches, by return, each with the highest up to it.
type Acked<'a> = BTreeMap<&'a Partition, Vec<(u64, i64, &'a Operation)>>;

pub(super) fn check(history: &History, options: Options, violations: &mut Violations) {
    let topics = Topics::of(history);
    let acked = acked(history);
    let mut known: BTreeMap<(&str, &Partition, usize), Known> = BTreeMap::new();
    // Of each node the number of its starts and the last one's time.
    let mut starts: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (time, node, note) in &history.notes {
        match note {
            Note::Node {
                event: NodeEvent::Start,
            } => {
                let (count, at) = starts.entry(node).or_default();
                (*count, *at) = (*count + 1, *time);
            }
            Note::Log { of, state } => {
                let Some(era) = topics.era(&of.topic, *time, *time) else {
                    continue;
                };
                if topics.is_damaged(of) {
                    continue;
                }
                let known = known.entry((node, of, era)).or_default();
                let (start, started_at) = starts.get(node.as_str()).copied().unwrap_or_default();
                known.enter(start);
                let is_empty = (state.start, state.end, state.high_watermark) == (0, 0, 0);
                if options.replicated && is_empty && !topics.is_never_deleted(&of.topic) {
                    known.latest = None;
                }
                let mut found = known.judge(state, options.replicated);
                let is_first = known.latest.is_none() && !options.replicated;
                if is_first && !topics.is_loose(&of.topic) {
                    found.extend(known.forgot(state));
                    found.extend(lost(state, of, started_at, era, &topics, &acked));
                }
                known.latest = Some(*state);
                for (property, operations, detail) in found {
                    violations.add(Violation {
                        property,
                        time: *time,
                        partition: Some(of.clone()),
                        operations,
                        detail: format!("{node}: {detail}"),
                    });
                }
            }
            _ => {}
        }
    }
}

type Found = (&'static str, Vec<u64>, String);

impl Known {
    /// A state of after the node's `start`th start comes.
    fn enter(&mut self, start: u64) {
        if self.start != start
            && let Some(latest) = self.latest.take()
        {
            self.high_watermark = self.high_watermark.max(latest.high_watermark);
        }
        self.start = start;
    }

    fn judge(&self, state: &LogState, is_replicated: bool) -> Vec<Found> {
        let mut found = Vec::new();
        let is_in_order = state.start <= state.high_watermark
            && state.high_watermark <= state.end
            && state.recovery_point <= state.end;
        if !is_in_order {
            found.push(("R10", Vec::new(), format!("out of order: {state:?}")));
        }
        let Some(before) = &self.latest else {
            return found;
        };
        let falls = [
            (
                "R5",
                "high watermark",
                before.high_watermark,
                state.high_watermark,
            ),
            (
                "R5",
                "recovery point",
                before.recovery_point,
                state.recovery_point,
            ),
            (
                "R8",
                "leader epoch",
                i64::from(before.leader_epoch),
                i64::from(state.leader_epoch),
            ),
        ];
        let is_other_epoch = before.leader_epoch != state.leader_epoch;
        let is_emptied = state.start == state.end;
        for (property, what, from, to) in falls {
            let may_fall = is_replicated
                && match what {
                    "recovery point" => true,
                    "high watermark" => is_other_epoch || is_emptied,
                    _ => false,
                };
            if to < from && !may_fall {
                found.push((
                    property,
                    Vec::new(),
                    format!("the {what} fell from {from} to {to}"),
                ));
            }
        }
        found
    }

    /// After a start: what was visible is not there.
    fn forgot(&self, state: &LogState) -> Option<Found> {
        let was = self.high_watermark;
        (state.end < was).then(|| {
            let end = state.end;
            let detail = format!("the log ends at {end} after a start; {was} had been visible");
            ("R5", Vec::new(), detail)
        })
    }
}

fn lost(
    state: &LogState,
    of: &Partition,
    started_at: u64,
    era: usize,
    topics: &Topics,
    acked: &Acked,
) -> Option<Found> {
    let acked = acked.get(of)?;
    let before = acked.partition_point(|(returned, ..)| *returned < started_at);
    let (_, end, op) = acked[..before].last()?;
    let is_same = topics.era(&of.topic, op.invoked, op.returned) == Some(era);
    (is_same && state.end < *end).then(|| {
        let detail = format!(
            "the log ends at {} after a start; records up to {end} had been acknowledged",
            state.end
        );
        ("R5", vec![op.op], detail)
    })
}

fn acked(history: &History) -> Acked<'_> {
    let mut acked: Acked = BTreeMap::new();
    for op in &history.operations {
        if let Call::Send {
            to,
            acks: -1,
            records,
            ..
        } = &op.call
            && let Some(Answer::Send { base_offset, .. }) = op.answer()
            && *base_offset >= 0
        {
            let end = base_offset + i64::try_from(records.len()).unwrap_or(0);
            acked.entry(to).or_default().push((op.returned, end, op));
        }
    }
    for ends in acked.values_mut() {
        ends.sort_by_key(|(returned, ..)| *returned);
        let mut highest: Option<(i64, &Operation)> = None;
        for (_, end, op) in ends {
            match highest {
                Some((most, by)) if most >= *end => (*end, *op) = (most, by),
                _ => highest = Some((*end, *op)),
            }
        }
    }
    acked
}
