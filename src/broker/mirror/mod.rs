//! Copies other clusters' topics into the mirrors that this broker leads.
//!
//! One task per link copies ([`link`]); on one of the brokers another looks after the link
//! ([`discovery`]): which topics there are at the source, and what groups have committed. What is
//! decided is decided in [`crate::mirror`]. While there is no link there is no task.

mod discovery;
mod effects;
mod groups;
mod link;
mod mirror_maker;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Broker;
use crate::client::{ClientConfig, ClientError, Cluster};
use crate::controller::{
    ClusterImage, ImageDelta, LinkId, LinkRecord, MirrorImage, MirrorState, TopicImage,
};
use crate::env::Task;
use crate::mirror::SourceTopic;
use crate::replication::Slot;
use crate::types::{BrokerId, LeaderEpoch, Offset, TopicId};

use link::LinkTask;

/// A mirror partition by the id of its topic here.
pub(super) type Key = (TopicId, i32);

/// A mirror partition that this broker leads, to be filled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    slot: Slot,
    shard: usize,
    /// In which this broker leads.
    leader_epoch: LeaderEpoch,
    source: SourceTopic,
    lineage: Vec<(LeaderEpoch, Offset)>,
}

impl Target {
    /// Whether what is under way for one is still of use to the other.
    fn is_same(&self, other: &Self) -> bool {
        let of = |target: &Self| (target.slot, target.leader_epoch);
        of(self) == of(other) && self.source == other.source
    }
}

type Targets = BTreeMap<Key, Target>;

/// What a link's task is to do from now on.
pub(super) struct Assigned {
    link: Arc<LinkRecord>,
    targets: Targets,
}

struct Handle {
    link: Arc<LinkRecord>,
    targets: Targets,
    changes: mpsc::UnboundedSender<Assigned>,
    /// Ends when dropped.
    _task: Task,
}

struct Looking {
    link: Arc<LinkRecord>,
    /// Ends when dropped.
    _task: Task,
}

/// All that copies for a broker; it ends when this is dropped.
pub struct Mirrors {
    broker: Arc<Broker>,
    copying: BTreeMap<LinkId, Handle>,
    looking: BTreeMap<LinkId, Looking>,
}

impl Mirrors {
    #[must_use]
    pub fn new(broker: Arc<Broker>) -> Self {
        Self {
            broker,
            copying: BTreeMap::new(),
            looking: BTreeMap::new(),
        }
    }

    /// Whether a change of the metadata can be one for the mirrors.
    #[must_use]
    pub fn are_touched(image: &ClusterImage, delta: &ImageDelta) -> bool {
        let is_mirror = |id: &TopicId| image.mirror(*id).is_some();
        let is_linked = image.links().next().is_some();
        !delta.links.is_empty()
            || !delta.mirrors.is_empty()
            || (is_linked && (!delta.brokers.is_empty() || delta.topics.keys().any(is_mirror)))
    }

    /// Copies what `image` says from now on. Its assignments must have been told to the shards
    /// before.
    pub fn apply(&mut self, image: &ClusterImage) {
        let mut wanted = self.targets(image);
        let mut left = std::mem::take(&mut self.copying);
        for link in image.links() {
            let targets = wanted.remove(&link.id).unwrap_or_default();
            let before = left.remove(&link.id);
            self.forget_statuses(before.as_ref(), &targets);
            if targets.is_empty() {
                continue;
            }
            let kept = before.filter(|handle| is_same_source(&handle.link, link));
            let handle = match kept {
                Some(handle) => Self::assign(handle, link, targets),
                None => self.start(link, targets),
            };
            self.copying.insert(link.id, handle);
        }
        for handle in left.values() {
            self.forget_statuses(Some(handle), &Targets::new());
        }
        self.look(image);
    }

    fn forget_statuses(&self, before: Option<&Handle>, targets: &Targets) {
        let known = before.into_iter().flat_map(|handle| handle.targets.keys());
        for (topic, partition) in known.filter(|key| !targets.contains_key(*key)) {
            self.broker.mirrors.remove(*topic, *partition);
        }
    }

    /// By link, the mirror partitions that are to be filled by this broker.
    fn targets(&self, image: &ClusterImage) -> BTreeMap<LinkId, Targets> {
        let mut wanted: BTreeMap<LinkId, Targets> = BTreeMap::new();
        for (id, mirror) in image.mirrors() {
            let link = image.link(mirror.topic.link);
            if mirror.topic.state != MirrorState::Active || link.is_none_or(|link| link.paused) {
                continue;
            }
            if let Some(topic) = image.topic_by_id(id) {
                let targets = wanted.entry(mirror.topic.link).or_default();
                self.add_targets(targets, topic, mirror);
            }
        }
        wanted
    }

