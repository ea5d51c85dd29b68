//! What the nodes of a cluster tell of their inside, judged as it happens.
//!
//! Nodes emit events (`klamm::replica`, `klamm::metadata`, `klamm::log_state`); [`Watch`] keeps
//! what follows from them for the whole cluster, which no node knows, and notes
//! [`Note::Broken`] in the history when a rule is broken. It also knows who leads what, for faults
//! that are aimed at a leader. A rule whose events do not come is silent.
//!
//! | property | what is demanded |
//! | --- | --- |
//! | R1 | at most one node leads a partition in a leader epoch |
//! | R2 | a follower copies what its leader has, in a leader epoch; a leader whose log was cut appends nothing in that epoch |
//! | R3 | who begins to lead has everything below the partition's high watermark; the last leader is elected for having been that only when all who had everything ended without an orderly stop |
//! | R4 | who is added to the in-sync replicas has everything below it, and so has who counts as such when it opens its log |
//! | R2 | who led in an epoch leads in it no more once its process ended |
//! | R5 | a node's high watermark goes back with its log alone, and a leader's moves as soon as who kept it back is in sync no more |
//! | R5, R6 | a high watermark that a leader tells is durable on every in-sync replica, or in its memory where the topic promises no more |
//! | R6 | the present leader counts on a follower for no more than that has, of the same leaders |
//! | R7 | in-sync replicas change by a proposal that was made to the state before |
//! | R7 | in-sync replicas are replicas, the leader is one, none is added while fenced; a high watermark does not move while they are too few; eligible leaders are kept only then |
//! | R7 | a leader proposes nobody to be in sync whom it knows to be fenced |
//! | R7 | a reassignment ends with all of its replicas in sync |
//! | R9 | no in-sync or eligible replica truncates below the high watermark, or empties its log; nobody truncates what it leads, or what its leader has as well |
//! | R15 | nobody leads before it has registered since its start; what a follower told in one life counts for no other |
//! | R18 | what was acknowledged by all lies below the high watermark |
//! | M1 | at most one active controller in a term |
//! | M4, M13 | a partition's state of one epoch is the same on all nodes, and images of one end are |
//! | M5, M9 | a node that starts remembers every entry and every vote that it was answered to be durable |
//! | M7 | what the metadata log of a node that starts lacks is in its snapshot |
//! | M11 | epochs of partitions, leaders and brokers grow; a run of a broker has one |
//! | M12 | no topic id and no producer id is given out twice |
//! | K1 | nothing is compacted that is not committed |
//! | K6 | a leader's log is made to begin later only where those of all in sync are; who leads next begins no earlier |
//! | R17 | a copy that serves readers gives nothing at or above the high watermark it tells them (`sim/src/workload/fetching.rs`) |
//! | R17 | no follower's high watermark goes beyond what a leader told, unless it is the only replica |
//! | V7 | in the end every node stands where the others do |
//!
//! *The* high watermark of a partition is the highest that any of its leaders told: what lies below
//! may have been shown to readers and acknowledged, so it must survive. An election that says
//! it was unclean takes it back to where the new leader begins.

mod copies;
mod fields;
mod metadata;
mod partitions;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use klamm_jepsen::history::{Answer, Call, Event, LogState, NodeEvent, Note, Partition, What};

use madsim::time::TimeHandle;

use crate::plan::Plan;
use crate::record::Recorder;
use copies::Kind;
pub use fields::Fields;
use metadata::Metadata;
use partitions::{Brokers, Known};

/// Where node events come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Replica,
    Metadata,
}

/// A rule and how it was broken.
type Broken = (&'static str, String);

/// Watches one cluster. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    state: Arc<Mutex<State>>,
    recorder: Recorder,
}

#[derive(Debug, Default)]
struct State {
    /// Names of nodes by their ids; empty for one node that is a cluster by itself.
    names: BTreeMap<i32, String>,
    nodes: BTreeMap<String, Node>,
    partitions: BTreeMap<Partition, Known>,
    metadata: Metadata,
    /// Least in-sync replicas that an acknowledgement needs, by topic.
    min_in_sync: BTreeMap<String, usize>,
    /// By the run, of topics that are not of the plan.
    min_in_sync_default: usize,
    /// Topics of the plan that confirm what they have in memory, or not; others do as `None`.
    in_memory: BTreeMap<Option<String>, bool>,
    /// Topics of the plan that are compacted.
    compacted: BTreeSet<String>,
    /// When a broker's process last ended without an orderly stop, in nanoseconds.
    ended: BTreeMap<i32, u64>,
}

