//! Who leads a partition: as handlers check it (KIP-320), and as clients are told (KIP-951).

use std::collections::BTreeMap;

use super::RequestContext;
use crate::broker::Broker;
use crate::broker::endpoints::{self, Endpoint};
use crate::controller::{ClusterImage, PartitionState, TopicImage};
use crate::replication::{Leadership, PartitionView};
use crate::types::{BrokerId, ErrorCode, LeaderEpoch, TopicId, Uuid};

/// Checks that this broker leads the partition in the epoch the client believes in.
pub fn check_leader(view: &PartitionView, believed: i32) -> Result<Leadership, ErrorCode> {
    let leadership = view.leadership();
    check_leader_epoch(believed, leadership.leader_epoch)?;
    match leadership.is_leader || crate::mutant!("deposed-leader-serves-consumers") {
        true => Ok(leadership),
        false => Err(ErrorCode::NotLeaderOrFollower),
    }
}

/// Compares the leader epoch a client believes in with the partition's (KIP-320).
pub fn check_leader_epoch(believed: i32, actual: LeaderEpoch) -> Result<(), ErrorCode> {
    match LeaderEpoch(believed) {
        LeaderEpoch::NONE => Ok(()),
        _ if crate::mutant!("deposed-leader-serves-consumers") => Ok(()),
        believed if believed < actual => Err(ErrorCode::FencedLeaderEpoch),
        believed if believed > actual => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// A topic as a request names it.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    Name(&'a str),
    Id(TopicId),
}

impl<'a> Named<'a> {
    /// By id from version `since` on.
    pub fn of(version: i16, since: i16, name: &'a str, id: Uuid) -> Self {
        match version >= since {
            true => Self::Id(id),
            false => Self::Name(name),
        }
    }

    fn topic(self, image: &ClusterImage) -> Option<&TopicImage> {
        match self {
            Self::Name(name) => image.topic(name).map(AsRef::as_ref),
            Self::Id(id) => image.topic_by_id(id).map(AsRef::as_ref),
        }
    }

    pub fn state(self, image: &ClusterImage, partition: i32) -> Option<&PartitionState> {
        self.topic(image)?.partition(partition).map(AsRef::as_ref)
    }

    /// What to tell who asks for a partition that is not here: one that is elsewhere is no error
    /// of the client's.
    pub fn missing(self, image: &ClusterImage, partition: i32, code: ErrorCode) -> ErrorCode {
        let is_unknown = matches!(
            code,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId
        );
        match is_unknown && self.state(image, partition).is_some() {
            true => ErrorCode::NotLeaderOrFollower,
            false => code,
        }
    }
}

/// Leaders named in one answer.
#[derive(Default)]
pub struct Leaders {
    alive: Option<BTreeMap<BrokerId, Endpoint>>,
    named: BTreeMap<BrokerId, Endpoint>,
}

impl Leaders {
    /// The leader to name with `code`, if that is to be told and its address is known.
    pub fn name(
        &mut self,
        broker: &Broker,
        context: &RequestContext,
        (topic, partition): (Named<'_>, i32),
        code: ErrorCode,
    ) -> Option<(BrokerId, LeaderEpoch)> {
        if !matches!(
            code,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        ) {
            return None;
        }
        let image = broker.controller.image();
        let state = topic.state(&image, partition)?;
        let leader = state.leader?;
        let alive = self.alive.get_or_insert_with(|| {
            let alive = endpoints::alive(broker, context).into_iter();
            alive.map(|endpoint| (endpoint.id, endpoint)).collect()
        });
        let endpoint = alive.get(&leader)?;
        self.named.entry(leader).or_insert_with(|| endpoint.clone());
        Some((leader, state.leader_epoch))
    }

    /// The addresses of those that were named.
    pub fn into_endpoints(self) -> impl Iterator<Item = Endpoint> {
        self.named.into_values()
    }
}
