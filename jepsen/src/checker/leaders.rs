//! Who led a partition of a cluster, and when somebody may have answered who was replaced.
//!
//! A leader that was replaced may not know it for a while, and tells whoever still asks it how its
//! log is. It knows once it notes its log with a later leader epoch, or lets go of it; a node that
//! ended leads nothing any more. A topic that was deleted and made again has another leader in an
//! epoch that was had before: whoever led until then is replaced. So it is with who led as the
//! topic was deleted, also where nobody leads its successor yet: the successor may even be meant
//! for the same node, which has heard of neither.
//!
//! A node that leads again has the same copy of the log as before, unless it ended or let go of it
//! in between, or noted a log that ends before what it once showed.

use std::collections::BTreeMap;

use crate::history::{Call, Ending, History, NodeEvent, Note, Operation, Partition};

/// Where a leader's log began as it began to lead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lead {
    pub time: u64,
    pub start: i64,
    /// Which copy of the log it leads with: each has a number of its own.
    copy: u64,
}

/// What is known of the leaders of one partition.
#[derive(Debug, Default)]
pub(super) struct Leads {
    /// By time.
    begun: Vec<Lead>,
    /// When somebody who was replaced may have answered: ascending, from and until.
    stale: Vec<(u64, u64)>,
    /// When somebody may have answered for a topic that was deleted: likewise.
    outlived: Vec<(u64, u64)>,
}

/// Whether one of `spans` has a time in common with that of an answer.
fn meets(spans: &[(u64, u64)], from: u64, until: u64) -> bool {
    let mut spans = spans.iter();
    spans.any(|(since, ended)| *since <= until && from <= *ended)
}

impl Leads {
    /// Whether an answer of this span may be that of a leader who had been replaced.
    pub fn may_be_stale(&self, from: u64, until: u64) -> bool {
        meets(&self.stale, from, until)
    }

    /// Whether an answer of this span may be that of the leader of a topic that was deleted.
    pub fn may_be_outlived(&self, from: u64, until: u64) -> bool {
        meets(&self.outlived, from, until)
    }

    /// Out of which copy of the log an answer of this span came; `None` where that is not certain.
    pub fn copy_answering(&self, from: u64, until: u64) -> Option<u64> {
        let begun = self.begun.partition_point(|lead| lead.time <= from);
        let lead = self.begun[..begun].last()?;
        let mut later = self.begun[begun..].iter();
        let is_replaced = later.next().is_some_and(|next| next.time <= until);
        (!is_replaced && !self.may_be_stale(from, until)).then_some(lead.copy)
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
struct Leaders<'a>(BTreeMap<&'a Partition, Known<'a>>);

#[derive(Debug, Default)]
struct Known<'a> {
    leads: Leads,
    /// Who believes to lead.
    believing: BTreeMap<&'a str, Belief>,
    /// How often epochs began anew.
    era: u32,
    /// Who led last, and in which epoch.
    latest: Option<(&'a str, i32)>,
    stale_since: Option<u64>,
    outlived_since: Option<u64>,
    copies: Copies<'a>,
}

/// The copies of a log that nodes have, each with the furthest that it showed.
#[derive(Debug, Default)]
struct Copies<'a> {
    known: BTreeMap<&'a str, (u64, i64)>,
    last: u64,
}

impl<'a> Copies<'a> {
    fn of(&mut self, node: &'a str) -> u64 {
        let last = &mut self.last;
        let copy = self.known.entry(node).or_insert_with(|| {
            *last += 1;
            (*last, 0)
        });
        copy.0
    }

    fn forget(&mut self, node: &str) {
        self.known.remove(node);
    }