    fn add_targets(&self, targets: &mut Targets, topic: &TopicImage, mirror: &MirrorImage) {
        let table = self.broker.partitions.table();
        let Some(hosted) = table.topic_by_id(topic.id) else {
            return;
        };
        let me = self.broker.config.node_id;
        for (partition, hosted) in &hosted.partitions {
            let known = mirror.partition(*partition);
            let Some(state) = topic.partition(*partition) else {
                continue;
            };
            if state.leader != Some(me) || known.is_some_and(|known| known.fault.is_some()) {
                continue;
            }
            let target = Target {
                slot: hosted.slot,
                shard: hosted.shard,
                leader_epoch: state.leader_epoch,
                source: SourceTopic {
                    name: mirror.topic.source_name.clone(),
                    id: match crate::mutant!("mirror-recreated-unnoticed") {
                        true => TopicId::ZERO,
                        false => mirror.topic.source_id,
                    },
                },
                lineage: known.map_or_else(Vec::new, |known| known.lineage.clone()),
            };
            targets.insert((topic.id, *partition), target);
        }
    }

    fn assign(mut handle: Handle, link: &Arc<LinkRecord>, targets: Targets) -> Handle {
        if handle.link != *link || handle.targets != targets {
            handle.link = link.clone();
            handle.targets = targets.clone();
            let link = link.clone();
            let _ = handle.changes.send(Assigned { link, targets });
        }
        handle
    }

    fn start(&self, link: &Arc<LinkRecord>, targets: Targets) -> Handle {
        let (changes, incoming) = mpsc::unbounded_channel();
        let assigned = Assigned {
            link: link.clone(),
            targets: targets.clone(),
        };
        let _ = changes.send(assigned);
        let task = LinkTask::new(self.broker.clone(), link.clone(), incoming);
        let env = &self.broker.env;
        Handle {
            link: link.clone(),
            targets,
            changes,
            _task: env.spawn("mirror-link", task.run()),
        }
    }

    /// Looks after the links that are this broker's to look after.
    fn look(&mut self, image: &ClusterImage) {
        let me = self.broker.config.node_id;
        let mut left = std::mem::take(&mut self.looking);
        for link in image.links() {
            let before = left.remove(&link.id);
            if link.paused || looked_after_by(image, link) != Some(me) {
                self.broker.mirrors.remove_link(link.id);
                continue;
            }
            let kept = before.filter(|looking| looking.link == *link);
            let looking = kept.unwrap_or_else(|| {
                let work = discovery::run(self.broker.clone(), link.clone());
                Looking {
                    link: link.clone(),
                    _task: self.broker.env.spawn("mirror-discovery", work),
                }
            });
            self.looking.insert(link.id, looking);
        }
        for id in left.keys() {
            self.broker.mirrors.remove_link(*id);
        }
    }
}

/// Whether a task that copies from one can go on with the other.
fn is_same_source(before: &LinkRecord, after: &LinkRecord) -> bool {
    before.bootstrap == after.bootstrap && before.mode == after.mode
}

/// The broker that looks after a link: the same for all who have the same metadata.
fn looked_after_by(image: &ClusterImage, link: &LinkRecord) -> Option<BrokerId> {
    let alive: Vec<BrokerId> = image.alive().collect();
    let turn = link
        .id
        .0
        .iter()
        .fold(0_usize, |sum, byte| sum + usize::from(*byte));
    alive.get(turn.checked_rem(alive.len())?).copied()
}

/// The source of a link, as a client of it.
fn source_of(broker: &Broker, link: &LinkRecord, fetch_max: i32) -> Result<Cluster, ClientError> {
    let replication = &broker.config.replication;
    let config = ClientConfig {
        bootstrap_servers: link.bootstrap.clone(),
        client_id: format!("mirror-{}-{}", link.name, broker.config.node_id),
        request_timeout: replication.socket_timeout,
        connection_setup_timeout: replication.socket_timeout,
        default_api_timeout: replication.socket_timeout,
        delivery_timeout: replication.socket_timeout * 2,
        max_block: replication.socket_timeout,
        fetch_max_bytes: fetch_max,
        allow_auto_create_topics: false,
        ..ClientConfig::default()
    };
    Cluster::new(&broker.env, config)
}

#[cfg(test)]
mod tests;
