//! Who led a partition of a cluster, and when somebody may have answered who was replaced.
//!
//! A leader that was replaced may not know it for a while, and tells whoever still asks it how its
//! log is. It knows once it notes its log with a later leader epoch; a node that ended leads
//! nothing any more.

use std::collections::BTreeMap;

use crate::history::{NodeEvent, Note, Partition};

/// Where a leader's log began as it began to lead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lead {
    pub time: u64,
    pub start: i64,
}

/// What is known of the leaders of one partition.
#[derive(Debug, Default)]
pub(super) struct Leads {
    /// By time.
    begun: Vec<Lead>,
    /// When somebody who was replaced may have answered: ascending, from and until.
    stale: Vec<(u64, u64)>,
}

impl Leads {
    /// Whether an answer of this span may be that of a leader who had been replaced.
    pub fn may_be_stale(&self, from: u64, until: u64) -> bool {
        let mut spans = self.stale.iter();
        spans.any(|(since, ended)| *since <= until && from <= *ended)
    }

    /// Whether a leader had begun by `time` with a log that begins at exactly `start`: perhaps
    /// nobody else had let go of so much yet.
    pub fn began_at(&self, start: i64, time: u64) -> bool {
        let mut begun = self.begun.iter();
        begun.any(|lead| lead.start == start && lead.time <= time)
    }

    /// Whether a leader had begun by `time` with a log that begins beyond `offset`, and another
    /// began after it, by `later`, with one that does not.
    pub fn fell_back(&self, offset: i64, time: u64, later: u64) -> bool {
        let beyond = self.begun.iter().position(|lead| lead.start > offset);
        let Some(beyond) = beyond.filter(|at| self.begun[*at].time <= time) else {
            return false;
        };
        let mut after = self.begun[beyond..].iter();
        after.any(|lead| lead.start <= offset && lead.time <= later)
    }
}

/// What is known while notes are read.
#[derive(Debug, Default)]
pub(super) struct Leaders<'a>(BTreeMap<&'a Partition, Known<'a>>);

#[derive(Debug, Default)]
struct Known<'a> {
    leads: Leads,
    /// Who believes to lead, and in which epoch.
    believing: BTreeMap<&'a str, i32>,
    latest_epoch: i32,
    stale_since: Option<u64>,
}

impl<'a> Leaders<'a> {
    /// Notes are to come in the order of time.
    pub fn hear(&mut self, time: u64, node: &'a str, note: &'a Note) {
        match note {
            Note::Leading {
                of,
                leader_epoch,
                start,
            } => {
                let known = self.0.entry(of).or_default();
                known.believing.insert(node, *leader_epoch);
                known.latest_epoch = known.latest_epoch.max(*leader_epoch);
                let start = *start;
                known.leads.begun.push(Lead { time, start });
                known.look(time);
            }
            Note::Log { of, state } => {
                let Some(known) = self.0.get_mut(of) else {
                    return;
                };
                let believed = known.believing.get(node);
                if believed.is_some_and(|epoch| *epoch < state.leader_epoch) {
                    known.believing.remove(node);
                    known.look(time);
                }
            }
            Note::Node { event } => match event {
                NodeEvent::Stop
                | NodeEvent::Kill
                | NodeEvent::PowerLoss
                | NodeEvent::Failed(_)
                | NodeEvent::Start => {
                    for known in self.0.values_mut() {
                        known.believing.remove(node);
                        known.look(time);
                    }
                }
                NodeEvent::Ready | NodeEvent::Pause | NodeEvent::Resume => {}
            },
            _ => {}
        }
    }

    pub fn end(self) -> impl Iterator<Item = (&'a Partition, Leads)> {
        let known = self.0.into_iter();
        known.map(|(of, mut known)| {
            if let Some(since) = known.stale_since {
                known.leads.stale.push((since, u64::MAX));
            }
            (of, known.leads)
        })
    }
}

impl Known<'_> {
    fn look(&mut self, time: u64) {
        let latest = self.latest_epoch;
        let is_stale = self.believing.values().any(|epoch| *epoch < latest);
        match (is_stale, self.stale_since) {
            (true, None) => self.stale_since = Some(time),
            (false, Some(since)) => {
                self.leads.stale.push((since, time));
                self.stale_since = None;
            }
            _ => {}
        }
    }
}