    /// The node's copy ends there now, and shows what is below a high watermark.
    fn ends(&mut self, node: &'a str, end: i64, high_watermark: i64) {
        if self.known.get(node).is_some_and(|(_, shown)| end < *shown) {
            self.forget(node);
        }
        self.of(node);
        if let Some((_, shown)) = self.known.get_mut(node) {
            *shown = high_watermark.max(*shown);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Belief {
    era: u32,
    epoch: i32,
    /// Whether the topic has been deleted since.
    is_doomed: bool,
}

/// Of every partition that a node of this history led.
pub(super) fn leads(history: &History) -> BTreeMap<&Partition, Leads> {
    let mut leaders = Leaders::default();
    let operations = history.operations.iter();
    let mut deletions = operations.filter_map(deleted).peekable();
    for (time, node, note) in &history.notes {
        while let Some((topic, at)) = deletions.next_if(|(_, at)| at <= time) {
            leaders.delete(topic, at);
        }
        leaders.hear(*time, node, note);
    }
    for (topic, at) in deletions {
        leaders.delete(topic, at);
    }
    leaders.end().collect()
}

/// A topic that was deleted, and from when on it may have been gone.
fn deleted(op: &Operation) -> Option<(&str, u64)> {
    match (&op.call, &op.ending) {
        (Call::DeleteTopic { topic }, Ending::Ok(_)) => Some((topic, op.invoked)),
        _ => None,
    }
}

impl<'a> Leaders<'a> {
    fn delete(&mut self, topic: &str, time: u64) {
        let known = self.0.iter_mut().filter(|(of, _)| of.topic == topic);
        for (_, known) in known {
            for belief in known.believing.values_mut() {
                belief.is_doomed = true;
            }
            known.look(time);
        }
    }

    /// Notes are to come in the order of time.
    fn hear(&mut self, time: u64, node: &'a str, note: &'a Note) {
        match note {
            Note::Leading {
                of,
                leader_epoch,
                start,
            } => {
                let known = self.0.entry(of).or_default();
                known.begin(node, *leader_epoch);
                let (start, copy) = (*start, known.copies.of(node));
                known.leads.begun.push(Lead { time, start, copy });
                known.look(time);
            }
            Note::Log { of, state } => {
                let known = self.0.entry(of).or_default();
                known.copies.ends(node, state.end, state.high_watermark);
                let believed = known.believing.get(node);
                if believed.is_some_and(|believed| believed.epoch < state.leader_epoch) {
                    known.believing.remove(node);
                    known.look(time);
                }
            }
            Note::Closed { of } => {
                if let Some(known) = self.0.get_mut(of) {
                    known.believing.remove(node);
                    known.copies.forget(node);
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
                        known.copies.forget(node);
                        known.look(time);
                    }
                }
                NodeEvent::Ready | NodeEvent::Pause | NodeEvent::Resume => {}
            },
            _ => {}
        }
    }

    fn end(self) -> impl Iterator<Item = (&'a Partition, Leads)> {
        let known = self.0.into_iter();
        known.map(|(of, mut known)| {
            if let Some(since) = known.stale_since {
                known.leads.stale.push((since, u64::MAX));
            }
            if let Some(since) = known.outlived_since {
                known.leads.outlived.push((since, u64::MAX));
            }
            (of, known.leads)
        })
    }
}

impl<'a> Known<'a> {
    fn begin(&mut self, node: &'a str, epoch: i32) {
        let is_had =
            |(leader, latest): (&str, i32)| epoch < latest || (epoch == latest && leader != node);
        if self.latest.is_some_and(is_had) {
            self.era += 1;
        }
        self.latest = Some((node, epoch));
        let belief = Belief {
            era: self.era,
            epoch,
            is_doomed: false,
        };
        self.believing.insert(node, belief);
    }

    fn look(&mut self, time: u64) {
        let latest = (self.era, self.latest.map_or(0, |(_, epoch)| epoch));
        let believing = || self.believing.values();
        let is_outlived = believing().any(|belief| belief.is_doomed || belief.era < self.era);
        let is_replaced = believing().any(|belief| (belief.era, belief.epoch) < latest);
        let leads = &mut self.leads;
        let (stale, outlived) = (&mut leads.stale, &mut leads.outlived);
        note(
            stale,
            &mut self.stale_since,
            is_replaced || is_outlived,
            time,
        );
        note(outlived, &mut self.outlived_since, is_outlived, time);
    }
}

/// What is or is not so from now on begins a span, or ends one.
fn note(spans: &mut Vec<(u64, u64)>, since: &mut Option<u64>, is_so: bool, time: u64) {
    match (is_so, *since) {
        (true, None) => *since = Some(time),
        (false, Some(from)) => {
            spans.push((from, time));
            *since = None;
        }
        _ => {}
    }
}
