//! How much of a history there is: a check of a run in which nothing worked proves nothing.

use std::collections::BTreeMap;

use super::{Answer, Call, Ending, History, NodeEvent, Note};

/// Operations of one kind, by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub ok: u64,
    pub fail: u64,
    /// Those whose end nobody knows.
    pub info: u64,
}

/// What a history holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// By [`Call::kind`].
    pub operations: BTreeMap<&'static str, Counts>,
    /// Records of sends that worked.
    pub records_acknowledged: u64,
    /// Records returned by reads, each as often as it was.
    pub records_read: u64,
    /// What the nemesis did, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Starts of nodes that became ready.
    pub ready: u64,
    pub kills: u64,
    pub power_losses: u64,
}

impl Summary {
    /// Operations of all kinds.
    #[must_use]
    pub fn all(&self) -> Counts {
        let mut all = Counts::default();
        for counts in self.operations.values() {
            all.ok += counts.ok;
            all.fail += counts.fail;
            all.info += counts.info;
        }
        all
    }
}

/// Counts what is in `history`.
#[must_use]
pub fn summary(history: &History) -> Summary {
    let mut summary = Summary::default();
    for operation in &history.operations {
        let counts = summary.operations.entry(operation.call.kind()).or_default();
        match &operation.ending {
            Ending::Ok(_) => counts.ok += 1,
            Ending::Fail(_) => counts.fail += 1,
            Ending::Unknown(_) => counts.info += 1,
        }
        match (&operation.call, operation.answer()) {
            (Call::Send { records, .. }, Some(_)) => {
                summary.records_acknowledged += records.len() as u64;
            }
            (_, Some(Answer::Read { partitions })) => {
                let read = partitions
                    .iter()
                    .map(|fetched| fetched.records.len() as u64);
                summary.records_read += read.sum::<u64>();
            }
            _ => {}
        }
    }
    for (_, _, note) in &history.notes {
        match note {
            Note::Fault { kind, .. } => *summary.faults.entry(kind.clone()).or_default() += 1,
            Note::Node { event } => match event {
                NodeEvent::Ready => summary.ready += 1,
                NodeEvent::Kill => summary.kills += 1,
                NodeEvent::PowerLoss => summary.power_losses += 1,
                _ => {}
            },
            _ => {}
        }
    }
    summary
}
