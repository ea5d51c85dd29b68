//! What this broker is to its partitions: leader, follower, or neither any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Hosting;
use crate::broker::group_log::GroupLog;
use crate::broker::partitions::Hosted;
use crate::broker::replica_fetcher::{Followed, Move};
use crate::config::TopicConfig;
use crate::controller::{ClusterImage, PartitionState, TopicImage};
use crate::replication::{Assignment, Command, EligibleBrokers, ReplicationEvent};
use crate::types::BrokerId;

/// The state of a partition as its log's owner on broker `me` takes it.
#[must_use]
pub fn assignment(me: BrokerId, state: &PartitionState, config: &TopicConfig) -> Arc<Assignment> {
    Arc::new(Assignment {
        me,
        replicas: state.replicas.clone(),
        isr: state.isr.clone(),
        elr: state.elr.clone(),
        adding: state.adding.clone(),
        removing: state.removing.clone(),
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        recovering: state.recovering,
        min_insync_replicas: config.min_insync_replicas,
    })
}

fn eligible(image: &ClusterImage) -> EligibleBrokers {
    let alive = image.alive().filter_map(|id| image.broker(id));
    let epochs: BTreeMap<_, _> = alive.map(|broker| (broker.id, broker.epoch)).collect();
    Arc::new(epochs)
}

impl Hosting {
    /// Tells every shard which brokers may join in-sync replicas.
    pub(super) async fn tell_eligible(&self, image: &ClusterImage) {
        let brokers = eligible(image);
        for shard in self.broker.partitions.shards() {
            let brokers = brokers.clone();
            shard.send(Command::Eligible { brokers }).await;
        }
    }

    /// Carries out changes of partitions that existed before. Answers those that were given to
    /// this broker and are to be hosted, and those whose log could not be used and may be replaced
    /// now.
    pub(super) async fn reassign(
        &mut self,
        (image, topic): (&ClusterImage, &TopicImage),
        changed: &BTreeSet<i32>,
        moves: &mut Vec<Move>,
    ) -> BTreeSet<i32> {
        let me = self.broker.config.node_id;
        let table = self.broker.partitions.table();
        let known = table.topic_by_id(topic.id);
        let mut given = BTreeSet::new();
        let mut taken = BTreeSet::new();
        let mut kept = BTreeSet::new();
        for partition in changed {
            let Some(state) = topic.partition(*partition) else {
                continue;
            };
            let is_mine = state.replicas.contains(&me);
            let is_hosted = known.is_some_and(|topic| topic.partitions.contains_key(partition));
            let is_offline = known.is_some_and(|topic| topic.offline.contains(partition));
            match (is_mine, is_hosted) {
                (true, true) => kept.insert(*partition),
                (true, false) if is_offline && !self.may_be_repaired(topic, *partition) => {
                    self.resign_offline(image, topic, *partition);
                    false
                }
                (true, false) => given.insert(*partition),
                (false, true) => taken.insert(*partition),
                (false, false) if is_offline => taken.insert(*partition),
                (false, false) => false,
            };
        }
        moves.extend(self.assign(topic, &kept).await);
        moves.extend(self.take_away(topic, &taken).await);
        given
    }

    /// Tells the owners of hosted partitions what the metadata says of them.
    pub(super) async fn assign(
        &mut self,
        topic: &TopicImage,
        partitions: &BTreeSet<i32>,
    ) -> Vec<Move> {
        let me = self.broker.config.node_id;
        let table = self.broker.partitions.table();
        let Some(known) = table.topic_by_id(topic.id) else {
            return Vec::new();
        };
        let hosted = partitions.iter().filter_map(|partition| {
            let state = topic.partition(*partition)?;
            Some((known.partitions.get(partition)?, state))
        });
        let hosted: Vec<_> = hosted.collect();
        let mut waiting = Vec::with_capacity(hosted.len());
        for (hosted, state) in &hosted {
            let (reply, done) = oneshot::channel();
            let command = Command::Assign {
                slot: hosted.slot,
                assignment: assignment(me, state, &known.config),
                reply: Some(reply),
            };
            self.broker.partitions.shards()[hosted.shard]
                .send(command)
                .await;
            waiting.push(done);
        }
        for done in waiting {
            // A shard that has ended answers nothing: the broker is stopping.
            let _ = done.await;
        }
        let mut moves = Vec::with_capacity(hosted.len());
        for (hosted, _) in hosted {
            moves.extend(self.take_role(topic, hosted).await);
        }
        moves
    }

