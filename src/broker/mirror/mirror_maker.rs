//! Writes what MirrorMaker 2 would write beside its mirrors, for the links that name them as it
//! does: heartbeats, checkpoints of groups, and offset syncs. None of it is read here.

use std::collections::BTreeMap;

use super::discovery::RoundError;
use crate::broker::Broker;
use crate::client::admin::{Admin, TopicSpec};
use crate::client::{Cluster, Producer, ProducerRecord};
use crate::controller::{CreateTopics, LinkMode, LinkRecord, MirrorMaker, NewTopic};
use crate::mirror::{GroupPartition, Note, Translated, checkpoint, heartbeat, news, offset_sync};
use crate::types::{ErrorCode, Offset, TopicPartition};

/// What the mirrors of a link are at.
#[derive(Default)]
pub(super) struct State {
    /// Of groups that the link carries over, by the mirror's partition.
    pub(super) groups: BTreeMap<GroupPartition, Translated>,
    /// By the source's partition, up to where it is here.
    pub(super) ends: BTreeMap<TopicPartition, Offset>,
}

/// Tells of one link.
pub(super) struct Teller {
    of: MirrorMaker,
    here: Producer,
    /// Where heartbeats are written there too.
    source: Option<Producer>,
    /// Whether the topics were seen to be there.
    has_topics: bool,
    told: State,
}

impl Teller {
    /// `None`: there is nothing to tell of a link of this mode.
    pub(super) fn new(link: &LinkRecord, here: &Cluster, source: &Cluster) -> Option<Self> {
        let LinkMode::MirrorMaker(of) = &link.mode else {
            return None;
        };
        Some(Self {
            here: Producer::on(here.clone()),
            source: of.source_heartbeats.then(|| Producer::on(source.clone())),
            of: of.clone(),
            has_topics: false,
            told: State::default(),
        })
    }

    /// Tells what is different from the last time, and that the link is at work.
    pub(super) async fn tell(
        &mut self,
        broker: &Broker,
        link: &LinkRecord,
        source: &Admin,
        now: State,
    ) -> Result<(), RoundError> {
        if !self.has_topics {
            self.make_topics(broker, link, source).await?;
        }
        let told = self.write(broker, link, &now).await;
        match told {
            Ok(()) => self.told = now,
            // Somebody may have deleted them.
            Err(_) => self.has_topics = false,
        }
        told
    }

    async fn make_topics(
        &mut self,
        broker: &Broker,
        link: &LinkRecord,
        source: &Admin,
    ) -> Result<(), RoundError> {
        let compacted = ("cleanup.policy".to_owned(), "compact".to_owned());
        let names = [
            self.of.heartbeats_topic().to_owned(),
            self.of.checkpoints_topic(&link.name),
            self.of.offset_syncs_topic(&link.name),
        ];
        let topics = names.map(|name| NewTopic {
            partitions: 1,
            replication_factor: link.replication_factor,
            configs: [(compacted.0.clone(), Some(compacted.1.clone()))].into(),
            ..NewTopic::named(name)
        });
        let request = CreateTopics {
            topics: topics.into(),
            validate_only: false,
        };
        for (_, outcome) in broker.controller.create_topics(request).await? {
            if let Err(refusal) = outcome
                && refusal.code != ErrorCode::TopicAlreadyExists
            {
                return Err(refusal.into());
            }
        }
        if self.source.is_some() {
            let heartbeats = TopicSpec {
                partitions: Some(1),
                configs: BTreeMap::from([compacted]),
                ..TopicSpec::new(self.of.heartbeats_topic())
            };
            for (name, outcome) in source.create_topics(&[heartbeats], false).await? {
                if let Err(error) = outcome
                    && error.code != ErrorCode::TopicAlreadyExists
                {
                    return Err(RoundError::Untold(format!("{name} at the source: {error}")));
                }
            }
        }
        self.has_topics = true;
        Ok(())
    }

    async fn write(
        &self,
        broker: &Broker,
        link: &LinkRecord,
        now: &State,
    ) -> Result<(), RoundError> {
        let (mine, theirs) = (&*self.of.alias, &*link.name);
        let wall = broker.env.wall();
        let heartbeats = self.of.heartbeats_topic();
        let beat = vec![heartbeat(theirs, mine, wall)];
        write_all(&self.here, heartbeats, beat).await?;
        if let Some(source) = &self.source {
            let beat = vec![heartbeat(mine, theirs, wall)];
            write_all(source, heartbeats, beat).await?;
        }
        let syncs = news(&self.told.ends, &now.ends)
            .map(|(partition, end)| offset_sync(partition, *end))
            .collect();
        write_all(&self.here, &self.of.offset_syncs_topic(theirs), syncs).await?;
        let checkpoints = news(&self.told.groups, &now.groups)
            .map(|(of, offset)| checkpoint(of, *offset))
            .collect();
        write_all(&self.here, &self.of.checkpoints_topic(theirs), checkpoints).await
    }
}

async fn write_all(producer: &Producer, topic: &str, notes: Vec<Note>) -> Result<(), RoundError> {
    let mut deliveries = Vec::new();
    for note in notes {
        let record = ProducerRecord::new(topic, note.value).with_key(note.key);
        deliveries.push(producer.send(record.with_partition(0)).await?);
    }
    for delivery in deliveries {
        let delivered = delivery.await;
        delivered.map_err(|error| RoundError::Untold(format!("{topic}: {error}")))?;
    }
    Ok(())
}
