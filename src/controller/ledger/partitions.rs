//! Placing partitions and adding more.

use std::collections::{BTreeMap, BTreeSet};

use super::ControllerLedger;
use super::topics::check_partition_count;
use crate::controller::election::elect;
use crate::controller::image::TopicImage;
use crate::controller::placement::{self, Place};
use crate::controller::record::{
    BrokerRecord, Cause, MetadataRecord, PartitionRecord, PartitionState,
};
use crate::controller::request::{CreatePartitions, MorePartitions, Refusal, Reply};
use crate::env::Rng;
use crate::types::{BrokerId, ErrorCode, LeaderEpoch, Timestamp, TopicId};

impl ControllerLedger {
    pub(super) fn create_partitions(
        &self,
        entropy: &mut Rng,
        now: Timestamp,
        request: &CreatePartitions,
    ) -> (Vec<MetadataRecord>, Reply) {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in &request.topics {
            *times.entry(&topic.name).or_default() += 1;
        }
        let mut records = Vec::new();
        let mut results = Vec::new();
        let mut before = 0;
        for topic in &request.topics {
            let result = match times.get(topic.name.as_str()) {
                Some(1) => self.more_partitions(entropy, now, topic, before),
                _ => Err(Refusal::new(
                    ErrorCode::InvalidRequest,
                    format!("topic '{}' is in the request more than once", topic.name),
                )),
            };
            let result = result.map(|more| {
                before += more.len();
                if !request.validate_only {
                    records.extend(more);
                }
            });
            results.push((topic.name.clone(), result));
        }
        (records, Reply::CreatePartitions(results))
    }

    fn more_partitions(
        &self,
        entropy: &mut Rng,
        now: Timestamp,
        request: &MorePartitions,
        before: usize,
    ) -> Result<Vec<MetadataRecord>, Refusal> {
        let name = &request.name;
        let topic = self.image.topic(name).ok_or_else(|| {
            Refusal::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no topic '{name}'"),
            )
        })?;
        let first = topic.partitions.len();
        let count = usize::try_from(request.count).unwrap_or(0);
        if count <= first {
            return Err(Refusal::new(
                ErrorCode::InvalidPartitions,
                match count == first {
                    true => format!("Topic '{name}' already has {first} partition(s)."),
                    false => format!(
                        "The topic '{name}' currently has {first} partition(s); {} would not be \
                         an increase.",
                        request.count
                    ),
                },
            ));
        }
        check_partition_count(name, count - first, before)?;
        let replicas = self.replicas_of_more(entropy, topic, request, count - first)?;
        let record = |(partition, replicas)| {
            let state = self.new_partition(replicas, Cause::PartitionsAdded);
            new_partition_record(now, topic.id, partition, state)
        };
        let first = i32::try_from(first).unwrap_or(i32::MAX);
        Ok((first..).zip(replicas).map(record).collect())
    }

    fn replicas_of_more(
        &self,
        entropy: &mut Rng,
        topic: &TopicImage,
        request: &MorePartitions,
        count: usize,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let name = &request.name;
        let factor = topic
            .partitions
            .first()
            .map_or(1, |first| first.replicas.len());
        let first = topic.partitions.len();
        let Some(assignments) = &request.assignments else {
            return self.place(entropy, first, count, factor);
        };
        let invalid = |text| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, text));
        if assignments.len() != count {
            return invalid(format!(
                "topic '{name}' gets {count} partitions and {} are assigned; assign each",
                assignments.len()
            ));
        }
        let first = i32::try_from(first).unwrap_or(i32::MAX);
        for (partition, replicas) in (first..).zip(assignments) {
            self.check_assignment(name, partition, replicas)?;
            if replicas.len() != factor {
                return invalid(format!(
                    "partition {partition} of topic '{name}' is assigned {} replicas and the \
                     topic has {factor}",
                    replicas.len()
                ));
            }
        }
        Ok(assignments.clone())
    }

    /// Replicas for `count` partitions numbered from `first`: on brokers that are alive, and where
    /// these are not enough, then on others of the cluster, which catch up once they are back.
    pub(super) fn place(
        &self,
        entropy: &mut Rng,
        first: usize,
        count: usize,
        replication_factor: usize,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let (alive, away): (Vec<&BrokerRecord>, Vec<&BrokerRecord>) =
            self.image.brokers().partition(|broker| broker.is_alive());
        let place = |broker: &&BrokerRecord| Place {
            id: broker.id,
            rack: broker.rack.clone(),
        };
        let alive: Vec<Place> = alive.iter().map(place).collect();
        if replication_factor > alive.len() + away.len() || alive.is_empty() {
            return Err(Refusal::new(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "{replication_factor} replicas need as many brokers and {} are alive; start \
                     more brokers",
                    alive.len()
                ),
            ));
        }
        let start = usize::try_from(entropy.below(alive.len() as u64)).unwrap_or(0);
        let on_alive = replication_factor.min(alive.len());
        let mut placed = placement::place(&alive, first, count, on_alive, start);
        for (partition, replicas) in (first..).zip(&mut placed) {
            let away = away.iter().cycle().skip(partition % away.len().max(1));
            let away = away.take(replication_factor - on_alive);
            replicas.extend(away.map(|broker| broker.id));
        }
        Ok(placed)
    }

    /// Refuses replicas that are not distinct brokers of the cluster.
    pub(super) fn check_assignment(
        &self,
        topic: &str,
        partition: i32,
        replicas: &[BrokerId],
    ) -> Result<(), Refusal> {
        let invalid = |text| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, text));
        let of = format!("partition {partition} of topic '{topic}'");
        if replicas.is_empty() {
            return invalid(format!("{of} is assigned no replica; assign at least one"));
        }
        let mut distinct = BTreeSet::new();
        if let Some(twice) = replicas.iter().find(|id| !distinct.insert(**id)) {
            return invalid(format!("{of} is assigned to broker {twice} twice"));
        }
        if let Some(unknown) = replicas.iter().find(|id| self.image.broker(**id).is_none()) {
            return invalid(format!(
                "{of} is assigned to broker {unknown}, which is not known"
            ));
        }
        if !replicas
            .iter()
            .any(|id| self.image.broker(*id).is_some_and(BrokerRecord::is_alive))
        {
            return invalid(format!(
                "{of} is assigned only to brokers that are not alive"
            ));
        }
        Ok(())
    }

    /// The first state of a partition: in sync are those that are alive.
    pub(super) fn new_partition(&self, replicas: Vec<BrokerId>, cause: Cause) -> PartitionState {
        let is_alive = |id: BrokerId| self.image.broker(id).is_some_and(BrokerRecord::is_alive);
        let isr = replicas
            .iter()
            .copied()
            .filter(|id| is_alive(*id))
            .collect();
        let mut state = PartitionState {
            replicas,
            isr,
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            removing: Vec::new(),
            adding: Vec::new(),
            leader: None,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            recovering: false,
            cause,
        };
        state.leader = elect(&state, is_alive, false).leader;
        state
    }
}

/// The record of a partition that is new.
pub(super) fn new_partition_record(
    now: Timestamp,
    topic_id: TopicId,
    partition: i32,
    state: PartitionState,
) -> MetadataRecord {
    MetadataRecord::Partition(PartitionRecord {
        topic_id,
        partition,
        state,
        at: now,
        by: None,
        history: Vec::new(),
    })
}
