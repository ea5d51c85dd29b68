//! What a history says of each partition's log, in the form that the checkers here read.

use std::collections::BTreeMap;

use super::clock::Clock;
use super::topics::Topics;
use crate::checker::Options;
use crate::checker::leaders::{Leads, leads};
use crate::history::{
    Answer, Call, Fetched, History, ListedAt, NodeEvent, Note, Operation, Partition, Phase, Wanted,
    Written,
};

/// A record that was acknowledged with acks=all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acked<'a> {
    pub offset: i64,
    pub record: &'a Written,
    pub op: &'a Operation,
    /// -1 where the broker did not tell.
    pub log_append_time: i64,
}

/// An offset that somebody was told, and when it was true: at some time in a span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub offset: i64,
    pub from: u64,
    pub until: u64,
    /// Absent for what a node noted.
    pub op: Option<u64>,
}

/// A log as its node noted it, where there are several copies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted<'a> {
    pub node: &'a str,
    pub start: Told,
    pub end: i64,
}

/// Whether the answer is the broker's, not what a client had in a buffer: that has no ends of the
/// log, and is of some time before.
pub(super) fn is_direct(fetched: &Fetched) -> bool {
    fetched.high_watermark >= 0 || fetched.log_start_offset >= 0
}

/// Everything about one partition's log.
#[derive(Debug, Default)]
pub(super) struct Log<'a> {
    pub acked: Vec<Acked<'a>>,
    /// Records of sends that may have happened, or happened again, at offsets nobody told.
    pub vague: Vec<(&'a Operation, &'a Written)>,
    pub reads: Vec<(&'a Operation, &'a Fetched)>,
    /// DeleteRecords that may have happened, by invocation.
    pub deletes: Vec<&'a Operation>,
    /// Where the log began, as clients were told; where there is one copy, as its node noted, too.
    pub starts: Vec<Told>,
    /// Copies of the log, of which each may begin elsewhere.
    pub copies: Vec<Noted<'a>>,
    pub leads: Leads,
    /// Below the log's end, for certain.
    pub ends: Vec<Told>,
    /// What the final reads covered, and when they were done.
    pub wanted: Option<(u64, &'a Wanted)>,
    /// Invocations of reads from here on are final.
    pub final_from: u64,
    /// Starts of nodes.
    pub restarts: Vec<u64>,
}

/// A partition with what there is to know.
pub(super) struct Seeing<'a> {
    pub of: &'a Partition,
    pub log: &'a Log<'a>,
    pub topics: &'a Topics<'a>,
    pub clock: &'a Clock,
    pub options: Options,
}

impl Seeing<'_> {
    pub fn topic(&self) -> &str {
        &self.of.topic
    }

    pub fn era(&self, op: &Operation) -> Option<usize> {
        self.topics.era(self.topic(), op.invoked, op.returned)
    }

    pub fn era_of(&self, told: &Told) -> Option<usize> {
        self.topics.era(self.topic(), told.from, told.until)
    }
}

pub(super) fn logs(history: &History, options: Options) -> BTreeMap<&Partition, Log<'_>> {
    let mut logs: BTreeMap<&Partition, Log> = BTreeMap::new();
    for op in &history.operations {
        add(&mut logs, op);
    }
    let mut final_from = u64::MAX;
    let mut restarts = Vec::new();
    for (time, node, note) in &history.notes {
        let told = |offset| Told {
            offset,
            from: *time,
            until: *time,
            op: None,
        };
        match note {
            Note::Phase {
                phase: Phase::Final,
            } => final_from = *time,
            Note::Node {
                event: NodeEvent::Start,
            } => restarts.push(*time),
            Note::Log { of, state } => {
                let log = logs.entry(of).or_default();
                match options.replicated {
                    true => log.copies.push(Noted {
                        node,
                        start: told(state.start),
                        end: state.end,
                    }),
                    false => log.starts.push(told(state.start)),
                }
            }
            Note::Ends { ends } => {
                logs.entry(&ends.of).or_default().wanted = Some((*time, ends));
            }
            _ => {}
        }
    }
    for (of, leads) in leads(history) {
        logs.entry(of).or_default().leads = leads;
    }
    for log in logs.values_mut() {
        log.final_from = final_from;
        log.restarts.clone_from(&restarts);
    }
    logs
}

fn add<'a>(logs: &mut BTreeMap<&'a Partition, Log<'a>>, op: &'a Operation) {
    let told = |offset| Told {
        offset,
        from: op.invoked,
        until: op.returned,
        op: Some(op.op),
    };
    match (&op.call, op.answer()) {
        (Call::Send { to, .. }, _) => {
            let log = logs.entry(to).or_default();
            log.send(op);
            if let Some(Answer::Send {
                log_start_offset, ..
            }) = op.answer()
                && *log_start_offset >= 0
            {
                log.starts.push(told(*log_start_offset));
            }
        }
        (Call::Read { .. }, Some(Answer::Read { partitions })) => {
            for fetched in partitions {
                let log = logs.entry(&fetched.of).or_default();
                log.reads.push((op, fetched));
                let is_known = match fetched.error.as_deref() {
                    None | Some("OFFSET_OUT_OF_RANGE") => true,
                    Some(_) => false,
                };
                if is_known && fetched.log_start_offset >= 0 {
                    log.starts.push(told(fetched.log_start_offset));
                }
                if is_known && fetched.high_watermark >= 0 {
                    log.ends.push(told(fetched.high_watermark));
                }
            }
        }
        (Call::ListOffsets { of, at }, Some(Answer::ListOffsets { offset, .. })) => {
            let log = logs.entry(of).or_default();
            match at {
                ListedAt::Earliest if *offset >= 0 => log.starts.push(told(*offset)),
                ListedAt::Latest if *offset >= 0 => log.ends.push(told(*offset)),
                _ => {}
            }
        }
        (Call::DeleteRecords { of, .. }, answer) if !op.failed() => {
            let log = logs.entry(of).or_default();
            log.deletes.push(op);
            if let Some(Answer::DeleteRecords { log_start_offset }) = answer {
                log.starts.push(told(*log_start_offset));
            }
        }
        _ => {}
    }
}

impl<'a> Log<'a> {
    fn send(&mut self, op: &'a Operation) {
        let Call::Send { acks, records, .. } = &op.call else {
            return;
        };
        match op.answer() {
            Some(Answer::Send {
                base_offset,
                log_append_time,
                attempts,
                ..
            }) if *base_offset >= 0 && *acks == -1 => {
                let offsets = *base_offset..;
                let placed = offsets.zip(records).map(|(offset, record)| Acked {
                    offset,
                    record,
                    op,
                    log_append_time: *log_append_time,
                });
                self.acked.extend(placed);
                if !attempts.is_empty() {
                    // An attempt that was given up may come in later.
                    self.vague.extend(records.iter().map(|record| (op, record)));
                }
                let end = base_offset + i64::try_from(records.len()).unwrap_or(0);
                self.ends.push(Told {
                    offset: end,
                    from: op.invoked,
                    until: op.returned,
                    op: Some(op.op),
                });
            }
            _ if op.failed() => {}
            _ => self.vague.extend(records.iter().map(|record| (op, record))),
        }
    }
}
