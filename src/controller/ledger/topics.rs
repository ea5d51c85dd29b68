//! Making and deleting topics.

use std::collections::{BTreeMap, BTreeSet};

use super::partitions::new_partition_record;
use super::{ControllerLedger, PARTITIONS_PER_REQUEST_MAX};
use crate::config::{BrokerDefaults, TopicConfig, describe_topic};
use crate::controller::image::TopicImage;
use crate::controller::record::{Cause, ConfigResource, MetadataRecord};
use crate::controller::request::{
    CreateTopics, CreatedTopic, DeleteTopics, DeletedTopic, NewTopic, Refusal, Reply, TopicSelector,
};
use crate::controller::topic_name::{collision_key, is_internal_topic, validate_topic_name};
use crate::env::Rng;
use crate::types::{BrokerId, ErrorCode, Timestamp, TopicId, Uuid};

/// What earlier topics of the same request take.
#[derive(Default)]
struct Taken {
    ids: BTreeSet<TopicId>,
    /// Names by what two names must not share.
    collisions: BTreeMap<String, String>,
    partitions: usize,
}

fn refuse<T>(code: ErrorCode, text: String) -> Result<T, Refusal> {
    Err(Refusal::new(code, text))
}

impl ControllerLedger {
    pub(super) fn create_topics(
        &self,
        entropy: &mut Rng,
        now: Timestamp,
        request: &CreateTopics,
    ) -> (Vec<MetadataRecord>, Reply) {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in &request.topics {
            *times.entry(&topic.name).or_default() += 1;
        }
        let defaults = self.broker_defaults();
        let mut taken = Taken::default();
        let mut records = Vec::new();
        let mut results = Vec::new();
        for topic in &request.topics {
            let result = match times.get(topic.name.as_str()) {
                Some(1) => self.create_topic(entropy, now, topic, &defaults, &mut taken),
                _ => refuse(
                    ErrorCode::InvalidRequest,
                    format!("topic '{}' is in the request more than once", topic.name),
                ),
            };
            let result = result.map(|(mut created, more)| {
                match request.validate_only {
                    true => created.topic_id = Uuid::ZERO,
                    false => records.extend(more),
                }
                created
            });
            results.push((topic.name.clone(), result));
        }
        (records, Reply::CreateTopics(results))
    }