    /// Starts and ends what goes with leading or following, once the log's owner knows.
    pub(super) async fn take_role(&mut self, topic: &TopicImage, hosted: &Hosted) -> Option<Move> {
        let me = self.broker.config.node_id;
        let partition = hosted.topic_partition.partition;
        let state = topic.partition(partition)?;
        if topic.name.as_ref() == crate::group::TOPIC {
            self.coordinate(state, hosted).await;
        }
        let leader = state.leader.filter(|leader| *leader != me);
        let followed = Followed {
            slot: hosted.slot,
            shard: hosted.shard,
            leader_epoch: state.leader_epoch,
        };
        Some(Move {
            key: (topic.id, partition),
            to: leader.map(|leader| (leader, followed)),
        })
    }

    /// Loads the groups of a partition of the offsets topic that is led here now, or unloads them.
    async fn coordinate(&mut self, state: &PartitionState, hosted: &Hosted) {
        let partition = hosted.topic_partition.partition;
        let (epoch, groups) = (state.leader_epoch, &self.broker.groups);
        let loaded = self.coordinating.get(&partition).copied();
        if state.leader == Some(self.broker.config.node_id) {
            if loaded != Some(epoch) {
                let shard = self.broker.partitions.shards()[hosted.shard].clone();
                let log = Arc::new(GroupLog::new(hosted.clone(), shard, epoch));
                groups.load(partition, epoch, log).await;
                self.coordinating.insert(partition, epoch);
            }
        } else if loaded.is_some() && !crate::mutant!("groups-stay-with-a-deposed-leader") {
            tracing::trace!(target: "klamm::probe", name = "coordinator-moved-away");
            groups.unload(partition, epoch).await;
            self.coordinating.remove(&partition);
        }
    }

    /// Closes and removes replicas that committed metadata gives to others.
    async fn take_away(&mut self, topic: &TopicImage, partitions: &BTreeSet<i32>) -> Vec<Move> {
        if partitions.is_empty() {
            return Vec::new();
        }
        let taken = self.broker.partitions.take(topic.id, partitions).await;
        let mut missing = partitions.clone();
        for before in &taken {
            let partition = before.topic_partition.partition;
            missing.remove(&partition);
            tracing::trace!(target: "klamm::probe", name = "replica-taken-away");
            tracing::info!(topic = %topic.name, partition, "other brokers hold the replica now");
            if topic.name.as_ref() == crate::group::TOPIC
                && let Some(epoch) = self.coordinating.remove(&partition)
            {
                let state = topic.partition(partition);
                let epoch = state.map_or(epoch, |state| state.leader_epoch);
                self.broker.groups.unload(partition, epoch).await;
            }
        }
        self.remove_dirs(&topic.name, taken.iter()).await;
        for partition in missing {
            self.unusable.remove(&(topic.id, partition));
            self.set_aside_partition(&topic.name, partition).await;
        }
        let gone: BTreeSet<_> = partitions.iter().map(|one| (topic.id, *one)).collect();
        if let Err(error) = self.register.get_mut().leave(&gone).await {
            // Should the replica come back to this broker, it will be missed.
            tracing::error!(%error, "replicas could not be taken out of the register");
        }
        let away = gone.into_iter().map(|key| Move { key, to: None });
        away.collect()
    }

    /// Asks again for all partitions whose log cannot be used: who may lead them has changed.
    pub(super) fn resign_all_offline(&self, image: &ClusterImage) {
        for (topic_id, partition) in self.unusable.keys() {
            if let Some(topic) = image.topic_by_id(*topic_id) {
                self.resign_offline(image, topic, *partition);
            }
        }
    }

    /// Asks that another broker lead a partition whose log cannot be used here.
    pub(super) fn resign_offline(&self, image: &ClusterImage, topic: &TopicImage, partition: i32) {
        let Some(state) = topic.partition(partition) else {
            return;
        };
        let me = self.broker.config.node_id;
        // Without another that lives it would be elected again and again.
        let is_able =
            |id: &BrokerId| *id != me && image.broker(*id).is_some_and(|one| one.is_alive());
        let has_another = state.isr.iter().chain(&state.elr).any(is_able);
        if state.leader != Some(me) || !has_another {
            return;
        }
        let event = ReplicationEvent::StorageFailed {
            slot: u64::MAX,
            topic_id: topic.id,
            partition,
            leader_epoch: state.leader_epoch,
        };
        let _ = self.broker.replication_events.send(event);
    }
}