/// A node's process.
#[derive(Debug, Default)]
struct Node {
    is_running: bool,
    /// The broker epoch it had when it started: it has registered since once it has a greater one.
    epoch_before: i64,
    is_registered: bool,
    /// Where its image stands.
    image: Option<i64>,
}

impl Watch {
    /// Watches the nodes of `plan`.
    #[must_use]
    pub fn new(plan: &Plan, recorder: Recorder) -> Self {
        let id = |settings: &BTreeMap<String, String>| settings.get("node.id")?.parse().ok();
        let named = plan.nodes.iter().filter_map(|node| {
            let id: i32 = id(&node.settings)?;
            Some((id, node.name.clone()))
        });
        let least = |config: &BTreeMap<String, String>| {
            let told = config.get("min.insync.replicas")?;
            told.parse::<usize>().ok()
        };
        let default = least(&plan.broker).unwrap_or(1);
        let topics = plan.all_topics().map(|topic| {
            let least = least(&topic.config).unwrap_or(default);
            let replicas = usize::try_from(topic.replicas).unwrap_or(1);
            (topic.name.clone(), least.min(replicas))
        });
        let durability = |config: &BTreeMap<String, String>| {
            let told = config.get("klamm.durability")?;
            Some(told == "replicated")
        };
        let by_default = durability(&plan.broker).unwrap_or(false);
        let in_memory = plan.all_topics().map(|topic| {
            let in_memory = durability(&topic.config).unwrap_or(by_default);
            (Some(topic.name.clone()), in_memory)
        });
        let compacted = plan.all_topics().filter(|topic| {
            let policy = topic.config.get("cleanup.policy");
            policy.is_some_and(|policy| policy.contains("compact"))
        });
        let state = State {
            names: named.collect(),
            min_in_sync: topics.collect(),
            min_in_sync_default: 1,
            in_memory: in_memory.chain([(None, by_default)]).collect(),
            compacted: compacted.map(|topic| topic.name.clone()).collect(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            recorder,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process begins or ends.
    pub fn node(&self, node: &str, event: &NodeEvent) {
        let mut state = self.state();
        match event {
            NodeEvent::Start => {
                let id = state.names.iter().find(|(_, name)| *name == node);
                let epoch_before = id.map_or(-1, |(id, _)| state.metadata.broker_epoch(*id));
                let started = Node {
                    is_running: true,
                    epoch_before,
                    ..Node::default()
                };
                state.nodes.insert(node.to_owned(), started);
            }
            NodeEvent::Stop => state.end(node),
            NodeEvent::Kill | NodeEvent::PowerLoss | NodeEvent::Failed(_) => {
                state.end(node);
                let id = state.names.iter().find(|(_, name)| *name == node);
                if let Some(id) = id.map(|(id, _)| *id) {
                    state.ended.insert(id, now());
                }
            }
            NodeEvent::Ready | NodeEvent::Pause | NodeEvent::Resume => {}
        }
    }

    /// The disk of a node is lost.
    pub fn wiped(&self, node: &str) {
        self.state().metadata.wiped(node);
    }

    /// A node told where one of its logs stands.
    pub fn log(&self, node: &str, of: &Partition, log: &LogState) {
        let broken = {
            let mut state = self.state();
            if state.names.is_empty() || !state.is_watched(of) {
                return;
            }
            state.on_log(node, of, *log)
        };
        self.note(node, broken);
    }

    /// Whether there are several nodes to watch.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.state().names.is_empty()
    }

    /// A node told something else.
    pub fn hear(&self, node: &str, source: Source, fields: &Fields) {
        let (broken, noted) = {
            let mut state = self.state();
            if state.names.is_empty() {
                return;
            }
            match source {
                Source::Replica => {
                    let broken = state.on_replica(node, fields);
                    (broken, state.noted(node, fields))
                }
                Source::Metadata => (state.on_metadata(node, fields), None),
            }
        };
        self.note(node, broken);
        if let Some(note) = noted {
            self.recorder.note(node, note);
        }
    }

    fn note(&self, node: &str, broken: Vec<Broken>) {
        for (property, detail) in broken {
            let note = Note::Broken {
                property: property.to_owned(),
                detail,
                of: None,
            };
            self.recorder.note(node, note);
        }
    }

    /// Who leads a partition, as far as anybody told.
    #[must_use]
    pub fn leader(&self, of: &Partition) -> Option<String> {
        let state = self.state();
        state.partitions.get(of)?.leader()
    }

    /// The nodes that the controller counts on for a partition: in sync, or eligible.
    #[must_use]
    pub fn counted_on(&self, of: &Partition) -> Vec<String> {
        let state = self.state();
        let known = state.partitions.get(of);
        let ids = known.into_iter().flat_map(partitions::Known::counted_on);
        ids.filter_map(|id| state.names.get(&id).cloned()).collect()
    }

    /// The active controller, as far as anybody told.
    #[must_use]
    pub fn controller(&self) -> Option<String> {
        self.state().metadata.active()
    }

    /// The partition's high watermark, if a leader told one.
    #[must_use]
    pub fn high_watermark(&self, of: &Partition) -> Option<i64> {
        let state = self.state();
        let known = state.partitions.get(of)?;
        Some(known.high_watermark)
    }

    /// How much the replicas of a partition hold together: it grows while one of them copies.
    #[must_use]
    pub fn copied(&self, of: &Partition) -> i64 {
        let state = self.state();
        state.partitions.get(of).map_or(0, Known::held)
    }

    /// The high watermark that a node's replica told last in the last life in which it had one.
    #[must_use]
    pub fn last_told(&self, node: &str, of: &Partition) -> Option<i64> {
        self.state().partitions.get(of)?.last_told(node)
    }

    /// Partitions, of topics that promise no more than memory, that had a leader elected who may
    /// lack what was committed, and since when, in nanoseconds.
    #[must_use]
    pub fn unclean(&self) -> BTreeMap<Partition, u64> {
        let state = self.state();
        let known = state.partitions.iter();
        known
            .filter(|(of, _)| state.kind(of).in_memory)
            .filter_map(|(of, known)| Some((of.clone(), known.unclean_since?)))
            .collect()
    }

    /// Partitions of mirrors that were promoted, and from which leader epoch on their records are
    /// of clients.
    #[must_use]
    pub fn own_since(&self) -> BTreeMap<Partition, i32> {
        let state = self.state();
        let known = state.partitions.iter();
        known
            .filter_map(|(of, known)| Some((of.clone(), known.own_since?)))
            .collect()
    }

    /// R18: what each send with acks=all was told to be stored lay below the high watermark then.
    #[must_use]
    pub fn judge_acknowledgements(&self, events: &[Event]) -> Vec<(Partition, Broken)> {
        let state = self.state();
        let mut sends = BTreeMap::new();
        let mut broken = Vec::new();
        for event in events {
            match &event.what {
                What::Invoke {
                    op,
                    call:
                        Call::Send {
                            to,
                            acks: -1,
                            records,
                            ..
                        },
                } => {
                    sends.insert(*op, (to, records.len()));
                }
                What::Ok {
                    op,
                    answer: Answer::Send { base_offset, .. },
                } if *base_offset >= 0 => {
                    let Some((to, count)) = sends.get(op) else {
                        continue;
                    };
                    let end = base_offset + i64::try_from(*count).unwrap_or(0);
                    let known = state.partitions.get(*to);
                    let told = known.and_then(|known| known.high_watermark_at(event.time));
                    if let Some(told) = told.filter(|told| *told < end) {
                        let detail = format!(
                            "records up to {end} were acknowledged while the high watermark was \
                             {told}"
                        );
                        broken.push(((*to).clone(), ("R18", detail)));
                    }
                }
                _ => {}
            }
        }
        broken
    }

    /// V7: where each running node's image stands, if that differs.
    #[must_use]
    pub fn images_differ(&self) -> Option<String> {
        let state = self.state();
        let running = state.nodes.iter().filter(|(_, node)| node.is_running);
        let stands: Vec<(&String, i64)> = running
            .filter_map(|(name, node)| Some((name, node.image?)))
            .collect();
        let different: BTreeSet<i64> = stands.iter().map(|(_, at)| *at).collect();
        (different.len() > 1).then(|| format!("the images stand at {stands:?}"))
    }
}

impl State {
    /// Topics that are deleted and made again have logs that begin anew under the same name.
    fn is_watched(&self, of: &Partition) -> bool {
        self.min_in_sync.contains_key(&of.topic) || of.topic.starts_with("__")
    }

    /// The node's process ended.
    fn end(&mut self, node: &str) {
        self.nodes.insert(node.to_owned(), Node::default());
        for partition in self.partitions.values_mut() {
            partition.forget(node);
        }
        self.metadata.forget(node);
    }

    fn kind(&self, of: &Partition) -> Kind {
        let least = self.min_in_sync.get(&of.topic);
        let in_memory = self.in_memory.get(&Some(of.topic.clone()));
        let in_memory = in_memory.or_else(|| self.in_memory.get(&None));
        Kind {
            in_memory: in_memory.copied().unwrap_or(false),
            is_compacted: of.topic.starts_with("__") || self.compacted.contains(&of.topic),
            is_own: least.is_some(),
            least: least.copied().unwrap_or(self.min_in_sync_default),
        }
    }

    fn on_log(&mut self, node: &str, of: &Partition, log: LogState) -> Vec<Broken> {
        let kind = self.kind(of);
        let known = self.partitions.entry(of.clone()).or_default();
        let broken = known.on_log(node, log, kind, &self.names);
        placed(of, broken)
    }

    /// What the history is to know of a node that begins to lead, or lets go of its copy.
    fn noted(&self, node: &str, fields: &Fields) -> Option<Note> {
        let of = fields.partition()?;
        match fields.name() {
            "leading" => {}
            "closed" => return Some(Note::Closed { of }),
            _ => return None,
        }
        let known = self.partitions.get(&of);
        let start = known.and_then(|known| known.start_of(node));
        Some(Note::Leading {
            leader_epoch: fields.small("leader_epoch")?,
            start: start.unwrap_or(-1),
            of,
        })
    }

    fn on_replica(&mut self, node: &str, fields: &Fields) -> Vec<Broken> {
        let Some(of) = fields.partition().filter(|of| self.is_watched(of)) else {
            return Vec::new();
        };
        let registered = self.nodes.get(node).is_some_and(|node| node.is_registered);
        let told = self.metadata.tells_registrations();
        let kind = self.kind(&of);
        let known = self.partitions.entry(of.clone()).or_default();
        let metadata = &self.metadata;
        let epoch = |id| metadata.broker_epoch(id);
        let mut broken = known.on_replica(node, fields, kind, &self.names, epoch);
        if fields.name() == "leading" && told && !registered {
            let detail = "it leads before it has registered since its start".to_owned();
            broken.push(("R15", detail));
        }
        placed(&of, broken)
    }

    fn on_metadata(&mut self, node: &str, fields: &Fields) -> Vec<Broken> {
        let (is_first, mut broken) = self.metadata.on_event(node, fields);
        if let (Some(known), Some(end)) = (self.nodes.get_mut(node), fields.number("end")) {
            known.image = known.image.max(Some(end));
        }
        match fields.name() {
            "broker" => {
                let name = fields.small("broker").and_then(|id| self.names.get(&id));
                let epoch = fields.number("epoch").unwrap_or(-1);
                if let Some(known) = name.and_then(|name| self.nodes.get_mut(name)) {
                    known.is_registered |= epoch > known.epoch_before;
                }
            }
            "partition" => broken.extend(self.on_partition(node, fields, is_first)),
            _ => {}
        }
        broken
    }

    fn on_partition(&mut self, node: &str, fields: &Fields, is_first: bool) -> Vec<Broken> {
        let Some(of) = fields.partition() else {
            return Vec::new();
        };
        let (metadata, ended) = (&self.metadata, &self.ended);
        let brokers = Brokers {
            dead: metadata.dead(),
            epoch: &|id| metadata.broker_epoch(id),
            since: &|id| metadata.registered_at(id),
            ended: &|id| ended.get(&id).copied(),
        };
        let is_watched = self.is_watched(&of);
        let least = self.min_in_sync.get(&of.topic).copied();
        let mut unwatched = Known::default();
        let known = match is_watched {
            true => self.partitions.entry(of.clone()).or_default(),
            false => &mut unwatched,
        };
        known.on_view(node, fields);
        if !is_first {
            return Vec::new();
        }
        let broken = known.on_metadata(fields, brokers, least, &self.names);
        placed(&of, broken)
    }
}

fn placed(of: &Partition, broken: Vec<Broken>) -> Vec<Broken> {
    let each = broken.into_iter();
    each.map(|(property, detail)| {
        let detail = format!("{}-{}: {detail}", of.topic, of.partition);
        (property, detail)
    })
    .collect()
}

/// Nanoseconds since the run began; 0 outside of one.
fn now() -> u64 {
    let time = TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos());
    u64::try_from(time).unwrap_or(u64::MAX)
}