    fn create_topic(
        &self,
        entropy: &mut Rng,
        now: Timestamp,
        topic: &NewTopic,
        defaults: &BrokerDefaults,
        taken: &mut Taken,
    ) -> Result<(CreatedTopic, Vec<MetadataRecord>), Refusal> {
        if let Some(made) = self.image.topic(&topic.name)
            && topic.ids.contains(&made.id)
        {
            return Ok((self.made_before(made, defaults), Vec::new()));
        }
        self.check_name(&topic.name, taken)?;
        let replicas = self.replicas_of_new(entropy, topic, taken)?;
        let overrides = overrides(&topic.configs)?;
        TopicConfig::resolve(defaults, &overrides)
            .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))?;
        let mirror = self.new_mirror(topic, &overrides)?;

        let is_free = |id: &TopicId| self.is_free(*id, taken);
        let drawn = topic.ids.last().copied().filter(is_free);
        let topic_id = drawn.unwrap_or_else(|| self.new_topic_id(entropy, taken));
        taken.ids.insert(topic_id);
        taken.partitions += replicas.len();
        taken
            .collisions
            .insert(collision_key(&topic.name), topic.name.clone());
        let created = CreatedTopic {
            topic_id,
            partitions: i32::try_from(replicas.len()).unwrap_or(i32::MAX),
            replication_factor: replicas.first().map_or(0, |replicas| {
                i16::try_from(replicas.len()).unwrap_or(i16::MAX)
            }),
            configs: describe_topic(defaults, &overrides, None),
        };
        let mut records = vec![MetadataRecord::Topic {
            id: topic_id,
            name: topic.name.clone(),
        }];
        for (partition, replicas) in (0..).zip(replicas) {
            let state = self.new_partition(replicas, Cause::TopicCreated);
            records.push(new_partition_record(now, topic_id, partition, state));
        }
        for (name, value) in overrides {
            records.push(MetadataRecord::Config {
                resource: ConfigResource::topic(&*topic.name),
                name,
                value: Some(value),
            });
        }
        records.extend(mirror.map(|mirror| MetadataRecord::MirrorTopic { topic_id, mirror }));
        Ok((created, records))
    }

    fn check_name(&self, name: &str, taken: &Taken) -> Result<(), Refusal> {
        validate_topic_name(name)?;
        if self.image.topic(name).is_some() {
            return refuse(
                ErrorCode::TopicAlreadyExists,
                format!("Topic '{name}' already exists."),
            );
        }
        let in_request = taken
            .collisions
            .get(&collision_key(name))
            .map(String::as_str);
        if let Some(other) = self
            .image
            .colliding_topic(name)
            .map(|other| &**other)
            .or(in_request)
        {
            return refuse(
                ErrorCode::InvalidTopicException,
                format!(
                    "Topic '{name}' collides with existing topic '{other}': names that differ \
                     only in '.' and '_' are one in metrics; choose another name"
                ),
            );
        }
        Ok(())
    }

    /// A topic id that no topic has. Ids of deleted topics do not come back: they are random.
    fn new_topic_id(&self, entropy: &mut Rng, taken: &Taken) -> TopicId {
        loop {
            let id = Uuid::from_random(entropy.bytes());
            if self.is_free(id, taken) {
                return id;
            }
        }
    }

    fn is_free(&self, id: TopicId, taken: &Taken) -> bool {
        self.image.topic_by_id(id).is_none() && !taken.ids.contains(&id)
    }

    /// The answer to a request whose topic was made when it was asked before.
    fn made_before(&self, topic: &TopicImage, defaults: &BrokerDefaults) -> CreatedTopic {
        let replicas = topic.partitions.first().map_or(0, |it| it.replicas.len());
        CreatedTopic {
            topic_id: topic.id,
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
            configs: describe_topic(defaults, &self.image.topic_overrides(&topic.name), None),
        }
    }

    /// Replicas of each partition of a new topic.
    fn replicas_of_new(
        &self,
        entropy: &mut Rng,
        topic: &NewTopic,
        taken: &Taken,
    ) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        if !topic.assignments.is_empty() {
            return self.assigned(topic, taken);
        }
        let partitions = match topic.partitions {
            -1 => self.number("num.partitions"),
            count if count > 0 => i64::from(count),
            count => {
                return refuse(
                    ErrorCode::InvalidPartitions,
                    format!(
                        "topic '{}' cannot have {count} partitions; ask for at least 1, or -1 \
                         for the default",
                        topic.name
                    ),
                );
            }
        };
        let partitions = usize::try_from(partitions).unwrap_or(usize::MAX);
        check_partition_count(&topic.name, partitions, taken.partitions)?;
        let replication_factor = self.replication_factor(topic)?;
        self.place(entropy, 0, partitions, replication_factor)
    }

    fn replication_factor(&self, topic: &NewTopic) -> Result<usize, Refusal> {
        let asked = match topic.replication_factor {
            -1 => self.number("default.replication.factor"),
            count if count > 0 => i64::from(count),
            count => {
                return refuse(
                    ErrorCode::InvalidReplicationFactor,
                    format!(
                        "topic '{}' cannot have replication factor {count}; ask for at least 1, \
                         or -1 for the default",
                        topic.name
                    ),
                );
            }
        };
        let alive = self.image.alive().count();
        let mut asked = usize::try_from(asked).unwrap_or(usize::MAX);
        if is_internal_topic(&topic.name) {
            asked = asked.min(self.broker_count());
        }
        // Brokers that are away for a while, such as for a restart, count: they will be back.
        let all = self.image.brokers().count();
        match asked > all || alive == 0 {
            true => refuse(
                ErrorCode::InvalidReplicationFactor,
                format!(
                    "replication factor {asked} of topic '{}' is larger than the {all} broker{} \
                     of the cluster ({alive} alive); ask for at most {all} or start more brokers",
                    topic.name,
                    if all == 1 { "" } else { "s" },
                ),
            ),
            false => Ok(asked),
        }
    }

    /// Brokers that the cluster has, or shall have: what internal topics can have replicas on. They
    /// must not end up with fewer because some nodes of a new cluster start later than others.
    fn broker_count(&self) -> usize {
        if !self.is_cluster {
            return self.image.alive().count();
        }
        let named = |name: &str| {
            let value = self.defaults.effective(name).map_or("", |(value, _)| value);
            let entries = value.split(',');
            entries.filter(|entry| !entry.trim().is_empty()).count()
        };
        let nodes =
            named("controller.quorum.voters").max(named("controller.quorum.bootstrap.servers"));
        self.image.brokers().count().max(nodes)
    }

    /// Replicas as the request assigns them.
    fn assigned(&self, topic: &NewTopic, taken: &Taken) -> Result<Vec<Vec<BrokerId>>, Refusal> {
        let name = &topic.name;
        let invalid = |text: String| refuse(ErrorCode::InvalidReplicaAssignment, text);
        if topic.partitions != -1 || topic.replication_factor != -1 {
            return refuse(
                ErrorCode::InvalidRequest,
                format!(
                    "topic '{name}' has both an assignment of replicas and a number of \
                     partitions or replicas; give -1 for both numbers"
                ),
            );
        }
        let indexes = topic.assignments.keys().copied();
        if !indexes.eq((0..).take(topic.assignments.len())) {
            return invalid(format!(
                "partitions of topic '{name}' must be numbered from 0 without gaps"
            ));
        }
        check_partition_count(name, topic.assignments.len(), taken.partitions)?;
        let factor = topic.assignments.values().next().map_or(0, Vec::len);
        for (partition, replicas) in &topic.assignments {
            self.check_assignment(name, *partition, replicas)?;
            if replicas.len() != factor {
                return invalid(format!(
                    "partition {partition} of topic '{name}' has {} replicas and partition 0 has \
                     {factor}; give all the same number",
                    replicas.len()
                ));
            }
        }
        Ok(topic.assignments.values().cloned().collect())
    }

    pub(super) fn delete_topics(&self, request: &DeleteTopics) -> (Vec<MetadataRecord>, Reply) {
        let mut records = Vec::new();
        let mut deleted = BTreeSet::new();
        let mut results = Vec::new();
        for selector in &request.topics {
            let result = self.find_to_delete(selector).and_then(|topic| {
                if !deleted.insert(topic.topic_id) {
                    return refuse(
                        ErrorCode::InvalidRequest,
                        format!("topic '{}' is in the request more than once", topic.name),
                    );
                }
                records.push(MetadataRecord::TopicRemoved { id: topic.topic_id });
                Ok(topic)
            });
            results.push((selector.clone(), result));
        }
        (records, Reply::DeleteTopics(results))
    }

    fn find_to_delete(&self, selector: &TopicSelector) -> Result<DeletedTopic, Refusal> {
        if !self.is_enabled("delete.topic.enable") {
            return refuse(
                ErrorCode::TopicDeletionDisabled,
                "topics cannot be deleted: delete.topic.enable is false".to_owned(),
            );
        }
        let topic = match selector {
            TopicSelector::Name(name) => self.image.topic(name).ok_or_else(|| {
                Refusal::new(
                    ErrorCode::UnknownTopicOrPartition,
                    format!("there is no topic '{name}'"),
                )
            })?,
            TopicSelector::Id(id) => self.image.topic_by_id(*id).ok_or_else(|| {
                Refusal::new(
                    ErrorCode::UnknownTopicId,
                    format!("there is no topic with id {id}"),
                )
            })?,
        };
        Ok(DeletedTopic {
            name: topic.name.to_string(),
            topic_id: topic.id,
        })
    }
}

pub(super) fn check_partition_count(
    name: &str,
    count: usize,
    before: usize,
) -> Result<(), Refusal> {
    match count.saturating_add(before) > PARTITIONS_PER_REQUEST_MAX {
        true => refuse(
            ErrorCode::PolicyViolation,
            format!(
                "Excessively large number of partitions per request: with {count} for topic \
                 '{name}' it is more than {PARTITIONS_PER_REQUEST_MAX}; use several requests"
            ),
        ),
        false => Ok(()),
    }
}

/// The settings a new topic asks for, by name.
fn overrides(configs: &[(String, Option<String>)]) -> Result<BTreeMap<String, String>, Refusal> {
    let mut overrides = BTreeMap::new();
    for (name, value) in configs {
        let Some(value) = value else {
            return refuse(
                ErrorCode::InvalidConfig,
                format!("Null value not supported for topic configs: {name}; leave it out"),
            );
        };
        if overrides.insert(name.clone(), value.clone()).is_some() {
            return refuse(
                ErrorCode::InvalidConfig,
                format!("topic config {name} is given more than once"),
            );
        }
    }
    Ok(overrides)
}
